package fingerprint

import (
	"encoding/csv"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"murmuration/pkg/event"
)

// sample is a packet that a real tool sent.
type sample struct {
	tool    string
	source  string
	event   event.Event
	options TCPOptions
}

// samples reads testdata/packets.csv: packets of masscan 1.3.2, zmap 2.1.1, nmap 7.93, hping3, fping, curl and wget,
// up to twelve of each of three sources for each technique.
func samples(t *testing.T) []sample {
	t.Helper()
	f, err := os.Open("testdata/packets.csv")
	require.NoError(t, err)
	defer f.Close()
	lines, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	number := func(s string, bits int) uint64 {
		n, err := strconv.ParseUint(s, 10, bits)
		require.NoError(t, err)
		return n
	}
	var all []sample
	for _, l := range lines[1:] {
		proto, err := event.ParseProto(l[5])
		require.NoError(t, err)
		s := sample{tool: l[0], source: l[1], event: event.Event{
			Src: event.IPOf(netip.MustParseAddr(l[1])), Dst: event.IPOf(netip.MustParseAddr(l[2])),
			Sport: uint16(number(l[3], 16)), Dport: uint16(number(l[4], 16)), Proto: proto, Kind: event.KindScan,
			Flags: uint8(number(l[6], 8)), Seq: uint32(number(l[7], 32)), IPID: uint16(number(l[8], 16)),
			TTL: uint8(number(l[9], 8)), DF: l[10] == "true", Window: uint16(number(l[11], 16)),
		}}
		options, err := hex.DecodeString(l[12])
		require.NoError(t, err)
		s.options.Parse(options)
		all = append(all, s)
	}
	require.Greater(t, len(all), 400)
	return all
}

// expected is what a packet of this tool must be called: only what its packets show.
func expected(s *sample) string {
	switch {
	case s.tool == ZMap:
		return ZMap
	case (s.tool == Masscan || s.tool == Nmap) && isSYN(&s.event):
		return s.tool
	}
	return ""
}

func TestToolOnRealPackets(t *testing.T) {
	named := map[string]int{}
	for _, s := range samples(t) {
		got := Tool(&s.event, &s.options)
		assert.Equal(t, expected(&s), got, "%+v", s)
		named[got]++
	}
	for _, tool := range []string{ZMap, Masscan, Nmap, ""} {
		assert.GreaterOrEqual(t, named[tool], 36, tool)
	}
}

func TestTallyOnRealSources(t *testing.T) {
	tallies, tools := map[string]*Tally{}, map[string]string{}
	for _, s := range samples(t) {
		if tallies[s.source] == nil {
			tallies[s.source] = new(Tally)
		}
		tallies[s.source].Add(&s.event, &s.options)
		if isSYN(&s.event) {
			tools[s.source] = expected(&s)
		}
	}
	require.Greater(t, len(tools), 9)
	for source, tally := range tallies {
		assert.Equal(t, tools[source], tally.Tool(), "%s: %+v", source, tally)
	}
}

// Answers are never named after a tool, even where a field fits.
func TestAnswersHaveNoTool(t *testing.T) {
	for _, s := range samples(t) {
		s.event.Kind = event.KindBackscatter
		assert.Empty(t, Tool(&s.event, &s.options))
	}
}

// A rule that would match anything must not pass: foreign packets hit by chance only, a field that is changed misses.
func TestRulesAreNarrow(t *testing.T) {
	for _, s := range samples(t) {
		if !isSYN(&s.event) || expected(&s) == "" {
			continue
		}
		for name, change := range map[string]func(e *event.Event, o *TCPOptions){
			"window":  func(e *event.Event, _ *TCPOptions) { e.Window += 7 },
			"df":      func(e *event.Event, _ *TCPOptions) { e.DF = true },
			"options": func(_ *event.Event, o *TCPOptions) { o.Parse([]byte{2, 4, 5, 0xb4, 4, 2}) },
			"flags":   func(e *event.Event, _ *TCPOptions) { e.Flags |= event.ACK },
		} {
			if name == "flags" && s.tool == ZMap { // ZMap's SYN-ACK module has the same marks.
				continue
			}
			e, o := s.event, s.options
			change(&e, &o)
			assert.Empty(t, Tool(&e, &o), "%s: %+v", name, e)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	const n = 1 << 20
	hits := map[string]int{}
	for range n {
		e := event.Event{Proto: event.ProtoTCP, Kind: event.KindScan, Flags: event.SYN, Window: 1024, TTL: 200,
			Seq: r.Uint32(), IPID: uint16(r.Uint32()), Dport: uint16(r.Uint32()), Dst: event.IP{10: 0xff, 11: 0xff, 12: 198, 13: 18, 14: byte(r.Uint32()), 15: byte(r.Uint32())}}
		hits[Tool(&e, &TCPOptions{})]++
	}
	assert.InDelta(t, n/65536, hits[Masscan], 16, "masscan's relation holds by chance once in 65,536")
	assert.Equal(t, n, hits[""]+hits[Masscan])
}

// Rules for which there are no captured packets here: packets as the tools' sources make them.
func TestToolByTheirSources(t *testing.T) {
	dst := event.IPOf(netip.MustParseAddr("198.18.7.9"))
	number, _ := ipv4(dst)
	const now = 1_775_000_000
	clock := func(at uint32) []byte {
		return []byte{2, 4, 5, 0xb4, 4, 2, 8, 10, byte(at >> 24), byte(at >> 16), byte(at >> 8), byte(at), 0, 0, 0, 0, 1, 3, 3, 7}
	}
	windows := []byte{2, 4, 5, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2}
	for _, c := range []struct {
		name    string
		e       event.Event
		options []byte
		unknown bool
		want    string
	}{
		{"mirai", event.Event{Seq: number, TTL: 50, Window: 9000}, nil, false, Mirai},
		{"mirai without options known", event.Event{Seq: number, TTL: 50, Window: 9000}, nil, true, Mirai},
		{"seq is dst, but with options", event.Event{Seq: number, TTL: 50, Window: 9000}, []byte{2, 4, 5, 0xb4}, false, ""},
		{"zmap 3", event.Event{IPID: 54321, TTL: 240, Window: 65535}, []byte{2, 4, 5, 0xb4}, false, ZMap},
		{"zmap from a log", event.Event{IPID: 54321, TTL: 240, Window: 65535}, nil, true, ZMap},
		{"zmap's number on a low TTL", event.Event{IPID: 54321, TTL: 60, Window: 65535}, nil, false, ""},
		{"zmap 4.1, windows", event.Event{TTL: 240, Window: 65535}, windows, false, ZMap},
		{"Windows itself", event.Event{TTL: 120, Window: 65535, DF: true}, windows, false, ""},
		{"zmap 4.1, linux", event.Event{TTL: 240, Window: 65535, Time: now * 1e6}, clock(now - 4), false, ZMap},
		{"a clock that is no clock", event.Event{TTL: 240, Window: 65535, Time: now * 1e6}, clock(now - 6), false, ""},
		{"one MSS", event.Event{TTL: 240, Window: 65535}, []byte{2, 4, 5, 0xb4}, false, ""},
		{"masscan head", event.Event{TTL: 240, Window: 1025, IPID: uint16(number) ^ 80 ^ 0x1234, Seq: 0xabcd1234}, []byte{2, 4, 5, 0xb4}, false, Masscan},
		{"masscan rebuilt", event.Event{TTL: 240, Window: 2000, IPID: uint16(number) ^ 80 ^ 0x1234, Seq: 0xabcd1234}, nil, false, ""},
		{"nmap's signature from 64", event.Event{TTL: 60, Window: 1024, Seq: 1}, []byte{2, 4, 5, 0xb4}, false, ""},
		{"nmap's signature, options unknown", event.Event{TTL: 50, Window: 1024, Seq: 1}, nil, true, ""},
	} {
		c.e.Proto, c.e.Kind, c.e.Flags, c.e.Dst, c.e.Dport = event.ProtoTCP, event.KindScan, event.SYN, dst, 80
		var o *TCPOptions
		if !c.unknown {
			o = new(TCPOptions)
			o.Parse(c.options)
		}
		assert.Equal(t, c.want, Tool(&c.e, o), c.name)
		c.e.Dst = event.IPOf(netip.MustParseAddr("2001:db8::1"))
		if c.want != "" {
			assert.Empty(t, Tool(&c.e, o), "%s: no rule but nmap's is for IPv6", c.name)
		}
	}
}

// source makes the SYNs of a source, whose fields set fills in.
func source(n int, set func(i int, e *event.Event)) *Tally {
	var t Tally
	var o TCPOptions
	o.Parse([]byte{2, 4, 5, 0xb4})
	for i := range n {
		e := event.Event{Proto: event.ProtoTCP, Kind: event.KindScan, Flags: event.SYN, Window: 1024, TTL: 60,
			Sport: 5000, Dport: uint16(i % 7), Dst: event.IP{10: 0xff, 11: 0xff, 12: 198, 13: 18, 14: byte(i * 37), 15: byte(i * 11)}}
		set(i, &e)
		t.Add(&e, &o)
	}
	return &t
}

func TestTallyBySources(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	mask, key := r.Uint32(), r.Uint32()
	nmap := func(_ int, e *event.Event) {
		v := uint32(uint16(r.Uint32()))
		e.Seq = mask ^ (v<<16 | v)
	}
	unicorn := func(swap bool) func(int, *event.Event) {
		return func(_ int, e *event.Event) {
			dst, _ := ipv4(e.Dst)
			if swap {
				dst = reverse(dst)
			}
			e.Window = 4096 + 1
			e.Seq = key ^ dst ^ (uint32(e.Dport)<<16 + uint32(e.Sport))
		}
	}
	random := func(_ int, e *event.Event) { e.Seq = r.Uint32() }
	for name, c := range map[string]struct {
		tally *Tally
		want  string
	}{
		"nmap":                   {source(50, nmap), Nmap},
		"nmap's signature alone": {source(50, random), ""},
		"one packet":             {source(1, nmap), ""},
		"naabu":                  {source(50, func(i int, e *event.Event) { e.Seq = uint32(i) }), Naabu},
		"unicornscan":            {source(50, unicorn(false)), Unicornscan},
		"unicornscan, swapped":   {source(50, unicorn(true)), Unicornscan},
		"a SYN sent again": {source(5, func(_ int, e *event.Event) {
			e.Seq, e.Dst, e.Dport, e.Window = 9, event.IP{10: 0xff, 11: 0xff}, 80, 64240
		}), ""},
		"masscan of any window": {source(50, func(_ int, e *event.Event) {
			e.Seq, e.Window = r.Uint32(), 7777
			d, _ := ipv4(e.Dst)
			e.IPID = uint16(d) ^ e.Dport ^ uint16(e.Seq)
		}), Masscan},
		"masscan and a few others": {source(200, func(i int, e *event.Event) {
			e.Seq, e.Window = r.Uint32(), 7777
			if d, _ := ipv4(e.Dst); i%60 != 0 {
				e.IPID = uint16(d) ^ e.Dport ^ uint16(e.Seq)
			}
		}), Masscan},
		"half masscan": {source(200, func(i int, e *event.Event) {
			e.Seq, e.Window = r.Uint32(), 7777
			if d, _ := ipv4(e.Dst); i%2 == 0 {
				e.IPID = uint16(d) ^ e.Dport ^ uint16(e.Seq)
			}
		}), ""},
	} {
		assert.Equal(t, c.want, c.tally.Tool(), "%s: %+v", name, c.tally)
	}
}

// Merging the tallies of the parts gives the tally of the whole, wherever it is parted.
func TestMerge(t *testing.T) {
	all := samples(t)
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.IntRange(0, len(all)).Draw(t, "from")
		to := rapid.IntRange(from, len(all)).Draw(t, "to")
		cut := rapid.IntRange(from, to).Draw(t, "cut")
		var whole, left, right Tally
		for i := from; i < to; i++ {
			whole.Add(&all[i].event, &all[i].options)
			if i < cut {
				left.Add(&all[i].event, &all[i].options)
			} else {
				right.Add(&all[i].event, &all[i].options)
			}
		}
		left.Merge(&right)
		// At the seam nobody can say whether a sequence number was repeated, and a majority vote keeps no minorities.
		if d := left.Changes - whole.Changes; d > 1 {
			t.Fatalf("%d changes, want %d", left.Changes, whole.Changes)
		}
		left.Constant, left.Changes = whole.Constant, whole.Changes
		if left != whole {
			t.Fatalf("%+v, want %+v", left, whole)
		}
	})
}

func TestSignature(t *testing.T) {
	for _, c := range []struct {
		options []byte
		want    string
	}{
		{nil, "1024:::"},
		{[]byte{2, 4, 5, 0xb4}, "1024:2:1460:"},
		{[]byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7}, "1024:2,4,8,1,3:1460:7"},
		{[]byte{2, 4, 5, 0xb4, 1, 3, 3, 6, 1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 4, 2, 0, 0}, "1024:2,1,3,1,1,8,4,0,0:1460:6"},
		{[]byte{0, 0, 0, 9}, "1024:0,0,0::"},
		{[]byte{2, 4, 5}, "1024:2::"},
		{[]byte{1, 2}, "1024:1,2::"},
		{[]byte{2, 1, 5, 0xb4}, "1024:2::"},
		{[]byte{2, 0}, "1024:2::"},
		{[]byte{254, 3, 9, 3, 3, 14}, "1024:254,3::14"},
	} {
		var o TCPOptions
		o.Parse(c.options)
		assert.Equal(t, c.want, Signature(1024, &o), "% x", c.options)
	}
}

func FuzzOptions(f *testing.F) {
	f.Add([]byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var o TCPOptions
		o.Parse(raw)
		require.LessOrEqual(t, o.N, len(o.Kinds))
		require.Equal(t, len(raw) > 0, o.N > 0)
		require.LessOrEqual(t, len(Signature(65535, &o)), 200)
	})
}

func TestTTLClass(t *testing.T) {
	for ttl, want := range map[uint8]uint8{0: 32, 32: 32, 33: 64, 64: 64, 65: 128, 128: 128, 129: 255, 255: 255} {
		assert.Equal(t, want, TTLClass(ttl))
	}
}

func BenchmarkTool(b *testing.B) {
	e := event.Event{Proto: event.ProtoTCP, Kind: event.KindScan, Flags: event.SYN, Window: 64240, Dst: event.IP{10: 0xff, 11: 0xff}}
	var o TCPOptions
	raw := []byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7}
	b.ReportAllocs()
	for range b.N {
		o.Parse(raw)
		if Tool(&e, &o) != "" {
			b.Fatal("no tool sent this")
		}
	}
}
