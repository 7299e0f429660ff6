package evaluate

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/stat/distuv"

	"murmuration/pkg/detect"
	"murmuration/pkg/simulate"
)

// Null is what a method reported on worlds without a campaign: for every world -log10 of the least p-value, corrected for
// all that was tested; 0 where nothing was reported at any level.
type Null struct {
	Name     string
	Evidence []float64
}

// Calibrate runs the detector and the naive method over worlds that hold no campaign, runs worlds of each of the
// scenarios with the seeds seed, seed+1, …, and asks for every report however weak. Of a method that is
// calibrated, at most a share p of the worlds shows a p-value of p.
func Calibrate(ctx context.Context, scenarios []string, runs int, seed uint64, scale float64, progress func(scenario string, share float64)) ([]Null, error) {
	var own, naive []Null
	for i, name := range scenarios {
		s, err := simulate.Find(name)
		if err != nil {
			return nil, err
		}
		a, b := Null{Name: Detector + ", " + name}, Null{Name: "naive, " + name}
		for k := range runs {
			if progress != nil {
				progress(name, (float64(i)+float64(k)/float64(runs))/float64(len(scenarios)))
			}
			w := s.Build(seed+uint64(k), scale)
			if len(w.Truth) > 0 {
				return nil, fmt.Errorf("scenario %s holds a campaign, so that nothing can be calibrated on it", name)
			}
			// Whatever has any evidence at all, without the limits on what is worth a report.
			p := detect.Params{Seed: seed + uint64(k), MinEvidence: 1e-9, MinCoverage: 1e-9, MaxOverlap: math.MaxFloat64}
			res, err := detect.Run(ctx, &w.Input, p, nil)
			if err != nil {
				return nil, err
			}
			a.Evidence = append(a.Evidence, strongest(res.Campaigns, func(c detect.Campaign) float64 { return c.Evidence }))
			b.Evidence = append(b.Evidence, strongest(suspicions(&w.Input, 1e-9), func(s suspicion) float64 { return s.evidence }))
		}
		own, naive = append(own, a), append(naive, b)
	}
	if progress != nil {
		progress("calibrated", 1)
	}
	return append(own, naive...), nil
}

func strongest[T any](found []T, evidence func(T) float64) float64 {
	best := 0.0
	for _, f := range found {
		best = max(best, evidence(f))
	}
	return best
}

// The figure's measures, in pixels.
const (
	figureWidth, figureHeight = 640.0, 480.0
	plotLeft, plotTop         = 64.0, 48.0
	plotWidth, plotHeight     = 544.0, 368.0
)

// WriteQQ draws the quantiles of the nulls against those of a uniform p-value as an SVG: both axes are -log10 p. Points on or
// below the diagonal are calibrated or conservative; the band holds 95 % of what a uniform law gives at each
// place. What lies above the figure is drawn at its upper edge and counted in the legend.
func WriteQQ(w io.Writer, nulls []Null) error {
	n := 0
	for _, s := range nulls {
		n = max(n, len(s.Evidence))
	}
	if n == 0 {
		return fmt.Errorf("no runs to draw")
	}
	right := math.Ceil(10*math.Log10(float64(n+1))) / 10
	top := 2 * right
	x := func(v float64) float64 { return plotLeft + plotWidth*v/right }
	y := func(v float64) float64 { return plotTop + plotHeight*(1-math.Min(v, top)/top) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="12">`+"\n", figureWidth, figureHeight)
	fmt.Fprintf(&b, `<rect width="%.0f" height="%.0f" fill="#fff"/>`+"\n", figureWidth, figureHeight)
	fmt.Fprintf(&b, `<text x="%.1f" y="24" font-size="14">Least p-value of traffic without campaigns, %d runs each</text>`+"\n", plotLeft, n)
	fmt.Fprintf(&b, `<path d="%s" fill="#ddd"/>`+"\n", band(n, x, y))
	axes(&b, right, top, x, y)
	fmt.Fprintf(&b, `<path d="M%.1f %.1fL%.1f %.1f" stroke="#555" stroke-dasharray="4 3"/>`+"\n", x(0), y(0), x(right), y(right))
	for i, s := range nulls {
		points(&b, i, s, top, x, y)
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// band is the outline of the central 95 % of the order statistics of n uniform numbers: the k-th smallest is
// Beta(k, n+1-k).
func band(n int, x, y func(float64) float64) string {
	var upper, lower []string
	for k := 1; k <= n; k++ {
		law := distuv.Beta{Alpha: float64(k), Beta: float64(n + 1 - k)}
		at := x(-math.Log10(float64(k) / float64(n+1)))
		upper = append(upper, fmt.Sprintf("%.1f %.1f", at, y(-math.Log10(law.Quantile(0.025)))))
		lower = append(lower, fmt.Sprintf("%.1f %.1f", at, y(-math.Log10(law.Quantile(0.975)))))
	}
	slices.Reverse(lower)
	return "M" + strings.Join(append(upper, lower...), "L") + "Z"
}

func axes(b *strings.Builder, right, top float64, x, y func(float64) float64) {
	const tick = `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>` + "\n"
	fmt.Fprintf(b, `<path d="M%.1f %.1fV%.1fH%.1f" fill="none" stroke="#000"/>`+"\n", x(0), y(top), y(0), x(right))
	for v := 0.0; v <= right+1e-9; v += 0.5 {
		fmt.Fprintf(b, tick, x(v), y(0)+16, "middle", fmt.Sprintf("%.1f", v))
	}
	for v := 0.0; v <= top+1e-9; v += 0.5 {
		fmt.Fprintf(b, tick, x(0)-8, y(v)+4, "end", fmt.Sprintf("%.1f", v))
	}
	fmt.Fprintf(b, tick, x(right/2), y(0)+40, "middle", "expected of a uniform p-value, -log10")
	fmt.Fprintf(b, `<text transform="translate(18 %.1f) rotate(-90)" text-anchor="middle">reported, -log10</text>`+"\n", y(top/2))
}

// points draws one method's runs, strongest last, and its line of the legend.
func points(b *strings.Builder, i int, s Null, top float64, x, y func(float64) float64) {
	colours := []string{"#0072b2", "#009e73", "#d55e00", "#cc79a7"}
	colour := colours[i%len(colours)]
	sorted := slices.SortedFunc(slices.Values(s.Evidence), func(a, b float64) int { return cmp.Compare(b, a) })
	above := 0
	for k, v := range sorted {
		if v > top {
			above++
		}
		// Series that say the same are told apart by size: rings around dots.
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="%.1f" fill="none" stroke="%s"/>`+"\n",
			x(-math.Log10(float64(k+1)/float64(len(sorted)+1))), y(v), 2+1.5*float64(i%2), colour)
	}
	name := s.Name
	if above > 0 {
		name = fmt.Sprintf("%s (%d of %d above, to %.0f)", s.Name, above, len(sorted), sorted[0])
	}
	at := plotTop + 28 + 18*float64(i)
	fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="none" stroke="%s"/><text x="%.1f" y="%.1f">%s</text>`+"\n", plotLeft+22, at-4, colour, plotLeft+32, at, name)
}
