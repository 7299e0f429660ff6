package detect

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// arena is one bucket seen inside one span of addresses: every footprint cut to it, cells numbered
// densely, so that overlaps are counted in one array.
type arena struct {
	span  span
	width uint32 // addresses
	keys  int
	ports []uint16 // by key
	feet  []foot   // one per track of the bucket that has cells here
	count []uint32 // scratch, by cell; zero between calls
	sum   []float64
	sum2  []float64
	track []*track // of foot i
	sides *sides
	thin  *thinned // a sample of the addresses, once it was asked for
	at    []int32  // foot of track i of the bucket, -1 where it has none
}

// scratch is the counters of one worker. Arenas of one bucket share them: whoever counts leaves zeros.
type scratch struct {
	count     []uint32
	sum, sum2 []float64
}

// reserve returns zeroed counters for this many cells and keys.
func (w *scratch) reserve(cells, keys int) (count []uint32, sum, sum2 []float64) {
	if len(w.count) < cells {
		w.count = make([]uint32, max(cells, min(2*len(w.count), maxArena)))
	}
	if len(w.sum) < keys {
		w.sum, w.sum2 = make([]float64, 2*keys), make([]float64, 2*keys)
	}
	return w.count[:cells], w.sum[:keys], w.sum2[:keys]
}

// sides caches the halves of an arena's addresses: all of its groups are split alike.
type sides struct {
	known map[sideKey]*sideTable
}

type sideKey struct {
	seed  uint64
	shift uint
	part  float64
}

type sideTable struct {
	of        []uint8 // by address
	addresses [2]float64
}

// sub returns the arena of some of the feet alone. It shares the scratch arrays.
func (a *arena) sub(members []int) *arena {
	s := *a
	s.thin = nil
	s.feet, s.track = make([]foot, len(members)), make([]*track, len(members))
	for k, i := range members {
		s.feet[k], s.track[k] = a.feet[i], a.track[i]
	}
	return &s
}

// feetOf returns the feet of tracks of the bucket, given by their place in it.
func (a *arena) feetOf(members []int32) []int {
	feet := make([]int, 0, len(members))
	for _, i := range members {
		if k := a.at[i]; k >= 0 {
			feet = append(feet, int(k))
		}
	}
	return feet
}

func (a *arena) everyone() []int {
	out := make([]int, len(a.feet))
	for i := range out {
		out[i] = i
	}
	return out
}

// foot is a footprint inside an arena. Cells are key × width + (target - span.lo), sorted.
type foot struct {
	cells []uint32
	keys  []keyCount
}

// keyCount says how many cells a footprint has under one key.
type keyCount struct {
	key uint32
	n   float64
}

// maxArena bounds the cells of an arena: keys × addresses. Beyond it the rarest keys are left out.
const maxArena = 1 << 27

// newArena cuts the tracks to s. Keys that one track alone touched cannot overlap and are left out of
// the numbering where the arena would become too large.
func newArena(b *bucket, members []int32, s span) *arena {
	a := &arena{span: s, width: s.size(), keys: len(b.keys), sides: &sides{known: map[sideKey]*sideTable{}}}
	remap := a.chooseKeys(b, members)
	a.ports = make([]uint16, a.keys)
	for k := range b.keys {
		if remap == nil {
			a.ports[k] = b.portOf(uint64(k) << 32)
		} else if to, ok := remap[uint32(k)]; ok {
			a.ports[to] = b.portOf(uint64(k) << 32)
		}
	}
	a.at = make([]int32, len(b.tracks))
	for i := range a.at {
		a.at[i] = -1
	}
	for _, i := range members {
		t := b.tracks[i]
		if t == nil {
			continue
		}
		f := foot{cells: make([]uint32, 0, len(t.cells))}
		for _, c := range t.cells {
			key, target := uint32(c>>32), uint32(c)
			if target < s.lo || target >= s.hi {
				continue
			}
			if remap != nil {
				k, ok := remap[key]
				if !ok {
					continue
				}
				key = k
			}
			f.cells = append(f.cells, key*a.width+target-s.lo)
		}
		if len(f.cells) == 0 {
			continue
		}
		if remap != nil {
			slices.Sort(f.cells)
		}
		if f.keys = t.tally; remap != nil || len(f.cells) < len(t.cells) {
			f.keys = a.tallyKeys(f.cells)
		}
		a.at[i] = int32(len(a.feet))
		a.feet = append(a.feet, f)
		a.track = append(a.track, t)
	}
	if b.work == nil {
		b.work = &scratch{}
	}
	a.count, a.sum, a.sum2 = b.work.reserve(a.keys*int(a.width), a.keys)
	return a
}

// chooseKeys returns the new number of every key that is kept, nil where all are.
func (a *arena) chooseKeys(b *bucket, members []int32) map[uint32]uint32 {
	if uint64(a.keys)*uint64(a.width) <= maxArena {
		return nil
	}
	users := map[uint32]int{}
	for _, i := range members {
		if t := b.tracks[i]; t != nil {
			for _, k := range t.tally {
				users[k.key]++
			}
		}
	}
	var keys []uint32
	for k, n := range users {
		if n > 1 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(x, y uint32) int { return cmp.Or(cmp.Compare(users[y], users[x]), cmp.Compare(x, y)) })
	keys = keys[:min(len(keys), max(1, maxArena/int(a.width)))]
	remap := make(map[uint32]uint32, len(keys))
	for i, k := range keys {
		remap[k] = uint32(i)
	}
	a.keys = len(keys)
	return remap
}

func (a *arena) tallyKeys(cells []uint32) []keyCount {
	if a.keys == 1 {
		return []keyCount{{0, float64(len(cells))}}
	}
	var out []keyCount
	for _, c := range cells {
		k := c / a.width
		if len(out) > 0 && out[len(out)-1].key == k {
			out[len(out)-1].n++
		} else {
			out = append(out, keyCount{k, 1})
		}
	}
	return out
}

// overlap returns expected and observed coincidences of the chosen feet among each other, when every key has
// n addresses.
func (a *arena) overlap(feet []foot, chosen []int, n float64) (expected, observed float64) {
	for _, i := range chosen {
		for _, c := range feet[i].cells {
			observed += float64(a.count[c])
			a.count[c]++
		}
	}
	a.clear(feet, chosen)
	return a.expected(feet, chosen, n), observed
}

// expected is Σ over keys of ((Σn)² - Σn²)/2N: what independent footprints of these sizes share.
func (a *arena) expected(feet []foot, chosen []int, n float64) float64 {
	var e float64
	for _, i := range chosen {
		for _, k := range feet[i].keys {
			a.sum[k.key] += k.n
			a.sum2[k.key] += k.n * k.n
		}
	}
	for _, i := range chosen {
		for _, k := range feet[i].keys {
			e += (a.sum[k.key]*a.sum[k.key] - a.sum2[k.key]) / (2 * n)
			a.sum[k.key], a.sum2[k.key] = 0, 0
		}
	}
	return e
}

func (a *arena) clear(feet []foot, chosen []int) {
	// Wiping an array in order is some eight times as fast as to hit its places one by one.
	if len(a.count) <= 8*cellsOf(feet, chosen) {
		clear(a.count)
		return
	}
	for _, i := range chosen {
		for _, c := range feet[i].cells {
			a.count[c] = 0
		}
	}
}

// maxHalf bounds the cells in either half of a held-out test: larger groups are tested on a sample of the addresses.
const maxHalf = 1 << 20

// halves splits the addresses of the arena into two by a hash over chunks of 1<<shift addresses and cuts
// every foot in two. It returns the addresses in each half, and the half of each address; 2 is neither.
func (a *arena) halves(seed uint64, shift uint, chosen []int) (fold [2][]foot, addresses [2]float64, side []uint8) {
	part := 0.5
	if n := float64(cellsOf(a.feet, chosen)); n > 2*maxHalf {
		part = maxHalf / n
	}
	table := a.split(sideKey{seed, shift, part})
	side, addresses = table.of, table.addresses
	fold[0], fold[1] = make([]foot, len(a.feet)), make([]foot, len(a.feet))
	for _, i := range chosen {
		var parts [2][]uint32
		for _, c := range a.feet[i].cells {
			if h := side[c%a.width]; h < 2 {
				parts[h] = append(parts[h], c)
			}
		}
		for h := range parts {
			fold[h][i] = foot{parts[h], a.tallyKeys(parts[h])}
		}
	}
	return fold, addresses, side
}

// split deals out the addresses.
func (a *arena) split(k sideKey) *sideTable {
	if t := a.sides.known[k]; t != nil {
		return t
	}
	t := &sideTable{of: make([]uint8, a.width)}
	for i := range t.of {
		switch u := float64(hash(k.seed, uint64(i>>k.shift))) / (1 << 64); {
		case u < k.part:
			t.addresses[0]++
		case u < 2*k.part:
			t.of[i] = 1
			t.addresses[1]++
		default:
			t.of[i] = 2
		}
	}
	a.sides.known[k] = t
	return t
}

// peel returns the subset of the chosen feet that shares out best: it takes away, round by round, those that meet
// the others most beyond expectation, and keeps the round whose evidence was greatest (the peeling of dense
// subgraphs, Charikar 2000, on the graph whose weights are expected minus observed coincidences). The evidence of
// what it returns says nothing on the cells it was given: it was chosen by them.
func (a *arena) peel(feet []foot, chosen []int, n float64, least int) []int {
	set := slices.Clone(chosen)
	best, bestScore := set, -1.0
	z := make([]float64, len(feet))
	for len(set) >= least {
		expected, observed := a.scores(feet, set, n, z)
		if s := chernoffBelow(expected, observed); s > bestScore {
			best, bestScore = slices.Clone(set), s
		}
		slices.SortFunc(set, func(i, j int) int { return cmp.Or(cmp.Compare(z[i], z[j]), cmp.Compare(i, j)) })
		set = set[:len(set)-max(1, len(set)/10)]
	}
	slices.Sort(best)
	return best
}

// scores fills z[i] with (observed - expected)/√expected of every foot in the set against the rest of the set.
func (a *arena) scores(feet []foot, set []int, n float64, z []float64) (expected, observed float64) {
	for _, i := range set {
		for _, c := range feet[i].cells {
			a.count[c]++
		}
		for _, k := range feet[i].keys {
			a.sum[k.key] += k.n
		}
	}
	for _, i := range set {
		var e, o float64
		for _, c := range feet[i].cells {
			o += float64(a.count[c] - 1)
		}
		for _, k := range feet[i].keys {
			e += k.n * (a.sum[k.key] - k.n) / n
		}
		expected += e / 2
		observed += o / 2
		z[i] = (o - e) / math.Sqrt(e+1)
	}
	a.clear(feet, set)
	a.clearSums(feet, set)
	return expected, observed
}

func (a *arena) clearSums(feet []foot, set []int) {
	for _, i := range set {
		for _, k := range feet[i].keys {
			a.sum[k.key] = 0
		}
	}
}

// settle iterates the likelihood ratio of "member" against "stranger" over the chosen feet, from the set start, to
// a fixed point: a member meets the others at a rate of ε times what independence expects.
func (a *arena) settle(feet []foot, chosen, start []int, n float64, least int) []int {
	set := start
	in := make([]bool, len(feet))
	for round := 0; round < 12 && len(set) >= least; round++ {
		expected, observed := a.overlap(feet, set, n)
		eps := clamp((observed+0.5)/(expected+1), 0.02, 0.5)
		bar := math.Log(float64(len(chosen)-len(set)+1) / float64(len(set)+1))
		clear(in)
		for _, i := range set {
			in[i] = true
		}
		var next []int
		a.against(feet, set, chosen, in, n, func(i int, e, o float64) {
			if llr(e, o, eps) > max(0, bar) {
				next = append(next, i)
			}
		})
		if slices.Equal(next, set) {
			return set
		}
		set = next
	}
	return set
}

// llr is the log-likelihood ratio of a member (overlap rate eps·e) against a stranger (rate e).
func llr(e, o, eps float64) float64 { return e*(1-eps) + o*math.Log(eps) }

// against calls f with expected and observed coincidences of every chosen foot against the set, itself left out.
func (a *arena) against(feet []foot, set, chosen []int, in []bool, n float64, f func(i int, e, o float64)) {
	for _, i := range set {
		for _, c := range feet[i].cells {
			a.count[c]++
		}
		for _, k := range feet[i].keys {
			a.sum[k.key] += k.n
		}
	}
	for _, i := range chosen {
		var e, o, self float64
		if in[i] {
			self = 1
		}
		for _, c := range feet[i].cells {
			o += float64(a.count[c]) - self
		}
		for _, k := range feet[i].keys {
			e += k.n * (a.sum[k.key] - self*k.n) / n
		}
		f(i, e, o)
	}
	a.clear(feet, set)
	a.clearSums(feet, set)
}

// rotation is the rotation null: every footprint is moved by a random rotation of the arena's addresses, by a
// multiple of its own grid, which keeps its structure and destroys any agreement with the others. Rotations make
// the overlaps of pairs uncorrelated, so that the variance needs few surrogates. It returns mean and variance of the
// observed overlap among surrogates, the variance raised to its upper 95 % bound.
func (a *arena) rotation(feet []foot, chosen []int, side func(uint32) bool, observed float64, rng *rand.Rand, surrogates int, enough float64) (mean, variance float64) {
	values := make([]float64, 0, surrogates)
	touched := make([]uint32, 0, 1024)
	for len(values) < surrogates && !hopeless(values, observed, enough) {
		var o float64
		touched = touched[:0]
		for _, i := range chosen {
			turn := a.turn(a.track[i], rng)
			for _, c := range feet[i].cells {
				base := c - c%a.width
				at, ok := turn.move(c - base)
				if !ok {
					continue
				}
				c = base + at
				if side != nil && !side(at) {
					continue
				}
				o += float64(a.count[c])
				a.count[c]++
				touched = append(touched, c)
			}
		}
		for _, c := range touched {
			a.count[c] = 0
		}
		values = append(values, o)
	}
	return moments(values)
}

// hopeless tells after the first surrogates that the observed overlap is nothing special, or so far from enough evidence
// that the rest are not worth their time.
func hopeless(values []float64, observed, enough float64) bool {
	if len(values) != 8 {
		return false
	}
	below := 0
	for _, v := range values {
		if v <= observed {
			below++
		}
	}
	if below >= 2 {
		return true
	}
	mean, variance := moments(values)
	// The bound on the variance from eight values is some three times the truth.
	return scaledBelow(mean, variance/9, observed) < enough/2
}

// turn is a rotation of the arena's addresses. The circle is as long as the arena, rounded up to a whole number of
// steps: whatever comes to lie in the rest is lost, which only takes overlap from the null.
type turn struct{ shift, circle, width uint32 }

func (t turn) move(at uint32) (uint32, bool) {
	at += t.shift
	if at >= t.circle {
		at -= t.circle
	}
	return at, at < t.width
}

// turn draws a rotation for a track, by a multiple of its grid.
func (a *arena) turn(t *track, rng *rand.Rand) turn {
	g, places := a.step(t)
	return turn{rng.Uint32N(places) * g, places * g, a.width}
}

// step returns the unit by which a track rotates in this arena, and how many places that makes.
func (a *arena) step(t *track) (unit, places uint32) {
	g := max(1, t.align)
	for g > a.width {
		g >>= 1
	}
	return g, (a.width + g - 1) / g
}
