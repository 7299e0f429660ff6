package capture

import (
	"murmuration/pkg/event"
)

const (
	tcpHeader = 20
	// tcpNeeded is how much of a TCP header must be captured: ports, numbers, flags and window.
	tcpNeeded = 16

	// flagBits are the flags that tell techniques apart. ECE and CWR come with ordinary SYNs.
	flagBits = event.FIN | event.SYN | event.RST | event.PSH | event.ACK | event.URG
)

func (d *Decoder) decodeTCP(p []byte, wire int) reason {
	if len(p) < tcpNeeded {
		return truncated
	}
	header := p
	if len(p) < tcpHeader {
		clear(d.scratch[:tcpHeader])
		copy(d.scratch[:], p)
		header = d.scratch[:tcpHeader]
	}
	if header[12]>>4 < 5 {
		return malformed
	}
	// Errors left are faulty options and options that were cut: the fields are set then, and fingerprint
	// reads options with more patience.
	_ = d.tcp.DecodeFromBytes(header, &d.short)
	size := int(header[12]>>4) * 4
	e := &d.ev
	e.Sport, e.Dport = uint16(d.tcp.SrcPort), uint16(d.tcp.DstPort)
	e.Flags, e.Window, e.Seq = header[13], d.tcp.Window, d.tcp.Seq
	var payload []byte
	if len(p) > size {
		payload = p[size:]
	}
	if e.Flags&event.SYN != 0 {
		d.options.Parse(p[min(tcpHeader, len(p)):min(size, len(p))])
	}
	d.payload(payload, wire-size)
	return d.judgeTCP(payload, int(e.PayloadLen))
}

// isSYN: a SYN as it asks for a connection.
func isSYN(flags uint8) bool {
	return flags&(event.SYN|event.ACK|event.RST|event.FIN) == event.SYN
}

// judgeTCP tells probes, requests, answers and the rest apart by what is known of the conversation.
func (d *Decoder) judgeTCP(p []byte, wire int) reason {
	e := &d.ev
	key, low := keyOf(&e.Src, &e.Dst, e.Sport, e.Dport, protoTCP)
	f, at := d.flows.get(&key, e.Time)
	if isSYN(e.Flags) {
		return d.synTCP(f, &at, low)
	}
	if f == nil {
		return d.strayTCP(&at, low, p, wire)
	}
	if f.low != low {
		return d.answerTCP(f, low, p, wire)
	}
	if t := neverInConnection(e.Flags); t != event.TechniqueNone {
		return d.probeTCP(t)
	}
	switch {
	case f.state == flowProbed:
		return d.strayTCP(&at, low, p, wire)
	case e.Flags&(event.SYN|event.ACK) == event.SYN|event.ACK:
		// Who asked for the connection does not accept it as well.
		return d.emitUnlessOut(event.KindBackscatter, event.TechniqueSYNACK)
	}
	r := segment
	if wire > 0 && !d.outward && (f.state == flowOpened || isRequest(p)) {
		f.state = flowOpened
		r = d.clientData(f, e, p, wire)
	}
	d.ends(f)
	return r
}

// synTCP: every SYN is a probe. One with another sequence number than the last begins a new connection.
func (d *Decoder) synTCP(f *flow, at *place, low bool) reason {
	e := &d.ev
	if f == nil || f.low != low || f.state != flowOpened || f.syn != e.Seq {
		f = d.flows.put(at, flowOpened, low, e.Time)
		f.syn, f.boundary, f.begun = e.Seq, e.Seq+1, true
	}
	if d.outward {
		return outbound
	}
	d.ev.Signature = d.signature()
	return d.scan(event.TechniqueSYN, &d.options)
}

// neverInConnection returns the technique of flags that no host sends inside a connection.
func neverInConnection(flags uint8) event.Technique {
	switch flags & flagBits {
	case 0:
		return event.TechniqueNull
	case event.FIN:
		return event.TechniqueFIN
	case event.FIN | event.PSH | event.URG:
		return event.TechniqueXmas
	}
	return event.TechniqueNone
}

func (d *Decoder) probeTCP(t event.Technique) reason {
	if d.outward {
		return outbound
	}
	return d.scan(t, &d.options)
}

func (d *Decoder) emitUnlessOut(k event.Kind, t event.Technique) reason {
	if d.outward {
		return outbound
	}
	return d.emit(k, t)
}

// strayTCP judges a packet outside any known connection.
func (d *Decoder) strayTCP(at *place, low bool, p []byte, wire int) reason {
	e := &d.ev
	if d.outward {
		// Our host speaks in a connection whose beginning the capture lacks: the other end opened it.
		if e.Flags&event.RST == 0 {
			d.flows.put(at, flowOpened, !low, e.Time)
		}
		return outbound
	}
	flags := e.Flags & flagBits
	switch {
	case flags&event.RST != 0 && flags&event.SYN == 0:
		return d.emit(event.KindBackscatter, event.TechniqueRST)
	case flags&(event.SYN|event.ACK|event.FIN|event.RST|event.URG) == event.SYN|event.ACK:
		// No stack accepts a connection with FIN, RST or URG as well: whoever sends that probes.
		return d.emit(event.KindBackscatter, event.TechniqueSYNACK)
	}
	t := neverInConnection(flags)
	switch {
	case t != event.TechniqueNone:
	case flags == event.ACK && wire == 0:
		t = event.TechniqueACK
	case flags == event.FIN|event.ACK && wire == 0:
		t = event.TechniqueMaimon
	case flags&event.SYN != 0 && flags&event.RST == 0:
		// SYN with FIN and the like: a probe for sure, of no technique that has a name.
	default:
		return d.strayData(at, low, p, wire)
	}
	d.flows.put(at, flowProbed, low, e.Time)
	return d.scan(t, &d.options)
}

// strayData: a segment from the middle of a connection is a request if it reads as one, and otherwise
// neither probe nor request. Further segments of the conversation are not reported again.
func (d *Decoder) strayData(at *place, low bool, p []byte, wire int) reason {
	if wire == 0 {
		return d.emit(event.KindOther, event.TechniqueNone)
	}
	if isRequest(p) {
		return d.clientData(d.flows.put(at, flowOpened, low, d.ev.Time), &d.ev, p, wire)
	}
	d.flows.put(at, flowStray, low, d.ev.Time)
	return d.emit(event.KindOther, event.TechniqueNone)
}

// answerTCP: a packet from the end that did not open the conversation.
func (d *Decoder) answerTCP(f *flow, low bool, p []byte, wire int) reason {
	if f.state == flowStray && wire > 0 && isRequest(p) && !d.outward {
		f.state, f.low = flowOpened, low
		return d.clientData(f, &d.ev, p, wire)
	}
	d.ends(f)
	return reply
}

// ends takes incomplete requests as they are where the packet at hand ends the connection.
func (d *Decoder) ends(f *flow) {
	for d.ev.Flags&(event.FIN|event.RST) != 0 && f.head != nil {
		d.finish(f)
	}
}
