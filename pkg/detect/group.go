package detect

import (
	"cmp"
	"slices"
)

// group is a candidate: tracks of one bucket that scan alike and aim at one span, chosen without a look at
// who met whom.
type group struct {
	span     span
	members  []int32 // indices into bucket.tracks, ascending
	expected float64
	key      uint64 // hash of span and members
	rule     rule
	feet     []int   // the members in the arena of the span
	blind    float64 // Chernoff bound for the group as it stands, by the survey
	hopeful  bool    // a search among its members could find something
	blindly  bool    // it could prove something as it stands
	seams    float64 // evidence that its ranges begin where others of it end
}

// rule is the behaviour by which a group was picked: everything but the place.
type rule struct {
	level  int // grain of class
	class  uint64
	shape  shape
	lo, hi uint64 // time that holds the activity, hi exclusive
	long   bool   // active for at least half of that time
}

func (r rule) holds(t *track) bool {
	return t.class[r.level] == r.class && (r.shape == shapeAny || t.shape == r.shape) &&
		uint64(t.first) >= r.lo && uint64(t.last) < r.hi && (!r.long || uint64(t.last-t.first)*2 >= r.hi-r.lo)
}

// covers tells whether g is part of this group by its rule, and at least half of what this group expects: whatever a held-out
// test could pick out of g it could pick out of this group nearly as well.
func (d group) covers(b *bucket, g group) bool {
	first := b.tracks[g.members[0]]
	return g.expected*2 > d.expected && d.rule.level <= g.rule.level && first.class[d.rule.level] == d.rule.class &&
		(d.rule.shape == shapeAny || d.rule.shape == g.rule.shape) &&
		d.rule.lo <= g.rule.lo && d.rule.hi >= g.rule.hi && (!d.rule.long || g.rule.long)
}

// minExpected is the number of expected coincidences below which no absence of overlap would be evidence
// at any threshold: exp(-12) is 10^-5.2, before the tests are paid for.
const minExpected = 12

// leastExpected is the number of expected coincidences below which a group is not even worth a word.
const leastExpected = 4

// timeLevels is how often the window is halved when tracks are grouped by the time they were active in.
const timeLevels = 6

// spans lists the spans that enough tracks aim at, with those tracks, smallest first. A span whose
// tracks all aim at one of its halves is that half's business, and a track that aims at a child which is nearly the
// whole span (a large telescope beside a small one) is that child's.
func spans(tracks []*track, least int) []spanTracks {
	type node struct {
		all   []int32
		inner int // the most tracks in one child
	}
	nodes := map[span]*node{}
	for i, t := range tracks {
		if t == nil {
			continue
		}
		for d, s := range t.path {
			if d+1 < len(t.path) && 20*uint64(t.path[d+1].size()) >= 19*uint64(s.size()) {
				continue
			}
			n := nodes[s]
			if n == nil {
				n = &node{}
				nodes[s] = n
			}
			n.all = append(n.all, int32(i))
		}
	}
	for _, t := range tracks {
		if t == nil {
			continue
		}
		for d := 1; d < len(t.path); d++ {
			if n, c := nodes[t.path[d-1]], nodes[t.path[d]]; n != nil && c != nil {
				n.inner = max(n.inner, len(c.all))
			}
		}
	}
	var out []spanTracks
	for s, n := range nodes {
		if len(n.all) >= least && n.inner < len(n.all) {
			out = append(out, spanTracks{s, n.all})
		}
	}
	slices.SortFunc(out, func(a, b spanTracks) int {
		return cmp.Or(cmp.Compare(a.span.size(), b.span.size()), cmp.Compare(a.span.lo, b.span.lo))
	})
	return out
}

type spanTracks struct {
	span   span
	tracks []int32
}

// frame is the time that a bucket is about, in seconds after the window's start, hi exclusive, and how often it is halved when tracks
// are grouped by the time they were active in.
type frame struct {
	lo, hi uint64
	levels int
}

// groups lists the candidates of one span: every mix of behaviour (anything, tool, everything known, that on the same ports), shape of
// the footprint, and time that enough tracks share, each set of members once.
func groups(tracks []*track, st spanTracks, time frame, p Params) []group {
	m := newMuster(tracks, narrow(tracks, st, p.MaxShare), st.span, time)
	seen, spread := map[uint64]bool{}, map[uint64]bool{}
	var out []group
	add := func(members []int32, by rule) {
		if len(members) < p.MinSources {
			return
		}
		h := m.key(members)
		if seen[h] {
			return
		}
		seen[h] = true
		if e := m.expected(members); e >= leastExpected {
			out = append(out, group{span: st.span, members: m.tracksOf(members), expected: e, key: h, rule: by})
		}
	}
	everyone := make([]int32, len(m.list))
	for i := range everyone {
		everyone[i] = int32(i)
	}
	// The finest grain first: where two rules pick the same members, the narrower one says more of them.
	for level := 3; level >= 0; level-- {
		for _, alike := range partition(everyone, func(i int32) uint64 { return tracks[m.list[i].at].class[level] }) {
			if len(alike) < p.MinSources {
				continue
			}
			by := rule{level: level, class: tracks[m.list[alike[0]].at].class[level]}
			shaped := append([][]int32{alike}, partition(alike, func(i int32) uint64 { return uint64(m.list[i].shape) })...)
			for k, members := range shaped {
				if k > 0 {
					by.shape = m.list[members[0]].shape
				}
				if len(members) < p.MinSources {
					continue
				}
				// A tool that always looks the same makes the same group at several grains.
				if h := m.key(members); !spread[h] && m.expected(members) >= leastExpected {
					spread[h] = true
					m.inTime(members, by, p.MinSources, add)
				}
			}
		}
	}
	return out
}

// muster is what grouping needs of the tracks of a span, side by side in memory: each is looked at in some hundred groups.
type muster struct {
	span  span
	time  frame
	list  []mustered
	keys  []keyCount // of all, where there are several
	sum   []float64  // by key
	sum2  []float64
	slots []uint32
}

// mustered is one track.
type mustered struct {
	at          int32  // its place in the bucket
	first, last uint16 // slot of its first and last touch, of those at the deepest level, halved once more; noSlot outside of the frame
	lasts       uint32 // seconds
	n           float64
	from, to    int32 // in keys
	shape       shape
}

const noSlot = ^uint16(0)

func newMuster(tracks []*track, members []int32, s span, time frame) *muster {
	m := &muster{span: s, time: time, list: make([]mustered, len(members))}
	several, most := false, uint32(0)
	for k, i := range members {
		t := tracks[i]
		x := &m.list[k]
		*x = mustered{at: i, first: m.slot(t.first), last: m.slot(t.last), lasts: t.last - t.first, n: float64(len(t.cells)), shape: t.shape}
		for _, c := range t.tally {
			most = max(most, c.key)
		}
		several = several || most > 0
	}
	if !several {
		return m
	}
	m.sum, m.sum2 = make([]float64, most+1), make([]float64, most+1)
	for k := range m.list {
		x := &m.list[k]
		x.from = int32(len(m.keys))
		m.keys = append(m.keys, tracks[x.at].tally...)
		x.to = int32(len(m.keys))
	}
	return m
}

// slot returns the slot of a time at twice the finest cut of the frame, so that slots that are shifted by half
// their length are whole numbers of these.
func (m *muster) slot(at uint32) uint16 {
	if t := uint64(at); t >= m.time.lo && t < m.time.hi {
		return uint16(((t - m.time.lo) << (m.time.levels + 1)) / (m.time.hi - m.time.lo))
	}
	return noSlot
}

// start returns the first second of such a slot.
func (m *muster) start(slot uint64) uint64 {
	n := uint64(1) << (m.time.levels + 1)
	return m.time.lo + (slot*(m.time.hi-m.time.lo)+n-1)/n
}

func (m *muster) tracksOf(members []int32) []int32 {
	out := make([]int32, len(members))
	for k, i := range members {
		out[k] = m.list[i].at
	}
	return out
}

// key names a group by its span and members.
func (m *muster) key(members []int32) uint64 {
	h := hash(uint64(m.span.lo), uint64(m.span.hi))
	for _, i := range members {
		h = (h ^ uint64(m.list[i].at)) * 0x9fb21c651e98df25
		h ^= h >> 32
	}
	return hash(h)
}

// expected is the expected overlap of the members inside the span, from the sizes alone.
func (m *muster) expected(members []int32) float64 {
	var e float64
	if m.sum == nil {
		var n, n2 float64
		for _, i := range members {
			x := m.list[i].n
			n += x
			n2 += x * x
		}
		e = n*n - n2
	} else {
		for _, i := range members {
			for _, k := range m.keys[m.list[i].from:m.list[i].to] {
				m.sum[k.key] += k.n
				m.sum2[k.key] += k.n * k.n
			}
		}
		for _, i := range members {
			for _, k := range m.keys[m.list[i].from:m.list[i].to] {
				e += m.sum[k.key]*m.sum[k.key] - m.sum2[k.key]
				m.sum[k.key], m.sum2[k.key] = 0, 0
			}
		}
	}
	return e / (2 * float64(m.span.size()))
}

// inTime calls add with the members, and with those whose activity fits into each slot of two grids of halved
// frames, the second shifted by half a slot; of each also with those that were active for most of the slot.
func (m *muster) inTime(members []int32, by rule, least int, add func([]int32, rule)) {
	members = slices.Clone(members)
	for level := range m.time.levels + 1 {
		width := (m.time.hi - m.time.lo) >> level
		// Who lasts longer than a slot fits into none, here or deeper.
		members = slices.DeleteFunc(members, func(i int32) bool { return uint64(m.list[i].lasts) > width })
		if width == 0 || len(members) < least {
			return
		}
		shift := m.time.levels + 1 - level // a slot is so many of the finest, as a power of two
		for half := range uint64(min(2, level+1)) {
			ahead := half << (shift - 1)
			for k, in := range m.slotted(members, shift, ahead) {
				if len(in) < least {
					continue
				}
				from := uint64(k) << shift
				by.lo, by.hi, by.long = m.start(max(ahead, from)-ahead), m.start(min(from+1<<shift-ahead, 2<<m.time.levels)), false
				add(in, by)
				var long []int32
				for _, i := range in {
					if uint64(m.list[i].lasts)*2 >= by.hi-by.lo {
						long = append(long, i)
					}
				}
				by.long = true
				add(long, by)
			}
		}
	}
}

// slotted deals the members out into slots of 1<<shift of the finest ones, the first of which begins ahead of the frame, leaving
// away those whose first and last slot differ.
func (m *muster) slotted(members []int32, shift int, ahead uint64) [][]int32 {
	n := (2<<m.time.levels+ahead-1)>>shift + 1
	if cap(m.slots) < len(members) {
		m.slots = make([]uint32, len(members))
	}
	at := m.slots[:len(members)]
	size := make([]uint32, n+1)
	for k, i := range members {
		x := &m.list[i]
		a, b := (uint64(x.first)+ahead)>>shift, (uint64(x.last)+ahead)>>shift
		if a != b || x.first == noSlot || x.last == noSlot {
			a = n
		}
		at[k] = uint32(a)
		size[a]++
	}
	out := make([][]int32, n)
	room := make([]int32, len(members)-int(size[n]))
	for s := range out {
		out[s], room = room[:0:size[s]], room[size[s]:]
	}
	for k, i := range members {
		if s := at[k]; uint64(s) < n {
			out[s] = append(out[s], i)
		}
	}
	return out
}

// narrow leaves out the tracks that touched more than a share of the span's addresses by themselves.
func narrow(tracks []*track, st spanTracks, share float64) []int32 {
	var out []int32
	for _, i := range st.tracks {
		if tracks[i] != nil && tracks[i].most <= share*float64(st.span.size()) {
			out = append(out, i)
		}
	}
	return out
}

// partition splits members by a key, parts in the order of their first member.
func partition[I int | int32](members []I, key func(i I) uint64) [][]I {
	at := map[uint64]int{}
	var out [][]I
	for _, i := range members {
		k := key(i)
		j, ok := at[k]
		if !ok {
			j = len(out)
			at[k] = j
			out = append(out, nil)
		}
		out[j] = append(out[j], i)
	}
	return out
}
