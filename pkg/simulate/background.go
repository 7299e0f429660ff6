package simulate

import (
	"murmuration/pkg/detect"
	"murmuration/pkg/event"
)

var popular = []uint16{23, 80, 22, 445, 443, 8080, 3389, 2323, 21, 25, 1433, 3306, 5900, 6379, 8443, 5060, 110, 139, 9200, 27017}

// port draws a port: the popular ones by Zipf's law, and a long tail.
func (b *builder) port() uint16 {
	if b.rng.Float64() < 0.1 {
		return uint16(1 + b.rng.IntN(65535))
	}
	var sum float64
	for i := range popular {
		sum += 1 / float64(i+1)
	}
	u := b.rng.Float64() * sum
	for i, p := range popular {
		u -= 1 / float64(i+1)
		if u <= 0 {
			return p
		}
	}
	return popular[0]
}

func (b *builder) anyTool() detect.Behaviour {
	switch b.rng.IntN(5) {
	case 0, 1:
		return masscan()
	case 2:
		return zmap()
	case 3:
		return plain()
	}
	return mirai()
}

// sampler adds a source that touches n random addresses of the whole telescope on the ports, each on one of them.
func (b *builder) sampler(behaviour detect.Behaviour, proto event.Proto, ports []uint16, n int) {
	s := b.source(behaviour)
	from, to := b.activity()
	b.sample(s, proto, ports, 0, b.total, n, from, to)
}

func (b *builder) sample(s int, proto event.Proto, ports []uint16, lo, hi uint32, n int, from, to float64) {
	n = min(n, int(hi-lo)/2)
	for range n {
		b.touch(s, proto, ports[b.rng.IntN(len(ports))], lo+b.rng.Uint32N(hi-lo), 0, b.within(from, to))
	}
}

// block adds a source that sweeps one aligned block of 1<<bits addresses.
func (b *builder) block(behaviour detect.Behaviour, proto event.Proto, port uint16, bits int) {
	s := b.source(behaviour)
	from, to := b.activity()
	size := uint32(1) << bits
	if size > b.total {
		size = b.total
	}
	lo := b.rng.Uint32N(b.total/size) * size
	for t := lo; t < lo+size; t++ {
		b.touch(s, proto, port, t, 0, b.within(from, to))
	}
}

// background adds n independent sources of every kind that a telescope sees: random samplers of heavy-tailed size,
// block scanners, sources with a few ports, vertical scanners, pingers, UDP probes.
func (b *builder) background(n int) {
	most := float64(b.total) / 8
	for range n {
		switch u := b.rng.Float64(); {
		case u < 0.55:
			b.sampler(b.anyTool(), event.ProtoTCP, []uint16{b.port()}, b.heavy(most))
		case u < 0.70:
			b.block(b.anyTool(), event.ProtoTCP, b.port(), 4+b.rng.IntN(7))
		case u < 0.80:
			b.sampler(b.anyTool(), event.ProtoTCP, []uint16{b.port(), b.port(), b.port()}, b.heavy(most))
		case u < 0.84:
			b.vertical()
		case u < 0.90:
			b.sampler(plain(), event.ProtoICMP, []uint16{0}, b.heavy(most))
		case u < 0.97:
			b.sampler(zmap(), event.ProtoUDP, []uint16{[]uint16{53, 123, 1900, 5060, 161}[b.rng.IntN(5)]}, b.heavy(most))
		default:
			b.again()
		}
	}
}

// vertical adds a source that tries many ports of a few neighbouring addresses.
func (b *builder) vertical() {
	s := b.source(nmap())
	from, to := b.activity()
	n := uint32(1) << b.rng.IntN(4)
	lo := b.rng.Uint32N(max(1, b.total/n)) * n
	for _, p := range popular[:5+b.rng.IntN(len(popular)-5)] {
		for t := lo; t < min(lo+n, b.total); t++ {
			b.touch(s, event.ProtoTCP, p, t, 0, b.within(from, to))
		}
	}
}

// again adds a source that returns to the same few addresses.
func (b *builder) again() {
	s := b.source(plain())
	from, to := b.activity()
	port := b.port()
	for range 1 + b.rng.IntN(4) {
		t := b.rng.Uint32N(b.total)
		for range 5 {
			b.touch(s, event.ProtoTCP, port, t, 0, b.within(from, to))
		}
	}
	b.w.Input.Sources[s].Behaviour.Packets = 20
}

// wormlike adds n infected hosts: one tool, the same ports, as many targets each, every one at random.
func (b *builder) wormlike(n, cells int, ports []uint16, lo, hi uint32) {
	from, to := b.span(0.5)
	for range n {
		s := b.source(mirai())
		b.sample(s, event.ProtoTCP, ports, lo, hi, cells, from, to)
	}
}

// span draws a stretch of time of a share of the window.
func (b *builder) span(share float64) (from, to float64) {
	window := float64(b.days) * day
	length := window * share
	from = b.rng.Float64() * (window - length)
	return from, from + length
}

// sameBlock adds n sources that all sweep the same block: a shared list of targets, not a shared-out one.
func (b *builder) sameBlock(n, bits int, port uint16) {
	size := min(uint32(1)<<bits, b.total)
	lo := b.rng.Uint32N(b.total/size) * size
	for range n {
		s := b.source(masscan())
		from, to := b.activity()
		for t := lo; t < lo+size; t++ {
			b.touch(s, event.ProtoTCP, port, t, 0, b.within(from, to))
		}
	}
}

// blocks adds n independent block scanners of one tool on one port: they rarely meet, and that means nothing.
func (b *builder) blocks(n, bits int, port uint16) {
	for range n {
		b.block(masscan(), event.ProtoTCP, port, bits)
	}
}

// sweep adds a source that touches everything.
func (b *builder) sweep(port uint16) {
	s := b.source(masscan())
	from, to := b.activity()
	for t := range b.total {
		b.touch(s, event.ProtoTCP, port, t, 0, b.within(from, to))
	}
}

// readers adds n independent web clients, each asking for a list of paths of its own taste on every sensor or on some.
func (b *builder) readers(n int) {
	b.objects(40)
	for range n {
		s := b.source(browser([]string{"curl/7.88.1", "Mozilla/5.0", "python-requests/2.31", "Go-http-client/1.1"}[b.rng.IntN(4)]))
		from, to := b.activity()
		paths := b.rng.Perm(len(b.w.Objects) - 1)[:1+b.rng.IntN(12)]
		for range 1 + b.rng.IntN(8) {
			t := b.rng.Uint32N(b.total)
			b.touch(s, event.ProtoTCP, 80, t, 0, b.within(from, to))
			for _, p := range paths {
				b.touch(s, event.ProtoTCP, 80, t, uint32(p+1), b.within(from, to))
			}
		}
	}
}

// decoys adds every kind of crowd that is no campaign.
func (b *builder) decoys() {
	b.wormlike(b.count(60), int(b.total/40), []uint16{23, 2323}, 0, b.total)
	b.wormlike(b.count(40), int(b.total/400)+4, []uint16{7547}, 0, b.total/8)
	b.sameBlock(b.count(15), 8, 445)
	b.blocks(b.count(30), 7, 22)
	b.blocks(b.count(15), 9, 3389)
	b.sweep(5555)
	b.sweep(22)
}

// crowds adds independent sources in the shapes that a careless test takes for a campaign: each kind has one tool, one
// port and one stretch of time, and nobody knows of anybody.
func (b *builder) crowds() {
	kind := func(n int, f func(s int, from, to float64)) {
		from, to := b.span(0.1 + 0.5*b.rng.Float64())
		for range b.count(n) {
			s := b.source(masscan())
			a := b.within(from, to)
			f(s, a, b.within(a, to))
		}
	}
	tcp := event.ProtoTCP
	run := func(s int, port uint16, lo, n uint32, from, to float64) {
		for i := range n {
			b.touch(s, tcp, port, (lo+i)%b.total, 0, b.within(from, to))
		}
	}
	size := b.total
	// Runs that begin anywhere.
	kind(40, func(s int, from, to float64) { run(s, 81, b.rng.Uint32N(size), 20+b.rng.Uint32N(size/60), from, to) })
	// Aligned blocks of several sizes.
	kind(150, func(s int, from, to float64) {
		n := uint32(64) << b.rng.IntN(4)
		run(s, 82, b.rng.Uint32N(size/n)*n, n, from, to)
	})
	// Two blocks each.
	kind(20, func(s int, from, to float64) {
		run(s, 83, b.rng.Uint32N(size/256)*256, 256, from, to)
		run(s, 83, b.rng.Uint32N(size/256)*256, 256, from, to)
	})
	// Blocks inside one popular sixteenth of the telescope.
	hot := b.rng.Uint32N(16) * (size / 16)
	kind(9, func(s int, from, to float64) { run(s, 84, hot+b.rng.Uint32N(8)*(size/128), size/128, from, to) })
	// Random targets inside one popular sixteenth.
	kind(40, func(s int, from, to float64) {
		b.sample(s, tcp, []uint16{85}, hot, hot+size/16, 40, from, to)
	})
	// Every k-th address from a random start.
	kind(40, func(s int, from, to float64) {
		k := uint32(50 + b.rng.IntN(100))
		for t := b.rng.Uint32N(k); t < size; t += k {
			b.touch(s, tcp, 86, t, 0, b.within(from, to))
		}
	})
	// Samples of one hit list.
	list := b.rng.Perm(int(size))[:size/8]
	kind(50, func(s int, from, to float64) {
		for range 60 {
			b.touch(s, tcp, 87, uint32(list[b.rng.IntN(len(list))]), 0, b.within(from, to))
		}
	})
	// A block each, on five ports.
	kind(25, func(s int, from, to float64) {
		lo := b.rng.Uint32N(size/128) * 128
		for _, port := range []uint16{88, 89, 90, 91, 92} {
			run(s, port, lo, 128, from, to)
		}
	})
	// A few small runs each.
	kind(60, func(s int, from, to float64) {
		for range 8 {
			run(s, 93, b.rng.Uint32N(size/16)*16, 16, from, to)
		}
	})
	// Random samplers of very different appetite.
	kind(200, func(s int, from, to float64) {
		b.sample(s, tcp, []uint16{94}, 0, size, b.heavy(float64(size)/6), from, to)
	})
}
