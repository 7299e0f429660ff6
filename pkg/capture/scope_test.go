package capture

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"murmuration/pkg/event"
)

// The scope holds exactly the addresses that one of its prefixes holds.
func TestScopeIsItsPrefixes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		address := rapid.Custom(func(t *rapid.T) netip.Addr {
			// Few distinct bytes, so that prefixes meet and addresses hit.
			b := rapid.SampledFrom([]byte{0, 1, 127, 128, 255})
			if rapid.Bool().Draw(t, "IPv4") {
				return netip.AddrFrom4([4]byte{b.Draw(t, "a"), b.Draw(t, "b"), b.Draw(t, "c"), b.Draw(t, "d")})
			}
			return netip.AddrFrom16([16]byte{0: b.Draw(t, "a"), 9: b.Draw(t, "b"), 15: b.Draw(t, "c")})
		})
		prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
			a := address.Draw(t, "address")
			p, err := a.Prefix(rapid.IntRange(0, a.BitLen()).Draw(t, "bits"))
			if err != nil {
				t.Fatal(err)
			}
			return p
		})
		all := rapid.SliceOfN(prefix, 0, 40).Draw(t, "prefixes")
		s := newScope(append(all, netip.Prefix{}))
		for range 50 {
			a := address.Draw(t, "asked")
			want := false
			for _, p := range all {
				// Only IPv4 prefixes speak of IPv4, as in package netip.
				want = want || p.Contains(a)
			}
			ip := event.IPOf(a)
			v6 := false
			for _, p := range all { // A prefix shorter than the mapped range takes all of IPv4 in as well.
				v6 = v6 || !p.Addr().Is4() && p.Contains(netip.AddrFrom16(ip))
			}
			if got := s.contains(&ip); got != (want || v6) {
				t.Fatalf("%v contains %v: %v, want %v", all, a, got, want || v6)
			}
		}
	})
}

// IPv6 prefixes that hold the mapped range lie around the IPv4 prefixes in it, and behind and before others.
func TestScopeOfPrefixesAroundIPv4(t *testing.T) {
	var all []netip.Prefix
	for _, p := range []string{
		"::/9", "100::/8", "7f00::/9", "8000::/2", "e000::/3", "0.0.0.0/16", "0.1.0.64/26", "0.128.0.0/9", "128.0.0.0/1",
	} {
		all = append(all, netip.MustParsePrefix(p))
	}
	s := newScope(all)
	for text, want := range map[string]bool{"::1:0:0:0": true, "::": true, "1.2.3.4": true, "7e::": true, "80::": false, "200::1": false, "e000::": true} {
		ip := event.IPOf(netip.MustParseAddr(text))
		if got := s.contains(&ip); got != want {
			t.Errorf("contains %s: %v, want %v", text, got, want)
		}
	}
	for i := 1; i < len(s.ranges); i++ {
		if !s.ranges[i-1].to.less(s.ranges[i].from) {
			t.Errorf("ranges %d and %d are not disjoint and sorted", i-1, i)
		}
	}
}
