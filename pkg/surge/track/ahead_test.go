package track

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
	"murmuration/pkg/store"
	"murmuration/pkg/surge"
)

// probe stores one probe of a time.
func probe(t *testing.T, s *store.Store, at time.Time) {
	t.Helper()
	b := new(event.Batch)
	b.Append(&event.Event{
		Time: at.UnixMicro(), Src: source(1), Dst: event.IP{10: 0xff, 11: 0xff, 12: 198, 15: 1},
		Kind: event.KindScan, Technique: event.TechniqueSYN, Proto: event.ProtoTCP, Dport: 22, Packets: 1,
	})
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, at.String()))
}

// runAt is run by a clock, and returns what it logged.
func runAt(t *testing.T, s *store.Store, now, end time.Time) (*Report, string) {
	t.Helper()
	var log bytes.Buffer
	rep, err := Run(t.Context(), s, Options{At: end, Now: now, Params: surge.DefaultParams(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	return rep, log.String()
}

// A packet with a time to come has no hour decided about before it came in, and silences nothing.
func TestEventsAheadOfTheClock(t *testing.T) {
	s := open(t)
	present := first.Add(10 * 24 * time.Hour)
	now := present.Add(25 * time.Minute)
	probe(t, s, first)
	probe(t, s, present.Add(-3*time.Hour))
	probe(t, s, present.AddDate(0, 13, 0))
	rep, log := runAt(t, s, now, time.Time{})
	assert.Equal(t, present.Add(-3*time.Hour), rep.To, "the hour of the newest event that can be")
	assert.Contains(t, log, "level=WARN")
	assert.Contains(t, log, "newest="+present.AddDate(0, 13, 0).Format(time.RFC3339))
	assert.Contains(t, log, `ahead="395 days"`)

	probe(t, s, present.Add(2*time.Hour))
	rep, _ = runAt(t, s, now.Add(2*time.Hour), time.Time{})
	assert.Equal(t, []time.Time{present.Add(-3 * time.Hour), present.Add(2 * time.Hour)}, []time.Time{rep.From, rep.To}, "it goes on where it ended")
}

// Clocks differ: what is less than an hour ahead is left for later without a word.
func TestAClockThatIsALittleSlow(t *testing.T) {
	s := open(t)
	present := first.Add(10 * 24 * time.Hour)
	probe(t, s, present.Add(-3*time.Hour))
	probe(t, s, present.Add(70*time.Minute))
	rep, log := runAt(t, s, present.Add(25*time.Minute), time.Time{})
	assert.Equal(t, present.Add(-3*time.Hour), rep.To)
	assert.NotContains(t, log, "level=WARN")
}

// Hours to come are decided about where they are named and hold events, and then again once they are there.
func TestHoursToComeThatAreNamed(t *testing.T) {
	s := open(t)
	present := first.Add(10 * 24 * time.Hour)
	now, later := present.Add(25*time.Minute), present.Add(48*time.Hour)
	probe(t, s, first)
	_, err := Run(t.Context(), s, Options{At: later, Now: now, Params: surge.DefaultParams()})
	require.ErrorIs(t, err, ErrAhead)
	require.ErrorContains(t, err, later.Format(time.RFC3339)+" is ahead of the clock ("+now.Format(time.RFC3339)+") and behind the newest event ("+first.Format(time.RFC3339)+")")
	rep, _ := runAt(t, s, now, present.Add(time.Hour))
	assert.Equal(t, present.Add(time.Hour), rep.To, "the hour that goes on may be named")

	probe(t, s, later)
	rep, log := runAt(t, s, now, later.Add(time.Hour))
	assert.Equal(t, later.Add(time.Hour), rep.To)
	assert.NotContains(t, log, "level=WARN", "who names it knows of it")
	for h := range 3 {
		probe(t, s, present.Add(time.Duration(h)*time.Hour))
	}
	rep, _ = runAt(t, s, now.Add(3*time.Hour), time.Time{})
	assert.Equal(t, []time.Time{present, present.Add(2 * time.Hour)}, []time.Time{rep.From, rep.To}, "what was to come was not decided about")
}

func TestNothingButEventsAheadOfTheClock(t *testing.T) {
	s := open(t)
	probe(t, s, first)
	_, err := Run(t.Context(), s, Options{Now: first.AddDate(0, -1, 0), Params: surge.DefaultParams()})
	require.ErrorIs(t, err, ErrNoData)
	assert.ErrorContains(t, err, "ahead of the clock")
	assert.ErrorContains(t, err, "the newest event is at "+first.Format(time.RFC3339))
}
