package capture

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
)

func TestTCPTechniques(t *testing.T) {
	const fin, syn, rst, psh, ack, urg = event.FIN, event.SYN, event.RST, event.PSH, event.ACK, event.URG
	for _, c := range []struct {
		flags     uint8
		payload   string
		kind      event.Kind
		technique event.Technique
	}{
		{syn, "", event.KindScan, event.TechniqueSYN},
		{syn | event.ECE | event.CWR, "", event.KindScan, event.TechniqueSYN},
		{syn, "data", event.KindScan, event.TechniqueSYN},
		{fin, "", event.KindScan, event.TechniqueFIN},
		{0, "", event.KindScan, event.TechniqueNull},
		{fin | psh | urg, "", event.KindScan, event.TechniqueXmas},
		{fin | ack, "", event.KindScan, event.TechniqueMaimon},
		{ack, "", event.KindScan, event.TechniqueACK},
		{syn | fin, "", event.KindScan, event.TechniqueNone},
		{syn | ack, "", event.KindBackscatter, event.TechniqueSYNACK},
		{rst, "", event.KindBackscatter, event.TechniqueRST},
		{rst | ack, "", event.KindBackscatter, event.TechniqueRST},
		{psh | ack, "data", event.KindOther, event.TechniqueNone},
		{ack, "data", event.KindOther, event.TechniqueNone},
		{psh | ack, "", event.KindOther, event.TechniqueNone},
		{syn | rst, "", event.KindOther, event.TechniqueNone},
		{syn | ack | fin, "", event.KindScan, event.TechniqueNone},
		{fin | syn | psh | ack | urg, "", event.KindScan, event.TechniqueNone},
		{fin | syn | rst | psh | ack | urg, "", event.KindOther, event.TechniqueNone},
	} {
		conv := newConversation(t, Options{Sensor: "here"})
		require.Equal(t, "", conv.tcp(false, c.flags, 77, c.payload))
		e := conv.one()
		assert.Equal(t, c.kind, e.Kind, "%+v", c)
		assert.Equal(t, c.technique, e.Technique, "%+v", c)
		want := event.Event{
			Time: conv.now, Sensor: "here", Src: event.IPOf(netip.MustParseAddr(scanner)), Dst: event.IPOf(netip.MustParseAddr(host)),
			Sport: 40000, Dport: 80, Proto: event.ProtoTCP, Kind: c.kind, Technique: c.technique, Packets: 1, Flags: c.flags,
			Window: 1000, Seq: 77, IPID: 7, TTL: 50, PayloadLen: uint32(len(c.payload)),
		}
		if c.technique == event.TechniqueSYN {
			want.Signature = "1000:::"
		}
		if c.payload != "" {
			want.PayloadHash = xxhash.Sum64String(c.payload)
		}
		assert.Equal(t, want, e)
	}
}

// The answers of our own host are no backscatter, whatever was asked.
func TestRepliesToProbes(t *testing.T) {
	const rst, ack = event.RST, event.ACK
	for name, flags := range map[string]uint8{
		"syn": event.SYN, "fin": event.FIN, "null": 0, "xmas": event.FIN | event.PSH | event.URG, "ack": event.ACK, "maimon": event.FIN | event.ACK,
	} {
		c := newConversation(t, Options{})
		assert.Equal(t, "", c.tcp(false, flags, 1, ""), name)
		assert.Equal(t, "", c.tcp(false, flags, 1, ""), "%s: a probe sent twice is two", name)
		assert.Equal(t, ReasonReply, c.tcp(true, rst|ack, 1, ""), name)
		assert.Len(t, c.events(), 2)
	}
	c := newConversation(t, Options{})
	assert.Equal(t, "", c.udp(false, 5000, 53, "ask"))
	assert.Equal(t, ReasonReply, c.udp(true, 5000, 53, "answer"))
	assert.Equal(t, "", c.udp(false, 5000, 53, "ask again"))
	for kind, answer := range map[uint8]uint8{8: 0, 13: 14, 17: 18} {
		assert.Equal(t, "", c.icmp(false, kind, 0, 99, nil))
		assert.Equal(t, ReasonReply, c.icmp(true, answer, 0, 99, nil))
		assert.Equal(t, "", c.icmp(true, answer, 0, 98, nil), "another identifier was not asked for")
	}
	asked := c.segment(false, event.SYN, 1, "")
	require.Equal(t, "", c.raw(asked))
	assert.Equal(t, ReasonReply, c.icmp(true, 3, 3, 0, asked[:28]), "our host's port unreachable")
	assert.Equal(t, ReasonReply, c.icmp(false, 11, 0, 0, c.segment(true, event.RST, 1, "")[:28]), "an error on its way to our answer")
	assert.Equal(t, "", c.icmp(false, 3, 3, 0, c.segment(true, event.SYN, 1, "")[:20]), "too little is quoted to tell")
}

// An idle conversation is forgotten: what comes later is judged anew.
func TestIdle(t *testing.T) {
	c := newConversation(t, Options{})
	require.Equal(t, "", c.udp(false, 5000, 53, "ask"))
	c.now += idleOther
	require.Equal(t, "", c.udp(true, 5000, 53, "too late"))
	c.open()
	c.now += idleTCP
	assert.Equal(t, "", c.tcp(true, event.SYN|event.ACK, 5000, ""))
}

func TestTelescopes(t *testing.T) {
	in := []netip.Prefix{netip.MustParsePrefix("198.18.0.0/16"), netip.MustParsePrefix("::ffff:192.0.2.0/120"), netip.MustParsePrefix("2001:db8::/32")}
	for _, c := range []struct{ src, dst, want string }{
		{scanner, host, ""},
		{host, scanner, ReasonOutbound},
		{host, "198.18.255.255", ReasonInternal},
		{scanner, "198.19.0.0", ReasonForeign},
		{scanner, "192.0.2.200", ""},
		{"2001:db9::1", "2001:db8:ffff::1", ""},
		{"2001:db8::1", "2001:db9::1", ReasonOutbound},
		{"2001:db9::1", "2001:db9::2", ReasonForeign},
		{scanner, "224.0.0.1", ReasonMulticast},
		{scanner, "255.255.255.255", ReasonMulticast},
		{"2001:db9::1", "ff02::1", ReasonMulticast},
	} {
		conv := newConversation(t, Options{Telescopes: in})
		udp := &layers.UDP{SrcPort: 5000, DstPort: 69}
		var p []byte
		if netip.MustParseAddr(c.src).Is4() {
			ip := ip4(c.src, c.dst, layers.IPProtocolUDP)
			require.NoError(t, udp.SetNetworkLayerForChecksum(ip))
			p = build(t, ip, udp, gopacket.Payload("x"))
		} else {
			ip := ip6(c.src, c.dst, layers.IPProtocolUDP)
			require.NoError(t, udp.SetNetworkLayerForChecksum(ip))
			p = build(t, ip, udp, gopacket.Payload("x"))
		}
		assert.Equal(t, c.want, conv.raw(p), "%+v", c)
		if c.want == "" {
			assert.Equal(t, event.TechniqueUDP, conv.one().Technique)
		} else {
			assert.Empty(t, conv.events())
		}
	}
}

// With the telescope known, our host's own connections yield nothing, in either direction.
func TestOutboundConnections(t *testing.T) {
	c := newConversation(t, Options{Telescopes: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/16")}})
	assert.Equal(t, ReasonOutbound, c.tcp(true, event.SYN, 10, ""))
	assert.Equal(t, ReasonReply, c.tcp(false, event.SYN|event.ACK, 20, ""))
	assert.Equal(t, ReasonOutbound, c.tcp(true, event.PSH|event.ACK, 11, "GET / HTTP/1.1\r\n\r\n"))
	assert.Equal(t, ReasonReply, c.tcp(false, event.PSH|event.ACK, 21, "HTTP/1.1 200 OK\r\n\r\n"))
	assert.Equal(t, ReasonOutbound, c.udp(true, 53, 3000, "ask"))
	assert.Equal(t, ReasonReply, c.udp(false, 53, 3000, "answer"))
	assert.Equal(t, ReasonOutbound, c.icmp(true, 8, 0, 1, nil))
	assert.Equal(t, ReasonReply, c.icmp(false, 0, 0, 1, nil))
	assert.Empty(t, c.events())

	// The answer to a SYN from before the capture began: the rest is that connection's.
	c.sport++
	assert.Equal(t, ReasonOutbound, c.tcp(true, event.SYN|event.ACK, 20, ""))
	assert.Equal(t, ReasonSegment, c.tcp(false, event.ACK, 11, ""))
	assert.Equal(t, "", c.tcp(false, event.PSH|event.ACK, 11, "SSH-2.0-x\r\n"))
	assert.Equal(t, event.KindRequest, c.one().Kind)
}

func TestICMPErrorsAndAnswers(t *testing.T) {
	for kind, want := range map[uint8]event.Technique{
		0: event.TechniqueReply, 14: event.TechniqueReply, 18: event.TechniqueReply, 3: event.TechniqueUnreachable,
		4: event.TechniqueUnreachable, 5: event.TechniqueUnreachable, 12: event.TechniqueUnreachable, 11: event.TechniqueTimeExceeded,
		8: event.TechniquePing, 13: event.TechniqueTimestamp, 17: event.TechniqueAddressMask, 9: event.TechniqueNone,
	} {
		c := newConversation(t, Options{})
		require.Equal(t, "", c.icmp(false, kind, 1, 5, []byte("quoted")))
		e := c.one()
		assert.Equal(t, want, e.Technique, "type %d", kind)
		assert.Equal(t, kind, e.ICMPType)
		assert.EqualValues(t, 1, e.ICMPCode)
		assert.Zero(t, e.Sport)
		assert.Zero(t, e.Dport)
		assert.EqualValues(t, 6, e.PayloadLen)
	}
}

func TestICMPv6(t *testing.T) {
	for kind, want := range map[uint8]string{
		128: "scan ping", 129: "backscatter reply", 1: "backscatter unreachable", 2: "backscatter unreachable",
		3: "backscatter time_exceeded", 4: "backscatter unreachable", 135: ReasonNeighbour, 133: ReasonNeighbour, 143: ReasonNeighbour, 200: "other none",
	} {
		c := newConversation(t, Options{})
		ip := ip6("2001:db9::1", "2001:db8::1", layers.IPProtocolICMPv6)
		i := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
		require.NoError(t, i.SetNetworkLayerForChecksum(ip))
		got := c.raw(build(t, ip, i, gopacket.Payload([]byte{0, 9, 0, 1, 'x'})))
		if got == "" {
			e := c.one()
			got = e.Kind.String() + " " + e.Technique.String()
			assert.EqualValues(t, 1, e.PayloadLen)
		}
		assert.Equal(t, want, got, "type %d", kind)
	}
}

// A transport behind extension headers, in fragments, in tunnels, behind IP options, and cut in all places.
func TestIPVariants(t *testing.T) {
	tcp := []byte{0x9c, 0x40, 0, 80, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, event.SYN, 4, 0, 0, 0, 0, 0}
	v6 := func(next byte, rest ...[]byte) []byte {
		body := bytes.Join(append(rest, tcp), nil)
		h := make([]byte, 40)
		h[0], h[6], h[7] = 0x60, next, 60
		binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
		copy(h[8:], netip.MustParseAddr("2001:db9::1").AsSlice())
		copy(h[24:], netip.MustParseAddr("2001:db8::1").AsSlice())
		return append(h, body...)
	}
	ext := func(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }
	v4 := func(options []byte, offset uint16) []byte {
		h := make([]byte, 20, 80)
		h[0], h[8], h[9] = 0x45+byte(len(options)/4), 60, protoTCP
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(options)+len(tcp)))
		binary.BigEndian.PutUint16(h[6:], offset)
		copy(h[12:], netip.MustParseAddr(scanner).AsSlice())
		copy(h[16:], netip.MustParseAddr(host).AsSlice())
		return append(append(h, options...), tcp...)
	}
	zeroLength := v4(nil, 0)
	zeroLength[2], zeroLength[3] = 0, 0
	wrongVersion := v4(nil, 0)
	wrongVersion[0] = 0x65
	for _, c := range []struct {
		name string
		p    []byte
		link LinkType
		want string
	}{
		{"IPv6", v6(protoTCP), LinkRaw, ""},
		{"all extensions", v6(protoHopByHop, ext(protoDestination), ext(protoRouting), []byte{protoAuth, 0, 0, 0, 0, 0, 0, 1},
			[]byte{protoMobility, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, ext(protoTCP)), LinkRaw, ""},
		{"first fragment", v6(protoFragment, []byte{protoTCP, 0, 0, 1, 0, 0, 0, 1}), LinkRaw, ""},
		{"later fragment", v6(protoFragment, []byte{protoTCP, 0, 0, 8, 0, 0, 0, 1}), LinkRaw, ReasonFragment},
		{"endless extensions", v6(protoDestination, bytes.Repeat(ext(protoDestination), 20)), LinkRaw, ReasonMalformed},
		{"IPv4", v4(nil, 0), LinkRaw, ""},
		{"IP options", v4([]byte{7, 4, 1, 0}, 0), LinkRaw, ""},
		{"faulty IP options", v4([]byte{7, 99, 1, 0}, 0), LinkRaw, ""},
		{"later IPv4 fragment", v4(nil, 1), LinkRaw, ReasonFragment},
		{"first IPv4 fragment", v4(nil, 0x2000), LinkRaw, ""},
		{"length 0 of segmentation offload", zeroLength, LinkRaw, ""},
		{"6 in 4", build(t, ip4(scanner, host, protoIPv6), gopacket.Payload(v6(protoTCP))), LinkRaw, ""},
		{"4 in 6", build(t, ip6("2001:db9::1", "2001:db8::1", protoIPIP), gopacket.Payload(v4(nil, 0))), LinkRaw, ""},
		{"ARP", append(append(make([]byte, 12), 8, 6), make([]byte, 28)...), LinkEthernet, ReasonNotIP},
		{"spanning tree", append(append(make([]byte, 12), 0, 38, 0x42, 0x42, 3), make([]byte, 35)...), LinkEthernet, ReasonNotIP},
		{"five tags", append(append(make([]byte, 12), bytes.Repeat([]byte{0x81, 0, 0, 1}, 5)...), 8, 0), LinkEthernet, ReasonMalformed},
		{"wrong version", append(append(make([]byte, 12), 8, 0), wrongVersion...), LinkEthernet, ReasonMalformed},
		{"short Ethernet", make([]byte, 13), LinkEthernet, ReasonTruncated},
		{"nothing", nil, LinkRaw, ReasonTruncated},
	} {
		t.Run(c.name, func(t *testing.T) {
			conv := newConversation(t, Options{})
			conv.d.Decode(c.link, conv.now, len(c.p), c.p, &conv.b)
			tally := conv.d.Tally()
			if c.want != "" {
				assert.Equal(t, map[string]uint64{c.want: 1}, tally.Dropped)
				return
			}
			e := conv.one()
			assert.Equal(t, event.TechniqueSYN, e.Technique)
			assert.EqualValues(t, 40000, e.Sport)
			assert.EqualValues(t, 80, e.Dport)
			assert.EqualValues(t, 1024, e.Window)
			assert.EqualValues(t, 0, e.PayloadLen)
		})
		for n := range len(c.p) { // Cut anywhere, it is counted as something, and never as more than it is.
			conv := newConversation(t, Options{})
			conv.d.Decode(c.link, conv.now, len(c.p), c.p[:n:n], &conv.b)
			require.EqualValues(t, 1, conv.d.Tally().Packets)
			require.LessOrEqual(t, conv.b.Len(), 1)
		}
	}
}

// Other protocols are kept as what they are.
func TestOtherProtocols(t *testing.T) {
	for proto, want := range map[layers.IPProtocol]event.Proto{
		47: event.ProtoGRE, 50: event.ProtoESP, 4: event.ProtoOther, 89: event.ProtoOther, 2: event.ProtoIGMP, 59: event.ProtoOther,
	} {
		c := newConversation(t, Options{})
		require.Equal(t, "", c.raw(build(t, ip4(scanner, host, proto), gopacket.Payload("zzzz"))))
		e := c.one()
		assert.Equal(t, event.KindOther, e.Kind)
		assert.Equal(t, want, e.Proto)
		assert.EqualValues(t, 4, e.PayloadLen)
	}
	c := newConversation(t, Options{})
	init := []byte{0x9c, 0x40, 0x0b, 0x59, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20}
	require.Equal(t, "", c.raw(build(t, ip4(scanner, host, layers.IPProtocolSCTP), gopacket.Payload(init))))
	e := c.one()
	assert.Equal(t, event.TechniqueInit, e.Technique)
	assert.Equal(t, event.ProtoSCTP, e.Proto)
	assert.EqualValues(t, 2905, e.Dport)
	abort := []byte{0x0b, 0x59, 0x9c, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 4}
	assert.Equal(t, ReasonReply, c.raw(build(t, ip4(host, scanner, layers.IPProtocolSCTP), gopacket.Payload(abort))))
}

func TestReflections(t *testing.T) {
	ntp := make([]byte, 48)
	ntp[0] = 0x24
	ask := bytes.Clone(ntp)
	ask[0] = 0x23
	for _, c := range []struct {
		port     uint16
		answer   string
		question string
	}{
		{53, "ab\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00", "ab\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
		{123, string(ntp), string(ask)},
		{123, "\xd7\x00\x03\x2a\x00\x00\x00\x00", "\x17\x00\x03\x2a\x00\x00\x00\x00"},
		{123, "\x16\x82\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00", "\x16\x02\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"},
		{161, "\x30\x20\x02\x01\x01\x04\x06public\xa2\x13", "\x30\x20\x02\x01\x01\x04\x06public\xa1\x13"},
		{389, "\x30\x84\x00\x00\x00\x20\x02\x01\x07\x64\x10", "\x30\x25\x02\x01\x07\x63\x20"},
		{1900, "HTTP/1.1 200 OK\r\n", "M-SEARCH * HTTP/1.1\r\n"},
		{5060, "SIP/2.0 200 OK\r\n", "OPTIONS sip:100@1.2.3.4 SIP/2.0\r\n"},
		{5683, "\x60\x45\x00\x01", "\x40\x01\x00\x01"},
		{11211, "\x00\x00\x00\x00\x00\x01\x00\x00STAT pid 1\r\n", "\x00\x00\x00\x00\x00\x01\x00\x00stats\r\n"},
		{19, strings.Repeat("!\"#$%&'()*+,-./0123456789", 3), "x"},
		{137, "ab\x84\x00\x00\x00\x00\x01\x00\x00\x00\x00", "ab\x00\x10\x00\x01\x00\x00\x00\x00\x00\x00"},
		{111, "\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00", "\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02"},
		{3702, "<soap><ProbeMatches/>", "<soap><Probe/>"},
	} {
		conv := newConversation(t, Options{})
		require.Equal(t, "", conv.udp(false, c.port, 40000, c.answer))
		assert.Equal(t, event.TechniqueUDPReply, conv.one().Technique, "%d %q", c.port, c.answer)
		require.Equal(t, "", conv.udp(false, c.port, 80, c.answer), "to a service port")
		assert.Equal(t, event.TechniqueUDP, conv.one().Technique)
		require.Equal(t, "", conv.udp(false, c.port, 40001, c.question), "a scanner may send from this port")
		assert.Equal(t, event.TechniqueUDP, conv.one().Technique, "%d %q", c.port, c.question)
		for n := range len(c.answer) {
			isReflection(c.port, 40000, []byte(c.answer[:n])) // No cut may panic.
		}
	}
}

func TestTimes(t *testing.T) {
	p := packets(base(t))[0]
	for time, want := range map[int64]uint64{-1: 1, 0: 0, maxTime - 1: 0, maxTime: 1, 1<<63 - 1: 1} {
		d := NewDecoder(Options{})
		var b event.Batch
		d.Decode(LinkEthernet, time, p.wire, p.data, &b)
		assert.Equal(t, want, d.Tally().Dropped[ReasonTime], time)
		assert.EqualValues(t, 1-want, b.Len())
	}
}

// Snaplen cuts: fields that are there are used, payload lengths are those on the wire.
func TestSnaplen(t *testing.T) {
	c := newConversation(t, Options{})
	c.open()
	c.events()
	p := c.segment(false, event.PSH|event.ACK, 1001, "GET /index.html HTTP/1.1\r\nHost: example\r\n\r\n")
	require.Equal(t, "", c.cut(p, 40+24))
	e := c.one()
	assert.Equal(t, "GET", e.Method)
	assert.Equal(t, "/index.html", e.Path)
	assert.EqualValues(t, len(p)-40, e.PayloadLen)
	assert.Equal(t, ReasonSegment, c.raw(p), "the same bytes again, whole")

	c.sport++
	c.open()
	c.events()
	p = c.segment(false, event.PSH|event.ACK, 1001, "GET /index.html HTTP/1.1\r\nHost: example\r\n\r\n")
	assert.Equal(t, ReasonTruncated, c.cut(p, 35), "half of the window is missing")
	require.Equal(t, "", c.cut(p, 36))
	e = c.one()
	assert.Equal(t, event.KindRequest, e.Kind)
	assert.Empty(t, e.Method)
	assert.Zero(t, e.PayloadHash)
	assert.EqualValues(t, len(p)-40, e.PayloadLen)
	require.Equal(t, "", c.cut(c.segment(false, event.SYN, 1, ""), 36))
}
