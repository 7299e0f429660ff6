package detect

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// A campaign that is still at work can be proven long before it has covered a fifth of its space: sixty random shards of
// a /18 expect some forty meetings when a twentieth is done. Two things are weaker then. A group that covers little is
// a chance find more often if it is over, so an early report needs an evidence margin and a campaign that goes on
// to the end of the window. And a stranger who has hardly had a chance to meet anybody looks just like a member,
// so that members are listed only as far as the sources alike bear it out.

const (
	// earlyMargin is how much more evidence an early report needs.
	earlyMargin = 1
	// earlyMember is the least probability of a listed member, and earlyList the least share of right ones to be expected of a list.
	earlyMember = 0.8
	earlyList   = 0.9
	// earlyTail is the last part of a campaign's time, and earlyGrowth the least share of its cells that fall into it.
	earlyTail   = 0.25
	earlyGrowth = 0.125
)

// thin finishes a find that has not covered enough of its space, or refuses it.
func (r *run) thin(f *find, group []*track) bool {
	if f.sparse() {
		f.early = false
		return r.onlySure(f, group)
	}
	return r.emerge(f, group)
}

// emerge makes an early report of a find that has not covered enough yet, or refuses. Group are the tracks that behaviour
// picked; nobody else is listed.
func (r *run) emerge(f *find, group []*track) bool {
	if f.verdict.evidence < r.p.MinEvidence+earlyMargin+f.verdict.paid || !f.growing(r.window) {
		return false
	}
	f.early = true
	return r.onlySure(f, group)
}

// onlySure leaves the members of a find that are sure, and refuses it where they are too few.
func (r *run) onlySure(f *find, group []*track) bool {
	settled := slices.Clone(f.tracks)
	alike := f.b.of(group)
	f.sureMembers(newArena(alike, alike.work, alike.everyone(), f.span), r.p)
	if len(f.tracks) < r.p.MinSources {
		return false
	}
	// The others are neither listed nor free to be found as a campaign of their own.
	f.b.take(find{tracks: settled})
	return true
}

// growing tells whether the members' first touches of cells go on to the end of the window at half of their mean pace or more.
func (f *find) growing(window uint32) bool {
	touches := f.firstTouches()
	if len(touches) == 0 {
		return false
	}
	first := slices.Min(touches)
	from := window - uint32(earlyTail*float64(window-min(first, window)))
	late := 0
	for _, at := range touches {
		if at >= from {
			late++
		}
	}
	return float64(late) >= earlyGrowth*float64(len(touches))
}

const (
	// sparseSpace is the number of addresses from which on a campaign need not cover any share of its space. Over a /8 the most
	// industrious cover a hundredth.
	sparseSpace = 1 << 20
	// sparseMeetings is the number of meetings that the member in the middle must have been spared instead: enough to tell
	// it from a stranger by itself, which is what coverage stands for in smaller spaces.
	sparseMeetings = 8
)

// sparse tells whether a find in a space too large to be covered has members that can be told one by one.
func (f *find) sparse() bool {
	if f.span.size() < sparseSpace {
		return false
	}
	e := slices.Sorted(slices.Values(f.expected))
	return e[len(e)/2] >= sparseMeetings
}

// chance is a source of the group with what it could have met.
type chance struct {
	foot   int
	meets  float64 // independent meetings expected with the members
	member bool    // settled as a member
	prob   float64
}

// sureMembers keeps the members that are sure enough. How many strangers have yet to meet anybody is estimated from those
// that have: of strangers who expect e meetings a share 1 - exp(-e) has been seen to meet somebody, so that behind s who were
// seen there are no more than u·exp(-e)/(1 - exp(-e)) who were not, u being the upper 95 % bound of a Poisson mean of which s were
// counted (inverse probability weighting, Horvitz and Thompson, JASA 1952). They are spread over the unmet sources with as
// great a chance, in classes of a factor of two.
func (f *find) sureMembers(a *arena, p Params) {
	list := f.chances(a, p)
	for _, class := range partition(everyIndex(len(list)), func(i int) uint64 {
		return uint64(64 + math.Floor(math.Log2(math.Max(list[i].meets, 1e-6))))
	}) {
		var seen, unmet, mean float64
		for _, i := range class {
			mean += list[i].meets / float64(len(class))
			if list[i].member {
				unmet++
			} else {
				seen++
			}
		}
		hidden := poissonUpper(seen) * math.Exp(-mean) / -math.Expm1(-mean)
		for _, i := range class {
			list[i].prob = 1 - math.Min(1, hidden/math.Max(1, unmet))
		}
	}
	sure := map[*track]float64{}
	list = slices.DeleteFunc(list, func(c chance) bool { return !c.member || c.prob < earlyMember })
	slices.SortStableFunc(list, func(x, y chance) int { return cmp.Compare(y.prob, x.prob) })
	right := 0.0
	for k, c := range list {
		if right += c.prob; right < earlyList*float64(k+1) {
			break
		}
		sure[a.track[c.foot]] = c.prob
	}
	f.keep(sure)
}

// poissonUpper is the upper 95 % bound of a Poisson mean of which n were counted (Wilson and Hilferty's approximation of the
// chi-square quantile).
func poissonUpper(n float64) float64 {
	n++
	q := 1 - 1/(9*n) + 1.645/(3*math.Sqrt(n))
	return n * q * q * q
}

func everyIndex(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// chances lists the sources of the arena, which are the group's, with the meetings that each could have had with the members.
func (f *find) chances(a *arena, p Params) []chance {
	member := map[*track]bool{}
	for _, t := range f.tracks {
		member[t] = true
	}
	var set, all []int
	in := make([]bool, len(a.feet))
	for i, t := range a.track {
		if member[t] {
			set = append(set, i)
			in[i] = true
		}
		if member[t] || !a.wide(i, p.MaxShare) {
			all = append(all, i)
		}
	}
	var list []chance
	a.against(a.feet, set, all, in, float64(a.width), func(i int, e, _ float64) {
		if run := a.track[i].run; run > 2 {
			// Two runs that meet share half of a run at once.
			e *= 2 / float64(run)
		}
		if keys := len(a.feet[i].keys); a.track[i].shape == shapeRuns && keys > 1 {
			e /= float64(keys)
		}
		list = append(list, chance{foot: i, meets: e, member: in[i]})
	})
	return list
}

// keep leaves only the tracks of the map, with no more than their probabilities there.
func (f *find) keep(sure map[*track]float64) {
	n := 0
	for k, t := range f.tracks {
		prob, ok := sure[t]
		if !ok {
			continue
		}
		f.tracks[n], f.prob[n] = t, math.Min(f.prob[k], prob)
		f.expected[n], f.observed[n] = f.expected[k], f.observed[k]
		n++
	}
	f.tracks, f.prob, f.expected, f.observed = f.tracks[:n], f.prob[:n], f.expected[:n], f.observed[:n]
}

// earlyWhy says what an early report leaves open.
func (c *Campaign) earlyWhy() string {
	return fmt.Sprintf("It is still growing: %.1f %% of its space are covered so far. Only sources that have had enough chances to meet the others are listed; there may be more members.", 100*c.Coverage)
}
