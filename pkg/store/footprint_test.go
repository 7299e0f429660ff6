package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
	"murmuration/pkg/fingerprint"
)

func TestWindow(t *testing.T) {
	day := func(d int) time.Time { return time.Date(2026, 5, d, 0, 0, 0, 0, time.UTC) }
	for _, c := range []struct{ from, to, start, end time.Time }{
		{day(1), day(2), day(1), day(2)},
		{day(1).Add(time.Second), day(2).Add(time.Nanosecond), day(1), day(3)},
		{day(1).Add(23 * time.Hour).In(time.FixedZone("", 3600)), day(2).In(time.FixedZone("", -3600)), day(1), day(2)},
	} {
		start, end := Window(c.from, c.to)
		assert.True(t, c.start.Equal(start) && c.end.Equal(end), "%v %v: %v %v", c.from, c.to, start, end)
	}
}

type cellKey struct {
	src, dst       event.IP
	proto          event.Proto
	port           uint16
	sensor, object string
}

type touch struct {
	events      uint64
	first, last int64
}

// The footprints are what the events say, each source once and in order, whatever was merged.
func TestFootprintsEqualEvents(t *testing.T) { footprintsEqualEventsOn(t, open(t)) }

func footprintsEqualEventsOn(t *testing.T, s *Store) {
	t.Helper()
	g := newTraffic(33)
	from, to := g.start.AddDate(0, 0, 10), g.start.AddDate(0, 0, 50)
	want := map[cellKey]touch{}
	targets := map[event.IP]bool{}
	for i := range 3 {
		b := g.batch(3000)
		require.NoError(t, s.InsertEvents(t.Context(), b, 1, fmt.Sprint(i)))
		for i := range b.Len() {
			e := b.Row(i)
			if e.Kind != event.KindScan && e.Kind != event.KindRequest || e.Time < from.UnixMicro() || e.Time >= to.UnixMicro() {
				continue
			}
			k := cellKey{src: e.Src, dst: e.Dst, proto: e.Proto, port: e.Dport, sensor: e.Sensor}
			if e.Kind == event.KindRequest && e.Method != "" {
				k.object = e.Method + " " + e.Path
			}
			sec := e.Time / 1_000_000
			c, ok := want[k]
			if !ok {
				c = touch{0, sec, sec}
			}
			want[k] = touch{c.events + 1, min(c.first, sec), max(c.last, sec)}
			targets[e.Dst] = true
		}
	}
	for round := range 2 {
		got := map[cellKey]touch{}
		var order []event.IP
		require.NoError(t, s.Footprints(t.Context(), from.Add(time.Hour), to.Add(-time.Hour), func(f *Footprint) error {
			order = append(order, f.Src)
			for i := range f.Dst {
				k := cellKey{f.Src, f.Dst[i], f.Proto[i], f.Port[i], f.Sensor[i], f.Object[i]}
				assert.NotContains(t, got, k)
				got[k] = touch{f.Events[i], f.First[i], f.Last[i]}
			}
			return nil
		}))
		assert.Equal(t, want, got, "round %d", round)
		assert.True(t, slices.IsSortedFunc(order, func(a, b event.IP) int { return bytes.Compare(a[:], b[:]) }))
		assert.Len(t, slices.Compact(order), len(order))
		require.NoError(t, s.ddl(t.Context(), "OPTIMIZE TABLE footprints_state FINAL"))
	}
	seen, err := s.TargetsSeen(t.Context(), from, to)
	require.NoError(t, err)
	assert.Len(t, seen, len(targets))
	for _, ip := range seen {
		assert.True(t, targets[ip])
	}

	stop := errors.New("enough")
	calls := 0
	require.ErrorIs(t, s.Footprints(t.Context(), from, to, func(*Footprint) error { calls++; return stop }), stop)
	assert.Equal(t, 1, calls)
	require.NoError(t, s.Footprints(t.Context(), to.AddDate(1, 0, 0), to.AddDate(2, 0, 0), func(*Footprint) error { return stop }), "nothing there")
}

func TestSpan(t *testing.T) { spanOn(t, open(t)) }

func spanOn(t *testing.T, s *Store) {
	t.Helper()
	first, last, err := s.Span(t.Context())
	require.NoError(t, err)
	assert.True(t, first.IsZero() && last.IsZero())
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	b := new(event.Batch)
	for i, kind := range []event.Kind{event.KindBackscatter, event.KindScan, event.KindRequest, event.KindOther} {
		b.Append(&event.Event{Time: at.Add(time.Duration(i) * time.Hour).UnixMicro(), Kind: kind})
	}
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, "a"))
	first, last, err = s.Span(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []time.Time{at.Add(time.Hour), at.Add(2 * time.Hour)}, []time.Time{first, last})
	first, last, err = s.EventSpan(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []time.Time{at, at.Add(3 * time.Hour)}, []time.Time{first, last})

	// A clock that was never set is no empty database.
	b = new(event.Batch)
	b.Append(&event.Event{Kind: event.KindScan})
	require.NoError(t, s.InsertEvents(t.Context(), b, 2, "b"))
	first, last, err = s.Span(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []time.Time{time.Unix(0, 0).UTC(), at.Add(2 * time.Hour)}, []time.Time{first, last})
	first, err = s.FirstHour(t.Context())
	require.NoError(t, err)
	assert.Equal(t, time.Unix(0, 0).UTC(), first)
}

// program sends SYNs as one tool does, in the words of a fingerprint rule, so that the server's decision can be held
// against the one of package fingerprint.
type program struct {
	name string
	syn  func(g *traffic, e *event.Event) fingerprint.TCPOptions
}

func parsed(raw ...byte) fingerprint.TCPOptions {
	var o fingerprint.TCPOptions
	o.Parse(raw)
	return o
}

var programs = []program{
	{"masscan", func(g *traffic, e *event.Event) fingerprint.TCPOptions {
		e.Window, e.TTL, e.Seq = 1024, 240, g.rnd.Uint32()
		e.IPID = uint16(e.Seq) ^ e.Dport ^ (uint16(e.Dst[14])<<8 | uint16(e.Dst[15])) //nolint:gosec // The low half is meant.
		return parsed()
	}},
	{"masscan with another window", func(g *traffic, e *event.Event) fingerprint.TCPOptions {
		e.Window, e.TTL, e.Seq, e.DF = 4321, 50, g.rnd.Uint32(), true
		e.IPID = uint16(e.Seq) ^ e.Dport ^ (uint16(e.Dst[14])<<8 | uint16(e.Dst[15])) //nolint:gosec // The low half is meant.
		return parsed()
	}},
	{"zmap", func(g *traffic, e *event.Event) fingerprint.TCPOptions {
		e.Window, e.TTL, e.Seq, e.IPID = 65535, 250, g.rnd.Uint32(), 54321
		return parsed()
	}},
	{"mirai", func(_ *traffic, e *event.Event) fingerprint.TCPOptions {
		e.Window, e.TTL = 5840, 60
		e.Seq = uint32(e.Dst[12])<<24 | uint32(e.Dst[13])<<16 | uint32(e.Dst[14])<<8 | uint32(e.Dst[15])
		return parsed()
	}},
	{"nmap", func(_ *traffic, e *event.Event) fingerprint.TCPOptions {
		e.Window, e.TTL, e.IPID = 1024, 45, uint16(e.Time) //nolint:gosec // Anything will do.
		half := uint32(e.Time) & 0xffff                    //nolint:gosec // The low half is meant.
		e.Seq = half<<16 | half ^ 0x1234
		return parsed(2, 4, 5, 0xb4)
	}},
	{"stack", func(g *traffic, e *event.Event) fingerprint.TCPOptions {
		e.Window, e.TTL, e.Seq, e.DF, e.IPID = 64240, 60, g.rnd.Uint32(), true, uint16(g.rnd.Uint32()) //nolint:gosec // Anything will do.
		return parsed(2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7)
	}},
	{"stray nmap signature", func(g *traffic, e *event.Event) fingerprint.TCPOptions {
		e.Window, e.TTL, e.Seq, e.IPID = 1024, 45, g.rnd.Uint32(), uint16(g.rnd.Uint32()) //nolint:gosec // Anything will do.
		return parsed(2, 4, 5, 0xb4)
	}},
}

// The tool that the server decides on is the one that package fingerprint decides on, also where a source sends some
// packets of another program, or one packet only; signature and TTL class are the commonest ones.
func TestBehaviour(t *testing.T) { behaviourOn(t, open(t)) }

func behaviourOn(t *testing.T, s *Store) {
	t.Helper()
	g := newTraffic(44)
	b := new(event.Batch)
	tallies := map[event.IP]*fingerprint.Tally{}
	commonest := map[event.IP]string{}
	for p, prog := range programs {
		for variant, n := range []int{1, 2, 3, 200, 200, 200} {
			strangers := []int{0, 0, 0, 0, 2, 40}[variant] // 1 % and 20 % are from the next program
			src := event.IP{10: 0xff, 11: 0xff, 12: 100, 13: byte(p), 14: byte(variant), 15: 1}
			tally := new(fingerprint.Tally)
			signatures := map[string]int{}
			for i := range n {
				e := event.Event{
					Time: g.start.Add(time.Duration(i)*37*time.Minute + time.Duration(g.rnd.IntN(1e9))).UnixMicro(), Src: src, Dport: pick(g.rnd, uint16(22), 23),
					Dst:   event.IP{10: 0xff, 11: 0xff, 12: 198, 13: 51, 14: byte(g.rnd.IntN(4)), 15: byte(g.rnd.IntN(256))}, //nolint:gosec // In range.
					Proto: event.ProtoTCP, Kind: event.KindScan, Technique: event.TechniqueSYN, Flags: event.SYN, Packets: 1,
				}
				sender := prog
				if i < strangers {
					sender = programs[(p+1)%len(programs)]
				}
				o := sender.syn(g, &e)
				e.Tool, e.Signature = fingerprint.Tool(&e, &o), fingerprint.Signature(e.Window, &o)
				signatures[e.Signature]++
				tally.Add(&e, &o)
				b.Append(&e)
			}
			tallies[src] = tally
			for name, n := range signatures {
				if best := commonest[src]; n > signatures[best] {
					commonest[src] = name
				}
			}
		}
	}
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, "a"))
	decided := map[string]int{}
	require.NoError(t, s.Footprints(t.Context(), g.start, g.start.AddDate(1, 0, 0), func(f *Footprint) error {
		want := tallies[f.Src].Tool()
		prog, variant := programs[f.Src[13]].name, f.Src[14]
		if prog == "nmap" && strings.HasPrefix(f.Signature, "1024") {
			// The server sees that half of each number is constant, package fingerprint that pairs share it: the same thing,
			// but a pair that strangers break up counts twice there.
			want = map[bool]string{true: "nmap"}[variant != 0 && variant != 5]
		}
		assert.Equal(t, want, f.Tool, "%s, variant %d", prog, variant)
		assert.Equal(t, commonest[f.Src], f.Signature, "%s, variant %d", prog, variant)
		decided[f.Tool]++
		assert.Contains(t, []uint8{64, 255}, f.TTLClass)
		return nil
	}))
	for _, tool := range []string{"masscan", "zmap", "mirai", "nmap", ""} {
		assert.Positive(t, decided[tool], tool)
	}
	assert.Equal(t, table(t, s, "SELECT tool, count() FROM source_behaviour(from = '2026-01-01', to = '2027-01-01') GROUP BY tool ORDER BY tool"),
		table(t, s, "SELECT tool, sources FROM tools_at(hours = 9999, at = '2027-01-01') ORDER BY tool"))
	assert.Equal(t, "0\n", table(t, s, `SELECT count() FROM source_days AS d, (SELECT src, tool FROM source_behaviour(from = '2026-01-01', to = '2027-01-01')) AS b
		WHERE d.src = b.src AND d.syns > 60 AND b.tool != '' AND d.tool != b.tool`), "a day's tool is the window's where there are packets enough")
}

// What is commonest for requests and datagrams.
func TestBehaviourBeyondSYNs(t *testing.T) { behaviourBeyondSYNsOn(t, open(t)) }

func behaviourBeyondSYNsOn(t *testing.T, s *Store) {
	t.Helper()
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	b := new(event.Batch)
	add := func(n int, e event.Event) {
		for i := range n {
			e.Time, e.Packets, e.Dst = at.Add(time.Duration(i)*time.Second).UnixMicro(), 2, event.IP{15: byte(i)} //nolint:gosec // Small.
			b.Append(&e)
		}
	}
	web, voip, mixed := event.IP{15: 1}, event.IP{15: 2}, event.IP{15: 3}
	request := event.Event{Src: web, Dport: 80, Proto: event.ProtoTCP, Kind: event.KindRequest, Technique: event.TechniqueRequest, Method: "GET", Path: "/", PayloadHash: 9}
	for agent, n := range map[string]int{"": 10, "curl/8": 4, "zgrab": 5} {
		request.UserAgent = agent
		add(n, request)
	}
	datagram := event.Event{Src: voip, Dport: 5060, Proto: event.ProtoUDP, Kind: event.KindScan, Technique: event.TechniqueUDP, Tool: "zmap", IPID: 54321, TTL: 250}
	for payload, n := range map[uint64]int{77: 6, 78: 5, 0: 20} {
		datagram.PayloadHash = payload
		add(n, datagram)
	}
	datagram.Src, datagram.Tool, datagram.PayloadHash = mixed, "", 0
	add(5, datagram)
	add(3, event.Event{Src: event.IP{15: 4}, Kind: event.KindBackscatter, Proto: event.ProtoTCP}) // Not a source of probes.
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, "a"))
	got := map[event.IP]Footprint{}
	require.NoError(t, s.Footprints(t.Context(), at, at.Add(time.Hour), func(f *Footprint) error {
		c := *f
		c.Proto, c.Port, c.Dst, c.Sensor, c.Object, c.Events, c.First, c.Last = nil, nil, nil, nil, nil, nil, nil, nil
		got[f.Src] = c
		return nil
	}))
	assert.Equal(t, map[event.IP]Footprint{
		web:   {Src: web, UserAgent: "zgrab", Packets: 38},
		voip:  {Src: voip, Tool: "zmap", TTLClass: 255, Payload: 77, Packets: 62},
		mixed: {Src: mixed, TTLClass: 255, Packets: 10},
	}, got)
}
