package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"murmuration/pkg/campaign"
	"murmuration/pkg/detect"
	"murmuration/pkg/store"
)

var campaignStates = [...]string{campaign.StateEmerging, campaign.StateActive, campaign.StateDormant, campaign.StateEnded}

func campaignsCommand(env environment) *cli.Command {
	return &cli.Command{
		Name:      "campaigns",
		Usage:     "list every known campaign with its state; with one, its history; with --compare two, what they share",
		ArgsUsage: "[CAMPAIGN | --compare A B]",
		Description: "`loader detect` finds campaigns; this shows what is known of them over all runs. States are judged by each\n" +
			"campaign's own tempo: emerging, active, dormant, ended.",
		OnUsageError: usageErrorOf,
		Flags: withConnection(
			formatFlag(),
			&cli.StringFlag{Name: "state", Usage: "only those in this `STATE`: emerging, active, dormant or ended"},
			&cli.BoolFlag{Name: "compare", Usage: "hold two campaigns against each other: are B's sources A's?"},
		),
		Action: func(c *cli.Context) error { return campaigns(c, env) },
	}
}

func campaigns(c *cli.Context, env environment) error {
	args, state, format := c.Args().Slice(), c.String("state"), c.String("format")
	switch {
	case c.Bool("compare") && len(args) != 2:
		return usagef("--compare takes two campaigns, got %d", len(args))
	case !c.Bool("compare") && len(args) > 1:
		return usagef("campaigns takes one campaign, or two with --compare")
	case state != "" && !slices.Contains(campaignStates[:], state):
		return usagef("--state takes emerging, active, dormant or ended, not %q", state)
	}
	return withStore(c, env, func(ctx context.Context, conn *connection, _ *slog.Logger) error {
		var err error
		switch {
		case c.Bool("compare"):
			err = compareCampaigns(ctx, conn.store, env, args[0], args[1], format)
		case len(args) == 1:
			err = campaignHistory(ctx, conn.store, env, args[0], format)
		default:
			err = listCampaigns(ctx, conn.store, env, state, format)
		}
		if errors.Is(err, campaign.ErrUnknown) {
			return usageError{err}
		}
		return err
	})
}

func listCampaigns(ctx context.Context, st *store.Store, env environment, state, format string) error {
	lives, err := campaign.Lives(ctx, st)
	if err != nil {
		return err
	}
	g := newTable("campaign", "state", "first_seen", "last_seen", "runs", "sources", "sources_ever", "ports", "tool", "coverage", "evidence", "pattern", "targets", "merged_into")
	g.numeric = []bool{4: true, 5: true, 6: true, 9: true, 10: true, 13: false}
	for i := range lives {
		k := &lives[i]
		if state != "" && k.State != state {
			continue
		}
		ports, targets := portNames(k), prefixNames(k)
		if format == formatTable {
			g.add(k.ID, k.State, k.First.Format(minuteForm), k.Last.Format(minuteForm), k.Runs, k.Sources, k.SourcesEver, shortList(ports, 8), k.Tool,
				fmt.Sprintf("%.1f %%", 100*k.Coverage), fmt.Sprintf("%.1f", k.Evidence), k.Pattern, shortList(targets, 3), k.MergedInto)
			continue
		}
		g.add(k.ID, k.State, k.First.Format(time.RFC3339), k.Last.Format(time.RFC3339), k.Runs, k.Sources, k.SourcesEver, ports, k.Tool,
			k.Coverage, k.Evidence, k.Pattern, targets, k.MergedInto)
	}
	if err := g.write(env.stdout, format); err != nil || format != formatTable {
		return err
	}
	fmt.Fprintf(env.stdout, "%s", count(len(g.rows), "campaign"))
	if len(lives) > 0 {
		newest := slices.MaxFunc(lives, func(a, b store.KnownCampaign) int { return a.AsOf.Compare(b.AsOf) })
		fmt.Fprintf(env.stdout, "; states as of %s", newest.AsOf.Format(minuteForm))
	}
	fmt.Fprintln(env.stdout)
	return nil
}

const minuteForm = "2006-01-02 15:04"

func portNames(k *store.KnownCampaign) []string {
	f := campaign.Found{}
	for i, p := range k.Ports {
		f.Ports = append(f.Ports, detect.Port{Proto: k.Protos[i], Port: p})
	}
	return f.PortNames()
}

func prefixNames(k *store.KnownCampaign) []string {
	var out []string
	for _, p := range k.Targets {
		out = append(out, p.String())
	}
	return out
}

func campaignHistory(ctx context.Context, st *store.Store, env environment, id, format string) error {
	h, err := campaign.HistoryOf(ctx, st, id)
	if err != nil {
		return err
	}
	g := newTable("run", "as_of", "found", "state", "silent", "what_became", "proofs")
	for _, s := range h.States {
		var became []string
		for _, l := range h.Links {
			if l.Run == s.Run {
				became = append(became, linkText(l, id))
			}
		}
		proofs := []string{}
		for _, p := range h.Proofs {
			if p.Run == s.Run {
				proofs = append(proofs, p.Kind+": "+p.Value)
			}
		}
		g.add(s.Run, s.AsOf.Format(time.RFC3339), s.Seen, s.State, s.Silent.String(), strings.Join(became, "; "), proofs)
	}
	if err := g.write(env.stdout, format); err != nil || format != formatTable {
		return err
	}
	k := &h.Campaign
	fmt.Fprintf(env.stdout, "%s: %s, %s to %s, %s over all runs, longest pause %s\n%s\n", k.ID, k.State, k.First.Format(minuteForm), k.Last.Format(minuteForm),
		count(int(k.SourcesEver), "source"), k.Pause, printable(k.Summary)) //nolint:gosec // Sources are counted by memory.
	if p := &h.Pattern; h.HasPattern {
		fmt.Fprintf(env.stdout, "Pattern %s, spread %s (at most %d in one network, %s), tempo %s: %.1f members at work at one time, %s a stint, %.1f cells a day each.\n",
			p.Pattern, p.Spread, p.InLargest, p.Largest, p.Tempo, p.Together, stintText(p.Stint), p.Pace)
	}
	said := map[string]bool{}
	for _, p := range h.Proofs { // the latest run first
		if !said[p.ID] {
			fmt.Fprintf(env.stdout, "Proof: %s%s\n", printable(p.Summary), others(&p, id))
		}
		said[p.ID] = true
	}
	return aboutCampaign(ctx, env, st, id, "")
}

// aboutCampaign prints what it looks for and how far its sources are spread.
func aboutCampaign(ctx context.Context, env environment, st *store.Store, id, indent string) error {
	for _, about := range []func(context.Context, *store.Store, string) (string, error){campaign.LooksFor, campaign.SpreadOf} {
		text, err := about(ctx, st, id)
		if err != nil {
			return err
		}
		if text != "" {
			fmt.Fprintf(env.stdout, "%s%s\n", indent, printable(text))
		}
	}
	return nil
}

// others says who else is the operator's by a proof.
func others(p *store.CampaignProof, id string) string {
	var who []string
	for _, c := range p.Campaigns {
		if c != id {
			who = append(who, c)
		}
	}
	if p.Outside > 0 {
		who = append(who, count(int(p.Outside), "source")+" in no campaign") //nolint:gosec // Sources are counted by memory.
	}
	if len(who) == 0 {
		return ""
	}
	return " The same operator's: " + strings.Join(who, ", ") + "."
}

// linkText says what a link means for one of its two campaigns.
func linkText(l store.CampaignLink, id string) string {
	shared := fmt.Sprintf("%d of %d sources", l.Shared, l.EarlierSources)
	if l.Basis == store.BasisNetworks {
		shared = fmt.Sprintf("%s, %d networks", shared, l.SharedNetworks)
	}
	if l.Basis == store.BasisProof {
		shared = "by proof"
	}
	switch {
	case l.Kind == store.LinkOperator && l.Earlier == id:
		return fmt.Sprintf("of the same operator as %s (%s)", l.Later, l.Basis)
	case l.Kind == store.LinkOperator:
		return fmt.Sprintf("of the same operator as %s (%s)", l.Earlier, l.Basis)
	case l.Kind == store.LinkContinued:
		return fmt.Sprintf("continued with %s, now %d", shared, l.LaterSources)
	case l.Kind == store.LinkSplit && l.Earlier == id:
		return fmt.Sprintf("%s split off (%s)", l.Later, shared)
	case l.Kind == store.LinkSplit:
		return fmt.Sprintf("split off from %s (%s)", l.Earlier, shared)
	case l.Earlier == id:
		return fmt.Sprintf("merged into %s (%s)", l.Later, shared)
	}
	return fmt.Sprintf("took in %s (%s)", l.Earlier, shared)
}

func compareCampaigns(ctx context.Context, st *store.Store, env environment, a, b, format string) error {
	c, err := campaign.Compare(ctx, st, a, b)
	if err != nil {
		return err
	}
	if format == formatTable {
		for _, s := range c.Verdict {
			fmt.Fprintln(env.stdout, s)
		}
		for _, l := range c.Links {
			fmt.Fprintf(env.stdout, "In run %s, for %s: %s.\n", l.Run, a, linkText(l, a))
		}
		return nil
	}
	names := func(ports []detect.Port) []string {
		f := campaign.Found{}
		f.Ports = ports
		return f.PortNames()
	}
	g := newTable("a", "b", "sources_a", "sources_b", "shared_sources", "expected_sources", "chance", "networks_a", "networks_b", "shared_networks",
		"shared_ports", "same_tool", "same_signature", "same_user_agent", "same_payload", "same_cut", "shared_targets", "together_seconds", "verdict")
	g.add(a, b, c.A.Sources, c.B.Sources, len(c.SharedSources), c.Expected, c.Chance, c.A.Networks, c.B.Networks, len(c.SharedNetworks),
		names(c.SharedPorts), c.SameTool, c.SameSignature, c.SameUserAgent, c.SamePayload, c.SameCut, c.SharedTargets, c.Together.Seconds(), c.Verdict)
	return g.write(env.stdout, format)
}
