package store

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
)

// agedBatch has n probes of so many days ago, a second apart.
func agedBatch(n, daysAgo int) *event.Batch {
	b := new(event.Batch)
	at := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -daysAgo)
	for i := range n {
		b.Append(&event.Event{
			Time: at.Add(time.Duration(i) * time.Second).UnixMicro(), Src: event.IP{10: 0xff, 11: 0xff, 12: 203, 15: byte(i)}, Dst: event.IP{10: 0xff, 11: 0xff, 12: 198, 15: 1}, //nolint:gosec // Small.
			Dport: 23, Proto: event.ProtoTCP, Kind: event.KindScan, Technique: event.TechniqueSYN, Packets: 1,
		})
	}
	return b
}

// expire makes the server drop now what is too old, as a merge would sooner or later.
func expire(t *testing.T, s *Store, name string) {
	t.Helper()
	require.NoError(t, s.ddl(t.Context(), "ALTER TABLE "+name+" MATERIALIZE TTL SETTINGS mutations_sync = 2"))
	require.NoError(t, s.ddl(t.Context(), "OPTIMIZE TABLE "+name+" FINAL"))
}

func TestNothingExpiresUnlessSet(t *testing.T) {
	s := open(t)
	require.NoError(t, s.InsertEvents(t.Context(), agedBatch(10, 9000), 1, "a"))
	assert.Empty(t, table(t, s, "SELECT name FROM system.tables WHERE database = currentDatabase() AND position(engine_full, ' TTL ') > 0"))
	for _, k := range must(t, s) {
		assert.Zero(t, k.Days, k.Tier)
		assert.True(t, k.Since.IsZero(), k.Tier)
	}
	assert.Equal(t, "10\n", table(t, s, "SELECT count() FROM events"))
}

func must(t *testing.T, s *Store) []Kept {
	t.Helper()
	kept, err := s.Retention(t.Context())
	require.NoError(t, err)
	return kept
}

// Events expire, their rollups stay, and neither Repair nor a batch that was cut off takes that for damage.
func TestRollupsOutliveTheirEvents(t *testing.T) {
	s := open(t)
	var log bytes.Buffer
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	old, recent := agedBatch(10, 400), agedBatch(5, 1)
	require.NoError(t, s.InsertEvents(t.Context(), old, 1, "old"))
	require.NoError(t, s.InsertEvents(t.Context(), recent, 1, "recent"))
	want := contents(t, s)
	assert.Empty(t, log.String())

	rows, all, err := s.Expired(t.Context(), TierEvents, 180)
	require.NoError(t, err)
	assert.Equal(t, []uint64{10, 15}, []uint64{rows, all})
	for _, k := range must(t, s) {
		rows, all, err = s.Expired(t.Context(), k.Tier, 1000)
		require.NoError(t, err)
		assert.Equal(t, []uint64{0, k.Rows}, []uint64{rows, all}, "%s: over all its tables", k.Tier)
		_, all, err = s.Expired(t.Context(), k.Tier, 10)
		require.NoError(t, err)
		assert.Equal(t, k.Rows, all)
	}
	var dekad uint32 // days since the first began
	_, err = fmt.Sscan(table(t, s, "SELECT dateDiff('day', min(dekad), today()) FROM demand_by_dekad_state"), &dekad)
	require.NoError(t, err)
	rows, _, err = s.Expired(t.Context(), TierDays, dekad-9)
	require.NoError(t, err)
	more, _, err := s.Expired(t.Context(), TierDays, dekad-11)
	require.NoError(t, err)
	assert.Less(t, rows, more, "dekads are kept for ten days more")
	require.NoError(t, s.SetRetention(t.Context(), map[string]uint32{TierEvents: 180, TierHours: 3650}))
	expire(t, s, "events")
	assert.Equal(t, "5\n", table(t, s, "SELECT count() FROM events"))
	made, err := s.Repair(t.Context())
	require.NoError(t, err)
	assert.Empty(t, made)
	for name, digest := range contents(t, s) {
		if name != "events" {
			assert.Equal(t, want[name], digest, name)
		}
	}

	// The old batch again, as one that may have been cut off: its token drops it, and what expired is not sent again.
	s.noteCut("old")
	require.NoError(t, s.InsertEvents(t.Context(), old, 1, "old"))
	assert.Contains(t, log.String(), "older than the retention of events")
	assert.Contains(t, log.String(), "events=10")
	assert.Equal(t, want["demand_by_day"], contents(t, s)["demand_by_day"])

	// Lifted, the limit leaves no trace in the table, and what was dropped is still known to be.
	require.NoError(t, s.SetRetention(t.Context(), map[string]uint32{TierEvents: 0, TierHours: 0}))
	assert.Empty(t, table(t, s, "SELECT name FROM system.tables WHERE database = currentDatabase() AND position(engine_full, ' TTL ') > 0"))
	made, err = s.Repair(t.Context())
	require.NoError(t, err)
	assert.Empty(t, made)
	assert.Equal(t, want["footprints"], contents(t, s)["footprints"])
}

// Every tier drops its own tables and no other, and every table with rows of time is in a tier.
func TestEveryRollupIsInATier(t *testing.T) {
	s := open(t)
	tables := map[string]string{}
	for _, tier := range Tiers() {
		for _, name := range tierTables(tier) {
			require.Empty(t, tables[name], name)
			tables[name] = tier
		}
	}
	for _, name := range append([]string{"events"}, rollups()...) {
		if name != "events" {
			name += "_state"
		}
		assert.NotEmpty(t, tables[name], "%s is kept for how long?", name)
	}
	require.NoError(t, s.InsertEvents(t.Context(), agedBatch(10, 800), 1, "a"))
	require.NoError(t, s.SetRetention(t.Context(), map[string]uint32{TierEvents: 10, TierFootprints: 20, TierHours: 30, TierDays: 40}))
	for name := range tables {
		expire(t, s, name)
		assert.Equal(t, "0\n", table(t, s, "SELECT count() FROM "+name), name)
	}
	for _, k := range must(t, s) {
		assert.Zero(t, k.Rows, k.Tier)
		assert.Equal(t, map[string]uint32{TierEvents: 10, TierFootprints: 20, TierHours: 30, TierDays: 40}[k.Tier], k.Days)
	}
}

// A hundred years from now is behind what DateTime can hold, and must not be taken for 1990.
func TestLongRetentionDropsNothing(t *testing.T) {
	s := open(t)
	require.NoError(t, s.InsertEvents(t.Context(), agedBatch(10, 300), 1, "a"))
	want := contents(t, s)
	require.NoError(t, s.SetRetention(t.Context(), map[string]uint32{TierEvents: 36500, TierFootprints: 36500, TierHours: 36500, TierDays: 36500}))
	for _, tier := range Tiers() {
		for _, name := range tierTables(tier) {
			expire(t, s, name)
		}
	}
	assert.Equal(t, want, contents(t, s))
}

func TestRetentionThatCannotBe(t *testing.T) {
	s := open(t)
	for _, c := range []struct {
		change map[string]uint32
		says   string
	}{
		{map[string]uint32{"event": 1}, `did you mean "events"`},
		{map[string]uint32{TierEvents: 100, TierHours: 10}, "events would be kept for 100 days and hours for 10 days"},
		{map[string]uint32{TierHours: 10}, "events would be kept for ever"},
		{map[string]uint32{TierDays: 10}, "hours would be kept for ever"},
		{map[string]uint32{TierEvents: 1, TierHours: 1, TierDays: 10}, "footprints would be kept for ever and days for 10 days"},
		{map[string]uint32{TierEvents: 1 << 20}, "a hundred years"},
	} {
		err := s.SetRetention(t.Context(), c.change)
		require.ErrorIs(t, err, ErrRetention)
		assert.Contains(t, err.Error(), c.says)
	}
	assert.Empty(t, strings.TrimSpace(table(t, s, "SELECT * FROM retention")))
}

func TestHorizon(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, n) }
	now := day(1000)
	for name, c := range map[string]struct {
		history []retained
		want    time.Time
	}{
		"never set":              {nil, time.Time{}},
		"in force":               {[]retained{{TierEvents, 100, day(0)}}, day(900)},
		"of another tier":        {[]retained{{TierHours, 100, day(0)}}, time.Time{}},
		"lifted":                 {[]retained{{TierEvents, 100, day(0)}, {TierEvents, 0, day(500)}}, day(400)},
		"longer than it was":     {[]retained{{TierEvents, 100, day(0)}, {TierEvents, 900, day(990)}}, day(890)},
		"shorter than it was":    {[]retained{{TierEvents, 900, day(0)}, {TierEvents, 100, day(500)}}, day(900)},
		"set again after lifted": {[]retained{{TierEvents, 10, day(0)}, {TierEvents, 0, day(500)}, {TierEvents, 990, day(600)}}, day(490)},
	} {
		assert.Equal(t, c.want, horizon(c.history, TierEvents, now), name)
	}
}
