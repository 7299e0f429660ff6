package surge

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat/distuv"
)

var update = flag.Bool("update", false, "write the tables of docs/design/surges.md anew")

// port is a simulated series: a rate with daily and weekly rhythm, overdispersed by the hour and by the day, with scanners
// that stay for hours.
type port struct {
	rate, daily, weekly float64 // sources per hour; amplitudes, 0 to 1
	phase               float64
	hourShape, dayShape float64 // of the gamma noise: variance 1/shape
	lingering           float64 // scanners per hour that come in every hour for a while
}

// somePort draws a port: rates are heavy-tailed over six orders of magnitude, as ports are, but one port in eight is drawn
// evenly from all orders, or there would be too few busy ones to say anything about.
func somePort(r *rand.Rand) port {
	rate := math.Min(2000, 0.002*math.Pow(r.Float64()+1e-9, -1/0.7))
	if r.IntN(8) == 0 {
		rate = 0.1 * math.Pow(20000, r.Float64())
	}
	return port{
		rate:  rate,
		daily: 0.6 * r.Float64(), weekly: 0.5 * r.Float64(), phase: 24 * r.Float64(),
		hourShape: 2 + 18*r.Float64(), dayShape: 5 + 20*r.Float64(), lingering: 0.01 * r.Float64(),
	}
}

func gamma(r *rand.Rand, shape float64) float64 {
	return distuv.Gamma{Alpha: shape, Beta: shape, Src: r}.Rand()
}

func poisson(r *rand.Rand, mean float64) uint32 {
	if mean <= 0 {
		return 0
	}
	return uint32(distuv.Poisson{Lambda: mean, Src: r}.Rand())
}

func (p *port) history(r *rand.Rand, hours int) []uint32 {
	counts := make([]uint32, hours)
	day := 1.0
	for h := range counts {
		if h%24 == 0 {
			day = gamma(r, p.dayShape)
		}
		season := 1 + p.daily*math.Sin(2*math.Pi*(float64(h)+p.phase)/24)
		if d := h / 24 % 7; d >= 5 {
			season *= 1 - p.weekly
		}
		counts[h] += poisson(r, p.rate*season*day*gamma(r, p.hourShape))
		if r.Float64() < p.lingering {
			for i := h; i < min(hours, h+1+r.IntN(48)); i++ {
				counts[i]++
			}
		}
	}
	return counts
}

// The time of an evaluation: a past of 35 days, then a month that is looked at.
const (
	pastHours = 35 * 24
	allHours  = pastHours + 30*24
)

// onset is an injected surge: sources on top of the port's own, at full height at once or after a ramp.
type onset struct {
	start, hours, ramp int
	height             float64 // sources per hour
}

func (o onset) inject(r *rand.Rand, counts []uint32) {
	for i := range o.hours {
		height := o.height
		if i < o.ramp {
			height *= float64(i+1) / float64(o.ramp+1)
		}
		counts[o.start+i] += poisson(r, height*gamma(r, 10))
	}
}

func someOnset(r *rand.Rand, height float64) onset {
	hours := 12 + r.IntN(60)
	o := onset{start: pastHours + 24 + r.IntN(30*24-120), hours: hours, height: height}
	if r.IntN(2) == 0 {
		o.ramp = 1 + r.IntN(24)
	}
	return o
}

func look(counts []uint32) []Surge {
	return Find(DefaultParams(), &Series{Counts: counts}, pastHours, allHours, nil)
}

// sweeps adds vertical scans to a world: for an hour a few sources ask for every port.
func sweeps(r *rand.Rand, hours int) []uint32 {
	out := make([]uint32, hours)
	for h := range out {
		if r.Float64() < 0.02 {
			out[h] = 1 + uint32(r.IntN(4))
		}
	}
	return out
}

// falseAlarms is the number of alarms in months of worlds without any surge, by the rate of the port.
func falseAlarms(seed uint64, months, ports int) (alarms [4]int, series [4]int) {
	r := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // Reproducible on purpose.
	for range months {
		shared := sweeps(r, allHours)
		for range ports {
			p := somePort(r)
			counts := p.history(r, allHours)
			for h := range counts {
				counts[h] += shared[h]
			}
			class := 0
			for _, limit := range []float64{0.1, 1, 10} {
				if p.rate >= limit {
					class++
				}
			}
			series[class]++
			alarms[class] += len(look(counts))
		}
	}
	return alarms, series
}

// power is how surges of one sort fare.
type power struct {
	rate, times float64 // of the port; height of the surge in times its rate (at least 10 sources an hour)
	n, found    int
	twice       int
	delays      []int
	error       []int // of the estimated start
}

func (w *power) run(seed uint64) {
	r := rand.New(rand.NewPCG(seed, 11)) //nolint:gosec // Reproducible on purpose.
	for range w.n {
		p := somePort(r)
		p.rate = w.rate
		counts := p.history(r, allHours)
		o := someOnset(r, w.times*max(w.rate, 1))
		o.inject(r, counts)
		hits := 0
		for _, s := range look(counts) {
			if s.Detected >= Hour(o.start) && s.Detected < Hour(o.start+o.hours) {
				if hits == 0 {
					w.delays = append(w.delays, int(s.Detected)-o.start)
					w.error = append(w.error, int(s.Start)-o.start)
				}
				hits++
			}
		}
		if hits > 0 {
			w.found++
		}
		if hits > 1 {
			w.twice++
		}
	}
}

func quantile(v []int, q float64) string {
	if len(v) == 0 {
		return "-"
	}
	v = slices.Sorted(slices.Values(v))
	return fmt.Sprint(v[min(len(v)-1, int(q*float64(len(v))))])
}

const (
	evaluationSeed = 2026
	quietMonths    = 4
	quietPorts     = 2000
)

func evaluation(t *testing.T) string {
	var b strings.Builder
	alarms, series := falseAlarms(evaluationSeed, quietMonths, quietPorts)
	fmt.Fprintf(&b, "False alarms in %d months of %d series without any surge:\n\n", quietMonths, quietPorts)
	b.WriteString("| sources per hour | series | false alarms | per month |\n|---|---|---|---|\n")
	total := 0
	for i, name := range []string{"below 0.1", "0.1 to 1", "1 to 10", "10 and more"} {
		total += alarms[i]
		fmt.Fprintf(&b, "| %s | %d | %d | %.2f |\n", name, series[i]/quietMonths, alarms[i], float64(alarms[i])/quietMonths)
	}
	fmt.Fprintf(&b, "| all | %d | %d | %.2f |\n", quietPorts, total, float64(total)/quietMonths)
	assert.LessOrEqual(t, total, quietMonths, "more than one false alarm a month")
	b.WriteString("\nSurges of known onset (12 to 72 hours, half of them with a ramp of up to 24 hours):\n\n")
	b.WriteString("| port, sources per hour | surge, sources per hour | surges | found | delay: median, 90 % (hours) | start, error: 10 %, 90 % (hours) | alarmed twice |\n|---|---|---|---|---|---|---|\n")
	for _, w := range []power{
		{rate: 0.01, times: 5}, {rate: 0.01, times: 10}, {rate: 0.01, times: 30}, {rate: 1, times: 10}, {rate: 1, times: 30},
		{rate: 10, times: 1}, {rate: 10, times: 2}, {rate: 10, times: 5}, {rate: 100, times: 1}, {rate: 100, times: 2}, {rate: 100, times: 5},
		{rate: 1000, times: 1}, {rate: 1000, times: 3},
	} {
		w.n = 150
		w.run(evaluationSeed)
		fmt.Fprintf(&b, "| %g | %g | %d | %.0f %% | %s, %s | %s, %s | %d |\n", w.rate, w.times*max(w.rate, 1), w.n, 100*float64(w.found)/float64(w.n),
			quantile(w.delays, 0.5), quantile(w.delays, 0.9), quantile(w.error, 0.1), quantile(w.error, 0.9), w.twice)
		if w.times*max(w.rate, 1) >= 30 && w.times >= 5 {
			assert.GreaterOrEqual(t, w.found*100, 90*w.n, "rate %g times %g", w.rate, w.times)
		}
	}
	return b.String()
}

const (
	tableBegin = "<!-- tables: go test ./pkg/surge -run TestEvaluation -update -->\n"
	tableEnd   = "<!-- end of tables -->\n"
)

// The tables of the documentation are what the method does, and it does well enough.
func TestEvaluation(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "design", "surges.md")
	tables := evaluation(t)
	doc, err := os.ReadFile(file)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(doc), tableBegin)
	require.True(t, ok, "no place for the tables")
	old, after, ok := strings.Cut(rest, tableEnd)
	require.True(t, ok, "no end of the tables")
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(before+tableBegin+tables+tableEnd+after), 0o644))
		return
	}
	require.Equal(t, old, tables, "docs/design/surges.md is out of date: run with -update")
}
