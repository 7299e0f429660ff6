// Package evaluate measures the detector, and the methods that it is compared with, on simulated telescopes whose
// campaigns are known. Everything but time and memory follows from the names of the scenarios, the seed and the scale.
package evaluate

import (
	"context"
	"fmt"

	"murmuration/pkg/detect"
	"murmuration/pkg/simulate"
)

// Detector is the name under which the detector itself stands among the methods.
const Detector = "murmuration"

// Options say what to evaluate.
type Options struct {
	Scenarios []string // names of pkg/simulate
	Seed      uint64   // of the first world, and of the detector's surrogates
	Seeds     int      // worlds of each scenario: Seed, Seed+1, …
	Scale     float64  // of the background, 1 is a few thousand sources
	Baselines bool     // run the methods of comparison as well
	// Delay is the number of steps in which the window grows over a campaign's life to find the first alarm; 0 measures no
	// delay. It takes up to as many further runs for each campaign.
	Delay  int
	Params detect.Params
	// Progress is called before every step with the share that is done; it may be nil.
	Progress func(scenario string, share float64)
}

// Row is how one method did on the worlds of one scenario.
type Row struct {
	Scenario, Method string
	Seeds            int
	Sources, Cells   int // of a world, mean
	Campaigns        int // true and decidable, of all worlds together
	// F1, Precision and Recall are of membership in any campaign, mean over worlds; F1Least is of the worst world. A
	// world without campaigns has 1 where nothing was reported.
	F1, F1Least, Precision, Recall float64
	// Jaccard is that of the best match of each true campaign, mean over campaigns, and JaccardLeast the least. Both
	// mean nothing where Campaigns is 0.
	Jaccard, JaccardLeast float64
	Pieces                int     // lists that one true campaign was found in, at most
	False                 int     // lists of which no true campaign holds half, all worlds together
	EvidenceLeast         float64 // of true campaigns that were found, by the detector only
	Delay                 Delay
	Seconds               float64 // of a world, mean; without the delay
	PeakHeap              uint64  // bytes of objects on the heap at the worst moment, the world included
}

// Run evaluates the scenarios one after the other and hands every row over as soon as it is known. It stops with the
// context's error, or that of emit.
func Run(ctx context.Context, o Options, emit func(Row) error) error {
	var chosen []simulate.Scenario
	for _, name := range o.Scenarios {
		s, err := simulate.Find(name)
		if err != nil {
			return err
		}
		chosen = append(chosen, s)
	}
	for i, s := range chosen {
		rows, err := scenario(ctx, s, o, func(share float64) {
			if o.Progress != nil {
				o.Progress(s.Name, (float64(i)+share)/float64(len(chosen)))
			}
		})
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err := emit(r); err != nil {
				return err
			}
		}
	}
	if o.Progress != nil {
		o.Progress("evaluated", 1)
	}
	return nil
}

// scenario returns one row a method, the detector's first.
func scenario(ctx context.Context, s simulate.Scenario, o Options, progress func(share float64)) ([]Row, error) {
	var baselines []Baseline
	if o.Baselines {
		baselines = Baselines()
	}
	rows := make([]tally, 1+len(baselines))
	steps := float64(o.Seeds * len(rows))
	for k := range o.Seeds {
		seed := o.Seed + uint64(k)
		done := float64(k * len(rows))
		progress(done / steps)
		w := s.Build(seed, o.Scale)
		if err := detector(ctx, w, seed, o, &rows[0]); err != nil {
			return nil, fmt.Errorf("scenario %s, seed %d: %w", s.Name, seed, err)
		}
		for i, b := range baselines {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			progress((done + float64(i+1)) / steps)
			var lists [][]int
			c, err := measured(func() error { lists = b.Find(&w.Input); return nil })
			if err != nil {
				return nil, err
			}
			rows[1+i].add(w, simulate.JudgeLists(w.Truth, lists), c)
		}
	}
	out := make([]Row, len(rows))
	for i := range rows {
		name := Detector
		if i > 0 {
			name = baselines[i-1].Name
		}
		out[i] = rows[i].row(s.Name, name)
	}
	return out, nil
}

// detector runs the detector on one world.
func detector(ctx context.Context, w *simulate.World, seed uint64, o Options, t *tally) error {
	p := o.Params
	p.Seed = seed
	var res *detect.Result
	c, err := measured(func() (err error) {
		res, err = detect.Run(ctx, &w.Input, p, nil)
		return err
	})
	if err != nil {
		return err
	}
	t.add(w, simulate.Judge(w.Truth, res.Campaigns), c)
	if o.Delay <= 0 {
		return nil
	}
	return t.delay.measure(ctx, w, p, o.Delay)
}

// tally adds up what one method did on the worlds of a scenario.
type tally struct {
	result                Row
	f1, precision, recall float64
	jaccard, seconds      float64
	sources, cells        int
	delay                 Delay
}

func (t *tally) add(w *simulate.World, s simulate.Score, c cost) {
	r := &t.result
	if r.Seeds == 0 {
		r.F1Least, r.JaccardLeast = 1, 1
	}
	r.Seeds++
	t.sources += len(w.Input.Sources)
	for i := range w.Input.Sources {
		t.cells += len(w.Input.Sources[i].Cells)
	}
	t.f1, t.precision, t.recall = t.f1+s.F1, t.precision+s.Precision, t.recall+s.Recall
	r.F1Least = min(r.F1Least, s.F1)
	r.False += s.False
	for _, c := range s.Campaigns {
		r.Campaigns++
		t.jaccard += c.Jaccard
		r.JaccardLeast = min(r.JaccardLeast, c.Jaccard)
		r.Pieces = max(r.Pieces, c.Pieces)
		if c.Evidence > 0 {
			if r.EvidenceLeast == 0 || c.Evidence < r.EvidenceLeast {
				r.EvidenceLeast = c.Evidence
			}
		}
	}
	t.seconds += c.seconds
	r.PeakHeap = max(r.PeakHeap, c.peak)
}

func (t *tally) row(scenario, method string) Row {
	r := t.result
	n := float64(max(1, r.Seeds))
	r.Scenario, r.Method, r.Delay = scenario, method, t.delay
	r.Sources, r.Cells = t.sources/max(1, r.Seeds), t.cells/max(1, r.Seeds)
	r.F1, r.Precision, r.Recall, r.Seconds = t.f1/n, t.precision/n, t.recall/n, t.seconds/n
	r.Jaccard = t.jaccard / float64(max(1, r.Campaigns))
	return r
}
