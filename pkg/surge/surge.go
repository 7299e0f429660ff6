// Package surge finds surges: hours in which far more distinct sources than usual ask for one thing (a protocol,
// port and HTTP method). A surge on a port is often the first sign that a weakness behind it has become known.
//
// # Method
//
// The count of an hour is held against the same hours of the last 28 days, as public health does with the same weeks of
// past years (C. P. Farrington et al., A statistical algorithm for the early detection of outbreaks of infectious
// disease, J. R. Statist. Soc. A 159, 1996; A. Noufaily et al., An improved algorithm for outbreak detection in
// multiple surveillance systems, Statist. Med. 32, 2013). Counts are taken as negative binomial; three scales are
// tested, the last hour, 6 and 24 hours, each against sums of the same length that ended at the same time of day.
//
//   - Expected count: the mean of the same weekday, drawn towards the mean of all days by as much as weekdays differ no
//     more than chance makes them (H. Bühlmann, Experience rating and credibility, ASTIN Bulletin 4, 1967).
//   - Variance: within weekdays, mixed with a prior that keeps a quiet past from looking certain, and taken at the upper
//     95 % limit of its own uncertainty.
//   - Past surges are left out of every reference, so that a second wave is seen as well as the first. A level that
//     stays for seven days is the new normal: the past begins anew where it began.
//   - New ports need no other rule: their past is zeros, and the prior says how much more than nothing is a surge.
//   - Many tests: an hour is an alarm if P is at most FalsePerMonth / (720 hours * Family series * 3 scales)
//     (Bonferroni), so that the expected number of false alarms in a month, over all ports together, is at most
//     FalsePerMonth as far as the model holds, however the series depend on each other.
//   - Start of a surge: where the cumulative sum of the excess last left zero (E. S. Page, Continuous inspection
//     schemes, Biometrika 41, 1954).
//
// The package is pure: counts in, surges out, no clock and nothing random. What it does at an hour depends on that hour
// and those before it only, so that looking at a month in pieces finds what looking at it in one go does.
package surge

import (
	"errors"
	"fmt"
)

// Hour is a whole hour: hours since 1970-01-01 00:00 UTC.
type Hour int64

// Params are the choices of the method.
type Params struct {
	Days          int     `json:"days"`            // of past that an hour is held against
	FalsePerMonth float64 `json:"false_per_month"` // expected false alarms in 30 days over all series, as far as the model holds
	Family        int     `json:"family"`          // series tested in each hour: what FalsePerMonth is shared out to
	MinSources    uint32  `json:"min_sources"`     // least distinct sources in the hour of an alarm: below, single scanners decide
	Warmup        int     `json:"warmup"`          // hours of past before the first alarm
	Keep          float64 `json:"keep"`            // a surge goes on while P is at most this
	Quiet         int     `json:"quiet"`           // hours of rest that end a surge
	Settle        int     `json:"settle"`          // hours after which a surge is the new normal
}

// DefaultParams are those that docs/design/surges.md was measured with.
func DefaultParams() Params {
	return Params{Days: 28, FalsePerMonth: 1, Family: 2 << 16, MinSources: 5, Warmup: 7 * 24, Keep: 0.01, Quiet: 6, Settle: 7 * 24}
}

// ErrParams is returned for parameters that make no sense.
var ErrParams = errors.New("wrong parameters of surge detection")

// maxFalsePerMonth is far more than anybody could look at.
const maxFalsePerMonth = 1_000_000

// Check returns ErrParams with a sentence, or nil.
func (p Params) Check() error {
	switch {
	case p.Days < 7 || p.Days > 366:
		return fmt.Errorf("%w: days must be 7 to 366, not %d", ErrParams, p.Days)
	case !(p.FalsePerMonth > 0 && p.FalsePerMonth <= maxFalsePerMonth):
		return fmt.Errorf("%w: false alarms per month must be above 0 and at most %d, not %g", ErrParams, maxFalsePerMonth, p.FalsePerMonth)
	case p.Family < 1:
		return fmt.Errorf("%w: family must be at least 1, not %d", ErrParams, p.Family)
	case p.MinSources < 2:
		return fmt.Errorf("%w: one source is no surge: at least 2, not %d", ErrParams, p.MinSources)
	case p.Warmup < 72 || p.Warmup > 24*p.Days:
		return fmt.Errorf("%w: warm-up must be 72 hours to %d days, not %d hours", ErrParams, p.Days, p.Warmup)
	case !(p.Keep > 0 && p.Keep < 1):
		return fmt.Errorf("%w: keep must be between 0 and 1, not %g", ErrParams, p.Keep)
	case p.Quiet < 1 || p.Settle < p.Warmup:
		return fmt.Errorf("%w: quiet must be at least 1 hour and settle at least the warm-up", ErrParams)
	}
	return nil
}

// Alpha is the largest P of an alarm.
func (p Params) Alpha() float64 {
	const hoursPerMonth = 720
	return p.FalsePerMonth / (hoursPerMonth * float64(p.Family))
}

// Past is how many hours before the first hour looked at Find must be given to decide as it would with all of the past.
func (p Params) Past() int { return 24*p.Days + p.Settle + 2*longest }

// Silence is for how many hours nothing at all, in any series, must have been recorded for what was before to say nothing of what comes after.
func (p Params) Silence() int { return 24 * p.Days }

// Series is the counts of one series. Hours outside Counts are zero.
type Series struct {
	Born   Hour     // first hour that anything was recorded at all: zeros before it mean nothing
	Reborn []Hour   // hours, by time, at which recording began anew after Params.Silence: zeros before them mean nothing either
	First  Hour     // hour of Counts[0]
	Counts []uint32 // distinct sources
}

// State of a surge.
type State string

// The states.
const (
	Open    State = "open"    // it goes on at the end of the time looked at
	Ended   State = "ended"   // the counts are back where they were
	Settled State = "settled" // it became the new normal
)

// Surge is one surge.
type Surge struct {
	Start    Hour // estimated
	Detected Hour // of the alarm: with Start and the series it identifies the surge
	Peak     Hour // of most sources
	End      Hour // exclusive: behind the last hour above the usual
	Closed   Hour // by when it was known to be over; 0 while it is open
	State    State

	Sources  uint32  // distinct sources in the hour of the peak
	Expected float64 // sources that the hour of the peak would have had
	Excess   float64 // sources above expectation, summed over the hours
	Evidence float64 // -log10 of the smallest P, corrected for all tests of a month; the alarm is at -log10 FalsePerMonth
}

// Strength is how many times the usual the peak was.
func (s *Surge) Strength() float64 { return float64(s.Sources) / s.Expected }

// Find looks at the hours [from, to) and returns the surges that were detected, or were still open, in them, by time of
// detection. past holds the surges of the series that were detected before from, by time of detection, as an earlier call
// returned them; one that was open at from is followed further. Series must reach back Params.Past hours before from, or
// to Born.
func Find(p Params, s *Series, from, to Hour, past []Surge) []Surge {
	d := detector{p: p, born: s.Born, reborn: s.Reborn, rest: s.Born, first: s.First, counts: s.Counts, alpha: p.Alpha(), limits: limits{}}
	t := max(from, s.Born)
	for i := range past {
		x := &past[i]
		switch {
		case x.Detected >= from:
		case x.State == Open || x.Closed > from:
			// It was open at from: follow it from its alarm on, which needs no more than is known.
			d.open = &tracked{Surge: Surge{Start: x.Start, Detected: x.Detected}}
			t = x.Detected
		default:
			d.remember(x)
		}
	}
	if d.open != nil {
		d.begins(t)
		d.begin()
		t++
	}
	for ; t < to; t++ {
		d.step(t, t >= from)
	}
	if d.open != nil {
		d.open.State = Open
		d.found = append(d.found, d.open.Surge)
	}
	return d.found
}
