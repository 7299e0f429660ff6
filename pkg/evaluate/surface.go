package evaluate

import (
	"cmp"
	"math"
	"slices"

	"murmuration/pkg/detect"
)

// surfaceKey names what a set of sources may share out: the addresses on one port of a protocol, or, with objects, the
// (address, object) pairs of a protocol.
type surfaceKey struct {
	proto   int8
	objects bool
	port    uint16
}

// surface is who touched which cells of one key. Cells are numbered without gaps; universe is how many there could be.
type surface struct {
	key      surfaceKey
	sources  []int     // indices into Input.Sources, ascending
	cells    [][]int32 // of each source, distinct
	distinct int       // cells that anybody touched
	universe float64
}

// surfaces cuts the input into what baselines without a notion of several ports look at, in the order of the keys.
func surfaces(in *detect.Input) []*surface {
	type builder struct {
		surface
		number  map[uint64]int32
		objects map[uint32]bool
	}
	all := map[surfaceKey]*builder{}
	for i := range in.Sources {
		for _, c := range in.Sources[i].Cells {
			key := surfaceKey{proto: c.Proto, port: c.Port, objects: c.Object != 0}
			if key.objects {
				key.port = 0
			}
			s := all[key]
			if s == nil {
				s = &builder{surface: surface{key: key}, number: map[uint64]int32{}, objects: map[uint32]bool{}}
				all[key] = s
			}
			s.objects[c.Object] = true
			id := uint64(c.Object)<<32 | uint64(c.Target)
			n, ok := s.number[id]
			if !ok {
				n = int32(len(s.number))
				s.number[id] = n
			}
			if k := len(s.sources); k == 0 || s.sources[k-1] != i {
				s.sources = append(s.sources, i)
				s.cells = append(s.cells, nil)
			}
			s.cells[len(s.cells)-1] = append(s.cells[len(s.cells)-1], n)
		}
	}
	addresses := 0.0
	for _, b := range in.Universe.Blocks {
		addresses += float64(b.Size)
	}
	var out []*surface
	for _, s := range all {
		for k, cells := range s.cells {
			// One object on several ports is one cell here.
			slices.Sort(cells)
			s.cells[k] = slices.Compact(cells)
		}
		s.distinct, s.universe = len(s.number), addresses*float64(len(s.objects))
		out = append(out, &s.surface)
	}
	slices.SortFunc(out, func(a, b *surface) int {
		order := 0
		if a.key.objects != b.key.objects {
			order = 1
			if b.key.objects {
				order = -1
			}
		}
		return cmp.Or(order, cmp.Compare(a.key.proto, b.key.proto), cmp.Compare(a.key.port, b.key.port))
	})
	return out
}

// without returns the surface less the sources marked in drop, which goes by their place in sources.
func (s *surface) without(drop []bool) *surface {
	out := &surface{key: s.key, distinct: s.distinct, universe: s.universe}
	for k := range s.sources {
		if !drop[k] {
			out.sources = append(out.sources, s.sources[k])
			out.cells = append(out.cells, s.cells[k])
		}
	}
	return out
}

// narrow drops the sources that cover more than share of the universe alone.
func (s *surface) narrow(share float64) *surface {
	drop := make([]bool, len(s.sources))
	for k, cells := range s.cells {
		drop[k] = float64(len(cells)) > share*s.universe
	}
	return s.without(drop)
}

// lowerTail is Chernoff's bound of P(Poisson(expected) <= observed), as -log10.
func lowerTail(expected, observed float64) float64 {
	if observed >= expected {
		return 0
	}
	if observed == 0 {
		return expected / math.Ln10
	}
	return (expected - observed + observed*math.Log(observed/expected)) / math.Ln10
}
