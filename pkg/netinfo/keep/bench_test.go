package keep

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
	"murmuration/pkg/netinfo"
	"murmuration/pkg/store"
)

// prefixes writes n prefixes of 80,000 autonomous systems over the IPv4 addresses and some IPv6 ones, as GeoLite2-ASN-Blocks.
func prefixes(b *testing.B, n int) string {
	b.Helper()
	var text strings.Builder
	text.WriteString("network,autonomous_system_number,autonomous_system_organization\n")
	for i := range n {
		x := uint32(i) * 8192                                                                                  //nolint:gosec // Below 2^32.
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(x >> 24), byte(x >> 16), byte(x >> 8), 0}), 19+i%3) //nolint:gosec // The bytes of a number.
		if i%10 == 9 {
			p = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, byte(i >> 16), byte(i >> 8), byte(i)}), 40) //nolint:gosec // The bytes of a number.
		}
		fmt.Fprintf(&text, "%s,%d,\"Autonomous System %d, Inc.\"\n", p, i%80_000+1, i%80_000+1)
	}
	return write(b, b.TempDir(), "GeoLite2-ASN-Blocks.csv", text.String())
}

const benchPrefixes = 500_000

func loaded(b *testing.B) *store.Store {
	b.Helper()
	st := open(b)
	_, err := Add(b.Context(), st, []string{prefixes(b, benchPrefixes)}, Options{})
	require.NoError(b, err)
	return st
}

// BenchmarkAdd is `loader context add` of 500,000 prefixes: reading, putting together, writing.
func BenchmarkAdd(b *testing.B) {
	path := prefixes(b, benchPrefixes)
	for b.Loop() {
		b.StopTimer()
		st := open(b)
		b.StartTimer()
		_, err := Add(b.Context(), st, []string{path}, Options{})
		require.NoError(b, err)
	}
	b.ReportMetric(benchPrefixes*float64(b.N)/b.Elapsed().Seconds(), "prefixes/s")
}

// BenchmarkRead is the reading alone.
func BenchmarkRead(b *testing.B) {
	path := prefixes(b, benchPrefixes)
	for b.Loop() {
		_, err := netinfo.ReadFile(b.Context(), path, netinfo.Options{})
		require.NoError(b, err)
	}
	b.ReportMetric(benchPrefixes*float64(b.N)/b.Elapsed().Seconds(), "prefixes/s")
}

// BenchmarkLookup compares the two ways to look sources up: the join of the questions, and an IP_TRIE dictionary over the same
// prefixes, whose source has to log in with a password.
func BenchmarkLookup(b *testing.B) {
	st := loaded(b)
	ep, db := enginetest.Endpoint(b), st.Database()
	enginetest.Exec(b, "CREATE TABLE "+db+".bench_prefixes ENGINE = MergeTree ORDER BY prefix AS SELECT concat(IPv6NumToString(first), '/', toString(128 - toUInt8(round(log2(toUInt128(last) - toUInt128(first) + 1))))) AS prefix, asn, toString(as_name) AS as_name FROM "+db+".context_networks")
	enginetest.Exec(b, "CREATE DICTIONARY "+db+".bench_trie (prefix String, asn UInt32, as_name String) PRIMARY KEY prefix SOURCE(CLICKHOUSE(USER '"+ep.User+"' PASSWORD '"+ep.Password+"' DB '"+db+"' TABLE 'bench_prefixes')) LAYOUT(IP_TRIE) LIFETIME(0)")
	b.Run("first/trie", func(b *testing.B) {
		for b.Loop() {
			enginetest.Exec(b, "SYSTEM RELOAD DICTIONARY "+db+".bench_trie")
		}
	})
	for _, n := range []int{100, 10_000, 1_000_000} {
		sources := fmt.Sprintf("(SELECT toIPv6(IPv4NumToString(toUInt32(sipHash64(number)))) AS src FROM numbers(%d))", n)
		var same []string
		for name, query := range map[string]string{
			"join":           "SELECT countIf(c.asn != 0), sum(cityHash64(c.asn, toString(c.as_name))) FROM (SELECT toUInt128(src) AS number, toUInt32(bitShiftRight(number, 16)) AS block FROM " + sources + ") AS s LEFT ASOF JOIN " + db + ".context_ranges AS c ON c.block = s.block AND s.number >= c.number",
			"join of blocks": "SELECT countIf(c.asn != 0), sum(cityHash64(c.asn, toString(c.as_name))) FROM (SELECT toUInt128(src) AS number, toUInt32(bitShiftRight(number, 16)) AS block FROM " + sources + ") AS s LEFT ASOF JOIN (SELECT * FROM " + db + ".context_ranges WHERE block IN (SELECT toUInt32(bitShiftRight(toUInt128(src), 16)) FROM " + sources + ")) AS c ON c.block = s.block AND s.number >= c.number",
			"trie":           "SELECT countIf(asn != 0), sum(cityHash64(asn, name)) FROM (SELECT dictGet('" + db + ".bench_trie', 'asn', tuple(src)) AS asn, dictGet('" + db + ".bench_trie', 'as_name', tuple(src)) AS name FROM " + sources + ")",
		} {
			same = append(same, enginetest.Exec(b, query))
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				for b.Loop() {
					enginetest.Exec(b, query)
				}
				b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "lookups/s")
			})
		}
		require.Equal(b, []string{same[0], same[0]}, same[1:], "all give the same")
	}
	b.Logf("trie: %s; table: %s", enginetest.Exec(b, "SELECT formatReadableSize(bytes_allocated) FROM system.dictionaries WHERE database = '"+db+"'"),
		enginetest.Exec(b, "SELECT formatReadableSize(sum(bytes_on_disk)), sum(rows) FROM system.parts WHERE active AND table = 'context_ranges_state' AND database = '"+db+"'"))
}
