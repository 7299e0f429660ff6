package detect

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
)

// Seams tell a space that is cut into ranges from ranges that lie anywhere, also where members touch only a sample of theirs and as many
// strangers scan ranges of the same size on the same port. Then everybody meets somebody, and who meets fewer of the others says more of the
// strangers' places than of the members. But where a member's range ends, another's begins, and strangers' do not.
//
// A seam is a place where one source's range ends and another's begins, as near as the gaps between their addresses let one see. They are
// counted over a whole group that behaviour alone picked, each place once, however many ranges end there, so that a popular place is one. What chance
// makes of it is counted on copies in which every range is shifted by up to half its length, by a multiple of its own grid (interval jitter:
// Amarasingham, Harrison, Hatsopoulos and Geman, Journal of Neurophysiology 107, 2012): that keeps
// where ranges are dense and on what grids they lie, and breaks what two of them agreed on.

// stretch is the range of one foot that touched addresses evenly between its ends.
type stretch struct {
	foot   int
	lo, hi uint32  // addresses of the arena, hi exclusive
	gap    float64 // usual number of addresses beyond either end of what was touched that the range goes on for
	grid   uint32  // power of two on which it may begin and end by habit
	block  span    // of the telescope that it lies in
}

const (
	leastStretch  = 5   // addresses that make a range
	widestStretch = 0.2 // of the arena, beyond which a range has no place to choose
	seamWidth     = 3   // usual gaps of both ranges together up to which their ends are one place
	leastSeams    = 5
	fewestPlaces  = 4       // of its grid within its length, below which a range has no choice of where to end
	mostStretches = 1 << 12 // where more lie on one another, some ends fall together everywhere
	seamJitters   = 64
	seamShare     = 0.1 // of a group's share of the level of significance; few campaigns need it, and those have evidence to spare
)

// stretchTable is the ranges of an arena's feet, made when they are first asked for.
type stretchTable struct {
	once sync.Once
	list []stretch
	at   []int32 // by foot, the place in the list, -1 for none
}

// stretches returns the ranges among feet.
func (a *arena) stretches(sp *space, feet []int) (of []*stretch) {
	a.seam.once.Do(func() {
		a.seam.at = make([]int32, len(a.feet))
		var room []uint32
		for i := range a.feet {
			a.seam.at[i] = -1
			f := &a.feet[i]
			if lo, hi := a.hull(f); len(f.cells) < leastStretch || float64(hi-lo) > widestStretch*float64(a.width) {
				continue
			}
			room = a.targets(room, f)
			if s := a.stretchOf(sp, i, room); s.hi > 0 {
				a.seam.at[i] = int32(len(a.seam.list)) //nolint:gosec // Fewer than feet.
				a.seam.list = append(a.seam.list, s)
			}
		}
	})
	for _, i := range feet {
		if k := a.seam.at[i]; k >= 0 {
			of = append(of, &a.seam.list[k])
		}
	}
	return of
}

// hull returns the first address that a foot touched, and the last one plus one.
func (a *arena) hull(f *foot) (lo, hi uint32) {
	lo = a.width
	cells := f.cells
	for _, k := range f.keys {
		n := int(k.n)
		lo, hi = min(lo, cells[0]-k.key*a.width), max(hi, cells[n-1]-k.key*a.width+1)
		cells = cells[n:]
	}
	return lo, hi
}

// targets returns the distinct addresses that a foot touched, ascending, in the room.
func (a *arena) targets(room []uint32, f *foot) []uint32 {
	room = room[:0]
	cells := f.cells
	for _, k := range f.keys {
		for _, c := range cells[:int(k.n)] {
			room = append(room, c-k.key*a.width)
		}
		cells = cells[int(k.n):]
	}
	if len(f.keys) > 1 {
		slices.Sort(room)
		room = slices.Compact(room)
	}
	return room
}

// stretchOf returns the range of foot i, which touched these addresses; the zero stretch if they are not one, or one that ends where custom has
// it.
func (a *arena) stretchOf(sp *space, i int, sorted []uint32) stretch {
	n := len(sorted)
	if n < leastStretch {
		return stretch{}
	}
	s := stretch{foot: i, lo: sorted[0], hi: sorted[n-1] + 1}
	length := float64(s.hi - s.lo)
	s.gap = (length - float64(n)) / float64(n+1)
	// The longest of n exponential gaps is rarely more than ln n + 6 usual ones: what has a longer one is two ranges.
	longest := uint32(3 + s.gap*(math.Log(float64(n))+6))
	for k := 1; k < n; k++ {
		if sorted[k]-sorted[k-1]-1 > longest {
			return stretch{}
		}
	}
	b := sp.block(a.span.lo + s.lo)
	if b == nil || a.span.lo+s.hi > b.First+b.Size {
		return stretch{}
	}
	s.block = span{b.First, b.First + b.Size}
	s.grid = habitual(a.span.lo+s.lo-b.First, a.span.lo+s.hi-b.First, s.gap)
	if fewestPlaces*float64(s.grid) > length {
		return stretch{}
	}
	return s
}

// habitual returns the largest power of two on which a range that was seen from lo to hi may begin and end.
func habitual(lo, hi uint32, gap float64) uint32 {
	best := uint32(1)
	slack := 1 + 4*gap
	for g := uint32(2); g != 0 && float64(g)/8*7 <= float64(hi-lo)+2*slack; g <<= 1 {
		if near := max(slack, float64(g)/16); float64(lo&(g-1)) <= near && float64(-hi&(g-1)) <= near {
			best = g
		}
	}
	return best
}

// seams counts the places at which one range ends and another begins. It sorts both lists.
func seams(ends, starts []edge) (n int) {
	byPlace := func(x, y edge) int { return cmp.Or(cmp.Compare(x.at, y.at), cmp.Compare(x.of.foot, y.of.foot)) }
	slices.SortFunc(ends, byPlace)
	slices.SortFunc(starts, byPlace)
	reach := 0.0
	for _, e := range ends {
		reach = max(reach, 2*seamWidth*e.of.gap+1)
	}
	from, free := 0, 0.0
	for _, s := range starts {
		for from < len(ends) && float64(ends[from].at)+reach < float64(s.at) {
			from++
		}
		for _, e := range ends[from:] {
			if e.at > s.at {
				break
			}
			if float64(e.at) >= free && meet(e, s) {
				n++
				free = float64(s.at) + 1 + 2*seamWidth*s.of.gap
				break
			}
		}
	}
	return n
}

// edge is one end of a range.
type edge struct {
	at uint32
	of *stretch
}

// meet tells whether one range may begin where the other ends.
func meet(end, start edge) bool {
	return start.at >= end.at && float64(start.at-end.at) <= near(end.of, start.of) && end.of != start.of && end.of.block == start.of.block
}

// fit is what a seam counts in a chain: nearly one, so that of two ranges that could be the next the one counts more whose end is
// as far away as two gaps make it.
func fit(end, start edge) float64 {
	usual := end.of.gap + start.of.gap
	return 1 - 0.01*math.Abs(float64(start.at-end.at)-usual)/(1+usual)
}

// near is up to how many addresses apart ends of two ranges may be one place.
func near(x, y *stretch) float64 { return math.Ceil(seamWidth * (x.gap + y.gap)) }

// edges returns the ends and the starts of ranges, each range shifted by what shift says.
func edges(list []*stretch, shift func(s *stretch) uint32) (ends, starts []edge) {
	ends, starts = make([]edge, len(list)), make([]edge, len(list))
	for k, s := range list {
		by := shift(s)
		ends[k], starts[k] = edge{s.hi + by, s}, edge{s.lo + by, s}
	}
	return ends, starts
}

// jitter draws a shift of a range, modulo 2^32: up to half its length either way, by a multiple of its grid, inside of its block. Base is the rank of
// the arena's first address.
func (s *stretch) jitter(base uint32, rng *rand.Rand) uint32 {
	steps := max(1, (s.hi-s.lo)/(2*s.grid))
	by := (int64(rng.Uint32N(2*steps+1)) - int64(steps)) * int64(s.grid)
	inside := func(by int64) bool {
		return int64(base)+int64(s.lo)+by >= int64(s.block.lo) && int64(base)+int64(s.hi)+by <= int64(s.block.hi)
	}
	switch {
	case inside(by):
		return uint32(by) //nolint:gosec // Modulo 2^32.
	case inside(-by):
		return uint32(-by) //nolint:gosec // Modulo 2^32.
	}
	return 0
}

// seamEvidence tests whether the ranges of a group begin where others end. It returns -log10 p, and 0 as soon as that will not be enough.
func (r *run) seamEvidence(a *arena, feet []int, seed uint64, enough float64) float64 {
	list := a.stretches(r.sp, feet)
	if len(list) < max(leastSeams, r.p.MinSources) || len(list) > mostStretches {
		return 0
	}
	observed := float64(seams(edges(list, func(*stretch) uint32 { return 0 })))
	if observed < leastSeams {
		return 0
	}
	rng := newRand(seed)
	values := make([]float64, 0, seamJitters)
	for len(values) < seamJitters {
		values = append(values, float64(seams(edges(list, func(s *stretch) uint32 { return s.jitter(a.span.lo, rng) }))))
		if len(values) == 8 {
			if mean, variance := moments(values); scaledAbove(mean, variance/9, observed) < enough/2 {
				return 0
			}
		}
	}
	mean, variance := moments(values)
	// Of what never happened in n tries the chance may still be 3/n (the rule of three).
	return scaledAbove(mean+3/float64(len(values)), variance, observed)
}

// chain returns the feet of those ranges that follow one upon another best: most seams, and none that overlap. Where a range is missing the chain goes
// on behind it if that is worth it.
func (a *arena) chain(sp *space, feet []int) []int {
	const missing = 2 // seams that a gap has to bring
	list := a.stretches(sp, feet)
	slices.SortFunc(list, func(x, y *stretch) int {
		return cmp.Or(cmp.Compare(x.hi, y.hi), cmp.Compare(x.lo, y.lo), cmp.Compare(x.foot, y.foot))
	})
	type link struct {
		seams  float64
		before int
	}
	links := make([]link, len(list))
	furthest := make([]int, len(list)) // the best end among those up to here
	best := -1
	for k, s := range list {
		links[k] = link{0, -1}
		for j := k - 1; j >= 0; j-- {
			if end, start := (edge{list[j].hi, list[j]}), (edge{s.lo, s}); meet(end, start) && links[j].seams+fit(end, start) > links[k].seams {
				links[k] = link{links[j].seams + fit(end, start), j}
			}
		}
		behind, _ := slices.BinarySearchFunc(list[:k], s.lo+1, func(x *stretch, lo uint32) int { return cmp.Compare(x.hi, lo) })
		if behind > 0 {
			if j := furthest[behind-1]; links[j].seams-missing > links[k].seams {
				links[k] = link{links[j].seams - missing, j}
			}
		}
		furthest[k] = k
		if k > 0 && links[furthest[k-1]].seams >= links[k].seams {
			furthest[k] = furthest[k-1]
		}
		best = furthest[k]
	}
	var out []int
	for k := best; k >= 0; k = links[k].before {
		out = append(out, list[k].foot)
	}
	slices.Sort(out)
	return out
}

// proveSeams makes a group of the ranges that follow one upon another in one whose seams are no chance. What is tested is the
// whole group, as behaviour picked it; the chain only says who.
func (s *sieve) proveSeams(a *arena, g group) (group, verdict) {
	v := verdict{tests: noTests(), paid: s.paid + math.Log10((1-seamShare)/(2*seamShare))}
	if g.seams < s.p.MinEvidence+v.paid {
		return g, v
	}
	chain := a.chain(s.sp, g.feet)
	apart := a.onePlaceEach(s.sp, chain, g.feet)
	if len(chain) < s.p.MinSources || apart < s.p.MinEvidence+v.paid {
		return g, v
	}
	c := group{span: g.span, expected: g.expected, key: hash(g.key, uint64(len(chain))), rule: g.rule, feet: chain}
	for _, i := range chain {
		c.members = append(c.members, a.of[i])
	}
	e, o := a.overlap(a.feet, chain, float64(a.width))
	v.tests.Seams, v.evidence, v.ratio = g.seams, min(g.seams, apart), o/max(e, 1e-9)
	return c, v
}

// onePlaceEach is -log10 of the chance that sources which chose among the places of a chain, and knew nothing of each other, hardly ever chose the same
// (the birthday problem, by Chernoff's bound). Seams alone do not tell a space that was shared out from one that all cut alike: blocks of a
// customary size from a customary address on, or the networks of a list. There, those who share a place with a member count.
func (a *arena) onePlaceEach(sp *space, chain, feet []int) float64 {
	if len(chain) == 0 {
		return 0
	}
	at := a.stretches(sp, chain)
	var filled float64
	for _, s := range at {
		filled += float64(s.hi - s.lo)
	}
	slices.SortFunc(at, func(x, y *stretch) int { return cmp.Compare(x.lo, y.lo) })
	length := float64(at[len(at)-1].hi - at[0].lo)
	places := max(float64(len(chain)), length/filled*float64(len(chain)))
	in := make([]float64, len(at))
	var sources, met float64
	for _, s := range a.stretches(sp, feet) {
		k, _ := slices.BinarySearchFunc(at, s.lo+(s.hi-s.lo)/2, func(x *stretch, middle uint32) int { return cmp.Compare(x.hi, middle) })
		if k == len(at) || !s.coincides(at[k]) {
			continue
		}
		sources++
		met += in[k]
		in[k]++
	}
	return chernoffBelow(sources*(sources-1)/2/places, met)
}

// coincides tells whether two ranges may be one place.
func (s *stretch) coincides(o *stretch) bool {
	apart := func(x, y uint32) float64 { return math.Abs(float64(x) - float64(y)) }
	return s.block == o.block && apart(s.lo, o.lo) <= near(s, o) && apart(s.hi, o.hi) <= near(s, o)
}
