package keep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
	"murmuration/pkg/event"
	"murmuration/pkg/netinfo"
	"murmuration/pkg/store"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Main(m)) }

func open(t testing.TB) *store.Store {
	t.Helper()
	ep := enginetest.Endpoint(t)
	st, err := store.Open(t.Context(), store.Options{
		Addr: []string{ep.TCPAddr}, User: ep.User, Password: ep.Password, Database: enginetest.Name(t), CreateDatabase: true,
		RetryFor: 20 * time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	_, err = st.Migrate(t.Context())
	require.NoError(t, err)
	return st
}

func write(t testing.TB, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// answer is the answer to a query as lines of fields with a bar between.
func answer(t testing.TB, st *store.Store, query string) []string {
	t.Helper()
	rows, err := st.Query(t.Context(), query, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	var out []string
	for rows.Next() {
		values, err := rows.Values()
		require.NoError(t, err)
		var line []string
		for _, v := range values {
			line = append(line, strings.TrimPrefix(fmt.Sprint(v), "::ffff:"))
		}
		out = append(out, strings.Join(line, "|"))
	}
	require.NoError(t, rows.Err())
	return out
}

// events stores one probe each of some sources, now.
func events(t testing.TB, st *store.Store, sources ...string) {
	t.Helper()
	b := new(event.Batch)
	for _, s := range sources {
		b.Append(&event.Event{
			Time: time.Now().UnixMicro(), Src: event.IPOf(netip.MustParseAddr(s)), Dst: event.IPOf(netip.MustParseAddr("198.51.100.1")),
			Dport: 22, Proto: event.ProtoTCP, Kind: event.KindScan, Technique: event.TechniqueSYN, Packets: 1,
		})
	}
	require.NoError(t, st.InsertEvents(t.Context(), b, 1, "events"))
}

const who = "SELECT src, asn, as_name, country, benign FROM source_context(network = '::/0', hours = 48) ORDER BY src"

func TestContextOfSources(t *testing.T) {
	st, dir := open(t), t.TempDir()
	events(t, st, "192.0.2.1", "192.0.2.130", "203.0.113.9", "2001:db8::1", "2001:db9::1")
	assert.Equal(t, []string{"192.0.2.1|0|||", "192.0.2.130|0|||", "203.0.113.9|0|||", "2001:db8::1|0|||", "2001:db9::1|0|||"}, answer(t, st, who), "nothing is known, and nothing fails")
	assert.Equal(t, []string{"0||5|4|5|5|0"}, answer(t, st, "SELECT * FROM top_asns(hours = 48)"))

	asns := write(t, dir, "asns.csv", "network,asn,as_name\n192.0.2.0/24,64500,Cloud\n192.0.2.128/25,64501,Inner\n2001:db8::/32,64502,Six\n")
	countries := write(t, dir, "countries.csv", "192.0.2.0,192.0.2.255,DE\n2001:db8::,2001:db9:ffff:ffff:ffff:ffff:ffff:ffff,NL\n")
	scanners := write(t, dir, "scanners.txt", "203.0.113.0/28 Census\n192.0.2.130 Survey\n")
	files, err := Add(t.Context(), st, []string{asns, countries, scanners}, Options{})
	require.NoError(t, err)
	require.Len(t, files, 3)
	assert.Equal(t, []string{"192.0.2.1|64500|Cloud|DE|", "192.0.2.130|64501|Inner|DE|Survey", "203.0.113.9|0|||Census", "2001:db8::1|64502|Six|NL|", "2001:db9::1|0||NL|"}, answer(t, st, who))
	assert.ElementsMatch(t, []string{"0||2|2|2|2|1", "64500|Cloud|1|1|1|1|0", "64501|Inner|1|1|1|1|1", "64502|Six|1|1|1|1|0"}, answer(t, st, "SELECT * FROM top_asns(hours = 48)"))
	assert.ElementsMatch(t, []string{"DE|2|1|2|2|2|1", "NL|2|2|1|2|2|0", "|1|1|0|1|1|1"}, answer(t, st, "SELECT * FROM top_countries(hours = 48)"))
	assert.Equal(t, []string{"asns.csv|asn|csv|3", "countries.csv|country|csv|2", "scanners.txt|benign|list|2"}, answer(t, st, "SELECT name, kinds, format, networks FROM context_files ORDER BY name"))
	assert.Len(t, answer(t, st, "SELECT * FROM context_networks"), 7)

	// The same again changes nothing; other content under the same name takes the other's place.
	_, err = Add(t.Context(), st, []string{asns, countries}, Options{})
	require.NoError(t, err)
	assert.Equal(t, []string{"1"}, answer(t, st, "SELECT count() FROM context_versions"))
	write(t, dir, "asns.csv", "network,asn,as_name\n192.0.2.0/24,64510,New\n")
	_, err = Add(t.Context(), st, []string{asns}, Options{})
	require.NoError(t, err)
	assert.Equal(t, "192.0.2.1|64510|New|DE|", answer(t, st, who)[0])
	assert.Equal(t, "2001:db8::1|0||NL|", answer(t, st, who)[3])

	err = Remove(t.Context(), st, []string{"asns.csv", "country.csv"}, nil)
	require.ErrorIs(t, err, ErrUnknown)
	require.ErrorContains(t, err, `did you mean "countries.csv"?`)
	require.NoError(t, Remove(t.Context(), st, []string{"countries.csv", "scanners.txt"}, nil))
	assert.Equal(t, []string{"192.0.2.1|64510|New||", "192.0.2.130|64510|New||", "203.0.113.9|0|||", "2001:db8::1|0|||", "2001:db9::1|0|||"}, answer(t, st, who))
	// Of former versions one stays, for questions that run meanwhile.
	assert.Equal(t, []string{"2"}, answer(t, st, "SELECT count() FROM context_versions"))
	assert.Equal(t, []string{"2"}, answer(t, st, "SELECT uniqExact(version) FROM context_ranges_state"))
	assert.Equal(t, []string{"3"}, answer(t, st, "SELECT uniqExact(load) FROM context_networks_state"), "two that went and one that stays")
}

// What reaches around the IPv4 addresses is one network, as in its file, and says nothing of them.
func TestNetworksAreThoseOfTheFile(t *testing.T) {
	st := open(t)
	events(t, st, "192.0.2.1", "2001:db8::1")
	all := write(t, t.TempDir(), "all.csv", "network,asn\n::/0,64500\n2001:db9::/32,64501\n")
	files, err := Add(t.Context(), st, []string{all}, Options{})
	require.NoError(t, err)
	assert.Equal(t, uint64(2), files[0].Networks)
	assert.Equal(t, []string{"2"}, answer(t, st, "SELECT networks FROM context_files"))
	assert.Equal(t, []string{"192.0.2.1|0|||", "2001:db8::1|64500|||"}, answer(t, st, who))
	_, err = Add(t.Context(), st, []string{write(t, t.TempDir(), "b.csv", "192.0.2.0/24,64502,Four\n")}, Options{})
	require.NoError(t, err, "put together with what is stored")
	assert.Equal(t, []string{"192.0.2.1|64502|Four||", "2001:db8::1|64500|||"}, answer(t, st, who))
}

// A broken file leaves everything as it was, also where it comes behind a good one.
func TestBrokenFileChangesNothing(t *testing.T) {
	st, dir := open(t), t.TempDir()
	events(t, st, "192.0.2.1")
	_, err := Add(t.Context(), st, []string{write(t, dir, "a.csv", "192.0.2.0/24,64500,Cloud\n")}, Options{})
	require.NoError(t, err)
	before := answer(t, st, who)
	good := write(t, dir, "b.csv", "192.0.2.0/25,64501,Other\n")
	bad := write(t, dir, "a.csv", strings.Repeat("192.0.2.0/24,64500,Cloud\n", 500)+"192.0.2.0/24,645")
	_, err = Add(t.Context(), st, []string{good, bad}, Options{})
	require.ErrorContains(t, err, "a.csv: line 501: the line has fewer columns")
	bad = write(t, dir, "a.csv", strings.Repeat("192.0.2.0/24,64500,Cloud\n", 500)+"192.0.2.0/2")
	_, err = Add(t.Context(), st, []string{good, bad}, Options{})
	require.ErrorIs(t, err, netinfo.ErrFile)
	require.ErrorContains(t, err, "a.csv: line 501: ")
	assert.Equal(t, before, answer(t, st, who))
	assert.Len(t, answer(t, st, "SELECT * FROM context_files"), 1)
	_, err = Add(t.Context(), st, []string{good, write(t, t.TempDir(), "b.csv", "x")}, Options{})
	require.ErrorContains(t, err, "two of the files are called b.csv")
}

// A change that is interrupted while it writes leaves the former context in force, and the next one clears up.
func TestInterruptedChange(t *testing.T) {
	st, dir := open(t), t.TempDir()
	events(t, st, "192.0.2.1")
	_, err := Add(t.Context(), st, []string{write(t, dir, "a.csv", "192.0.2.0/24,64500,Cloud\n")}, Options{})
	require.NoError(t, err)
	var big strings.Builder
	for i := range 250_000 {
		fmt.Fprintf(&big, "10.%d.%d.%d/32,%d,x\n", i>>16, i>>8&255, i&255, i%1000+1)
	}
	path := write(t, dir, "big.csv", big.String())
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	_, err = Add(ctx, st, []string{path}, Options{Progress: func(stage string, done, total uint64, _ string) {
		if stage == "writing" && 5*done > 2*total {
			cancel(stop)
		}
	}})
	require.ErrorIs(t, err, stop)
	assert.Equal(t, []string{"192.0.2.1|64500|Cloud||"}, answer(t, st, who))
	assert.Len(t, answer(t, st, "SELECT * FROM context_files"), 1)
	assert.Greater(t, answer(t, st, "SELECT count() FROM context_networks_state")[0], "1", "something was left lying")
	require.NoError(t, Remove(t.Context(), st, []string{"a.csv"}, nil))
	assert.Equal(t, []string{"192.0.2.1|0|||"}, answer(t, st, who))
	assert.Equal(t, []string{"1"}, answer(t, st, "SELECT count() FROM context_networks_state"), "only the file of the version before")
}

// The join of the questions says of every address what the ranges say, at their ends and in between.
func TestJoinIsExact(t *testing.T) {
	st, dir := open(t), t.TempDir()
	rnd := rand.New(rand.NewPCG(7, 1)) //nolint:gosec // Reproducible on purpose.
	var text strings.Builder
	text.WriteString("network,asn,name\n")
	for i := range 2000 {
		bits := 8 + rnd.IntN(25)
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + rnd.IntN(4)), byte(rnd.IntN(8)), byte(rnd.IntN(256)), byte(rnd.IntN(256))}), bits).Masked() //nolint:gosec // In range.
		fmt.Fprintf(&text, "%s,%d,n%d\n", p, i+1, i+1)
	}
	path := write(t, dir, "nested.csv", text.String())
	_, err := Add(t.Context(), st, []string{path}, Options{})
	require.NoError(t, err)
	f, err := netinfo.ReadFile(t.Context(), path, netinfo.Options{})
	require.NoError(t, err)
	var sources []string
	want := map[string]uint32{}
	for range 3000 {
		a := netip.AddrFrom4([4]byte{byte(19 + rnd.IntN(6)), byte(rnd.IntN(9)), byte(rnd.IntN(256)), byte(rnd.IntN(256))}) //nolint:gosec // In range.
		if _, twice := want[a.String()]; twice {
			continue
		}
		sources = append(sources, a.String())
		best := 0
		want[a.String()] = 0
		for i := range f.Networks {
			n := &f.Networks[i]
			first, last := event.Addr(n.First), event.Addr(n.Last)
			if size := int(last.As4()[0])<<24 + int(last.As4()[1])<<16 + int(last.As4()[2])<<8 + int(last.As4()[3]) - int(first.As4()[0])<<24 - int(first.As4()[1])<<16 - int(first.As4()[2])<<8 - int(first.As4()[3]); first.Compare(a) <= 0 && a.Compare(last) <= 0 && (want[a.String()] == 0 || size <= best) {
				best, want[a.String()] = size, n.ASN
			}
		}
	}
	events(t, st, sources...)
	got := answer(t, st, "SELECT src, asn, as_name FROM source_context(network = '::/0', hours = 48)")
	require.Len(t, got, len(sources))
	known := 0
	for _, line := range got {
		a, rest, _ := strings.Cut(line, "|")
		asn := want[a]
		name := ""
		if asn != 0 {
			known++
			name = fmt.Sprint("n", asn)
		}
		require.Equal(t, fmt.Sprintf("%d|%s", asn, name), rest, a)
	}
	assert.Greater(t, known, 500)
	assert.Less(t, known, len(sources))
}
