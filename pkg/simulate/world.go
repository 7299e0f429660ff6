// Package simulate makes synthetic telescopes whose coordinated campaigns are known: input for detection,
// or a stream of events for the whole path. Everything follows from a scenario's name, a seed and a scale.
package simulate

import (
	"cmp"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"

	"murmuration/pkg/detect"
	"murmuration/pkg/event"
)

// World is one simulated telescope: what was seen, and who belongs together in truth.
type World struct {
	Input detect.Input
	Truth []Truth
	// Objects names the request objects by number; entry 0 is unused.
	Objects []Object
}

// Object is what a request asked for.
type Object struct{ Method, Path string }

// Truth is one coordinated campaign.
type Truth struct {
	Name    string
	Sources []int // indices into Input.Sources, ascending
	// Decidable says that the traffic holds enough to tell; a detector may pass over the others.
	Decidable bool
}

// Start is the beginning of every simulated window: 2026-01-01 00:00:00 UTC.
const Start = 1767225600

const day = 86400

// builder fills a World.
type builder struct {
	rng   *rand.Rand
	w     *World
	total uint32
	days  int
	scale float64
	taken map[netip.Addr]bool
}

func newBuilder(seed uint64, scale float64, days int, prefixes ...string) *builder {
	b := &builder{rng: rand.New(rand.NewPCG(seed, 0x6d75726d)), w: &World{}, days: days, scale: scale, taken: map[netip.Addr]bool{}}
	for _, s := range prefixes {
		p := netip.MustParsePrefix(s)
		size := uint32(1) << (p.Addr().BitLen() - p.Bits())
		b.w.Input.Universe.Blocks = append(b.w.Input.Universe.Blocks, detect.Block{Prefix: p, Sensor: "simulated", First: b.total, Size: size})
		b.total += size
	}
	b.w.Input.Start, b.w.Input.End = Start, Start+int64(days)*day
	b.w.Objects = []Object{{}}
	return b
}

// done sorts every footprint and returns the world, sources in random order so that no index gives anything away.
func (b *builder) done() *World {
	in := &b.w.Input
	order := b.rng.Perm(len(in.Sources))
	at := make([]int, len(order))
	sources := make([]detect.Source, len(order))
	for to, from := range order {
		at[from] = to
		s := in.Sources[from]
		s.Cells = distinct(s.Cells)
		s.Behaviour.Packets = max(s.Behaviour.Packets, uint64(len(s.Cells)))
		sources[to] = s
	}
	in.Sources = sources
	for i := range b.w.Truth {
		t := &b.w.Truth[i]
		for k, s := range t.Sources {
			t.Sources[k] = at[s]
		}
		slices.Sort(t.Sources)
	}
	return b.w
}

// distinct sorts cells and folds touches of one cell into one.
func distinct(cells []detect.Cell) []detect.Cell {
	slices.SortFunc(cells, func(a, b detect.Cell) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Target, b.Target), cmp.Compare(a.Object, b.Object))
	})
	out := cells[:0]
	for _, c := range cells {
		if n := len(out); n > 0 && out[n-1].Proto == c.Proto && out[n-1].Port == c.Port && out[n-1].Target == c.Target && out[n-1].Object == c.Object {
			out[n-1].First, out[n-1].Last = min(out[n-1].First, c.First), max(out[n-1].Last, c.Last)
			continue
		}
		out = append(out, c)
	}
	return out
}

// Behaviours of tools as a telescope sees them.
func masscan() detect.Behaviour {
	return detect.Behaviour{Tool: "masscan", Signature: "1024::0:0", TTLClass: 255}
}

func zmap() detect.Behaviour {
	return detect.Behaviour{Tool: "zmap", Signature: "65535::0:0", TTLClass: 255}
}

func mirai() detect.Behaviour { return detect.Behaviour{Tool: "mirai", TTLClass: 64} }

func plain() detect.Behaviour {
	return detect.Behaviour{Signature: "64240:2-4-8-1-3:1460:7", TTLClass: 64}
}

func nmap() detect.Behaviour {
	return detect.Behaviour{Signature: "1024:2:1460:0", TTLClass: 64}
}

func browser(agent string) detect.Behaviour {
	b := plain()
	b.UserAgent = agent
	return b
}

// source adds a source with an address of its own, spread over the whole address space.
func (b *builder) source(behaviour detect.Behaviour) int {
	for {
		r := b.rng.Uint32()
		a := netip.AddrFrom4([4]byte{byte(r>>24)%223 + 1, byte(r >> 16), byte(r >> 8), byte(r)})
		if b.w.Input.Universe.Blocks[0].Prefix.Addr().Is6() {
			var ip [16]byte
			ip[0], ip[1] = 0x20, 0x01
			for i := 2; i < 16; i++ {
				ip[i] = byte(b.rng.Uint32())
			}
			a = netip.AddrFrom16(ip)
		}
		if !b.taken[a] {
			b.taken[a] = true
			b.w.Input.Sources = append(b.w.Input.Sources, detect.Source{Addr: a, Behaviour: behaviour})
			return len(b.w.Input.Sources) - 1
		}
	}
}

// neighbours moves sources into the network of the first one, at most 200 of them.
func (b *builder) neighbours(sources []int) {
	net, err := b.w.Input.Sources[sources[0]].Addr.Prefix(24)
	if err != nil || len(sources) > 200 {
		panic("a farm is of IPv4 and fits into a /24") // A mistake in a scenario.
	}
	a := net.Addr().As4()
	for _, s := range sources {
		for {
			a[3]++
			if at := netip.AddrFrom4(a); !b.taken[at] {
				b.taken[at] = true
				b.w.Input.Sources[s].Addr = at
				break
			}
		}
	}
}

// touch records that source s touched a cell at a time, in seconds after the window's start.
func (b *builder) touch(s int, proto event.Proto, port uint16, target, object uint32, at float64) {
	at = math.Min(math.Max(at, 0), float64(b.days)*day-1)
	src := &b.w.Input.Sources[s]
	src.Cells = append(src.Cells, detect.Cell{Target: target, Object: object, First: uint32(at), Last: uint32(at), Port: port, Proto: int8(proto)})
}

// activity draws when a source is active: seconds after the window's start.
func (b *builder) activity() (from, to float64) {
	window := float64(b.days) * day
	// From seconds to weeks, evenly over the orders of magnitude.
	length := math.Pow(10, 1+b.rng.Float64()*math.Log10(window/40))
	from = b.rng.Float64() * (window - length)
	return from, from + length
}

func (b *builder) within(from, to float64) float64 { return from + b.rng.Float64()*(to-from) }

// heavy draws from a Pareto distribution with exponent 1.2 between 3 and hi.
func (b *builder) heavy(hi float64) int {
	u := b.rng.Float64()
	const lo, k = 3, 1.2
	x := lo / math.Pow(1-u*(1-math.Pow(lo/hi, k)), 1/k)
	return int(x)
}

func (b *builder) count(n int) int { return max(1, int(math.Round(float64(n)*b.scale))) }
