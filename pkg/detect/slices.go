package detect

import "context"

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
			for _, s := range b.slices(width, half*width/2, r) {
				if ctx.Err() != nil {
					return found
				}
				more, _ := r.explore(ctx, s, 2*float64(r.buckets)*float64(total))
				for i := range more {
					more[i].sliced = true
				}
				found = append(found, more...)
			}
		}
	}
	return found
}

// slices cuts the bucket into slices of time of this width, the first one shorter by shift. A slice holds the tracks that were
// active for longer than it lasts, cut to it. Slices with too few of them are left out.
func (b *bucket) slices(width, shift uint64, r *run) []*bucket {
	n := (uint64(r.window)+shift)/width + 1
	out := make([]*bucket, n)
	parts := make([]*track, n)
	var used []uint64
	for _, t := range b.tracks {
		if t == nil || uint64(t.last-t.first) < width-shift || t.last == ^uint32(0) {
			continue
		}
		for i, at := range t.times {
			k := (uint64(at) + shift) / width
			if k >= n {
				continue
			}
			if parts[k] == nil {
				parts[k] = &track{sources: t.sources, class: t.class, first: ^uint32(0)}
				used = append(used, k)
			}
			c := parts[k]
			c.cells = append(c.cells, t.cells[i])
			c.times = append(c.times, at)
			c.first, c.last = min(c.first, at), max(c.last, at)
		}
		for _, k := range used {
			lasts := width
			if k == 0 {
				lasts = width - shift
			}
			if c := parts[k]; len(c.cells) >= 2 && uint64(t.last-t.first) >= lasts {
				if out[k] == nil {
					out[k] = &bucket{kind: b.kind, proto: b.proto, port: b.port, keys: b.keys, work: b.work}
				}
				out[k].tracks = append(out[k].tracks, c)
			}
			parts[k] = nil
		}
		used = used[:0]
	}
	var busy []*bucket
	for _, s := range out {
		if s != nil && len(s.tracks) >= r.p.MinSources {
			for _, c := range s.tracks {
				c.finish(r.sp, r.window)
				c.class[3] = hash(c.class[2], s.habit(c))
			}
			busy = append(busy, s)
		}
	}
	return busy
}
