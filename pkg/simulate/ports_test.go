package simulate

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Whole ports each: no port has two members, and together they have all of them.
func TestOwnPortsAreWhole(t *testing.T) {
	w := world(t, "ports-own", 1, 0.05)
	owner := map[uint16]int{}
	for _, m := range w.Truth[0].Sources {
		cells := map[uint16]int{}
		for _, c := range w.Input.Sources[m].Cells {
			cells[c.Port]++
		}
		for p, n := range cells {
			_, taken := owner[p]
			assert.False(t, taken, "port %d has two members", p)
			owner[p] = m
			assert.InDelta(t, 0.9*256, n, 30, "10 %% loss")
		}
	}
	assert.Len(t, owner, 72)
}

// Every port of the address once, by one member.
func TestAllPortsOfAnAddress(t *testing.T) {
	w := world(t, "ports-all", 1, 0.05)
	for _, truth := range w.Truth {
		ports := map[uint16]int{}
		for _, m := range truth.Sources {
			for _, c := range w.Input.Sources[m].Cells {
				ports[c.Port]++
			}
		}
		assert.Len(t, ports, 65535, truth.Name)
		for p, n := range ports {
			if n != 1 {
				t.Fatalf("%s: port %d was touched %d times", truth.Name, p, n)
			}
		}
	}
	assert.Empty(t, world(t, "tastes", 1, 0.05).Truth)
}

// A generator visits every element of the group once.
func TestGenerator(t *testing.T) {
	assert.Equal(t, uint64(50331653), primeAbove(3<<24))
	assert.Equal(t, []uint64{2, 3, 5}, factors(360))
	b := &builder{rng: rand.New(rand.NewPCG(1, 2))}
	for _, p := range []uint64{5, 257, 1021} {
		g := b.generator(p)
		seen := map[uint64]bool{}
		for at, k := uint64(1), uint64(0); k < p-1; k++ {
			seen[at] = true
			at = at * g % p
		}
		assert.Len(t, seen, int(p-1))
	}
}
