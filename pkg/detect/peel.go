package detect

import (
	"math"
	"slices"
)

// peel returns the subset of the chosen feet that shares out best: it takes away, round by round, those that meet
// the others most beyond expectation, and keeps the round whose evidence was greatest (the peeling of dense
// subgraphs, Charikar 2000, on the graph whose weights are expected minus observed coincidences). The evidence of
// what it returns says nothing on the cells it was given: it was chosen by them.
func (a *arena) peel(feet []foot, chosen []int, n float64, least int) []int {
	set := slices.Clone(chosen)
	best, bestScore := slices.Clone(set), -1.0
	z := make([]float64, len(feet))
	a.enter(feet, set)
	for len(set) >= least {
		expected, observed := a.scores(feet, set, n, z)
		if s := chernoffBelow(expected, observed); s > bestScore {
			best, bestScore = slices.Clone(set), s
		}
		if chernoffBelow(expected, 0) <= bestScore {
			break // Nothing that is left could reach more.
		}
		// Small sets go step by step: what is left then is what is tested.
		share := 10
		if len(set) > 500 {
			share = 5
		}
		stay := len(set) - max(1, len(set)/share)
		lowest(set, stay, func(i, j int) bool { return z[i] < z[j] || z[i] == z[j] && i < j })
		a.leave(feet, set[stay:])
		set = set[:stay]
	}
	a.wipe(feet, set)
	slices.Sort(best)
	return best
}

// lowest brings the n lowest elements of a list to its front, in no order (Hoare's FIND, CACM 4, 1961). Less must be a strict total
// order, so that which they are is certain.
func lowest(list []int, n int, less func(i, j int) bool) {
	lo, hi := 0, len(list)-1
	for lo < hi {
		pivot := list[lo+(hi-lo)/2]
		i, j := lo, hi
		for i <= j {
			for less(list[i], pivot) {
				i++
			}
			for less(pivot, list[j]) {
				j--
			}
			if i <= j {
				list[i], list[j] = list[j], list[i]
				i, j = i+1, j-1
			}
		}
		switch {
		case n <= j:
			hi = j
		case n >= i:
			lo = i
		default:
			return
		}
	}
}

// scores fills z[i] with (observed - expected)/√expected of every foot in the set against the rest of the set, which was
// entered, and returns the overlap of the set.
func (a *arena) scores(feet []foot, set []int, n float64, z []float64) (expected, observed float64) {
	for _, i := range set {
		e, o := a.meets(&feet[i], 1, n)
		expected += e / 2
		observed += o / 2
		z[i] = (o - e) / math.Sqrt(e+1)
	}
	return expected, observed
}

func (a *arena) clearSums(feet []foot, set []int) {
	if a.keys == 1 {
		a.sum[0] = 0
		return
	}
	for _, i := range set {
		for _, k := range feet[i].keys {
			a.sum[k.key] = 0
		}
	}
}

// settle iterates the likelihood ratio of "member" against "stranger" over the chosen feet, from the set start, to
// a fixed point: a member meets the others at a rate of ε times what independence expects.
func (a *arena) settle(feet []foot, chosen, start []int, n float64, least int) []int {
	set := start
	in := make([]bool, len(feet))
	type meeting struct{ e, o float64 }
	meetings := make([]meeting, len(chosen))
	for round := 0; round < 12 && len(set) >= least; round++ {
		clear(in)
		for _, i := range set {
			in[i] = true
		}
		var expected, observed float64
		at := 0
		a.against(feet, set, chosen, in, n, func(i int, e, o float64) {
			meetings[at] = meeting{e, o}
			at++
			if in[i] {
				expected, observed = expected+e/2, observed+o/2
			}
		})
		eps := clamp((observed+0.5)/(expected+1), 0.02, 0.5)
		bar := math.Log(float64(len(chosen)-len(set)+1) / float64(len(set)+1))
		var next []int
		for k, i := range chosen {
			if llr(meetings[k].e, meetings[k].o, eps) > max(0, bar) {
				next = append(next, i)
			}
		}
		if slices.Equal(next, set) {
			return set
		}
		set = next
	}
	return set
}

// llr is the log-likelihood ratio of a member (overlap rate eps·e) against a stranger (rate e).
func llr(e, o, eps float64) float64 { return e*(1-eps) + o*math.Log(eps) }

// against calls f with expected and observed coincidences of every chosen foot, in their order, against the set, itself left out.
func (a *arena) against(feet []foot, set, chosen []int, in []bool, n float64, f func(i int, e, o float64)) {
	a.enter(feet, set)
	for _, i := range chosen {
		var self float64
		if in[i] {
			self = 1
		}
		e, o := a.meets(&feet[i], self, n)
		f(i, e, o)
	}
	a.wipe(feet, set)
}
