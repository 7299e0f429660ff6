package detect

import (
	"cmp"
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
	runs  []uint32 // usual run of foot i, 0 if its cells are scattered
	sides *sides
	thin  *thinned // a sample of the addresses
	seam  *stretchTable
	of    []int32 // the track of the bucket that foot i is of, ascending
	at    []int32 // the foot of track i of the bucket, -1 for none; nil in an arena of few of the tracks
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
	s.thin, s.seam = &thinned{}, &stretchTable{}
	s.feet, s.track, s.runs = make([]foot, len(members)), make([]*track, len(members)), make([]uint32, len(members))
	for k, i := range members {
		s.feet[k], s.track[k], s.runs[k] = a.feet[i], a.track[i], a.runs[i]
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
	a := &arena{span: s, width: s.size(), keys: 1, work: w, sides: &sides{known: map[sideKey]*sideTable{}}, thin: &thinned{}, seam: &stretchTable{}}
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
	if len(b.keys) > 0 {
		a.ports[0] = b.portOf(0)
	}
	for to, k := range chosen {
		w.number[k] = uint32(to) + 1
		a.ports[to] = b.portOf(uint64(k) << 32)
	}
	room := make([]uint32, 0, most)
	a.of, a.feet = make([]int32, 0, len(members)), make([]foot, 0, len(members))
	a.track, a.runs = make([]*track, 0, len(members)), make([]uint32, 0, len(members))
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
		run := uint32(0)
		if t.shape == shapeRuns {
			run = t.run
		}
		a.runs = append(a.runs, run)
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
		a.weigh(&feet[i], 1)
	}
	return float64(met)
}

// weigh adds a foot's cells to the sums by key, or takes them away if sign is -1. Where there is one key only, the keys of the foot are not asked, here
// and below: each is somewhere else in memory, and to fetch it takes as long as to count a dozen cells.
func (a *arena) weigh(f *foot, sign float64) {
	if a.keys == 1 {
		a.sum[0] += sign * float64(len(f.cells))
		return
	}
	for _, k := range f.keys {
		a.sum[k.key] += sign * k.n
	}
}

// leave takes feet out again.
func (a *arena) leave(feet []foot, set []int) {
	for _, i := range set {
		a.drop(feet[i].cells)
		a.weigh(&feet[i], -1)
	}
}

// wipe ends what enter began, with the feet that are still counted.
func (a *arena) wipe(feet []foot, set []int) {
	a.clear(feet, set)
	a.clearSums(feet, set)
}

// meets returns expected and observed coincidences of a foot with those that were entered; self is 1 if it is one of them,
// else 0.
func (a *arena) meets(f *foot, self, n float64) (e, o float64) {
	return a.expects(f, self, n), float64(a.met(f.cells)) - self*float64(len(f.cells))
}

// expects is how often a foot meets those that were entered if they are independent; self is 1 if it is one of them, else 0.
func (a *arena) expects(f *foot, self, n float64) (e float64) {
	if a.keys == 1 {
		own := float64(len(f.cells))
		return own * (a.sum[0] - self*own) / n
	}
	for _, k := range f.keys {
		e += k.n * (a.sum[k.key] - self*k.n)
	}
	return e / n
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
	if a.keys == 1 {
		var sum, sum2 float64
		for _, i := range chosen {
			own := float64(len(feet[i].cells))
			sum, sum2 = sum+own, sum2+own*own
		}
		return (sum*sum - sum2) / (2 * n)
	}
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
