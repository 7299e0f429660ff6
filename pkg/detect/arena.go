package detect

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
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
	work  *scratch // whose counters they are
	track []*track // of foot i
	sides *sides
	thin  *thinned // a sample of the addresses
	of    []int32  // the track of the bucket that foot i is of, ascending
	at    []int32  // the foot of track i of the bucket, -1 for none; nil in an arena of few of the tracks
}

// scratch is the counters of one worker, and room for what a test needs for a moment. Arenas of one bucket share them: whoever
// counts leaves zeros.
type scratch struct {
	count     []uint32
	sum, sum2 []float64
	number    []uint32 // by key of a bucket
	fold      [2]foldRoom
}

// foldRoom is room for the feet of one half of the addresses.
type foldRoom struct {
	feet  []foot
	cells []uint32
	keys  []keyCount
}

// empty returns the room without anything in it, large enough for that many feet and cells.
func (r *foldRoom) empty(feet, cells int) *foldRoom {
	if cap(r.feet) < feet {
		r.feet = make([]foot, feet)
	}
	if cap(r.cells) < cells {
		r.cells = make([]uint32, 0, cells)
	}
	r.feet, r.cells, r.keys = r.feet[:feet], r.cells[:0], r.keys[:0]
	clear(r.feet)
	return r
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

// on returns the arena with the counters of another worker.
func (a *arena) on(w *scratch) *arena {
	if a.work == w {
		return a
	}
	s := *a
	s.work = w
	s.count, s.sum, s.sum2 = w.reserve(a.keys*int(a.width), a.keys)
	return &s
}

// sides caches the halves of an arena's addresses: all of its groups are split alike.
type sides struct {
	mu    sync.Mutex
	known map[sideKey]*sideTable
}

type sideKey struct {
	seed  uint64
	shift uint
	part  float64
}

type sideTable struct {
	of        []uint8    // by address: 0, 1, or 2 for neither
	in        [2][]uint8 // by address: 1 in that half, else 0
	addresses [2]float64
}

// sub returns the arena of some of the feet alone. It shares the scratch arrays.
func (a *arena) sub(members []int) *arena {
	s := *a
	s.thin = &thinned{}
	s.feet, s.track = make([]foot, len(members)), make([]*track, len(members))
	for k, i := range members {
		s.feet[k], s.track[k] = a.feet[i], a.track[i]
	}
	return &s
}

// feetOf returns the feet of tracks of the bucket, given by their places in it, ascending.
func (a *arena) feetOf(members []int32) []int {
	feet := make([]int, 0, len(members))
	if a.at != nil {
		for _, i := range members {
			if k := a.at[i]; k >= 0 {
				feet = append(feet, int(k))
			}
		}
		return feet
	}
	at := 0 // feet before it are of tracks before the member
	for _, i := range members {
		// Double the stride until it is past the member, then halve it: next to nothing where the members are dense, and little
		// where they are not.
		hi := at + 1
		for hi < len(a.of) && a.of[hi] < i {
			at, hi = hi, hi+2*(hi-at)
		}
		k, ok := slices.BinarySearch(a.of[at:min(hi+1, len(a.of))], i)
		if at += k; ok {
			feet = append(feet, at)
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

// maxArena bounds the cells of an arena: keys × addresses, four bytes of counter each. Counters that do not fit into a cache
// are what a detection spends its time on, so an arena should not have many more cells than the footprints in it either,
// once it has smallArena. Beyond either bound the keys on which the sources expect the fewest meetings are left out.
const (
	maxArena    = 1 << 27
	smallArena  = 1 << 22
	roomPerFoot = 4 // cells of an arena for each cell of a footprint
	fewKeys     = 8 // as many are kept whatever the room, up to maxArena
)

// newArena cuts the tracks to s, counting with w.
func newArena(b *bucket, w *scratch, members []int32, s span) *arena {
	a := &arena{span: s, width: s.size(), keys: 1, work: w, sides: &sides{known: map[sideKey]*sideTable{}}, thin: &thinned{}}
	most := 0
	for _, i := range members {
		if t := b.tracks[i]; t != nil {
			most += len(t.cells)
		}
	}
	var chosen []uint32
	if len(b.keys) > 1 {
		chosen = w.chooseKeys(b, members, a.room(most))
		a.keys = max(1, len(chosen))
	}
	a.ports = make([]uint16, a.keys)
	a.ports[0] = b.portOf(0)
	for to, k := range chosen {
		w.number[k] = uint32(to) + 1
		a.ports[to] = b.portOf(uint64(k) << 32)
	}
	room := make([]uint32, 0, most)
	for _, i := range members {
		t := b.tracks[i]
		if t == nil {
			continue
		}
		var f foot
		f.cells, room = a.cut(room, t, len(b.keys) > 1)
		if len(f.cells) == 0 {
			continue
		}
		if f.keys = t.tally; len(b.keys) > 1 || len(f.cells) < len(t.cells) {
			f.keys = a.tallyKeys(nil, f.cells)
		}
		a.of = append(a.of, i)
		a.feet = append(a.feet, f)
		a.track = append(a.track, t)
	}
	for _, k := range chosen {
		w.number[k] = 0
	}
	if len(b.tracks) <= 16*len(a.of) {
		a.at = make([]int32, len(b.tracks))
		for i := range a.at {
			a.at[i] = -1
		}
		for k, i := range a.of {
			a.at[i] = int32(k)
		}
	}
	a.count, a.sum, a.sum2 = w.reserve(a.keys*int(a.width), a.keys)
	return a
}

// room is how many keys an arena of footprints of so many cells has room for.
func (a *arena) room(cells int) int {
	width := uint64(a.width)
	room := min(maxArena, max(smallArena, roomPerFoot*uint64(cells))) / width
	return int(max(1, room, min(fewKeys, maxArena/width)))
}

// cut numbers the cells of a track that lie in the arena, behind what is in the room already. Numbers of keys are in the scratch, one
// too many, where there are several keys.
func (a *arena) cut(room []uint32, t *track, several bool) (out, rest []uint32) {
	from := len(room)
	cells := t.cells
	for _, k := range t.tally {
		base := uint32(0)
		if several {
			to := a.work.number[k.key]
			if to == 0 {
				cells = cells[int(k.n):]
				continue
			}
			base = (to - 1) * a.width
		}
		for _, c := range cells[:int(k.n)] {
			if at := uint32(c) - a.span.lo; at < a.width {
				room = append(room, base+at)
			}
		}
		cells = cells[int(k.n):]
	}
	return room[from:len(room):len(room)], room
}

// chooseKeys returns the keys of the bucket that the members used, ascending; if there are more than room, those on which the members
// expect most meetings. Which are kept depends on who used them how much, not on who met whom.
func (w *scratch) chooseKeys(b *bucket, members []int32, room int) []uint32 {
	if len(w.number) < len(b.keys) {
		w.number = make([]uint32, len(b.keys))
	}
	w.reserve(0, len(b.keys))
	var used []uint32
	for _, i := range members {
		t := b.tracks[i]
		if t == nil {
			continue
		}
		for _, k := range t.tally {
			if w.sum[k.key] == 0 {
				used = append(used, k.key)
			}
			w.sum[k.key] += k.n
			w.sum2[k.key] += k.n * k.n
		}
	}
	kept := used
	if len(used) > room {
		expect := func(k uint32) float64 { return w.sum[k]*w.sum[k] - w.sum2[k] }
		slices.SortFunc(used, func(x, y uint32) int {
			return cmp.Or(cmp.Compare(expect(y), expect(x)), cmp.Compare(w.sum[y], w.sum[x]), cmp.Compare(x, y))
		})
		kept = used[:room]
	}
	for _, k := range used {
		w.sum[k], w.sum2[k] = 0, 0
	}
	slices.Sort(kept)
	return kept
}

// tallyKeys counts sorted cells by key, behind what is in the room already.
func (a *arena) tallyKeys(room []keyCount, cells []uint32) []keyCount {
	if a.keys == 1 {
		return append(room, keyCount{0, float64(len(cells))})
	}
	from := len(room)
	end := uint32(0) // of the key's cells
	for _, c := range cells {
		if len(room) == from || c >= end {
			k := c / a.width
			end = (k + 1) * a.width
			room = append(room, keyCount{k, 0})
		}
		room[len(room)-1].n++
	}
	return room
}

// add counts cells and returns how many of those that were counted before they meet.
func (a *arena) add(cells []uint32) (met uint64) {
	count := a.count
	for _, c := range cells {
		n := count[c]
		met += uint64(n)
		count[c] = n + 1
	}
	return met
}

// drop takes cells out of the counts.
func (a *arena) drop(cells []uint32) {
	count := a.count
	for _, c := range cells {
		count[c]--
	}
}

// met adds up the counts of cells.
func (a *arena) met(cells []uint32) (sum uint64) {
	count := a.count
	for _, c := range cells {
		sum += uint64(count[c])
	}
	return sum
}

// enter counts the cells of feet, and their sums by key. It returns how often they meet one another.
func (a *arena) enter(feet []foot, set []int) (observed float64) {
	var met uint64
	for _, i := range set {
		met += a.add(feet[i].cells)
		for _, k := range feet[i].keys {
			a.sum[k.key] += k.n
		}
	}
	return float64(met)
}

// leave takes feet out again.
func (a *arena) leave(feet []foot, set []int) {
	for _, i := range set {
		a.drop(feet[i].cells)
		for _, k := range feet[i].keys {
			a.sum[k.key] -= k.n
		}
	}
}

// wipe ends what enter began, with the feet that are still counted.
func (a *arena) wipe(feet []foot, set []int) {
	a.clear(feet, set)
	a.clearSums(feet, set)
}

// meets returns expected and observed coincidences of a foot with those that were entered; self is 1 if it is one of them,
// else 0.
func (a *arena) meets(f foot, self, n float64) (e, o float64) {
	for _, k := range f.keys {
		e += k.n * (a.sum[k.key] - self*k.n)
	}
	return e / n, float64(a.met(f.cells)) - self*float64(len(f.cells))
}

// overlap returns expected and observed coincidences of the chosen feet among each other, when every key has
// n addresses.
func (a *arena) overlap(feet []foot, chosen []int, n float64) (expected, observed float64) {
	var met uint64
	for _, i := range chosen {
		met += a.add(feet[i].cells)
	}
	a.clear(feet, chosen)
	return a.expected(feet, chosen, n), float64(met)
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

// wiping tells whether the counts of so many cells are cleared faster with all others: wiping an array in order is some eight
// times as fast as to hit its places one by one.
func (a *arena) wiping(cells int) bool { return len(a.count) <= 8*cells }

func (a *arena) clear(feet []foot, chosen []int) {
	if a.wiping(cellsOf(feet, chosen)) {
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
// every foot in two. It returns the number of addresses in each half, and for each address of the arena 1 where it is in that half. What it returns lasts
// until the next call on the same counters.
func (a *arena) halves(seed uint64, shift uint, chosen []int) (fold [2][]foot, addresses [2]float64, in [2][]uint8) {
	part := 0.5
	if n := float64(cellsOf(a.feet, chosen)); n > 2*maxHalf {
		part = maxHalf / n
	}
	table := a.split(sideKey{seed, shift, part})
	cells := cellsOf(a.feet, chosen)
	rooms := [2]*foldRoom{a.work.fold[0].empty(len(a.feet), cells), a.work.fold[1].empty(len(a.feet), cells)}
	for _, i := range chosen {
		a.foldFoot(i, table.of, rooms)
	}
	return [2][]foot{rooms[0].feet, rooms[1].feet}, table.addresses, table.in
}

// foldFoot cuts one foot in two.
func (a *arena) foldFoot(i int, side []uint8, rooms [2]*foldRoom) {
	left, right := rooms[0].cells, rooms[1].cells
	from := [2]int{len(left), len(right)}
	rest := a.feet[i].cells
	for _, k := range a.feet[i].keys {
		base := k.key * a.width
		for _, c := range rest[:int(k.n)] {
			switch side[c-base] {
			case 0:
				left = append(left, c)
			case 1:
				right = append(right, c)
			}
		}
		rest = rest[int(k.n):]
	}
	rooms[0].cells, rooms[1].cells = left, right
	for h, r := range rooms {
		cells := r.cells[from[h]:len(r.cells):len(r.cells)]
		at := len(r.keys)
		r.keys = a.tallyKeys(r.keys, cells)
		r.feet[i] = foot{cells, r.keys[at:len(r.keys):len(r.keys)]}
	}
}

// split deals out the addresses.
func (a *arena) split(k sideKey) *sideTable {
	a.sides.mu.Lock()
	defer a.sides.mu.Unlock()
	if t := a.sides.known[k]; t != nil {
		return t
	}
	t := &sideTable{of: make([]uint8, a.width), in: [2][]uint8{make([]uint8, a.width), make([]uint8, a.width)}}
	var h uint8
	for i := range t.of {
		if i&(1<<k.shift-1) == 0 {
			u := float64(hash(k.seed, uint64(i>>k.shift))) / (1 << 64)
			h = uint8(min(2, int(u/k.part)))
		}
		if t.of[i] = h; h < 2 {
			t.in[h][i] = 1
			t.addresses[h]++
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
	best, bestScore := slices.Clone(set), -1.0
	z := make([]float64, len(feet))
	a.enter(feet, set)
	for len(set) >= least {
		expected, observed := a.scores(feet, set, n, z)
		if s := chernoffBelow(expected, observed); s > bestScore {
			best, bestScore = slices.Clone(set), s
		}
		if chernoffBelow(expected, 0) <= bestScore {
			break // Nothing that is left could reach more.
		}
		// Small sets go step by step: what is left then is what is tested.
		share := 10
		if len(set) > 500 {
			share = 5
		}
		stay := len(set) - max(1, len(set)/share)
		lowest(set, stay, func(i, j int) bool { return z[i] < z[j] || z[i] == z[j] && i < j })
		a.leave(feet, set[stay:])
		set = set[:stay]
	}
	a.wipe(feet, set)
	slices.Sort(best)
	return best
}

// lowest brings the n lowest elements of a list to its front, in no order (Hoare's FIND, CACM 4, 1961). Less must be a strict total
// order, so that which they are is certain.
func lowest(list []int, n int, less func(i, j int) bool) {
	lo, hi := 0, len(list)-1
	for lo < hi {
		pivot := list[lo+(hi-lo)/2]
		i, j := lo, hi
		for i <= j {
			for less(list[i], pivot) {
				i++
			}
			for less(pivot, list[j]) {
				j--
			}
			if i <= j {
				list[i], list[j] = list[j], list[i]
				i, j = i+1, j-1
			}
		}
		switch {
		case n <= j:
			hi = j
		case n >= i:
			lo = i
		default:
			return
		}
	}
}

// scores fills z[i] with (observed - expected)/√expected of every foot in the set against the rest of the set, which was
// entered, and returns the overlap of the set.
func (a *arena) scores(feet []foot, set []int, n float64, z []float64) (expected, observed float64) {
	for _, i := range set {
		e, o := a.meets(feet[i], 1, n)
		expected += e / 2
		observed += o / 2
		z[i] = (o - e) / math.Sqrt(e+1)
	}
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
	type meeting struct{ e, o float64 }
	meetings := make([]meeting, len(chosen))
	for round := 0; round < 12 && len(set) >= least; round++ {
		clear(in)
		for _, i := range set {
			in[i] = true
		}
		var expected, observed float64
		at := 0
		a.against(feet, set, chosen, in, n, func(i int, e, o float64) {
			meetings[at] = meeting{e, o}
			at++
			if in[i] {
				expected, observed = expected+e/2, observed+o/2
			}
		})
		eps := clamp((observed+0.5)/(expected+1), 0.02, 0.5)
		bar := math.Log(float64(len(chosen)-len(set)+1) / float64(len(set)+1))
		var next []int
		for k, i := range chosen {
			if llr(meetings[k].e, meetings[k].o, eps) > max(0, bar) {
				next = append(next, i)
			}
		}
		if slices.Equal(next, set) {
			return set
		}
		set = next
	}
	return set
}

// llr is the log-likelihood ratio of a member (overlap rate eps·e) against a stranger (rate e).
func llr(e, o, eps float64) float64 { return e*(1-eps) + o*math.Log(eps) }

// against calls f with expected and observed coincidences of every chosen foot, in their order, against the set, itself left out.
func (a *arena) against(feet []foot, set, chosen []int, in []bool, n float64, f func(i int, e, o float64)) {
	a.enter(feet, set)
	for _, i := range chosen {
		var self float64
		if in[i] {
			self = 1
		}
		e, o := a.meets(feet[i], self, n)
		f(i, e, o)
	}
	a.wipe(feet, set)
}

// rotation is the rotation null: every footprint is moved by a random rotation of the arena's addresses, by a
// multiple of its own grid, which keeps its structure and destroys any agreement with the others. Rotations make
// the overlaps of pairs uncorrelated, so that the variance needs few surrogates. It returns mean and variance of the
// observed overlap among surrogates, the variance raised to its upper 95 % bound. Where half is not nil only coincidences on
// addresses count for which it is 1; it is 0 for the others.
func (a *arena) rotation(feet []foot, chosen []int, half []uint8, observed float64, rng *rand.Rand, surrogates int, enough float64) (mean, variance float64) {
	values := make([]float64, 0, surrogates)
	turns := make([]turn, len(chosen))
	shared := a.shared(feet, chosen)
	count := a.count[:a.width] // one key after the other, so that they stay in the cache
	for len(values) < surrogates && !hopeless(values, observed, enough) {
		for k, i := range chosen {
			turns[k] = a.turn(a.track[i], rng)
		}
		var o uint64
		for _, k := range shared {
			for _, s := range k.shares {
				o += turns[s.of].put(s.cells, k.base, count, half)
			}
			if int(a.width) <= 8*k.cells {
				clear(count)
				continue
			}
			for _, s := range k.shares {
				turns[s.of].wipe(s.cells, k.base, count)
			}
		}
		values = append(values, float64(o))
	}
	return moments(values)
}

// sharedKey is a key that several feet have cells under.
type sharedKey struct {
	base   uint32 // its first cell
	cells  int
	shares []keyShare
}

// keyShare is the cells of one foot under a key.
type keyShare struct {
	of    int // place of the foot in the list of chosen ones
	cells []uint32
}

// shared lists the keys on which the chosen feet could meet at all.
func (a *arena) shared(feet []foot, chosen []int) []sharedKey {
	keys := make([]sharedKey, a.keys)
	for k, i := range chosen {
		rest := feet[i].cells
		for _, c := range feet[i].keys {
			n := int(c.n)
			at := &keys[c.key]
			at.base = c.key * a.width
			at.cells += n
			at.shares = append(at.shares, keyShare{k, rest[:n]})
			rest = rest[n:]
		}
	}
	return slices.DeleteFunc(keys, func(k sharedKey) bool { return len(k.shares) < 2 })
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

// arc is a part of a key's sorted cells that a rotation moves by the same distance. Arithmetic is modulo 2^32: less is a detour.
type arc struct {
	cells []uint32
	shift uint32
}

// arcs cuts sorted cells of the key that begins at base in two: those that stay ahead of the end of the circle, and those that
// come round. Shifts lead to addresses.
func (t turn) arcs(cells []uint32, base uint32) [2]arc {
	over, _ := slices.BinarySearch(cells, base+t.circle-t.shift)
	return [2]arc{{cells[:over], t.shift - base}, {cells[over:], t.shift - t.circle - base}}
}

// put counts, by address, the cells of one key where they come to lie, and returns how many of those that were counted
// before they meet. Where half is not nil it tells by 1 or 0 which addresses count: a branch would be guessed wrong half of the time.
func (t turn) put(cells []uint32, base uint32, count []uint32, half []uint8) (met uint64) {
	for _, part := range t.arcs(cells, base) {
		if half == nil {
			for _, c := range part.cells {
				if at := int(c + part.shift); at < len(count) {
					met += uint64(count[at])
					count[at]++
				}
			}
			continue
		}
		for _, c := range part.cells {
			if at := int(c + part.shift); at < len(count) {
				n, one := count[at], uint32(half[at])
				met += uint64(n * one)
				count[at] = n + one
			}
		}
	}
	return met
}

// wipe sets to zero what put counted.
func (t turn) wipe(cells []uint32, base uint32, count []uint32) {
	for _, part := range t.arcs(cells, base) {
		for _, c := range part.cells {
			if at := int(c + part.shift); at < len(count) {
				count[at] = 0
			}
		}
	}
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
