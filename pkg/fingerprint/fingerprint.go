// Package fingerprint names the scan tool that made a packet, by exact rules on header fields.
//
// A rule that one packet can obey is applied by Tool; rules that need several packets of a source, and
// the decision about a source, are in Tally. One packet obeys most rules by chance once in 65,536
// times, so whoever wants to say something about a source asks a Tally.
//
// Nothing here keeps state or allocates.
package fingerprint

import (
	"encoding/binary"

	"murmuration/pkg/event"
)

// Names of the tools, as they stand in the events table.
const (
	ZMap        = "zmap"
	Masscan     = "masscan"
	Mirai       = "mirai"
	Nmap        = "nmap"
	Naabu       = "naabu"
	Unicornscan = "unicornscan"
)

// zmapIPID is the IP identification of every ZMap probe before 4.1.0 (zmap/zmap v2.1.1 and v3.0.0,
// src/probe_modules/packet.c, make_ip_header).
const zmapIPID = 54321

// mss is the segment size that all of these tools write: the Ethernet MTU less two headers.
const mss = 1460

var mapped = [12]byte{10: 0xff, 11: 0xff}

// ipv4 returns ip as a number where it is a mapped IPv4 address.
func ipv4(ip event.IP) (uint32, bool) {
	if [12]byte(ip[:12]) != mapped {
		return 0, false
	}
	return binary.BigEndian.Uint32(ip[12:]), true
}

func isSYN(e *event.Event) bool {
	return e.Proto == event.ProtoTCP && e.Flags&(event.SYN|event.ACK|event.FIN|event.RST) == event.SYN
}

// Tool returns the tool whose packet-level rule e obeys, or "". The options o are those of e's TCP
// header; nil says that they are not known (firewall logs), and a rule then judges the rest. Only
// packets that ask are judged: an answer carries the fields of whoever answers.
//
// The rules, in the order of their strength:
//
//   - mirai: SYN whose sequence number is the destination address (jgamblin/Mirai-Source-Code,
//     mirai/bot/scanner.c). By chance 1 in 2^32.
//   - zmap, see ZMapRule.
//   - masscan, see MasscanRule.
//   - nmap, see NmapRule.
//
// naabu cannot be told from nmap by one packet, and unicornscan not from anything: see Tally.
func Tool(e *event.Event, o *TCPOptions) string {
	if e.Kind == event.KindBackscatter {
		return ""
	}
	switch {
	case MiraiRule(e, o):
		return Mirai
	case ZMapRule(e, o):
		return ZMap
	case MasscanRule(e, o):
		return Masscan
	case NmapRule(e, o):
		return Nmap
	}
	return ""
}

// MiraiRule holds for a SYN without options whose sequence number equals the destination address.
func MiraiRule(e *event.Event, o *TCPOptions) bool {
	dst, ok := ipv4(e.Dst)
	return ok && isSYN(e) && e.Seq == dst && (o == nil || o.N == 0)
}

// ZMapRule holds for probes of ZMap.
//
// Before 4.1.0 (2024-03): IP identification 54321, don't-fragment clear, sent with TTL 255, for TCP window
// 65535 and either no options (v2) or MSS 1460 alone (v3) (zmap/zmap src/probe_modules/packet.c). The
// identification marks UDP and ICMP probes just the same.
//
// From 4.1.0 the identification is random. What is left are the option layouts of
// src/probe_modules/packet.c; they are judged only where they are distinctive: TTL near 255, window 65535,
// don't-fragment clear and MSS 1460, and either the layout windows (2,1,3,1,1,4; Windows itself sends TTL 128
// and sets don't-fragment) or one of linux (2,4,8,1,3) and bsd (2,1,3,1,1,8,4,0,0), whose TSval is the sender's
// clock in seconds with TSecr 0: within five seconds of the capture. This half was not yet seen on traffic of the
// real tool. The layout "smallest" (MSS alone) is not distinctive for one packet and not claimed.
func ZMapRule(e *event.Event, o *TCPOptions) bool {
	if _, v4 := ipv4(e.Dst); !v4 || e.DF || TTLClass(e.TTL) != 255 {
		return false
	}
	if e.Proto != event.ProtoTCP {
		return e.IPID == zmapIPID && (e.Proto == event.ProtoUDP || e.Proto == event.ProtoICMP)
	}
	if e.Window != 65535 {
		return false
	}
	if e.IPID == zmapIPID {
		return o == nil || o.N == 0 || o.only(mss)
	}
	return o != nil && isSYN(e) && zmap41(e, o)
}

func zmap41(e *event.Event, o *TCPOptions) bool {
	if !o.HasMSS || o.MSS != mss {
		return false
	}
	if o.kinds(2, 1, 3, 1, 1, 4) {
		return true
	}
	if !o.kinds(2, 4, 8, 1, 3) && !o.kinds(2, 1, 3, 1, 1, 8, 4, 0, 0) {
		return false
	}
	age := e.Time/1e6 - int64(o.TSVal)
	return o.HasTime && o.TSEcr == 0 && age >= -5 && age <= 5
}

// MasscanRelation holds if ip.id == (dst ^ dport ^ seq) & 0xFFFF for a TCP packet over IPv4
// (robertdavidgraham/masscan src/templ-pkt.c). The mask is part of the rule: without it nothing matches.
// By chance 1 in 65,536.
func MasscanRelation(e *event.Event) bool {
	dst, ok := ipv4(e.Dst)
	return ok && e.Proto == event.ProtoTCP && e.IPID == uint16(dst)^e.Dport^uint16(e.Seq)
}

// MasscanRule holds for a SYN that obeys MasscanRelation with a signature that masscan is known to send. That is don't-fragment
// clear and window 1024 without options (up to 1.3.2) or window 1025 with MSS 1460 alone (development head
// since 2023-11). Rebuilt masscans with another window obey the bare relation, which Tally counts.
func MasscanRule(e *event.Event, o *TCPOptions) bool {
	if !isSYN(e) || e.DF || !MasscanRelation(e) {
		return false
	}
	switch e.Window {
	case 1024:
		return o == nil || o.N == 0
	case 1025:
		return o == nil || o.only(mss)
	}
	return false
}

// NmapRule holds for the SYN of nmap's raw scans: window 1024 (a multiple of it up to 4096, drawn at random, in old
// versions), MSS 1460 alone, TTL 37 to 59 when sent (nmap/nmap nmap.h TCP_SYN_PROBE_OPTIONS, tcpip.cc).
// naabu and others send the same signature with a TTL of 64 or more at the origin, so a packet with TTL
// above 59 is not nmap's. Options must be known.
func NmapRule(e *event.Event, o *TCPOptions) bool {
	return nmapSignature(e, o) && e.TTL <= 59
}

func nmapSignature(e *event.Event, o *TCPOptions) bool {
	if o == nil || !isSYN(e) || e.DF || !o.only(mss) {
		return false
	}
	switch e.Window {
	case 1024, 2048, 3072, 4096:
		return true
	}
	return false
}
