package capture

import (
	"bytes"
	"encoding/binary"

	"github.com/google/gopacket"

	"murmuration/pkg/event"
)

const (
	udpHeader = 8
	portBytes = 4
)

func (d *Decoder) decodeUDP(p []byte, wire int) reason {
	if len(p) < portBytes {
		return truncated
	}
	e := &d.ev
	e.Sport, e.Dport = binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:])
	var payload []byte
	if len(p) >= udpHeader {
		// A length field below 8 is an error; the ports are right nevertheless, and somebody sent this.
		if d.udp.DecodeFromBytes(p, gopacket.NilDecodeFeedback) == nil {
			payload = d.udp.Payload
			if d.udp.Length >= udpHeader {
				wire = min(wire, int(d.udp.Length))
			}
		}
	}
	d.payload(payload, wire-udpHeader)
	return d.judgeUDP(payload)
}

func (d *Decoder) judgeUDP(p []byte) reason {
	e := &d.ev
	key, low := keyOf(&e.Src, &e.Dst, e.Sport, e.Dport, protoUDP)
	f, at := d.flows.get(&key, e.Time)
	switch {
	case f != nil && f.low != low:
		return reply
	case f == nil && !d.outward && isReflection(e.Sport, e.Dport, p):
		return d.emit(event.KindBackscatter, event.TechniqueUDPReply)
	case f == nil:
		d.flows.put(&at, flowProbed, low, e.Time)
	}
	if d.outward {
		return outbound
	}
	return d.scan(event.TechniqueUDP, nil)
}

// isReflection reports whether an unsolicited datagram is the answer of a service that somebody asked in
// our name: it comes from a port that amplifies, goes to a port that clients use, and its payload
// has the shape of that service's answers. Scanners that send from such a port ask, so they do not
// match.
func isReflection(sport, dport uint16, p []byte) bool {
	if dport < 1024 || len(p) == 0 {
		return false
	}
	switch sport {
	case 17, 19: // quote of the day, character generator: they only ever send text
		return len(p) >= 32 && isText(p)
	case 53, 5353: // DNS, mDNS: the bit QR (RFC 1035 4.1.1)
		return len(p) >= 12 && p[2]&0x80 != 0
	case 111: // ONC RPC: message type REPLY (RFC 5531)
		return len(p) >= 12 && binary.BigEndian.Uint32(p[4:]) == 1
	case 123:
		return isNTPAnswer(p)
	case 137: // NetBIOS name service: the bit R (RFC 1002 4.2.1.1)
		return len(p) >= 12 && p[2]&0x80 != 0
	case 161:
		return isSNMPAnswer(p)
	case 389:
		return isLDAPAnswer(p)
	case 1900: // SSDP: an HTTP status line (UPnP Device Architecture 1.3.3)
		return bytes.HasPrefix(p, []byte("HTTP/1."))
	case 3702: // WS-Discovery
		return bytes.Contains(p, []byte("ProbeMatches"))
	case 5060: // SIP status line (RFC 3261 7.2)
		return bytes.HasPrefix(p, []byte("SIP/2.0 "))
	case 5683: // CoAP: version 1, response class 2, 4 or 5 (RFC 7252 3)
		class := byte(0)
		if len(p) >= 4 && p[0]>>6 == 1 {
			class = p[1] >> 5
		}
		return class == 2 || class == 4 || class == 5
	case 11211:
		return isMemcachedAnswer(p)
	}
	return false
}

func isText(p []byte) bool {
	for _, c := range p {
		if (c < ' ' || c > '~') && c != '\r' && c != '\n' && c != '\t' {
			return false
		}
	}
	return true
}

// isNTPAnswer: mode 4 of a server, or the response bit of modes 6 (RFC 9327) and 7 (ntpd's private mode).
func isNTPAnswer(p []byte) bool {
	switch p[0] & 7 {
	case 4:
		return len(p) >= 48
	case 6:
		return len(p) >= 12 && p[1]&0x80 != 0
	case 7:
		return len(p) >= 8 && p[0]&0x80 != 0
	}
	return false
}

// tlv reads one BER element with a definite length and returns its tag, its content and what follows. The content
// may be cut by the end of p.
func tlv(p []byte) (tag byte, content, rest []byte, ok bool) {
	if len(p) < 2 {
		return 0, nil, nil, false
	}
	tag, n, p := p[0], int(p[1]), p[2:]
	if n >= 0x80 {
		k := n & 0x7f
		if k == 0 || k > 4 || len(p) < k {
			return 0, nil, nil, false
		}
		n = 0
		for _, c := range p[:k] {
			n = n<<8 | int(c)
		}
		p = p[k:]
	}
	n = min(n, len(p))
	return tag, p[:n], p[n:], true
}

const (
	berInteger  = 0x02
	berOctets   = 0x04
	berSequence = 0x30
)

// isSNMPAnswer: version, community and a PDU of type GetResponse or Report (RFC 3416 3).
func isSNMPAnswer(p []byte) bool {
	tag, body, _, ok := tlv(p)
	if !ok || tag != berSequence {
		return false
	}
	tag, _, body, ok = tlv(body)
	if !ok || tag != berInteger {
		return false
	}
	tag, _, body, ok = tlv(body)
	if !ok || tag != berOctets || len(body) == 0 {
		return false
	}
	return body[0] == 0xa2 || body[0] == 0xa8
}

// isLDAPAnswer: a message number and SearchResultEntry or SearchResultDone (RFC 4511 4.5.2).
func isLDAPAnswer(p []byte) bool {
	tag, body, _, ok := tlv(p)
	if !ok || tag != berSequence {
		return false
	}
	tag, _, body, ok = tlv(body)
	return ok && tag == berInteger && len(body) > 0 && (body[0] == 0x64 || body[0] == 0x65)
}

// isMemcachedAnswer: behind the 8-byte frame header stands one of the answers of memcached's protocol.txt.
func isMemcachedAnswer(p []byte) bool {
	if len(p) < 11 {
		return false
	}
	for _, a := range []string{"VALUE ", "STAT ", "END\r", "VERSION ", "ERROR", "STORED", "SERVER_ERROR", "CLIENT_ERROR"} {
		if bytes.HasPrefix(p[8:], []byte(a)) {
			return true
		}
	}
	return false
}
