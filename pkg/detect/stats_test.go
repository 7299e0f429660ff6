package detect

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The Chernoff bound never claims more than the exact Poisson tail, and not much less where it matters.
func TestChernoffIsBelowTheExactTail(t *testing.T) {
	for _, e := range []float64{0.5, 3, 12, 40, 200} {
		tail, term := 0.0, math.Exp(-e)
		for o := 0; float64(o) < e; o++ {
			tail += term
			exact := -math.Log10(tail)
			got := chernoffBelow(e, float64(o))
			assert.LessOrEqual(t, got, exact+1e-9, "E=%v O=%d", e, o)
			assert.Greater(t, got, exact-2, "E=%v O=%d", e, o)
			term *= e / float64(o+1)
		}
	}
	assert.Zero(t, chernoffBelow(10, 10))
	assert.Zero(t, chernoffBelow(0, 0))
	assert.InDelta(t, 10/math.Ln10, chernoffBelow(10, 0), 1e-12)
}

// A sum of clusters is told apart from single coincidences: the claim stays below the exact tail at zero.
func TestScaledIsBelowTheCompoundPoissonTail(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(0.1, 60).Draw(t, "rate")
		sizes := rapid.SliceOfN(rapid.Float64Range(1, 300), 1, 6).Draw(t, "sizes")
		var m1, m2 float64
		for _, s := range sizes {
			m1 += s / float64(len(sizes))
			m2 += s * s / float64(len(sizes))
		}
		exact := rate / math.Ln10 // P(no cluster) = exp(-rate)
		if got := scaledBelow(rate*m1, rate*m2, 0); got > exact+1e-9 {
			t.Fatalf("claims 10^-%v where the truth is 10^-%v", got, exact)
		}
	})
	assert.Zero(t, scaledBelow(0, 1, 0))
}

// Stevens' law on a small circle, against every placement there is.
func TestStevensAgainstAllPlacements(t *testing.T) {
	const n = 9
	for _, arcs := range [][]int{{2, 3}, {1, 1, 1}, {2, 2, 2}, {3, 2, 1}, {3, 3, 3}, {1, 2, 2, 1}} {
		total, free, all := 0, 0, 0
		for _, l := range arcs {
			total += l
		}
		places := int(math.Pow(n, float64(len(arcs))))
		for p := range places {
			var used [n]bool
			ok := true
			for i, code := 0, p; i < len(arcs); i, code = i+1, code/n {
				for k := range arcs[i] {
					at := (code%n + k) % n
					ok = ok && !used[at]
					used[at] = true
				}
			}
			all++
			if ok {
				free++
			}
		}
		require.Positive(t, free)
		assert.InDelta(t, -math.Log10(float64(free)/float64(all)), stevens(len(arcs), float64(total), n), 1e-9, "%v", arcs)
	}
	assert.True(t, math.IsInf(stevens(3, 10, 9), 1))
	assert.Zero(t, stevens(1, 3, 9))
}

func TestBinomialAboveAgainstTheSum(t *testing.T) {
	for _, p := range []float64{0.01, 0.2, 0.7} {
		for n := 1; n < 14; n++ {
			for k := 0; k <= n; k++ {
				var tail float64
				for x := k; x <= n; x++ {
					tail += math.Exp(lchoose(n, x)) * math.Pow(p, float64(x)) * math.Pow(1-p, float64(n-x))
				}
				assert.InDelta(t, -math.Log10(tail), binomialAbove(k, n, p), 1e-6)
			}
		}
	}
	// Where the tail underflows, the bound still grows with k and never exceeds k·log10(1/p).
	assert.Greater(t, binomialAbove(400, 400, 0.01), 290.0)
	assert.LessOrEqual(t, binomialAbove(400, 400, 0.01), 800.0001)
	assert.True(t, math.IsInf(binomialAbove(3, 2, 0.5), 1))
}

func lchoose(n, k int) float64 {
	a, _ := math.Lgamma(float64(n) + 1)
	b, _ := math.Lgamma(float64(k) + 1)
	c, _ := math.Lgamma(float64(n-k) + 1)
	return a - b - c
}

// The fitted Gumbel tail claims no more than is true of maxima of normal variables: uniform p-values or larger.
func TestGumbelOfMaximaIsConservative(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	draw := func() float64 {
		m := math.Inf(-1)
		for range 20 {
			m = math.Max(m, rng.NormFloat64())
		}
		return m
	}
	const runs = 4000
	past := map[float64]int{0.1: 0, 0.01: 0}
	for range runs {
		values := make([]float64, 64)
		for i := range values {
			values[i] = draw()
		}
		p := math.Pow(10, -gumbelAbove(values, draw()))
		for level := range past {
			if p <= level {
				past[level]++
			}
		}
	}
	for level, n := range past {
		assert.LessOrEqual(t, float64(n)/runs, level*1.3, "level %v", level)
	}
}

func TestMomentsBoundTheVariance(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	below := 0
	for range 2000 {
		values := make([]float64, 64)
		for i := range values {
			values[i] = 5 + 2*rng.NormFloat64()
		}
		if _, v := moments(values); v < 4 {
			below++
		}
	}
	assert.InDelta(t, 100, below, 40, "one in twenty bounds lies below the truth")
}

func TestTestsThatDoNotApplyAreNull(t *testing.T) {
	v := noTests()
	v.Blind = 12.5
	out, err := json.Marshal(v)
	require.NoError(t, err)
	assert.JSONEq(t, `{"blind":12.5,"held_out":null,"rotation":null,"rotation_z":null,"searched":null,"stevens":null,"focus":null,"seams":null}`, string(out))
}
