package campaign

import (
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"murmuration/pkg/detect"
	"murmuration/pkg/engine/enginetest"
	"murmuration/pkg/event"
	"murmuration/pkg/store"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Main(m)) }

var epoch = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

func at(days, hours float64) time.Time {
	return epoch.Add(time.Duration((days*24 + hours) * float64(time.Hour)))
}

// field is a database with traffic, on the real engine.
type field struct {
	t   *testing.T
	opt store.Options
	st  *store.Store
	rng *rand.Rand
	n   uint64 // batches so far
}

func newField(t *testing.T) *field {
	t.Helper()
	ep := enginetest.Endpoint(t)
	f := &field{t: t, rng: rand.New(rand.NewPCG(7, 11)), opt: store.Options{
		Addr: []string{ep.TCPAddr}, User: ep.User, Password: ep.Password, Database: enginetest.Name(t), CreateDatabase: true,
		RetryFor: 20 * time.Second, Logger: slog.New(slog.DiscardHandler),
	}}
	f.st = f.open()
	_, err := f.st.Migrate(t.Context())
	require.NoError(t, err)
	return f
}

// open is another connection to the same database, as another host would have it.
func (f *field) open() *store.Store {
	f.t.Helper()
	st, err := store.Open(f.t.Context(), f.opt)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { require.NoError(f.t, st.Close()) })
	return st
}

func (f *field) insert(events []event.Event) {
	f.t.Helper()
	f.n++
	b := new(event.Batch)
	for i := range events {
		b.Append(&events[i])
	}
	token := f.t.Name() + time.Unix(int64(f.n), 0).UTC().Format(time.RFC3339)
	require.NoError(f.t, f.st.InsertEvents(f.t.Context(), b, f.n, token))
}

// sources returns n addresses that lie eight in a network below net, which is a /16.
func sources(net string, n int) []netip.Addr {
	a := netip.MustParseAddr(net).As4()
	var out []netip.Addr
	for i := range n {
		out = append(out, netip.AddrFrom4([4]byte{a[0], a[1], byte(i / 8), byte(10 + i%8)}))
	}
	return out
}

// sweep is one pass of a campaign: the members share out a prefix at random, address by address.
type sweep struct {
	members  []netip.Addr
	prefix   string
	port     uint16
	sensor   string
	from, to time.Time
	tool     string
	share    float64 // of the prefix that is covered; 0 is all
}

func (f *field) sweep(s sweep) {
	f.t.Helper()
	var events []event.Event
	p := netip.MustParsePrefix(s.prefix)
	for a := p.Addr(); p.Contains(a); a = a.Next() {
		if s.share > 0 && f.rng.Float64() >= s.share {
			continue
		}
		m := s.members[f.rng.IntN(len(s.members))]
		events = append(events, probe(m, a, s.port, s.sensor, s.from.Add(time.Duration(f.rng.Int64N(int64(s.to.Sub(s.from))))), s.tool))
	}
	slices.SortFunc(events, func(a, b event.Event) int { return int(a.Time - b.Time) })
	f.insert(events)
}

func probe(src, dst netip.Addr, port uint16, sensor string, ts time.Time, tool string) event.Event {
	return event.Event{
		Time: ts.UnixMicro(), Sensor: sensor, Src: event.IPOf(src), Dst: event.IPOf(dst), Sport: 40000, Dport: port, Proto: event.ProtoTCP,
		Kind: event.KindScan, Technique: event.TechniqueSYN, Flags: event.SYN, Packets: 1, TTL: 240, Window: 1024, Tool: tool, Signature: "1024:::",
	}
}

// hum is what every sensor sees all the time: n strangers an hour at random addresses and ports, in [from, to).
func (f *field) hum(sensor, prefix string, n int, from, to time.Time) {
	f.t.Helper()
	var events []event.Event
	base := netip.MustParsePrefix(prefix).Addr().As4()
	for h := from; h.Before(to); h = h.Add(time.Hour) {
		for range n {
			src := netip.AddrFrom4([4]byte{203, byte(f.rng.IntN(250)), byte(f.rng.IntN(250)), byte(f.rng.IntN(250))})
			dst := netip.AddrFrom4([4]byte{base[0], base[1], base[2], byte(f.rng.IntN(256))})
			events = append(events, probe(src, dst, uint16(1024+f.rng.IntN(60000)), sensor, h.Add(time.Duration(f.rng.Int64N(int64(time.Hour)))), ""))
		}
	}
	f.insert(events)
}

func (f *field) watch(prefix, sensor string) {
	f.t.Helper()
	require.NoError(f.t, f.st.AddTelescope(f.t.Context(), store.Telescope{Prefix: netip.MustParsePrefix(prefix), Sensor: sensor}))
}

// run detects in the window that ends at a time.
func (f *field) run(end time.Time, window time.Duration) *Report {
	f.t.Helper()
	rep, err := Run(f.t.Context(), f.st, f.options(end, window))
	require.NoError(f.t, err)
	return rep
}

func (f *field) options(end time.Time, window time.Duration) Options {
	p := detect.DefaultParams()
	p.Seed = 1
	// Proofs have tests of their own (proof_test.go), and take their time.
	return Options{Window: window, At: end, Params: p, Version: "test", Logger: f.opt.Logger, Proof: ProofOff}
}

func (f *field) known() map[string]store.KnownCampaign {
	f.t.Helper()
	lives, err := f.st.KnownLives(f.t.Context())
	require.NoError(f.t, err)
	out := map[string]store.KnownCampaign{}
	for _, l := range lives {
		out[l.ID] = l
	}
	require.Len(f.t, out, len(lives), "every campaign once")
	return out
}
