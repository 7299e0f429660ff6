package detect

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"murmuration/pkg/event"
)

// claims says which cells of which sources are explained by the campaigns found so far.
func (r *run) claims(found []find) func(source int32, c *Cell) bool {
	type claim struct {
		ports []Port
		span  span
	}
	spoken := map[int32][]claim{}
	for i := range found {
		f := &found[i]
		c := claim{f.ports(), f.span}
		for _, t := range f.tracks {
			for _, s := range t.sources {
				spoken[s] = append(spoken[s], c)
			}
		}
	}
	return func(source int32, c *Cell) bool {
		p := Port{event.Proto(c.Proto), c.Port}
		for _, s := range spoken[source] {
			if c.Target < s.span.lo || c.Target >= s.span.hi {
				continue
			}
			if _, ok := slices.BinarySearchFunc(s.ports, p, comparePorts); ok {
				return true
			}
		}
		return false
	}
}

func comparePorts(a, b Port) int {
	return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port))
}

// ports lists the ports that the members share out: those with at least a tenth of the cells of the most covered one.
func (f *find) ports() []Port {
	if f.portList == nil {
		f.portList = f.listPorts()
	}
	return f.portList
}

func (f *find) listPorts() []Port {
	cells := map[uint16]map[uint64]bool{}
	for _, t := range f.tracks {
		for _, c := range t.cells {
			if target := uint32(c); target < f.span.lo || target >= f.span.hi {
				continue
			}
			p := f.b.portOf(c)
			if cells[p] == nil {
				cells[p] = map[uint64]bool{}
			}
			cells[p][c] = true
		}
	}
	most := 0
	for _, m := range cells {
		most = max(most, len(m))
	}
	var out []Port
	for p, m := range cells {
		if 10*len(m) >= most {
			out = append(out, Port{event.Proto(f.b.proto), p})
		}
	}
	slices.SortFunc(out, func(a, b Port) int { return cmp.Compare(a.Port, b.Port) })
	return out
}

func (b *bucket) portOf(cell uint64) uint16 {
	k := b.keys[cell>>32]
	if b.kind == perObject {
		k >>= 32
	}
	return uint16(k)
}

// merge turns finds into campaigns: finds of different buckets whose members are mostly the same are one.
func (r *run) merge(found []find) []Campaign {
	parent := make([]int, len(found))
	for i := range parent {
		parent[i] = i
	}
	root := func(i int) int {
		for parent[i] != i {
			i = parent[i]
		}
		return i
	}
	members := make([]map[int32]bool, len(found))
	for i := range found {
		members[i] = map[int32]bool{}
		for _, t := range found[i].tracks {
			for _, s := range t.sources {
				members[i][s] = true
			}
		}
		for j := range i {
			both := 0
			for s := range members[i] {
				if members[j][s] {
					both++
				}
			}
			if 2*both > min(len(members[i]), len(members[j])) {
				parent[root(i)] = root(j)
			}
		}
	}
	parts := map[int][]*find{}
	var order []int
	for i := range found {
		k := root(i)
		if parts[k] == nil {
			order = append(order, k)
		}
		parts[k] = append(parts[k], &found[i])
	}
	out := make([]Campaign, 0, len(order))
	for _, k := range order {
		out = append(out, r.campaign(parts[k]))
	}
	slices.SortStableFunc(out, func(a, b Campaign) int {
		return cmp.Or(cmp.Compare(b.Evidence, a.Evidence), cmp.Compare(a.First, b.First), a.Members[0].Addr.Compare(b.Members[0].Addr))
	})
	return out
}

// campaign describes finds that belong together.
func (r *run) campaign(parts []*find) Campaign {
	slices.SortStableFunc(parts, func(x, y *find) int {
		return cmp.Compare(y.verdict.evidence-y.verdict.paid, x.verdict.evidence-x.verdict.paid)
	})
	best := parts[0]
	c := Campaign{Tests: best.verdict.tests, Evidence: best.verdict.evidence - best.verdict.paid, Trials: math.Pow(10, best.verdict.paid)}
	r.measure(&c, parts)
	r.addMembers(&c, parts)
	r.behaviour(&c)
	c.arrange()
	c.Cut = best.cut()
	c.Emerging = !slices.ContainsFunc(parts, func(f *find) bool { return !f.early })
	c.explain()
	return c
}

// measure counts coverage and overlap over all parts.
func (r *run) measure(c *Campaign, parts []*find) {
	seenSpan := map[span]bool{}
	seenPort := map[Port]bool{}
	var touches []uint32
	c.First, c.Last = math.MaxInt64, math.MinInt64
	for _, f := range parts {
		own := f.b.of(f.tracks)
		a := newArena(own, &scratch{}, own.everyone(), f.span)
		covered, universe, e, o := a.cover(a.everyone())
		if f.ownPorts {
			e = f.pooled(universe)
		}
		c.Covered += int(covered)
		c.Universe += int(universe)
		c.Expected += e
		c.Observed += o
		if !seenSpan[f.span] {
			seenSpan[f.span] = true
			c.spans = append(c.spans, f.span)
			c.Space = append(c.Space, r.sp.prefixes(f.span)...)
			c.Addresses += int(f.span.size())
		}
		for _, p := range f.ports() {
			if !seenPort[p] {
				seenPort[p] = true
				c.Ports = append(c.Ports, p)
			}
		}
		if f.b.kind == perObject {
			c.Objects += len(f.b.keys)
		}
		touches = append(touches, f.firstTouches()...)
	}
	slices.SortFunc(c.Ports, comparePorts)
	c.Coverage = float64(c.Covered) / math.Max(1, float64(c.Universe))
	c.OverlapRatio = c.Observed / math.Max(c.Expected, 1e-9)
	slices.Sort(touches)
	if len(touches) == 0 {
		return
	}
	start, end := touches[0], touches[len(touches)-1]
	for k := 1; k <= 20; k++ {
		at := start + uint32(uint64(end-start)*uint64(k)/20)
		n, _ := slices.BinarySearch(touches, at+1)
		c.Timeline = append(c.Timeline, math.Min(1, float64(n)/math.Max(1, float64(c.Universe))))
	}
}

// firstTouches returns the time at which each covered cell was first touched.
func (f *find) firstTouches() []uint32 {
	first := map[uint64]uint32{}
	for _, t := range f.tracks {
		for i, c := range t.cells {
			if target := uint32(c); target < f.span.lo || target >= f.span.hi {
				continue
			}
			if at, ok := first[c]; !ok || t.times[i] < at {
				first[c] = t.times[i]
			}
		}
	}
	out := make([]uint32, 0, len(first))
	for _, at := range first {
		out = append(out, at)
	}
	return out
}

// addMembers fills the members from all parts, a source once.
func (r *run) addMembers(c *Campaign, parts []*find) {
	at := map[int32]int{}
	networks := map[netip.Prefix]bool{}
	for _, f := range parts {
		for k, t := range f.tracks {
			for n, s := range t.sources {
				i, ok := at[s]
				if !ok {
					i = len(c.Members)
					at[s] = i
					c.Members = append(c.Members, Member{Source: int(s), Addr: r.in.Sources[s].Addr, First: math.MaxInt64, Last: math.MinInt64})
				}
				m := &c.Members[i]
				m.Probability = math.Max(m.Probability, f.prob[k])
				m.Expected += f.expected[k]
				m.Observed += int(f.observed[k])
				m.Twin = m.Twin || n > 0
				r.touch(m, f)
			}
		}
	}
	slices.SortStableFunc(c.Members, func(a, b Member) int {
		return cmp.Or(cmp.Compare(b.Probability, a.Probability), cmp.Compare(b.Expected, a.Expected), a.Addr.Compare(b.Addr), cmp.Compare(a.Source, b.Source))
	})
	c.Weakest = len(c.Members) - 1
	for i := range c.Members {
		m := &c.Members[i]
		c.First, c.Last = min(c.First, m.First), max(c.Last, m.Last)
		bits := 24
		if m.Addr.Is6() {
			bits = 48
		}
		if p, err := m.Addr.Prefix(bits); err == nil {
			networks[p] = true
		}
	}
	c.Networks = len(networks)
}

// touch adds what the member's source did within the find to it.
func (r *run) touch(m *Member, f *find) {
	ports := f.ports()
	for _, cell := range r.in.Sources[m.Source].Cells {
		if cell.Proto != f.b.proto || cell.Target < f.span.lo || cell.Target >= f.span.hi || f.b.kind == perObject && cell.Object == 0 {
			continue
		}
		if _, ok := slices.BinarySearchFunc(ports, cell.Port, func(p Port, port uint16) int { return cmp.Compare(p.Port, port) }); !ok {
			continue
		}
		m.Cells++
		m.First = min(m.First, r.in.Start+int64(cell.First))
		m.Last = max(m.Last, r.in.Start+int64(cell.Last))
	}
}

// behaviour finds what the members share.
func (r *run) behaviour(c *Campaign) {
	tools, signatures, agents := map[string]int{}, map[string]int{}, map[string]int{}
	payloads := map[uint64]int{}
	for _, m := range c.Members {
		b := &r.in.Sources[m.Source].Behaviour
		tools[b.Tool]++
		signatures[b.Signature]++
		agents[b.UserAgent]++
		payloads[b.Payload]++
	}
	for t, n := range tools {
		if t != "" && 20*n >= len(c.Members) {
			c.Tools = append(c.Tools, t)
		}
	}
	slices.SortFunc(c.Tools, func(a, b string) int { return cmp.Or(cmp.Compare(tools[b], tools[a]), cmp.Compare(a, b)) })
	c.Signature = shared(signatures, len(c.Members))
	c.UserAgent = shared(agents, len(c.Members))
	c.Payload = shared(payloads, len(c.Members))
}

// shared returns the value that at least nine of ten members have, or the zero value.
func shared[K comparable](counts map[K]int, members int) K {
	var none K
	for k, n := range counts {
		if 10*n >= 9*members {
			return k
		}
	}
	return none
}

// cut tells how the space is shared out from the shapes of the members' footprints.
func (f *find) cut() Cut {
	if f.b.kind == perObject {
		return CutObjects
	}
	if f.ownPorts {
		return CutPorts
	}
	count := map[shape]int{}
	for _, t := range f.tracks {
		count[t.shape]++
	}
	switch n := len(f.tracks); {
	case 2*count[shapeRuns] > n || !math.IsNaN(f.verdict.tests.Seams):
		return CutRanges
	case 2*count[shapeStride] > n:
		return CutResidues
	}
	return CutRandom
}

// explain writes the sentences.
func (c *Campaign) explain() {
	tool := "an unknown tool"
	if len(c.Tools) > 0 {
		tool = strings.Join(c.Tools, " and ")
	}
	c.Why = append(c.Why, fmt.Sprintf("%d sources in %d networks used %s on %s.", len(c.Members), c.Networks, tool, portList(c.Ports)))
	c.Why = append(c.Why, fmt.Sprintf("Together they touched %d of the %d cells of %s (%.1f %%), cut by %s.", c.Covered, c.Universe, prefixList(c.Space), 100*c.Coverage, c.Cut))
	if c.Cut == CutPorts {
		c.Why = append(c.Why, fmt.Sprintf("Every member has ports of its own, %.1f on average, and tried them on the same addresses; together the ports leave hardly a gap.",
			float64(len(c.Ports))/float64(len(c.Members))))
	}
	c.Why = append(c.Why, fmt.Sprintf("Independent sources with as many cells would have met %.0f times; these met %.0f times (ratio %.3f).", c.Expected, c.Observed, c.OverlapRatio))
	c.Why = append(c.Why, fmt.Sprintf("That is chance with probability below 10^-%.1f, after paying for every group that was tested.", c.Evidence))
	if !math.IsNaN(c.Tests.Seams) {
		c.Why = append(c.Why, "Where one member's range ends another's begins, far more often than among ranges that lie as densely by chance.")
	}
	if c.Emerging {
		c.Why = append(c.Why, c.earlyWhy())
	}
	w := c.Members[c.Weakest]
	c.Why = append(c.Why, fmt.Sprintf("The least certain member is %v: probability %.3f, met others %d times where %.1f were expected.", w.Addr, w.Probability, w.Observed, w.Expected))
}

func portList(ports []Port) string {
	names := make([]string, 0, len(ports))
	for _, p := range ports {
		if p.Proto == event.ProtoICMP || p.Proto == event.ProtoICMPv6 {
			names = append(names, p.Proto.String())
		} else {
			names = append(names, fmt.Sprintf("%d/%v", p.Port, p.Proto))
		}
	}
	if len(names) > 12 {
		names = append(names[:12], fmt.Sprintf("%d more", len(names)-12))
	}
	return strings.Join(names, ", ")
}

func prefixList(ps []netip.Prefix) string {
	names := make([]string, 0, len(ps))
	for _, p := range ps {
		names = append(names, p.String())
	}
	if len(names) > 6 {
		names = append(names[:6], fmt.Sprintf("%d more", len(names)-6))
	}
	return strings.Join(names, ", ")
}

// undecided turns open groups into the result's, the most promising first.
func (r *run) undecided(open []openGroup, campaigns []Campaign) []Group {
	spoken := map[int32]bool{}
	for i := range campaigns {
		for _, m := range campaigns[i].Members {
			spoken[int32(m.Source)] = true
		}
	}
	const most = 50
	slices.SortStableFunc(open, func(a, b openGroup) int {
		return cmp.Compare(chernoffBelow(b.expected, b.observed), chernoffBelow(a.expected, a.observed))
	})
	var out []Group
	for _, o := range open {
		if len(out) == most || slices.ContainsFunc(o.tracks, func(t *track) bool { return spoken[t.sources[0]] }) {
			continue
		}
		g := Group{Space: r.sp.prefixes(o.span), Coverage: o.coverage, Expected: o.expected, Observed: o.observed, Meetings: o.meetings, Needed: o.needed}
		for _, t := range o.tracks {
			for _, s := range t.sources {
				g.Sources = append(g.Sources, int(s))
			}
		}
		f := find{b: o.b, span: o.span, tracks: o.tracks}
		g.Ports = f.ports()
		g.Tool = r.in.Sources[g.Sources[0]].Behaviour.Tool
		g.Why = fmt.Sprintf("%d alike sources shared %.0f cells where %.0f were expected, which is worth %.1f independent meetings; an absence of overlap is proof from %.0f on. More time, addresses or ports would tell.",
			len(g.Sources), o.observed, o.expected, o.meetings, g.Needed)
		if o.meetings >= o.needed {
			g.Why = fmt.Sprintf("%d alike sources shared %.0f cells where %.0f were expected, but a search among independent sources finds the like too often to call it coordinated.", len(g.Sources), o.observed, o.expected)
		}
		out = append(out, g)
	}
	return out
}
