package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"murmuration/pkg/event"
)

// Footprint is what one source touched in a time, and how. Element i of every slice belongs to cell i; cells
// are distinct and sorted by protocol, port, target, sensor and object.
type Footprint struct {
	Src event.IP

	Tool      string // decided over all SYNs by the rules of package fingerprint, or ""
	Signature string // commonest SYN signature, or ""
	TTLClass  uint8  // class of the commonest TTL: 32, 64, 128 or 255; 0 unknown
	UserAgent string // commonest HTTP user agent, or ""
	Payload   uint64 // commonest payload hash of its UDP probes, or 0
	Packets   uint64

	Proto  []event.Proto
	Port   []uint16
	Dst    []event.IP
	Sensor []string
	Object []string // method and path of a request with a space between, "" for probes
	Events []uint64
	First  []int64 // seconds since 1970-01-01 UTC
	Last   []int64
}

func (f *Footprint) reset(src event.IP) {
	*f = Footprint{
		Src: src, Proto: f.Proto[:0], Port: f.Port[:0], Dst: f.Dst[:0], Sensor: f.Sensor[:0], Object: f.Object[:0],
		Events: f.Events[:0], First: f.First[:0], Last: f.Last[:0],
	}
}

// Window returns the whole UTC days that hold [from, to): footprints are kept by day.
func Window(from, to time.Time) (time.Time, time.Time) {
	const day = 24 * time.Hour
	start, end := from.UTC().Truncate(day), to.UTC().Truncate(day)
	if end.Before(to) {
		end = end.Add(day)
	}
	return start, end
}

// streamSettings make the server stream what it reads or aggregates in the order of the table.
func streamSettings(ctx context.Context) context.Context {
	return clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
		"optimize_aggregation_in_order": 1,
		"optimize_read_in_order":        1,
		"max_execution_time":            0,
	}))
}

// The rows of a cell, one a day or, unmerged, more, come one after the other and are put together here: the table is in that order, so the server merges its
// parts as they stream. To GROUP BY the cell there makes it sort all of them once more: 34 s and gigabytes before the first row at 10^8 events, instead of 0.2 s.
const cellsQuery = `SELECT src, proto, dport, dst, sensor, object, events, toUnixTimestamp(first_seen), toUnixTimestamp(last_seen)
	FROM footprints_state WHERE day >= {from:Date} AND day < {to:Date}
	ORDER BY src, proto, dport, dst, sensor, object`

const behavioursQuery = `SELECT src, tool, signature, ttl_class, user_agent, payload_hash, packets
	FROM source_behaviour(from = {from:Date}, to = {to:Date}) ORDER BY src`

// FootprintSize tells what Footprints of the same time are going to bring, before it is read: at most so many cells, of sources with a standard error of 1.6 %.
func (s *Store) FootprintSize(ctx context.Context, from, to time.Time) (cells, sources uint64, err error) {
	from, to = Window(from, to)
	err = s.retry(ctx, "measure the footprints", func() error {
		return s.conn.QueryRow(ctx, `SELECT
				(SELECT count() FROM footprints_state WHERE day >= {from:Date} AND day < {to:Date}),
				(SELECT uniqCombined64(12)(src) FROM source_days_state WHERE kind IN ('scan', 'request') AND day >= {from:Date} AND day < {to:Date})`,
			clickhouse.Named("from", from.Format(time.DateOnly)), clickhouse.Named("to", to.Format(time.DateOnly))).Scan(&cells, &sources)
	})
	return cells, sources, err
}

// Footprints calls fn with every source that probed or requested something on the UTC days that hold
// [from, to), in the order of their addresses. The footprint is reused after fn returns. Memory is
// bounded by the largest footprint.
func (s *Store) Footprints(ctx context.Context, from, to time.Time, fn func(*Footprint) error) error {
	from, to = Window(from, to)
	ctx, cancel := context.WithCancel(ctx)
	days := []any{clickhouse.Named("from", from.Format(time.DateOnly)), clickhouse.Named("to", to.Format(time.DateOnly))}
	cells, err := s.conn.Query(streamSettings(ctx), cellsQuery, days...)
	if err != nil {
		cancel()
		return fmt.Errorf("read footprints: %w", s.explain(err))
	}
	defer giveUp(cancel, cells)
	behaviours, err := s.conn.Query(streamSettings(ctx), behavioursQuery, days...)
	if err != nil {
		return fmt.Errorf("read behaviour: %w", s.explain(err))
	}
	defer giveUp(cancel, behaviours)
	m := merger{cells: cells, behaviours: behaviours, fn: fn}
	if err := m.run(); err != nil {
		return fmt.Errorf("read footprints: %w", s.explain(err))
	}
	return nil
}

// giveUp ends a stream: closed before its query is given up, it would be read to its end first.
func giveUp(cancel context.CancelFunc, rows driver.Rows) {
	cancel()
	_ = rows.Close() // rows.Err tells.
}

// merger joins the two streams, both in the order of the source.
type merger struct {
	cells, behaviours driver.Rows
	fn                func(*Footprint) error
	current           Footprint
}

// cell is one row of the stream of cells: what a source did to a cell on a day, or a part of it.
type cell struct {
	src, dst       event.IP
	proto          int8
	port           uint16
	sensor, object string
	events         uint64
	first, last    uint32
}

var errOrder = errors.New("the streams of cells and behaviour do not fit: was something loaded meanwhile? Try again")

func (m *merger) run() error {
	open := false
	for m.cells.Next() {
		var c cell
		if err := m.cells.Scan(&c.src, &c.proto, &c.port, &c.dst, &c.sensor, &c.object, &c.events, &c.first, &c.last); err != nil {
			return err //nolint:wrapcheck // Footprints wraps it.
		}
		if !open || c.src != m.current.Src {
			if open {
				if err := m.fn(&m.current); err != nil {
					return err
				}
			}
			open = true
			m.current.reset(c.src)
			if err := m.behaviour(); err != nil {
				return err
			}
		}
		m.add(&c)
	}
	if err := m.cells.Err(); err != nil {
		return err //nolint:wrapcheck // Footprints wraps it.
	}
	if open {
		return m.fn(&m.current)
	}
	return nil
}

// add puts a row to the cell that it is of, which is the last one or a new one.
func (m *merger) add(c *cell) {
	f := &m.current
	if i := len(f.Dst) - 1; i >= 0 && f.Dst[i] == c.dst && f.Port[i] == c.port && f.Proto[i] == event.Proto(c.proto) && f.Sensor[i] == c.sensor && f.Object[i] == c.object {
		f.Events[i] += c.events
		f.First[i], f.Last[i] = min(f.First[i], int64(c.first)), max(f.Last[i], int64(c.last))
		return
	}
	f.Proto, f.Port, f.Dst = append(f.Proto, event.Proto(c.proto)), append(f.Port, c.port), append(f.Dst, c.dst)
	f.Sensor, f.Object = append(f.Sensor, c.sensor), append(f.Object, c.object)
	f.Events, f.First, f.Last = append(f.Events, c.events), append(f.First, int64(c.first)), append(f.Last, int64(c.last))
}

// behaviour reads on to the behaviour of the current source. Sources that came between the two queries
// are in one of them only: a behaviour without cells is passed over.
func (m *merger) behaviour() error {
	f := &m.current
	for m.behaviours.Next() {
		var src event.IP
		if err := m.behaviours.Scan(&src, &f.Tool, &f.Signature, &f.TTLClass, &f.UserAgent, &f.Payload, &f.Packets); err != nil {
			return err //nolint:wrapcheck // Footprints wraps it.
		}
		if src == f.Src {
			return nil
		}
	}
	if err := m.behaviours.Err(); err != nil {
		return err //nolint:wrapcheck // Footprints wraps it.
	}
	return errOrder
}

// TargetsSeen returns the distinct addresses that were probed on the UTC days that hold [from, to), in order.
func (s *Store) TargetsSeen(ctx context.Context, from, to time.Time) ([]event.IP, error) {
	from, to = Window(from, to)
	rows, err := s.conn.Query(streamSettings(ctx), `SELECT dst FROM target_days_state WHERE day >= {from:Date} AND day < {to:Date} AND kind IN ('scan', 'request')
		GROUP BY dst ORDER BY dst`, clickhouse.Named("from", from.Format(time.DateOnly)), clickhouse.Named("to", to.Format(time.DateOnly)))
	if err != nil {
		return nil, fmt.Errorf("read targets: %w", s.explain(err))
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells.
	var out []event.IP
	for rows.Next() {
		var ip event.IP
		if err := rows.Scan(&ip); err != nil {
			return nil, fmt.Errorf("read targets: %w", err)
		}
		out = append(out, ip)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read targets: %w", s.explain(err))
	}
	return out, nil
}

// Span returns the times of the first and the last probe or request, to the second; zero times if there is none.
func (s *Store) Span(ctx context.Context) (first, last time.Time, err error) {
	return s.span(ctx, "kind IN ('scan', 'request')")
}

// EventSpan returns the times of the first and the last event of any kind, to the second; zero times if there is none.
func (s *Store) EventSpan(ctx context.Context) (first, last time.Time, err error) {
	return s.span(ctx, "1")
}

func (s *Store) span(ctx context.Context, which string) (first, last time.Time, err error) {
	var rows uint64
	err = s.retry(ctx, "read the span of the events", func() error {
		return s.conn.QueryRow(ctx, "SELECT count(), min(first_seen), max(last_seen) FROM source_days_state WHERE "+which).Scan(&rows, &first, &last)
	})
	if err != nil || rows == 0 {
		return time.Time{}, time.Time{}, err // The server has 1970 for the least of nothing, and an event may be of then.
	}
	return first.UTC(), last.UTC(), nil
}
