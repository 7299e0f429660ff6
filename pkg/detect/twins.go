package detect

import (
	"math"
	"slices"
)

// twins merges tracks that did the very same random share: the same shard of the same seed run twice, by a source
// that took over from another or by a mistake. Independent random samplers never do that, so that merging takes
// no overlap away from them; blocks and strides, which can coincide by chance, are never merged.
func (b *bucket) twins(sp *space, window uint32) {
	const least = 8 // cells
	type sketch [2]uint64
	buckets := map[sketch][]int{}
	keys := make([][3]sketch, len(b.tracks))
	for i, t := range b.tracks {
		if t.shape != shapeScatter || len(t.cells) < least {
			continue
		}
		low := bottom(t.cells)
		keys[i] = [3]sketch{{low[0], low[1]}, {low[1], low[2]}, {low[0], low[2]}}
		for _, k := range keys[i] {
			buckets[k] = append(buckets[k], i)
		}
	}
	parent := make([]int, len(b.tracks))
	for i := range parent {
		parent[i] = i
	}
	root := func(i int) int {
		for parent[i] != i {
			i = parent[i]
		}
		return i
	}
	merged := false
	for i, t := range b.tracks {
		if t.shape != shapeScatter || len(t.cells) < least {
			continue
		}
		for _, k := range keys[i] {
			// Comparing with the first of a sketch is enough: twins of one another are twins of the first.
			if j := buckets[k][0]; j < i && root(i) != root(j) && alike(t, b.tracks[j]) {
				parent[root(i)] = root(j)
				merged = true
			}
		}
	}
	if !merged {
		return
	}
	var out []*track
	at := map[int]*track{}
	for i, t := range b.tracks {
		r := root(i)
		if at[r] == nil {
			at[r] = t
			out = append(out, t)
			continue
		}
		at[r].join(t)
	}
	for _, t := range out {
		if len(t.sources) > 1 {
			t.finish(sp, window)
		}
	}
	b.tracks = out
}

func (t *track) join(o *track) {
	t.sources = append(t.sources, o.sources...)
	t.cells = slices.Concat(t.cells, o.cells)
	t.times = slices.Concat(t.times, o.times)
	t.first, t.last = min(t.first, o.first), max(t.last, o.last)
	t.sort()
}

// bottom returns the three smallest hashes of the cells (bottom-k sketch, Cohen 1997).
func bottom(cells []uint64) [3]uint64 {
	low := [3]uint64{math.MaxUint64, math.MaxUint64, math.MaxUint64}
	for _, c := range cells {
		h := hash(c)
		switch {
		case h < low[0]:
			low[0], low[1], low[2] = h, low[0], low[1]
		case h < low[1]:
			low[1], low[2] = h, low[1]
		case h < low[2]:
			low[2] = h
		}
	}
	return low
}

// alike says whether two random shares coincide far beyond chance: more than half of their union, and by more
// than 10^-12 allows where both aim at.
func alike(a, b *track) bool {
	both, i, j := 0, 0, 0
	for i < len(a.cells) && j < len(b.cells) {
		switch {
		case a.cells[i] == b.cells[j]:
			both++
			i++
			j++
		case a.cells[i] < b.cells[j]:
			i++
		default:
			j++
		}
	}
	if 2*both < len(a.cells)+len(b.cells)-both {
		return false
	}
	keys := map[uint64]bool{}
	for _, c := range a.cells {
		keys[c>>32] = true
	}
	hull := a.path[len(a.path)-1].size()
	e := float64(len(a.cells)) * float64(len(b.cells)) / (float64(hull) * float64(len(keys)))
	o := float64(both)
	return o > e && o*math.Log(o/e)-(o-e) > 12*math.Ln10
}
