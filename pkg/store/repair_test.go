package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
)

// What a server loses that is killed between remembering a block and having it: the block's part in one table, which
// it then believes to have. Any table and any month can be hit, events included; sending the batch again heals it.
func TestBatchCutOffIsMadeWhole(t *testing.T) {
	g := newTraffic(17)
	batches := []*event.Batch{g.batch(1500), g.batch(1500)}
	want := open(t)
	for i, b := range batches {
		require.NoError(t, want.InsertEvents(t.Context(), b, 1, fmt.Sprint(i)))
	}
	for _, lost := range []string{"events", "port_hours_state", "port_days_state", "source_days_state", "target_days_state", "path_days_state", "footprints_state", "demand_by_hour_state", "demand_by_day_state", "demand_by_dekad_state", "ports_by_hour_state", "ports_by_day_state", "ports_by_dekad_state", "victim_days_state", "victim_dekads_state", "sensor_days_state"} {
		t.Run(lost, func(t *testing.T) {
			s := open(t)
			require.NoError(t, s.InsertEvents(t.Context(), batches[0], 1, "0"))
			mark := Mark{Start: 1, End: 2, Token: "1"}
			require.NoError(t, s.PutMark(t.Context(), mark))
			// No merges, so that the part that was written last can be told; mutations need them not to be stopped.
			require.NoError(t, s.ddl(t.Context(), "ALTER TABLE "+lost+" MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1"))
			before := partsOf(t, s, lost)
			require.NoError(t, s.InsertEvents(t.Context(), batches[1], 1, "1"))
			for part := range partsOf(t, s, lost) {
				if !before[part] && strings.HasPrefix(part, "202602_") {
					lose(t, s, lost, part)
				}
			}
			assert.NotEqual(t, contents(t, want), contents(t, s), "nothing was lost")

			// The next process finds the mark without an end and sends the batch again.
			next := openWith(t, withDatabase(t, s))
			marks, err := next.Marks(t.Context(), mark.Head)
			require.NoError(t, err)
			require.Len(t, marks, 1)
			require.NoError(t, next.InsertEvents(t.Context(), batches[1], 1, marks[0].Token))
			assert.Equal(t, contents(t, want), contents(t, next))
			made, err := next.Repair(t.Context())
			require.NoError(t, err)
			assert.Empty(t, made)
			assert.Empty(t, table(t, next, "SELECT name FROM system.tables WHERE database = currentDatabase() AND (name LIKE '%rebuild%' OR name LIKE 'schema_lock%')"))
		})
	}
}

func withDatabase(t *testing.T, s *Store) Options {
	t.Helper()
	o := options(t)
	o.Database = s.Database()
	return o
}

func partsOf(t *testing.T, s *Store, name string) map[string]bool {
	t.Helper()
	parts := map[string]bool{}
	for _, p := range strings.Fields(table(t, s, "SELECT name FROM system.parts WHERE database = currentDatabase() AND active AND table = {t:String}", "t", name)) {
		parts[p] = true
	}
	return parts
}

// lose takes a part away while the table goes on believing that its block is in. Detaching a part forgets its block, so
// the rows are deleted in place instead.
func lose(t *testing.T, s *Store, name, part string) {
	t.Helper()
	require.NoError(t, s.ddl(t.Context(), "ALTER TABLE "+name+" DELETE WHERE _part = '"+part+"' SETTINGS mutations_sync = 2"))
}

// Repair makes anew what differs and nothing else, whatever made it differ.
func TestRepair(t *testing.T) {
	s := open(t)
	require.NoError(t, s.InsertEvents(t.Context(), newTraffic(18).batch(3000), 1, "a"))
	want := contents(t, s)
	made, err := s.Repair(t.Context())
	require.NoError(t, err)
	assert.Empty(t, made)

	require.NoError(t, s.ddl(t.Context(), "CREATE TABLE port_hours_rebuild_left AS port_hours_state ENGINE = MergeTree ORDER BY hour")) // by one that was killed
	require.NoError(t, s.ddl(t.Context(), "TRUNCATE TABLE port_hours_state"))
	require.NoError(t, s.ddl(t.Context(), "ALTER TABLE footprints_state DROP PARTITION ID '202603'"))
	require.NoError(t, s.ddl(t.Context(), "INSERT INTO target_days_state SELECT * FROM target_days_state WHERE day < '2026-02-01'"))
	made, err = s.Repair(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{
		"port_hours 202601", "target_days 202601", "port_hours 202602", "port_hours 202603", "footprints 202603", "port_hours 202604",
	}, made)
	assert.Equal(t, want, contents(t, s))
	assert.Equal(t, "0\n", table(t, s, "SELECT count() FROM system.tables WHERE database = currentDatabase() AND position(name, '_rebuild_') > 0"))
}

// What comes in while a month is made anew is not lost with the month that is replaced.
func TestRepairBesideInserts(t *testing.T) {
	s := open(t)
	g := newTraffic(8)
	g.span = 5 * 24 * time.Hour
	require.NoError(t, s.InsertEvents(t.Context(), g.batch(200), 1, "first"))
	enough, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-enough:
				ended <- nil
				return
			default:
			}
			if err := s.insertOnce(t.Context(), g.batch(20), 2, fmt.Sprint("b", i)); err != nil {
				ended <- err
				return
			}
		}
	}()
	for range 30 {
		require.NoError(t, s.ddl(t.Context(), "INSERT INTO port_days_state SELECT * FROM port_days_state"))
		_, err := s.repair(t.Context(), []uint32{202601})
		require.NoError(t, err)
	}
	close(enough)
	require.NoError(t, <-ended)
	for _, rollup := range rollups() {
		events, counted, err := s.compare(t.Context(), rollup, 202601)
		require.NoError(t, err)
		assert.Equal(t, events, counted, rollup)
	}
}

// Every feed is known to Repair.
func TestRepairKnowsEveryFeed(t *testing.T) {
	s := open(t)
	var feeds []string
	for _, name := range rollups() {
		require.Contains(t, countedBy(), name)
		feeds = append(feeds, name+"_feed")
	}
	assert.ElementsMatch(t, feeds, strings.Fields(table(t, s, "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'MaterializedView'")))
	for _, key := range strings.Fields(table(t, s, "SELECT DISTINCT replaceRegexpOne(partition_key, '\\\\(.*', '') FROM system.tables WHERE database = currentDatabase() AND (name LIKE '%_state' OR name = 'events')")) {
		assert.Equal(t, "toYYYYMM", key)
	}
}

func TestMonthsOf(t *testing.T) {
	b := new(event.Batch)
	for _, at := range []string{"2026-03-01T00:00:00Z", "2025-12-31T23:59:59.999999Z", "2026-03-31T23:00:00Z", "1970-01-01T00:00:00Z"} {
		when, err := time.Parse(time.RFC3339, at)
		require.NoError(t, err)
		b.Append(&event.Event{Time: when.UnixMicro()})
	}
	assert.Equal(t, []uint32{197001, 202512, 202603}, monthsOf(b))
}
