package proof

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
	"murmuration/pkg/fingerprint"
)

func addr(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// TestCookies holds the cookie against masscan's own packets and against the layout of its message.
func TestCookies(t *testing.T) {
	// masscan 1.3.2 --seed 373201944, shard of the sample's campaign A; the other numbers of this packet are in the capture.
	p := Probe{Dst: addr(3323069671), Proto: event.ProtoTCP, Sport: 55985, Dport: 53}
	assert.Equal(t, uint32(451454435), MasscanCookie(373201944, 1681989196, &p))
	m, ok := messageOf(0x01020304, &Probe{Dst: addr(0x05060708), Proto: event.ProtoTCP, Sport: 0x090a, Dport: 0x0b0c})
	require.True(t, ok)
	assert.Equal(t, message{8, 7, 6, 5, 0x0c, 0x0b, 0, 0, 4, 3, 2, 1, 0x0a, 9, 0, 0}, m)
	_, ok = messageOf(1, &Probe{Dst: netip.MustParseAddr("2001:db8::1"), Proto: event.ProtoTCP})
	assert.False(t, ok)
}

// TestGroups: primes are primes, roots are roots, factors are all of them.
func TestGroups(t *testing.T) {
	for _, g := range groups() {
		require.True(t, new(big.Int).SetUint64(g.prime).ProbablyPrime(20), "%d", g.prime)
		rest := g.order()
		for _, q := range g.factors {
			require.True(t, new(big.Int).SetUint64(q).ProbablyPrime(20), "%d", q)
			require.Zero(t, rest%q)
			for rest%q == 0 {
				rest /= q
			}
			require.NotEqual(t, uint64(1), powMod(g.root, g.order()/q, g.prime))
		}
		require.Equal(t, uint64(1), rest, "%d", g.prime)
	}
}

func TestLogarithms(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, g := range groups()[:5] {
		l := newLogs(g)
		for range 200 {
			x := 1 + rng.Uint64N(g.prime-1)
			e := l.of(x)
			require.Less(t, e, g.order())
			require.Equal(t, x, powMod(g.root, e, g.prime))
		}
	}
}

// TestSmallGenerators holds the list against the definition, for a group whose elements can all be looked at.
func TestSmallGenerators(t *testing.T) {
	g := groups()[1]
	n := 0
	newLogs(g).smallGenerators(func(x, log uint64) {
		n++
		require.Equal(t, x, powMod(g.root, log, g.prime))
		require.NotEqual(t, uint64(1), powMod(x, g.order()/2, g.prime), "no generator: %d", x)
	})
	assert.Equal(t, 32768, n)
}

// TestInternet: ranks are a bijection in ZMap's order: whole /20s first, what is left of broken ones behind them.
func TestInternet(t *testing.T) {
	sp := internet("", reserved())
	var blocked uint64
	for _, p := range reserved() {
		blocked += 1 << (32 - p.Bits())
	}
	require.Equal(t, uint64(1<<32)-blocked, sp.size)
	rank := func(s string) uint64 {
		a, _ := ipv4(netip.MustParseAddr(s))
		r, ok := sp.ranks(a)
		require.True(t, ok, s)
		return r
	}
	assert.Equal(t, uint64(0), rank("1.0.0.0"))
	assert.Equal(t, uint64(9<<24-1), rank("9.255.255.255"))
	assert.Equal(t, uint64(9<<24), rank("11.0.0.0"))
	for _, s := range []string{"10.1.2.3", "192.0.2.9", "192.0.0.1", "203.0.113.255", "255.255.255.255", "0.0.0.0"} {
		a, _ := ipv4(netip.MustParseAddr(s))
		_, ok := sp.ranks(a)
		assert.False(t, ok, s)
	}
	// 192.0.0.0/24 and 192.0.2.0/24 lie in one /20, the three others in one each: their 4·4096 - 5·256 allowed addresses come last.
	first := sp.size - (4*4096 - 5*256)
	assert.Equal(t, first, rank("192.0.1.0"))
	assert.Equal(t, first+255, rank("192.0.1.255"))
	assert.Equal(t, first+256, rank("192.0.3.0"))
	assert.Equal(t, sp.size-1, rank("203.0.127.255"))
	rng := rand.New(rand.NewPCG(5, 6))
	seen := map[uint64]uint32{}
	for range 100_000 {
		a := rng.Uint32()
		if r, ok := sp.ranks(a); ok {
			require.Less(t, r, sp.size)
			if b, twice := seen[r]; twice {
				require.Equal(t, b, a)
			}
			seen[r] = a
		}
	}
}

// TestTurns holds the bound against the exact numbers of permutations (Eulerian numbers).
func TestTurns(t *testing.T) {
	for n := 4; n <= 12; n++ {
		euler := []float64{1} // descents of permutations of m things
		for m := 2; m <= n-1; m++ {
			next := make([]float64, m)
			for d := range next {
				if d < len(euler) {
					next[d] += float64(d+1) * euler[d]
				}
				if d > 0 {
					next[d] += float64(m-d) * euler[d-1]
				}
			}
			euler = next
		}
		total, below := 0.0, 0.0
		for _, e := range euler {
			total += e
		}
		for d := 1; d <= len(euler); d++ {
			below += euler[d-1]
			assert.LessOrEqual(t, turns(n, d), -math.Log10(below/total)+1e-6, "n %d, turns %d", n, d)
		}
		assert.InDelta(t, log10Factorial(float64(n-1)), turns(n, 1), 1e-9)
	}
	assert.Greater(t, turns(256, 10), 200.0)
}

func TestArc(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	const runs = 20_000
	for _, n := range []int{3, 5, 8} {
		hit := 0
		for range runs {
			places := make([]uint64, n)
			for i := range places {
				places[i] = rng.Uint64()
			}
			if _, l := shortestArc(places); l <= 0.3 {
				hit++
			}
		}
		want := math.Pow(10, -arc(n, 0.3)) * runs
		assert.InDelta(t, want, float64(hit), 5*math.Sqrt(want)+1, "n %d", n)
	}
}

// zmap simulates runs of ZMap as a telescope sees them.
type zmap struct {
	rng *rand.Rand
	g   group
	l   *logs
	sp  space
	// telescope
	base uint32
	size int
}

// run returns the sources of one scan: a shard each, or each everything if shards is 1. Version 4 cuts exponents into arcs, version 2 deals them out
// in turn. Threads of one source go on side by side.
func (z *zmap) run(first uint32, generator uint64, shards, members, threads int, v4 bool) []Source {
	type visit struct {
		at  float64
		dst uint32
	}
	inv, _ := inverse(z.l.of(generator), z.g.order())
	offset := z.rng.Uint64N(z.g.order())
	n := z.g.order()
	visits := make([][]visit, shards)
	for k := range z.size {
		dst := z.base + uint32(k)
		rank, ok := z.sp.ranks(dst)
		if !ok {
			continue
		}
		e := (mulMod(z.l.of(rank+1), inv, n) + offset) % n
		s, at := int(e%uint64(shards)), float64(e)
		if v4 {
			s = min(shards-1, int(e/(n/uint64(shards))))
			at = math.Mod(float64(e), float64(n)/float64(shards*threads))
		}
		visits[s] = append(visits[s], visit{at, dst})
	}
	var out []Source
	for s := range members {
		v := visits[s%shards]
		slices.SortFunc(v, func(a, b visit) int { return int(math.Copysign(1, a.at-b.at)) })
		src := Source{Addr: addr(first + uint32(s)), Tool: fingerprint.ZMap, Group: -1}
		for i, x := range v {
			src.Probes = append(src.Probes, Probe{Time: int64(i), Dst: addr(x.dst), Proto: event.ProtoTCP, Dport: 80})
		}
		out = append(out, src)
	}
	return out
}

// generator draws one as ZMap does: below 2^22 from version 4 on.
func (z *zmap) generator(v4 bool) uint64 {
	top := z.g.prime
	if v4 {
		top = min(top, 1<<22)
	}
	for {
		if x := 1 + z.rng.Uint64N(top-1); gcd(z.l.of(x), z.g.order()) == 1 {
			return x
		}
	}
}

// TestGenerators: shards of one scan are tied together whatever was scanned, whichever version did it, and in whatever order the probes
// stand; runs of their own are not.
func TestGenerators(t *testing.T) {
	whole := internet("all but ZMap's block list", reserved())
	tests := []struct {
		name      string
		space     space
		telescope string
		shards    int
		v4        bool
		shuffled  bool
	}{
		{"a /20, version 4", prefixSpace(netip.MustParsePrefix("198.51.96.0/20")), "198.51.96.0/20", 20, true, false},
		{"a /20, version 2", prefixSpace(netip.MustParsePrefix("198.51.96.0/20")), "198.51.96.0/20", 20, false, true},
		{"a /14 of which a /18 is watched, version 2", prefixSpace(netip.MustParsePrefix("44.4.0.0/14")), "44.5.64.0/18", 24, false, true},
		{"a /10 of which a /17 is watched, version 4", prefixSpace(netip.MustParsePrefix("44.0.0.0/10")), "44.5.0.0/17", 16, true, true},
		{"the Internet, a /18 watched, version 4", whole, "44.5.64.0/18", 30, true, true},
		{"the Internet, a /18 watched, version 4, in order", whole, "44.5.64.0/18", 30, true, false},
		{"the Internet, a /18 watched, version 2 with 60 shards", whole, "44.5.64.0/18", 60, false, true},
	}
	for seed, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := netip.MustParsePrefix(tt.telescope)
			base, _ := ipv4(p.Addr())
			g, ok := groupFor(tt.space.size)
			require.True(t, ok)
			z := &zmap{rng: rand.New(rand.NewPCG(uint64(seed), 9)), g: g, l: newLogs(g), sp: tt.space, base: base, size: 1 << (32 - p.Bits())}
			sources := z.run(0x64400000, z.generator(tt.v4), tt.shards, tt.shards, 1, tt.v4)
			for i := range sources {
				sources[i].Group = 0
			}
			campaign := len(sources)
			for k := range 10 { // strangers, each a shard of a scan of its own
				sources = append(sources, z.run(0x64500000+uint32(k), z.generator(tt.v4), tt.shards, 1, 1, tt.v4)...)
			}
			if tt.shuffled {
				for i := range sources {
					z.rng.Shuffle(len(sources[i].Probes), func(a, b int) {
						x := sources[i].Probes
						x[a], x[b] = x[b], x[a]
					})
				}
			}
			proofs, err := Prove(t.Context(), sources, Options{Generators: true, Searches: 8, Workers: 2})
			require.NoError(t, err)
			require.Len(t, proofs, 1)
			t.Log(proofs[0].Why, proofs[0].Members[0].Part)
			members := 0
			for _, m := range proofs[0].Members {
				require.Less(t, m.Source, campaign, "a stranger: %v", m)
				members++
			}
			assert.Equal(t, campaign, members)
			assert.Greater(t, proofs[0].Evidence, 30.0)
		})
	}
}

// TestOrderAlone: who scans everything leaves no arc, but passes its targets in order: two sources with one generator are one scan done twice.
func TestOrderAlone(t *testing.T) {
	whole := internet("all but ZMap's block list", reserved())
	base, _ := ipv4(netip.MustParseAddr("44.5.64.0"))
	g, _ := groupFor(whole.size)
	for threads := 1; threads <= 4; threads++ {
		z := &zmap{rng: rand.New(rand.NewPCG(uint64(threads), 10)), g: g, l: newLogs(g), sp: whole, base: base, size: 256}
		sources := z.run(0x64400000, z.generator(true), 1, 3, threads, true)
		for k := range 6 {
			sources = append(sources, z.run(0x64500000+uint32(k), z.generator(true), 1, 1, threads, true)...)
		}
		proofs, err := Prove(t.Context(), sources, Options{Generators: true, Strangers: true, Searches: 2, Workers: 2})
		require.NoError(t, err)
		require.Len(t, proofs, 1, "threads %d", threads)
		assert.Len(t, proofs[0].Members, 3)
	}
}

// TestNoGeneratorsAmongOthers: 120 independent ZMaps over one /20, of which by the law of birthdays some pairs have one generator, are not
// called one scan; nor are random targets called ZMap's.
func TestNoGeneratorsAmongOthers(t *testing.T) {
	sp := prefixSpace(netip.MustParsePrefix("198.51.96.0/20"))
	base, _ := ipv4(netip.MustParseAddr("198.51.96.0"))
	g, _ := groupFor(sp.size)
	z := &zmap{rng: rand.New(rand.NewPCG(11, 12)), g: g, l: newLogs(g), sp: sp, base: base, size: 4096}
	var sources []Source
	for k := range 120 {
		sources = append(sources, z.run(uint32(k), z.generator(false), 1+k%40, 1, 1, k%2 == 0)...)
		random := Source{Addr: addr(0x64500000 + uint32(k)), Tool: fingerprint.ZMap, Group: k % 7}
		for range 40 {
			random.Probes = append(random.Probes, Probe{Dst: addr(base + z.rng.Uint32N(4096)), Proto: event.ProtoTCP, Dport: 80})
		}
		sources = append(sources, random)
	}
	proofs, err := Prove(t.Context(), sources, Options{Searches: 16})
	require.NoError(t, err)
	assert.Empty(t, proofs)
}

// bots simulates sources with the keys of a tool.
func bots(tool string, n int, probe func(source, i int) Probe) []Source {
	var out []Source
	for s := range n {
		src := Source{Addr: addr(0x64400000 + uint32(s)), Tool: tool, Group: -1}
		for i := range 12 {
			src.Probes = append(src.Probes, probe(s, i))
		}
		out = append(out, src)
	}
	return out
}

func TestKeys(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	draw := make([][3]uint32, 300)
	for i := range draw {
		draw[i] = [3]uint32{rng.Uint32(), rng.Uint32(), rng.Uint32()}
	}
	draw[17], draw[200] = draw[3], draw[3] // one infection under three addresses
	var plainWindow []Source
	kinds := map[Kind]struct {
		sources []Source
	}{
		MiraiKey: {bots(fingerprint.Mirai, len(draw), func(s, _ int) Probe {
			dst := rng.Uint32()
			return Probe{Dst: addr(dst), Seq: dst, Proto: event.ProtoTCP, Dport: 23, Sport: uint16(draw[s][0]) | 1024, Window: uint16(draw[s][1])}
		})},
		NmapKey: {bots(fingerprint.Nmap, len(draw), func(s, _ int) Probe {
			v := rng.Uint32() & 0xffff
			return Probe{Dst: addr(rng.Uint32()), Seq: (v<<16 | v) ^ draw[s][0], Proto: event.ProtoTCP, Dport: 80, Sport: uint16(33000 + draw[s][1]%31000)}
		})},
		UnicornscanKey: {bots(fingerprint.Unicornscan, len(draw), func(s, _ int) Probe {
			dst, sport := rng.Uint32(), uint16(rng.Uint32())
			return Probe{Dst: addr(dst), Sport: sport, Dport: 80, Proto: event.ProtoTCP, Seq: draw[s][0] ^ dst ^ (80<<16 + uint32(sport))}
		})},
	}
	for kind, k := range kinds {
		proofs, err := Prove(t.Context(), k.sources, Options{})
		require.NoError(t, err)
		require.Len(t, proofs, 1, kind)
		assert.Equal(t, kind, proofs[0].Kind)
		var who []int
		for _, m := range proofs[0].Members {
			who = append(who, m.Source)
		}
		assert.Equal(t, []int{3, 17, 200}, who, kind)
		assert.Equal(t, 36, proofs[0].For)
	}
	// A build that fixes the window: source ports alone collide among 300 bots, and say little.
	plainWindow = bots(fingerprint.Mirai, len(draw), func(s, _ int) Probe {
		dst := rng.Uint32()
		return Probe{Dst: addr(dst), Seq: dst, Proto: event.ProtoTCP, Dport: 23, Sport: uint16(1024 + s/2), Window: 5840}
	})
	proofs, err := Prove(t.Context(), plainWindow, Options{})
	require.NoError(t, err)
	assert.Empty(t, proofs)
}

// FuzzProve: whatever the headers, nothing breaks, and the order of sources changes no proof.
func FuzzProve(f *testing.F) {
	f.Add([]byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"), uint64(1))
	tools := []string{"", fingerprint.Masscan, fingerprint.ZMap, fingerprint.Mirai, fingerprint.Nmap, fingerprint.Unicornscan}
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		var sources []Source
		for len(b) >= 14 && len(sources) < 64 {
			s := Source{Addr: addr(binary.BigEndian.Uint32(b)), Tool: tools[int(b[4])%len(tools)], Group: int(b[5]%4) - 1}
			n := int(b[6]%16) + 1
			for k := range n {
				at := 7 + k
				if at+7 > len(b) {
					break
				}
				s.Probes = append(s.Probes, Probe{
					Time: int64(k), Dst: addr(binary.BigEndian.Uint32(b[at:])), Seq: binary.BigEndian.Uint32(b[at+3:]), Proto: event.ProtoTCP,
					Sport: uint16(b[at]), Dport: uint16(b[at+1]),
				})
			}
			sources = append(sources, s)
			b = b[14:]
		}
		opt := Options{Seeds: []uint64{seed, 1}, SeedLimit: 64, SeedTime: 64, Searches: 4, MinEvidence: 0.1}
		one, err := Prove(t.Context(), sources, opt)
		require.NoError(t, err)
		for _, p := range one {
			require.GreaterOrEqual(t, len(p.Members), 2)
			require.False(t, math.IsNaN(p.Evidence) || math.IsInf(p.Evidence, 0), fmt.Sprint(p))
		}
	})
}

func BenchmarkSeedSearch(b *testing.B) {
	p := Probe{Dst: addr(0xc6120001), Proto: event.ProtoTCP, Sport: 40000, Dport: 80}
	m, _ := messageOf(0x64400001, &p)
	c := []cookie{{m, 1}, {m, 2}}
	const seeds = 1 << 20
	for b.Loop() {
		searchPiece(c, 0, seeds)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/seeds, "ns/seed")
}

// BenchmarkGenerators is the search for one source's generator among those of a group: the places are random, so that nothing ends it early.
func BenchmarkGenerators(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, g := range groups()[1:5] {
		var places []uint64
		for range most {
			places = append(places, rng.Uint64N(g.order()))
		}
		z := &zmapRun{logs: map[uint64]*logs{g.prime: newLogs(g)}, small: map[uint64][][2]uint64{}, opt: Options{Workers: 1}}
		z.generators(g)
		b.Run(fmt.Sprint(g.prime), func(b *testing.B) {
			for b.Loop() {
				z.turn(numbering{g: g}, places, 1)
			}
		})
	}
}
