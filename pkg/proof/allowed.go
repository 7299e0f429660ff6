package proof

import (
	"net/netip"
)

// space is what a ZMap may have been told to scan: ZMap numbers the allowed addresses, and it is these numbers that its
// group permutes.
type space struct {
	name  string
	ranks func(addr uint32) (uint64, bool) // number of an allowed address, from 0 on
	size  uint64
}

// prefixSpace is the space of a scan of one prefix. ZMap first numbers whole /20s, then what is left (zmap/zmap
// lib/constraint.c, RADIX_LENGTH); within one prefix that is the natural order. Prefixes that begin at one address number alike, and
// need not be told apart: the space has a number for every address from there on.
func prefixSpace(p netip.Prefix) space {
	base, _ := ipv4(p.Masked().Addr())
	return space{
		name: "targets counted from " + p.Masked().Addr().String(), size: uint64(1) << (32 - p.Bits()),
		ranks: func(a uint32) (uint64, bool) { return uint64(a) - uint64(base), a >= base },
	}
}

// reserved are the prefixes that ZMap's own block list leaves out (conf/blocklist.conf, the same from 2.1.1 to 4.3.4): those that
// IANA has not given to anybody.
func reserved() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
		"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	} {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// radix is the number of addresses that ZMap numbers at once: a /20.
const radix = 1 << 12

// internet is the space of a scan of everything but the prefixes blocked: ascending, disjoint, and each a whole number of /20s or
// inside one. ZMap numbers the /20s that are wholly allowed first, and what is left of the others behind them.
func internet(name string, blocked []netip.Prefix) space {
	type span struct{ lo, hi uint64 } // hi exclusive
	var whole, broken []span          // blocked /20s, and what of them is blocked indeed
	for _, p := range blocked {
		a, _ := ipv4(p.Masked().Addr())
		s := span{uint64(a), uint64(a) + 1<<(32-p.Bits())}
		if p.Bits() > 20 {
			broken = append(broken, s)
			s.lo -= s.lo % radix
			s.hi = s.lo + radix
			if n := len(whole); n > 0 && whole[n-1] == s {
				continue
			}
		}
		whole = append(whole, s)
	}
	within := func(spans []span, x uint64) (inside bool, before uint64) {
		for _, s := range spans {
			if x >= s.lo {
				before += min(x, s.hi) - s.lo
				inside = inside || x < s.hi
			}
		}
		return inside, before
	}
	const all = 1 << 32
	_, gone := within(whole, all)
	_, never := within(broken, all)
	var partly []span // the /20s that are blocked in part
	for _, s := range broken {
		lo := s.lo - s.lo%radix
		if n := len(partly); n == 0 || partly[n-1].lo != lo {
			partly = append(partly, span{lo, lo + radix})
		}
	}
	return space{
		name: name, size: all - gone + uint64(len(partly))*radix - never,
		ranks: func(a uint32) (uint64, bool) {
			x := uint64(a)
			in, before := within(whole, x)
			if !in {
				return x - before, true
			}
			if in, _ := within(partly, x); !in {
				return 0, false
			}
			cut, cutBefore := within(broken, x)
			_, at := within(partly, x)
			return all - gone + at - cutBefore, !cut
		},
	}
}

// spaces lists the spaces that a source with these targets may have been given, the smallest first: the smallest prefix that holds
// them all, every larger one, and the Internet with ZMap's own block list.
func spaces(targets []uint32) []space {
	lo, hi := targets[0], targets[0]
	for _, t := range targets {
		lo, hi = min(lo, t), max(hi, t)
	}
	bits := 32
	for bits > 0 && lo>>(32-bits) != hi>>(32-bits) {
		bits--
	}
	var out []space
	at := netip.AddrFrom4([4]byte{byte(lo >> 24), byte(lo >> 16), byte(lo >> 8), byte(lo)})
	for ; bits >= 0; bits-- {
		if bits == 0 {
			out = append(out, internet("all but ZMap's block list", reserved()))
		}
		out = append(out, prefixSpace(netip.PrefixFrom(at, bits)))
	}
	return out
}
