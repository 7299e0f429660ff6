package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/prometheus/procfs"
	"github.com/urfave/cli/v2"

	"murmuration/pkg/campaign"
	"murmuration/pkg/detect"
	"murmuration/pkg/store"
)

func detectCommand(env environment) *cli.Command {
	d := detect.DefaultParams()
	return &cli.Command{
		Name:  "detect",
		Usage: "find coordinated campaigns: sources that share out a target space",
		Description: "Reads footprints, writes campaigns, campaign_sources and campaign_runs, and prints what it found. The evidence\n" +
			"is -log10 of the probability that independent sources overlap so little, corrected for every group tested.",
		OnUsageError: usageErrorOf,
		Flags: withConnection(append(serviceFlags(),
			formatFlag(),
			&cli.StringFlag{Name: "window", Value: "all", Usage: "how far back to look: 90d, 12h, 2w, or all"},
			timeFlag("at", "`TIME` at which the window ends; without it, the newest event"),
			&cli.BoolFlag{Name: "members", Usage: "print the members as CSV: source,campaign"},
			&cli.BoolFlag{Name: "explain", Usage: "print the reasons of every campaign below the table"},
			&cli.StringFlag{Name: "proof", Value: string(campaign.ProofQuick), Usage: "`EFFORT` spent on what only one run of a tool can have left in several sources: off, quick (seconds) or deep (up to a minute a campaign)"},
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "of everything random; the same seed on the same data finds the same"},
			&cli.Float64Flag{Name: "min-evidence", Value: d.MinEvidence, Usage: "least corrected evidence that is reported"},
			&cli.IntFlag{Name: "min-sources", Value: d.MinSources, Usage: "least number of members"},
			&cli.Float64Flag{Name: "min-coverage", Value: d.MinCoverage, Usage: "least share of its space that a campaign has covered"},
			&cli.Float64Flag{Name: "early-coverage", Value: d.EarlyCoverage, Usage: "least share of its space that a campaign has covered which is still growing; 1 reports nothing early"},
			&cli.IntFlag{Name: "workers", Value: d.Workers, Usage: "goroutines; never changes the result"},
		)...),
		Action: func(c *cli.Context) error { return runDetect(c, env) },
	}
}

func runDetect(c *cli.Context, env environment) error {
	if c.Args().Present() {
		return usagef("detect takes no arguments, got %q", c.Args().First())
	}
	if err := checkService(c); err != nil {
		return err
	}
	window, err := parseWindow(c.String("window"))
	if err != nil {
		return err
	}
	params, err := detectParams(c)
	if err != nil {
		return err
	}
	effort := campaign.ProofEffort(c.String("proof"))
	if !slices.Contains([]campaign.ProofEffort{campaign.ProofOff, campaign.ProofQuick, campaign.ProofDeep}, effort) {
		return usagef("--proof takes off, quick or deep, not %q", effort)
	}
	if format := c.String("format"); c.Bool("members") && c.IsSet("format") && format != formatCSV {
		return usagef("--members writes csv, not %s; campaign_sources has the members for any client", format)
	}
	sender, err := newSender(c)
	if err != nil {
		return err
	}
	return withStore(c, env, func(ctx context.Context, conn *connection, log *slog.Logger) error {
		opt := campaign.Options{Window: window, At: timestamp(c, "at"), Params: params, Version: version, Logger: log, Proof: effort, FreeMemory: func() (uint64, error) { return freeMemory(memlimit.FromCgroup) }}
		if sender != nil {
			defer sender.Close()
			opt.Tell = []string{sender.Destination()}
		}
		if c.Duration("every") > 0 {
			return service(ctx, c, env, conn, opt, sender, log)
		}
		opt.Progress = newStages(env.stderr).share
		rep, err := campaign.RunAlone(ctx, conn.store, opt)
		if errors.Is(err, campaign.ErrAhead) {
			return usageError{fmt.Errorf("--at: %w", err)}
		}
		if err != nil {
			return err
		}
		for _, n := range rep.Notes {
			fmt.Fprintln(env.stderr, "note:", n)
		}
		if sender != nil {
			if err := tellOnce(ctx, env, conn.store, sender, log, "detect"); err != nil {
				return err
			}
		}
		if c.Bool("members") {
			return writeMembers(env.stdout, rep)
		}
		if err := writeCampaigns(env, rep, c.String("format")); err != nil || !c.Bool("explain") || c.String("format") != formatTable {
			return err
		}
		return explain(ctx, env, conn.store, rep)
	})
}

// detectParams reads the flags that decide what is a campaign.
func detectParams(c *cli.Context) (detect.Params, error) {
	p := detect.DefaultParams()
	p.Seed = c.Uint64("seed")
	p.MinEvidence, p.MinSources = c.Float64("min-evidence"), c.Int("min-sources")
	p.EarlyCoverage = c.Float64("early-coverage")
	p.MinCoverage, p.Workers = c.Float64("min-coverage"), c.Int("workers")
	switch { // Written so that NaN is refused as well.
	case !(p.MinEvidence > 0):
		return p, usagef("--min-evidence takes a number above 0, not %v", p.MinEvidence)
	case p.MinSources < 2:
		return p, usagef("--min-sources takes at least 2, not %d: one source alone cannot share anything out", p.MinSources)
	case !(p.MinCoverage >= 0 && p.MinCoverage <= 1):
		return p, usagef("--min-coverage takes a share from 0 to 1, not %v", p.MinCoverage)
	case !(p.EarlyCoverage > 0 && p.EarlyCoverage <= 1):
		return p, usagef("--early-coverage takes a share above 0, at most 1 (no early reports), not %v", p.EarlyCoverage)
	case p.Workers < 1:
		return p, usagef("--workers takes at least 1, not %d", p.Workers)
	}
	return p, nil
}

var windowForm = regexp.MustCompile(`^([0-9]+)([hdw])$`)

// parseWindow reads "90d", "12h", "2w" or "all" (0).
func parseWindow(s string) (time.Duration, error) {
	if s == "all" {
		return 0, nil
	}
	m := windowForm.FindStringSubmatch(s)
	if m == nil {
		return 0, usagef("--window takes a number of hours, days or weeks (12h, 90d, 2w) or all, not %q", s)
	}
	unit := map[string]time.Duration{"h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}[m[2]]
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || n == 0 || n > int64(math.MaxInt64/unit) {
		return 0, usagef("--window %s is not a length of time", s)
	}
	return time.Duration(n) * unit, nil
}

// writeMembers prints one line per member. A source that is in two campaigns has two lines.
func writeMembers(w io.Writer, rep *campaign.Report) error {
	out := csv.NewWriter(w)
	if err := out.Write([]string{"source", "campaign"}); err != nil {
		return err
	}
	for _, f := range rep.Found {
		for _, m := range f.Members {
			if err := out.Write([]string{m.Addr.String(), f.ID}); err != nil {
				return err
			}
		}
	}
	out.Flush()
	return out.Error()
}

func writeCampaigns(env environment, rep *campaign.Report, format string) error {
	g := newTable("campaign", "first seen", "last seen", "sources", "ports", "tool", "coverage", "overlap", "evidence", "pattern", "targets")
	if format != formatTable {
		g.columns = []string{"campaign", "first_seen", "last_seen", "sources", "ports", "tool", "coverage", "overlap_ratio", "evidence", "pattern", "targets", "spread", "tempo", "proofs"}
	}
	g.numeric = []bool{false, false, false, true, false, false, true, true, true}
	for i := range rep.Found {
		f := &rep.Found[i]
		g.add(campaignRow(f, format)...)
	}
	if len(rep.Found) > 0 || format != formatTable {
		if err := g.write(env.stdout, format); err != nil {
			return err
		}
	}
	if format != formatTable {
		return nil
	}
	fmt.Fprintf(env.stdout, "%s among %s sources and %s cells; %s groups tested; %s to %s (run %s)\n", count(len(rep.Found), "campaign"),
		thousands(uint64(rep.Sources)), thousands(uint64(rep.Cells)), thousands(uint64(rep.Tests)),
		rep.From.Format(time.DateOnly), rep.To.Format(time.DateOnly), rep.Run)
	if rep.Undecided > 0 {
		fmt.Fprintf(env.stdout, "%s shared out but too small to tell\n", count(rep.Undecided, "more group looks", "more groups look"))
	}
	return nil
}

// explain prints why each campaign is one, how it is arranged, what is proven of it, what it looks for and how far its sources are
// spread; then what is proven of sources that are in none.
func explain(ctx context.Context, env environment, st *store.Store, rep *campaign.Report) error {
	w := env.stdout
	for i := range rep.Found {
		f := &rep.Found[i]
		fmt.Fprintf(w, "\n%s\n", f.ID)
		for _, why := range f.Why {
			fmt.Fprintln(w, "  ", why)
		}
		fmt.Fprintln(w, "  ", arrangementText(&f.Campaign))
		for _, p := range f.Proofs {
			fmt.Fprintln(w, "   Proof:", p.Why)
		}
		if err := aboutCampaign(ctx, env, st, f.ID, "   "); err != nil {
			return err
		}
	}
	heading := "\noperators\n"
	for i := range rep.Proofs {
		p := &rep.Proofs[i]
		if s := p.Operator(); s != "" {
			fmt.Fprintf(w, "%s   %s.\n   Proof: %s\n", heading, s, p.Why)
			heading = ""
		}
	}
	return nil
}

// arrangementText says how the members lie in time and over networks.
func arrangementText(c *detect.Campaign) string {
	a := &c.Arrangement
	text := fmt.Sprintf("Pattern %s: %.1f members at work at one time, %s a stint, %.1f cells a day each (%s).", c.Pattern, a.Together,
		stintText(time.Duration(a.Stint)*time.Second), a.Pace, a.Tempo)
	if c.Pattern == detect.PatternRelay {
		text += fmt.Sprintf(" %d began where another ended, %.1f by chance.", a.Handovers, a.ByChance)
	}
	return text + fmt.Sprintf(" Spread %s: at most %d in one network (%s).", a.Spread, a.InLargest, a.Largest)
}

// stintText writes a length of time in days where it is days.
func stintText(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day {
		return fmt.Sprintf("%.1f days", float64(d)/float64(day))
	}
	return d.Round(time.Second).String()
}

// proofNames lists what is proven of a campaign.
func proofNames(proofs []campaign.Proof) []string {
	out := []string{}
	for _, p := range proofs {
		out = append(out, fmt.Sprintf("%s: %s", p.Kind, p.Value))
	}
	return out
}

func campaignRow(f *campaign.Found, format string) []any {
	const minute = "2006-01-02 15:04"
	targets := make([]string, len(f.Space))
	for i, p := range f.Space {
		targets[i] = p.String()
	}
	tool := strings.Join(f.Tools, " ")
	first, last := time.Unix(f.First, 0).UTC(), time.Unix(f.Last, 0).UTC()
	if format == formatJSON {
		return []any{f.ID, first, last, len(f.Members), f.PortNames(), tool, f.Coverage, f.OverlapRatio, f.Evidence, f.Pattern, targets,
			f.Arrangement.Spread, f.Arrangement.Tempo, proofNames(f.Proofs)}
	}
	if format == formatCSV {
		return []any{f.ID, first.Format(time.RFC3339), last.Format(time.RFC3339), len(f.Members), f.PortNames(), tool,
			f.Coverage, f.OverlapRatio, f.Evidence, f.Pattern, targets, f.Arrangement.Spread, f.Arrangement.Tempo, proofNames(f.Proofs)}
	}
	return []any{f.ID, first.Format(minute), last.Format(minute), len(f.Members), shortList(f.PortNames(), 8), tool,
		fmt.Sprintf("%.1f %%", 100*f.Coverage), fmt.Sprintf("%.3f", f.OverlapRatio), fmt.Sprintf("%.1f", f.Evidence), f.Pattern, shortList(targets, 3)}
}

// shortList is the first n of a list, and how many more there are.
func shortList(s []string, n int) string {
	if len(s) <= n {
		return strings.Join(s, " ")
	}
	return fmt.Sprintf("%s +%d", strings.Join(s[:n], " "), len(s)-n)
}

// freeMemory is what the machine has for another program, page cache that can be dropped included; in a container or a systemd unit with
// a limit of memory it is at most that.
func freeMemory(limited memlimit.Provider) (uint64, error) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return 0, fmt.Errorf("procfs: %w", err)
	}
	m, err := fs.Meminfo()
	if err != nil {
		return 0, fmt.Errorf("procfs: %w", err)
	}
	if m.MemAvailableBytes == nil {
		return 0, errors.New("/proc/meminfo has no MemAvailable")
	}
	limit, err := limited()
	if err != nil { // There is none, or none that can be read: the machine is all there is to go by.
		limit = math.MaxUint64
	}
	return min(*m.MemAvailableBytes, limit), nil
}
