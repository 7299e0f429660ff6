package capture

import (
	"encoding/binary"

	"github.com/google/gopacket"
)

// LinkType is a LINKTYPE_ or DLT_ value as captures carry it (https://www.tcpdump.org/linktypes.html).
type LinkType uint16

// The link types that are decoded.
const (
	LinkNull     LinkType = 0   // BSD loopback, family in the capturing host's byte order
	LinkEthernet LinkType = 1   // Ethernet
	LinkPPP      LinkType = 9   // PPP, with or without HDLC address and control
	LinkRaw12    LinkType = 12  // DLT_RAW on most systems, written as a link type by some tools
	LinkRaw14    LinkType = 14  // DLT_RAW on OpenBSD
	LinkPPPHDLC  LinkType = 50  // PPP in HDLC framing
	LinkPPPoE    LinkType = 51  // PPPoE session
	LinkRaw      LinkType = 101 // IPv4 or IPv6
	LinkLoop     LinkType = 108 // OpenBSD loopback, family in network byte order
	LinkSLL      LinkType = 113 // Linux cooked v1
	LinkIPv4     LinkType = 228
	LinkIPv6     LinkType = 229
	LinkSLL2     LinkType = 276 // Linux cooked v2
)

// Supported reports whether Decode knows the link type.
func (l LinkType) Supported() bool {
	switch l {
	case LinkNull, LinkEthernet, LinkPPP, LinkRaw12, LinkRaw14, LinkPPPHDLC, LinkPPPoE, LinkRaw, LinkLoop, LinkSLL,
		LinkIPv4, LinkIPv6, LinkSLL2:
		return true
	}
	return false
}

// Ethernet types.
const (
	etherIPv4    = 0x0800
	etherVLAN    = 0x8100
	etherQinQ    = 0x88a8
	etherVLAN91  = 0x9100
	etherVLAN92  = 0x9200
	etherIPv6    = 0x86dd
	etherMPLS    = 0x8847
	etherMPLSm   = 0x8848
	etherPPPoE   = 0x8864
	etherTEB     = 0x6558 // Ethernet inside GRE
	etherPPP     = 0x880b // PPP inside GRE
	etherNone    = 0
	maxTags      = 4
	maxLabels    = 16
	maxTunnels   = 4
	protoIPIP    = 4
	protoIPv6    = 41
	protoGRE     = 47
	lengthFields = 0x0600 // Ethernet types below are lengths of an LLC frame
)

// linkLayer strips a link layer and decodes what it carries.
//
// Ethernet goes through gopacket's layer; the small headers are read here, because gopacket's
// decoders for them allocate a layer each (PPP, PPPoE, MPLS), do not exist (SLL2) or panic on
// short data (SLL, GRE).
func (d *Decoder) linkLayer(l LinkType, p []byte, wire int) reason {
	switch l {
	case LinkEthernet:
		return d.ethernet(p, wire)
	case LinkRaw, LinkRaw12, LinkRaw14, LinkIPv4, LinkIPv6:
		return d.rawIP(p, wire)
	case LinkSLL:
		if len(p) < 16 {
			return truncated
		}
		return d.etherType(binary.BigEndian.Uint16(p[14:]), p[16:], wire-16)
	case LinkSLL2:
		if len(p) < 20 {
			return truncated
		}
		return d.etherType(binary.BigEndian.Uint16(p), p[20:], wire-20)
	case LinkNull, LinkLoop:
		return d.loopback(p, wire)
	case LinkPPP, LinkPPPHDLC:
		return d.ppp(p, wire)
	case LinkPPPoE:
		return d.pppoe(p, wire)
	}
	return badLink
}

func (d *Decoder) ethernet(p []byte, wire int) reason {
	if len(p) < 14 {
		return truncated
	}
	if err := d.eth.DecodeFromBytes(p, gopacket.NilDecodeFeedback); err != nil {
		return malformed
	}
	if d.eth.Length > 0 {
		return d.llc(d.eth.Payload, wire-14)
	}
	return d.etherType(uint16(d.eth.EthernetType), d.eth.Payload, wire-14)
}

// llc finds IP behind a SNAP header; everything else in LLC frames is no IP.
func (d *Decoder) llc(p []byte, wire int) reason {
	if len(p) < 8 || string(p[:6]) != "\xaa\xaa\x03\x00\x00\x00" {
		return notIP
	}
	return d.etherType(binary.BigEndian.Uint16(p[6:]), p[8:], wire-8)
}

// etherType strips VLAN tags and hands the rest on.
func (d *Decoder) etherType(t uint16, p []byte, wire int) reason {
	for tags := 0; ; tags++ {
		switch t {
		case etherVLAN, etherQinQ, etherVLAN91, etherVLAN92:
			if tags == maxTags {
				return malformed
			}
			if d.vlan.DecodeFromBytes(p, gopacket.NilDecodeFeedback) != nil {
				return truncated
			}
			t, p, wire = uint16(d.vlan.Type), d.vlan.Payload, wire-4
			continue
		case etherIPv4:
			return d.ipv4(p, wire)
		case etherIPv6:
			return d.ipv6(p, wire)
		case etherMPLS, etherMPLSm:
			return d.mpls(p, wire)
		case etherPPPoE:
			return d.pppoe(p, wire)
		}
		if t < lengthFields && t != etherNone && tags > 0 {
			return d.llc(p, wire)
		}
		return notIP
	}
}

func (d *Decoder) rawIP(p []byte, wire int) reason {
	if len(p) == 0 {
		return truncated
	}
	switch p[0] >> 4 {
	case 4:
		return d.ipv4(p, wire)
	case 6:
		return d.ipv6(p, wire)
	}
	return notIP
}

// loopback: the family is 2 for IPv4 everywhere, and 10, 24, 28 or 30 for IPv6. Null headers are in the byte
// order of whoever captured, which no file header tells; no family is above 255, so the end that holds the number
// shows.
func (d *Decoder) loopback(p []byte, wire int) reason {
	if len(p) < 4 {
		return truncated
	}
	family := binary.LittleEndian.Uint32(p)
	if family > 0xff {
		family = binary.BigEndian.Uint32(p)
	}
	switch family {
	case 2:
		return d.ipv4(p[4:], wire-4)
	case 10, 24, 28, 30:
		return d.ipv6(p[4:], wire-4)
	}
	return notIP
}

// ppp reads RFC 1661 framing with the optional HDLC address and control of RFC 1662 and a protocol field
// that may be compressed to one byte.
func (d *Decoder) ppp(p []byte, wire int) reason {
	if len(p) >= 2 && p[0] == 0xff && p[1] == 0x03 {
		p, wire = p[2:], wire-2
	}
	if len(p) < 2 {
		return truncated
	}
	proto, n := uint16(p[0]), 1
	if p[0]&1 == 0 {
		proto, n = binary.BigEndian.Uint16(p), 2
	}
	switch proto {
	case 0x0021:
		return d.ipv4(p[n:], wire-n)
	case 0x0057:
		return d.ipv6(p[n:], wire-n)
	case 0x0281, 0x0283:
		return d.mpls(p[n:], wire-n)
	}
	return notIP
}

// pppoe reads a session packet (RFC 2516); discovery has an Ethernet type of its own.
func (d *Decoder) pppoe(p []byte, wire int) reason {
	if len(p) < 6 {
		return truncated
	}
	if p[1] != 0 {
		return notIP
	}
	return d.ppp(p[6:], wire-6)
}

// mpls strips the label stack. What it carries is not said, so the IP version is looked at.
func (d *Decoder) mpls(p []byte, wire int) reason {
	for range maxLabels {
		if len(p) < 4 {
			return truncated
		}
		bottom := p[2]&1 != 0
		p, wire = p[4:], wire-4
		if bottom {
			return d.rawIP(p, wire)
		}
	}
	return malformed
}

// gre decodes what a GRE packet (RFC 2784, 2890; version 1 of RFC 2637) carries, if that is IP.
func (d *Decoder) gre(p []byte, wire int) reason {
	if len(p) < 4 {
		return truncated
	}
	flags, t := binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:])
	n := 4
	for _, f := range []struct {
		bits uint16
		size int
	}{{0xc000, 4}, {0x2000, 4}, {0x1000, 4}, {0x0080, 4}} {
		if flags&f.bits != 0 && (f.bits != 0x0080 || flags&7 == 1) {
			n += f.size
		}
	}
	// Source routes were removed from GRE by RFC 2784.
	if flags&0x4000 != 0 || len(p) < n {
		return malformed
	}
	p, wire = p[n:], wire-n
	switch t {
	case etherTEB:
		return d.ethernet(p, wire)
	case etherPPP:
		return d.ppp(p, wire)
	}
	return d.etherType(t, p, wire)
}
