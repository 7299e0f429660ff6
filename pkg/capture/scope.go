package capture

import (
	"encoding/binary"
	"net/netip"

	"go4.org/netipx"

	"murmuration/pkg/event"
)

// addr is an address as two numbers, which compare faster than sixteen bytes.
type addr struct{ high, low uint64 }

func addrOf(ip *event.IP) addr {
	return addr{binary.BigEndian.Uint64(ip[:8]), binary.BigEndian.Uint64(ip[8:])}
}

func (a addr) less(b addr) bool {
	return a.high < b.high || a.high == b.high && a.low < b.low
}

// addrRange is a range of addresses, ends included.
type addrRange struct{ from, to addr }

// scope is the set of monitored addresses as sorted disjoint ranges.
type scope struct{ ranges []addrRange }

// newScope joins prefixes to a scope. Invalid ones, which ParsePrefix does not return, are left out.
func newScope(prefixes []netip.Prefix) scope {
	var b netipx.IPSetBuilder
	for _, p := range prefixes {
		if p.IsValid() {
			b.AddPrefix(mapped(p))
		}
	}
	var s scope
	set, err := b.IPSet()
	if err != nil {
		return s // Only invalid prefixes are an error here.
	}
	for _, r := range set.Ranges() {
		from, to := event.IPOf(r.From()), event.IPOf(r.To())
		s.ranges = append(s.ranges, addrRange{addrOf(&from), addrOf(&to)})
	}
	return s
}

// mapped turns an IPv4 prefix into the one inside ::ffff:0:0/96 that it is in an event. In one family, an IPv6
// prefix that holds the mapped range takes IPv4 prefixes in, and the ranges stay sorted and disjoint.
func mapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4() {
		return netip.PrefixFrom(netip.AddrFrom16(p.Addr().As16()), p.Bits()+96)
	}
	return p
}

func (s *scope) empty() bool { return len(s.ranges) == 0 }

// contains goes through the ranges one by one, which is fastest for the few there usually are, after
// halving them while there are many.
func (s *scope) contains(ip *event.IP) bool {
	a := addrOf(ip)
	rs := s.ranges
	for len(rs) > 8 {
		if mid := len(rs) / 2; a.less(rs[mid].from) {
			rs = rs[:mid]
		} else {
			rs = rs[mid:]
		}
	}
	for i := range rs {
		if !a.less(rs[i].from) && !rs[i].to.less(a) {
			return true
		}
	}
	return false
}
