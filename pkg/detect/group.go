package detect

import (
	"cmp"
	"maps"
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

// groups lists the candidates of one span: every mix of behaviour (anything, tool, everything known, that on the same ports), shape of
// the footprint, and time that enough tracks share, each set of members once.
func groups(tracks []*track, st spanTracks, window uint32, p Params) []group {
	seen, spread := map[uint64]bool{}, map[uint64]bool{}
	var out []group
	base := narrow(tracks, st, p.MaxShare)
	add := func(members []int32, by rule) {
		if len(members) < p.MinSources {
			return
		}
		h := keyOf(st.span, members)
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
				if len(members) < p.MinSources {
					continue
				}
				// A tool that always looks the same makes the same group at several grains.
				if h := keyOf(st.span, members); !spread[h] && expectedOf(tracks, members, st.span) >= leastExpected {
					spread[h] = true
					inTime(tracks, members, window, by, p.MinSources, add)
				}
			}
		}
	}
	return out
}

// keyOf names a group by its span and members.
func keyOf(s span, members []int32) uint64 {
	h := hash(uint64(s.lo), uint64(s.hi))
	for _, i := range members {
		h = (h ^ uint64(i)) * 0x9fb21c651e98df25
		h ^= h >> 32
	}
	return hash(h)
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
			slots := slot(tracks, members, (uint64(window)+shift)/width+1, func(t *track) (a, b uint64) {
				return (uint64(t.first) + shift) / width, (uint64(t.last) + shift) / width
			})
			for k, in := range slots {
				if len(in) < least {
					continue
				}
				s := uint64(k)
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

// slot deals the members out into n slots, leaving away those whose first and last slot differ.
func slot(tracks []*track, members []int32, n uint64, of func(t *track) (a, b uint64)) [][]int32 {
	at := make([]uint32, len(members))
	size := make([]uint32, n+1)
	for k, i := range members {
		a, b := of(tracks[i])
		if a != b || a >= n {
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

// expectedOf is the expected overlap of the members inside s, from the sizes alone.
func expectedOf(tracks []*track, members []int32, s span) float64 {
	type sums struct{ n, n2 float64 }
	var one sums // of key 0, which is the only one of most buckets
	var rest map[uint32]sums
	for _, i := range members {
		for _, k := range tracks[i].tally {
			if k.key == 0 {
				one.n += k.n
				one.n2 += k.n * k.n
				continue
			}
			if rest == nil {
				rest = map[uint32]sums{}
			}
			at := rest[k.key]
			rest[k.key] = sums{at.n + k.n, at.n2 + k.n*k.n}
		}
	}
	e := one.n*one.n - one.n2
	for _, k := range slices.Sorted(maps.Keys(rest)) {
		e += rest[k].n*rest[k].n - rest[k].n2
	}
	return e / (2 * float64(s.size()))
}
