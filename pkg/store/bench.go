package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"golang.org/x/sync/errgroup"

	"murmuration/sql"
)

// Generated traffic for measurements. It is made by the server, a chunk at a time, and goes through the same tables, feeds, tokens and
// ledger as what the loader brings: every chunk is an input of the ledger.

// What generated traffic would come among.
var (
	ErrMixed     = errors.New("the database holds loads")
	ErrOtherPlan = errors.New("the database holds traffic that was generated otherwise")
)

const (
	benchChunk   = MaxBatchRows // rows of a chunk: one block, as for any batch
	benchWorkers = 2            // one chunk is made while the rollups of another are
	benchOptions = "bench"      // options of the ledger's rows
)

// BenchPlan says which traffic to generate. The same plan gives the same rows.
type BenchPlan struct {
	Events uint64
	Days   int // whole days that they are spread over
	Seed   uint64
	Until  time.Time // end of the time, exclusive
	Mix    bool      // also into a database that holds loads

	chunk uint64 // rows of a chunk; 0 is benchChunk. It cuts tokens, so one plan must not be gone on with under another
}

func (p *BenchPlan) chunkRows() uint64 {
	if p.chunk > 0 {
		return p.chunk
	}
	return benchChunk
}

// BenchChunk is a stretch of a plan.
type BenchChunk struct {
	First, Rows uint64
	cut         bool // begun by somebody, and perhaps in the tables in part
}

// name is what the ledger calls the plan: its sum is the head of the batches.
func (p *BenchPlan) name() string { return fmt.Sprintf("bench: %d events, %s", p.Events, p.kind()) }

// kind says what the events are like, however many there are.
func (p *BenchPlan) kind() string {
	return fmt.Sprintf("%d days until %s, seed %d", p.Days, p.Until.UTC().Format(time.DateTime), p.Seed)
}

func (p *BenchPlan) head() [32]byte { return sha256.Sum256([]byte(p.name())) }

// mark is the ledger's mark of a chunk.
func (p *BenchPlan) mark(c BenchChunk, done bool) Mark {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s: %d", p.name(), c.First))
	return Mark{
		Head: p.head(), Start: int64(c.First), End: int64(c.First + c.Rows), Sum: sum, Token: fmt.Sprintf("bench %x", sum[:16]), //nolint:gosec // Rows are fewer than 2^63.
		Options: benchOptions, Input: binary.BigEndian.Uint64(sum[:]), Records: c.Rows, Rows: c.Rows, Done: done,
	}
}

// FillBench generates what is missing of a plan, calling progress with the rows that are in and those of the plan after every chunk. A plan that
// was interrupted goes on; one that is complete changes nothing. Errors wrap ErrMixed where the database holds loads
// and ErrOtherPlan where it holds what a plan of another kind generated, unless the plan says Mix, and else are those of InsertEvents.
func (s *Store) FillBench(ctx context.Context, p BenchPlan, progress func(done, total uint64)) error {
	if !p.Mix {
		if err := s.refuseLoads(ctx); err != nil {
			return err
		}
		if err := s.refuseOtherPlans(ctx, &p); err != nil {
			return err
		}
	}
	todo, err := s.benchTodo(ctx, &p)
	if err != nil {
		return err
	}
	missing := uint64(0)
	for _, c := range todo {
		missing += c.Rows
	}
	var in atomic.Uint64
	in.Store(p.Events - missing)
	progress(in.Load(), p.Events)
	settings, err := s.generateSettings(ctx)
	if err != nil {
		return err
	}
	statement, err := sql.BenchTraffic()
	if err != nil {
		return fmt.Errorf("statement of the generated traffic: %w", err)
	}
	fill := func(ctx context.Context, c BenchChunk) error {
		if err := s.fillChunk(ctx, &p, c, statement, settings); err != nil {
			return err
		}
		progress(in.Add(c.Rows), p.Events)
		return nil
	}
	// What may be in the tables in part is made whole alone: that takes comparing counts, which nobody may change meanwhile.
	n := slices.IndexFunc(todo, func(c BenchChunk) bool { return !c.cut })
	if n < 0 {
		n = len(todo)
	}
	for _, c := range todo[:n] {
		if err := fill(ctx, c); err != nil {
			return err
		}
	}
	g, group := errgroup.WithContext(ctx)
	g.SetLimit(benchWorkers)
	for _, c := range todo[n:] {
		if group.Err() != nil {
			break
		}
		g.Go(func() error { return fill(group, c) })
	}
	return g.Wait() //nolint:wrapcheck // fill says what failed.
}

// refuseLoads returns ErrMixed if anything was loaded that is not generated.
func (s *Store) refuseLoads(ctx context.Context) error {
	var loads, foreign uint64
	err := s.retry(ctx, "look for loads", func() error {
		return s.conn.QueryRow(ctx, `SELECT (SELECT count() FROM loads WHERE options != {options:String}),
			(SELECT count() FROM events WHERE input NOT IN (SELECT input FROM load_batches WHERE options = {options:String}) LIMIT 1)`,
			clickhouse.Named("options", benchOptions)).Scan(&loads, &foreign)
	})
	if err == nil && loads+foreign > 0 {
		err = fmt.Errorf("%w: %s has %d of them and %d events that were not generated", ErrMixed, s.opt.Database, loads, foreign)
	}
	return err
}

// refuseOtherPlans returns ErrOtherPlan if the database holds what was generated with another seed, or over another time, whether it came to an end or not.
func (s *Store) refuseOtherPlans(ctx context.Context, p *BenchPlan) error {
	var names, heads []string
	err := s.retry(ctx, "look up what was generated", func() error {
		return s.conn.QueryRow(ctx, `SELECT
				(SELECT groupUniqArray(substring(name, 1, position(name, ', rows from ') - 1)) FROM loads WHERE options = {options:String}),
				(SELECT groupUniqArray(lower(hex(head))) FROM load_batches WHERE options = {options:String})`,
			clickhouse.Named("options", benchOptions)).Scan(&names, &heads)
	})
	if err != nil {
		return err
	}
	known := map[string]bool{fmt.Sprintf("%x", p.head()): true}
	for _, name := range names {
		known[fmt.Sprintf("%x", sha256.Sum256([]byte(name)))] = true
		if _, kind, _ := strings.Cut(name, " events, "); kind != p.kind() {
			return fmt.Errorf("%w: %s is of %s, and asked for is %s", ErrOtherPlan, s.opt.Database, kind, p.kind())
		}
	}
	if slices.ContainsFunc(heads, func(h string) bool { return !known[h] }) {
		return fmt.Errorf("%w: in %s a generation with other flags was interrupted before its first part was in", ErrOtherPlan, s.opt.Database)
	}
	return nil
}

// CountEvents returns how many events there are, whoever brought them.
func (s *Store) CountEvents(ctx context.Context) (n uint64, err error) {
	err = s.retry(ctx, "count the events", func() error { return s.conn.QueryRow(ctx, "SELECT count() FROM events").Scan(&n) })
	return n, err
}

// benchTodo returns the chunks that are not in, those that may be in in part first.
func (s *Store) benchTodo(ctx context.Context, p *BenchPlan) ([]BenchChunk, error) {
	marks, err := s.Marks(ctx, p.head())
	if err != nil {
		return nil, err
	}
	known := map[int64]Mark{}
	for _, m := range marks {
		known[m.Start] = m
	}
	var cut, todo []BenchChunk
	for first := uint64(0); first < p.Events; first += p.chunkRows() {
		c := BenchChunk{First: first, Rows: min(p.chunkRows(), p.Events-first)}
		m, begun := known[int64(first)] //nolint:gosec // See mark.
		switch {
		case begun && m.Done:
		case begun:
			c.cut = true
			cut = append(cut, c)
		default:
			todo = append(todo, c)
		}
	}
	return append(cut, todo...), nil
}

// generateSettings are those of a batch, in one thread and block, so that a chunk sent again is dropped by its token.
func (s *Store) generateSettings(ctx context.Context) (clickhouse.Settings, error) {
	settings := insertSettings("")
	settings["max_insert_threads"] = 1
	// Since 26.1 INSERT … SELECT is deduplicated only where the SELECT is known to be stable, unless this is said; the
	// rows here are a function of their number.
	const setting = "deduplicate_insert_select"
	var known uint64
	err := s.retry(ctx, "look for a setting", func() error {
		return s.conn.QueryRow(ctx, "SELECT count() FROM system.settings WHERE name = {name:String}", clickhouse.Named("name", setting)).Scan(&known)
	})
	if known > 0 {
		settings[setting] = "enable_even_for_bad_queries"
	}
	return settings, err
}

// fillChunk inserts a chunk exactly once and notes it in the ledger.
func (s *Store) fillChunk(ctx context.Context, p *BenchPlan, c BenchChunk, statement string, settings clickhouse.Settings) error {
	m := p.mark(c, false)
	if err := s.PutMark(ctx, m); err != nil {
		return err
	}
	started := time.Now()
	if err := s.generate(ctx, p, c, m.Token, statement, settings); err != nil {
		return err
	}
	if c.cut {
		if err := s.settleChunk(ctx, p, c, statement, settings); err != nil {
			return err
		}
		s.settled(m.Token)
	}
	if err := s.PutLoad(ctx, Load{
		Input: m.Input, Name: fmt.Sprintf("%s, rows from %d", p.name(), c.First), Sensor: "bench", Records: c.Rows, Rows: c.Rows, Inserted: c.Rows,
		State: "done", Options: benchOptions, Started: started, Finished: time.Now(),
	}); err != nil {
		return err
	}
	return s.PutMark(ctx, p.mark(c, true))
}

// generate runs the INSERT … SELECT of a chunk. An attempt that was cut off is left to the next run, which finds the mark without an end.
func (s *Store) generate(ctx context.Context, p *BenchPlan, c BenchChunk, token, statement string, settings clickhouse.Settings) error {
	with := clickhouse.Settings{}
	for k, v := range settings {
		with[k] = v
	}
	with["insert_deduplication_token"] = token
	span := time.Duration(p.Days) * 24 * time.Hour
	err := s.conn.Exec(clickhouse.Context(ctx, clickhouse.WithSettings(with)), statement,
		clickhouse.Named("seed", fmt.Sprint(p.Seed)), clickhouse.Named("first", fmt.Sprint(c.First)), clickhouse.Named("rows", fmt.Sprint(c.Rows)),
		clickhouse.Named("total", fmt.Sprint(p.Events)), clickhouse.Named("begin", fmt.Sprint(p.Until.Add(-span).UnixMicro())),
		clickhouse.Named("span", fmt.Sprint(span.Microseconds())), clickhouse.Named("input", fmt.Sprint(p.mark(c, false).Input)))
	if err != nil {
		return fmt.Errorf("generate the rows from %d: %w", c.First, s.explain(err))
	}
	return nil
}

// settleChunk makes a chunk whole that a killed server may remember without having it (see repair.go): what there is of it is removed, it is
// made again, and the rollups of its months are held against the events.
func (s *Store) settleChunk(ctx context.Context, p *BenchPlan, c BenchChunk, statement string, settings clickhouse.Settings) error {
	input := clickhouse.Named("input", fmt.Sprint(p.mark(c, false).Input))
	var have uint64
	if err := s.conn.QueryRow(ctx, "SELECT count() FROM events WHERE input = {input:UInt64}", input).Scan(&have); err != nil {
		return fmt.Errorf("count the rows from %d: %w", c.First, s.explain(err))
	}
	if have != c.Rows {
		s.log.Warn("a killed server had lost generated events: making them again", "rows from", c.First, "found", have, "expected", c.Rows)
		if err := s.ddl(ctx, "ALTER TABLE events DELETE WHERE input = {input:UInt64} SETTINGS mutations_sync = 2", input); err != nil {
			return fmt.Errorf("remove the rows from %d: %w", c.First, s.explain(err))
		}
		if err := s.generate(ctx, p, c, fmt.Sprintf("bench again %d", time.Now().UnixNano()), statement, settings); err != nil {
			return err
		}
	}
	var months []uint32
	if err := s.conn.QueryRow(ctx, "SELECT groupUniqArray(toUInt32(toYYYYMM(ts))) FROM events WHERE input = {input:UInt64}", input).Scan(&months); err != nil {
		return fmt.Errorf("months of the rows from %d: %w", c.First, s.explain(err))
	}
	slices.Sort(months)
	_, err := s.repair(ctx, months)
	return err
}

// MergeMonths merges each month of the rollups before that of a time into one part, as the server does it by itself a day after the last row came in
// (0015): what questions cost on a month that lies behind is measured on it as it then is. progress is told the rows merged and all that have to be.
// Interrupted and called again it goes on.
func (s *Store) MergeMonths(ctx context.Context, before time.Time, progress func(done, total uint64)) error {
	months, err := s.unmerged(ctx, before.UTC().Format("200601"))
	if err != nil {
		return err
	}
	var done, total uint64
	for _, rows := range months {
		total += rows
	}
	for _, m := range slices.SortedFunc(maps.Keys(months), func(a, b rollupMonth) int {
		return cmp.Or(strings.Compare(a.rollup, b.rollup), strings.Compare(a.month, b.month))
	}) {
		progress(done, total)
		if err := s.ddl(ctx, "OPTIMIZE TABLE "+m.rollup+" PARTITION ID '"+m.month+"' FINAL"); err != nil {
			return fmt.Errorf("merge %s of %s: %w", m.month, m.rollup, s.explain(err))
		}
		done += months[m]
	}
	progress(done, total)
	return nil
}

// rollupMonth is a month of a rollup's states.
type rollupMonth struct{ rollup, month string }

// unmerged returns the months before one (as 202606) that have more than one part somewhere, with the rows of these.
func (s *Store) unmerged(ctx context.Context, before string) (map[rollupMonth]uint64, error) {
	months := map[rollupMonth]uint64{}
	for _, n := range s.rowHolders() {
		var names []string
		for _, rollup := range rollups() {
			names = append(names, rollup+"_state"+n.store.suffix)
		}
		err := n.store.each(ctx, `SELECT table, partition_id, sum(rows) FROM system.parts
			WHERE database = currentDatabase() AND active AND table IN {names:Array(String)} AND partition_id < {before:String}
			GROUP BY table, partition_id HAVING count() > 1`, func(rows driver.Rows) error {
			var m rollupMonth
			var n uint64
			err := rows.Scan(&m.rollup, &m.month, &n)
			months[rollupMonth{strings.TrimSuffix(m.rollup, localSuffix), m.month}] += n
			return err //nolint:wrapcheck // Below it is explained.
		}, clickhouse.Named("names", names), clickhouse.Named("before", before))
		if err != nil {
			return nil, fmt.Errorf("look for months to merge: %w", s.explain(err))
		}
	}
	return months, nil
}
