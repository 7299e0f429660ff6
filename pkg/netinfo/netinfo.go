// Package netinfo reads what others know of networks, autonomous systems, countries and scanners that are known to mean no harm,
// from the files in which it is usually had, and makes of several files that overlap one list of ranges that do not.
// It knows no ClickHouse and no clock.
package netinfo

import (
	"bytes"
	"errors"
	"net/netip"

	"murmuration/pkg/event"
)

// What a file may tell of a network.
const (
	KindASN     = "asn"     // autonomous system: number and name
	KindCountry = "country" // ISO 3166-1 code
	KindBenign  = "benign"  // name of a scanner that is known to mean no harm
)

// Kinds lists them in the order in which they are written.
func Kinds() []string { return []string{KindASN, KindCountry, KindBenign} }

// ErrFile is wrapped by every error about the content of a file: it names file, line and reason.
var ErrFile = errors.New("context file")

// Fact is what is known of a network. A field that is not known is empty, an autonomous system 0.
type Fact struct {
	ASN     uint32
	ASName  string
	Country string // two letters, upper case
	Benign  string // name of a known scanner
}

// Network is a range of addresses, both ends included, IPv4 mapped into ::ffff:0:0/96, and what is known of it. A range that
// reaches around the IPv4 addresses says nothing of them.
type Network struct {
	First, Last event.IP
	Fact
}

// Range is a piece of the address space: what is known holds from First up to the next Range, or to the end of First's block. Where
// something is known of a block's beginning and nothing of what follows, a Range with an empty Fact says so.
type Range struct {
	First event.IP
	Fact
}

// The IPv4 addresses as they stand among the IPv6 ones.
var (
	firstIPv4 = event.IPOf(netip.MustParseAddr("0.0.0.0"))
	lastIPv4  = event.IPOf(netip.MustParseAddr("255.255.255.255"))
)

// Block is the part of the address space that an address is in: a /16 of the IPv4 addresses (0xFFFF and the first 16 bits) or one of
// the IPv6 addresses (the first 16 bits). No Range reaches over the end of a block, so that of a few addresses only
// the ranges of their blocks need to be looked at.
func Block(a event.IP) uint32 {
	if compare(a, firstIPv4) >= 0 && compare(a, lastIPv4) <= 0 {
		return 0xffff<<16 | uint32(a[12])<<8 | uint32(a[13])
	}
	return uint32(a[0])<<8 | uint32(a[1])
}

// nextBlock is where the block behind that of a begins, in the order of addresses; ok is false behind the last of all. (The
// IPv4 addresses stand inside the first block of the IPv6 ones.)
func nextBlock(a event.IP) (b event.IP, ok bool) {
	switch {
	case compare(a, firstIPv4) < 0:
		return firstIPv4, true
	case compare(a, lastIPv4) <= 0:
		a[14], a[15] = 0xff, 0xff
	default:
		for i := 2; i < len(a); i++ {
			a[i] = 0xff
		}
	}
	return next(a)
}

func compare(a, b event.IP) int { return bytes.Compare(a[:], b[:]) }

// next is the address behind; ok is false behind the last of all.
func next(a event.IP) (b event.IP, ok bool) {
	for i := len(a) - 1; i >= 0; i-- {
		if a[i]++; a[i] != 0 {
			return a, true
		}
	}
	return a, false
}

// before is the address before a, which is not the first of all.
func before(a event.IP) event.IP {
	for i := len(a) - 1; i >= 0; i-- {
		if a[i]--; a[i] != 0xff {
			break
		}
	}
	return a
}

// size orders ranges by their size: it is Last - First.
func (n *Network) size() (d event.IP) {
	borrow := 0
	for i := len(d) - 1; i >= 0; i-- {
		x := int(n.Last[i]) - int(n.First[i]) - borrow
		borrow = 0
		if x < 0 {
			x, borrow = x+256, 1
		}
		d[i] = byte(x)
	}
	return d
}
