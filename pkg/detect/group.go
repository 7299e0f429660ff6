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
	blind    float64 // Chernoff bound for the group as it stands
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
// tracks all aim at one of its halves is that half's business.
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
		for _, s := range t.path {
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
			n := nodes[t.path[d-1]]
			n.inner = max(n.inner, len(nodes[t.path[d]].all))
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

// groups lists the candidates of one span: every mix of behaviour (anything, tool, everything known, that on the same ports), shape of
// the footprint, and time that enough tracks share, each set of members once.
func groups(tracks []*track, st spanTracks, window uint32, p Params) []group {
	seen := map[uint64]bool{}
	var out []group
	base := narrow(tracks, st, p.MaxShare)
	add := func(members []int32, by rule) {
		if len(members) < p.MinSources {
			return
		}
		h := hash(uint64(st.span.lo), uint64(st.span.hi))
		for _, i := range members {
			h = hash(h, uint64(i))
		}
		if seen[h] {
			return
		}
		seen[h] = true
		if e := expectedOf(tracks, members, st.span); e >= leastExpected {
			out = append(out, group{span: st.span, members: members, expected: e, key: h, rule: by})
		}
	}
	// The finest grain first: where two rules pick the same members, the narrower one says more of them.
	for level := 3; level >= 0; level-- {
		for _, alike := range partition(base, func(i int32) uint64 { return tracks[i].class[level] }) {
			if len(alike) < p.MinSources {
				continue
			}
			by := rule{level: level, class: tracks[alike[0]].class[level]}
			shaped := append([][]int32{alike}, partition(alike, func(i int32) uint64 { return uint64(tracks[i].shape) })...)
			for k, members := range shaped {
				if k > 0 {
					by.shape = tracks[members[0]].shape
				}
				if len(members) >= p.MinSources && expectedOf(tracks, members, st.span) >= leastExpected {
					inTime(tracks, members, window, by, p.MinSources, add)
				}
			}
		}
	}
	return out
}

// narrow leaves out the tracks that touched more than a share of the span's addresses by themselves.
func narrow(tracks []*track, st spanTracks, share float64) []int32 {
	var out []int32
	for _, i := range st.tracks {
		if tracks[i] != nil && float64(tracks[i].mostUnderOneKey()) <= share*float64(st.span.size()) {
			out = append(out, i)
		}
	}
	return out
}

func (t *track) mostUnderOneKey() int {
	most, n := 0, 0
	for j, c := range t.cells {
		if j > 0 && c>>32 != t.cells[j-1]>>32 {
			n = 0
		}
		n++
		most = max(most, n)
	}
	return most
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

// inTime calls add with the members, and with those whose activity fits into each slot of two grids of halved
// windows, the second shifted by half a slot; of each also with those that were active for most of the slot.
func inTime(tracks []*track, members []int32, window uint32, by rule, least int, add func([]int32, rule)) {
	for level := range timeLevels + 1 {
		width := uint64(window) >> level
		if width == 0 {
			return
		}
		for half := range min(2, level+1) {
			shift := uint64(half) * width / 2
			slots := map[uint64][]int32{}
			var order []uint64
			for _, i := range members {
				t := tracks[i]
				a, b := (uint64(t.first)+shift)/width, (uint64(t.last)+shift)/width
				if a != b {
					continue
				}
				if slots[a] == nil {
					order = append(order, a)
				}
				slots[a] = append(slots[a], i)
			}
			slices.Sort(order)
			for _, s := range order {
				in := slots[s]
				if len(in) < least {
					continue
				}
				by.lo, by.hi, by.long = max(shift, s*width)-shift, (s+1)*width-shift, false
				add(in, by)
				var long []int32
				for _, i := range in {
					if uint64(tracks[i].last-tracks[i].first)*2 >= width {
						long = append(long, i)
					}
				}
				by.long = true
				add(long, by)
			}
		}
	}
}

// expectedOf is the expected overlap of the members inside s, from the sizes alone.
func expectedOf(tracks []*track, members []int32, s span) float64 {
	type sums struct{ n, n2 float64 }
	keys := map[uint32]*sums{}
	one := sums{}
	for _, i := range members {
		t := tracks[i]
		if len(t.cells) > 0 && t.cells[len(t.cells)-1]>>32 == 0 {
			n := float64(len(t.cells))
			one.n += n
			one.n2 += n * n
			continue
		}
		for j := 0; j < len(t.cells); {
			k, from := uint32(t.cells[j]>>32), j
			for j < len(t.cells) && uint32(t.cells[j]>>32) == k {
				j++
			}
			n := float64(j - from)
			if keys[k] == nil {
				keys[k] = &sums{}
			}
			keys[k].n += n
			keys[k].n2 += n * n
		}
	}
	if k := keys[0]; k != nil {
		k.n += one.n
		k.n2 += one.n2
	} else if one.n > 0 {
		keys[0] = &one
	}
	var e float64
	for _, k := range keys {
		e += (k.n*k.n - k.n2) / (2 * float64(s.size()))
	}
	return e
}
