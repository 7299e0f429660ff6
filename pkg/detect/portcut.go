package detect

import (
	"cmp"
	"context"
	"math"
	"slices"

	"murmuration/pkg/event"
)

// Members that have whole ports of their own never meet, port by port, and neither do sources with private tastes. What
// tells them apart lies on the other axis: the members sweep the same addresses, and it is the ports that they share out.
// So the axes change places. Among sources that aim at the same addresses, a source's cells are its ports, the space is
// that of the 65,536 port numbers, and everything else is as it is for addresses: groups by behaviour, the
// rotation null (of ports), Stevens' law, held-out halves.
//
// Over all port numbers private tastes expect no meeting, so that there an absence of meetings is no evidence. Where tastes
// could expect some, in a narrow interval of ports, two things more are asked: the interval must be nearly full, because
// nobody's tastes fill an interval without a gap, and its ends, which are those of the sources themselves, must be paid for.

// portSpaceSize is the number of ports of a protocol.
const portSpaceSize = 1 << 16

const (
	// minPortsFull is the least share of an interval of ports that members with few ports must have covered.
	minPortsFull = 0.9
	// manyOwnPorts is the number of ports that nobody's private taste runs to: a campaign that covered as many need not have
	// filled its interval yet.
	manyOwnPorts = 4096
	// portTrim is the share of the ports that may stick out of the interval: less than for addresses, because a half of
	// an interval that was found by its ends is nobody's aim.
	portTrim = 0.02
	// portGap is the largest step between two used ports of one interval.
	portGap = 3
	// leastInterval is the least number of ports that make an interval of its own.
	leastInterval = 8
)

// portJob is a set of sources of one protocol that aim at one span of addresses and use one tool, or any.
type portJob struct {
	proto int8
	aim   span
	class uint64 // behaviour at the grain of tools; 0 is all
	segs  []segment
}

// portJobs lists the sets of sources whose ports are compared, those of one tool before the mixed ones.
func (r *run) portJobs() []portJob {
	type key struct {
		proto int8
		aim   span
		class uint64
	}
	at := map[key]int{}
	var all []portJob
	add := func(k key, s segment) {
		i, ok := at[k]
		if !ok {
			i = len(all)
			at[k] = i
			all = append(all, portJob{proto: k.proto, aim: k.aim, class: k.class})
		}
		all[i].segs = append(all[i].segs, s)
	}
	for proto, segs := range r.ix.multi {
		for _, s := range segs {
			aim := r.aim(s)
			add(key{proto, aim, r.ix.class[s.source][1]}, s)
			add(key{proto, aim, 0}, s)
		}
	}
	all = slices.DeleteFunc(all, func(j portJob) bool {
		if len(j.segs) < r.p.MinSources {
			return true
		}
		first := r.ix.class[j.segs[0].source][1]
		oneTool := !slices.ContainsFunc(j.segs, func(s segment) bool { return r.ix.class[s.source][1] != first })
		return j.class == 0 && oneTool
	})
	mixed := func(j portJob) int {
		if j.class == 0 {
			return 1
		}
		return 0
	}
	slices.SortFunc(all, func(a, b portJob) int {
		return cmp.Or(cmp.Compare(mixed(a), mixed(b)), cmp.Compare(a.proto, b.proto), cmp.Compare(a.aim.size(), b.aim.size()),
			cmp.Compare(a.aim.lo, b.aim.lo), cmp.Compare(a.class, b.class))
	})
	return all
}

// aim returns the smallest span of addresses that holds nearly all of a source's cells.
func (r *run) aim(s segment) span {
	targets := make([]uint32, len(s.cells))
	for i := range s.cells {
		targets[i] = s.cells[i].Target
	}
	slices.Sort(targets)
	path := r.sp.hull(nil, targets, loose)
	return path[len(path)-1]
}

// searchPorts looks for campaigns that share out ports, leaving out what is spoken for.
func (r *run) searchPorts(ctx context.Context, w *scratch, jobs []portJob, skip func(int32, *Cell) bool) ([]find, error) {
	var found []find
	taken := map[int32]bool{}
	for _, j := range jobs {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		j.segs = slices.DeleteFunc(slices.Clone(j.segs), func(s segment) bool { return taken[s.source] })
		more, err := r.sharePorts(ctx, w, j, skip)
		if err != nil {
			return nil, err
		}
		for _, f := range more {
			for _, t := range f.tracks {
				for _, s := range t.sources {
					taken[s] = true
				}
			}
		}
		found = append(found, more...)
	}
	return found, nil
}

// sharePorts explores the port space of one job.
func (r *run) sharePorts(ctx context.Context, w *scratch, j portJob, skip func(int32, *Cell) bool) ([]find, error) {
	b := &bucket{kind: perPort, proto: j.proto, keys: []uint64{0}, time: frame{0, uint64(r.window), timeLevels}, work: w}
	for _, s := range j.segs {
		if t := ownPorts(s, skip); t != nil {
			t.class = [4]uint64(append(r.ix.class[s.source][:], 0))
			b.tracks = append(b.tracks, t)
		}
	}
	// Sources that have n ports between them and share none expect at most n/2 meetings.
	if len(b.tracks) < r.p.MinSources || portsOf(b.tracks) < 2*leastExpected {
		return nil, nil
	}
	sp, err := newSpace(Universe{Blocks: intervals(b.tracks, r.p.MaxShare)})
	if err != nil {
		return nil, err
	}
	for _, t := range b.tracks {
		t.finish(sp, r.window)
		t.fewPorts(sp)
		t.class[3] = hash(t.class[2], b.habit(t))
	}
	p := r.p
	p.Seed = hash(r.p.Seed, uint64(j.aim.lo), uint64(j.aim.hi), j.class)
	axis := &run{in: r.in, p: p, sp: sp, ix: r.ix, window: r.window, trim: portTrim, buckets: r.buckets, pool: r.pool, customary: true}
	sharers, _ := axis.explore(ctx, b, 2*float64(r.buckets))
	r.countTests(axis.tests)
	var found []find
	for i := range sharers {
		f := &sharers[i]
		if !r.provesPorts(f, sp) {
			continue
		}
		found = append(found, r.onAddresses(j, f))
	}
	return found, nil
}

// ownPorts returns a source's ports as a track whose targets are port numbers, nil where it has fewer than two. A
// port that it tried on less than half as many addresses as its most tried one is not its own: it took over
// the end of somebody else's share, or looked in by the way.
func ownPorts(s segment, skip func(int32, *Cell) bool) *track {
	type use struct {
		port  uint16
		n     int
		first uint32
	}
	var uses []use
	most := 0
	first, last := ^uint32(0), uint32(0)
	target := ^uint32(0)
	for i := range s.cells {
		c := &s.cells[i]
		if skip != nil && skip(s.source, c) {
			continue
		}
		if len(uses) == 0 || uses[len(uses)-1].port != c.Port {
			uses = append(uses, use{port: c.Port, first: c.First})
			target = ^uint32(0)
		}
		u := &uses[len(uses)-1]
		if c.Target != target {
			u.n++
			target = c.Target
		}
		u.first = min(u.first, c.First)
		most = max(most, u.n)
		first, last = min(first, c.First), max(last, c.Last)
	}
	t := &track{sources: []int32{s.source}, first: first, last: last}
	for _, u := range uses {
		if 2*u.n >= most {
			t.cells = append(t.cells, uint64(u.port))
			t.times = append(t.times, u.first)
		}
	}
	if len(t.cells) < 2 {
		return nil
	}
	return t
}

// fewPorts makes a run of what is too short for describe to be sure: neighbouring addresses may be a coincidence, two or three
// neighbouring ports and no other are an interval. Were they not, members with three and with four ports would be unlike.
func (t *track) fewPorts(sp *space) {
	n := len(t.cells)
	if lo, hi := uint32(t.cells[0]), uint32(t.cells[n-1])+1; t.shape == shapeScatter && hi-lo == uint32(n) {
		t.shape = shapeRuns
		t.run, t.align = runGrid([]span{{lo, hi}}, sp.block(lo).First)
	}
}

func portsOf(tracks []*track) int {
	used := map[uint64]bool{}
	for _, t := range tracks {
		for _, c := range t.cells {
			used[c] = true
		}
	}
	return len(used)
}

// intervals cuts the port numbers into the intervals that the tracks' ports fill nearly without a gap, and what lies between
// them. Which ports are used by anybody decides, not by whom or how often. Tracks that fill most of an interval by
// themselves have no part in that: a scanner of all ports would make them all one interval.
func intervals(tracks []*track, share float64) []Block {
	wide := map[*track]bool{}
	for {
		runs := usedRuns(tracks, wide)
		more := false
		for _, t := range tracks {
			if !wide[t] && fillsAlone(t, runs, share) {
				wide[t], more = true, true
			}
		}
		if !more {
			return tile(runs)
		}
	}
}

// usedRuns returns the intervals of ports that the tracks use, the wide ones left out.
func usedRuns(tracks []*track, wide map[*track]bool) []span {
	used := make([]bool, portSpaceSize)
	for _, t := range tracks {
		if wide[t] {
			continue
		}
		for _, c := range t.cells {
			used[c] = true
		}
	}
	var runs []span
	for p, u := range used {
		switch n := len(runs); {
		case !u:
		case n > 0 && uint32(p)-runs[n-1].hi < portGap:
			runs[n-1].hi = uint32(p) + 1
		default:
			runs = append(runs, span{uint32(p), uint32(p) + 1})
		}
	}
	return slices.DeleteFunc(runs, func(s span) bool { return s.size() < leastInterval })
}

// fillsAlone tells whether a track covers more than a share of one of the intervals.
func fillsAlone(t *track, runs []span, share float64) bool {
	ports := make([]uint32, len(t.cells))
	for i, c := range t.cells {
		ports[i] = uint32(c)
	}
	return slices.ContainsFunc(runs, func(s span) bool { return float64(within(ports, s)) > share*float64(s.size()) })
}

// tile makes blocks of the intervals and of what lies between them.
func tile(runs []span) []Block {
	var out []Block
	next := uint32(0)
	add := func(hi uint32) {
		if hi > next {
			out = append(out, Block{First: next, Size: hi - next})
			next = hi
		}
	}
	for _, s := range runs {
		add(s.lo)
		add(s.hi)
	}
	add(portSpaceSize)
	return out
}

// provesPorts lowers the evidence of a find on the port axis for the ends of its interval, and tells whether it still stands.
// The interval begins and ends with ports of the sources themselves. Given that two of m sources are its ends,
// only the others lie there by chance: of the pairs that could meet, (m-2)(m-3) of m(m-1) are left.
func (r *run) provesPorts(f *find, sp *space) bool {
	used := map[uint64]bool{}
	for _, t := range f.tracks {
		for _, c := range t.cells {
			if p := uint32(c); p >= f.span.lo && p < f.span.hi {
				used[c] = true
			}
		}
	}
	if float64(len(used)) < minPortsFull*float64(f.span.size()) && len(used) < manyOwnPorts {
		return false
	}
	if f.span != sp.root() {
		m := float64(len(f.tracks))
		f.verdict.evidence *= (m - 2) * (m - 3) / (m * (m - 1))
	}
	return f.verdict.evidence >= r.p.MinEvidence+f.verdict.paid
}

// onAddresses turns a find on the port axis back into one over (address, port).
func (r *run) onAddresses(j portJob, f *find) find {
	type rating struct{ prob, expected, observed float64 }
	members := map[int32]rating{}
	ports := map[uint16]bool{}
	for k, t := range f.tracks {
		// Coincidences are counted in ports, and told in cells.
		for _, s := range t.sources {
			members[s] = rating{f.prob[k], f.expected[k], f.observed[k]}
		}
		for _, c := range t.cells {
			if p := uint32(c); p >= f.span.lo && p < f.span.hi {
				ports[uint16(p)] = true
			}
		}
	}
	segs := slices.DeleteFunc(slices.Clone(j.segs), func(s segment) bool { _, ok := members[s.source]; return !ok })
	b := r.ix.bucketOf(manyPorts, j.proto, 0, segs, r.sp, r.window, func(_ int32, c *Cell) bool { return !ports[c.Port] })
	out := find{b: b, span: j.aim, verdict: f.verdict, early: f.early, ownPorts: true}
	for _, t := range b.tracks {
		m := members[t.sources[0]]
		perPort := float64(t.targets)
		out.tracks = append(out.tracks, t)
		out.prob = append(out.prob, m.prob)
		out.expected = append(out.expected, m.expected*perPort)
		out.observed = append(out.observed, m.observed*perPort)
	}
	for p := range ports {
		out.portList = append(out.portList, Port{event.Proto(j.proto), p})
	}
	slices.SortFunc(out.portList, func(a, b Port) int { return cmp.Compare(a.Port, b.Port) })
	return out
}

// pooled is the expected overlap of the tracks of a find over (address, port), ports and addresses shared out alike: what
// footprints of these sizes share when they lie anywhere among universe cells.
func (f *find) pooled(universe float64) float64 {
	var sum, squares float64
	for _, t := range f.tracks {
		n := float64(len(t.cells))
		sum += n
		squares += n * n
	}
	return (sum*sum - squares) / (2 * math.Max(1, universe))
}
