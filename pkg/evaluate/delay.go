package evaluate

import (
	"context"
	"math"
	"slices"

	"murmuration/pkg/detect"
	"murmuration/pkg/simulate"
)

// Delay is when campaigns are first reported, as shares of their lives: from the first to the last probe of their
// members. The window grows in steps, so that a delay is known to a step, from above.
type Delay struct {
	Found     int     // campaigns that were reported at some step
	Campaigns int     // decidable campaigns that were looked for
	Mean      float64 // over Found
	Most      float64 // of Found
	Precision float64 // of the members listed in the first report, mean over Found
	Least     float64 // of Found, the precision of the worst first report
	False     int     // windows on the way that held a report which no true campaign accounts for
}

// measure grows the window over the life of each decidable campaign until that is reported.
func (d *Delay) measure(ctx context.Context, w *simulate.World, p detect.Params, steps int) error {
	for _, t := range w.Truth {
		if !t.Decidable {
			continue
		}
		d.Campaigns++
		first, last := life(w, t)
		for k := 1; k <= steps; k++ {
			share := float64(k) / float64(steps)
			in := until(&w.Input, first+uint32(math.Ceil(share*float64(last-first))))
			res, err := detect.Run(ctx, in, p, nil)
			if err != nil {
				return err
			}
			s := simulate.Judge(w.Truth, res.Campaigns)
			if s.False > 0 {
				d.False++
			}
			at := slices.IndexFunc(s.Campaigns, func(c simulate.CampaignScore) bool { return c.Name == t.Name })
			if s.Campaigns[at].Pieces > 0 {
				precision := s.Campaigns[at].Precision
				if d.Found == 0 {
					d.Least = 1
				}
				d.Least = math.Min(d.Least, precision)
				d.Precision = (d.Precision*float64(d.Found) + precision) / float64(d.Found+1)
				d.Mean = (d.Mean*float64(d.Found) + share) / float64(d.Found+1)
				d.Most = math.Max(d.Most, share)
				d.Found++
				break
			}
		}
	}
	return nil
}

// life returns the first and the last probe of a campaign's members, in seconds after the start of the window.
func life(w *simulate.World, t simulate.Truth) (first, last uint32) {
	first = math.MaxUint32
	for _, i := range t.Sources {
		for _, c := range w.Input.Sources[i].Cells {
			first, last = min(first, c.First), max(last, c.Last)
		}
	}
	return min(first, last), last
}

// until returns the input as it was known at a time, in seconds after the start of the window. Sources that had not come
// keep their places, with nothing touched; a cell that was touched again later was last touched when it was first.
func until(in *detect.Input, at uint32) *detect.Input {
	out := *in
	out.End = in.Start + int64(at) + 1
	out.Sources = make([]detect.Source, len(in.Sources))
	for i, s := range in.Sources {
		var kept []detect.Cell
		for _, c := range s.Cells {
			if c.First > at {
				continue
			}
			if c.Last > at {
				c.Last = c.First
			}
			kept = append(kept, c)
		}
		if len(s.Cells) > 0 {
			// Packets are not dated. They are taken to have come as evenly as the cells.
			s.Behaviour.Packets = s.Behaviour.Packets * uint64(len(kept)) / uint64(len(s.Cells))
		}
		s.Cells = kept
		out.Sources[i] = s
	}
	return &out
}
