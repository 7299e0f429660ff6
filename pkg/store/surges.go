package store

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"murmuration/pkg/event"
)

// SurgeRun is one run of surge detection. Its status is RunRunning, RunDone or RunFailed.
type SurgeRun struct {
	Run        string // identifies the run; must sort by time
	Started    time.Time
	Finished   time.Time // zero while it runs
	From, To   time.Time // the hours decided about, To exclusive
	Parameters string    // JSON
	Series     uint64    // looked at
	Surges     uint64    // found or followed
	Status     string
	Error      string
	Version    string // of the program
}

// SeriesKey names a series of counts.
type SeriesKey struct {
	Proto  event.Proto
	Port   uint16
	Method string // HTTP method; "" is every probe and request to the port
}

// Surge is one surge as one run saw it.
type Surge struct {
	Run string
	SeriesKey
	Start, Detected, Peak time.Time // hours
	End                   time.Time // exclusive
	Closed                time.Time // zero while it is open
	State                 string    // "open", "ended", "settled"
	Sources               uint32    // distinct, in the hour of the peak
	Expected              float64
	Strength              float64 // Sources / Expected
	Excess                float64
	Evidence              float64 // -log10 P, corrected for all tests of a month
}

// PutSurgeRun writes the row of a run, for one that begins or fails. SaveSurges ends one that succeeded.
func (s *Store) PutSurgeRun(ctx context.Context, r SurgeRun) error {
	return s.retry(ctx, "write the run", func() error {
		return s.insertRow(ctx, `INSERT INTO surge_runs_log (run, started, finished, window_from, window_to, parameters, series, surges, status, error, version, updated)`,
			r.Run, orEpoch(r.Started), orEpoch(r.Finished), orEpoch(r.From), orEpoch(r.To), r.Parameters, r.Series, r.Surges, r.Status, r.Error, r.Version, time.Now())
	})
}

// SaveSurges writes what a run found, and its own row, as done, last: readers see all of it or nothing. It may be
// called again after an error.
func (s *Store) SaveSurges(ctx context.Context, run SurgeRun, surges []Surge) error {
	err := s.insertRows(ctx, "write surges", `INSERT INTO surges_log (run, proto, dport, method, start, detected, peak, end, closed, state, sources, expected, strength, excess, evidence)`,
		len(surges), func(b driver.Batch, i int) error {
			x := &surges[i]
			return b.Append(run.Run, int8(x.Proto), x.Port, x.Method, x.Start, x.Detected, x.Peak, x.End, orEpoch(x.Closed), x.State,
				x.Sources, x.Expected, x.Strength, x.Excess, x.Evidence)
		})
	if err != nil {
		return err
	}
	run.Status = RunDone
	return s.PutSurgeRun(ctx, run)
}

// LastSurgeRun returns the latest finished run, false if there is none.
func (s *Store) LastSurgeRun(ctx context.Context) (SurgeRun, bool, error) {
	var r SurgeRun
	found := false
	err := s.retry(ctx, "read runs", func() error {
		found = false
		rows, err := s.conn.Query(ctx, `SELECT run, started, finished, window_from, window_to, parameters, series, surges, status, error, version
			FROM surge_runs WHERE status = 'done' ORDER BY run DESC LIMIT 1`)
		if err != nil {
			return err //nolint:wrapcheck // retry wraps it.
		}
		defer rows.Close() //nolint:errcheck // rows.Err tells.
		for rows.Next() {
			if err := rows.Scan(&r.Run, &r.Started, &r.Finished, &r.From, &r.To, &r.Parameters, &r.Series, &r.Surges, &r.Status, &r.Error, &r.Version); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			r.Started, r.Finished, r.From, r.To = fromEpoch(r.Started), fromEpoch(r.Finished), fromEpoch(r.From), fromEpoch(r.To)
			found = true
		}
		return rows.Err() //nolint:wrapcheck // retry wraps it.
	})
	return r, found, err
}

// Surges returns the surges that hold and were detected or still open in [from, to), latest alarm first.
func (s *Store) Surges(ctx context.Context, from, to time.Time) ([]Surge, error) {
	var out []Surge
	err := s.retry(ctx, "read surges", func() error {
		out = nil
		rows, err := s.conn.Query(ctx, `SELECT run, CAST(proto, 'Int8'), dport, method, start, detected, peak, end, closed, state, sources, expected, strength, excess, evidence
			FROM surges WHERE detected < {to:DateTime('UTC')} AND (end >= {from:DateTime('UTC')} OR closed >= {from:DateTime('UTC')} OR state = 'open')
			ORDER BY detected DESC, evidence DESC, proto, dport, method`, dateTime("from", from), dateTime("to", to))
		if err != nil {
			return err //nolint:wrapcheck // retry wraps it.
		}
		defer rows.Close() //nolint:errcheck // rows.Err tells.
		for rows.Next() {
			var x Surge
			if err := rows.Scan(&x.Run, (*int8)(&x.Proto), &x.Port, &x.Method, &x.Start, &x.Detected, &x.Peak, &x.End, &x.Closed, &x.State,
				&x.Sources, &x.Expected, &x.Strength, &x.Excess, &x.Evidence); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			x.Start, x.Detected, x.Peak, x.End, x.Closed = x.Start.UTC(), x.Detected.UTC(), x.Peak.UTC(), x.End.UTC(), fromEpoch(x.Closed)
			out = append(out, x)
		}
		return rows.Err() //nolint:wrapcheck // retry wraps it.
	})
	return out, err
}

func dateTime(name string, t time.Time) driver.NamedValue {
	return clickhouse.Named(name, t.UTC().Format(time.DateTime))
}

// HourCount is the distinct sources of an hour.
type HourCount struct {
	Hour    time.Time
	Sources uint32
}

// The series of an hour: each method on its own, and all that came to the port together.
const eachSeries = "ARRAY JOIN arrayDistinct(['', toString(h.method)]) AS series"

const seriesQuery = `SELECT CAST(proto, 'Int8') AS p, dport, series, hour, toUInt32(uniqCombined64Merge(17)(h.sources)) AS n
	FROM port_hours_state AS h ` + eachSeries + `
	WHERE kind IN ('scan', 'request') AND hour >= {past:DateTime('UTC')} AND hour < {to:DateTime('UTC')}
		AND (proto, dport, series) IN
		(
			SELECT proto, dport, series FROM
			(
				SELECT proto, dport, series, hour
				FROM port_hours_state AS h ` + eachSeries + `
				WHERE kind IN ('scan', 'request') AND hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')}
				GROUP BY proto, dport, series, hour
				HAVING uniqCombined64Merge(17)(h.sources) >= {least:UInt32}
			)
			UNION DISTINCT
			SELECT proto, dport, method FROM surges WHERE state = 'open' OR closed > {from:DateTime('UTC')}
		)
	GROUP BY p, dport, series, hour
	ORDER BY p, dport, series, hour`

// FirstHour returns the oldest hour of which there are scans or requests in the hours; zero if there is none. It reads all hours.
func (s *Store) FirstHour(ctx context.Context) (first time.Time, err error) {
	var rows uint64
	err = s.retry(ctx, "read the first hour", func() error {
		return s.conn.QueryRow(ctx, "SELECT count(), min(hour) FROM port_hours_state WHERE kind IN ('scan', 'request')").Scan(&rows, &first)
	})
	if err != nil || rows == 0 {
		return time.Time{}, err
	}
	return first.UTC(), nil
}

// Hours returns the hours in [from, to), by time, of which there are scans or requests in the hours.
func (s *Store) Hours(ctx context.Context, from, to time.Time) (hours []time.Time, err error) {
	err = s.retry(ctx, "read the hours", func() error {
		return s.conn.QueryRow(ctx, `SELECT arraySort(groupUniqArray(hour)) FROM port_hours_state
			WHERE kind IN ('scan', 'request') AND hour >= {from:DateTime('UTC')} AND hour < {to:DateTime('UTC')}`, dateTime("from", from), dateTime("to", to)).Scan(&hours)
	})
	return hours, err
}

// LastHour returns the newest hour, not behind until, of which there are scans or requests in the hours; zero if there is none.
func (s *Store) LastHour(ctx context.Context, until time.Time) (last time.Time, err error) {
	var rows uint64
	err = s.retry(ctx, "read the last hour", func() error {
		return s.conn.QueryRow(ctx, "SELECT count(), max(hour) FROM port_hours_state WHERE kind IN ('scan', 'request') AND hour <= {until:DateTime('UTC')}", dateTime("until", until)).Scan(&rows, &last)
	})
	if err != nil || rows == 0 {
		return time.Time{}, err
	}
	return last.UTC(), nil
}

// EachSeries calls fn with the hourly counts in [past, to) of every series that had at least least distinct sources in an hour
// of [from, to), or a surge that was open at from. Hours without sources are left out. The counts are reused after
// fn returns: memory is that of one series, and rare ports, however many, stay on the server. progress, if not nil, is told how many rows of how many
// the server has read; fn may be running meanwhile.
func (s *Store) EachSeries(ctx context.Context, past, from, to time.Time, least uint32, progress func(done, total uint64), fn func(SeriesKey, []HourCount) error) error {
	options := []clickhouse.QueryOption{clickhouse.WithSettings(clickhouse.Settings{"max_execution_time": 0})}
	if progress != nil {
		var done, total uint64
		options = append(options, clickhouse.WithProgress(func(p *clickhouse.Progress) {
			done, total = done+p.Rows, total+p.TotalRows
			progress(done, total)
		}))
	}
	rows, err := s.conn.Query(clickhouse.Context(ctx, options...), seriesQuery,
		dateTime("past", past), dateTime("from", from), dateTime("to", to), clickhouse.Named("least", fmt.Sprint(least)))
	if err != nil {
		return fmt.Errorf("read hourly counts: %w", s.explain(err))
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells.
	var key SeriesKey
	var counts []HourCount
	for rows.Next() {
		var k SeriesKey
		var c HourCount
		if err := rows.Scan((*int8)(&k.Proto), &k.Port, &k.Method, &c.Hour, &c.Sources); err != nil {
			return fmt.Errorf("read hourly counts: %w", err)
		}
		if k != key && len(counts) > 0 {
			if err := fn(key, counts); err != nil {
				return err
			}
			counts = counts[:0]
		}
		key = k
		counts = append(counts, c)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read hourly counts: %w", s.explain(err))
	}
	if len(counts) > 0 {
		return fn(key, counts)
	}
	return nil
}
