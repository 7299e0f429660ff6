package detect

// pile hands out pieces of memory that it takes from the heap by the thousand. A detection makes millions of tracks of a few hundred bytes
// each, and what allocation and the collector take goes by their number.
type pile[T any] struct {
	free []T
	last int // elements asked of the heap the last time
}

// mostPiled bounds what is asked of the heap at once, in elements: memory that is handed out lives as long as any of its neighbours.
const mostPiled = 1 << 13

// take returns n zeroed elements with no room behind them.
func (p *pile[T]) take(n int) []T {
	if n > len(p.free) {
		p.last = max(n, min(2*p.last, mostPiled))
		p.free = make([]T, p.last)
	}
	out := p.free[:n:n]
	p.free = p.free[n:]
	return out
}

// trackMaker makes the tracks of a bucket, and holds what it needs for each of them only for a moment.
type trackMaker struct {
	sp     *space
	window uint32

	tracks  pile[track]
	sources pile[int32]
	cells   pile[uint64]
	times   pile[uint32]
	tallies pile[keyCount]
	paths   pile[span]

	targets []uint32
	path    []span
	tally   []keyCount
}

// track returns a new track of the sources with room for so many cells, and none yet.
func (m *trackMaker) track(sources []int32, cells int) *track {
	t := &m.tracks.take(1)[0]
	t.sources, t.first = sources, ^uint32(0)
	t.cells, t.times = m.cells.take(cells)[:0], m.times.take(cells)[:0]
	return t
}

// source returns a list of one source.
func (m *trackMaker) source(i int32) []int32 {
	s := m.sources.take(1)
	s[0] = i
	return s
}

// keep copies a list to where it stays.
func keep[T any](p *pile[T], list []T) []T {
	out := p.take(len(list))
	copy(out, list)
	return out
}
