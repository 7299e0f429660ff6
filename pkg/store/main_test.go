package store

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
	"murmuration/pkg/event"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Main(m)) }

// options are those of a database that does not exist yet, on the real engine.
func options(t testing.TB) Options {
	t.Helper()
	ep := enginetest.Endpoint(t)
	return Options{
		Addr: []string{ep.TCPAddr}, User: ep.User, Password: ep.Password, Database: enginetest.Name(t), CreateDatabase: true,
		RetryFor: 20 * time.Second, Logger: slog.New(slog.DiscardHandler),
	}
}

func openWith(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// open returns a store with an empty schema in a database of its own.
func open(t testing.TB) *Store {
	t.Helper()
	s := openWith(t, options(t))
	_, err := s.Migrate(t.Context())
	require.NoError(t, err)
	return s
}

// table returns the answer to a query as text, a line a row.
func table(t testing.TB, s *Store, query string, params ...string) string {
	t.Helper()
	bound := map[string]string{}
	for i := 0; i < len(params); i += 2 {
		bound[params[i]] = params[i+1]
	}
	r, err := s.Query(t.Context(), query, bound)
	require.NoError(t, err, query)
	return lines(t, r)
}

func lines(t testing.TB, r *Result) string {
	t.Helper()
	defer func() { require.NoError(t, r.Close()) }()
	var out strings.Builder
	for r.Next() {
		values, err := r.Values()
		require.NoError(t, err)
		for i, v := range values {
			if i > 0 {
				out.WriteByte('\t')
			}
			fmt.Fprint(&out, v)
		}
		out.WriteByte('\n')
	}
	require.NoError(t, r.Err())
	return out.String()
}

// traffic makes random events in which every column varies and keys meet often: few sources, targets and ports,
// three sensors, several months, both address families, every enumeration.
type traffic struct {
	rnd   *rand.Rand
	start time.Time
	span  time.Duration
}

func newTraffic(seed uint64) *traffic {
	return &traffic{
		rnd:   rand.New(rand.NewPCG(seed, 1)), //nolint:gosec // Reproducible on purpose.
		start: time.Date(2026, 1, 20, 0, 0, 0, 0, time.UTC), span: 75 * 24 * time.Hour,
	}
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func (g *traffic) source() event.IP {
	n := byte(g.rnd.IntN(30))
	if n < 5 {
		return event.IP{0x20, 0x01, 0x0d, 0xb8, 7: n % 2, 15: n}
	}
	return event.IP{10: 0xff, 11: 0xff, 12: 203, 13: 0, 14: n % 3, 15: n}
}

func (g *traffic) target() event.IP {
	n := byte(g.rnd.IntN(20))
	if n < 4 {
		return event.IP{0x20, 0x01, 0x0d, 0xb8, 0xff, 15: n}
	}
	return event.IP{10: 0xff, 11: 0xff, 12: 198, 13: 51, 14: 100, 15: n}
}

func (g *traffic) event() event.Event {
	r := g.rnd
	e := event.Event{
		Time:   g.start.Add(time.Duration(r.Int64N(int64(g.span)))).UnixMicro(),
		Sensor: pick(r, "north", "south", ""), Src: g.source(), Dst: g.target(), Sport: uint16(r.UintN(1 << 16)),
		Packets: pick(r, uint32(1), 1, 2, 1000), TTL: uint8(r.UintN(256)), IPID: pick(r, uint16(r.UintN(1<<16)), 54321), DF: r.IntN(2) == 0, //nolint:gosec // Narrowing a random number.
		Tool: pick(r, "", "", "zmap", "masscan", "mirai"), PayloadLen: r.Uint32N(1500), PayloadHash: uint64(r.IntN(4)),
	}
	switch r.IntN(6) {
	case 0:
		e.Kind, e.Proto, e.Technique = event.KindRequest, event.ProtoTCP, event.TechniqueRequest
		e.Dport, e.Method = pick(r, uint16(80), 8080), pick(r, "HEAD", "GET", "POST", "")
		e.Host, e.Path, e.UserAgent = pick(r, "", "a.example"), pick(r, "/", "/ä'\\\"?x=1", "/very/"+strings.Repeat("long", 50)), pick(r, "", "curl/8", "zgrab")
	case 1:
		e.Kind, e.Proto, e.Technique = event.KindScan, event.ProtoUDP, event.TechniqueUDP
		e.Dport = pick(r, uint16(53), 123)
	case 2:
		e.Kind, e.Proto, e.Technique = event.KindBackscatter, event.ProtoTCP, event.TechniqueSYNACK
		e.Dport = uint16(r.UintN(1 << 16)) //nolint:gosec // In range.
	case 3:
		e.Kind, e.Proto, e.Technique = event.KindScan, pick(r, event.ProtoICMP, event.ProtoICMPv6), event.TechniquePing
		e.ICMPType, e.ICMPCode = 8, uint8(r.IntN(3)) //nolint:gosec // In range.
	case 4:
		e.Kind, e.Proto, e.Technique = event.KindOther, pick(r, event.ProtoSCTP, event.ProtoOther, event.ProtoGRE), event.TechniqueNone
	default:
		e.Kind, e.Proto, e.Technique, e.Flags = event.KindScan, event.ProtoTCP, event.TechniqueSYN, event.SYN
		e.Dport, e.Seq, e.Window = pick(r, uint16(22), 80, 443), r.Uint32(), pick(r, uint16(1024), 65535)
		e.Signature = pick(r, "1024:::", "65535:::", "1024:2:1460:", "64240:2,4,8,1,3:1460:7")
	}
	return e
}

func (g *traffic) batch(n int) *event.Batch {
	b := new(event.Batch)
	for range n {
		e := g.event()
		b.Append(&e)
		if g.rnd.IntN(10) == 0 { // The same packet twice is two events.
			b.Append(&e)
		}
	}
	return b
}

// contents returns a digest of everything that events bring about: the table and every rollup, by what the
// views say and by what their states say.
func contents(t testing.TB, s *Store) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range []string{"events", "port_hours", "port_days", "source_days", "target_days", "path_days", "footprints", "demand_by_hour", "demand_by_day", "demand_by_dekad", "ports_by_hour", "ports_by_day", "ports_by_dekad", "victim_days", "victim_dekads", "sensor_days"} {
		out[name] = table(t, s, "SELECT count(), sum(cityHash64(*)) FROM "+name)
	}
	return out
}

func background() context.Context { return context.Background() }
