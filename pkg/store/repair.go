package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"murmuration/pkg/event"
)

// Repair of what a killed server leaves behind.
//
// ClickHouse writes a block's identity to a table's deduplication log before it commits the block's part. A server
// that is killed between the two remembers a block that it does not have, and drops it when it is sent again. An insert
// with views writes dozens of parts, so that moment is met: once in the first 30 kills of the test that kills engines,
// where a month of port_hours was missing. So whenever a batch may have been cut off, its events are compared with the table and
// the missing ones sent again, and the rollups of its months are held against the events and made anew
// from them where they differ.

// countedBy says which events a rollup counts, as a condition on the events.
func countedBy() map[string]string {
	return map[string]string{
		"port_hours":      "1",
		"port_days":       "1",
		"source_days":     "1",
		"target_days":     "1",
		"path_days":       "kind = 'request' AND method != ''",
		"footprints":      "kind IN ('scan', 'request')",
		"demand_by_hour":  "kind IN ('scan', 'request')",
		"demand_by_day":   "kind IN ('scan', 'request')",
		"demand_by_dekad": "kind IN ('scan', 'request')",
		"ports_by_hour":   "kind IN ('scan', 'request')",
		"ports_by_day":    "kind IN ('scan', 'request')",
		"ports_by_dekad":  "kind IN ('scan', 'request')",
		"victim_days":     "kind = 'backscatter'",
		"victim_dekads":   "kind = 'backscatter'",
		"sensor_days":     "1",
	}
}

// countedOnce says which rows of a rollup count every event once, as a condition on the rollup.
func countedOnce(rollup string) string {
	if strings.HasPrefix(rollup, "demand_") {
		return "method = ''" // The other rows count requests once more.
	}
	return "1"
}

// rollups lists them in an order in which each can be made from what stands before it.
func rollups() []string {
	return []string{
		"port_hours", "port_days", "source_days", "target_days", "path_days", "footprints",
		"demand_by_hour", "demand_by_day", "demand_by_dekad", "ports_by_hour", "ports_by_day", "ports_by_dekad", "victim_days", "victim_dekads", "sensor_days",
	}
}

// settle makes a batch that may have been cut off complete, in the events and in every rollup.
func (s *Store) settle(ctx context.Context, b *event.Batch, input uint64) error {
	if s.cluster != nil {
		return s.cluster.settle(ctx, s, b, input)
	}
	if err := s.retry(ctx, "insert the rest of a batch", func() error { return s.insertMissing(ctx, b, input) }); err != nil {
		return err
	}
	_, err := s.repair(ctx, monthsOf(b))
	return err
}

// insertMissing sends those events of a batch that the table does not hold. They are few and told by comparison, so
// that their token only has to be new.
func (s *Store) insertMissing(ctx context.Context, b *event.Batch, input uint64) error {
	have, err := s.Have(ctx, b, input)
	if err != nil {
		return err
	}
	return s.insertRest(ctx, b, input, have)
}

// insertRest sends those events of a batch that are not there.
func (s *Store) insertRest(ctx context.Context, b *event.Batch, input uint64, have []bool) error {
	// What the table does not hold because it is too old is not missing, and sent again it would count twice in the rollups.
	gone, err := s.Horizon(ctx, TierEvents)
	if err != nil {
		return err
	}
	var missing event.Batch
	for i, known := range have {
		if !known && b.Time[i] >= gone.UnixMicro() {
			e := b.Row(i)
			missing.Append(&e)
		}
	}
	if missing.Len() == 0 {
		return nil
	}
	s.log.Warn("a killed server had lost events of a batch: sending them again", "events", missing.Len())
	return s.insertOnce(ctx, &missing, input, "rest "+rand.Text())
}

// monthsOf returns the months that a batch has events of, as 202604.
func monthsOf(b *event.Batch) []uint32 {
	seen := map[uint32]bool{}
	var months []uint32
	for _, t := range b.Time {
		y, m, _ := time.UnixMicro(t).UTC().Date()
		month := uint32(y*100 + int(m)) //nolint:gosec // checkBatch bounds it.
		if !seen[month] {
			seen[month] = true
			months = append(months, month)
		}
	}
	slices.Sort(months)
	return months
}

// startOfMonth is the first moment of a month such as 202604.
func startOfMonth(month uint32) time.Time {
	return time.Date(int(month/100), time.Month(month%100), 1, 0, 0, 0, 0, time.UTC)
}

// Repair holds every rollup against the events, month by month, and makes anew those that differ. It
// returns what it made, as "port_hours 202604". Inserts that run meanwhile are waited for. Months whose events may have expired are left alone.
func (s *Store) Repair(ctx context.Context) ([]string, error) {
	months, err := s.months(ctx)
	if err != nil {
		return nil, err
	}
	return s.repair(ctx, months)
}

// months returns the months that there are events of.
func (s *Store) months(ctx context.Context) ([]uint32, error) {
	counts, err := s.eventsByMonth(ctx)
	return slices.Sorted(maps.Keys(counts)), err
}

func (s *Store) eventsByMonth(ctx context.Context) (counts map[uint32]uint64, err error) {
	err = s.retry(ctx, "count events by month", func() error {
		counts = map[uint32]uint64{}
		return s.each(ctx, "SELECT toUInt32(toYYYYMM(ts)) AS month, count() FROM events"+s.suffix+" GROUP BY month", func(rows driver.Rows) error {
			var month uint32
			var n uint64
			if err := rows.Scan(&month, &n); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			counts[month] = n
			return nil
		})
	})
	return counts, err
}

// standing is what there is of events at a moment, and whether more were on their way.
type standing struct {
	events map[uint32]uint64 // by month
	busy   bool
}

func (s *Store) standing(ctx context.Context) (now standing, err error) {
	if s.cluster != nil {
		return standing{busy: true}, nil // Its nodes would have to be asked at one moment.
	}
	running, err := s.inserting(ctx)
	if err != nil {
		return now, err
	}
	now.busy = running > 0
	now.events, err = s.eventsByMonth(ctx)
	return now, err
}

// inserting is how many inserts run on this server or node, and on those that replicate with it.
func (s *Store) inserting(ctx context.Context) (running uint64, err error) {
	err = s.retry(ctx, "look for inserts", func() error { running, err = s.insertingHere(ctx); return err })
	for _, n := range s.peers {
		there, failed := n.store.insertingHere(ctx)
		if failed = n.store.explain(failed); failed != nil && !errors.Is(failed, ErrUnavailable) { // One that is away inserts nothing.
			err = errors.Join(err, fmt.Errorf("node %s: %w", n, failed))
		}
		running += there
	}
	return running, err
}

func (s *Store) insertingHere(ctx context.Context) (running uint64, err error) {
	err = s.conn.QueryRow(ctx, `SELECT count() FROM system.processes
		WHERE query_kind = 'Insert' AND (current_database = currentDatabase() OR NOT is_initial_query)`).Scan(&running)
	return running, err //nolint:wrapcheck // Callers wrap it.
}

// expired is the time before which events may be gone; zero if there is nothing yet to make them go.
func (s *Store) expired(ctx context.Context) (time.Time, error) {
	var there uint64
	err := s.retry(ctx, "look for the retention", func() error {
		return s.conn.QueryRow(ctx, "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'retention_log'").Scan(&there)
	})
	if err != nil || there == 0 {
		return time.Time{}, err
	}
	return s.Horizon(ctx, TierEvents)
}

// backfill makes every rollup that there is, and that a migration may just have added, say what the events say. Who calls it holds the lock of the
// schema. An insert that began before a feed was there does not reach it, and one that ends while a month is made anew may be lost
// with the month that is replaced; so each month is compared until it agrees.
//
// The rollups that are fresh may have been filled from several old ones, which an insert reached at different times: as many events, but not the same sources. So what came in
// since the time before the migration, and everything if something was on its way then or is now, is made from the events, whatever it counts. Months whose events may be gone are left as they
// were filled, unless they have less than the events.
func (s *Store) backfill(ctx context.Context, fresh []string, before standing) error {
	if s.cluster != nil {
		return s.cluster.backfill(ctx, fresh, before)
	}
	now, err := s.standing(ctx)
	if err != nil || len(now.events) == 0 {
		return err
	}
	gone, err := s.expired(ctx)
	if err != nil {
		return err
	}
	feeds, err := s.feeds(ctx)
	if err != nil {
		return err
	}
	for _, rollup := range rollups() {
		if !slices.Contains(feeds, rollup+"_feed") {
			continue
		}
		for _, month := range slices.Sorted(maps.Keys(now.events)) {
			wanting := func(events, counted uint64) bool { return events != counted }
			if startOfMonth(month).Before(gone) {
				wanting = func(events, counted uint64) bool { return counted < events }
			} else if slices.Contains(fresh, rollup) && (before.busy || now.busy || before.events[month] != now.events[month]) {
				if err := s.fillMonth(ctx, rollup, month); err != nil {
					return err
				}
			}
			if err := s.backfillMonth(ctx, rollup, month, wanting); err != nil {
				return err
			}
		}
	}
	return nil
}

// feeds lists the feeds that there are.
func (s *Store) feeds(ctx context.Context) (names []string, err error) {
	err = s.retry(ctx, "list feeds", func() error {
		return s.conn.QueryRow(ctx, "SELECT groupArray(name) FROM system.tables WHERE database = currentDatabase() AND engine = 'MaterializedView'").Scan(&names)
	})
	return names, err
}

// backfillMonth makes a month of a rollup from the events for as long as it is wanting.
func (s *Store) backfillMonth(ctx context.Context, rollup string, month uint32, wanting func(events, counted uint64) bool) error {
	for {
		events, counted, err := s.compare(ctx, rollup, month)
		if err != nil || !wanting(events, counted) {
			return err
		}
		if err := s.fillMonth(ctx, rollup, month); err != nil {
			return err
		}
	}
}

func (s *Store) fillMonth(ctx context.Context, rollup string, month uint32) error {
	s.log.Info("filling a rollup from the events", "rollup", rollup, "month", month)
	what := fmt.Sprintf("fill %s %d", rollup, month)
	return s.retry(ctx, what, func() error { return s.rebuildLocked(ctx, rollup, month) })
}

func (s *Store) repair(ctx context.Context, months []uint32) ([]string, error) {
	if s.cluster != nil {
		return s.cluster.repair(ctx, months)
	}
	gone, err := s.Horizon(ctx, TierEvents)
	if err != nil {
		return nil, err
	}
	var made []string
	for _, month := range months {
		if startOfMonth(month).Before(gone) {
			// Events of this month may have expired, so that its rollups hold more than could be made anew.
			continue
		}
		for _, rollup := range rollups() {
			anew, err := s.repairMonth(ctx, rollup, month)
			if err != nil {
				return made, err
			}
			if anew {
				made = append(made, fmt.Sprintf("%s %d", rollup, month))
			}
		}
	}
	return made, nil
}

// repairMonth makes a month of a rollup from the events for as long as it differs: an insert that was about to begin when the gate was closed may have been lost
// with the month that was replaced.
func (s *Store) repairMonth(ctx context.Context, rollup string, month uint32) (anew bool, err error) {
	for {
		differs, err := s.differs(ctx, rollup, month)
		if err != nil || !differs {
			return anew, err
		}
		s.log.Warn("a rollup differs from the events: making it anew", "rollup", rollup, "month", month)
		if err := s.retry(ctx, fmt.Sprintf("rebuild %s %d", rollup, month), func() error { return s.rebuild(ctx, rollup, month) }); err != nil {
			return anew, err
		}
		anew = true
	}
}

// differs reports whether a rollup counts other events of a month than there are, with no insert under way.
func (s *Store) differs(ctx context.Context, rollup string, month uint32) (bool, error) {
	events, counted, err := s.compare(ctx, rollup, month)
	return events != counted, err
}

// compare returns how many events of a month there are that a rollup should count, and how many it counts: other numbers only with no
// insert under way, which is kept away for it where they are not the same at once.
func (s *Store) compare(ctx context.Context, rollup string, month uint32) (events, counted uint64, err error) {
	look := func() error {
		return s.retry(ctx, "compare "+rollup+" with the events", func() (err error) {
			events, counted, err = s.counts(ctx, rollup, rollup+"_state"+s.suffix, month)
			return err
		})
	}
	if err := look(); err != nil || events == counted {
		return events, counted, err
	}
	ctx, gate, err := s.closeGate(ctx)
	if err != nil {
		return 0, 0, err
	}
	err = errors.Join(look(), gate.release(ctx))
	return events, counted, err
}

// counts returns how many events a month has that a rollup should count, and how many the table counts.
func (s *Store) counts(ctx context.Context, rollup, table string, month uint32) (events, counted uint64, err error) {
	day := timeColumn(rollup)
	err = s.conn.QueryRow(ctx, `SELECT
			(SELECT count() FROM events`+s.suffix+` WHERE toYYYYMM(ts) = {month:UInt32} AND (`+countedBy()[rollup]+`)),
			(SELECT sum(t.events) FROM `+table+` AS t WHERE toYYYYMM(`+day+`) = {month:UInt32} AND (`+countedOnce(rollup)+`))`, clickhouse.Named("month", fmt.Sprint(month))).Scan(&events, &counted)
	return events, counted, err //nolint:wrapcheck // Callers run under retry, which wraps it.
}

// timeColumn is the column of a rollup, or of events, that its partitions are made of.
func timeColumn(name string) string {
	switch {
	case name == "events":
		return "ts"
	case strings.HasSuffix(name, "_hours"), strings.HasSuffix(name, "_by_hour"):
		return "hour"
	case strings.HasSuffix(name, "_by_dekad"), strings.HasSuffix(name, "_dekads"):
		return "dekad"
	}
	return "day"
}

// feedSource finds the table that a feed reads.
var feedSource = regexp.MustCompile("FROM (`?\\w+`?\\.`?(events|port_hours_state|demand_by_hour_state|demand_by_day_state|ports_by_hour_state|ports_by_day_state|victim_days_state)(_local)?`?)")

// rebuild makes a month of a rollup from what its feed reads, beside the old one, and swaps the two at once. Two do not
// rebuild at the same time.
func (s *Store) rebuild(ctx context.Context, rollup string, month uint32) (err error) {
	ctx, l, err := s.lockSchema(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if releaseErr := l.release(ctx); err == nil {
			err = releaseErr
		}
	}()
	if differs, err := s.differs(ctx, rollup, month); err != nil || !differs {
		return err
	}
	return s.rebuildLocked(ctx, rollup, month)
}

// rebuildLocked is rebuild for who holds the lock of the schema.
func (s *Store) rebuildLocked(ctx context.Context, rollup string, month uint32) (err error) {
	ctx, gate, err := s.closeGate(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if releaseErr := gate.release(ctx); err == nil {
			err = releaseErr
		}
	}()
	if err := s.dropScratch(ctx, rollup); err != nil {
		return err
	}
	state, scratch := rollup+"_state"+s.suffix, rollup+rebuildInfix+strings.ToLower(rand.Text())
	var feed, engine string
	if err := s.conn.QueryRow(ctx, `SELECT anyIf(as_select, name = {feed:String}), anyIf(engine_full, name = {state:String}) FROM system.tables
		WHERE database = currentDatabase()`, clickhouse.Named("feed", rollup+"_feed"), clickhouse.Named("state", state)).Scan(&feed, &engine); err != nil {
		return fmt.Errorf("definition of %s_feed: %w", rollup, err)
	}
	if err := s.ddl(ctx, "CREATE TABLE "+scratch+" AS "+state+" ENGINE = "+unreplicated(engine)); err != nil {
		return err
	}
	defer func() {
		if dropErr := s.ddl(context.WithoutCancel(ctx), "DROP TABLE IF EXISTS "+scratch+" SYNC"); err == nil {
			err = dropErr
		}
	}()
	inserting := clickhouse.Context(s.told(ctx, fmt.Sprintf("filling %s of %d", rollup, month)), clickhouse.WithSettings(clickhouse.Settings{"max_bytes_before_external_group_by": 2 << 30, "insert_deduplicate": 0}))
	if err := s.conn.Exec(inserting, "INSERT INTO "+scratch+" "+ofMonth(feed, month)); err != nil {
		return err //nolint:wrapcheck // retry wraps it.
	}
	events, counted, err := s.counts(ctx, rollup, scratch, month)
	if err != nil {
		return err
	}
	if events != counted {
		// Passing: the next try counts again.
		return fmt.Errorf("%w: %s of %d was rebuilt while events came in", ErrUnavailable, rollup, month)
	}
	if counted == 0 {
		// A month without a request has no paths. The server refuses to put nothing in the place of a partition.
		return s.ddl(ctx, fmt.Sprintf("ALTER TABLE %s DROP PARTITION ID '%d'", state, month))
	}
	return s.ddl(ctx, fmt.Sprintf("ALTER TABLE %s REPLACE PARTITION ID '%d' FROM %s", state, month, scratch))
}

// rebuildInfix stands between the name of a rollup and the random part of the name of the table in which a month of it is made.
const rebuildInfix = "_rebuild_"

// dropScratch drops the tables of rebuilds that were killed. Who holds the lock of the schema has none but its own.
func (s *Store) dropScratch(ctx context.Context, rollup string) error {
	var names []string
	if err := s.conn.QueryRow(ctx, "SELECT groupArray(name) FROM system.tables WHERE database = currentDatabase() AND startsWith(name, {prefix:String})",
		clickhouse.Named("prefix", rollup+rebuildInfix)).Scan(&names); err != nil {
		return fmt.Errorf("look for what rebuilds left: %w", err)
	}
	for _, name := range names {
		if err := s.ddl(ctx, "DROP TABLE IF EXISTS "+quoted(name)+" SYNC"); err != nil {
			return err
		}
	}
	return nil
}

// unreplicated makes an engine that of a table beside others: a second replicated one would claim the first one's place in Keeper.
func unreplicated(engine string) string { return replicatedEngine.ReplaceAllString(engine, "$1(") }

var replicatedEngine = regexp.MustCompile(`^Replicated(\w+)\('[^']*', '[^']*'(?:, )?`)

// ofMonth narrows what a feed reads to one month.
func ofMonth(feed string, month uint32) string {
	return feedSource.ReplaceAllStringFunc(feed, func(from string) string {
		table := strings.TrimPrefix(from, "FROM ")
		name := strings.Trim(table[strings.LastIndexByte(table, '.')+1:], "`")
		column := timeColumn(strings.TrimSuffix(strings.TrimSuffix(name, localSuffix), "_state"))
		return fmt.Sprintf("FROM (SELECT * FROM %s WHERE toYYYYMM(%s) = %d)", table, column, month)
	})
}
