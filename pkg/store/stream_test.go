package store

import (
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The server merges the parts of the footprints as they stream: it neither sorts nor gathers all of them before the first row, which takes gigabytes.
func TestFootprintsStream(t *testing.T) {
	s := open(t)
	g := newTraffic(41)
	for _, token := range []string{"a", "b", "c"} {
		require.NoError(t, s.InsertEvents(t.Context(), g.batch(3000), 1, token))
	}
	pipeline := func(query string) string {
		rows, err := s.conn.Query(streamSettings(t.Context()), "EXPLAIN PIPELINE "+query, clickhouse.Named("from", "2026-01-01"), clickhouse.Named("to", "2027-01-01"))
		require.NoError(t, err)
		defer rows.Close() //nolint:errcheck // rows.Err tells.
		var text strings.Builder
		for rows.Next() {
			var line string
			require.NoError(t, rows.Scan(&line))
			text.WriteString(line + "\n")
		}
		require.NoError(t, rows.Err())
		return text.String()
	}
	cells := pipeline(cellsQuery)
	assert.Contains(t, cells, "MergingSortedTransform")
	assert.NotContains(t, cells, "MergeSortingTransform", "every row would be sorted")
	assert.NotContains(t, cells, "Aggregating", "every row would be gathered")
	// One row a source is left to sort, after its groups were finished one by one: no table of all groups is held.
	assert.Contains(t, pipeline(behavioursQuery), "AggregatingInOrderTransform")
	sorted := pipeline("SELECT dst, src FROM footprints_state WHERE day >= {from:Date} AND day < {to:Date} ORDER BY dst")
	assert.Contains(t, sorted, "MergeSortingTransform", "any other order has to be sorted, and this test would see it")
}
