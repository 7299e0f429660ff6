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
	born   Hour // the past begins here
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

// usable reports whether the window of w hours that ends with hour h is known and free of surges.
func (d *detector) usable(h Hour, w int) bool {
	from := h - Hour(w) + 1
	if from < d.born || d.open != nil && h >= d.open.Start {
		return false
	}
	for i := len(d.masked) - 1; i >= 0; i-- {
		if m := d.masked[i]; h >= m.from && from < m.to {
			return false
		}
	}
	return true
}

// expect is what the past says about the window of w hours that ends with hour t, nil if it says too little.
func (d *detector) expect(t Hour, w int) *expectation {
	d.values = d.values[:0]
	near := Hour(0)
	if w == 1 {
		near = 1 // A single hour has neighbours that say as much about it.
	}
	for day := 1; day <= d.p.Days; day++ {
		for shift := -near; shift <= near; shift++ {
			if h := t - Hour(24*day) + shift; d.usable(h, w) {
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

// step looks at hour t. Without alarms it only follows the surge that is open.
func (d *detector) step(t Hour, alarms bool) {
	switch {
	case d.open != nil:
		d.follow(t)
	case !alarms || d.count(t) < d.p.MinSources || t-d.born < Hour(d.p.Warmup):
	default:
		if p := d.smallest(t, max(d.rest, d.born)); p <= d.alpha {
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
	p := d.smallest(o.Detected, max(d.rest, d.born))
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
