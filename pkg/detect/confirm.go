package detect

import (
	"math"
	"slices"
)

// confirm settles who the members of a group that passed are, in the smallest span that holds them.
func (r *run) confirm(b *bucket, g group, v verdict) (find, bool) {
	var start []*track
	for _, i := range g.members {
		start = append(start, b.tracks[i])
	}
	group, early := start, false
	s := g.span
	for {
		f, inner, ok := r.settleIn(b, s, start, v)
		if !ok {
			return f, false
		}
		early = early || f.early
		if inner == s {
			return f, !early || r.thin(&f, group)
		}
		s, start = inner, f.tracks
	}
}

// settleIn decides the members in s. It also returns the smallest span that holds nearly all that they covered.
func (r *run) settleIn(b *bucket, s span, start []*track, v verdict) (find, span, bool) {
	a := newArena(b, b.work, r.comparable(b, s, start), s)
	number := make(map[*track]int, len(a.track))
	for i, t := range a.track {
		number[t] = i
	}
	var set []int
	for _, t := range start {
		if i, ok := number[t]; ok && !a.wide(i, r.p.MaxShare) {
			set = append(set, i)
		}
	}
	slices.Sort(set)
	if len(set) < r.p.MinSources {
		return find{}, s, false
	}
	seeded := slices.Clone(set)
	n := float64(a.width)
	if e, o := a.overlap(a.feet, set, n); o > 0.3*e {
		set = a.peel(a.feet, set, n, r.p.MinSources)
	}
	m := a.refine(set, r.p)
	if len(m.feet) < r.p.MinSources {
		return find{}, s, false
	}
	keep, like := a.together(m.feet)
	if len(keep) < r.p.MinSources {
		return find{}, s, false
	}
	f := find{b: b, span: s, verdict: v}
	if len(keep) < len(m.feet) {
		// What the group proved it may have proved for the parts that went: the rest must prove it by itself.
		f.verdict = r.again(b, a, slices.DeleteFunc(seeded, func(i int) bool { return !like(i) }), v)
		if f.verdict.evidence < r.p.MinEvidence+v.paid {
			return find{}, s, false
		}
	}
	for k, i := range m.feet {
		if _, ok := slices.BinarySearch(keep, i); !ok {
			continue
		}
		f.tracks = append(f.tracks, a.track[i])
		f.prob = append(f.prob, m.prob[k])
		f.expected = append(f.expected, m.expected[k])
		f.observed = append(f.observed, m.observed[k])
	}
	covered, universe, e, o := a.cover(keep)
	if o > r.p.MaxOverlap*e || covered < math.Min(r.p.MinCoverage, r.p.EarlyCoverage)*universe && !f.sparse() {
		return f, s, false
	}
	f.early = covered < r.p.MinCoverage*universe
	return f, r.inner(a, keep), true
}

// again tests a part of a group that behaviour alone picks out of it.
func (r *run) again(b *bucket, a *arena, part []int, v verdict) verdict {
	if len(part) < r.p.MinSources {
		return verdict{tests: noTests()}
	}
	g := group{span: a.span, feet: part, key: hash(a.feetHash(part)), rule: rule{}}
	if again := r.proveBlind(b, a, g, v.paid); again.evidence >= r.p.MinEvidence+v.paid {
		return again
	}
	return r.proveHeldOut(b, a, g, v.paid)
}

func (a *arena) feetHash(set []int) uint64 {
	h := hash(uint64(a.span.lo), uint64(a.span.hi))
	for _, i := range set {
		h = hash(h, uint64(a.track[i].sources[0]))
	}
	return h
}

// cover counts the cells that the set touched, the cells of the keys that it touched with more than a trace, and
// its expected and observed overlap.
func (a *arena) cover(set []int) (covered, universe, expected, observed float64) {
	perKey := make([]float64, a.keys)
	for _, i := range set {
		for _, c := range a.feet[i].cells {
			if a.count[c] == 0 {
				perKey[c/a.width]++
			}
			a.count[c]++
		}
	}
	a.clear(a.feet, set)
	most := slices.Max(perKey)
	for _, k := range perKey {
		if k >= 0.1*most {
			universe += float64(a.width)
			covered += k
		}
	}
	expected, observed = a.overlap(a.feet, set, float64(a.width))
	return covered, universe, expected, observed
}

// inner returns the smallest span of the tree that holds nearly all that the set covered.
func (r *run) inner(a *arena, set []int) span {
	var targets []uint32
	for _, i := range set {
		for _, c := range a.feet[i].cells {
			if a.count[c] == 0 {
				targets = append(targets, a.span.lo+c%a.width)
			}
			a.count[c]++
		}
	}
	a.clear(a.feet, set)
	slices.Sort(targets)
	path := r.sp.hull(nil, targets, r.trim)
	return path[len(path)-1]
}
