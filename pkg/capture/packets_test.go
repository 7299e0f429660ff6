package capture

import (
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
)

// The ends of the conversations in these tests.
const (
	scanner = "100.64.9.9"
	host    = "198.18.0.1"
)

// conversation feeds a decoder packets that are built layer by layer, a second apart.
type conversation struct {
	t     testing.TB
	d     *Decoder
	b     event.Batch
	now   int64
	sport uint16
	dport uint16
}

func newConversation(t testing.TB, opt Options) *conversation {
	return &conversation{t: t, d: NewDecoder(opt), now: 1.7e15, sport: 40000, dport: 80}
}

func build(t testing.TB, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	w := gopacket.NewSerializeBuffer()
	require.NoError(t, gopacket.SerializeLayers(w, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...))
	return w.Bytes()
}

func ip4(src, dst string, proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{
		Version: 4, IHL: 5, TTL: 50, Id: 7, Protocol: proto,
		SrcIP: netip.MustParseAddr(src).AsSlice(), DstIP: netip.MustParseAddr(dst).AsSlice(),
	}
}

func ip6(src, dst string, next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{
		Version: 6, HopLimit: 50, NextHeader: next,
		SrcIP: netip.MustParseAddr(src).AsSlice(), DstIP: netip.MustParseAddr(dst).AsSlice(),
	}
}

// raw decodes an IP packet and returns what the tally counted it as: "" for an event, or the reason.
func (c *conversation) raw(p []byte) string {
	c.t.Helper()
	return c.cut(p, len(p))
}

// cut decodes an IP packet of which n bytes were captured.
func (c *conversation) cut(p []byte, n int) string {
	c.t.Helper()
	before := c.d.counts.reasons
	c.now += 1e6
	c.d.Decode(LinkRaw, c.now, len(p), p[:n:n], &c.b)
	for r := reason(0); r < reasons; r++ {
		if c.d.counts.reasons[r] > before[r] {
			return r.String()
		}
	}
	c.t.Fatal("a packet that was not counted")
	return ""
}

// tcp sends a segment from the scanner, or from the host where back is set.
func (c *conversation) tcp(back bool, flags uint8, seq uint32, payload string) string {
	c.t.Helper()
	return c.raw(c.segment(back, flags, seq, payload))
}

func (c *conversation) segment(back bool, flags uint8, seq uint32, payload string) []byte {
	c.t.Helper()
	src, dst, sport, dport := scanner, host, c.sport, c.dport
	if back {
		src, dst, sport, dport = dst, src, dport, sport
	}
	ip := ip4(src, dst, layers.IPProtocolTCP)
	tcp := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), Seq: seq, Window: 1000}
	tcp.FIN, tcp.SYN, tcp.RST, tcp.PSH = flags&event.FIN != 0, flags&event.SYN != 0, flags&event.RST != 0, flags&event.PSH != 0
	tcp.ACK, tcp.URG, tcp.ECE, tcp.CWR = flags&event.ACK != 0, flags&event.URG != 0, flags&event.ECE != 0, flags&event.CWR != 0
	require.NoError(c.t, tcp.SetNetworkLayerForChecksum(ip))
	return build(c.t, ip, tcp, gopacket.Payload(payload))
}

// open does the handshake; the first payload of the scanner has the sequence number 1001.
func (c *conversation) open() {
	c.t.Helper()
	require.Equal(c.t, "", c.tcp(false, event.SYN, 1000, ""))
	require.Equal(c.t, ReasonReply, c.tcp(true, event.SYN|event.ACK, 5000, ""))
	require.Equal(c.t, ReasonSegment, c.tcp(false, event.ACK, 1001, ""))
}

func (c *conversation) udp(back bool, sport, dport uint16, payload string) string {
	c.t.Helper()
	src, dst := scanner, host
	if back {
		src, dst, sport, dport = dst, src, dport, sport
	}
	ip := ip4(src, dst, layers.IPProtocolUDP)
	udp := &layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}
	require.NoError(c.t, udp.SetNetworkLayerForChecksum(ip))
	return c.raw(build(c.t, ip, udp, gopacket.Payload(payload)))
}

func (c *conversation) icmp(back bool, kind, code uint8, id uint16, payload []byte) string {
	c.t.Helper()
	src, dst := scanner, host
	if back {
		src, dst = dst, src
	}
	i := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, code), Id: id}
	return c.raw(build(c.t, ip4(src, dst, layers.IPProtocolICMPv4), i, gopacket.Payload(payload)))
}

// events returns what came out since the last call.
func (c *conversation) events() []event.Event {
	var all []event.Event
	for i := range c.b.Len() {
		all = append(all, c.b.Row(i))
	}
	c.b.Reset()
	return all
}

// requests returns "METHOD path agent" of the requests since the last call.
func (c *conversation) requests() []string {
	all := []string{}
	for _, e := range c.events() {
		if e.Kind == event.KindRequest {
			all = append(all, e.Method+" "+e.Path+" "+e.UserAgent)
		}
	}
	return all
}

// one returns the single event since the last call.
func (c *conversation) one() event.Event {
	c.t.Helper()
	all := c.events()
	require.Len(c.t, all, 1)
	return all[0]
}
