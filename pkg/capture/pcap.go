package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"murmuration/pkg/event"
)

// The classic format (draft-ietf-opsawg-pcap): a 24-byte header, then records of a 16-byte header and
// the packet. Its variants differ by the magic number only.
const (
	pcapHeader = 24

	magicMicro    = 0xa1b2c3d4 // µs
	magicNano     = 0xa1b23c4d // ns
	magicModified = 0xa1b2cd34 // µs, and record headers of 24 bytes (A. Kuznetzov's patched libpcap)

	// maxCapture is the largest captured length that is believed, libpcap's MAXIMUM_SNAPLEN: what is
	// above is damage. The header's own snaplen is no bound, since writers exceed it.
	maxCapture = 262144
)

type pcapVariant struct {
	order  binary.ByteOrder
	nano   bool
	header int // bytes of a record header
}

func pcapVariants(magic []byte) (pcapVariant, bool) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		switch order.Uint32(magic) {
		case magicMicro:
			return pcapVariant{order: order, header: 16}, true
		case magicNano:
			return pcapVariant{order: order, header: 16, nano: true}, true
		case magicModified:
			return pcapVariant{order: order, header: 24}, true
		}
	}
	return pcapVariant{}, false
}

type pcap struct {
	pcapVariant
	r     *Reader
	link  LinkType
	magic [8]byte // magic number and version
}

func (r *Reader) openPcap(v pcapVariant) error {
	head, err := r.stream.peek(pcapHeader)
	if err != nil {
		return r.short(err, len(head), pcapHeader, "the file header")
	}
	if major := v.order.Uint16(head[4:]); major != 2 {
		return r.fail(ErrNotCapture, fmt.Sprintf("pcap version %d.%d is not known", major, v.order.Uint16(head[6:])), "")
	}
	p := &pcap{pcapVariant: v, r: r, magic: [8]byte(head[:8])}
	// The upper bits hold the length of a frame check sequence, which no decoder here looks at.
	n := v.order.Uint32(head[20:]) & 0xffff
	p.link = LinkType(n)
	if !p.link.Supported() {
		return r.linkType(n)
	}
	r.stream.take(pcapHeader)
	r.format = p
	return nil
}

func (p *pcap) next(b *event.Batch) error {
	s := p.r.stream
	head, err := s.peek(p.header)
	if err != nil {
		if errors.Is(err, io.EOF) && len(head) == 0 {
			return io.EOF
		}
		return p.r.short(err, len(head), p.header, "a record header")
	}
	if bytes.Equal(head[:8], p.magic[:]) {
		return p.r.fail(ErrCorrupt, "a second pcap file header where a record should be: two captures were joined by cat",
			"join them with `mergecap -a`, or load them one by one; everything before was read")
	}
	length := p.order.Uint32(head[8:])
	wire := p.order.Uint32(head[12:])
	if length > maxCapture {
		return p.r.fail(ErrCorrupt, fmt.Sprintf("a record claims %d captured bytes, the most there can be is %d", length, maxCapture),
			"the file is damaged here; everything before was read")
	}
	time := p.time(head)
	n := p.header + int(length)
	record, err := s.peek(n)
	if err != nil {
		return p.r.short(err, len(record), n, "a record")
	}
	p.r.records++
	p.r.decoder.Decode(p.link, time, int(min(wire, 1<<30)), record[p.header:], b)
	s.take(n)
	return nil
}

// time is in microseconds. A fraction of more than a second is added as it is, which is what libpcap's
// users see.
func (p *pcap) time(head []byte) int64 {
	t := int64(p.order.Uint32(head)) * 1e6
	fraction := int64(p.order.Uint32(head[4:]))
	if p.nano {
		fraction /= 1000
	}
	return t + fraction
}
