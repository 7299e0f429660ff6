package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"murmuration/pkg/detect"
	"murmuration/pkg/evaluate"
	"murmuration/pkg/nearest"
	"murmuration/pkg/simulate"
)

// allScenarios stands for every scenario on the command line.
const allScenarios = "all"

// delaySteps is the number of windows of --delay: each adds 5 % of a campaign's life.
const delaySteps = 20

func evaluateCommand(env environment) *cli.Command {
	return &cli.Command{
		Name:  "evaluate",
		Usage: "measure the detector on simulated traffic whose campaigns are known",
		Description: "Prints, scenario by scenario, how well the true campaigns were found and what it cost; docs/detection.md explains the\n" +
			"columns. It needs no data and no engine. The same seed gives the same figures, but for time and memory.\n" +
			"Scenarios:\n" + scenarioList(),
		OnUsageError: usageErrorOf,
		Flags: []cli.Flag{
			formatFlag(),
			&cli.StringSliceFlag{Name: "scenario", Value: cli.NewStringSlice(allScenarios), Usage: "`NAME` of a scenario, repeatable or with commas, or all"},
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "of the first world of each scenario"},
			&cli.IntFlag{Name: "seeds", Value: 1, Usage: "worlds of each scenario, with seeds one after the other"},
			&cli.Float64Flag{Name: "scale", Value: 1, Usage: "of the background; 1 is a few thousand sources"},
			&cli.BoolFlag{Name: "baselines", Usage: "run other methods on the same worlds and print them below"},
			&cli.BoolFlag{Name: "delay", Usage: "grow the window in steps of 5 % of each campaign's life until it is found; takes up to twenty times as long"},
			&cli.Float64Flag{Name: "early-coverage", Value: detect.DefaultParams().EarlyCoverage, Usage: "of the detector, as in loader detect"},
			&cli.Float64Flag{Name: "min-coverage", Value: detect.DefaultParams().MinCoverage, Usage: "of the detector, as in loader detect: less of it finds campaigns earlier"},
			&cli.BoolFlag{Name: "cost", Value: true, Usage: "print time and memory; --cost=false prints what depends on the seed alone"},
			&cli.IntFlag{Name: "calibration", Usage: "instead, draw the p-values of `N` worlds without a campaign of each kind as an SVG"},
		},
		Action: func(c *cli.Context) error { return runEvaluate(c, env) },
	}
}

func scenarioList() string {
	out := ""
	for _, name := range simulate.Names() {
		// Names come from where Find looks.
		if s, err := simulate.Find(name); err == nil {
			out += fmt.Sprintf("  %-13s %s\n", name, s.About)
		}
	}
	return out
}

func runEvaluate(c *cli.Context, env environment) error {
	if c.Args().Present() {
		return usagef("evaluate takes no arguments, got %q; scenarios stand behind --scenario", c.Args().First())
	}
	names, err := scenarioNames(c.StringSlice("scenario"))
	if err != nil {
		return err
	}
	if n := c.Int("seeds"); n < 1 {
		return usagef("--seeds takes 1 or more, not %d", n)
	}
	if s := c.Float64("scale"); !(s > 0) || math.IsInf(s, 0) {
		return usagef("--scale takes a number above 0, not %v", s)
	}
	if m := c.Float64("min-coverage"); !(m > 0 && m <= 1) {
		return usagef("--min-coverage takes a share above 0 and up to 1, not %v", m)
	}
	if c.IsSet("calibration") {
		return runCalibration(c, env)
	}
	o := evaluate.Options{
		Scenarios: names, Seed: c.Uint64("seed"), Seeds: c.Int("seeds"), Scale: c.Float64("scale"),
		Baselines: c.Bool("baselines"), Params: detect.DefaultParams(), Progress: newStages(env.stderr).share,
	}
	o.Params.MinCoverage, o.Params.EarlyCoverage = c.Float64("min-coverage"), c.Float64("early-coverage")
	if c.Bool("delay") {
		o.Delay = delaySteps
	}
	g := newEvaluation(c.Bool("delay"), c.Bool("cost"), c.String("format"))
	err = evaluate.Run(c.Context, o, func(r evaluate.Row) error {
		g.add(r)
		return nil
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	if err != nil {
		// What was finished before is printed all the same, below the progress.
		fmt.Fprintf(env.stderr, "\nstopped after %s\n", count(len(g.rows), "row"))
	}
	return errors.Join(g.write(env.stdout, c.String("format")), err)
}

// nullScenarios are those without a campaign that show what a careless test takes for one.
func nullScenarios() []string { return []string{"none", "crowds"} }

func runCalibration(c *cli.Context, env environment) error {
	n := c.Int("calibration")
	if n < 1 {
		return usagef("--calibration takes 1 or more, not %d", n)
	}
	nulls, err := evaluate.Calibrate(c.Context, nullScenarios(), n, c.Uint64("seed"), c.Float64("scale"), newStages(env.stderr).share)
	if err != nil {
		return err
	}
	return evaluate.WriteQQ(env.stdout, nulls)
}

// scenarioNames resolves "all" and refuses names that are none, with the nearest one that is.
func scenarioNames(given []string) ([]string, error) {
	known := simulate.Names()
	var out []string
	for _, name := range given {
		switch {
		case name == allScenarios:
			out = append(out, known...)
		case slices.Contains(known, name):
			out = append(out, name)
		default:
			return nil, usagef("there is no scenario %q%s", name, nearest.Hint(name, known))
		}
	}
	return out, nil
}

// evaluation is the table of an evaluation.
type evaluation struct {
	grid
	delay, cost, rounded bool
}

func newEvaluation(delay, cost bool, format string) *evaluation {
	e := &evaluation{delay: delay, cost: cost, rounded: format == formatTable}
	e.columns = []string{"scenario", "method", "seeds", "sources", "cells", "campaigns", "f1", "f1_least", "precision", "recall",
		"jaccard", "jaccard_least", "pieces", "false", "evidence_least"}
	if delay {
		e.columns = append(e.columns, "delay_found", "delay", "delay_most", "delay_precision", "delay_false")
	}
	if cost {
		e.columns = append(e.columns, "seconds", "peak_mib")
	}
	e.numeric = make([]bool, len(e.columns))
	for i := 2; i < len(e.numeric); i++ {
		e.numeric[i] = true
	}
	return e
}

func (e *evaluation) add(r evaluate.Row) {
	row := []any{r.Scenario, r.Method, r.Seeds, r.Sources, r.Cells, r.Campaigns, e.number(r.F1, 3, true), e.number(r.F1Least, 3, true),
		e.number(r.Precision, 3, true), e.number(r.Recall, 3, true), e.number(r.Jaccard, 3, r.Campaigns > 0), e.number(r.JaccardLeast, 3, r.Campaigns > 0),
		r.Pieces, r.False, e.number(r.EvidenceLeast, 1, r.EvidenceLeast > 0)}
	if e.delay {
		found := r.Delay.Found > 0
		row = append(row, any(nil), e.number(r.Delay.Mean, 2, found), e.number(r.Delay.Most, 2, found), e.number(r.Delay.Precision, 3, found), any(nil))
		if r.Method == evaluate.Detector {
			row[len(row)-5], row[len(row)-1] = r.Delay.Found, r.Delay.False
		}
	}
	if e.cost {
		row = append(row, e.number(r.Seconds, 2, true), e.number(float64(r.PeakHeap)/(1<<20), 0, true))
	}
	e.grid.add(row...)
}

// number is v for the format: rounded to digits for people, as it is for machines, nothing where it means nothing.
func (e *evaluation) number(v float64, digits int, means bool) any {
	switch {
	case !means:
		return nil
	case e.rounded:
		return strconv.FormatFloat(v, 'f', digits, 64)
	}
	return v
}
