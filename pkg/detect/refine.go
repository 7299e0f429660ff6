package detect

import (
	"cmp"
	"math"
	"slices"
)

// membership is the final word on who belongs to a group: feet of the arena, with the probability that they do and their
// expected and observed coincidences with the other members.
type membership struct {
	feet                     []int // ascending
	prob, expected, observed []float64
}

// circle is a set of feet that is being settled, with the counts of its cells kept up to date.
type circle struct {
	a      *arena
	in     []bool
	size   int
	eps    float64 // overlap rate of members, as a share of what independence expects
	prior  float64
	habits habits
	pool   []int
}

// put adds (by 1) or removes (by -1) a foot.
func (c *circle) put(i int, by int) {
	if by > 0 {
		c.a.enter(c.a.feet, []int{i})
	} else {
		c.a.leave(c.a.feet, []int{i})
	}
	c.in[i] = by > 0
	c.size += by
}

// meets returns expected and observed coincidences of foot i with the circle, itself left out.
func (c *circle) meets(i int) (e, o float64) {
	var self float64
	if c.in[i] {
		self = 1
	}
	return c.a.meets(&c.a.feet[i], self, float64(c.a.width))
}

// learn estimates the overlap rate, the prior and the habits from the circle as it is.
func (c *circle) learn() {
	var e, o float64
	for _, i := range c.pool {
		if c.in[i] {
			x, y := c.meets(i)
			e, o = e+x, o+y
		}
	}
	c.eps = clamp((o/2+0.5)/(e/2+1), 0.02, 0.5)
	c.prior = math.Log(clamp(float64(c.size)/float64(len(c.pool)-c.size+1), 1e-6, 1e6))
	c.habits = c.a.habits(c.pool, c.in)
}

// logit is the log of the odds that foot i is a member. Whatever its habits, its overlaps must speak for it.
func (c *circle) logit(i int) float64 {
	e, o := c.meets(i)
	l := llr(e, o, c.eps)
	sum := l + c.habits.of(c.a.track[i], c.in[i]) + c.prior
	if l <= 0 {
		return math.Min(sum, l)
	}
	return sum
}

type rated struct {
	foot  int
	logit float64
}

// rate rates the feet that are inside, or those that are not, the lowest first.
func (c *circle) rate(inside bool) []rated {
	var out []rated
	for _, i := range c.pool {
		if c.in[i] == inside {
			out = append(out, rated{i, c.logit(i)})
		}
	}
	slices.SortFunc(out, func(a, b rated) int { return cmp.Or(cmp.Compare(a.logit, b.logit), cmp.Compare(a.foot, b.foot)) })
	return out
}

// expel takes out, worst half first, whoever does not belong: a stranger makes its neighbours look like strangers
// too, so that they must be looked at again without it.
func (c *circle) expel(least int) {
	for c.size >= least {
		rates := c.rate(true)
		bad := 0
		for bad < len(rates) && rates[bad].logit <= 0 {
			bad++
		}
		if bad == 0 {
			return
		}
		for _, r := range rates[:(bad+1)/2] {
			c.put(r.foot, -1)
		}
	}
}

// welcome takes in, the best first, whoever belongs, each judged against those already in. Whoever comes in must be a little
// surer than whoever stays, so that the iteration ends.
func (c *circle) welcome() (changed bool) {
	const surer = 0.5
	rates := c.rate(false)
	for k := len(rates) - 1; k >= 0 && rates[k].logit > surer; k-- {
		if c.logit(rates[k].foot) > surer {
			c.put(rates[k].foot, 1)
			changed = true
		}
	}
	return changed
}

// refine decides for every foot of the arena whether it belongs to the campaign that starts as the given set:
// the likelihood ratio of its overlaps, its behaviour against the members' and the strangers', and the share of
// members in the pool. It iterates to a fixed point. What it returns is chosen by overlaps: no evidence may be
// computed from it.
func (a *arena) refine(start []int, p Params) membership {
	c := &circle{a: a, in: make([]bool, len(a.feet))}
	for i := range a.feet {
		if !a.wide(i, p.MaxShare) {
			c.pool = append(c.pool, i)
		}
	}
	for _, i := range start {
		c.put(i, 1)
	}
	for round := 0; round < 12; round++ {
		c.learn()
		c.expel(p.MinSources)
		if c.size < p.MinSources || !c.welcome() {
			break
		}
	}
	c.expel(p.MinSources)
	var m membership
	for _, i := range c.pool {
		if !c.in[i] {
			continue
		}
		e, o := c.meets(i)
		m.feet = append(m.feet, i)
		m.prob = append(m.prob, 1/(1+math.Exp(-clamp(c.logit(i), -700, 700))))
		m.expected = append(m.expected, e)
		m.observed = append(m.observed, o)
	}
	a.wipe(a.feet, m.feet)
	return m
}

// wide says whether foot i covers more than a share of the arena's addresses under one of its keys.
func (a *arena) wide(i int, share float64) bool {
	for _, k := range a.feet[i].keys {
		if k.n > share*float64(a.width) {
			return true
		}
	}
	return false
}

// habits counts behaviours among members and strangers: a naive Bayes factor, bounded, because the
// features depend on each other and a campaign may use several tools.
type habits struct {
	arena            *arena
	member, stranger map[uint64]float64
	members          float64
	strangers        float64
}

// maxHabit bounds what behaviour alone may say for or against a membership, in nats.
const maxHabit = 4

func (a *arena) habits(pool []int, in []bool) habits {
	h := habits{arena: a, member: map[uint64]float64{}, stranger: map[uint64]float64{}}
	for _, i := range pool {
		w := float64(len(a.track[i].sources))
		to := h.stranger
		if in[i] {
			to = h.member
			h.members += w
		} else {
			h.strangers += w
		}
		for _, f := range a.features(a.track[i]) {
			to[f] += w
		}
	}
	return h
}

// features are the habits that are compared: how it scans, what the footprint looks like, how much, and
// whether it aims at this span.
func (a *arena) features(t *track) [4]uint64 {
	aims := uint64(0)
	if a.span.holds(t.path[len(t.path)-1]) {
		aims = 1
	}
	return [4]uint64{
		hash(0, aims),
		hash(1, t.class[2]),
		hash(2, uint64(t.shape)),
		hash(3, uint64(math.Log2(float64(len(t.cells)))/2)),
	}
}

// of returns the log ratio of the track's habits among members to those among strangers, itself left out.
func (h habits) of(t *track, member bool) float64 {
	w := float64(len(t.sources))
	m, s := h.members, h.strangers
	if member {
		m -= w
	} else {
		s -= w
	}
	var sum float64
	for _, f := range h.arena.features(t) {
		a, b := h.member[f], h.stranger[f]
		if member {
			a -= w
		} else {
			b -= w
		}
		sum += math.Log((a+0.5)/(m+1)) - math.Log((b+0.5)/(s+1))
	}
	return clamp(sum, -maxHabit, maxHabit)
}

// together keeps of a set the parts that belong together. Tracks that use one tool, cut the space alike and have
// a key in common, through others if need be, are a part. Parts that merely live in different corners of the span,
// or on different ports, do not meet either, so a part stays only if it fits into the gaps of the largest one by more than
// chance: its members are moved as one body through all rotations of the span, and no more than one in fifty may meet
// the largest part as little as it does. It also returns a rule that tells, without a look at any overlap, which
// other tracks are of the parts that stayed.
func (a *arena) together(set []int) (kept []int, like func(i int) bool) {
	component := a.components(set)
	part := func(i int) uint64 {
		runs := uint64(0)
		if a.track[i].shape == shapeRuns {
			runs = 1
		}
		return hash(a.track[i].class[1], runs, uint64(a.mostly(i, component)))
	}
	parts := partition(set, part)
	core := 0
	weight := func(part []int) float64 { return a.expected(a.feet, part, float64(a.width)) }
	for i := range parts {
		if weight(parts[i]) > weight(parts[core]) {
			core = i
		}
	}
	kept = slices.Clone(parts[core])
	names := map[uint64]bool{part(kept[0]): true}
	for i, p := range parts {
		if i != core && a.fits(parts[core], p) {
			kept = append(kept, p...)
			names[part(p[0])] = true
		}
	}
	slices.Sort(kept)
	if len(kept) == len(set) {
		return kept, func(int) bool { return true }
	}
	return kept, func(i int) bool { return names[part(i)] }
}

// components numbers the ports so that ports which belong together in the set have one number, by key; -1 for keys
// that nobody in the set touched. Ports belong together when at least a tenth of the users of either also use the other.
func (a *arena) components(set []int) []int {
	users := map[uint16]int{}
	links := map[[2]uint16]int{}
	for _, i := range set {
		ports := a.portsOf(i)
		for k, p := range ports {
			users[p]++
			if k > 0 {
				links[[2]uint16{ports[0], p}]++
			}
			if k > 1 {
				links[[2]uint16{ports[k-1], p}]++
			}
		}
	}
	parent := map[uint16]uint16{}
	for p := range users {
		parent[p] = p
	}
	root := func(p uint16) uint16 {
		for parent[p] != p {
			p = parent[p]
		}
		return p
	}
	// The smaller port of a part names it, whatever the order of the links.
	for l, n := range links {
		if 10*n >= max(users[l[0]], users[l[1]]) {
			x, y := root(l[0]), root(l[1])
			parent[max(x, y)] = min(x, y)
		}
	}
	out := make([]int, a.keys)
	for k := range out {
		out[k] = -1
		if _, ok := parent[a.ports[k]]; ok {
			out[k] = int(root(a.ports[k]))
		}
	}
	return out
}

// portsOf returns the ports of foot i, ascending.
func (a *arena) portsOf(i int) []uint16 {
	var out []uint16
	for _, k := range a.feet[i].keys {
		out = append(out, a.ports[k.key])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// mostly returns the component that holds at least four fifths of foot i's cells, -2 if none does.
func (a *arena) mostly(i int, component []int) int {
	share := map[int]float64{}
	for _, k := range a.feet[i].keys {
		share[component[k.key]] += k.n
	}
	for c, n := range share {
		if n >= 0.8*float64(len(a.feet[i].cells)) {
			return c
		}
	}
	return -2
}

// fits tells whether at most one in fifty rotations of the part as one body meets the core as little as it does.
func (a *arena) fits(core, part []int) bool {
	for _, i := range core {
		for _, c := range a.feet[i].cells {
			a.count[c]++
		}
	}
	meet := func(shift uint32) float64 {
		var o float64
		for _, i := range part {
			for _, c := range a.feet[i].cells {
				base := c - c%a.width
				at := c - base + shift
				if at >= a.width {
					at -= a.width
				}
				o += float64(a.count[base+at])
			}
		}
		return o
	}
	step, _ := a.step(a.track[part[0]])
	for _, i := range part {
		g, _ := a.step(a.track[i])
		step = min(step, g)
	}
	const places = 400
	for a.width/step > places {
		step <<= 1
	}
	here := meet(0)
	as, all := 0, 0
	for shift := step; shift < a.width; shift += step {
		all++
		if meet(shift) <= here {
			as++
		}
	}
	a.clear(a.feet, core)
	return 50*as <= all
}
