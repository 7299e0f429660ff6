package capture

import (
	"encoding/binary"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"murmuration/pkg/event"
)

// ICMPv6 types (RFC 4443) that are told apart.
const (
	icmp6Unreachable = 1
	icmp6TooBig      = 2
	icmp6Exceeded    = 3
	icmp6Parameter   = 4
	icmp6Echo        = 128
	icmp6EchoReply   = 129
)

func (d *Decoder) decodeICMP(p []byte, wire int) reason {
	if len(p) < 2 {
		return truncated
	}
	e := &d.ev
	e.ICMPType, e.ICMPCode = p[0], p[1]
	var id uint16
	var payload []byte
	if len(p) >= 8 && d.icmp.DecodeFromBytes(p, gopacket.NilDecodeFeedback) == nil {
		id, payload = d.icmp.Id, d.icmp.Payload
	}
	d.payload(payload, wire-8)
	switch e.ICMPType {
	case layers.ICMPv4TypeEchoRequest:
		return d.ask(protoICMP, layers.ICMPv4TypeEchoRequest, id, event.TechniquePing)
	case layers.ICMPv4TypeTimestampRequest:
		return d.ask(protoICMP, layers.ICMPv4TypeTimestampRequest, id, event.TechniqueTimestamp)
	case layers.ICMPv4TypeAddressMaskRequest:
		return d.ask(protoICMP, layers.ICMPv4TypeAddressMaskRequest, id, event.TechniqueAddressMask)
	case layers.ICMPv4TypeEchoReply:
		return d.tell(protoICMP, layers.ICMPv4TypeEchoRequest, id)
	case layers.ICMPv4TypeTimestampReply:
		return d.tell(protoICMP, layers.ICMPv4TypeTimestampRequest, id)
	case layers.ICMPv4TypeAddressMaskReply:
		return d.tell(protoICMP, layers.ICMPv4TypeAddressMaskRequest, id)
	case layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4TypeSourceQuench, layers.ICMPv4TypeRedirect, layers.ICMPv4TypeParameterProblem:
		return d.icmpError(payload, event.TechniqueUnreachable)
	case layers.ICMPv4TypeTimeExceeded:
		return d.icmpError(payload, event.TechniqueTimeExceeded)
	}
	return d.emitUnlessOut(event.KindOther, event.TechniqueNone)
}

func (d *Decoder) decodeICMPv6(p []byte, wire int) reason {
	if len(p) < 2 {
		return truncated
	}
	e := &d.ev
	e.ICMPType, e.ICMPCode = p[0], p[1]
	var id uint16
	var payload []byte
	if len(p) >= 8 {
		id, payload = binary.BigEndian.Uint16(p[4:]), p[8:]
	}
	d.payload(payload, wire-8)
	switch t := e.ICMPType; {
	case t == icmp6Echo:
		return d.ask(protoICMPv6, icmp6Echo, id, event.TechniquePing)
	case t == icmp6EchoReply:
		return d.tell(protoICMPv6, icmp6Echo, id)
	case t == icmp6Exceeded:
		return d.icmpError(payload, event.TechniqueTimeExceeded)
	case t == icmp6Unreachable, t == icmp6TooBig, t == icmp6Parameter:
		return d.icmpError(payload, event.TechniqueUnreachable)
	case t >= 130 && t <= 137, t >= 141 && t <= 143, t >= 148 && t <= 153:
		// Multicast listeners, router and neighbour discovery, and their kin (RFC 4861, 3122, 3810, 3971, 4286).
		return neighbour
	}
	return d.emitUnlessOut(event.KindOther, event.TechniqueNone)
}

// echoKey is the conversation of ICMP requests of one type and their answers, which share an identifier in place
// of ports.
func echoKey(src, dst *event.IP, proto, kind uint8, id uint16) (k flowKey, low bool) {
	k, low = keyOf(src, dst, id, id, proto)
	k[37] = kind
	return k, low
}

// ask: a request that a host answers.
func (d *Decoder) ask(proto, kind uint8, id uint16, t event.Technique) reason {
	e := &d.ev
	key, low := echoKey(&e.Src, &e.Dst, proto, kind, id)
	if f, at := d.flows.get(&key, e.Time); f == nil {
		d.flows.put(&at, flowProbed, low, e.Time)
	}
	if d.outward {
		return outbound
	}
	return d.scan(t, nil)
}

// tell: the answer to a request of this type.
func (d *Decoder) tell(proto, kind uint8, id uint16) reason {
	e := &d.ev
	key, low := echoKey(&e.Src, &e.Dst, proto, kind, id)
	if f, _ := d.flows.get(&key, e.Time); f != nil && f.low != low {
		return reply
	}
	return d.emitUnlessOut(event.KindBackscatter, event.TechniqueReply)
}

// icmpError: an error about a packet of a conversation that the capture holds belongs to that conversation;
// every other one answers traffic that somebody else sent in our name.
func (d *Decoder) icmpError(inner []byte, t event.Technique) reason {
	if d.outward {
		return outbound
	}
	if d.knows(inner) {
		return reply
	}
	return d.emit(event.KindBackscatter, t)
}

// knows reports whether the packet whose beginning an ICMP error quotes belongs to a known conversation.
func (d *Decoder) knows(p []byte) bool {
	var src, dst event.IP
	var proto uint8
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		map4(&src, p[12:16])
		map4(&dst, p[16:20])
		proto = p[9]
		p = p[min(int(p[0]&15)*4, len(p)):]
	case len(p) >= 40 && p[0]>>4 == 6:
		src, dst = event.IP(p[8:24]), event.IP(p[24:40])
		proto, p = p[6], p[40:]
	default:
		return false
	}
	var key flowKey
	switch {
	case (proto == protoTCP || proto == protoUDP || proto == protoSCTP) && len(p) >= portBytes:
		key, _ = keyOf(&src, &dst, binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:]), proto)
	case (proto == protoICMP || proto == protoICMPv6) && len(p) >= 8:
		key, _ = echoKey(&src, &dst, proto, p[0], binary.BigEndian.Uint16(p[4:]))
	default:
		return false
	}
	f, _ := d.flows.get(&key, d.ev.Time)
	return f != nil
}
