package surge

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat/distuv"
	"pgregory.net/rapid"
)

// drawSeries makes counts of some weeks with surges of all sorts, gaps and levels that stay.
func drawSeries(t *rapid.T) *Series {
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 3)) //nolint:gosec // Reproducible on purpose.
	p := somePort(r)
	p.rate = rapid.SampledFrom([]float64{0, 0.01, 1, 20}).Draw(t, "rate")
	s := &Series{Born: Hour(rapid.IntRange(-500, 500).Draw(t, "born")), First: Hour(rapid.IntRange(-100, 600).Draw(t, "first"))}
	s.Counts = p.history(r, rapid.IntRange(0, 60*24).Draw(t, "hours"))
	for range rapid.IntRange(0, 4).Draw(t, "surges") {
		from := r.IntN(len(s.Counts) + 1)
		height := uint32(10 + r.IntN(1000))
		for i := from; i < min(len(s.Counts), from+1+r.IntN(240)); i++ {
			s.Counts[i] += height
		}
	}
	for i := range s.Counts {
		if s.First+Hour(i) < s.Born {
			s.Counts[i] = 0
		}
	}
	if rapid.Bool().Draw(t, "reborn") {
		s.Reborn = []Hour{s.Born + Hour(rapid.IntRange(0, 40*24).Draw(t, "reborn at"))}
	}
	return s
}

// Looking at a time in pieces, each with what the ones before found and no more of the past than is asked for, finds what looking
// at it in one go does.
func TestPiecesFindTheWhole(t *testing.T) {
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		p, s := DefaultParams(), drawSeries(t)
		from, to := s.Born, s.First+Hour(len(s.Counts))+50
		whole := Find(p, s, from, to, nil)
		found += len(whole)
		var known []Surge
		for at := from; at < to; {
			next := min(to, at+Hour(rapid.IntRange(1, 600).Draw(t, "piece")))
			piece := *s
			if cut := at - Hour(p.Past()) - s.First; cut > 0 {
				cut = min(cut, Hour(len(s.Counts)))
				piece.First, piece.Counts = s.First+cut, s.Counts[cut:]
				for i := range cut { // The past is gone, not zero.
					assert.Less(t, s.First+i, at-Hour(p.Past()))
				}
			}
			for _, x := range Find(p, &piece, at, next, known) {
				if n := len(known); n > 0 && known[n-1].Detected == x.Detected {
					known[n-1] = x
				} else {
					known = append(known, x)
				}
			}
			at = next
		}
		require.Equal(t, whole, known)
	})
	require.NotZero(t, found, "nothing was tested")
}

// Surges are in order, do not overlap, and are what their fields say.
func TestSurgesAreWellFormed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, s := DefaultParams(), drawSeries(t)
		d := detector{first: s.First, counts: s.Counts}
		to := s.First + Hour(len(s.Counts)) + 50
		end := s.Born
		for _, x := range Find(p, s, s.Born, to, nil) {
			require.LessOrEqual(t, end, x.Start)
			require.LessOrEqual(t, x.Start, x.Detected)
			require.Less(t, x.Detected-x.Start, Hour(longest))
			require.Less(t, x.Detected, x.End)
			require.LessOrEqual(t, x.End, to)
			require.GreaterOrEqual(t, d.count(x.Detected), p.MinSources)
			require.True(t, x.Start <= x.Peak && x.Peak <= max(x.End, x.Closed))
			require.Equal(t, d.count(x.Peak), x.Sources)
			require.Positive(t, x.Expected)
			require.GreaterOrEqual(t, x.Evidence, -math.Log10(p.FalsePerMonth))
			require.GreaterOrEqual(t, x.Detected-s.Born, Hour(p.Warmup))
			end = x.End
		}
	})
}

// Nothing depends on which hour is called zero, whole weeks apart.
func TestOriginDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, s := DefaultParams(), drawSeries(t)
		to := s.First + Hour(len(s.Counts))
		shift := Hour(rapid.IntRange(-1000, 1000).Draw(t, "hours"))
		moved := *s
		moved.Born, moved.First = s.Born+shift, s.First+shift
		moved.Reborn = slices.Clone(s.Reborn)
		for i := range moved.Reborn {
			moved.Reborn[i] += shift
		}
		want := Find(p, s, s.Born, to, nil)
		for i := range want {
			x := &want[i]
			x.Start, x.Detected, x.Peak, x.End = x.Start+shift, x.Detected+shift, x.Peak+shift, x.End+shift
			if x.State != Open {
				x.Closed += shift
			}
		}
		require.Equal(t, want, Find(p, &moved, moved.Born, to+shift, nil))
	})
}

// flat is a series of n hours with c sources in each, and what is said on top.
func flat(n int, c uint32, on map[int]uint32) *Series {
	s := &Series{Counts: make([]uint32, n)}
	for i := range s.Counts {
		s.Counts[i] = c + on[i]
	}
	return s
}

func hours(from, to int, height uint32) map[int]uint32 {
	out := map[int]uint32{}
	for h := from; h < to; h++ {
		out[h] = height
	}
	return out
}

func TestOneSurgeIsOneAlarm(t *testing.T) {
	got := Find(DefaultParams(), flat(1000, 10, hours(800, 830, 200)), 0, 1000, nil)
	require.Len(t, got, 1)
	s := got[0]
	assert.Equal(t, Hour(800), s.Start)
	assert.Equal(t, Hour(800), s.Detected)
	assert.Equal(t, Hour(830), s.End)
	assert.Equal(t, Ended, s.State)
	assert.InDelta(t, 6000, s.Excess, 20)
	assert.InDelta(t, 21, s.Strength(), 0.1)
}

func TestASecondWaveIsSeenAsWellAsTheFirst(t *testing.T) {
	on := hours(800, 824, 100)
	for h := range hours(896, 920, 0) { // the same time of day, four days later
		on[h] = 100
	}
	got := Find(DefaultParams(), flat(1000, 10, on), 0, 1000, nil)
	require.Len(t, got, 2)
	assert.InDelta(t, got[0].Expected, got[1].Expected, 0.01, "the first wave is no part of the past of the second")
	assert.InDelta(t, got[0].Evidence, got[1].Evidence, 1)
}

func TestALevelThatStaysBecomesTheUsual(t *testing.T) {
	got := Find(DefaultParams(), flat(3000, 10, hours(800, 3000, 100)), 0, 3000, nil)
	require.Len(t, got, 1, "one alarm for a new level, however long it stays")
	assert.Equal(t, Settled, got[0].State)
	assert.Equal(t, Hour(800+7*24), got[0].Closed)
	more := hours(800, 3000, 100)
	for h := range hours(2000, 2012, 0) {
		more[h] = 1000
	}
	require.Len(t, Find(DefaultParams(), flat(3000, 10, more), 0, 3000, nil), 2, "and a surge above it is one more")
}

func TestNewPorts(t *testing.T) {
	find := func(c uint32) []Surge { return Find(DefaultParams(), flat(1000, 0, hours(800, 812, c)), 0, 1000, nil) }
	assert.Empty(t, find(1), "one scanner that stays is no surge")
	assert.Empty(t, find(3), "nor are three")
	assert.Len(t, find(30), 1)
	// At the very beginning everything is new, and nothing is an alarm.
	assert.Empty(t, Find(DefaultParams(), flat(160, 1000, nil), 0, 160, nil))
}

func TestRhythmIsNoSurge(t *testing.T) {
	s := &Series{Counts: make([]uint32, 50*24)}
	for h := range s.Counts {
		s.Counts[h] = 5
		if h%24 >= 8 && h%24 < 16 && h/24%7 < 5 {
			s.Counts[h] = 200 // office hours, not at weekends
		}
	}
	assert.Empty(t, Find(DefaultParams(), s, 28*24, 50*24, nil))
	for h := 40*24 + 20; h < 40*24+23; h++ {
		s.Counts[h] = 200
	}
	assert.Len(t, Find(DefaultParams(), s, 28*24, 50*24, nil), 1, "at night it is one")
}

// A weekday that is busier than the others, also many times, is no surge week after week: the hours of it spread with the square of their mean.
func TestABusyWeekdayIsNoSurge(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5)) //nolint:gosec // Reproducible on purpose.
	for _, w := range []struct {
		base, times float64
		days        int // of the week that are busy
		most        int // alarms in 30 series of 120 days; a whole family, of 131,072, has one a month at most
	}{{100, 3, 1, 3}, {100, 5, 1, 5}, {500, 3, 2, 2}, {500, 5, 2, 6}} {
		alarms := 0
		for range 30 {
			s := &Series{Counts: make([]uint32, 120*24)}
			for h := range s.Counts {
				rate := w.base
				if h/24%7 >= 7-w.days {
					rate *= w.times
				}
				gamma := distuv.Gamma{Alpha: 20, Beta: 20, Src: r}.Rand()
				s.Counts[h] = uint32(distuv.Poisson{Lambda: rate * gamma, Src: r}.Rand())
			}
			alarms += len(Find(DefaultParams(), s, 0, Hour(len(s.Counts)), nil))
		}
		assert.LessOrEqual(t, alarms, w.most, "%+v", w)
	}
}

// What comes back every week, or every day, is an alarm at first and usual then, whenever it began.
func TestWhatComesBackBecomesUsual(t *testing.T) {
	every := func(period, length, from int) int {
		s := flat(365*24, 3, nil)
		for h := from; h < len(s.Counts); h++ {
			if (h-from)%period < length {
				s.Counts[h] += 200
			}
		}
		return len(Find(DefaultParams(), s, 0, Hour(len(s.Counts)), nil))
	}
	weekly, daily := every(7*24, 6, 40*24+9), every(24, 8, 40*24+9)
	assert.LessOrEqual(t, weekly, 5)
	assert.LessOrEqual(t, daily, 8)
	assert.Positive(t, weekly)
	assert.Positive(t, daily)
	assert.Zero(t, every(7*24, 6, 9), "it was always so")
}

// What comes after weeks in which nothing at all was recorded is not held against what was before.
func TestRecordingThatBeginsAnew(t *testing.T) {
	s := flat(60*24, 0, nil)
	for h := range s.Counts {
		if h < 10*24 || h >= 40*24 {
			s.Counts[h] = uint32(15 + h%5) //nolint:gosec // Small.
		}
	}
	assert.Len(t, Find(DefaultParams(), s, 0, 60*24, nil), 1)
	s.Reborn = []Hour{40 * 24}
	assert.Empty(t, Find(DefaultParams(), s, 0, 60*24, nil))
	for h := 55 * 24; h < 55*24+12; h++ {
		s.Counts[h] += 200
	}
	assert.Len(t, Find(DefaultParams(), s, 0, 60*24, nil), 1, "a week later there is a past again")
}

// The tail is that of the negative binomial, summed term by term.
func TestTailIsNegativeBinomial(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mean := rapid.Float64Range(0.01, 50).Draw(t, "mean")
		e := expectation{mean: mean, variance: mean * rapid.Float64Range(1.05, 10).Draw(t, "dispersion")}
		c := rapid.IntRange(1, 60).Draw(t, "count")
		k := e.mean * e.mean / (e.variance - e.mean)
		below := 0.0
		for y := range c {
			a, _ := math.Lgamma(float64(y) + k)
			b, _ := math.Lgamma(k)
			f, _ := math.Lgamma(float64(y) + 1)
			below += math.Exp(a - b - f + k*math.Log(k/(k+mean)) + float64(y)*math.Log(mean/(k+mean)))
		}
		require.InDelta(t, 1-below, e.tail(float64(c)), 1e-9)
	})
}

func TestParamsAreChecked(t *testing.T) {
	require.NoError(t, DefaultParams().Check())
	for what, change := range map[string]func(*Params){
		"days": func(p *Params) { p.Days = 3 }, "rate": func(p *Params) { p.FalsePerMonth = 0 }, "nan": func(p *Params) { p.FalsePerMonth = math.NaN() },
		"family": func(p *Params) { p.Family = 0 }, "sources": func(p *Params) { p.MinSources = 1 }, "warmup": func(p *Params) { p.Warmup = 1 },
		"keep": func(p *Params) { p.Keep = 1 }, "quiet": func(p *Params) { p.Quiet = 0 }, "settle": func(p *Params) { p.Settle = 24 },
	} {
		p := DefaultParams()
		change(&p)
		require.ErrorIs(t, p.Check(), ErrParams, what)
	}
}

func BenchmarkFind(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // Reproducible on purpose.
	for name, rate := range map[string]float64{"rare": 0.01, "busy": 100} {
		p := somePort(r)
		p.rate = rate
		counts := p.history(r, allHours)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				look(counts)
			}
		})
	}
}
