package simulate

import (
	"murmuration/pkg/detect"
	"murmuration/pkg/event"
)

// sparse adds a campaign over a space too large to be enumerated here: members take stretches of one random
// order of all cells, as ZMap's shards do, of which only so much was done. The order is the cyclic group of a prime
// just above the number of cells (Durumeric, Wustrow and Halderman, USENIX Security 2013).
func (b *builder) sparse(name string, members, cells int, ports []uint16) {
	from, to := b.span(0.5)
	t := Truth{Name: name, Decidable: true}
	for range members {
		t.Sources = append(t.Sources, b.source(zmap()))
	}
	n := uint64(b.total) * uint64(len(ports))
	p := primeAbove(n)
	at := 1 + b.rng.Uint64N(p-1)
	step := b.generator(p)
	for k := 0; k < members*cells; at = at * step % p {
		if at > n {
			continue
		}
		cell := at - 1
		b.touch(t.Sources[k/cells], event.ProtoTCP, ports[cell/uint64(b.total)], uint32(cell%uint64(b.total)), 0, b.within(from, to))
		k++
	}
	b.w.Truth = append(b.w.Truth, t)
}

// primeAbove returns the least prime above n, by trial division.
func primeAbove(n uint64) uint64 {
	for p := n + 1; ; p++ {
		if len(factors(p)) == 1 && factors(p)[0] == p {
			return p
		}
	}
}

// factors returns the distinct prime factors of n ≥ 2, ascending.
func factors(n uint64) []uint64 {
	var out []uint64
	for d := uint64(2); d*d <= n; d++ {
		if n%d == 0 {
			out = append(out, d)
		}
		for n%d == 0 {
			n /= d
		}
	}
	if n > 1 {
		out = append(out, n)
	}
	return out
}

// generator draws a generator of the multiplicative group of the prime p, which must be below 2^32.
func (b *builder) generator(p uint64) uint64 {
	fs := factors(p - 1)
	for {
		g := 2 + b.rng.Uint64N(p-3)
		whole := true
		for _, f := range fs {
			whole = whole && power(g, (p-1)/f, p) != 1
		}
		if whole {
			return g
		}
	}
}

// power returns g^e mod p.
func power(g, e, p uint64) uint64 {
	out := uint64(1)
	for ; e > 0; e >>= 1 {
		if e&1 == 1 {
			out = out * g % p
		}
		g = g * g % p
	}
	return out
}

// sparseRanges adds a campaign whose members have a range of the telescope each and touch only so many random addresses
// of it.
func (b *builder) sparseRanges(name string, members, cells int, port uint16) {
	from, to := b.span(0.5)
	t := Truth{Name: name, Decidable: true}
	size := b.total / uint32(members)
	for k := range members {
		s := b.source(masscan())
		t.Sources = append(t.Sources, s)
		b.sample(s, event.ProtoTCP, []uint16{port}, uint32(k)*size, uint32(k+1)*size, cells, from, to)
	}
	b.w.Truth = append(b.w.Truth, t)
}

// ranged adds independent sources that sample one range each, of the same size, wherever that lies.
func (b *builder) ranged(n, cells int, size uint32, tool detect.Behaviour, port uint16) {
	from, to := b.span(0.5)
	for range n {
		lo := b.rng.Uint32N(b.total - size)
		b.sample(b.source(tool), event.ProtoTCP, []uint16{port}, lo, lo+size, cells, from, to)
	}
}
