package proof

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync"

	"murmuration/pkg/fingerprint"
)

// A ZMap visits the elements g, g², g³ … of its group, from a random one on; element x is the target with number x-1 (src/shard.c).
// In logarithms to the base g it goes round a circle at an even pace. So one generator makes of a source's targets
//
//   - an arc, if it did one shard of version 3 or later: the shards are arcs of exponents;
//   - an arc within one residue class, if it did one shard of version 2: shard k of n is every n-th exponent from k on;
//   - places that are passed in order within few turns, if it did everything: one turn, or one a thread.
//
// Another generator than the right one scatters the places. Multiplying logarithms by v = 1/log(g) tries g.

// walk is one way to go round: the group, how targets are numbered, and the multiplier.
type walk struct {
	numbering
	residues  uint64 // the places of one source differ by multiples of it
	circle    uint64 // order of the group / residues
	v         uint64 // multiplier modulo circle
	generator uint64 // where it is known, else 0
	digits    float64
	tries     float64
	says      float64 // what it says of the source that it was found for
}

// numbering says which element of the group a target is.
type numbering struct {
	g     group
	sp    space
	ports []uint16 // ascending, where one run asked for several (version 4)
	only  uint16   // the port of the run, where a source had a run for each; else 0
}

// enough is how many digits beyond the number of tries a multiplier must prove to be taken up.
const beyond = 4

// element returns the element of a target, false if it is outside of the space.
func (n *numbering) element(p *Probe) (uint64, bool) {
	addr, ok := ipv4(p.Dst)
	if !ok {
		return 0, false
	}
	rank, ok := n.sp.ranks(addr)
	if !ok || len(n.ports) < 2 {
		return rank + 1, ok
	}
	at, ok := slices.BinarySearch(n.ports, p.Dport)
	return rank<<bits.Len(uint(len(n.ports)-1)) + uint64(at) + 1, ok
}

// zmapRun is the search over all sources.
type zmapRun struct {
	sources []Source
	of      []int // ZMap's sources
	ports   map[int][]uint16
	logs    map[uint64]*logs
	small   map[uint64][][2]uint64 // generators below 2^22 with their multipliers, by prime
	opt     Options
	spoken  map[int]bool
	answers map[asked]walk
	placed  map[asked]placed
}

// zmapGenerators finds sources that walk one group with one generator.
func zmapGenerators(ctx context.Context, sources []Source, opt Options) ([]Proof, error) {
	z := &zmapRun{sources: sources, opt: opt, ports: map[int][]uint16{}, logs: map[uint64]*logs{}, small: map[uint64][][2]uint64{}, spoken: map[int]bool{}, answers: map[asked]walk{}, placed: map[asked]placed{}}
	for i := range sources {
		if sources[i].Tool == fingerprint.ZMap && len(sources[i].Probes) >= fewest {
			z.of = append(z.of, i)
			z.ports[i] = portsOf(&sources[i])
		}
	}
	var out []Proof
	costly := map[int]bool{}
	work := worklist(sources, z.of, opt.Searches)
	for _, i := range work {
		costly[i] = opt.Generators && (sources[i].Group >= 0 || opt.Strangers)
	}
	// Those for whom a costly search is made come first: what they prove need not be searched for again.
	order := slices.Clone(work)
	for _, i := range z.of {
		if _, ok := costly[i]; !ok {
			order = append(order, i)
		}
	}
	for n, i := range order {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("search ZMap's generators: %w", err)
		}
		opt.Progress(float64(n) / float64(len(order)))
		if z.spoken[i] {
			continue
		}
		if w, ok := z.search(i, costly[i]); ok {
			out = append(out, z.tell(w, float64(len(order))))
		}
	}
	opt.Progress(1)
	return out, nil
}

// fewest is the number of targets below which no generator can be told.
const fewest = 8

// most is how many targets of a source are looked at: enough to tell, few enough to search with.
const most = 64

func portsOf(s *Source) []uint16 {
	seen := map[uint16]bool{}
	var out []uint16
	for i := range s.Probes {
		if p := s.Probes[i].Dport; !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// places returns the logarithms of a source's distinct targets in the order of time, at most so many spread evenly, and how many
// probes lie outside of the space.
func (z *zmapRun) places(i int, n *numbering) (out []uint64, outside int) {
	k := asked{i, n.sp.name, n.g.prime, n.only}
	if p, ok := z.placed[k]; ok {
		return p.at, p.outside
	}
	out, outside = z.place(i, n)
	z.placed[k] = placed{out, outside}
	return out, outside
}

// placed is what places returned.
type placed struct {
	at      []uint64
	outside int
}

func (z *zmapRun) place(i int, n *numbering) (out []uint64, outside int) {
	l := z.logs[n.g.prime]
	if l == nil {
		l = newLogs(n.g)
		z.logs[n.g.prime] = l
	}
	seen := map[uint64]bool{}
	var elements []uint64
	for k := range z.sources[i].Probes {
		p := &z.sources[i].Probes[k]
		if p.Proto != z.sources[i].Probes[0].Proto || n.only != 0 && p.Dport != n.only {
			continue
		}
		x, ok := n.element(p)
		switch {
		case !ok || x >= n.g.prime:
			outside++
		case !seen[x]:
			seen[x] = true
			elements = append(elements, x)
		}
	}
	kept := min(len(elements), most)
	for k := range kept {
		out = append(out, l.of(elements[k*len(elements)/kept]))
	}
	return out, outside
}

// numberings lists how the targets of a source may be numbered.
func (z *zmapRun) numberings(i int, costly bool) []numbering {
	const cheap = 65537
	var targets []uint32
	for k := range z.sources[i].Probes {
		if a, ok := ipv4(z.sources[i].Probes[k].Dst); ok {
			targets = append(targets, a)
		}
	}
	if len(targets) < fewest {
		return nil
	}
	ports := z.ports[i]
	var out []numbering
	add := func(n numbering, size uint64) {
		n.g = smallest(size)
		alike := func(o numbering) bool { return o.sp.name == n.sp.name && o.g.prime == n.g.prime && o.only == n.only }
		if n.g.prime != 0 && (n.g.prime <= cheap || costly) && !slices.ContainsFunc(out, alike) {
			out = append(out, n)
		}
	}
	for _, sp := range spaces(targets) {
		if len(ports) == 1 {
			add(numbering{sp: sp}, sp.size)
			continue
		}
		add(numbering{sp: sp, only: commonest(&z.sources[i])}, sp.size)
		add(numbering{sp: sp, ports: ports}, 1<<(bits.Len64(sp.size-1)+bits.Len(uint(len(ports)-1))))
	}
	return out
}

// smallest is the group for so many targets, the zero group if there is none whose logarithms can be had.
func smallest(size uint64) group {
	const largest = 1 << 22
	g, ok := groupFor(size)
	if !ok || slices.Max(g.factors) > largest {
		return group{}
	}
	return g
}

// commonest is the port that most of a source's probes ask for.
func commonest(s *Source) uint16 {
	counts := map[uint16]int{}
	var best uint16
	for i := range s.Probes {
		p := s.Probes[i].Dport
		counts[p]++
		if counts[p] > counts[best] || counts[p] == counts[best] && p < best {
			best = p
		}
	}
	return best
}

// search looks for a walk that makes sense of one source's targets.
func (z *zmapRun) search(i int, costly bool) (walk, bool) {
	numberings := z.numberings(i, costly)
	for _, n := range numberings {
		if w := z.best(i, n, float64(len(numberings))); w.v != 0 {
			return w, true
		}
	}
	return walk{}, false
}

// best returns the walk that makes most sense of a source's targets so numbered; its multiplier is 0 if none does.
func (z *zmapRun) best(i int, n numbering, ways float64) walk {
	k := asked{i, n.sp.name, n.g.prime, n.only}
	if w, ok := z.answers[k]; ok {
		return w
	}
	var w walk
	if places, outside := z.places(i, &n); len(places) >= fewest && outside == 0 {
		w = z.turn(n, places, ways)
	}
	z.answers[k] = w
	return w
}

// asked is a question that is answered once: which walk a source's targets obey in a space.
type asked struct {
	source int
	space  string
	prime  uint64
	only   uint16
}

// turn tries every multiplier on places.
func (z *zmapRun) turn(n numbering, places []uint64, ways float64) walk {
	w := walk{numbering: n, residues: n.g.order()}
	for _, l := range places[1:] {
		w.residues = gcd(w.residues, l+n.g.order()-places[0])
	}
	w.circle = n.g.order() / w.residues
	const widest = 1 << 28
	switch {
	case w.circle < 4:
		return walk{}
	case w.circle <= widest:
		free := totient(w.circle, n.g.factors) / 2
		w.digits, w.tries = math.Log10(free), free*ways
		w.all(places, z.opt.Workers)
	case w.residues == 1:
		g := z.generators(n.g)
		w.digits, w.tries = math.Log10(float64(len(g))), float64(len(g))*ways
		w.among(places, g, z.opt.Strangers, z.opt.Workers)
	}
	return w
}

func totient(n uint64, factors []uint64) float64 {
	f := float64(n)
	for _, q := range factors {
		if n%q == 0 {
			f *= 1 - 1/float64(q)
		}
	}
	return f
}

// generators returns the small generators of a group and their multipliers.
func (z *zmapRun) generators(g group) [][2]uint64 {
	if z.small[g.prime] == nil {
		var out [][2]uint64
		z.logs[g.prime].smallGenerators(func(gen, log uint64) {
			v, _ := inverse(log, g.order())
			out = append(out, [2]uint64{gen, v})
		})
		z.small[g.prime] = out
	}
	return z.small[g.prime]
}

// sieve is what a multiplier must do to places to be looked at: gather them within a share of the circle, or pass them within
// some turns.
type sieve struct {
	steps []uint64 // distances from the first place, as shares of 2^64
	arc   uint64   // longest arc that is proof, as a share of 2^64
	turns int
}

// threads is the largest number of sender threads that are tried: ZMap's own default does not exceed four.
const threads = 4

// mostTurns is in how many turns n places are passed at most: one, another where it begins in the middle, and some for packets that
// overtook others. More would let a generator pass that steps in a small multiple of the right one.
func mostTurns(n int) int { return 2 + n/32 }

func (w *walk) sieve(places []uint64, ordered bool) sieve {
	need := math.Log10(w.tries*(threads+1)) + beyond
	s := sieve{}
	for _, l := range places {
		d := (l + w.g.order() - places[0]) % w.g.order() / w.residues
		f, _ := bits.Div64(d, 0, w.circle)
		s.steps = append(s.steps, f)
	}
	n := len(places)
	need -= float64(n-1) * math.Log10(float64(w.residues))
	share := math.Pow(10, -(need+math.Log10(float64(n)))/float64(n-1))
	widest := 0.5
	if w.residues == 1 && w.circle > 1<<16 {
		widest = 1.0 / 8 // Most multipliers fall at the second place then, and campaigns have more shards than that.
	}
	s.arc = uint64(math.Min(share, widest) * (1 << 63) * 2)
	if ordered {
		s.turns = mostTurns(n)
		if turns(n, s.turns) < need {
			s.turns = 0
		}
	}
	return s
}

// all tries every unit of the circle, one of v and -v, and keeps the one that says most.
func (w *walk) all(places []uint64, workers int) {
	s := w.sieve(places, w.circle <= 1<<16)
	w.split(int(w.circle/2)+1, workers, func(t *walk, lo, hi int) {
		need := math.Log10(w.tries) + beyond
		for v := uint64(max(lo, 1)); v < uint64(hi); v++ {
			if s.passes(v) && gcd(v, w.circle) == 1 {
				t.better(places, v, 0, &need)
			}
		}
	})
}

// among tries the multipliers of the given generators.
func (w *walk) among(places []uint64, generators [][2]uint64, ordered bool, workers int) {
	s := w.sieve(places, ordered)
	w.split(len(generators), workers, func(t *walk, lo, hi int) {
		need := math.Log10(w.tries) + beyond
		for _, g := range generators[lo:hi] {
			if s.passes(g[1]) {
				t.better(places, g[1], g[0], &need)
			}
		}
	})
}

// split has the workers search a share of n candidates each, and takes the best of what they found, the first among equals.
func (w *walk) split(n, workers int, search func(t *walk, lo, hi int)) {
	const worthwhile = 1 << 16
	if n < worthwhile {
		workers = 1
	}
	found := make([]walk, workers)
	var wg sync.WaitGroup
	for k := range workers {
		found[k] = *w
		wg.Go(func() { search(&found[k], n*k/workers, n*(k+1)/workers) })
	}
	wg.Wait()
	best := *w
	for _, t := range found {
		if t.v != 0 && (best.v == 0 || t.says > best.says) {
			best = t
		}
	}
	*w = best
}

// better takes a multiplier up if it says more than need, which then is what it says.
func (w *walk) better(places []uint64, v, generator uint64, need *float64) {
	trial := *w
	trial.v, trial.generator = v, generator
	if trial.says = trial.judge(places).evidence; trial.says > *need {
		*w, *need = trial, trial.says
	}
}

// passes reports whether a multiplier gathers the places or passes them in order.
func (s *sieve) passes(v uint64) bool {
	var lo, hi int64
	gathered := true
	for _, f := range s.steps {
		x := int64(f * v) // the product wraps round the circle by itself
		lo, hi = min(lo, x), max(hi, x)
		if uint64(hi-lo) > s.arc {
			gathered = false
			break
		}
	}
	if gathered {
		return true
	}
	for t := uint64(1); s.turns > 0 && t <= threads; t++ {
		if s.ordered(v*t, s.turns) {
			return true
		}
	}
	return false
}

// ordered reports whether the places, multiplied, are passed within so many turns, forwards or backwards.
func (s *sieve) ordered(v uint64, most int) bool {
	back, forth := 0, 0
	at := s.steps[len(s.steps)-1] * v
	for _, f := range s.steps {
		if x := f * v; x < at {
			back++
			at = x
		} else {
			forth++
			at = x
		}
		if back > most && forth > most {
			return false
		}
	}
	return true
}

// judgement is what a walk says of a source's places.
type judgement struct {
	evidence float64
	part     string
}

// judge says how unlikely it is that places obey the walk by chance.
func (w *walk) judge(places []uint64) judgement {
	n := len(places)
	if n < least {
		return judgement{}
	}
	class := places[0] % w.residues
	at := make([]uint64, n)
	for i, l := range places {
		if l%w.residues != class {
			return judgement{}
		}
		f, _ := bits.Div64(mulMod(l/w.residues, w.v, w.circle), 0, w.circle)
		at[i] = f
	}
	start, share := shortestArc(at)
	j := judgement{arc(n, share) + float64(n-1)*math.Log10(float64(w.residues)), fmt.Sprintf("%.3f of the circle from %.3f on", share, start)}
	if w.residues > 1 {
		j.part = fmt.Sprintf("class %d of %d, %s", class, w.residues, j.part)
	}
	// The order in which a set is visited is independent of the set.
	best := 0.0
	for t := uint64(1); t <= threads; t++ {
		back := 0
		for i, x := range at {
			if x*t < at[(i+n-1)%n]*t {
				back++
			}
		}
		if back = min(back, n-back); back <= mostTurns(n) {
			best = math.Max(best, turns(n, back)-math.Log10(2*threads))
		}
	}
	if best > 0 {
		j.evidence += best
		j.part += ", in order"
	}
	return j
}

// shortestArc returns where the shortest arc that holds all places begins, and its length, as shares of the circle.
func shortestArc(places []uint64) (start, length float64) {
	const circle = 1 << 64
	sorted := slices.Clone(places)
	slices.Sort(sorted)
	gap, at := sorted[0]-sorted[len(sorted)-1], sorted[0] // wraps
	for i, x := range sorted[1:] {
		if d := x - sorted[i]; d > gap {
			gap, at = d, x
		}
	}
	return float64(at) / circle, 1 - float64(gap)/circle
}

// tell makes a proof of all sources that obey a walk.
func (z *zmapRun) tell(w walk, searched float64) Proof {
	p := Proof{Kind: ZMapGenerator, Value: w.String(), Tries: w.tries * searched, Coincidence: w.digits}
	for _, i := range z.of {
		if z.spoken[i] || len(w.ports) > 1 && !slices.Equal(w.ports, z.ports[i]) {
			continue
		}
		if m, ok := z.obeys(i, &w); ok {
			p.Members = append(p.Members, m)
			z.spoken[i] = true
		}
	}
	slices.SortFunc(p.Members, func(a, b Member) int { return cmp.Compare(b.Evidence, a.Evidence) })
	p.Evidence = linked(p.Members, w.digits, p.Tries, len(z.of))
	return p
}

// obeys reports whether a source walks as w does, and no other multiplier says more of its targets. Somebody else's ZMap visits its
// targets with even steps, too, and in a small multiple of them arcs are arcs and order is order: chance among independent places is
// not the question, but chance among generators. Where the circle is small, all were tried, else those of which w's is a multiple.
func (z *zmapRun) obeys(i int, w *walk) (Member, bool) {
	places, outside := z.places(i, &w.numbering)
	j := w.judge(places)
	m := Member{Source: i, For: len(places), Against: outside, Evidence: j.evidence, Part: j.part}
	if j.evidence < beyond {
		return m, false
	}
	const small = 1 << 16
	if w.circle <= small && outside == 0 {
		own := z.best(i, w.numbering, 1)
		return m, own.residues == w.residues && (own.v == w.v || own.v == w.circle-w.v)
	}
	return m, w.simplest(places, j.evidence)
}

// simplest reports whether no multiplier of which w's is a small multiple says more of the places.
func (w *walk) simplest(places []uint64, evidence float64) bool {
	const multiples = 64
	for k := uint64(2); k <= multiples; k++ {
		back, ok := inverse(k, w.circle)
		if !ok {
			continue
		}
		trial := *w
		trial.v = mulMod(w.v, back, w.circle)
		if trial.judge(places).evidence > evidence {
			return false
		}
	}
	return true
}

func (w *walk) String() string {
	s, _ := inverse(w.v, w.circle)
	switch {
	case w.generator != 0:
		return fmt.Sprintf("generator %d modulo %d, %s", w.generator, w.g.prime, w.sp.name)
	case w.residues == 1:
		g := powMod(w.g.root, s, w.g.prime)
		back, _ := inverse(g, w.g.prime)
		return fmt.Sprintf("generator %d (or its inverse) modulo %d, %s", min(g, back), w.g.prime, w.sp.name)
	}
	return fmt.Sprintf("every %d-th element, step %d (or its inverse) modulo %d, %s", w.residues, min(s, w.circle-s), w.g.prime, w.sp.name)
}
