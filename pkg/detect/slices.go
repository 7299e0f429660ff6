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
			for lo := uint64(0); lo < uint64(r.window)+half*width/2 && ctx.Err() == nil; lo += width {
				from := lo - min(lo, half*width/2)
				s := b.slice(uint32(from), uint32(min(lo+width-half*width/2, 1<<32-1)), r.sp, r.window)
				if len(s.tracks) < r.p.MinSources {
					continue
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

// slice returns the bucket as it was from lo to hi, exclusive, of the tracks that were active for longer.
func (b *bucket) slice(lo, hi uint32, sp *space, window uint32) *bucket {
	s := &bucket{kind: b.kind, proto: b.proto, port: b.port, keys: b.keys}
	for _, t := range b.tracks {
		if t == nil || t.last < lo || t.first >= hi || t.last-t.first < hi-lo {
			continue
		}
		c := &track{sources: t.sources, class: t.class, first: ^uint32(0)}
		for i, at := range t.times {
			if at >= lo && at < hi {
				c.cells = append(c.cells, t.cells[i])
				c.times = append(c.times, at)
				c.first, c.last = min(c.first, at), max(c.last, at)
			}
		}
		if len(c.cells) < 2 {
			continue
		}
		c.finish(sp, window)
		c.class[3] = hash(c.class[2], s.habit(c))
		s.tracks = append(s.tracks, c)
	}
	return s
}
