package surge

import "math"

// longest is the longest scale, in hours.
const longest = 24

// scales are the lengths that are tested, in hours.
var scales = [...]int{1, 6, longest} //nolint:gochecknoglobals // A constant; Go has no constant arrays.

// span is the hours [from, to) of a past surge.
type span struct{ from, to Hour }

// detector is the state of looking at one series.
type detector struct {
	p      Params
	born   Hour   // the past begins here
	reborn []Hour // and here, when that is reached
	first  Hour
	counts []uint32
	alpha  float64

	masked []span   // past surges, by time
	rest   Hour     // end of the last surge: windows reach back no further
	open   *tracked // the surge that goes on, or nil
	found  []Surge
	values []reference // reused
	limits limits
}

// tracked is a surge that goes on.
type tracked struct {
	Surge
	warm Hour // last hour that kept it going
}

func (d *detector) count(h Hour) uint32 {
	if i := h - d.first; i >= 0 && i < Hour(len(d.counts)) {
		return d.counts[i]
	}
	return 0
}

// sum is the count of the window of w hours that ends with hour h.
func (d *detector) sum(h Hour, w int) float64 {
	total := 0.0
	for i := range w {
		total += float64(d.count(h - Hour(i)))
	}
	return total
}

// known reports whether the window of w hours that ends with hour h is of the past that is known, and not of the surge that goes on.
func (d *detector) known(h Hour, w int) bool {
	return h-Hour(w)+1 >= d.born && (d.open == nil || h < d.open.Start)
}

// surged reports whether a past surge was in the window of w hours that ends with hour h.
func (d *detector) surged(h Hour, w int) bool {
	from := h - Hour(w) + 1
	for i := len(d.masked) - 1; i >= 0; i-- {
		if m := d.masked[i]; h >= m.from && from < m.to {
			return true
		}
	}
	return false
}

// usual reports whether there was a surge at this time on each of the last seven days, or on this weekday in each of the last four weeks: what comes
// back like that is no surge any more, but what is usual then.
func (d *detector) usual(t Hour, w int) bool {
	return d.always(t, w, 24, 7) || d.always(t, w, 24*7, 4)
}

// always reports whether there was a surge in each of the last n windows like that of w hours up to t, one every so many hours.
func (d *detector) always(t Hour, w, every, n int) bool {
	for i := 1; i <= n; i++ {
		if h := t - Hour(every*i); !d.known(h, w) || !d.surged(h, w) {
			return false
		}
	}
	return every*n <= 24*d.p.Days
}

// expect is what the past says about the window of w hours that ends with hour t, nil if it says too little.
func (d *detector) expect(t Hour, w int) *expectation {
	d.values = d.values[:0]
	near := Hour(0)
	if w == 1 {
		near = 1 // A single hour has neighbours that say as much about it.
	}
	usual := d.usual(t, w)
	for day := 1; day <= d.p.Days; day++ {
		for shift := -near; shift <= near; shift++ {
			if h := t - Hour(24*day) + shift; d.known(h, w) && (usual || !d.surged(h, w)) {
				d.values = append(d.values, reference{weekday: day % 7, value: d.sum(h, w)})
			}
		}
	}
	return d.limits.fit(d.values, w)
}

// tail is the probability of as many sources as there were in the w hours up to t, or more.
func (d *detector) tail(t Hour, w int) float64 {
	e := d.expect(t, w)
	if e == nil {
		return 1
	}
	return e.tail(d.sum(t, w))
}

// smallest is the smallest tail over the scales whose window begins no earlier than since, corrected for their number.
func (d *detector) smallest(t, since Hour) float64 {
	least := 1.0
	for _, w := range scales {
		if t-Hour(w)+1 >= since {
			least = min(least, d.tail(t, w)*float64(len(scales)))
		}
	}
	return least
}

// begins lets the past begin anew with hour t, if recording did not later than then.
func (d *detector) begins(t Hour) {
	for len(d.reborn) > 0 && d.reborn[0] <= t {
		d.born, d.rest = max(d.born, d.reborn[0]), max(d.rest, d.reborn[0])
		d.reborn = d.reborn[1:]
	}
}

// judged is the first hour that may be part of a window that an alarm is about: no window reaches into a past surge, or into the time in which the usual is only learnt.
func (d *detector) judged() Hour { return max(d.rest, d.born+Hour(d.p.Warmup)) }

// step looks at hour t. Without alarms it only follows the surge that is open.
func (d *detector) step(t Hour, alarms bool) {
	d.begins(t)
	switch {
	case d.open != nil:
		d.follow(t)
	case !alarms || d.count(t) < d.p.MinSources || t-d.born < Hour(d.p.Warmup):
	default:
		if p := d.smallest(t, d.judged()); p <= d.alpha {
			d.open = &tracked{Surge: Surge{Start: d.onset(t), Detected: t}}
			d.begin()
		}
	}
}

// onset is where the excess that led to the alarm at t began.
func (d *detector) onset(t Hour) Hour {
	start, total := t, 0.0
	for h := max(t-longest+1, d.rest, d.born); h <= t; h++ {
		e := d.expect(h, 1)
		if e == nil {
			continue
		}
		if total == 0 {
			start = h
		}
		total = max(0, total+float64(d.count(h))-e.mean-e.deviation()/2)
	}
	if total == 0 {
		return t
	}
	return start
}

// begin takes the hours from the start of a surge to its alarm into account.
func (d *detector) begin() {
	o := d.open
	o.warm, o.End = o.Detected, o.Detected+1
	for h := o.Start; h <= o.Detected; h++ {
		d.account(h)
	}
	// The alarm was judged without the mask of the surge itself.
	d.open = nil
	p := d.smallest(o.Detected, d.judged())
	d.open = o
	d.witness(p)
}

// account adds hour h to the surge and returns the tail of the hour alone.
func (d *detector) account(h Hour) float64 {
	o, c := d.open, d.count(h)
	e := d.expect(h, 1)
	if e == nil {
		return 1
	}
	o.Excess += float64(c) - e.mean
	if o.Expected == 0 || c > o.Sources {
		o.Peak, o.Sources, o.Expected = h, c, e.mean
	}
	return e.tail(float64(c))
}

func (d *detector) witness(p float64) {
	d.open.Evidence = max(d.open.Evidence, -math.Log10(max(p, 1e-300)*d.p.FalsePerMonth/d.alpha))
}

// follow takes hour t into the surge, and ends it after enough rest, or when it has become the new normal.
func (d *detector) follow(t Hour) {
	const above = 0.05
	o := d.open
	p := d.account(t)
	d.witness(d.smallest(t, o.Start))
	if p <= above {
		o.End = t + 1
	}
	if p <= d.p.Keep || t-o.Start >= 5 && d.tail(t, 6) <= d.p.Keep {
		o.warm = t
	}
	switch {
	case t-o.Start+1 >= Hour(d.p.Settle):
		o.End = t + 1
		d.finish(t+1, Settled)
	case t-o.warm >= Hour(d.p.Quiet):
		d.finish(t+1, Ended)
	}
}

func (d *detector) finish(at Hour, state State) {
	o := d.open
	d.open = nil
	o.Closed, o.State = at, state
	d.found = append(d.found, o.Surge)
	d.remember(&o.Surge)
}

// remember keeps a surge that is over out of the past, or lets the past begin with it.
func (d *detector) remember(s *Surge) {
	if s.State == Settled {
		d.born, d.rest = max(d.born, s.Start), max(d.rest, s.Closed)
		return
	}
	d.masked = append(d.masked, span{s.Start, s.End})
	d.rest = max(d.rest, s.End)
}
