package proof

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"murmuration/pkg/event"
	"murmuration/pkg/fingerprint"
)

// keys finds the constants that one process writes into all of its packets, in several sources: one host whose address
// changed, or one process with several addresses.
func keys(sources []Source) []Proof {
	var out []Proof
	out = append(out, shared(sources, MiraiKey, fingerprint.Mirai, miraiKeyOf)...)
	out = append(out, shared(sources, NmapKey, fingerprint.Nmap, nmapKeyOf)...)
	out = append(out, shared(sources, UnicornscanKey, fingerprint.Unicornscan, unicornscanKeyOf)...)
	return append(out, cookiesShared(sources)...)
}

// key is two numbers that a process draws once; each says how many digits it is worth.
type key struct{ a, b uint32 }

// keyed is a source with its key.
type keyed struct {
	source       int
	key          key
	pro, against int
}

// law says how a key is written, and how many digits each half of it is worth by the tool's own law.
type law struct {
	of      func(p *Probe) (key, bool)
	digits  [2]float64
	written func(k key) string
}

// miraiKeyOf: source port (from 1024 on) and window are drawn once an infection (jgamblin/Mirai-Source-Code mirai/bot/scanner.c).
func miraiKeyOf() law {
	return law{
		of:      func(p *Probe) (key, bool) { return key{uint32(p.Sport), uint32(p.Window)}, true },
		digits:  [2]float64{math.Log10(65536 - 1024), math.Log10(65536)},
		written: func(k key) string { return fmt.Sprintf("source port %d and window %d", k.a, k.b) },
	}
}

// nmapKeyOf: sequence numbers are a 16-bit value twice, masked by 32 bits drawn once a run (scan_engine_raw.cc, seq32_encode), so that
// the two halves of a number differ by the same 16 bits in all of them; the source port's base is one of 31,000 drawn with it (nmap.cc),
// and retries add a few.
func nmapKeyOf() law {
	const near = 16
	return law{
		of:      func(p *Probe) (key, bool) { return key{p.Seq>>16 ^ p.Seq&0xffff, uint32(p.Sport) / near}, true },
		digits:  [2]float64{math.Log10(65536), math.Log10(31000 / near)},
		written: func(k key) string { return fmt.Sprintf("mask %#04x and source ports near %d", k.a, k.b*near) },
	}
}

// unicornscanKeyOf: the sequence number is target and ports, masked by 32 bits drawn once a run.
func unicornscanKeyOf() law {
	return law{
		of: func(p *Probe) (key, bool) {
			dst, ok := ipv4(p.Dst)
			return key{a: p.Seq ^ dst ^ (uint32(p.Dport)<<16 + uint32(p.Sport))}, ok
		},
		digits:  [2]float64{math.Log10(1 << 32), 0},
		written: func(k key) string { return fmt.Sprintf("key %#08x", k.a) },
	}
}

// shared finds the keys that several sources of a tool have.
func shared(sources []Source, kind Kind, tool string, of func() law) []Proof {
	l := of()
	var all []keyed
	for i := range sources {
		if sources[i].Tool == tool {
			if k, ok := majority(&sources[i], l.of); ok {
				k.source = i
				all = append(all, k)
			}
		}
	}
	groups := map[key][]keyed{}
	left, right := map[uint32]int{}, map[uint32]int{}
	for _, k := range all {
		groups[k.key] = append(groups[k.key], k)
		left[k.key.a]++
		right[k.key.b]++
	}
	var out []Proof
	for k, g := range groups {
		if len(g) < 2 {
			continue
		}
		// A number that strangers have, too, is not drawn by the tool's law: builds that fix the window, say.
		limit := worth(l.digits[0], left[k.a]-len(g), len(all)) + worth(l.digits[1], right[k.b]-len(g), len(all))
		p := Proof{Kind: kind, Value: l.written(k), Tries: float64(len(all)), Coincidence: limit}
		for _, m := range g {
			p.Members = append(p.Members, Member{Source: m.source, For: m.pro, Against: m.against, Evidence: limit})
		}
		p.Evidence = chance(len(g), len(all), limit)
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Proof) int { return cmp.Compare(a.Value, b.Value) })
	return out
}

// chance is the evidence that k of n sources have one key that is worth limit digits.
func chance(k, n int, limit float64) float64 {
	return float64(k-1)*limit - math.Log10(float64(n)) - log10Choose(n-1, k-1)
}

// worth is how many digits half of a key is worth if so many strangers among n sources have it.
func worth(digits float64, strangers, n int) float64 {
	if strangers == 0 {
		return digits
	}
	return math.Min(digits, math.Log10(float64(n)/float64(strangers)))
}

// majority returns the key that most of a source's SYNs have, if at least half do and it is at least two.
func majority(s *Source, of func(p *Probe) (key, bool)) (keyed, bool) {
	counts := map[key]int{}
	n := 0
	var best keyed
	seen := map[Probe]bool{}
	for i := range s.Probes {
		p := s.Probes[i]
		p.Time = 0
		k, ok := of(&p)
		if p.Proto != event.ProtoTCP || !ok || seen[p] {
			continue // Repeated, a probe says nothing new.
		}
		seen[p] = true
		n++
		counts[k]++
		if c := counts[k]; c > best.pro || c == best.pro && less(k, best.key) {
			best.key, best.pro = k, c
		}
	}
	best.against = n - best.pro
	return best, best.pro >= least && 2*best.pro >= n
}

func less(a, b key) bool { return a.a < b.a || a.a == b.a && a.b < b.b }

// question is a probe as a cookie answers it.
type question struct {
	dst          [16]byte
	sport, dport uint16
}

// cookiesShared finds sources that sent the same sequence numbers from the same port to the same targets: one process whose address
// changes on the way. The number must depend on the target, or a tool that always sends the same one would be everywhere.
func cookiesShared(sources []Source) []Proof {
	by := map[question]map[int]uint32{}
	for i := range sources {
		for q, seq := range answers(&sources[i]) {
			if by[q] == nil {
				by[q] = map[int]uint32{}
			}
			by[q][i] = seq
		}
	}
	t := newTwins()
	for _, who := range by {
		t.agree(who)
	}
	for _, who := range by {
		t.disagree(who)
	}
	return t.proofs(sources)
}

// twins counts on how many questions pairs of sources said the same.
type twins struct {
	same, differ map[pair]int
	compared     int
}

// pair is two sources, the smaller first.
type pair struct{ a, b int }

func newTwins() *twins { return &twins{same: map[pair]int{}, differ: map[pair]int{}} }

// crowd is how many sources with one answer are too many for one process: their numbers follow from the question alone.
const crowd = 64

// agree counts the pairs among those asked one question who gave one answer.
func (t *twins) agree(who map[int]uint32) {
	by := map[uint32][]int{}
	for i, seq := range who {
		by[seq] = append(by[seq], i)
	}
	t.compared += len(who) * (len(who) - 1) / 2
	for _, them := range by {
		if len(them) > crowd {
			continue
		}
		slices.Sort(them)
		for x := range them {
			for y := range x {
				t.same[pair{them[y], them[x]}]++
			}
		}
	}
}

// disagree counts, for the pairs that agree somewhere, where they do not.
func (t *twins) disagree(who map[int]uint32) {
	if len(who) > crowd {
		return
	}
	var them []int
	for i := range who {
		them = append(them, i)
	}
	slices.Sort(them)
	for x := range them {
		for y := range x {
			p := pair{them[y], them[x]}
			if t.same[p] > 0 && who[p.a] != who[p.b] {
				t.differ[p]++
			}
		}
	}
}

// proofs joins the pairs that mostly agree. Each source but the first is worth its best agreement.
func (t *twins) proofs(sources []Source) []Proof {
	var pairs []pair
	for p, n := range t.same {
		if n >= least && n > t.differ[p] {
			pairs = append(pairs, p)
		}
	}
	slices.SortFunc(pairs, func(x, y pair) int { return cmp.Or(cmp.Compare(x.a, y.a), cmp.Compare(x.b, y.b)) })
	root := map[int]int{}
	find := func(i int) int {
		for root[i] != 0 {
			i = root[i] - 1
		}
		return i
	}
	best := map[int]Member{}
	for _, p := range pairs {
		if a, b := find(p.a), find(p.b); a != b {
			root[max(a, b)] = min(a, b) + 1
		}
		m := Member{For: t.same[p], Against: t.differ[p], Evidence: hits(t.same[p], t.same[p]+t.differ[p], cookieBits*math.Log10(2))}
		for _, m.Source = range []int{p.a, p.b} {
			if old, ok := best[m.Source]; !ok || m.Evidence > old.Evidence {
				best[m.Source] = m
			}
		}
	}
	groups := map[int][]Member{}
	for i, m := range best {
		groups[find(i)] = append(groups[find(i)], m)
	}
	var out []Proof
	for first, members := range groups {
		p := Proof{
			Kind: SequenceCookies, Tries: math.Max(1, float64(t.compared)), Members: members,
			Value: fmt.Sprintf("the same sequence numbers on the same targets as %s", sources[first].Addr),
		}
		slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(b.Evidence, a.Evidence) })
		p.Coincidence = members[len(members)-1].Evidence
		for _, m := range members[1:] {
			p.Evidence += m.Evidence
		}
		p.Evidence -= math.Log10(p.Tries)
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Proof) int { return cmp.Compare(a.Value, b.Value) })
	return out
}

// answers returns the sequence number of each distinct target of a source whose numbers depend on the target in a way that is not
// plain: neither few for many targets, nor the target's own address (Mirai).
func answers(s *Source) map[question]uint32 {
	out := map[question]uint32{}
	distinct := map[uint32]bool{}
	plain := 0
	for i := range s.Probes {
		p := &s.Probes[i]
		dst, ok := ipv4(p.Dst)
		if !ok || p.Proto != event.ProtoTCP {
			continue
		}
		if p.Seq == dst {
			plain++
		}
		out[question{p.Dst.As16(), p.Sport, p.Dport}] = p.Seq
		distinct[p.Seq] = true
	}
	if len(out) < least || 10*len(distinct) < 9*len(out) || 2*plain >= len(out) {
		return nil
	}
	return out
}
