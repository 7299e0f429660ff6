package detect

import "net/netip"

// Input is all that a detection run sees: what was watched, and who touched what.
type Input struct {
	Universe Universe
	Sources  []Source
	// Start and End bound the window, in seconds since 1970-01-01 UTC, End exclusive.
	Start, End int64
}

// Universe is the monitored address space, as ranks: every monitored address has a number, addresses
// of one block are consecutive and in order, so that prefixes and runs of addresses are intervals.
type Universe struct {
	Blocks []Block
}

// Block is one monitored prefix. IPv4 and IPv6 blocks may be mixed.
type Block struct {
	Prefix netip.Prefix
	Sensor string
	First  uint32 // rank of the prefix's first address
	Size   uint32 // monitored addresses in it; ranks First … First+Size-1
	// Since and Until bound the time in which it was watched, seconds since 1970-01-01 UTC; 0 is unbounded.
	Since, Until int64
	// Blind lists times in between in which nobody looked, in order and apart: a sensor that was down.
	Blind []Interval
}

// Source is one source address with its footprint and its behaviour.
type Source struct {
	Addr      netip.Addr
	Behaviour Behaviour
	Cells     []Cell // distinct in (Proto, Port, Target, Object), in that order
}

// Behaviour is what tells how a source scans, whatever it aims at. All of it is decided over all of the
// source's probes in the window.
type Behaviour struct {
	Tool      string // tool decided by the rules of fingerprint over all SYNs ("masscan"), or ""
	Signature string // commonest SYN signature "window:option kinds:mss:wscale", or ""
	TTLClass  uint8  // 32, 64, 128 or 255: the initial TTL above the commonest TTL seen; 0 unknown
	UserAgent string // commonest HTTP user agent, or ""
	// Payload is the commonest payload hash of its UDP probes, 0 for none.
	Payload uint64
	Packets uint64
}

// Cell is one thing that a source touched.
type Cell struct {
	Target uint32 // rank of the address in the Universe
	Object uint32 // 0, or a number of (method, path) given by whoever reads the footprints
	First  uint32 // seconds after Input.Start of the first touch
	Last   uint32 // seconds after Input.Start of the last touch
	Port   uint16 // destination port, 0 for protocols without ports
	Proto  int8   // event.Proto
}
