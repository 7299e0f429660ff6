package detect

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// span is an interval of address ranks, hi exclusive. Every span that a group is tested in belongs to a
// fixed tree: the whole universe, its blocks, and the dyadic halves of each block. The tree is fixed
// before any traffic is seen, so that only the number of spans tried has to be paid for.
type span struct{ lo, hi uint32 }

func (s span) size() uint32 { return s.hi - s.lo }

func (s span) holds(t span) bool { return s.lo <= t.lo && t.hi <= s.hi }

// space is the tree of spans over a universe.
type space struct {
	blocks []Block // in the order of their ranks
	total  uint32
}

func newSpace(u Universe) (*space, error) {
	sp := &space{blocks: slices.Clone(u.Blocks)}
	slices.SortFunc(sp.blocks, func(a, b Block) int {
		switch {
		case a.First < b.First:
			return -1
		case a.First > b.First:
			return 1
		}
		return 0
	})
	var next uint64
	for _, b := range sp.blocks {
		if b.Size == 0 {
			return nil, fmt.Errorf("%w: block %v has no address", ErrInput, b.Prefix)
		}
		if uint64(b.First) != next {
			return nil, fmt.Errorf("%w: block %v starts at rank %d, the blocks before it end at %d", ErrInput, b.Prefix, b.First, next)
		}
		next += uint64(b.Size)
	}
	if next > 1<<32-1 {
		return nil, fmt.Errorf("%w: the universe has %d addresses, at most 4294967295 are supported", ErrInput, next)
	}
	sp.total = uint32(next)
	return sp, nil
}

func (sp *space) root() span { return span{0, sp.total} }

// block returns the block that holds rank r.
func (sp *space) block(r uint32) *Block {
	i, ok := slices.BinarySearchFunc(sp.blocks, r, func(b Block, r uint32) int {
		switch {
		case b.First+b.Size <= r:
			return -1
		case b.First > r:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return &sp.blocks[i]
}

// child returns the child of s that holds rank r, and false at a single address.
func (sp *space) child(s span, r uint32) (span, bool) {
	if s.size() <= 1 {
		return s, false
	}
	if s == sp.root() && len(sp.blocks) > 1 {
		b := sp.block(r)
		return span{b.First, b.First + b.Size}, true
	}
	b := sp.block(s.lo)
	// A block need not be a power of two long: its halves are those of the power of two above it.
	width := uint32(1) << (bits.Len32(s.size()-1) - 1)
	mid := b.First + (s.lo - b.First) + width
	if r < mid {
		return span{s.lo, mid}, true
	}
	return span{mid, s.hi}, true
}

// hull appends to a path the spans from the root down to the smallest span of the tree that holds all but a share loose of the
// sorted ranks.
func (sp *space) hull(path []span, sorted []uint32, loose float64) []span {
	s := sp.root()
	path = append(path, s)
	need := len(sorted) - int(loose*float64(len(sorted)))
	if need < 1 {
		return path
	}
	// The rank in the middle lies in any interval that holds more than half of the ranks.
	middle := sorted[len(sorted)/2]
	for {
		c, ok := sp.child(s, middle)
		if !ok || within(sorted, c) < need {
			return path
		}
		s = c
		path = append(path, s)
	}
}

// within counts the sorted ranks inside s.
func within(sorted []uint32, s span) int {
	a, _ := slices.BinarySearch(sorted, s.lo)
	b, _ := slices.BinarySearch(sorted, s.hi)
	return b - a
}

// prefixes names the addresses of s: the shortest list of prefixes that holds exactly them.
func (sp *space) prefixes(s span) []netip.Prefix {
	var out []netip.Prefix
	for _, b := range sp.blocks {
		lo, hi := max(s.lo, b.First), min(s.hi, b.First+b.Size)
		if lo >= hi {
			continue
		}
		if lo == b.First && hi == b.First+b.Size && b.Prefix.IsValid() {
			out = append(out, b.Prefix)
			continue
		}
		from, ok1 := addAddr(b.Prefix.Masked().Addr(), lo-b.First)
		to, ok2 := addAddr(b.Prefix.Masked().Addr(), hi-1-b.First)
		if ok1 && ok2 {
			out = append(out, netipx.IPRangeFrom(from, to).Prefixes()...)
		}
	}
	return out
}

// addAddr returns the address n after a, and false where a is invalid or the addresses end.
func addAddr(a netip.Addr, n uint32) (netip.Addr, bool) {
	if !a.IsValid() {
		return a, false
	}
	b := a.AsSlice()
	carry := uint64(n)
	for i := len(b) - 1; i >= 0 && carry > 0; i-- {
		carry += uint64(b[i])
		b[i] = byte(carry)
		carry >>= 8
	}
	out, ok := netip.AddrFromSlice(b)
	return out, ok && carry == 0
}

// address returns the address of rank r, or the zero Addr.
func (sp *space) address(r uint32) netip.Addr {
	b := sp.block(r)
	if b == nil {
		return netip.Addr{}
	}
	a, ok := addAddr(b.Prefix.Masked().Addr(), r-b.First)
	if !ok {
		return netip.Addr{}
	}
	return a
}
