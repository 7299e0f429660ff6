package track

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
	"murmuration/pkg/event"
	"murmuration/pkg/store"
	"murmuration/pkg/surge"
)

// Hours that the retention dropped are no silence, after which all that goes on would be a surge: the data begins behind them, and the run says so.
func TestDroppedHoursAreNoSilence(t *testing.T) {
	s := open(t)
	now := time.Now().UTC().Truncate(time.Hour)
	b := new(event.Batch)
	for h := 120 * 24; h > 0; h-- {
		for i := range 20 {
			b.Append(&event.Event{
				Time: now.Add(-time.Duration(h)*time.Hour + time.Minute).UnixMicro(), Src: source(20*h + i), Dst: event.IP{10: 0xff, 11: 0xff, 12: 198, 15: 1},
				Kind: event.KindScan, Technique: event.TechniqueSYN, Proto: event.ProtoTCP, Dport: 22, Packets: 1,
			})
		}
	}
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, "a"))
	whole := run(t, s, Window{All: true}, now)
	require.Equal(t, now.Add(-120*24*time.Hour), whole.From)
	require.Empty(t, whole.Notes, "nothing is dropped unless that is set")
	require.Empty(t, whole.Found)

	require.NoError(t, s.SetRetention(t.Context(), map[string]uint32{store.TierEvents: 50, store.TierHours: 50}))
	enginetest.Exec(t, "ALTER TABLE "+s.Database()+".port_hours_state MATERIALIZE TTL SETTINGS mutations_sync = 2")
	enginetest.Exec(t, "OPTIMIZE TABLE "+s.Database()+".port_hours_state FINAL")
	first, err := s.FirstHour(t.Context())
	require.NoError(t, err)
	require.True(t, first.After(whole.From) && first.Before(now.Add(-49*24*time.Hour)), "whole months are dropped: %s", first)

	left := run(t, s, Window{All: true}, now)
	assert.Empty(t, left.Found, "what goes on is no surge")
	assert.Equal(t, first, left.From)
	require.Len(t, left.Notes, 1)
	assert.Contains(t, left.Notes[0], "its hours of before "+first.Format(time.RFC3339)+" were dropped")
	last, ok, err := s.LastSurgeRun(t.Context())
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, first, last.From, "the record says which hours were looked at")

	recent := run(t, s, Window{Length: 48 * time.Hour}, now)
	assert.Empty(t, recent.Notes, "its 28 days of past are there")
	_, err = Run(t.Context(), s, Options{Window: Window{All: true}, At: whole.From.Add(48 * time.Hour), Params: surge.DefaultParams()})
	require.ErrorIs(t, err, ErrNoData)
	assert.ErrorContains(t, err, "hours of before "+first.Format(time.RFC3339)+" were dropped")
}
