package detect

import (
	"cmp"
	"context"
	"math/bits"
	"slices"

	"murmuration/pkg/event"
)

// kind says which cells of the sources a bucket compares.
type kind uint8

const (
	// perPort compares the addresses that sources touched on one port.
	perPort kind = iota
	// manyPorts compares (address, port) of the sources of one protocol that have no dominant port.
	manyPorts
	// perObject compares (address, port, object).
	perObject
)

// bucket is a set of sources that are comparable at all: they touched the same port, or the same protocol.
type bucket struct {
	kind   kind
	proto  int8
	port   uint16
	keys   []uint64 // what the key number of a cell stands for: port, or port<<32 | object
	tracks []*track
	time   frame
	work   *scratch // of the worker that explores it
}

// track is what one source did in one bucket: its footprint there and how it scans. Sources that did the
// very same random share are one track with several sources.
type track struct {
	sources []int32
	cells   []uint64   // key number << 32 | target, sorted, distinct
	times   []uint32   // first touch of each cell, seconds after the window's start
	first   uint32     // earliest touch
	last    uint32     // latest touch
	targets int        // distinct
	tally   []keyCount // cells by key number, keys ascending
	most    float64    // cells under the key that has most
	path    []span     // of the tree, from the root to the hull

	class [4]uint64 // behaviour, coarse to fine: anything, tool, everything the packets give, that and the same ports or amount
	shape shape
	run   uint32 // usual number of consecutive addresses, at least 1
	align uint32 // power of two on which its runs begin and end, 1 for none
	busy  bool   // touched cells during at least half of the window
}

// shape is what a footprint looks like, whatever part of the space it lies in.
type shape uint8

const (
	shapeAny shape = iota
	shapeScatter
	shapeRuns
	shapeStride
)

// loose is the share of a source's cells that may lie outside of what it aims at.
const loose = 0.05

// dominant is the share of its cells from which on a port speaks for the whole source.
const dominant = 0.8

// segment is a run of one source's cells in Input order.
type segment struct {
	source int32
	cells  []Cell
}

// index holds the cells of the input by protocol and port, sources in their order.
type index struct {
	in    *Input
	ports map[Port][]segment
	order []Port
	multi map[int8][]segment // sources without a dominant port, by protocol
	objs  map[int8][]segment // sources with objects, by protocol
	// class of every source.
	class [][3]uint64

	sources, cells, outside int
}

// newIndex sorts out the cells. Cells outside of the universe are counted and ignored; cells out of order
// are sorted into a copy.
func newIndex(ctx context.Context, in *Input, sp *space) (*index, error) {
	known := sharedTargets(in, sp)
	ix := &index{in: in, ports: map[Port][]segment{}, multi: map[int8][]segment{}, objs: map[int8][]segment{}, class: make([][3]uint64, len(in.Sources))}
	for i := range in.Sources {
		if i%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s := &in.Sources[i]
		cells := usable(s.Cells, sp.total)
		if known != nil {
			cells = slices.DeleteFunc(slices.Clone(cells), func(c Cell) bool { return known[c.Target] == 1 })
		}
		ix.outside += len(s.Cells) - len(cells)
		if len(cells) == 0 {
			continue
		}
		ix.sources++
		ix.cells += len(cells)
		ix.class[i] = classes(&s.Behaviour)
		ix.add(int32(i), cells)
	}
	for p := range ix.ports {
		ix.order = append(ix.order, p)
	}
	slices.SortFunc(ix.order, func(a, b Port) int { return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port)) })
	return ix, nil
}

// add enters one source's cells, which are sorted and inside the universe.
func (ix *index) add(source int32, cells []Cell) {
	for len(cells) > 0 {
		proto := cells[0].Proto
		n := 1
		for n < len(cells) && cells[n].Proto == proto {
			n++
		}
		all := cells[:n]
		cells = cells[n:]
		most, ports, objects := 0, 0, false
		for rest := all; len(rest) > 0; {
			k := 1
			for k < len(rest) && rest[k].Port == rest[0].Port {
				k++
			}
			p := Port{Proto: event.Proto(proto), Port: rest[0].Port}
			ix.ports[p] = append(ix.ports[p], segment{source, rest[:k]})
			most = max(most, k)
			ports++
			for _, c := range rest[:k] {
				objects = objects || c.Object != 0
			}
			rest = rest[k:]
		}
		if ports > 1 && float64(most) < dominant*float64(len(all)) {
			ix.multi[proto] = append(ix.multi[proto], segment{source, all})
		}
		if objects {
			ix.objs[proto] = append(ix.objs[proto], segment{source, all})
		}
	}
}

// listed is the number of host bits beyond which a block that has fewer addresses than its prefix is taken for a list of
// the addresses that somebody probed, and not of those that are watched.
const listed = 24

// sharedTargets counts, up to two, the sources that touched each target of blocks that only list what was probed (IPv6). Such
// a list makes any group look as if it had shared it out: what one source alone touched is in it because of
// that source. Only what two sources have touched may count. Targets of other blocks have the count 0; it returns nil
// where there is no such block.
func sharedTargets(in *Input, sp *space) []uint8 {
	list := make([]*Block, 0, len(sp.blocks))
	for i := range sp.blocks {
		b := &sp.blocks[i]
		if host := b.Prefix.Addr().BitLen() - b.Prefix.Bits(); b.Prefix.IsValid() && host > listed && (host >= 32 || b.Size < 1<<host) {
			list = append(list, b)
		}
	}
	if len(list) == 0 {
		return nil
	}
	count := make([]uint8, sp.total)
	last := make([]int32, sp.total)
	for i := range in.Sources {
		for _, c := range in.Sources[i].Cells {
			if c.Target >= sp.total || last[c.Target] == int32(i)+1 || count[c.Target] == 2 {
				continue
			}
			if slices.ContainsFunc(list, func(b *Block) bool { return c.Target >= b.First && c.Target < b.First+b.Size }) {
				last[c.Target] = int32(i) + 1
				count[c.Target]++
			}
		}
	}
	return count
}

func compareCells(a, b Cell) int {
	return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Target, b.Target), cmp.Compare(a.Object, b.Object))
}

// usable returns the cells inside a universe of total addresses, sorted and distinct; cells itself where
// nothing is wrong with it.
func usable(cells []Cell, total uint32) []Cell {
	good := true
	for i, c := range cells {
		if c.Target >= total || i > 0 && compareCells(cells[i-1], c) >= 0 {
			good = false
			break
		}
	}
	if good {
		return cells
	}
	out := make([]Cell, 0, len(cells))
	for _, c := range cells {
		if c.Target < total {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b Cell) int { return cmp.Or(compareCells(a, b), cmp.Compare(a.First, b.First)) })
	return slices.CompactFunc(out, func(a, b Cell) bool { return compareCells(a, b) == 0 })
}

// classes hashes a behaviour at three grains.
func classes(b *Behaviour) [3]uint64 {
	tool := hash(1)
	if b.Tool != "" {
		tool = hashString(tool, b.Tool)
	} else {
		tool = hashString(hashString(hash(2), b.Signature), b.UserAgent)
	}
	full := hashString(hashString(hashString(hash(3, uint64(b.TTLClass), b.Payload), b.Tool), b.Signature), b.UserAgent)
	return [3]uint64{0, tool, full}
}

// bucketOf builds the bucket of these segments; skip says which cells are spoken for.
func (ix *index) bucketOf(k kind, proto int8, port uint16, segs []segment, sp *space, window uint32, skip func(source int32, c *Cell) bool) *bucket {
	b := &bucket{kind: k, proto: proto, port: port, time: frame{0, uint64(window), timeLevels}}
	numbers := map[uint64]uint32{}
	m := trackMaker{sp: sp, window: window}
	for _, s := range segs {
		if len(s.cells) < 2 {
			continue
		}
		t := m.track(m.source(s.source), len(s.cells))
		copy(t.class[:], ix.class[s.source][:])
		for i := range s.cells {
			c := &s.cells[i]
			if k == perObject && c.Object == 0 || skip != nil && skip(s.source, c) {
				continue
			}
			var key uint32
			if k != perPort {
				name := uint64(c.Port)
				if k == perObject {
					name = name<<32 | uint64(c.Object)
				}
				n, ok := numbers[name]
				if !ok {
					n = uint32(len(b.keys))
					numbers[name] = n
					b.keys = append(b.keys, name)
				}
				key = n
			}
			t.cells = append(t.cells, uint64(key)<<32|uint64(c.Target))
			t.times = append(t.times, c.First)
			t.first, t.last = min(t.first, c.First), max(t.last, c.Last)
		}
		if len(t.cells) < 2 {
			continue
		}
		m.finish(t)
		t.class[3] = hash(t.class[2], b.habit(t))
		b.tracks = append(b.tracks, t)
	}
	if k == perPort {
		b.keys = []uint64{uint64(port)}
	}
	b.twins(sp, window)
	b.line()
	return b
}

// line puts tracks that scan alike next to each other: they are the ones that are looked at together, again and again, and memory is
// fetched faster in order.
func (b *bucket) line() {
	slices.SortStableFunc(b.tracks, func(x, y *track) int {
		return cmp.Or(cmp.Compare(x.class[1], y.class[1]), cmp.Compare(x.class[2], y.class[2]), cmp.Compare(x.class[3], y.class[3]), cmp.Compare(x.first, y.first))
	})
}

// of returns a bucket of some tracks alone.
func (b *bucket) of(tracks []*track) *bucket {
	own := *b
	own.tracks = tracks
	return &own
}

// everyone lists the places of the tracks that were not taken out.
func (b *bucket) everyone() []int32 {
	out := make([]int32, 0, len(b.tracks))
	for i, t := range b.tracks {
		if t != nil {
			out = append(out, int32(i))
		}
	}
	return out
}

// habit hashes what a track does in the bucket, apart from where: its set of keys, or on one key how much.
func (b *bucket) habit(t *track) uint64 {
	if b.kind == perPort {
		return uint64(bits.Len(uint(len(t.cells))))
	}
	var h uint64
	for _, k := range t.tally {
		// A sum, because keys are numbered in the order in which they were met.
		h += hash(b.keys[k.key])
	}
	return h
}

// sort orders the cells, keeping the earliest touch of each.
func (t *track) sort() {
	type pair struct {
		c uint64
		f uint32
	}
	ps := make([]pair, len(t.cells))
	for i := range ps {
		ps[i] = pair{t.cells[i], t.times[i]}
	}
	slices.SortFunc(ps, func(a, b pair) int { return cmp.Or(cmp.Compare(a.c, b.c), cmp.Compare(a.f, b.f)) })
	ps = slices.CompactFunc(ps, func(a, b pair) bool { return a.c == b.c })
	t.cells, t.times = t.cells[:len(ps)], t.times[:len(ps)]
	for i, p := range ps {
		t.cells[i], t.times[i] = p.c, p.f
	}
}

// finish sorts the track's cells and derives hull and shape.
func (t *track) finish(sp *space, window uint32) {
	(&trackMaker{sp: sp, window: window}).finish(t)
}

func (m *trackMaker) finish(t *track) {
	for i := 1; i < len(t.cells); i++ {
		if t.cells[i-1] >= t.cells[i] {
			t.sort()
			break
		}
	}
	m.targets = m.targets[:0]
	for _, c := range t.cells {
		m.targets = append(m.targets, uint32(c))
	}
	targets := m.targets
	if t.cells[0]>>32 != t.cells[len(t.cells)-1]>>32 {
		slices.Sort(targets)
	}
	// The hull is where its cells are, not where its targets are: a target touched on many ports counts as often.
	m.path = m.sp.hull(m.path[:0], targets, loose)
	t.path = keep(&m.paths, m.path)
	targets = slices.Compact(targets)
	t.targets = len(targets)
	t.describe(targets, m.sp.block(targets[len(targets)/2]))
	m.count(t)
	if keys := len(t.tally); t.shape == shapeRuns && 2*len(t.cells) < len(targets)*keys {
		// Runs of addresses, but other ones on every port: a random share of a small space.
		t.shape, t.run, t.align = shapeScatter, 1, 1
	}
	t.busy = uint64(t.last-t.first)*2 >= uint64(m.window)
}

// count tallies the sorted cells by key.
func (m *trackMaker) count(t *track) {
	m.tally, t.most = m.tally[:0], 0
	for from := 0; from < len(t.cells); {
		k, to := t.cells[from]>>32, from
		for to < len(t.cells) && t.cells[to]>>32 == k {
			to++
		}
		n := float64(to - from)
		m.tally = append(m.tally, keyCount{uint32(k), n})
		t.most = max(t.most, n)
		from = to
	}
	t.tally = keep(&m.tallies, m.tally)
}

// filled is the share of a part of a block, itself no more than a quarter of it, from which on a footprint is that part, and what it lacks got
// lost. A random share of a space has so much of it in the hands of less than two.
const filled = 0.6

// describe finds the shape of the sorted distinct targets, most of which lie in the block.
func (t *track) describe(targets []uint32, block *Block) {
	t.shape, t.run, t.align = shapeScatter, 1, 1
	if len(targets) < 4 {
		// Too few to have a shape, but neighbours stand together all the same.
		if hull := targets[len(targets)-1] - targets[0] + 1; hull <= 2*uint32(len(targets)) {
			t.run = hull
		}
		return
	}
	// Runs allow single holes, which is what loss leaves.
	n := 1
	for i := 1; i < len(targets); i++ {
		if targets[i]-targets[i-1] > 2 {
			n++
		}
	}
	// A random sampler that covers a share d of its hull has runs too, of about 1/(1-d)² addresses.
	hull := float64(targets[len(targets)-1]-targets[0]) + 1
	d := float64(len(targets)) / hull
	chance := 1 / max(1e-9, (1-d)*(1-d))
	mean := float64(len(targets)) / float64(n)
	if mean >= 4 && (n == 1 || mean >= 4*chance) {
		t.shape = shapeRuns
		t.run, t.align = runGrid(runsOf(targets, n), block.First)
		return
	}
	if d >= filled && 4*hull <= float64(block.Size) && targets[0] >= block.First {
		t.shape = shapeRuns
		t.run, t.align = runGrid([]span{{targets[0], targets[len(targets)-1] + 1}}, block.First)
		return
	}
	if strides(targets) {
		t.shape = shapeStride
		return
	}
	if 4*hull <= float64(block.Size) && targets[0] >= block.First {
		// A sample of a part, which may be a block on a grid as the part of who touches all of it.
		gap := (hull - float64(len(targets))) / float64(len(targets)+1)
		t.align = habitual(targets[0]-block.First, targets[len(targets)-1]+1-block.First, gap)
	}
}

// runsOf returns the n runs of sorted targets.
func runsOf(targets []uint32, n int) []span {
	runs := make([]span, 0, n)
	start := 0
	for i := 1; i <= len(targets); i++ {
		if i == len(targets) || targets[i]-targets[i-1] > 2 {
			runs = append(runs, span{targets[start], targets[i-1] + 1})
			start = i
		}
	}
	return runs
}

// strides tells whether one step beyond two makes six in ten of the steps between sorted targets. Only the winner of a majority vote
// can (Boyer and Moore 1981).
func strides(targets []uint32) bool {
	if len(targets) < 8 {
		return false
	}
	var step uint32
	votes := 0
	for i := 1; i < len(targets); i++ {
		switch g := targets[i] - targets[i-1]; {
		case votes == 0:
			step, votes = g, 1
		case g == step:
			votes++
		default:
			votes--
		}
	}
	n := 0
	for i := 1; i < len(targets); i++ {
		if targets[i]-targets[i-1] == step {
			n++
		}
	}
	return step > 2 && float64(n) >= 0.6*float64(len(targets)-1)
}

// runGrid returns the median length of the runs and the power of two on which most of them begin and end.
func runGrid(runs []span, first uint32) (length, align uint32) {
	lengths := make([]uint32, len(runs))
	grids := make([]uint32, len(runs))
	for i, r := range runs {
		lengths[i] = r.size()
		grids[i] = grid(span{r.lo - first, r.hi - first})
	}
	slices.Sort(lengths)
	slices.Sort(grids)
	return lengths[len(lengths)/2], grids[len(grids)/2]
}

// grid returns the largest power of two on which r begins and ends, give or take the few addresses that
// loss, or a block list of network and broadcast addresses, takes from its ends.
func grid(r span) uint32 {
	best := uint32(1)
	for g := uint32(2); g != 0 && g/8*7 <= r.size(); g <<= 1 {
		slack := g / 16
		if r.lo&(g-1) <= slack && -r.hi&(g-1) <= slack {
			best = g
		}
	}
	return best
}

// hash mixes words into one, by splitmix64's finaliser (Steele, Lea and Flood, OOPSLA 2014).
func hash(words ...uint64) uint64 {
	h := uint64(0x9e3779b97f4a7c15)
	for _, w := range words {
		h = bits.RotateLeft64(h, 27) ^ w
		h += 0x9e3779b97f4a7c15
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}

func hashString(h uint64, s string) uint64 {
	h = hash(h, uint64(len(s)))
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return hash(h)
}
