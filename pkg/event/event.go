// Package event defines the one thing that murmuration stores: a probe, or the first request of a
// connection, as seen by a sensor. It imports nothing of ours; decoders produce events, the store
// writes them, and the words used here are the words of the SQL schema.
package event

import (
	"fmt"
	"net/netip"
	"time"
)

// Proto is an IP protocol. Its values are the IANA protocol numbers folded into a signed byte, which
// is what ClickHouse's Enum8 holds (SCTP, 132, becomes -124).
type Proto int8

// Protocols that have a name of their own in the schema. Everything else is ProtoOther.
const (
	ProtoOther  Proto = 0
	ProtoICMP   Proto = 1
	ProtoIGMP   Proto = 2
	ProtoTCP    Proto = 6
	ProtoUDP    Proto = 17
	ProtoGRE    Proto = 47
	ProtoESP    Proto = 50
	ProtoAH     Proto = 51
	ProtoICMPv6 Proto = 58
	ProtoSCTP   Proto = 132 - 256
)

// Kind says what an event is.
type Kind int8

// The kinds. A scan is a probe: an unsolicited packet that asks whether somebody is there. A request
// is a payload that a source sent over a connection it opened. Backscatter is the answer of
// a third party to traffic that somebody else sent with our address as its source; it is never
// called a scan. Other is unsolicited traffic that is none of these (misconfiguration, stray segments).
const (
	KindScan        Kind = 1
	KindRequest     Kind = 2
	KindBackscatter Kind = 3
	KindOther       Kind = 4
)

// Technique says how a probe asks, in nmap's words for scan techniques, or what sort of answer a
// piece of backscatter is.
type Technique int8

// The techniques.
const (
	TechniqueNone Technique = iota // not a probe, or not known
	// TCP probes, by flags.
	TechniqueSYN    // SYN set, ACK, FIN and RST clear
	TechniqueFIN    // FIN only
	TechniqueNull   // no flag at all
	TechniqueXmas   // FIN, PSH and URG
	TechniqueMaimon // FIN and ACK, outside any connection
	TechniqueACK    // ACK only, no payload, outside any connection
	// TechniqueUDP is any unsolicited datagram.
	TechniqueUDP
	// ICMP and ICMPv6 probes.
	TechniquePing        // echo request
	TechniqueTimestamp   // ICMP timestamp request
	TechniqueAddressMask // ICMP address mask request
	TechniqueInit        // SCTP INIT
	// Backscatter.
	TechniqueSYNACK
	TechniqueRST
	TechniqueUnreachable  // ICMP destination unreachable, source quench, parameter problem, packet too big
	TechniqueTimeExceeded // ICMP time exceeded
	TechniqueReply        // ICMP echo, timestamp or mask reply
	TechniqueUDPReply     // datagram from a well-known amplifier's service port to a high port
	TechniqueRequest      // a request over a connection
)

// TCP flags as they stand in the header's low byte.
const (
	FIN uint8 = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// Names of the enumerations, in the order of their values. The SQL schema declares the same pairs;
// a test in pkg/store holds the two against each other.
var (
	protoNames = map[Proto]string{
		ProtoOther: "other", ProtoICMP: "icmp", ProtoIGMP: "igmp", ProtoTCP: "tcp", ProtoUDP: "udp", ProtoGRE: "gre",
		ProtoESP: "esp", ProtoAH: "ah", ProtoICMPv6: "icmpv6", ProtoSCTP: "sctp",
	}
	kindNames = map[Kind]string{
		KindScan: "scan", KindRequest: "request", KindBackscatter: "backscatter", KindOther: "other",
	}
	techniqueNames = map[Technique]string{
		TechniqueNone: "none", TechniqueSYN: "syn", TechniqueFIN: "fin", TechniqueNull: "null", TechniqueXmas: "xmas",
		TechniqueMaimon: "maimon", TechniqueACK: "ack", TechniqueUDP: "udp", TechniquePing: "ping",
		TechniqueTimestamp: "timestamp", TechniqueAddressMask: "mask", TechniqueInit: "init",
		TechniqueSYNACK: "synack", TechniqueRST: "rst", TechniqueUnreachable: "unreachable",
		TechniqueTimeExceeded: "time_exceeded", TechniqueReply: "reply", TechniqueUDPReply: "udp_reply",
		TechniqueRequest: "request",
	}
)

func (p Proto) String() string     { return protoNames[p] }
func (k Kind) String() string      { return kindNames[k] }
func (t Technique) String() string { return techniqueNames[t] }

// Protos returns every protocol with its name.
func Protos() map[Proto]string { return clone(protoNames) }

// Kinds returns every kind with its name.
func Kinds() map[Kind]string { return clone(kindNames) }

// Techniques returns every technique with its name.
func Techniques() map[Technique]string { return clone(techniqueNames) }

func clone[K comparable](m map[K]string) map[K]string {
	c := make(map[K]string, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}

// ProtoFromNumber returns the Proto of an IANA protocol number.
func ProtoFromNumber(n uint8) Proto {
	p := Proto(int8(n))
	if _, ok := protoNames[p]; ok {
		return p
	}
	return ProtoOther
}

// ParseProto returns the protocol with this name ("tcp"), as the schema and the command line spell it.
func ParseProto(name string) (Proto, error) {
	for p, n := range protoNames {
		if n == name {
			return p, nil
		}
	}
	return 0, fmt.Errorf("unknown protocol %q", name)
}

// IP is an address as the schema holds it: 16 bytes, IPv4 mapped into ::ffff:0:0/96.
type IP = [16]byte

// Addr returns ip as a netip.Addr with a mapped IPv4 address unmapped.
func Addr(ip IP) netip.Addr { return netip.AddrFrom16(ip).Unmap() }

// IPOf returns a as 16 bytes.
func IPOf(a netip.Addr) IP { return a.As16() }

// Event is one probe, or one request of a connection. Header fields are in host order and exactly as
// they were on the wire; a field that the protocol does not have is zero.
type Event struct {
	Time   int64  // microseconds since 1970-01-01 UTC
	Sensor string // name of the sensor that saw it
	Src    IP
	Dst    IP
	Sport  uint16
	Dport  uint16 // 0 for protocols without ports
	Proto  Proto
	Kind   Kind

	Technique Technique
	Packets   uint32 // packets this row stands for; 1 for captures, more for flow logs

	Flags     uint8  // TCP flags
	Window    uint16 // TCP window, unscaled
	Seq       uint32 // TCP sequence number
	IPID      uint16 // IPv4 identification
	TTL       uint8  // TTL or hop limit as received
	DF        bool   // IPv4 don't-fragment
	Signature string // of a SYN: "window:option kinds:mss:wscale", see fingerprint.Signature
	Tool      string // the tool whose exact rule this packet obeys, or ""
	ICMPType  uint8
	ICMPCode  uint8

	PayloadLen  uint32 // bytes of payload on the wire, also where the capture cut it
	PayloadHash uint64 // xxHash64 of the captured payload, 0 without payload

	Method    string // HTTP request method
	Host      string // HTTP Host header
	Path      string // HTTP request target
	UserAgent string // HTTP User-Agent header
}

// When returns the event's time.
func (e *Event) When() time.Time { return time.UnixMicro(e.Time).UTC() }
