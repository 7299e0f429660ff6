package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"

	"murmuration/pkg/event"
)

// pcapng (draft-ietf-opsawg-pcapng): blocks of type, length, body and length again.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockPacket    = 2 // obsolete
	blockSimple    = 3
	blockEnhanced  = 6

	byteOrderMagic = 0x1a2b3c4d

	optEnd      = 0
	optTSResol  = 9
	optTSOffset = 14

	// maxBlock bounds the blocks that are held in memory; all others are skipped without holding them.
	maxBlock = 1 << 20
	// maxInterfaces bounds what a section can make the reader remember.
	maxInterfaces = 1 << 16
)

// iface is what an interface description says about its packets.
type iface struct {
	link   LinkType
	known  bool   // the link type is decoded
	snap   uint32 // most bytes captured, 0 for no bound
	units  uint64 // time stamp units in a second, 0 if that cannot be counted
	offset int64  // seconds to add to a time stamp
}

type pcapng struct {
	r           *Reader
	order       binary.ByteOrder
	ifaces      []iface
	unsupported uint64 // packets of link types that are not decoded
	badLink     uint32 // one of them
}

func (r *Reader) openPcapng() error {
	p := &pcapng{r: r}
	r.format = p
	_, err := p.block(nil)
	if errors.Is(err, io.EOF) {
		return r.fail(ErrTruncated, "the file ends in the section header", "")
	}
	return err
}

// next reads blocks up to and including one packet.
func (p *pcapng) next(b *event.Batch) error {
	for {
		packet, err := p.block(b)
		if packet || err != nil {
			return err
		}
	}
}

// block reads one block and reports whether it was a packet.
func (p *pcapng) block(b *event.Batch) (packet bool, err error) {
	s := p.r.stream
	head, err := s.peek(8)
	if err != nil {
		if errors.Is(err, io.EOF) && len(head) == 0 {
			return false, io.EOF
		}
		return false, p.r.short(err, len(head), 8, "a block header")
	}
	kind := binary.BigEndian.Uint32(head)
	if kind == blockSection {
		if err := p.section(); err != nil {
			return false, err
		}
	} else {
		kind = p.order.Uint32(head)
	}
	length := p.order.Uint32(head[4:])
	if length < 12 || length%4 != 0 {
		return false, p.corrupt("a block of type %#x claims a length of %d bytes", kind, length)
	}
	switch kind {
	case blockSection, blockInterface, blockPacket, blockSimple, blockEnhanced:
	default:
		if length <= maxBlock {
			break
		}
		if err := s.skip(int64(length)); err != nil {
			return false, p.r.short(err, 0, int(length), fmt.Sprintf("a block of type %#x", kind))
		}
		return false, nil
	}
	return p.held(kind, length, b)
}

// held reads a block that is held in memory.
func (p *pcapng) held(kind, length uint32, b *event.Batch) (packet bool, err error) {
	if length > maxBlock {
		return false, p.corrupt("a block of type %#x claims a length of %d bytes", kind, length)
	}
	s := p.r.stream
	block, err := s.peek(int(length))
	if err != nil {
		return false, p.r.short(err, len(block), int(length), fmt.Sprintf("a block of type %#x", kind))
	}
	if again := p.order.Uint32(block[length-4:]); again != length {
		return false, p.corrupt("a block of type %#x has a length of %d bytes at its start and %d at its end", kind, length, again)
	}
	body := block[8 : length-4]
	switch kind {
	case blockInterface:
		err = p.iface(body)
	case blockEnhanced, blockPacket, blockSimple:
		packet = true
		err = p.packet(kind, body, b)
	}
	if err != nil {
		return false, err
	}
	s.take(int(length))
	return packet, nil
}

func (p *pcapng) corrupt(format string, args ...any) error {
	return p.r.fail(ErrCorrupt, fmt.Sprintf(format, args...), "the file is damaged here; everything before was read")
}

// section begins a section: it sets the byte order and forgets the interfaces of the one before.
func (p *pcapng) section() error {
	head, err := p.r.stream.peek(16)
	if err != nil {
		return p.r.short(err, len(head), 28, "a section header")
	}
	var order binary.ByteOrder = binary.LittleEndian
	if binary.BigEndian.Uint32(head[8:]) == byteOrderMagic {
		order = binary.BigEndian
	} else if order.Uint32(head[8:]) != byteOrderMagic {
		return p.sectionFault("a section header without pcapng's byte order magic")
	}
	if major := order.Uint16(head[12:]); major != 1 {
		return p.sectionFault(fmt.Sprintf("pcapng version %d.%d is not known", major, order.Uint16(head[14:])))
	}
	if order.Uint32(head[4:]) < 28 {
		return p.sectionFault("a section header that is too short")
	}
	p.order = order
	p.ifaces = p.ifaces[:0]
	return nil
}

// sectionFault is no capture at the file's start, and damage later.
func (p *pcapng) sectionFault(reason string) error {
	if p.r.stream.offset == 0 {
		return p.r.fail(ErrNotCapture, reason, "")
	}
	return p.corrupt("%s", reason)
}

func (p *pcapng) iface(body []byte) error {
	if len(body) < 8 {
		return p.corrupt("an interface description of %d bytes", len(body))
	}
	if len(p.ifaces) == maxInterfaces {
		return p.corrupt("more than %d interfaces in a section", maxInterfaces)
	}
	f := iface{link: LinkType(p.order.Uint16(body)), snap: p.order.Uint32(body[4:]), units: 1e6}
	f.known = f.link.Supported()
	for opts := body[8:]; len(opts) >= 4; {
		code, n := p.order.Uint16(opts), int(p.order.Uint16(opts[2:]))
		opts = opts[4:]
		if code == optEnd || n > len(opts) {
			break
		}
		switch {
		case code == optTSResol && n == 1:
			f.units = resolution(opts[0])
		case code == optTSOffset && n == 8:
			f.offset = int64(p.order.Uint64(opts))
		}
		opts = opts[min((n+3)&^3, len(opts)):]
	}
	p.ifaces = append(p.ifaces, f)
	return nil
}

// resolution returns the units in a second that if_tsresol stands for: a negative power of 10, or of 2
// where the highest bit is set; 0 if they cannot be counted in 64 bits.
func resolution(v byte) uint64 {
	n := v & 0x7f
	if v&0x80 != 0 {
		if n > 63 {
			return 0
		}
		return 1 << n
	}
	if n > 19 {
		return 0
	}
	u := uint64(1)
	for range n {
		u *= 10
	}
	return u
}

// micros converts a time stamp. What lies outside of the range that has a meaning comes back as -1.
func (f *iface) micros(stamp uint64) int64 {
	if f.units == 0 {
		return -1
	}
	seconds, rest := stamp/f.units, stamp%f.units
	high, low := bits.Mul64(rest, 1e6)
	fraction, _ := bits.Div64(high, low, f.units)
	if seconds > math.MaxInt64/2 {
		return -1
	}
	sum := int64(seconds) + f.offset
	if sum < 0 || sum > math.MaxUint32 || (f.offset > 0 && sum < f.offset) {
		return -1
	}
	return sum*1e6 + int64(fraction)
}

// packet decodes the body of a packet block of any of the three kinds.
func (p *pcapng) packet(kind uint32, body []byte, b *event.Batch) error {
	fixed := 20
	if kind == blockSimple {
		fixed = 4
	}
	if len(body) < fixed {
		return p.corrupt("a packet block of %d bytes", len(body))
	}
	var id, length, wire uint32
	switch kind {
	case blockEnhanced:
		id, length, wire = p.order.Uint32(body), p.order.Uint32(body[12:]), p.order.Uint32(body[16:])
	case blockPacket:
		id, length, wire = uint32(p.order.Uint16(body)), p.order.Uint32(body[12:]), p.order.Uint32(body[16:])
	case blockSimple:
		wire = p.order.Uint32(body)
		length = min(wire, uint32(len(body)-fixed))
	}
	if int64(id) >= int64(len(p.ifaces)) {
		return p.corrupt("a packet of interface %d, but the section describes %d", id, len(p.ifaces))
	}
	f := &p.ifaces[id]
	time := int64(-1) // a simple packet has none
	if kind != blockSimple {
		time = f.micros(uint64(p.order.Uint32(body[4:]))<<32 | uint64(p.order.Uint32(body[8:])))
	} else if f.snap > 0 {
		length = min(length, f.snap)
	}
	if length > maxCapture || int64(length) > int64(len(body)-fixed) {
		return p.corrupt("a packet of %d bytes in a block of %d", length, len(body))
	}
	p.r.records++
	if !f.known {
		p.unsupported++
		p.badLink = uint32(f.link)
		p.r.decoder.drop(badLink)
		return nil
	}
	p.r.decoder.Decode(f.link, time, int(min(wire, 1<<30)), body[fixed:fixed+int(length)], b)
	return nil
}
