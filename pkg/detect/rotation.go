package detect

import (
	"math/rand/v2"
	"slices"
)

// rotation is the rotation null: every footprint is moved by a random rotation of the arena's addresses, by a
// multiple of its own grid, which keeps its structure and destroys any agreement with the others. Rotations make
// the overlaps of pairs uncorrelated, so that the variance needs few surrogates. It returns mean and variance of the
// observed overlap among surrogates, the variance raised to its upper 95 % bound. Where half is not nil only coincidences on
// addresses count for which it is 1; it is 0 for the others.
func (a *arena) rotation(feet []foot, chosen []int, half []uint8, observed float64, rng *rand.Rand, surrogates int, enough float64) (mean, variance float64) {
	values := make([]float64, 0, surrogates)
	turns := make([]turn, len(chosen))
	shared := a.shared(feet, chosen)
	count := a.count[:a.width] // one key after the other, so that they stay in the cache
	for len(values) < surrogates && !hopeless(values, observed, enough) {
		for k, i := range chosen {
			turns[k] = a.turn(a.track[i], rng)
		}
		var o uint64
		for _, k := range shared {
			for _, s := range k.shares {
				o += turns[s.of].put(s.cells, k.base, count, half)
			}
			if int(a.width) <= 8*k.cells {
				clear(count)
				continue
			}
			for _, s := range k.shares {
				turns[s.of].wipe(s.cells, k.base, count)
			}
		}
		values = append(values, float64(o))
	}
	return moments(values)
}

// sharedKey is a key that several feet have cells under.
type sharedKey struct {
	base   uint32 // its first cell
	cells  int
	shares []keyShare
}

// keyShare is the cells of one foot under a key.
type keyShare struct {
	of    int // place of the foot in the list of chosen ones
	cells []uint32
}

// shared lists the keys on which the chosen feet could meet at all.
func (a *arena) shared(feet []foot, chosen []int) []sharedKey {
	keys := make([]sharedKey, a.keys)
	for k, i := range chosen {
		rest := feet[i].cells
		for _, c := range feet[i].keys {
			n := int(c.n)
			at := &keys[c.key]
			at.base = c.key * a.width
			at.cells += n
			at.shares = append(at.shares, keyShare{k, rest[:n]})
			rest = rest[n:]
		}
	}
	return slices.DeleteFunc(keys, func(k sharedKey) bool { return len(k.shares) < 2 })
}

// hopeless tells after the first surrogates that the observed overlap is nothing special, or so far from enough evidence
// that the rest are not worth their time.
func hopeless(values []float64, observed, enough float64) bool {
	if len(values) != 8 {
		return false
	}
	below := 0
	for _, v := range values {
		if v <= observed {
			below++
		}
	}
	if below >= 2 {
		return true
	}
	mean, variance := moments(values)
	// The bound on the variance from eight values is some three times the truth.
	return scaledBelow(mean, variance/9, observed) < enough/2
}

// turn is a rotation of the arena's addresses. The circle is as long as the arena, rounded up to a whole number of
// steps: whatever comes to lie in the rest is lost, which only takes overlap from the null.
type turn struct{ shift, circle, width uint32 }

func (t turn) move(at uint32) (uint32, bool) {
	at += t.shift
	if at >= t.circle {
		at -= t.circle
	}
	return at, at < t.width
}

// arc is a part of a key's sorted cells that a rotation moves by the same distance. Arithmetic is modulo 2^32: less is a detour.
type arc struct {
	cells []uint32
	shift uint32
}

// arcs cuts sorted cells of the key that begins at base in two: those that stay ahead of the end of the circle, and those that
// come round. Shifts lead to addresses.
func (t turn) arcs(cells []uint32, base uint32) [2]arc {
	over, _ := slices.BinarySearch(cells, base+t.circle-t.shift)
	return [2]arc{{cells[:over], t.shift - base}, {cells[over:], t.shift - t.circle - base}}
}

// put counts, by address, the cells of one key where they come to lie, and returns how many of those that were counted
// before they meet. Where half is not nil it tells by 1 or 0 which addresses count: a branch would be guessed wrong half of the time.
func (t turn) put(cells []uint32, base uint32, count []uint32, half []uint8) (met uint64) {
	for _, part := range t.arcs(cells, base) {
		if half == nil {
			for _, c := range part.cells {
				if at := int(c + part.shift); at < len(count) {
					met += uint64(count[at])
					count[at]++
				}
			}
			continue
		}
		for _, c := range part.cells {
			if at := int(c + part.shift); at < len(count) {
				n, one := count[at], uint32(half[at])
				met += uint64(n * one)
				count[at] = n + one
			}
		}
	}
	return met
}

// wipe sets to zero what put counted.
func (t turn) wipe(cells []uint32, base uint32, count []uint32) {
	for _, part := range t.arcs(cells, base) {
		for _, c := range part.cells {
			if at := int(c + part.shift); at < len(count) {
				count[at] = 0
			}
		}
	}
}

// narrow tells whether a track aims at a small part of the arena.
func (a *arena) narrow(t *track) bool {
	return 4*uint64(t.path[len(t.path)-1].size()) <= uint64(a.width)
}

// turn draws a rotation for a track, by a multiple of its grid.
func (a *arena) turn(t *track, rng *rand.Rand) turn {
	g, places := a.step(t)
	return turn{rng.Uint32N(places) * g, places * g, a.width}
}

// step returns the unit by which a track rotates in this arena, and how many places that makes.
func (a *arena) step(t *track) (unit, places uint32) {
	g := max(1, t.align)
	if t.shape == shapeScatter && !a.narrow(t) {
		g = 1 // It is a sample of all that there is here.
	}
	for g > a.width {
		g >>= 1
	}
	return g, (a.width + g - 1) / g
}
