package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
)

// faults are the damaged files among the format samples: the kind of error, and whether NewReader
// refuses them.
var faults = map[string]struct {
	kind    error
	refused bool
}{
	"eth.snoop":                 {ErrNotCapture, true},
	"bad_magic.pcap":            {ErrNotCapture, true},
	"html_not_pcap.pcap":        {ErrNotCapture, true},
	"empty_0_bytes.pcap":        {ErrEmpty, true},
	"half_file_header.pcap":     {ErrTruncated, true},
	"cut_in_packet.pcap":        {ErrTruncated, false},
	"cut_in_record_header.pcap": {ErrTruncated, false},
	"cut_gzip.pcap.gz":          {ErrTruncated, false},
	"huge_caplen.pcap":          {ErrCorrupt, false},
	"neg_caplen.pcap":           {ErrCorrupt, false},
	"concat_two_pcaps.pcap":     {ErrCorrupt, false},
}

// Every sample format gives the number of packets that tshark gives, and as many SYNs and datagrams, or
// the error that belongs to its damage.
func TestFormatSamples(t *testing.T) {
	variants := readCSV(t, samples(t, "formats", "variants.csv"))
	require.NotEmpty(t, variants)
	for _, v := range variants {
		t.Run(v["file"], func(t *testing.T) {
			f, err := os.Open(samples(t, "formats", v["file"]))
			require.NoError(t, err)
			defer f.Close()
			b, r, err := read(f, Options{})
			fault, broken := faults[v["file"]]
			if broken {
				require.ErrorIs(t, err, fault.kind)
				var e *Error
				require.ErrorAs(t, err, &e)
				assert.Contains(t, err.Error(), "input: byte ")
				require.Equal(t, fault.refused, r == nil)
			} else {
				require.NoError(t, err)
			}
			if r != nil {
				compareVariant(t, v, b, r)
			}
		})
	}
}

func compareVariant(t *testing.T, v row, b *event.Batch, r *Reader) {
	want := v.int(t, "expected_packets")
	switch v["file"] {
	case "concat_two_pcaps.pcap": // tshark reads the second file header as one more packet.
		want = 2500
	case "cut_gzip.pcap.gz":
		want = v.int(t, "tshark_packets")
	}
	assert.EqualValues(t, want, r.Records())
	syns, datagrams := 0, 0
	for i := range b.Len() {
		switch b.Technique[i] {
		case event.TechniqueSYN:
			syns++
		case event.TechniqueUDP, event.TechniqueUDPReply:
			datagrams++
		}
	}
	wantSYNs := v.int(t, "syn_packets")
	if v["file"] == "ts_2106.pcap" { // One of them is beyond the time that is believed.
		assert.EqualValues(t, 1, r.Tally().Dropped[ReasonTime])
		wantSYNs--
	}
	assert.Equal(t, wantSYNs, syns)
	assert.Equal(t, v.int(t, "udp_packets"), datagrams)
}

// Scans that were captured live, in several link types and over IPv6.
func TestLiveSamples(t *testing.T) {
	for _, name := range []string{"live_any_sll", "live_any_sll2", "live_eth_nano", "live_snap60"} {
		t.Run(name, func(t *testing.T) {
			b, r := readFile(t, samples(t, "formats", name+".pcap"), Options{})
			assert.EqualValues(t, 1024, r.Records())
			sources := map[event.IP]bool{}
			for _, ip := range b.Src {
				sources[ip] = true
			}
			assert.Len(t, sources, 17)
		})
	}
	b, r := readFile(t, samples(t, "formats", "live_ipv6.pcap"), Options{})
	assert.Positive(t, b.Len())
	for i := range b.Len() {
		e := b.Row(i)
		assert.False(t, event.Addr(e.Src).Is4(), "%+v", e)
		assert.NotZero(t, e.TTL)
	}
	t.Logf("IPv6: %+v", r.Tally())
}

// base is a real capture of 2,500 packets of many tools, Ethernet in microseconds.
func base(t testing.TB) []byte { return plain(t, "testdata/base.pcap.zst") }

// rewrite makes a pcap file of the base capture's packets: link type, byte order, time unit and record header as
// asked, and each packet as change returns it.
func rewrite(t testing.TB, link LinkType, order binary.ByteOrder, magic uint32, change func([]byte) []byte) []byte {
	var w bytes.Buffer
	put := func(v ...uint32) {
		for _, n := range v {
			require.NoError(t, binary.Write(&w, order, n))
		}
	}
	put(magic)
	require.NoError(t, binary.Write(&w, order, [2]uint16{2, 4}))
	put(0, 0, 65535, uint32(link))
	for _, p := range packets(base(t)) {
		data := change(p.data)
		fraction := uint32(p.time % 1e6)
		if magic == magicNano {
			fraction *= 1000
		}
		put(uint32(p.time/1e6), fraction, uint32(len(data)), uint32(p.wire+len(data)-len(p.data)))
		if magic == magicModified {
			put(0, 0)
		}
		w.Write(data)
	}
	return w.Bytes()
}

func keep(p []byte) []byte { return p }

// instead replaces the Ethernet header.
func instead(header ...byte) func([]byte) []byte {
	return func(p []byte) []byte { return append(bytes.Clone(header), p[14:]...) }
}

// inside puts headers between the Ethernet addresses and the packet.
func inside(header ...byte) func([]byte) []byte {
	return func(p []byte) []byte { return append(append(bytes.Clone(p[:12]), header...), p[14:]...) }
}

// outerIPv4 puts an IPv4 header of this protocol, and what follows it, around the packet.
func outerIPv4(proto byte, header ...byte) func([]byte) []byte {
	return func(p []byte) []byte {
		n := 20 + len(header) + len(p) - 14
		outer := []byte{0x45, 0, byte(n >> 8), byte(n), 0, 0, 0, 0, 64, proto, 0, 0, 203, 0, 113, 1, 203, 0, 113, 2}
		return append(append(append(bytes.Clone(p[:14]), outer...), header...), p[14:]...)
	}
}

// encodings are the base capture in every variant that must give the same events.
func encodings(t testing.TB) map[string][]byte {
	little, big := binary.LittleEndian, binary.BigEndian
	plain := base(t)
	var zipped bytes.Buffer
	for _, part := range [][]byte{plain[:len(plain)/2], plain[len(plain)/2:]} { // Two members.
		z := gzip.NewWriter(&zipped)
		_, err := z.Write(part)
		require.NoError(t, err)
		require.NoError(t, z.Close())
	}
	z, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	skippable := []byte{0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3}
	sll2 := append([]byte{8, 0}, make([]byte, 18)...)
	sll := append(make([]byte, 14), 8, 0)
	return map[string][]byte{
		"little-endian":    plain,
		"big-endian":       rewrite(t, LinkEthernet, big, magicMicro, keep),
		"little-endian ns": rewrite(t, LinkEthernet, little, magicNano, keep),
		"big-endian ns":    rewrite(t, LinkEthernet, big, magicNano, keep),
		"modified":         rewrite(t, LinkEthernet, little, magicModified, keep),
		"raw 101":          rewrite(t, LinkRaw, little, magicMicro, instead()),
		"raw 12":           rewrite(t, LinkRaw12, little, magicMicro, instead()),
		"raw 14":           rewrite(t, LinkRaw14, little, magicMicro, instead()),
		"IPv4":             rewrite(t, LinkIPv4, little, magicMicro, instead()),
		"null":             rewrite(t, LinkNull, little, magicMicro, instead(2, 0, 0, 0)),
		"null big-endian":  rewrite(t, LinkNull, little, magicMicro, instead(0, 0, 0, 2)),
		"loop":             rewrite(t, LinkLoop, little, magicMicro, instead(0, 0, 0, 2)),
		"SLL":              rewrite(t, LinkSLL, little, magicMicro, instead(sll...)),
		"SLL2":             rewrite(t, LinkSLL2, little, magicMicro, instead(sll2...)),
		"PPP":              rewrite(t, LinkPPP, little, magicMicro, instead(0xff, 3, 0, 0x21)),
		"PPP bare":         rewrite(t, LinkPPP, little, magicMicro, instead(0, 0x21)),
		"PPP compressed":   rewrite(t, LinkPPPHDLC, little, magicMicro, instead(0xff, 3, 0x21)),
		"PPPoE link":       rewrite(t, LinkPPPoE, little, magicMicro, instead(0x11, 0, 0, 1, 0, 0, 0, 0x21)),
		"PPPoE":            rewrite(t, LinkEthernet, little, magicMicro, inside(0x88, 0x64, 0x11, 0, 0, 1, 0, 0, 0, 0x21)),
		"VLAN":             rewrite(t, LinkEthernet, little, magicMicro, inside(0x81, 0, 0, 7, 8, 0)),
		"four tags":        rewrite(t, LinkEthernet, little, magicMicro, inside(0x88, 0xa8, 0, 7, 0x91, 0, 0, 8, 0x92, 0, 0, 9, 0x81, 0, 0, 9, 8, 0)),
		"MPLS":             rewrite(t, LinkEthernet, little, magicMicro, inside(0x88, 0x47, 0, 1, 0, 64, 0, 2, 1, 64)),
		"SNAP":             rewrite(t, LinkEthernet, little, magicMicro, inside(0x05, 0xdc, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0)),
		"GRE":              rewrite(t, LinkEthernet, little, magicMicro, outerIPv4(47, 0, 0, 8, 0)),
		"GRE with key":     rewrite(t, LinkEthernet, little, magicMicro, outerIPv4(47, 0xb0, 0, 8, 0, 1, 2, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1)),
		"IP in IP":         rewrite(t, LinkEthernet, little, magicMicro, outerIPv4(4)),
		"gzip, 2 members":  zipped.Bytes(),
		"zstd":             z.EncodeAll(plain, nil),
		"zstd, skippable":  z.EncodeAll(plain, skippable),
		"pcapng":           ngFile(t, binary.LittleEndian, 6, 0),
		"pcapng big":       ngFile(t, binary.BigEndian, 9, 0),
		"pcapng offset":    ngFile(t, binary.LittleEndian, 6, 1_700_000_000),
	}
}

// The same packets give the same events, whatever they are wrapped in.
func TestEncodingsAgree(t *testing.T) {
	want, _, err := read(bytes.NewReader(base(t)), Options{})
	require.NoError(t, err)
	require.Greater(t, want.Len(), 1800)
	for name, raw := range encodings(t) {
		t.Run(name, func(t *testing.T) {
			got, r, err := read(bytes.NewReader(raw), Options{})
			require.NoError(t, err)
			require.EqualValues(t, 2500, r.Records())
			requireSame(t, want, got)
		})
	}
}

func requireSame(t require.TestingT, want, got *event.Batch) {
	require.Equal(t, want.Len(), got.Len())
	for i := range want.Len() {
		require.Equal(t, want.Row(i), got.Row(i), "event %d", i)
	}
}

// A reader that fails is no damage of the file.
func TestReadErrorIsTold(t *testing.T) {
	broken := errors.New("input/output error")
	for name, raw := range map[string][]byte{"plain": base(t), "gzip": encodings(t)["gzip, 2 members"]} {
		t.Run(name, func(t *testing.T) {
			b, r, err := read(&failing{data: raw[:len(raw)/2], err: broken}, Options{})
			require.ErrorIs(t, err, ErrRead)
			require.ErrorIs(t, err, broken)
			assert.Positive(t, b.Len())
			assert.Positive(t, r.Records())
		})
	}
}

type failing struct {
	data []byte
	err  error
}

func (f *failing) Read(p []byte) (int, error) {
	if len(f.data) == 0 {
		return 0, f.err
	}
	n := copy(p, f.data)
	f.data = f.data[n:]
	return n, nil
}

// What is refused says what to do.
func TestRefusals(t *testing.T) {
	header := base(t)[:pcapHeader]
	change := func(at int, v ...byte) string {
		c := bytes.Clone(header)
		copy(c[at:], v)
		return string(c)
	}
	for _, c := range []struct {
		in   string
		kind error
		says string
	}{
		{"", ErrEmpty, "empty"},
		{"\xd4", ErrTruncated, "1 of 4 bytes"},
		{"BZh91AY", ErrNotCapture, "bzip2"},
		{"\xfd7zXZ\x00", ErrNotCapture, "xz"},
		{"\x04\x22\x4d\x18aaaa", ErrNotCapture, "lz4"},
		{"PK\x03\x04....", ErrNotCapture, "zip"},
		{"snoop\x00\x00\x00", ErrNotCapture, "snoop"},
		{"<!DOCTYPE html>", ErrNotCapture, "web page"},
		{"hello, world", ErrNotCapture, "editcap"},
		{twice(), ErrNotCapture, "compressed twice"},
		{"\x1f\x8b\x00\x00", ErrTruncated, "too early"},
		{"\x1f\x8b\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00", ErrCorrupt, "damaged"},
		{"\x28\xb5\x2f\xfd\xff\xff\xff\xff\xff", ErrCorrupt, ""},
		{change(4, 9), ErrNotCapture, "version 9.4"},
		{change(20, 147), ErrLinkType, "link type 147"},
		{"\x0a\x0d\x0d\x0a\x1c\x00\x00\x00aaaabbbb", ErrNotCapture, "byte order"},
	} {
		_, err := NewReader(strings.NewReader(c.in), "some.pcap", Options{})
		require.ErrorIs(t, err, c.kind, "%q", c.in)
		assert.Contains(t, err.Error(), "some.pcap: byte 0: ")
		assert.Contains(t, err.Error(), c.says)
	}
}

// twice is gzip in gzip.
func twice() string {
	in := []byte(strings.Repeat("capture", 10))
	for range 2 {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(in) // Into memory: it cannot fail.
		_ = w.Close()
		in = b.Bytes()
	}
	return string(in)
}
