package campaign

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCompare(t *testing.T) {
	f := newField(t)
	f.watch("198.18.0.0/22", "")
	a, b := sources("100.64.0.0", 40), sources("100.80.0.0", 40)
	f.hum("", "198.18.0.0/24", 5, at(0, 0), at(6, 0))
	f.sweep(sweep{members: a, prefix: "198.18.0.0/22", port: 80, from: at(0, 0), to: at(1, 0), tool: "zmap"})
	first := only(t, f.run(at(1, 0), days)).ID
	f.sweep(sweep{members: b, prefix: "198.18.0.0/22", port: 22, from: at(2, 0), to: at(3, 0), tool: "masscan"})
	second := only(t, f.run(at(3, 0), days)).ID
	f.sweep(sweep{members: a[:24], prefix: "198.18.0.0/22", port: 443, from: at(4, 0), to: at(5, 0), tool: "zmap"})
	third := only(t, f.run(at(5, 0), days)).ID

	c, err := Compare(t.Context(), f.st, first, third)
	require.NoError(t, err)
	require.Len(t, c.SharedSources, 24)
	require.InDelta(t, 0.6, c.A.SourceShare, 1e-9)
	require.InDelta(t, 1, c.B.SourceShare, 1e-9)
	require.Len(t, c.SharedNetworks, 3)
	require.True(t, c.SameTool && c.SameSignature && c.SharedTargets)
	require.Empty(t, c.SharedPorts)
	require.Zero(t, c.Together)
	require.Contains(t, c.Verdict, third+"'s sources are "+first+"'s.")

	c, err = Compare(t.Context(), f.st, third, first)
	require.NoError(t, err)
	require.Contains(t, c.Verdict, first+"'s sources are "+third+"'s.")

	c, err = Compare(t.Context(), f.st, first, second)
	require.NoError(t, err)
	require.Empty(t, c.SharedSources)
	require.Empty(t, c.SharedNetworks)
	require.False(t, c.SameTool)
	require.True(t, c.SameSignature)

	_, err = Compare(t.Context(), f.st, first, "c-none")
	require.ErrorIs(t, err, ErrUnknown)
}

// The bound is one: it never says less than the sum of the tail.
func TestPoissonTail(t *testing.T) {
	for _, mean := range []float64{0.01, 0.5, 3, 20} {
		for n := 1; n < 60; n++ {
			tail := 0.0
			for k := n; k < n+400; k++ {
				log, _ := math.Lgamma(float64(k + 1))
				tail += math.Exp(float64(k)*math.Log(mean) - mean - log)
			}
			require.LessOrEqual(t, poissonTail(n, mean), -math.Log10(min(1, tail))+1e-9)
		}
	}
	require.Zero(t, poissonTail(0, 0))
	require.True(t, math.IsInf(poissonTail(1, 0), 1))
}
