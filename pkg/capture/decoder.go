package capture

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"murmuration/pkg/event"
	"murmuration/pkg/fingerprint"
)

// maxTime is 2106-02-07, before which 32-bit seconds end; times from here on are not believed.
const maxTime = 4294944000 * 1e6

// Decoder turns single packets into events. It is for one goroutine.
type Decoder struct {
	sensor string
	scope  scope
	flows  *flows
	heads  heads
	text   interner
	counts counts

	eth  layers.Ethernet
	vlan layers.Dot1Q
	ip4  layers.IPv4
	tcp  layers.TCP
	udp  layers.UDP
	icmp layers.ICMPv4

	ev      event.Event // the packet at hand
	batch   *event.Batch
	outward bool // the packet at hand leaves the telescope
	tunnels int  // around the packet at hand
	short   cut  // what gopacket said about it
	options fingerprint.TCPOptions
	scratch [64]byte
	rest    [headBytes]byte
}

// NewDecoder returns a Decoder.
func NewDecoder(opt Options) *Decoder {
	limit := opt.MaxFlows
	if limit <= 0 {
		limit = DefaultMaxFlows
	}
	d := &Decoder{sensor: opt.Sensor, scope: newScope(opt.Telescopes)}
	d.flows = newFlows(limit, d.finish)
	return d
}

// Tally says what became of the packets so far.
func (d *Decoder) Tally() Tally { return d.counts.tally() }

// Flush appends the events of requests that are still incomplete, oldest first, and forgets these requests.
func (d *Decoder) Flush(b *event.Batch) {
	d.batch = b
	for d.heads.oldest != nil {
		d.finish(d.heads.oldest.flow)
	}
}

// Decode decodes one packet and appends its events to b: none, one or more, and those of earlier packets that were
// waiting. The time is in microseconds since 1970, negative if there is none; wire is how many bytes
// the packet had on the wire, of which data are those captured. data is not kept.
func (d *Decoder) Decode(link LinkType, time int64, wire int, data []byte, b *event.Batch) {
	d.batch = b
	if time < 0 || time >= maxTime {
		d.drop(badTime)
		return
	}
	d.expire(time)
	d.ev = event.Event{Time: time, Sensor: d.sensor, Packets: 1}
	d.outward, d.tunnels = false, 0
	d.drop(d.linkLayer(link, data, max(wire, len(data))))
}

// drop counts a packet under its reason, or as used.
func (d *Decoder) drop(r reason) {
	d.counts.packets++
	d.counts.reasons[r]++
}

// emit appends the event at hand.
func (d *Decoder) emit(kind event.Kind, technique event.Technique) reason {
	d.ev.Kind, d.ev.Technique = kind, technique
	d.append(&d.ev)
	return used
}

// append adds e to the batch.
func (d *Decoder) append(e *event.Event) {
	d.counts.events[e.Kind]++
	d.batch.Append(e)
}

// scan appends the event at hand as a probe and names its tool.
func (d *Decoder) scan(technique event.Technique, o *fingerprint.TCPOptions) reason {
	d.ev.Kind = event.KindScan
	d.ev.Tool = fingerprint.Tool(&d.ev, o)
	return d.emit(event.KindScan, technique)
}

// payload notes what the packet carries: its length on the wire, and a hash of what was captured.
func (d *Decoder) payload(p []byte, wire int) {
	d.ev.PayloadLen = uint32(max(wire, len(p), 0))
	d.ev.PayloadHash = 0
	if len(p) > 0 {
		d.ev.PayloadHash = xxhash.Sum64(p)
	}
}

// cut remembers whether gopacket found a header cut short.
type cut struct{ truncated bool }

func (c *cut) SetTruncated() { c.truncated = true }

var _ gopacket.DecodeFeedback = (*cut)(nil)

func (d *Decoder) ipv4(p []byte, wire int) reason {
	if len(p) < 20 {
		return truncated
	}
	d.short.truncated = false
	err := d.ip4.DecodeFromBytes(p, &d.short)
	if p[0]>>4 != 4 {
		return malformed
	}
	// Faulty IP options are an error too, but only after the payload was set; such packets are still probes.
	if err != nil && d.ip4.Payload == nil {
		if d.short.truncated {
			return truncated
		}
		return malformed
	}
	header := int(d.ip4.IHL) * 4
	if total := int(binary.BigEndian.Uint16(p[2:])); total > 0 {
		wire = total
	}
	map4(&d.ev.Src, p[12:16])
	map4(&d.ev.Dst, p[16:20])
	d.ev.IPID, d.ev.TTL, d.ev.DF = d.ip4.Id, d.ip4.TTL, d.ip4.Flags&layers.IPv4DontFragment != 0
	if d.ip4.FragOffset > 0 {
		return fragment
	}
	return d.transport(uint8(d.ip4.Protocol), d.ip4.Payload, wire-header, false)
}

func map4(dst *event.IP, v4 []byte) {
	*dst = event.IP{10: 0xff, 11: 0xff}
	copy(dst[12:], v4)
}

// IPv6 extension headers (RFC 8200, 4302, 6275, 7401, 5533), by which the transport may be preceded.
const (
	protoHopByHop    = 0
	protoRouting     = 43
	protoFragment    = 44
	protoAuth        = 51
	protoNone        = 59
	protoDestination = 60
	protoMobility    = 135
	protoHIP         = 139
	protoShim6       = 140
	maxExtensions    = 8
)

// ipv6 is read here and not by gopacket, which allocates for every hop-by-hop option and refuses
// a length of 0 as segmentation offload leaves it.
func (d *Decoder) ipv6(p []byte, wire int) reason {
	if len(p) < 40 {
		return truncated
	}
	if p[0]>>4 != 6 {
		return malformed
	}
	wire -= 40
	if n := int(binary.BigEndian.Uint16(p[4:])); n > 0 {
		wire = n
	}
	next := p[6]
	d.ev.IPID, d.ev.DF, d.ev.TTL = 0, false, p[7]
	copy(d.ev.Src[:], p[8:24])
	copy(d.ev.Dst[:], p[24:40])
	p = p[40:]
	p = p[:min(len(p), max(wire, 0))]
	for range maxExtensions {
		var size int
		switch next {
		case protoHopByHop, protoRouting, protoDestination, protoMobility, protoHIP, protoShim6, protoAuth, protoFragment:
			if len(p) < 8 {
				return truncated
			}
			size = 8 + 8*int(p[1])
		default:
			return d.transport(next, p, wire, true)
		}
		switch next {
		case protoAuth:
			size = 8 + 4*int(p[1])
		case protoFragment:
			size = 8
			if binary.BigEndian.Uint16(p[2:])>>3 != 0 {
				return fragment
			}
		}
		if len(p) < size {
			return truncated
		}
		next, p, wire = p[0], p[size:], wire-size
	}
	return malformed
}

// IP protocol numbers.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132
)

// transport decodes what an IP packet carries: a tunnel is opened, everything else is judged.
func (d *Decoder) transport(proto uint8, p []byte, wire int, v6 bool) reason {
	if done, r := d.tunnel(proto, p, wire); done {
		return r
	}
	d.ev.Proto = event.ProtoFromNumber(proto)
	if r := d.direction(); r != used {
		return r
	}
	r := d.judge(proto, p, wire, v6)
	if d.outward {
		return outbound
	}
	return r
}

func (d *Decoder) judge(proto uint8, p []byte, wire int, v6 bool) reason {
	switch {
	case proto == protoTCP:
		return d.decodeTCP(p, wire)
	case proto == protoUDP:
		return d.decodeUDP(p, wire)
	case proto == protoICMP && !v6:
		return d.decodeICMP(p, wire)
	case proto == protoICMPv6 && v6:
		return d.decodeICMPv6(p, wire)
	case proto == protoSCTP:
		return d.decodeSCTP(p, wire)
	case d.outward:
		return outbound
	}
	d.payload(p, wire)
	return d.emit(event.KindOther, event.TechniqueNone)
}

// tunnel decodes the packet inside a tunnel in place of the outer one. Where there is none inside, the outer
// packet is what was sent.
func (d *Decoder) tunnel(proto uint8, p []byte, wire int) (done bool, r reason) {
	if proto != protoGRE && proto != protoIPIP && proto != protoIPv6 || d.tunnels == maxTunnels {
		return false, used
	}
	outer := d.ev
	d.tunnels++
	switch proto {
	case protoGRE:
		r = d.gre(p, wire)
	case protoIPIP:
		r = d.ipv4(p, wire)
	case protoIPv6:
		r = d.ipv6(p, wire)
	}
	if r == notIP || r == malformed || r == truncated {
		d.ev = outer
		return false, used
	}
	return true, r
}

// direction says why the packet is none of the sensor's, or notes whether it leaves.
func (d *Decoder) direction() reason {
	if d.ev.Dst[0] == 0xff || d.ev.Dst == broadcast || d.multicast4() {
		// Discovery on the local link is told apart, since every IPv6 network has it.
		if d.ev.Proto == event.ProtoICMPv6 || d.ev.Proto == event.ProtoIGMP {
			return neighbour
		}
		return multicast
	}
	if d.scope.empty() {
		return used
	}
	from, to := d.scope.contains(&d.ev.Src), d.scope.contains(&d.ev.Dst)
	switch {
	case from && to:
		return internal
	case !from && !to:
		return foreign
	}
	d.outward = from
	return used
}

var broadcast = event.IP{10: 0xff, 11: 0xff, 12: 0xff, 13: 0xff, 14: 0xff, 15: 0xff}

func (d *Decoder) multicast4() bool {
	ip := &d.ev.Dst
	return binary.BigEndian.Uint64(ip[:8]) == 0 && binary.BigEndian.Uint32(ip[8:]) == 0xffff && ip[12]>>4 == 0xe
}

// signature returns the SYN signature of the packet at hand.
func (d *Decoder) signature() string {
	return d.text.get(fingerprint.AppendSignature(d.scratch[:0], d.ev.Window, &d.options))
}
