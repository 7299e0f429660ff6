package detect

import (
	"cmp"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
)

// verdict is what the tests say about one group.
type verdict struct {
	tests    Tests
	evidence float64 // the weaker of the tests that apply, before correction
	ratio    float64
	paid     float64 // what evidence is lowered by for all that was tested
}

// judge tests a set of feet as it stands, chosen blind to overlaps.
func (a *arena) judge(members []int, seed uint64, p Params, enough float64) verdict {
	n := float64(a.width)
	expected, observed := a.overlap(a.feet, members, n)
	v := verdict{tests: noTests()}
	if expected <= 0 {
		return v
	}
	v.ratio = observed / expected
	v.tests.Blind = chernoffBelow(expected, observed)
	v.evidence = v.tests.Blind
	if v.evidence < enough {
		return v
	}
	v.tests.Rotation, v.tests.RotationZ = a.rotated(a.feet, members, nil, observed, seed, p.Surrogates, enough)
	if r := v.tests.Rotation; r < enough && 2*r > enough && cellsOf(a.feet, members) <= maxSearched {
		// The bound on the surrogates' variance costs a third of the evidence; more surrogates cost it less.
		v.tests.Rotation, v.tests.RotationZ = a.rotated(a.feet, members, nil, observed, hash(seed, 1), 8*p.Surrogates, enough)
	}
	v.tests.Stevens = a.arcs(members, observed)
	if observed == 0 {
		// Where nobody meets anybody, the exact chance of that arrangement may say more than two moments do.
		exact := v.tests.Stevens
		if math.IsNaN(exact) || a.gridded(members) {
			exact = a.placed(members)
		}
		v.tests.Rotation = math.Max(v.tests.Rotation, exact)
	}
	v.evidence = math.Min(v.evidence, v.tests.Rotation)
	if !math.IsNaN(v.tests.Stevens) {
		v.evidence = math.Min(v.evidence, v.tests.Stevens)
	}
	return v
}

// gridded tells whether any member begins and ends its runs on a grid that matters for where they can meet.
func (a *arena) gridded(members []int) bool {
	for _, i := range members {
		if g, _ := a.step(a.track[i]); g > 1 && 8*g > a.track[i].run {
			return true
		}
	}
	return false
}

func noTests() Tests {
	nan := math.NaN()
	return Tests{Blind: nan, HeldOut: nan, Rotation: nan, RotationZ: nan, Searched: nan, Stevens: nan, Focus: nan, Seams: nan}
}

// rotated returns evidence and z of the rotation null.
func (a *arena) rotated(feet []foot, members []int, half []uint8, observed float64, seed uint64, surrogates int, enough float64) (evidence, z float64) {
	mean, variance := a.rotation(feet, members, half, observed, newRand(seed), surrogates, enough)
	if mean <= observed {
		return 0, 0
	}
	z = (observed - mean) / math.Sqrt(math.Max(variance, 1e-9))
	return scaledBelow(mean, variance, observed), z
}

// placed is -log10 of the chance that footprints put down one after the other, each at a random place on its
// own grid, never meet one that lies already, the earlier ones where they were seen. For equal blocks on a
// grid it is exact (the birthday problem); it is 0, which claims nothing, where a source has more places than
// maxPlaces: on so fine a grid the two moments serve.
func (a *arena) placed(members []int) float64 {
	for _, i := range members {
		if _, places := a.step(a.track[i]); places > maxPlaces {
			return 0
		}
	}
	order := slices.Clone(members)
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(len(a.feet[j].cells), len(a.feet[i].cells)) })
	var logp float64
	for at, i := range order {
		if at > 0 {
			logp += math.Log10(a.freeShare(i))
		}
		for _, c := range a.feet[i].cells {
			a.count[c]++
		}
	}
	a.clear(a.feet, members)
	return -logp
}

// maxPlaces bounds the rotations of one source that placed looks at.
const maxPlaces = 512

// freeShare is the share of the rotations of foot i that meet nothing counted so far.
func (a *arena) freeShare(i int) float64 {
	g, places := a.step(a.track[i])
	free := 0
	for k := range places {
		t := turn{k * g, places * g, a.width}
		clean := true
		for _, c := range a.feet[i].cells {
			base := c - c%a.width
			if at, ok := t.move(c - base); ok && a.count[base+at] != 0 {
				clean = false
				break
			}
		}
		if clean {
			free++
		}
	}
	// The place where it was seen is free, so that there is at least one.
	return float64(max(free, 1)) / float64(places)
}

// arcs applies Stevens' law where every member scanned one run of addresses, on whatever keys, and no two meet.
func (a *arena) arcs(members []int, observed float64) float64 {
	if observed != 0 {
		return math.NaN()
	}
	var total float64
	for _, i := range members {
		if a.track[i].shape != shapeRuns {
			return math.NaN()
		}
		lo, hi := a.width, uint32(0)
		for _, c := range a.feet[i].cells {
			lo, hi = min(lo, c%a.width), max(hi, c%a.width+1)
		}
		length := float64(hi - lo)
		if float64(len(a.feet[i].cells)) < 0.8*length*float64(len(a.feet[i].keys)) {
			return math.NaN()
		}
		total += length
	}
	return stevens(len(members), total, float64(a.width))
}

// heldOut chooses members among the group on one half of the addresses and tests them on the other, both ways, and
// reports the weaker of the two. Addresses are dealt out in chunks longer than the members' runs, so that
// one run is not in both halves; the few members with longer runs have no part in it.
func (a *arena) heldOut(members []int, seed uint64, p Params, enough float64) verdict {
	v := verdict{tests: noTests()}
	shift := a.chunk(members)
	if a.width>>shift < 16 {
		return v
	}
	// A run longer than half a chunk often lies in both halves: who does not meet it in the one does not in the other either. The same
	// goes for a sample of a small part of the space.
	members = slices.DeleteFunc(slices.Clone(members), func(i int) bool {
		t := a.track[i]
		return t.run > 1 && 2*t.run > 1<<shift || t.shape == shapeScatter && a.narrow(t)
	})
	if len(members) < p.MinSources {
		return v
	}
	a = a.sub(members)
	members = a.everyone()
	fold, addresses, half := a.halves(hash(p.Seed, uint64(a.span.lo), uint64(a.span.hi)), shift, members)
	v.evidence = math.Inf(1)
	v.tests.HeldOut, v.tests.Rotation = math.Inf(1), math.Inf(1)
	var o, e float64
	for choose := range 2 {
		test := 1 - choose
		if addresses[0] == 0 || addresses[1] == 0 {
			return verdict{tests: noTests()}
		}
		chosen := a.peel(fold[choose], members, addresses[choose], p.MinSources)
		chosen = a.settle(fold[choose], members, chosen, addresses[choose], p.MinSources)
		if len(chosen) < p.MinSources {
			return verdict{tests: noTests()}
		}
		expected, observed := a.overlap(fold[test], chosen, addresses[test])
		v.tests.HeldOut = math.Min(v.tests.HeldOut, chernoffBelow(expected, observed))
		if v.tests.HeldOut < enough {
			v.evidence = v.tests.HeldOut
			return v
		}
		e, o = e+expected, o+observed
		r, z := a.rotated(a.feet, chosen, half[test], observed, hash(seed, uint64(test)), p.Surrogates, enough)
		if r < v.tests.Rotation {
			v.tests.Rotation, v.tests.RotationZ = r, z
		}
	}
	v.evidence = math.Min(v.tests.HeldOut, v.tests.Rotation)
	v.ratio = o / e
	return v
}

// chunk returns the power of two, as a shift, of addresses that are dealt out together.
func (a *arena) chunk(members []int) uint {
	runs := make([]uint32, 0, len(members))
	for _, i := range members {
		runs = append(runs, a.track[i].run)
	}
	slices.Sort(runs)
	r := runs[len(runs)*9/10]
	if r < 2 {
		return 0
	}
	return uint(bits.Len32(2*r - 1))
}

// minTiling is the least evidence, as -log10 p, that sources do not meet inside a span for their common aim at
// it to count, and minTiled the least share of it that they must have covered.
const (
	minTiling = 2
	minTiled  = 0.9
)

// tiling tests a few sources that fill one span of the telescope without meeting, a block each. Inside the span
// alone a handful of blocks proves nothing, but under independence each would have had the whole telescope block
// to choose from: P(all that scan like this aim at one of the spans of this size) times P(they do not meet there)
// is the probability of the joint event. The first factor assumes that no part of the telescope is more popular, so
// it counts only together with the second.
func (r *run) tiling(b *bucket, a *arena, g group, v verdict) verdict {
	block := r.sp.block(g.span.lo)
	if g.span.hi > block.First+block.Size || v.tests.Rotation < minTiling || v.ratio > 0.1 {
		return v
	}
	covered, universe, _, _ := a.cover(g.feet)
	if covered < minTiled*universe {
		return v
	}
	alike := 0
	for _, t := range b.tracks {
		if t == nil {
			continue
		}
		if h := t.path[len(t.path)-1]; g.rule.holds(t) && h.lo >= block.First && h.hi <= block.First+block.Size {
			alike++
		}
	}
	share := float64(g.span.size()) / float64(block.Size)
	focus := binomialAbove(len(g.feet), alike, share) + math.Log10(share)
	if focus > 0 {
		v.tests.Focus = focus
		v.evidence += focus
	}
	return v
}

// maxSearched bounds the cells of a group whose search is repeated on every surrogate.
const maxSearched = 1 << 17

// searched is the rotation null with the search for members inside it. A few strangers in a group of block scanners
// hide that the others do not meet, and no half of the addresses tells the two apart, because a block lies in one
// half. So the best subset is searched for, on the traffic as it is and on every surrogate, and what it reaches is
// compared: Gumbel's law of maxima, fitted to the surrogates by moments, the standard deviation raised to its upper 95 %
// bound.
func (a *arena) searched(members []int, blind verdict, seed uint64, p Params) verdict {
	v := verdict{tests: noTests()}
	v.tests.Blind, v.tests.Rotation, v.tests.RotationZ = blind.tests.Blind, blind.tests.Rotation, blind.tests.RotationZ
	v.ratio = blind.ratio
	runs := 0
	for _, i := range members {
		if a.track[i].shape != shapeScatter {
			runs++
		}
	}
	if cellsOf(a.feet, members) > maxSearched || 2*runs < len(members) {
		return v
	}
	a = a.sub(members)
	members = a.everyone()
	here := a.best(a.feet, members, p.MinSources)
	rng := newRand(hash(seed, 7))
	moved := make([]foot, len(a.feet))
	values := make([]float64, 0, p.Surrogates)
	for len(values) < p.Surrogates {
		for _, i := range members {
			moved[i] = a.rotate(i, rng)
		}
		values = append(values, a.best(moved, members, p.MinSources))
		if len(values) == 8 && slices.Max(values) >= here {
			return v
		}
	}
	v.tests.Searched = gumbelAbove(values, here)
	v.evidence = v.tests.Searched
	return v
}

func cellsOf(feet []foot, members []int) (n int) {
	for _, i := range members {
		n += len(feet[i].cells)
	}
	return n
}

// best returns the greatest evidence that peeling reaches.
func (a *arena) best(feet []foot, members []int, least int) float64 {
	set := a.peel(feet, members, float64(a.width), least)
	e, o := a.overlap(feet, set, float64(a.width))
	return chernoffBelow(e, o)
}

// rotate returns foot i moved by a random multiple of its grid.
func (a *arena) rotate(i int, rng *rand.Rand) foot {
	t := a.turn(a.track[i], rng)
	f := foot{cells: make([]uint32, 0, len(a.feet[i].cells))}
	for _, c := range a.feet[i].cells {
		base := c - c%a.width
		if at, ok := t.move(c - base); ok {
			f.cells = append(f.cells, base+at)
		}
	}
	f.keys = a.tallyKeys(nil, f.cells)
	return f
}
