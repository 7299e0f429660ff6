package capture

import (
	"bytes"

	"github.com/cespare/xxhash/v2"

	"murmuration/pkg/event"
)

const (
	// headBytes is how much of a request's head is put together before it is taken as it is.
	headBytes = 8 << 10
	// maxHeads bounds the incomplete heads, and with them their memory to 32 MiB.
	maxHeads = 4096
	// maxSpans is how many out-of-order stretches of a head are kept.
	maxSpans = 4
	// headWait is how long the rest of a head is waited for, in microseconds of capture time.
	headWait = 60 * 1e6
	// maxBody is the longest body that is stepped over by its length.
	maxBody = 1 << 30
	// maxJump is how far from the SYN's sequence number the first payload is believed to lie.
	maxJump = 1 << 20
)

// span is a stretch of a head that arrived before what stands in front of it.
type span struct{ from, to int }

// head is the beginning of a message, which is waiting for its rest.
type head struct {
	flow  *flow
	ev    event.Event // the event to be, from the segment that came first
	base  uint32      // sequence number of buf[0]
	n     int         // buf[:n] has arrived
	high  uint32      // sequence number behind the highest byte seen
	spans []span      // what has arrived behind buf[:n], at most maxSpans
	buf   [headBytes]byte

	older, newer *head
}

// place copies p to its offset and takes in the spans that it joins. It reports whether there is new
// text in buf[:n] that may end a head.
func (h *head) place(offset int, p []byte) bool {
	if offset < 0 {
		if -offset >= len(p) {
			return false
		}
		p, offset = p[-offset:], 0
	}
	if offset >= headBytes {
		return false
	}
	end := offset + copy(h.buf[offset:], p)
	if offset > h.n {
		if len(h.spans) < maxSpans {
			h.spans = append(h.spans, span{offset, end})
		}
		return false
	}
	old := h.n
	h.n = max(h.n, end)
	for i := 0; i < len(h.spans); {
		if s := h.spans[i]; s.from <= h.n {
			h.n = max(h.n, s.to)
			h.spans = append(h.spans[:i], h.spans[i+1:]...)
			i = 0
			continue
		}
		i++
	}
	return h.n == headBytes || bytes.IndexByte(h.buf[old:h.n], '\n') >= 0
}

// data returns what is known of the message and its sequence number: its beginning, or, where that never
// came, the stretch that came first.
func (h *head) data() (p []byte, seq uint32) {
	if h.n == 0 && len(h.spans) > 0 {
		s := h.spans[0]
		return h.buf[s.from:s.to], h.base + uint32(s.from)
	}
	return h.buf[:h.n], h.base
}

// heads are the incomplete heads by age, and the free ones.
type heads struct {
	oldest, newest *head
	free           []*head
	n              int
}

func (l *heads) push() *head {
	h := &head{spans: make([]span, 0, maxSpans)}
	if k := len(l.free); k > 0 {
		h, l.free = l.free[k-1], l.free[:k-1]
	}
	h.older, h.newer = l.newest, nil
	if l.newest != nil {
		l.newest.newer = h
	} else {
		l.oldest = h
	}
	l.newest = h
	l.n++
	return h
}

func (l *heads) remove(h *head) {
	if h.older != nil {
		h.older.newer = h.newer
	} else {
		l.oldest = h.newer
	}
	if h.newer != nil {
		h.newer.older = h.older
	} else {
		l.newest = h.older
	}
	l.n--
}

// release keeps h for later use. What it pointed to may go.
func (l *heads) release(h *head) {
	h.flow, h.ev, h.n, h.spans, h.older, h.newer = nil, event.Event{}, 0, h.spans[:0], nil, nil
	l.free = append(l.free, h)
}

// expire gives up waiting for heads that began too long ago.
func (d *Decoder) expire(now int64) {
	for h := d.heads.oldest; h != nil && now-h.ev.Time > headWait; h = d.heads.oldest {
		d.finish(h.flow)
	}
}

// clientData takes a segment of wire bytes, of which p are captured, from the end that opened the connection.
// The first payload of a connection is a request, and so is each further HTTP request.
func (d *Decoder) clientData(f *flow, e *event.Event, p []byte, wire int) reason {
	r, seq := segment, e.Seq
	for wire > 0 {
		if f.head != nil {
			d.extend(f.head, seq, p, wire)
			return r
		}
		if !f.requested && f.begun && abs(int32(seq-f.boundary)) > maxJump {
			f.begun = false
		}
		if f.begun {
			old := int(int32(f.boundary - seq))
			if old >= wire {
				return r
			}
			if old > 0 {
				p, wire, seq = p[min(old, len(p)):], wire-old, f.boundary
			}
		}
		e.Seq = seq
		n, began := d.message(f, e, p, wire)
		if began {
			r = used
		}
		p, wire, seq = p[min(n, len(p)):], wire-n, seq+uint32(n)
	}
	return r
}

func abs(n int32) int64 { return max(int64(n), -int64(n)) }

// message reads what begins at e.Seq and returns how much of the segment it took, and whether that is or
// will be an event.
func (d *Decoder) message(f *flow, e *event.Event, p []byte, wire int) (n int, began bool) {
	if f.requested && len(p) > 0 && (p[0] == '\r' || p[0] == '\n') {
		// Some clients send an empty line behind a body.
		return d.pass(f, e.Seq, len(p)-len(bytes.TrimLeft(p, "\r\n"))), false
	}
	req, v := parseRequest(p)
	whole := len(p) == wire && len(p) < headBytes
	gap := int32(e.Seq - f.boundary)
	switch {
	case v == fullHTTP:
		d.http(e, &req, p[:req.size], req.size)
		f.requested, f.http = true, true
		return d.past(f, e.Seq, &req, wire), true
	case whole && !f.requested && f.begun && gap > 0 && gap < headBytes && req.method == nil:
		// Not how a request begins, and something in front is missing: that may come late.
		d.begin(f, e, f.boundary, p)
		return wire, true
	case v == partHTTP && f.requested && !f.http && req.method == nil:
		v = notHTTP
	case v == partHTTP && whole:
		d.begin(f, e, e.Seq, p)
		return wire, true
	}
	began = d.settle(f, e, &req, v, p, wire)
	return d.pass(f, e.Seq, wire), began
}

// pass steps over n bytes.
func (d *Decoder) pass(f *flow, seq uint32, n int) int {
	f.boundary, f.begun = seq+uint32(n), true
	return n
}

// past steps over a request: its head and its body, which may go on behind this segment. Where the body's
// end is not known, the next request is looked for at the beginning of segments.
func (d *Decoder) past(f *flow, seq uint32, req *httpRequest, wire int) int {
	if req.body < 0 || req.body > maxBody {
		return d.pass(f, seq, wire)
	}
	n := d.pass(f, seq, req.size+int(req.body))
	return min(n, wire)
}

// settle takes a message as it is, though its head is not whole or it is no HTTP at all.
func (d *Decoder) settle(f *flow, e *event.Event, req *httpRequest, v verdict, p []byte, wire int) bool {
	first := !f.requested
	f.requested = true
	f.http = v == partHTTP && req.plausible()
	switch {
	case f.http:
		d.http(e, req, p, wire)
	case first:
		d.request(e, p, wire)
	default:
		return false
	}
	return true
}

// plausible reports whether a request line whose end is missing is one nevertheless.
func (r *httpRequest) plausible() bool {
	t := r.target
	return len(r.method) > 0 && len(t) > 0 && (t[0] == '/' || t[0] == '*' || bytes.Contains(t, []byte("://")) || string(r.method) == "CONNECT")
}

// request appends e as a request with the payload p.
func (d *Decoder) request(e *event.Event, p []byte, wire int) {
	e.Kind, e.Technique = event.KindRequest, event.TechniqueRequest
	e.PayloadLen, e.PayloadHash = uint32(wire), 0
	if len(p) > 0 {
		e.PayloadHash = xxhash.Sum64(p)
	}
	d.append(e)
}

// http appends e as an HTTP request.
func (d *Decoder) http(e *event.Event, req *httpRequest, p []byte, wire int) {
	e.Method = d.text.get(req.method)
	e.Path = d.text.get(req.target[:min(len(req.target), maxPath)])
	e.Host = d.text.get(req.host[:min(len(req.host), maxHost)])
	e.UserAgent = d.text.get(req.agent[:min(len(req.agent), maxAgent)])
	d.request(e, p, wire)
	e.Method, e.Path, e.Host, e.UserAgent = "", "", "", ""
}

// begin starts to wait for the rest of a message that begins at base and of which p has arrived.
func (d *Decoder) begin(f *flow, e *event.Event, base uint32, p []byte) {
	for d.heads.n >= maxHeads {
		d.finish(d.heads.oldest.flow)
	}
	h := d.heads.push()
	h.flow, h.ev, h.base, h.high = f, *e, base, e.Seq+uint32(len(p))
	f.head = h
	h.place(int(e.Seq-base), p)
}

// extend adds a segment to a message that is waiting for it.
func (d *Decoder) extend(h *head, seq uint32, p []byte, wire int) {
	if end := seq + uint32(wire); int32(end-h.high) > 0 {
		h.high = end
	}
	ready := h.place(int(int32(seq-h.base)), p)
	if len(p) < wire || h.n == headBytes {
		d.finish(h.flow)
		return
	}
	if !ready {
		return
	}
	if _, v := parseRequest(h.buf[:h.n]); v != partHTTP {
		d.finish(h.flow)
	}
}

// finish takes the message that f waits for as it is.
func (d *Decoder) finish(f *flow) {
	h := f.head
	f.head = nil
	d.heads.remove(h)
	p, seq := h.data()
	e := h.ev
	e.Seq = seq
	req, v := parseRequest(p)
	if v != fullHTTP {
		if !d.settle(f, &e, &req, v, p, len(p)) {
			d.counts.reasons[used]--
			d.counts.reasons[segment]++
		}
		d.pass(f, h.high, 0)
		d.heads.release(h)
		return
	}
	d.http(&e, &req, p[:req.size], req.size)
	f.requested, f.http = true, true
	n := d.past(f, seq, &req, len(p))
	// The copy is safe from another finish: one head less is waiting now, so that none must make room.
	rest := d.rest[:copy(d.rest[:], p[n:])]
	high := h.high
	d.heads.release(h)
	if len(rest) > 0 {
		e.Seq = seq + uint32(n)
		d.clientData(f, &e, rest, len(rest))
	}
	if f.head == nil && int32(high-f.boundary) > 0 {
		d.pass(f, high, 0)
	}
}
