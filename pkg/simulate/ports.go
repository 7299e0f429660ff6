package simulate

import (
	"slices"

	"murmuration/pkg/detect"
	"murmuration/pkg/event"
)

// ownPorts adds a campaign whose members have whole ports of their own, dealt out at random, and sweep all addresses on
// each; the telescope misses a share of the probes.
func (b *builder) ownPorts(name string, members int, ports []uint16, loss float64) {
	from, to := b.span(0.4)
	t := Truth{Name: name, Decidable: true}
	for range members {
		t.Sources = append(t.Sources, b.source(masscan()))
	}
	for k, at := range b.rng.Perm(len(ports)) {
		s := t.Sources[k%members]
		for target := range b.total {
			if b.rng.Float64() >= loss {
				b.touch(s, event.ProtoTCP, ports[at], target, 0, b.within(from, to))
			}
		}
	}
	b.w.Truth = append(b.w.Truth, t)
}

// allPorts adds a campaign whose members share out every port of one address: at random, or a range each.
func (b *builder) allPorts(name string, members int, target uint32, cut detect.Cut) {
	from, to := b.span(0.3)
	t := Truth{Name: name, Decidable: true}
	for range members {
		t.Sources = append(t.Sources, b.source(nmap()))
	}
	const last = 65535
	order := b.rng.Perm(last)
	if cut == detect.CutRanges {
		slices.Sort(order)
	}
	for k, p := range order {
		b.touch(t.Sources[k*members/last], event.ProtoTCP, uint16(p+1), target, 0, b.within(from, to))
	}
	b.w.Truth = append(b.w.Truth, t)
}

// services are what probers of one kind of service look for: disjoint lists, everybody's taste different.
var services = [][]uint16{
	{80, 443, 8080, 8443, 8000, 8888}, {25, 110, 143, 465, 587, 993, 995}, {21, 22, 23, 990}, {135, 137, 138, 139, 445},
	{1433, 1521, 3306, 5432, 27017}, {3389, 5900, 5901, 5800}, {2323, 7547, 37215, 52869}, {53, 853, 5353}, {161, 162, 199},
	{6379, 11211, 9200, 9300}, {502, 102, 44818, 20000, 47808}, {5060, 5061, 2000}, {2375, 2376, 6443, 10250}, {389, 636, 3268, 88},
	{111, 2049, 873}, {1723, 1194, 500, 4500}, {1883, 8883, 5683}, {9100, 515, 631}, {554, 8554, 37777}, {30303, 8333, 18080},
}

// tastes adds independent sources whose ports are their own affair, in every shape that looks as if they were shared out: all
// of them sweep the same addresses.
func (b *builder) tastes() {
	kind := func(n int, tool func() detect.Behaviour, f func(s, k int, from, to float64)) {
		from, to := b.span(0.4)
		for k := range b.count(n) {
			a := b.within(from, to)
			f(b.source(tool()), k, a, b.within(a, to))
		}
	}
	sweep := func(s int, ports []uint16, from, to float64) {
		for _, p := range ports {
			for t := range b.total {
				b.touch(s, event.ProtoTCP, p, t, 0, b.within(from, to))
			}
		}
	}
	one := func(s int, target uint32, ports []uint16, from, to float64) {
		for _, p := range ports {
			b.touch(s, event.ProtoTCP, p, target, 0, b.within(from, to))
		}
	}
	stretch := func(lo, n int) []uint16 {
		out := make([]uint16, n)
		for i := range out {
			out[i] = uint16(min(lo+i, 65535))
		}
		return out
	}
	// The same twenty ports, in the order of everybody's list.
	kind(20, nmap, func(s, _ int, from, to float64) { sweep(s, popular, from, to) })
	// Twenty scanners with twenty favourite ports.
	kind(20, masscan, func(s, k int, from, to float64) { sweep(s, popular[k%len(popular):][:1], from, to) })
	// A service each, nobody's ports anybody else's.
	kind(len(services), zmap, func(s, k int, from, to float64) { sweep(s, services[k%len(services)], from, to) })
	// Runs of ports that begin anywhere in one popular range.
	kind(25, plain, func(s, _ int, from, to float64) { sweep(s, stretch(8000+b.rng.IntN(90), 3+b.rng.IntN(6)), from, to) })
	// The top thousand in random order, broken off half-way, on one address.
	top := b.rng.Perm(10000)[:1000]
	kind(25, nmap, func(s, _ int, from, to float64) {
		for _, i := range b.rng.Perm(len(top))[:200+b.rng.IntN(700)] {
			b.touch(s, event.ProtoTCP, uint16(top[i]+1), 7, 0, b.within(from, to))
		}
	})
	// Any ports of one address at random.
	kind(25, masscan, func(s, _ int, from, to float64) {
		for range 1000 + b.rng.IntN(5000) {
			b.touch(s, event.ProtoTCP, uint16(1+b.rng.IntN(65535)), 9, 0, b.within(from, to))
		}
	})
	// A thousand ports from a round number on, of one address.
	kind(20, plain, func(s, _ int, from, to float64) { one(s, 11, stretch(1+1000*b.rng.IntN(65), 1000), from, to) })
	// Ranges of all sizes, of one address.
	kind(20, zmap, func(s, _ int, from, to float64) {
		one(s, 13, stretch(1+b.rng.IntN(60000), 100+b.rng.IntN(3000)), from, to)
	})
}
