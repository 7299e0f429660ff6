package campaign

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"murmuration/pkg/detect"
	"murmuration/pkg/event"
	"murmuration/pkg/store"
)

// ErrUnknown is returned for a campaign that no finished run ever found.
var ErrUnknown = errors.New("no such campaign")

// Side is what two campaigns have in common, as one of them sees it.
type Side struct {
	store.KnownCampaign
	Sources       int     // members over all runs
	Networks      int     // their /24 (IPv4) and /48 (IPv6)
	SourceShare   float64 // share of its sources that the other has, 0 to 1
	NetworkShare  float64 // share of its networks that the other has, 0 to 1
	PortsOnlyHere []detect.Port
}

// Comparison is one campaign against another, over all runs.
type Comparison struct {
	A, B           Side
	SharedSources  []netip.Addr
	SharedNetworks []netip.Prefix
	// Expected is the number of shared sources if each campaign had drawn its own from all sources that the latest run
	// saw; Chance is -log10 of the probability of so many or more (Poisson).
	Expected, Chance float64
	SharedPorts      []detect.Port
	SameTool         bool
	SameSignature    bool
	SameUserAgent    bool
	SamePayload      bool
	SameCut          bool
	SharedTargets    bool          // the prefixes aimed at overlap
	Together         time.Duration // in which both lived; 0 if one followed the other
	Links            []store.CampaignLink
	Verdict          []string // the answer in sentences
}

// Lives returns every known campaign, the one last seen first.
func Lives(ctx context.Context, st *store.Store) ([]store.KnownCampaign, error) {
	lives, err := st.KnownLives(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the known campaigns: %w", err)
	}
	return lives, nil
}

// History is the life of one campaign over all runs.
type History struct {
	Campaign store.KnownCampaign
	States   []store.CampaignState // oldest run first
	Links    []store.CampaignLink
	Proofs   []store.CampaignProof // the latest run first
	Pattern  store.CampaignPattern // as the latest run saw it, if HasPattern
	// HasPattern is false if no run that knew of patterns found the campaign.
	HasPattern bool
}

// HistoryOf returns the life of a campaign, or ErrUnknown.
func HistoryOf(ctx context.Context, st *store.Store, id string) (*History, error) {
	lives, err := Lives(ctx, st)
	if err != nil {
		return nil, err
	}
	k, err := find(lives, id)
	if err != nil {
		return nil, err
	}
	h := &History{Campaign: *k}
	if h.States, h.Links, err = st.CampaignHistory(ctx, id); err != nil {
		return nil, fmt.Errorf("read the history of %s: %w", id, err)
	}
	if h.Proofs, err = st.Proofs(ctx, id); err != nil {
		return nil, fmt.Errorf("read the proofs of %s: %w", id, err)
	}
	if h.Pattern, h.HasPattern, err = st.PatternOf(ctx, id); err != nil {
		return nil, fmt.Errorf("read the pattern of %s: %w", id, err)
	}
	return h, nil
}

func find(lives []store.KnownCampaign, id string) (*store.KnownCampaign, error) {
	i := slices.IndexFunc(lives, func(k store.KnownCampaign) bool { return k.ID == id })
	if i < 0 {
		return nil, fmt.Errorf("%w: %q; `loader campaigns` lists them", ErrUnknown, id)
	}
	return &lives[i], nil
}

// Compare holds campaign a against campaign b: are b's sources a's? Errors are ErrUnknown or those of the store.
func Compare(ctx context.Context, st *store.Store, a, b string) (*Comparison, error) {
	lives, err := Lives(ctx, st)
	if err != nil {
		return nil, err
	}
	c := &Comparison{}
	members := [2][]netip.Addr{}
	for i, x := range []struct {
		id   string
		side *Side
	}{{a, &c.A}, {b, &c.B}} {
		k, err := find(lives, x.id)
		if err != nil {
			return nil, err
		}
		x.side.KnownCampaign = *k
		ips, err := st.MembersEver(ctx, x.id)
		if err != nil {
			return nil, fmt.Errorf("read the members of %s: %w", x.id, err)
		}
		for _, ip := range ips {
			members[i] = append(members[i], event.Addr(ip))
		}
	}
	last, _, err := st.LastRun(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the latest run: %w", err)
	}
	_, links, err := st.CampaignHistory(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("read the history of %s: %w", a, err)
	}
	for _, l := range links {
		if l.Earlier == b || l.Later == b {
			c.Links = append(c.Links, l)
		}
	}
	c.compare(members[0], members[1], last.Sources)
	return c, nil
}

func (c *Comparison) compare(a, b []netip.Addr, population uint64) {
	c.SharedSources = common(setOf(a), setOf(b), netip.Addr.Compare)
	netsA, netsB := networksOf(a), networksOf(b)
	c.SharedNetworks = common(netsA, netsB, func(p, q netip.Prefix) int { return p.Addr().Compare(q.Addr()) })
	c.A.Sources, c.B.Sources, c.A.Networks, c.B.Networks = len(a), len(b), len(netsA), len(netsB)
	for _, s := range []*Side{&c.A, &c.B} {
		s.SourceShare = share(len(c.SharedSources), s.Sources)
		s.NetworkShare = share(len(c.SharedNetworks), s.Networks)
	}
	population = max(population, uint64(len(a)+len(b)-len(c.SharedSources)))
	if population > 0 {
		c.Expected = float64(len(a)) * float64(len(b)) / float64(population)
	}
	c.Chance = poissonTail(len(c.SharedSources), c.Expected)
	portsA, portsB := ports(&c.A.Campaign), ports(&c.B.Campaign)
	for _, p := range portsA {
		if slices.Contains(portsB, p) {
			c.SharedPorts = append(c.SharedPorts, p)
		} else {
			c.A.PortsOnlyHere = append(c.A.PortsOnlyHere, p)
		}
	}
	c.B.PortsOnlyHere = slices.DeleteFunc(portsB, func(p detect.Port) bool { return slices.Contains(portsA, p) })
	x, y := &c.A.CampaignBehaviour, &c.B.CampaignBehaviour
	c.SameTool = c.A.Tool != "" && c.A.Tool == c.B.Tool
	c.SameSignature = x.Signature != "" && x.Signature == y.Signature
	c.SameUserAgent = x.UserAgent != "" && x.UserAgent == y.UserAgent
	c.SamePayload = x.Payload != 0 && x.Payload == y.Payload
	c.SameCut = x.Cut != "" && x.Cut == y.Cut
	c.SharedTargets = overlap(c.A.Targets, c.B.Targets)
	c.Together = max(0, earlier(c.A.Last, c.B.Last).Sub(later(c.A.First, c.B.First)))
	c.Verdict = c.verdict()
}

func setOf(addrs []netip.Addr) map[netip.Addr]bool {
	out := make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		out[a] = true
	}
	return out
}

func common[T comparable](a, b map[T]bool, order func(T, T) int) []T {
	var out []T
	for x := range a {
		if b[x] {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, order)
	return out
}

func share(n, of int) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) / float64(of)
}

func ports(c *store.Campaign) []detect.Port {
	out := make([]detect.Port, len(c.Ports))
	for i := range out {
		out[i] = detect.Port{Proto: c.Protos[i], Port: c.Ports[i]}
	}
	return out
}

// poissonTail returns -log10 P(X >= n) for X of a Poisson distribution with the given mean, by Chernoff's bound where the
// tail is far out: P(X >= n) <= exp(n - mean) (mean/n)^n.
func poissonTail(n int, mean float64) float64 {
	if n == 0 || float64(n) <= mean {
		return 0
	}
	if mean == 0 {
		return math.Inf(1)
	}
	x := float64(n)
	return max(0, (x*math.Log(x/mean)-x+mean)/math.Ln10)
}

// verdict answers in sentences whether b's sources are a's, and what else speaks for one operator.
func (c *Comparison) verdict() []string {
	out := []string{fmt.Sprintf("%d sources are in both: %.0f %% of %s's %d and %.0f %% of %s's %d; %.3g were to be expected if both had drawn from all sources seen.",
		len(c.SharedSources), 100*c.A.SourceShare, c.A.ID, c.A.Sources, 100*c.B.SourceShare, c.B.ID, c.B.Sources, c.Expected)}
	out = append(out, fmt.Sprintf("%d networks (/24, /48) are in both: %.0f %% of %s's and %.0f %% of %s's.",
		len(c.SharedNetworks), 100*c.A.NetworkShare, c.A.ID, 100*c.B.NetworkShare, c.B.ID))
	var same, other []string
	for _, x := range []struct {
		name string
		same bool
		both bool // both have it
	}{
		{"tool", c.SameTool, c.A.Tool != "" && c.B.Tool != ""},
		{"SYN signature", c.SameSignature, c.A.Signature != "" && c.B.Signature != ""},
		{"user agent", c.SameUserAgent, c.A.UserAgent != "" && c.B.UserAgent != ""},
		{"payload", c.SamePayload, c.A.Payload != 0 && c.B.Payload != 0},
		{"way of sharing out", c.SameCut, c.A.Cut != "" && c.B.Cut != ""},
	} {
		switch {
		case x.same:
			same = append(same, x.name)
		case x.both:
			other = append(other, x.name)
		}
	}
	if len(same) > 0 {
		out = append(out, "Both have the same "+strings.Join(same, ", ")+".")
	}
	if len(other) > 0 {
		out = append(out, "They differ in "+strings.Join(other, ", ")+".")
	}
	return append(out, c.conclusion())
}

func (c *Comparison) conclusion() string {
	behaviour := c.SameTool || c.SameSignature || c.SameUserAgent || c.SamePayload
	switch {
	case len(c.SharedSources) > 0 && c.B.SourceShare >= 0.5 && c.Chance >= 3:
		return fmt.Sprintf("%s's sources are %s's.", c.B.ID, c.A.ID)
	case len(c.SharedSources) > 0 && c.A.SourceShare >= 0.5 && c.Chance >= 3:
		return fmt.Sprintf("%s's sources are %s's, which has more of its own.", c.A.ID, c.B.ID)
	case len(c.SharedSources) > 0 && c.Chance >= 3:
		return fmt.Sprintf("They share more sources than chance explains (probability below 10^-%.1f), but most are each campaign's own.", c.Chance)
	case len(c.SharedNetworks) >= leastNetworks && max(c.A.NetworkShare, c.B.NetworkShare) >= 0.5 && behaviour:
		return "They have hardly a source in common, but the same networks and behaviour: one operator whose addresses change would look like this."
	case behaviour:
		return "They behave alike but do not share sources: the same tool in other hands would look like this, too."
	}
	return "Nothing says that they belong together."
}
