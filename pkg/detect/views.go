package detect

import (
	"math"
	"slices"
)

// Independence is a claim about sources that had the same chances. Where one block was watched in the spring and
// another in the autumn, a source of the spring and one of the autumn cannot meet, and a uniform expectation over both
// blocks takes that for sharing out. So over several blocks only sources are compared that saw the same blocks for the same
// shares of their time; within one block everybody who was seen at all had the same chances.

// Interval is [From, To) in seconds since 1970-01-01 UTC.
type Interval struct{ From, To int64 }

// viewGrain is in how many steps the share of a source's time is told in which a block was watched.
const viewGrain = 4

// views knows when which block was watched. The zero value is "all of them always".
type views struct {
	blocks []Block
	start  int64
}

// newViews returns the views of a universe, whose zero value serves where nothing was ever blind within the window.
func newViews(sp *space, start int64, window uint32) views {
	if len(sp.blocks) < 2 {
		return views{}
	}
	v := views{sp.blocks, start}
	for i := range sp.blocks {
		if v.watched(&sp.blocks[i], 0, window) < 1 {
			return v
		}
	}
	return views{}
}

// watched is the share of [first, last], in seconds after the window's start, in which a block was watched.
func (v views) watched(b *Block, first, last uint32) float64 {
	from, to := v.start+int64(first), v.start+int64(last)+1
	lived := to - from
	cut := func(a, z int64) { lived -= max(0, min(z, to)-max(a, from)) }
	if b.Since != 0 {
		cut(math.MinInt64, b.Since)
	}
	if b.Until != 0 {
		cut(b.Until, math.MaxInt64)
	}
	for _, d := range b.Blind {
		// What lies before Since and behind Until is counted already.
		a, z := d.From, d.To
		if b.Since != 0 {
			a = max(a, b.Since)
		}
		if b.Until != 0 {
			z = min(z, b.Until)
		}
		if a < z {
			cut(a, z)
		}
	}
	return math.Max(0, float64(lived)/float64(to-from))
}

// of hashes what a track could see of the blocks.
func (v views) of(t *track) uint64 {
	h := uint64(0)
	for i := range v.blocks {
		h = hash(h, uint64(math.Round(viewGrain*v.watched(&v.blocks[i], t.first, t.last))))
	}
	return h
}

// apart splits the tracks of spans over several blocks by what they could see.
func (r *run) apart(b *bucket, all []spanTracks) []spanTracks {
	if len(r.views.blocks) == 0 {
		return all
	}
	var out []spanTracks
	for _, st := range all {
		if st.span != r.sp.root() {
			out = append(out, st)
			continue
		}
		for _, part := range partition(st.tracks, func(i int32) uint64 { return r.views.of(b.tracks[i]) }) {
			if len(part) >= r.p.MinSources {
				out = append(out, spanTracks{st.span, part})
			}
		}
	}
	return out
}

// comparable lists the tracks of the bucket that could see what the given ones could, where that matters in s.
func (r *run) comparable(b *bucket, s span, like []*track) []int32 {
	all := b.everyone()
	if len(r.views.blocks) == 0 || s != r.sp.root() || len(like) == 0 {
		return all
	}
	view := r.views.of(like[0])
	return slices.DeleteFunc(all, func(i int32) bool { return r.views.of(b.tracks[i]) != view })
}
