package netinfo

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"murmuration/pkg/event"
)

// lookup is what Compile's list says of an address.
func lookup(ranges []Range, a event.IP) Fact {
	i, found := slices.BinarySearchFunc(ranges, a, func(r Range, a event.IP) int { return compare(r.First, a) })
	if !found {
		i--
	}
	if i < 0 || Block(ranges[i].First) != Block(a) {
		return Fact{}
	}
	return ranges[i].Fact
}

// naive looks at every network: the smallest that tells something counts, of equally large ones the later.
func naive(files [][]Network, a event.IP) (f Fact) {
	var asn, country, benign *Network
	for _, networks := range files {
		networks = slices.Clone(networks)
		slices.SortStableFunc(networks, func(a, b Network) int { return compare(a.First, b.First) })
		for i := range networks {
			n := &networks[i]
			if compare(n.First, a) > 0 || compare(n.Last, a) < 0 {
				continue
			}
			better := func(old *Network) bool { return old == nil || compare(n.size(), old.size()) <= 0 }
			if n.ASN != 0 && better(asn) {
				asn, f.ASN, f.ASName = n, n.ASN, n.ASName
			}
			if n.Country != "" && better(country) {
				country, f.Country = n, n.Country
			}
			if n.Benign != "" && better(benign) {
				benign, f.Benign = n, n.Benign
			}
		}
	}
	return f
}

func TestCompileIsLongestMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Few addresses, so that networks overlap in every way; at both ends of the address space and of IPv4.
		base := rapid.SampledFrom([]event.IP{{}, {10: 0xff, 11: 0xff, 12: 203}, lastIPv4, {0x20, 1}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xe0}})
		address := func(b event.IP, n int) event.IP {
			b[15] = b[15]&0xe0 | byte(n) //nolint:gosec // Below 32.
			return b
		}
		files := make([][]Network, rapid.IntRange(0, 3).Draw(t, "files"))
		var probes []event.IP
		for f := range files {
			for range rapid.IntRange(0, 12).Draw(t, "networks") {
				b := base.Draw(t, "base")
				from := rapid.IntRange(0, 31).Draw(t, "from")
				to := rapid.IntRange(from, 31).Draw(t, "to")
				n := Network{First: address(b, from), Last: address(b, to)}
				for n.Fact == (Fact{}) {
					n.ASN = uint32(rapid.IntRange(0, 2).Draw(t, "asn")) //nolint:gosec // Small.
					if n.ASN != 0 {
						n.ASName = fmt.Sprint("n", n.ASN)
					}
					n.Country = rapid.SampledFrom([]string{"", "DE", "FR"}).Draw(t, "country")
					n.Benign = rapid.SampledFrom([]string{"", "", "Census"}).Draw(t, "benign")
				}
				files[f] = append(files[f], n)
				for i := range 32 {
					probes = append(probes, address(b, i))
				}
			}
		}
		want := map[event.IP]Fact{}
		for _, a := range probes {
			want[a] = naive(files, a)
		}
		ranges := Compile(files)
		for i := 1; i < len(ranges); i++ {
			require.Negative(t, compare(ranges[i-1].First, ranges[i].First))
			if Block(ranges[i-1].First) == Block(ranges[i].First) {
				require.NotEqual(t, ranges[i-1].Fact, ranges[i].Fact, "neighbours that say the same are one")
			}
		}
		for a, f := range want {
			require.Equal(t, f, lookup(ranges, a), "%v", event.Addr(a))
		}
	})
}

func TestCompileAtTheEdges(t *testing.T) {
	// Everything around IPv4: each block of IPv6 says it once, and these addresses are not meant.
	all := Network{Last: event.IPOf(netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")), Fact: Fact{ASN: 1}}
	got := Compile([][]Network{{all}})
	assert.Equal(t, 65536, len(got)) //nolint:testifylint // Len would print them all.
	for _, a := range []string{"0.0.0.0", "10.1.2.3", "255.255.255.255"} {
		assert.Equal(t, Fact{}, lookup(got, event.IPOf(netip.MustParseAddr(a))), a)
	}
	for _, a := range []string{"::", "::1", "::fffe:ffff:ffff", "::1:0:0:0", "1::", "2001:db8::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"} {
		assert.Equal(t, all.Fact, lookup(got, event.IPOf(netip.MustParseAddr(a))), a)
	}
	assert.Empty(t, Compile(nil))
	four := Network{First: firstIPv4, Last: lastIPv4, Fact: Fact{ASN: 4}}
	files := [][]Network{{all, four}}
	assert.Equal(t, four.Fact, lookup(Compile(files), event.IPOf(netip.MustParseAddr("10.1.2.3"))))
	assert.Equal(t, [][]Network{{all, four}}, files, "they stay whole")
}

// blocks makes n networks that cover the IPv4 addresses in order, every tenth with a smaller one inside.
func blocks(n int) []Network {
	out := make([]Network, 0, n)
	width := uint32(1<<32/n) * 11 / 10
	at := func(x uint32) event.IP {
		return event.IPOf(netip.AddrFrom4([4]byte{byte(x >> 24), byte(x >> 16), byte(x >> 8), byte(x)})) //nolint:gosec // The bytes of a number.
	}
	for i := uint32(0); len(out) < n; i++ {
		x := Network{First: at(i * width), Last: at(i*width + width - 1), Fact: Fact{ASN: i%80_000 + 1, ASName: fmt.Sprintf("AS name of some length %d", i%80_000)}}
		if out = append(out, x); i%10 == 0 && len(out) < n {
			x.First, x.ASN = at(i*width+width/2), i%7+1
			out = append(out, x)
		}
	}
	return out
}

func BenchmarkCompile(b *testing.B) {
	networks := blocks(500_000)
	for b.Loop() {
		b.StopTimer()
		fresh := slices.Clone(networks)
		b.StartTimer()
		Compile([][]Network{fresh})
	}
	b.ReportMetric(float64(len(networks))*float64(b.N)/b.Elapsed().Seconds(), "networks/s")
}
