package capture

import (
	"encoding/binary"

	"murmuration/pkg/event"
)

const (
	sctpHeader = 12
	sctpInit   = 1 // RFC 9260 3.2
)

// decodeSCTP: an INIT chunk is a probe; everything else belongs to a known association or to none.
func (d *Decoder) decodeSCTP(p []byte, wire int) reason {
	if len(p) < sctpHeader+1 {
		return truncated
	}
	e := &d.ev
	e.Sport, e.Dport = binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:])
	d.payload(p[sctpHeader:], wire-sctpHeader)
	key, low := keyOf(&e.Src, &e.Dst, e.Sport, e.Dport, protoSCTP)
	f, at := d.flows.get(&key, e.Time)
	switch {
	case f != nil && f.low != low:
		return reply
	case p[sctpHeader] == sctpInit:
		if f == nil {
			d.flows.put(&at, flowProbed, low, e.Time)
		}
		if d.outward {
			return outbound
		}
		return d.scan(event.TechniqueInit, nil)
	case f != nil:
		return segment
	}
	return d.emitUnlessOut(event.KindOther, event.TechniqueNone)
}
