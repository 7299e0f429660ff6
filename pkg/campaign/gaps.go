package campaign

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"murmuration/pkg/store"
)

// How a dead sensor is told from a quiet one.
const (
	past = 28 * 24 // hours of a sensor's past that are looked at
	// busy is the least number of events in every hour of the past that makes a single silent hour a gap.
	busy = 20
	// quietBelow is the probability of a silence, by the sensor's own past, below which it is a gap. A year has 10^4
	// hours: one false gap in a hundred years of a sensor.
	quietBelow = 1e-6
	leastPast  = 6 // hours without which nothing is usual
)

// watch is what the sensors did up to the end of a window: which there are, and when which was dead.
type watch struct {
	telescopes []store.Telescope
	from, to   time.Time
	sensors    []string          // every sensor that ever saw anything
	gaps       []store.SensorGap // by sensor and time, also before the window
}

// watched reads the hours of all sensors and finds their gaps from since, at the latest from, up to to. A sensor that saw
// nothing in all this time, but once did, is dead throughout; from kept on only, before which hours may have been dropped.
func watched(ctx context.Context, st *store.Store, telescopes []store.Telescope, since, from, to, kept time.Time) (*watch, error) {
	start := earlier(since, from).Add(-past * time.Hour).Truncate(time.Hour)
	hours, err := st.SensorHours(ctx, start, to)
	if err != nil {
		return nil, fmt.Errorf("read what the sensors saw: %w", err)
	}
	w := &watch{telescopes: telescopes, from: from, to: to}
	if w.sensors, err = st.Sensors(ctx, to); err != nil {
		return nil, fmt.Errorf("read the names of the sensors: %w", err)
	}
	for _, sensor := range w.sensors {
		end := w.retired(sensor, to)
		n := slices.IndexFunc(hours, func(h store.SensorHour) bool { return h.Sensor != sensor })
		if n < 0 {
			n = len(hours)
		}
		if dead := later(start, kept.Truncate(time.Hour)); n == 0 && dead.Before(end) {
			w.gaps = append(w.gaps, store.SensorGap{Sensor: sensor, Since: dead, Until: end})
		}
		if n > 0 {
			w.gaps = append(w.gaps, silences(hours[:n], end)...)
		}
		hours = hours[n:]
	}
	return w, nil
}

// inWindow returns the gaps as far as they lie in the window.
func (w *watch) inWindow() []store.SensorGap {
	var out []store.SensorGap
	for _, g := range w.gaps {
		g.Since, g.Until = later(g.Since, w.from), earlier(g.Until, w.to)
		if g.Since.Before(g.Until) {
			out = append(out, g)
		}
	}
	return out
}

// retired returns until when a sensor is expected to see anything: to, unless every telescope of its own ended before.
func (w *watch) retired(sensor string, to time.Time) time.Time {
	var end time.Time
	for _, t := range w.telescopes {
		if t.Sensor != sensor {
			continue
		}
		if t.Until.IsZero() {
			return to
		}
		end = later(end, t.Until)
	}
	if end.IsZero() {
		return to
	}
	return earlier(end, to)
}

// silences finds the times in which a sensor was dead, by its own past: runs of hours without any event, which would be
// less likely than quietBelow if the sensor lived. How likely a silent hour is, is told by the same hour of the day
// on up to 28 days before (a sensor that is quiet every night is not dead at night), or by all its hours before where
// it has not three such days. Hours that were gaps themselves are no past. Hours before the sensor's first event are no
// gap, and neither is the last hour before end unless it is over.
func silences(hours []store.SensorHour, end time.Time) []store.SensorGap {
	first := hours[0].Hour
	n := int(end.Sub(first) / time.Hour)
	if n <= 0 {
		return nil
	}
	counts := make([]uint64, n)
	for _, h := range hours {
		if i := int(h.Hour.Sub(first) / time.Hour); i < n {
			counts[i] = h.Events
		}
	}
	dead := make([]bool, n)
	var gaps []store.SensorGap
	for a := 0; a < n; a++ {
		if counts[a] > 0 {
			continue
		}
		b := a
		for b < n && counts[b] == 0 {
			b++
		}
		if usual, ok := unlikely(counts, dead, a, b); ok {
			for i := a; i < b; i++ {
				dead[i] = true
			}
			gaps = append(gaps, store.SensorGap{
				Sensor: hours[0].Sensor, Since: first.Add(time.Duration(a) * time.Hour), Until: first.Add(time.Duration(b) * time.Hour), Usual: usual,
			})
		}
		a = b
	}
	return gaps
}

// unlikely judges the silence of the hours [a, b), and says how many events an hour are usual in them.
func unlikely(counts []uint64, dead []bool, a, b int) (usual float64, ok bool) {
	chance := 0.0
	for h := a; h < b; h++ {
		refs := references(counts, dead, a, h)
		if len(refs) == 0 {
			continue
		}
		silent, least, sum := 0, uint64(math.MaxUint64), 0.0
		for _, c := range refs {
			least, sum = min(least, c), sum+float64(c)
			if c == 0 {
				silent++
			}
		}
		if least >= busy {
			chance = math.Inf(-1)
		}
		// Krichevsky and Trofimov's estimate of the share of silent hours: never 0, however long the past.
		chance += math.Log((float64(silent) + 0.5) / float64(len(refs)+1))
		usual += sum / float64(len(refs)) / float64(b-a)
	}
	return usual, chance <= math.Log(quietBelow)
}

// references returns what the sensor saw in the hours that tell what is usual in hour h, all before hour a.
func references(counts []uint64, dead []bool, a, h int) []uint64 {
	const days = past / 24
	var out []uint64
	for i := h - 24; i >= 0 && len(out) < days; i -= 24 {
		if i < a && !dead[i] {
			out = append(out, counts[i])
		}
	}
	if len(out) >= 3 {
		return out
	}
	out = out[:0]
	for i := a - 1; i >= 0 && len(out) < past; i-- {
		if !dead[i] {
			out = append(out, counts[i])
		}
	}
	if len(out) < leastPast {
		return nil
	}
	return out
}

// watchers returns the sensors that watch any of the prefixes: those of the telescopes over them, or all sensors where
// that is not known.
func (w *watch) watchers(prefixes []netip.Prefix) []string {
	var out []string
	for _, t := range w.telescopes {
		if !slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Overlaps(t.Prefix) }) {
			continue
		}
		if !slices.Contains(w.sensors, t.Sensor) {
			return w.sensors
		}
		if !slices.Contains(out, t.Sensor) {
			out = append(out, t.Sensor)
		}
	}
	if len(out) == 0 {
		return w.sensors
	}
	return out
}

// interval is [from, to) in seconds since 1970-01-01 UTC.
type interval struct{ from, to int64 }

// blind returns the times in which none of the sensors lived, in order.
func (w *watch) blind(sensors []string) []interval {
	if len(sensors) == 0 {
		return nil
	}
	var edges []interval // from: a time, to: +1 where a gap begins, -1 where it ends
	for _, g := range w.gaps {
		if slices.Contains(sensors, g.Sensor) {
			edges = append(edges, interval{g.Since.Unix(), 1}, interval{g.Until.Unix(), -1})
		}
	}
	slices.SortFunc(edges, func(a, b interval) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	var out []interval
	asleep := 0
	for _, e := range edges {
		if asleep == len(sensors) && e.to < 0 {
			out[len(out)-1].to = e.from
		}
		if asleep += int(e.to); asleep == len(sensors) {
			out = append(out, interval{e.from, e.from})
		}
	}
	return out
}

// lived returns how many of the seconds of [from, to) lie outside the blind intervals.
func lived(blind []interval, from, to int64) int64 {
	if to <= from {
		return 0
	}
	seconds := to - from
	for _, b := range blind {
		seconds -= max(0, min(b.to, to)-max(b.from, from))
	}
	return seconds
}

// bounds returns the part of the window in which a telescope's sensor lived, by its own since and until and by gaps at the
// ends of the window; zero is unbounded.
func (w *watch) bounds(t store.Telescope) (since, until time.Time) {
	since, until = t.Since, t.Until
	for _, b := range w.blind(w.watchers([]netip.Prefix{t.Prefix})) {
		start, end := time.Unix(b.from, 0).UTC(), time.Unix(b.to, 0).UTC()
		if !start.After(w.from) && end.After(since) {
			since = end
		}
		if !end.Before(w.to.Truncate(time.Hour)) && (until.IsZero() || start.Before(until)) && start.After(since) {
			until = start
		}
	}
	return since, until
}

// notes says what was not seen, a sentence a sensor.
func (w *watch) notes() []string {
	var out []string
	gaps := w.inWindow()
	for i := 0; i < len(gaps); {
		name := gaps[i].Sensor
		var times []string
		hours := 0.0
		for ; i < len(gaps) && gaps[i].Sensor == name; i++ {
			g := gaps[i]
			times = append(times, g.Since.Format("2006-01-02 15:04")+" to "+g.Until.Format("2006-01-02 15:04"))
			hours += g.Until.Sub(g.Since).Hours()
		}
		const most = 5
		if len(times) > most {
			times = append(times[:most], fmt.Sprintf("%d more", len(times)-most))
		}
		if name == "" {
			name = "(without a name)"
		}
		out = append(out, fmt.Sprintf("sensor %s saw nothing for %.0f hours in which it usually sees something (%s UTC): what happened then is not known, and silence in it counts for nothing",
			name, hours, strings.Join(times, ", ")))
	}
	return out
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
