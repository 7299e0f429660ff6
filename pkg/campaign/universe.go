package campaign

import (
	"bytes"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"murmuration/pkg/detect"
	"murmuration/pkg/event"
	"murmuration/pkg/store"
)

// maxEnumerated is the largest block, in addresses, whose every address gets a rank. Larger ones (IPv6)
// are ranked over the addresses that were seen in them.
const maxEnumerated = 1 << 24

// space gives every monitored address its rank.
type space struct {
	universe detect.Universe
	blocks   []rankedBlock // by first address
}

type rankedBlock struct {
	prefix netip.Prefix
	first  uint32
	seen   []event.IP // sorted; set only for blocks that are too large to enumerate
}

// targetCount is one address that was probed, and by how many sources.
type targetCount struct {
	ip      event.IP
	sources uint32
}

// newSpace ranks the given telescopes, as far as they were active in [from, to). Prefixes inside
// others are folded into them. targets are the addresses seen, sorted; only blocks too large to
// enumerate need them.
func newSpace(telescopes []store.Telescope, targets []targetCount, from, to time.Time) (*space, error) {
	active := slices.DeleteFunc(slices.Clone(telescopes), func(t store.Telescope) bool {
		return (!t.Since.IsZero() && !t.Since.Before(to)) || (!t.Until.IsZero() && !t.Until.After(from))
	})
	// Widest first within the same start, so that whatever is inside a block follows it.
	slices.SortFunc(active, func(a, b store.Telescope) int {
		if c := mapped(a.Prefix).Addr().Compare(mapped(b.Prefix).Addr()); c != 0 {
			return c
		}
		return mapped(a.Prefix).Bits() - mapped(b.Prefix).Bits()
	})
	s := &space{}
	next := uint64(0)
	for _, t := range active {
		p := mapped(t.Prefix)
		if n := len(s.blocks); n > 0 && s.blocks[n-1].prefix.Contains(p.Addr()) {
			continue
		}
		b := rankedBlock{prefix: p, first: uint32(next)}
		size := uint64(math.MaxUint64)
		if host := 128 - p.Bits(); host < 64 {
			size = 1 << host
		}
		if size > maxEnumerated {
			b.seen = seenIn(p, targets)
			size = uint64(len(b.seen))
		}
		if next+size > math.MaxUint32 {
			return nil, fmt.Errorf("the telescopes together hold more than %d addresses: detect one sensor at a time", uint64(math.MaxUint32))
		}
		if size == 0 {
			continue
		}
		s.blocks = append(s.blocks, b)
		s.universe.Blocks = append(s.universe.Blocks, detect.Block{
			Prefix: t.Prefix.Masked(), Sensor: t.Sensor, First: b.first, Size: uint32(size), Since: unix(t.Since), Until: unix(t.Until),
		})
		next += size
	}
	return s, nil
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// mapped returns p over 16-byte addresses, which is how events hold them.
func mapped(p netip.Prefix) netip.Prefix {
	p = p.Masked()
	if p.Addr().Is4() {
		return netip.PrefixFrom(netip.AddrFrom16(p.Addr().As16()), p.Bits()+96)
	}
	return p
}

func seenIn(p netip.Prefix, targets []targetCount) []event.IP {
	lo, _ := slices.BinarySearchFunc(targets, p.Addr().As16(), func(t targetCount, ip event.IP) int {
		return bytes.Compare(t.ip[:], ip[:])
	})
	var seen []event.IP
	for _, t := range targets[lo:] {
		if !p.Contains(netip.AddrFrom16(t.ip)) {
			break
		}
		seen = append(seen, t.ip)
	}
	return seen
}

// rank returns the rank of an address, false if nobody monitors it.
func (s *space) rank(ip event.IP) (uint32, bool) {
	i, exact := slices.BinarySearchFunc(s.blocks, ip, func(b rankedBlock, ip event.IP) int {
		a := b.prefix.Addr().As16()
		return bytes.Compare(a[:], ip[:])
	})
	if !exact {
		i--
	}
	if i < 0 || !s.blocks[i].prefix.Contains(netip.AddrFrom16(ip)) {
		return 0, false
	}
	b := &s.blocks[i]
	if b.seen != nil {
		j, ok := slices.BinarySearchFunc(b.seen, ip, func(a, b event.IP) int { return bytes.Compare(a[:], b[:]) })
		return b.first + uint32(j), ok
	}
	base := b.prefix.Addr().As16()
	return b.first + low32(ip) - low32(base), true
}

func low32(ip event.IP) uint32 {
	return uint32(ip[12])<<24 | uint32(ip[13])<<16 | uint32(ip[14])<<8 | uint32(ip[15])
}

// infer guesses the monitored prefixes from the addresses that were probed, for data that came
// without telescopes.
//
// Too small a universe would overstate the evidence, so the guess errs towards large. How many
// addresses are monitored but were not probed is estimated by Chao's lower bound from those that one
// source and two sources probed (Chao, A. (1984), Scand. J. Statist. 11, 265-270: unseen ≥ f1²/2f2), which
// gives the share of monitored addresses that one expects to see; every aligned prefix in which at
// least two thirds of that share was seen is taken as monitored, the widest first (twice the true prefix
// holds half of it). IPv6 prefixes are cut at /64:
// nobody's probes fill one.
func infer(targets []targetCount) []store.Telescope {
	var v4 []uint32
	v6 := map[netip.Prefix]bool{}
	var f1, f2 float64
	for _, t := range targets {
		a := netip.AddrFrom16(t.ip)
		if !a.Is4In6() {
			p, _ := a.Prefix(64)
			v6[p] = true
			continue
		}
		v4 = append(v4, low32(t.ip))
		switch t.sources {
		case 1:
			f1++
		case 2:
			f2++
		}
	}
	var out []store.Telescope
	if n := float64(len(v4)); n > 0 {
		unseen := f1 * (f1 - 1) / (2 * (f2 + 1)) // the bias-corrected form, defined for f2 = 0
		share := n / (n + unseen) * 2 / 3
		hulls(v4, 0, 0, share, func(p netip.Prefix) { out = append(out, store.Telescope{Prefix: p}) })
	}
	for p := range v6 {
		out = append(out, store.Telescope{Prefix: p})
	}
	return out
}

// hulls calls found with the widest prefixes below base/bits of whose addresses at least the given
// share is among the sorted addresses.
func hulls(addrs []uint32, base uint32, bits int, share float64, found func(netip.Prefix)) {
	if len(addrs) == 0 {
		return
	}
	// Wider than a /8 nobody monitors, whatever the share.
	if size := math.Ldexp(1, 32-bits); bits >= 8 && float64(len(addrs)) >= share*size {
		b := [4]byte{byte(base >> 24), byte(base >> 16), byte(base >> 8), byte(base)}
		found(netip.PrefixFrom(netip.AddrFrom4(b), bits))
		return
	}
	half := base | 1<<(31-bits)
	cut, _ := slices.BinarySearch(addrs, half)
	hulls(addrs[:cut], base, bits+1, share, found)
	hulls(addrs[cut:], half, bits+1, share, found)
}
