package campaign

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"murmuration/pkg/store"
)

// hoursOf makes the hours of a sensor from counts, as the store returns them: silent hours are missing.
func hoursOf(counts []uint64) []store.SensorHour {
	var out []store.SensorHour
	for i, n := range counts {
		if n > 0 {
			out = append(out, store.SensorHour{Sensor: "s", Hour: at(0, float64(i)), Events: n})
		}
	}
	return out
}

// series is n hours with the count that f gives to each.
func series(n int, f func(h int) uint64) []uint64 {
	out := make([]uint64, n)
	for h := range out {
		out[h] = f(h)
	}
	return out
}

func TestSilences(t *testing.T) {
	steady := func(n uint64) func(int) uint64 { return func(int) uint64 { return n } }
	without := func(f func(int) uint64, from, to int) func(int) uint64 {
		return func(h int) uint64 {
			if h >= from && h < to {
				return 0
			}
			return f(h)
		}
	}
	nights := func(h int) uint64 { // nothing from 22 to 6
		if h%24 >= 22 || h%24 < 6 {
			return 0
		}
		return 40
	}
	for _, x := range []struct {
		name   string
		counts []uint64
		want   [][2]int
	}{
		{"always alive", series(500, steady(100)), nil},
		{"one hour of a busy sensor", series(500, without(steady(100), 300, 301)), [][2]int{{300, 301}}},
		{"two days", series(500, without(steady(100), 300, 348)), [][2]int{{300, 348}}},
		{"longer than its past is long", series(1500, without(steady(100), 100, 1400)), [][2]int{{100, 1400}}},
		{"until the end", series(500, without(steady(100), 480, 500)), [][2]int{{480, 500}}},
		{"one hour of a sensor that sees one event an hour", series(500, without(steady(1), 300, 301)), nil},
		{"six hours of it", series(500, without(steady(1), 300, 306)), [][2]int{{300, 306}}},
		{"quiet every night", series(24*30, nights), nil},
		{"quiet every night, and a day of nothing", series(24*30, without(nights, 24*20, 24*21)), [][2]int{{24*19 + 22, 24*21 + 6}}},
		{"an event every tenth hour", series(2000, func(h int) uint64 { return uint64(h+1) % 10 / 9 }), nil},
		{"born an hour ago", series(3, without(steady(100), 1, 3)), nil},
	} {
		counts := x.counts
		if counts[0] == 0 {
			counts[0] = 1 // A sensor's life begins with an event.
		}
		var got [][2]int
		for _, g := range silences(hoursOf(counts), at(0, float64(len(counts)))) {
			got = append(got, [2]int{int(g.Since.Sub(epoch) / time.Hour), int(g.Until.Sub(epoch) / time.Hour)})
		}
		require.Equal(t, x.want, got, x.name)
	}
}

// Gaps are silent, apart from each other, in order, and inside the sensor's life; the hour that is not over is none.
func TestSilencesAreSilent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counts := rapid.SliceOfN(rapid.SampledFrom([]uint64{0, 0, 1, 30, 500}), 1, 400).Draw(t, "counts")
		counts[0] = 1
		for range rapid.IntRange(0, 3).Draw(t, "outages") {
			from := rapid.IntRange(1, 400).Draw(t, "from")
			for h := from; h < min(from+rapid.IntRange(1, 90).Draw(t, "hours"), len(counts)); h++ {
				counts[h] = 0
			}
		}
		end := at(0, float64(len(counts))).Add(30 * time.Minute)
		before := epoch
		for _, g := range silences(hoursOf(counts), end) {
			require.True(t, g.Since.After(before) && g.Until.After(g.Since) && !g.Until.After(at(0, float64(len(counts)))))
			for h := g.Since; h.Before(g.Until); h = h.Add(time.Hour) {
				require.Zero(t, counts[h.Sub(epoch)/time.Hour])
			}
			before = g.Until
		}
	})
}

func TestBlindIsWhenNobodyLooks(t *testing.T) {
	gap := func(sensor string, from, to float64) store.SensorGap {
		return store.SensorGap{Sensor: sensor, Since: at(0, from), Until: at(0, to)}
	}
	w := &watch{sensors: []string{"a", "b"}, gaps: []store.SensorGap{gap("a", 1, 5), gap("a", 8, 9), gap("b", 3, 6), gap("b", 7, 8)}}
	h := func(x float64) int64 { return at(0, x).Unix() }
	require.Equal(t, []interval{{h(3), h(5)}}, w.blind([]string{"a", "b"}))
	require.Equal(t, []interval{{h(1), h(5)}, {h(8), h(9)}}, w.blind([]string{"a"}))
	require.Empty(t, w.blind(nil))
	require.EqualValues(t, 10*hour-2*hour, lived(w.blind([]string{"a", "b"}), h(0), h(10)))
	require.EqualValues(t, 1*hour, lived(w.blind([]string{"a", "b"}), h(4), h(6)))
}

// What a dead sensor did not see at either end of the window is outside of the time that detection thinks was watched.
func TestBoundsOfATelescope(t *testing.T) {
	north := store.Telescope{Prefix: netip.MustParsePrefix("198.18.0.0/24"), Sensor: "a"}
	south := store.Telescope{Prefix: netip.MustParsePrefix("198.18.1.0/24"), Sensor: "b", Since: at(0, 2)}
	gap := func(sensor string, from, to float64) store.SensorGap {
		return store.SensorGap{Sensor: sensor, Since: at(0, from), Until: at(0, to)}
	}
	for _, x := range []struct {
		name         string
		gaps         []store.SensorGap
		since, until time.Time
	}{
		{"no gap", nil, time.Time{}, time.Time{}},
		{"of the other sensor", []store.SensorGap{gap("b", 0, 5), gap("b", 20, 24)}, time.Time{}, time.Time{}},
		{"at the start", []store.SensorGap{gap("a", -3, 5)}, at(0, 5), time.Time{}},
		{"at the end", []store.SensorGap{gap("a", 20, 24)}, time.Time{}, at(0, 20)},
		{"in the middle", []store.SensorGap{gap("a", 8, 10)}, time.Time{}, time.Time{}},
		{"at both ends", []store.SensorGap{gap("a", 0, 3), gap("a", 23, 24)}, at(0, 3), at(0, 23)},
	} {
		w := &watch{telescopes: []store.Telescope{north, south}, sensors: []string{"a", "b"}, from: at(0, 0), to: at(0, 24).Add(20 * time.Minute), gaps: x.gaps}
		since, until := w.bounds(north)
		require.Equal(t, x.since, since, x.name)
		require.Equal(t, x.until, until, x.name)
		since, _ = w.bounds(south)
		require.False(t, since.Before(south.Since), x.name)
	}
}
