package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"murmuration/sql"
)

// Cost is what an answer took.
type Cost struct {
	Rows      uint64 // of the answer
	ReadRows  uint64 // that the server read
	ReadBytes uint64 // uncompressed
	Took      time.Duration
	CPU       time.Duration // of the server: other than Took it does not grow with what else the machine does
}

// MeasureAsk asks a named question, reads its answer to the end and says what it took. Errors are those of Ask.
func (s *Store) MeasureAsk(ctx context.Context, name string, params map[string]string) (Cost, error) {
	return s.measure(ctx, func(ctx context.Context) (*Result, error) { return s.Ask(ctx, name, params) })
}

// MeasureQuery does the same for a query with bound parameters.
func (s *Store) MeasureQuery(ctx context.Context, query string, params map[string]string) (Cost, error) {
	return s.measure(ctx, func(ctx context.Context) (*Result, error) { return s.Query(ctx, query, params) })
}

func (s *Store) measure(ctx context.Context, ask func(context.Context) (*Result, error)) (cost Cost, err error) {
	ctx = clickhouse.Context(ctx, clickhouse.WithProgress(func(p *clickhouse.Progress) {
		cost.ReadRows += p.Rows
		cost.ReadBytes += p.Bytes
	}), clickhouse.WithProfileEvents(func(events []clickhouse.ProfileEvent) {
		for _, e := range events {
			if e.Name == "UserTimeMicroseconds" || e.Name == "SystemTimeMicroseconds" {
				cost.CPU += time.Duration(e.Value) * time.Microsecond
			}
		}
	}))
	started := time.Now()
	r, err := ask(ctx)
	if err != nil {
		return cost, err
	}
	for r.Next() {
		cost.Rows++
	}
	cost.Took = time.Since(started)
	err = r.Err()
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	return cost, err
}

// Standards returns the standard questions of the benchmark.
func (s *Store) Standards() ([]sql.Standard, error) {
	standards, err := sql.Standards()
	if err != nil {
		return nil, fmt.Errorf("standard questions of the benchmark: %w", err)
	}
	return standards, nil
}

// TableSize is what a table holds on disk.
type TableSize struct {
	Name  string
	Rows  uint64
	Bytes uint64 // compressed, all active parts
	Parts uint64
}

// TableSizes returns the tables of the database that hold rows, the largest first; on a cluster without the copies of replicas.
func (s *Store) TableSizes(ctx context.Context) ([]TableSize, error) {
	whole := map[string]TableSize{}
	for _, part := range s.shards() {
		sizes, err := part.ownSizes(ctx)
		if err != nil {
			return nil, err
		}
		for _, t := range sizes {
			t.Name = strings.TrimSuffix(t.Name, part.suffix)
			sum := whole[t.Name]
			whole[t.Name] = TableSize{Name: t.Name, Rows: sum.Rows + t.Rows, Bytes: sum.Bytes + t.Bytes, Parts: sum.Parts + t.Parts}
		}
	}
	return slices.SortedFunc(maps.Values(whole), func(a, b TableSize) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Name, b.Name))
	}), nil
}

// ownSizes is TableSizes of this server, or node of a cluster, in any order and by the names that it knows.
func (s *Store) ownSizes(ctx context.Context) ([]TableSize, error) {
	var sizes []TableSize
	err := s.retry(ctx, "measure the tables", func() error {
		sizes = nil
		rows, err := s.conn.Query(ctx, `SELECT table, sum(rows), sum(bytes_on_disk), count() FROM system.parts
			WHERE database = currentDatabase() AND active GROUP BY table HAVING sum(rows) > 0`)
		if err != nil {
			return err //nolint:wrapcheck // retry wraps it.
		}
		defer rows.Close() //nolint:errcheck // rows.Err tells.
		for rows.Next() {
			var t TableSize
			if err := rows.Scan(&t.Name, &t.Rows, &t.Bytes, &t.Parts); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			sizes = append(sizes, t)
		}
		return rows.Err() //nolint:wrapcheck // retry wraps it.
	})
	return sizes, err
}
