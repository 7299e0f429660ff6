package store

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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

// countedConn counts what arrives.
type countedConn struct {
	net.Conn
	bytes *atomic.Int64
}

func (c countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err //nolint:wrapcheck // It is that of the connection.
}

// Who gives up at the first source is not sent all the others.
func TestFootprintsGivenUp(t *testing.T) {
	o := options(t)
	var arrived atomic.Int64
	o.DialContext = func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		return countedConn{conn, &arrived}, err
	}
	o.Compression = CompressionNone
	s := openWith(t, o)
	_, err := s.Migrate(t.Context())
	require.NoError(t, err)
	const source = "toIPv6(concat('::ffff:', IPv4NumToString(toUInt32("
	require.NoError(t, s.ddl(t.Context(), "INSERT INTO footprints_state SELECT toDate('2026-01-01'), "+source+"number / 10)))), 'tcp', number % 10, toIPv6('::1'), 'a', '', 1, 0, 0 FROM numbers(2000000)"))
	require.NoError(t, s.ddl(t.Context(), "INSERT INTO source_days_state (day, src, sensor, kind, events) SELECT toDate('2026-01-01'), "+source+"number)))), 'a', 'scan', 1 FROM numbers(200000)"))
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	enough := errors.New("enough")
	read := func(fn func(*Footprint) error) (int64, error) {
		before := arrived.Load()
		err := s.Footprints(t.Context(), from, from.Add(time.Hour), fn)
		return arrived.Load() - before, err
	}
	whole, err := read(func(*Footprint) error { return nil })
	require.NoError(t, err)
	part, err := read(func(*Footprint) error { return enough })
	require.ErrorIs(t, err, enough)
	require.Less(t, part, whole/2)
}
