package detect

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
)

// at makes members from pairs of first and last touch, in hours, with so many cells each.
func at(cells int, times ...float64) []Member {
	var out []Member
	for i := 0; i < len(times); i += 2 {
		k := i / 2
		out = append(out, Member{
			Addr: netip.AddrFrom4([4]byte{10, byte(k >> 8), byte(k), 1}), Cells: cells, First: int64(3600 * times[i]), Last: int64(3600 * times[i+1]),
		})
	}
	return out
}

func arranged(members []Member, timeline ...float64) Campaign {
	c := Campaign{Members: members, Timeline: timeline}
	c.arrange()
	return c
}

func TestOrderInTime(t *testing.T) {
	chain := func(first, stint float64, n int) []float64 {
		var out []float64
		for i := range n {
			out = append(out, first+float64(i)*stint, first+float64(i+1)*stint-0.01)
		}
		return out
	}
	for name, tt := range map[string]struct {
		times []float64
		want  Pattern
	}{
		"all day":                          {[]float64{0, 24, 0, 24, 1, 23, 2, 24, 0, 22}, PatternParallel},
		"one after the other":              {chain(0, 5, 12), PatternRotating},
		"moments apart":                    {[]float64{0, 0.1, 10, 10.1, 20, 20.1, 30, 30.1, 40, 40.1}, PatternBursts},
		"three chains":                     {append(append(chain(0, 10, 12), chain(3, 10, 12)...), chain(7, 10, 12)...), PatternRelay},
		"three chains that end one by one": {append(append(chain(0, 9, 12), chain(3, 10, 12)...), chain(7, 11, 12)...), PatternRelay},
		"two halves":                       {[]float64{0, 10, 0, 10, 0, 10, 0, 10, 0, 10, 30, 40, 30, 40, 30, 40, 30, 40}, PatternParallel},
	} {
		assert.Equal(t, tt.want, arranged(at(30, tt.times...)).Pattern, name)
	}
}

// Members that begin at random are no relay, however many there are and however long they stay.
func TestNoRelayByChance(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		n, life := 5+rng.IntN(60), 1000.0
		stay := life * math.Pow(10, -2*rng.Float64())
		var times []float64
		for range n {
			d := stay * (0.5 + rng.Float64())
			first := rng.Float64() * math.Max(1, life-d)
			times = append(times, first, first+d)
		}
		c := arranged(at(40, times...))
		assert.NotEqual(t, PatternRelay, c.Pattern, "%d members stay %.0f of %.0f hours: %+v", n, stay, life, c.Arrangement)
	}
}

// What the clock and the order of the members are does not matter.
func TestArrangementIsInvariant(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		var times []float64
		for range 4 + rng.IntN(40) {
			first := rng.Float64() * 500
			times = append(times, first, first+rng.Float64()*100)
		}
		m := at(1+rng.IntN(50), times...)
		one := arranged(m, 0.1, 0.4, 0.9)
		moved := append([]Member{}, m...)
		for i := range moved {
			moved[i].First += 1e9
			moved[i].Last += 1e9
		}
		rng.Shuffle(len(moved), func(i, j int) { moved[i], moved[j] = moved[j], moved[i] })
		two := arranged(moved, 0.1, 0.4, 0.9)
		assert.Equal(t, one.Pattern, two.Pattern)
		assert.Equal(t, one.Arrangement, two.Arrangement)
		assert.LessOrEqual(t, one.Arrangement.Handovers, len(m))
		assert.GreaterOrEqual(t, one.Arrangement.Together, 1-1e-9)
		assert.LessOrEqual(t, one.Arrangement.Together, float64(len(m))+1e-9)
	}
}

func TestSpreadOver(t *testing.T) {
	for _, tt := range []struct {
		sizes     []int
		want      Spread
		effective float64
	}{
		{[]int{60}, SpreadFarm, 1},
		{[]int{20, 20}, SpreadFarm, 2},
		{[]int{50, 1, 1, 1, 1, 1}, SpreadFarm, 55 * 55.0 / 2505},
		{[]int{8, 8, 8, 8}, SpreadClustered, 4},
		{[]int{1, 1, 1, 1, 1, 1, 1, 1}, SpreadWide, 8},
		{[]int{2, 1, 1, 1, 1}, SpreadWide, 4.5},
		{[]int{1, 1}, SpreadWide, 2},
		{nil, SpreadWide, 0},
	} {
		s, e := SpreadOver(tt.sizes)
		assert.Equal(t, tt.want, s, "%v", tt.sizes)
		assert.InDelta(t, tt.effective, e, 1e-9, "%v", tt.sizes)
	}
}

func TestTempo(t *testing.T) {
	month := []float64{0, 700, 10, 710, 20, 719, 5, 700}
	assert.Equal(t, TempoDrip, arranged(at(30, month...), 0.3, 0.6, 1).Arrangement.Tempo)
	assert.Equal(t, TempoSteady, arranged(at(300, month...), 0.3, 0.6, 1).Arrangement.Tempo, "ten a day")
	assert.Equal(t, TempoSteady, arranged(at(3, 0, 40, 1, 40, 2, 41), 0.3, 0.6, 1).Arrangement.Tempo, "not yet a week")
	assert.Equal(t, TempoBurst, arranged(at(30, 0, 40, 1, 40, 2, 41), 0, 0.9, 0.95).Arrangement.Tempo)
	assert.Equal(t, TempoBurst, arranged(at(30, 0, 40, 1, 40, 2, 41), 1, 1, 1).Arrangement.Tempo)
	assert.Equal(t, TempoSteady, arranged(nil).Arrangement.Tempo)
}
