package proof

import (
	"math"
	"math/bits"
)

// ZMap walks the multiplicative group of integers modulo a prime, one element a target, by multiplying with a generator
// (zmap/zmap src/cyclic.c). The prime is the first of a fixed list above the number of targets; group is one of them. All
// of these groups have an order without large factors, so discrete logarithms are a matter of microseconds.
type group struct {
	prime, root uint64
	factors     []uint64 // distinct prime factors of prime-1
}

func (g *group) order() uint64 { return g.prime - 1 }

// groups returns ZMap's groups, ascending. Those above 2^32+15 came with several ports in version 4.
func groups() []group {
	return []group{
		{257, 3, []uint64{2}},
		{65537, 3, []uint64{2}},
		{16777259, 2, []uint64{2, 23, 103, 3541}},
		{268435459, 2, []uint64{2, 3, 19, 87211}},
		{4294967311, 3, []uint64{2, 3, 5, 131, 364289}},
		{8589934609, 19, []uint64{2, 3, 59, 3033169}},
		{17179869209, 3, []uint64{2, 83, 1277, 20261}},
		{68719476767, 5, []uint64{2, 163, 883, 238727}},
		{1099511627791, 3, []uint64{2, 3, 5, 36650387593}},
		{17592186044423, 5, []uint64{2, 11, 53, 97, 155542661}},
		{281474976710677, 6, []uint64{2, 3, 7, 1361, 2462081249}},
	}
}

// groupFor returns the group that ZMap chooses for so many targets.
func groupFor(targets uint64) (group, bool) {
	for _, g := range groups() {
		if g.prime > targets {
			return g, true
		}
	}
	return group{}, false
}

// mulMod is a·b modulo m, for a and b below m.
func mulMod(a, b, m uint64) uint64 {
	hi, lo := bits.Mul64(a, b) // hi < m, because a and b are
	_, r := bits.Div64(hi, lo, m)
	return r
}

func powMod(a, e, m uint64) uint64 {
	r := uint64(1)
	for a %= m; e > 0; e >>= 1 {
		if e&1 == 1 {
			r = mulMod(r, a, m)
		}
		a = mulMod(a, a, m)
	}
	return r
}

// inverse returns a^-1 modulo m, false if there is none.
func inverse(a, m uint64) (uint64, bool) {
	r0, r1 := int64(m), int64(a%m)
	t0, t1 := int64(0), int64(1)
	for r1 != 0 {
		q := r0 / r1
		r0, r1 = r1, r0-q*r1
		t0, t1 = t1, t0-q*t1
	}
	if r0 != 1 {
		return 0, false
	}
	if t0 < 0 {
		t0 += int64(m)
	}
	return uint64(t0), true
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// logs computes discrete logarithms to the base of a group's root: Pohlig and Hellman 1978 over the prime powers of the
// order, baby steps and giant steps in each.
type logs struct {
	g      group
	powers []primePower
}

// primePower is one factor q^e of the order.
type primePower struct {
	q, e  uint64
	size  uint64 // q^e
	baby  map[uint64]uint64
	steps uint64 // number of baby steps
	giant uint64 // base^-steps, where base = root^(order/q)
	back  uint64 // inverse of the generator of the subgroup of size elements
	crt   uint64 // 1 modulo size, 0 modulo the rest of the order
}

func newLogs(g group) *logs {
	l := &logs{g: g}
	n := g.order()
	for _, q := range g.factors {
		p := primePower{q: q, size: 1}
		for r := n; r%q == 0; r /= q {
			p.e++
			p.size *= q
		}
		base := powMod(g.root, n/q, g.prime)
		// More baby steps than the square root: the table is made once and asked often.
		p.steps = min(q, max(uint64(math.Sqrt(float64(q)))+1, 1<<19))
		p.baby = make(map[uint64]uint64, p.steps)
		x := uint64(1)
		for i := range p.steps {
			p.baby[x] = i
			x = mulMod(x, base, g.prime)
		}
		p.giant = powMod(base, q-p.steps%q, g.prime)
		p.back, _ = inverse(powMod(g.root, n/p.size, g.prime), g.prime)
		rest := n / p.size
		inv, _ := inverse(rest%p.size, p.size)
		p.crt = mulMod(rest, inv, n)
		if p.size == n {
			p.crt = 1
		}
		l.powers = append(l.powers, p)
	}
	return l
}

// of returns e with root^e = x; x must lie between 1 and prime-1.
func (l *logs) of(x uint64) uint64 {
	n, p := l.g.order(), l.g.prime
	var sum uint64
	for i := range l.powers {
		f := &l.powers[i]
		y := powMod(x, n/f.size, p) // lies in the subgroup of q^e elements
		var e, unit uint64 = 0, 1
		for k := uint64(1); k <= f.e; k++ {
			d := f.digit(powMod(y, pow(f.q, f.e-k), p), p)
			e += d * unit
			if k < f.e {
				y = mulMod(y, powMod(f.back, d*unit, p), p)
			}
			unit *= f.q
		}
		sum = (sum + mulMod(e%n, f.crt%n, n)) % n
	}
	return sum
}

// digit returns d below q with base^d = y.
func (f *primePower) digit(y, p uint64) uint64 {
	for i := uint64(0); i <= f.q/f.steps; i++ {
		if d, ok := f.baby[y]; ok {
			return i*f.steps + d
		}
		y = mulMod(y, f.giant, p)
	}
	return 0 // y is no element of the subgroup: x was 0
}

func pow(b, e uint64) uint64 {
	r := uint64(1)
	for range e {
		r *= b
	}
	return r
}

// smallGenerators calls fn with every generator below 2^22 (or below the prime) and its logarithm to the base of the root:
// those that ZMap draws from since 4.0.0 (src/cyclic.c, find_primroot). Logarithms of composite numbers are sums.
func (l *logs) smallGenerators(fn func(generator, log uint64)) {
	n := l.g.order()
	top := min(uint64(1)<<22, l.g.prime)
	log := make([]uint64, top)
	least := make([]uint32, top) // smallest prime factor
	var primes []uint32
	for x := uint64(2); x < top; x++ {
		if least[x] == 0 {
			least[x] = uint32(x)
			primes = append(primes, uint32(x))
			log[x] = l.of(x)
		} else {
			q := uint64(least[x])
			log[x] = (log[q] + log[x/q]) % n
		}
		for _, q := range primes {
			if q > least[x] || uint64(q)*x >= top {
				break
			}
			least[uint64(q)*x] = q
		}
		if gcd(log[x], n) == 1 {
			fn(x, log[x])
		}
	}
}
