package fingerprint

import (
	"encoding/binary"
	"strconv"
)

// TCP option kinds that the rules look at.
const (
	kindEnd       = 0
	kindNop       = 1
	kindMSS       = 2
	kindWScale    = 3
	kindTimestamp = 8
)

// TCPOptions is what the rules need of a TCP header's options. The zero value is a header without options.
type TCPOptions struct {
	Kinds    [40]byte // option kinds in wire order, no-operation and every end-of-list byte included
	N        int      // how many of Kinds are set
	MSS      uint16   // maximum segment size, where HasMSS
	WScale   uint8    // window scale shift, where HasScale
	TSVal    uint32   // timestamp value, where HasTime
	TSEcr    uint32   // timestamp echo reply, where HasTime
	HasMSS   bool
	HasScale bool
	HasTime  bool
}

// Parse reads the option bytes of a TCP header (those behind its first 20). It never fails: options that
// are cut or have an impossible length end the list, and what stood before them is kept, since a
// malformed list is itself a mark of who made the packet.
func (o *TCPOptions) Parse(raw []byte) {
	*o = TCPOptions{}
	for len(raw) > 0 && o.N < len(o.Kinds) {
		kind := raw[0]
		o.Kinds[o.N] = kind
		o.N++
		if kind == kindEnd {
			o.padding(raw[1:])
			return
		}
		if kind == kindNop {
			raw = raw[1:]
			continue
		}
		if len(raw) < 2 || raw[1] < 2 || int(raw[1]) > len(raw) {
			return
		}
		o.value(kind, raw[2:raw[1]])
		raw = raw[raw[1]:]
	}
}

// padding keeps the zero bytes behind an end of list, whose number tells some stacks apart.
func (o *TCPOptions) padding(rest []byte) {
	for _, c := range rest {
		if c != kindEnd || o.N == len(o.Kinds) {
			return
		}
		o.Kinds[o.N] = kindEnd
		o.N++
	}
}

func (o *TCPOptions) value(kind byte, v []byte) {
	switch {
	case kind == kindMSS && len(v) == 2:
		o.MSS, o.HasMSS = binary.BigEndian.Uint16(v), true
	case kind == kindWScale && len(v) == 1:
		o.WScale, o.HasScale = v[0], true
	case kind == kindTimestamp && len(v) == 8:
		o.TSVal, o.TSEcr, o.HasTime = binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:]), true
	}
}

// only reports whether the options are exactly one MSS of this size.
func (o *TCPOptions) only(mss uint16) bool {
	return o.N == 1 && o.HasMSS && o.MSS == mss
}

func (o *TCPOptions) kinds(want ...byte) bool {
	return string(o.Kinds[:o.N]) == string(want)
}

// AppendSignature appends the SYN signature `window:option kinds:mss:wscale` to dst and returns it.
// Option kinds are decimal and joined by commas in wire order; what a header does not have is left
// empty, so a SYN without options and window 1024 is "1024:::". Sources that share an unknown tool share
// the signature.
func AppendSignature(dst []byte, window uint16, o *TCPOptions) []byte {
	dst = strconv.AppendUint(dst, uint64(window), 10)
	dst = append(dst, ':')
	for i, k := range o.Kinds[:o.N] {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, uint64(k), 10)
	}
	dst = append(dst, ':')
	if o.HasMSS {
		dst = strconv.AppendUint(dst, uint64(o.MSS), 10)
	}
	dst = append(dst, ':')
	if o.HasScale {
		dst = strconv.AppendUint(dst, uint64(o.WScale), 10)
	}
	return dst
}

// Signature returns the SYN signature of a window and options; see AppendSignature for its form.
func Signature(window uint16, o *TCPOptions) string {
	return string(AppendSignature(make([]byte, 0, 32), window, o))
}

// TTLClass returns the initial TTL that a received TTL most likely started from: 32, 64, 128 or 255.
func TTLClass(ttl uint8) uint8 {
	switch {
	case ttl <= 32:
		return 32
	case ttl <= 64:
		return 64
	case ttl <= 128:
		return 128
	default:
		return 255
	}
}
