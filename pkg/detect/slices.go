package detect

import (
	"context"
	"slices"
)

// sliceLevels is how often the window is halved when the cells themselves, and not only the sources, are cut in time.
const sliceLevels = 5

// slices looks for campaigns that cover their space again and again, each time with a fresh assignment: over the whole
// window they overlap themselves, within a slice of time they do not. The slices are those of two grids of
// halved windows, the second shifted by half a slice. Only sources that were active for longer than a slice are
// compared there: the others were, whole, by the groups of explore.
func (r *run) slices(ctx context.Context, b *bucket) (found []find) {
	total := 0
	for level := 1; level <= sliceLevels; level++ {
		total += 2<<level + 1
	}
	for level := 1; level <= sliceLevels && len(found) == 0; level++ {
		width := uint64(r.window)>>level + 1
		for half := range uint64(2) {
			all := b.slices(width, half*width/2, r)
			more := make([][]find, len(all))
			r.pool.share(ctx, b.work, len(all), func(i int, w *scratch) {
				s := all[i]
				all[i] = nil // so that its memory is free when it is done
				s.work = w
				s.finish(r)
				more[i], _ = r.explore(ctx, s, 2*float64(r.buckets)*float64(total))
			})
			found = append(found, slices.Concat(more...)...)
		}
	}
	for i := range found {
		found[i].sliced = true
	}
	return found
}

// slices cuts the bucket into slices of time of this width, the first one shorter by shift. A slice holds the tracks that were
// active for longer than it lasts, cut to it. Slices with too few of them are left out.
func (b *bucket) slices(width, shift uint64, r *run) []*bucket {
	n := (uint64(r.window)+shift)/width + 1
	out := make([]*bucket, n)
	for k := range out {
		from := uint64(k) * width
		out[k] = &bucket{kind: b.kind, proto: b.proto, port: b.port, keys: b.keys, time: frame{max(shift, from) - shift, from + width - shift, 0}}
	}
	makers := make([]trackMaker, n)
	count := make([]int, n)
	parts := make([]*track, n)
	for _, t := range b.tracks {
		if t == nil || uint64(t.last-t.first) < width-shift || t.last == ^uint32(0) {
			continue
		}
		clear(count)
		for _, at := range t.times {
			if k := (uint64(at) + shift) / width; k < n {
				count[k]++
			}
		}
		for k, cells := range count {
			lasts := out[k].time.hi - out[k].time.lo
			if parts[k] = nil; cells >= 2 && uint64(t.last-t.first) >= lasts {
				parts[k] = makers[k].track(t.sources, cells)
				parts[k].class = t.class
				out[k].tracks = append(out[k].tracks, parts[k])
			}
		}
		for i, at := range t.times {
			k := (uint64(at) + shift) / width
			if k >= n || parts[k] == nil {
				continue
			}
			c := parts[k]
			c.cells = append(c.cells, t.cells[i])
			c.times = append(c.times, at)
			c.first, c.last = min(c.first, at), max(c.last, at)
		}
	}
	return slices.DeleteFunc(out, func(s *bucket) bool { return len(s.tracks) < r.p.MinSources })
}

// finish describes the tracks of a slice.
func (b *bucket) finish(r *run) {
	m := trackMaker{sp: r.sp, window: r.window}
	for _, c := range b.tracks {
		m.finish(c)
		c.class[3] = hash(c.class[2], b.habit(c))
	}
}
