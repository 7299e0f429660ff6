package store

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"murmuration/pkg/event"
	"murmuration/pkg/nearest"
)

// Retention: how long events and rollups are kept, counted from their own time. It is carried out by the server (TTL), which drops a part when
// all of it is too old: partitions are months, so what is dropped is at most a month late, and nothing is ever rewritten for it.
//
// Nothing expires unless somebody says so. A capture may be loaded years after it was taken, and a default that deletes what was just
// loaded would lose it silently; who runs short of room sets the retention once.
//
// What was ever dropped cannot be told from the tables, so every version of the retention is kept. Repair leaves months alone whose
// events may be gone: their rollups are all there is.

// The tiers of retention, from the one that is dropped first.
const (
	TierEvents     = "events"
	TierFootprints = "footprints"
	TierHours      = "hours"
	TierDays       = "days"
)

// ErrRetention is returned for a retention that cannot be.
var ErrRetention = errors.New("retention")

// Suggested is the retention that suits a telescope which is watched all the time, in days; 0 is for ever.
func Suggested() map[string]uint32 {
	return map[string]uint32{TierEvents: 180, TierFootprints: 730, TierHours: 730, TierDays: 0}
}

// Tiers are the names of the tiers.
func Tiers() []string { return []string{TierEvents, TierFootprints, TierHours, TierDays} }

// tierTables are the tables of a tier. Dekads outlive days, of which they are made, no longer than these.
func tierTables(tier string) []string {
	switch tier {
	case TierEvents:
		return []string{"events"}
	case TierFootprints:
		return []string{"footprints_state"}
	case TierHours:
		return []string{"port_hours_state", "demand_by_hour_state", "ports_by_hour_state"}
	}
	return []string{"port_days_state", "source_days_state", "target_days_state", "path_days_state", "demand_by_day_state", "demand_by_dekad_state",
		"ports_by_day_state", "ports_by_dekad_state", "victim_days_state", "victim_dekads_state", "sensor_days_state"}
}

// Kept is how long a tier is kept, and what it holds.
type Kept struct {
	Tier  string
	Days  uint32    // after its own time; 0: for ever
	Since time.Time // when that was set, zero if never
	Rows  uint64
	Bytes uint64
	First time.Time // start of the oldest month that it holds, zero without rows
}

// Retention returns the tiers as they are, in the order of Tiers.
func (s *Store) Retention(ctx context.Context) ([]Kept, error) {
	history, err := s.retentions(ctx)
	if err != nil {
		return nil, err
	}
	var out []Kept
	for _, tier := range Tiers() {
		k := Kept{Tier: tier}
		for _, v := range history {
			if v.tier == tier {
				k.Days, k.Since = v.days, v.at
			}
		}
		for _, part := range s.shards() {
			if err := part.measureTier(ctx, &k); err != nil {
				return nil, err
			}
		}
		out = append(out, k)
	}
	return out, nil
}

// measureTier adds what this server, or node of a cluster, holds of a tier.
func (s *Store) measureTier(ctx context.Context, k *Kept) error {
	tables := tierTables(k.Tier)
	for i := range tables {
		tables[i] += s.suffix
	}
	var rows, bytes uint64
	var first string
	err := s.retry(ctx, "measure tier "+k.Tier, func() error {
		return s.conn.QueryRow(ctx, `SELECT sum(rows), sum(bytes_on_disk), min(partition) FROM system.parts
			WHERE database = currentDatabase() AND active AND rows > 0 AND has({tables:Array(String)}, table)`,
			clickhouse.Named("tables", list(tables))).Scan(&rows, &bytes, &first)
	})
	if err != nil {
		return err
	}
	k.Rows, k.Bytes = k.Rows+rows, k.Bytes+bytes
	if t, err := time.Parse("200601", first); err == nil && (k.First.IsZero() || t.Before(k.First)) {
		k.First = t
	}
	return nil
}

// list writes names of our own as an array that binds to a parameter.
func list(names []string) string { return "['" + strings.Join(names, "','") + "']" }

// retained is one version of a tier's retention.
type retained struct {
	tier string
	days uint32
	at   time.Time
}

// retentions returns every version, oldest first.
func (s *Store) retentions(ctx context.Context) ([]retained, error) {
	var out []retained
	err := s.retry(ctx, "read the retention", func() error {
		out = nil
		rows, err := s.conn.Query(ctx, "SELECT tier, days, at FROM retention_log FINAL ORDER BY at, tier")
		if err != nil {
			return err //nolint:wrapcheck // retry wraps it.
		}
		defer rows.Close() //nolint:errcheck // rows.Err tells.
		for rows.Next() {
			var r retained
			if err := rows.Scan(&r.tier, &r.days, &r.at); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			out = append(out, r)
		}
		return rows.Err() //nolint:wrapcheck // retry wraps it.
	})
	return out, err
}

// Horizon returns the time before which a tier may have lost rows, by any retention that it ever had; zero if nothing can be lost.
func (s *Store) Horizon(ctx context.Context, tier string) (time.Time, error) {
	if !slices.Contains(Tiers(), tier) {
		return time.Time{}, fmt.Errorf("%w: there is no tier %q%s", ErrRetention, tier, nearest.Hint(tier, Tiers()))
	}
	history, err := s.retentions(ctx)
	return horizon(history, tier, time.Now()), err
}

// Loss is a tier that may have lost rows of before a time.
type Loss struct {
	Tier   string
	Before time.Time
}

var reads = regexp.MustCompile(`(?:FROM|JOIN)\s+(\w+)`)

// Lost returns the tiers that a question reads itself and that may have lost rows of since or later. Errors are ErrUnknownQuestion.
func (s *Store) Lost(ctx context.Context, question string, since time.Time) ([]Loss, error) {
	q, err := s.question(question)
	if err != nil {
		return nil, err
	}
	history, err := s.retentions(ctx)
	if err != nil {
		return nil, err
	}
	var tables []string
	for _, m := range reads.FindAllStringSubmatch(q.Body, -1) {
		tables = append(tables, m[1])
	}
	var out []Loss
	for _, tier := range Tiers() {
		read := slices.ContainsFunc(tierTables(tier), func(name string) bool { return slices.Contains(tables, name) })
		if gone := horizon(history, tier, time.Now()); read && gone.After(since) {
			out = append(out, Loss{tier, gone})
		}
	}
	return out, nil
}

func horizon(history []retained, tier string, now time.Time) time.Time {
	var latest time.Time
	var current uint32
	// Each version dropped what was older than its days until the next one came.
	until := func(end time.Time) {
		if current == 0 {
			return
		}
		if h := end.AddDate(0, 0, -int(current)); h.After(latest) {
			latest = h
		}
	}
	for _, v := range history {
		if v.tier == tier {
			until(v.at)
			current = v.days
		}
	}
	until(now)
	return latest.UTC()
}

// SetRetention changes how long tiers are kept, in days; 0 is for ever, and tiers that are not named stay. Errors wrap ErrRetention where the tiers
// would not fit: what a rollup is made of may not outlive it, or Repair would take the rollup for damaged.
func (s *Store) SetRetention(ctx context.Context, change map[string]uint32) (err error) {
	current, err := s.Retention(ctx)
	if err != nil {
		return err
	}
	if err := checkRetention(current, change); err != nil {
		return err
	}
	ctx, l, err := s.lockSchema(ctx)
	if err != nil {
		return s.explain(err)
	}
	defer func() {
		if releaseErr := l.release(ctx); err == nil {
			err = releaseErr
		}
	}()
	for _, k := range current {
		days, ok := change[k.Tier]
		if !ok {
			continue
		}
		// Noted first: a retention that is noted and not in force loses nothing, the other way round Repair would not know.
		if err := s.noteRetention(ctx, k.Tier, days); err != nil {
			return err
		}
		for _, name := range tierTables(k.Tier) {
			if err := s.setTTL(ctx, name, days); err != nil {
				return fmt.Errorf("retention of %s: %w", name, s.explain(err))
			}
		}
	}
	return nil
}

func (s *Store) noteRetention(ctx context.Context, tier string, days uint32) error {
	return s.retry(ctx, "note the retention", func() error {
		return s.insertRow(ctx, "INSERT INTO retention_log (tier, days, at)", tier, days, time.Now())
	})
}

// setTTL makes the server drop parts of a table that are all older than days, or none.
func (s *Store) setTTL(ctx context.Context, name string, days uint32) error {
	if days == 0 {
		return s.liftTTL(ctx, name)
	}
	// Only whole parts: to rewrite a month for the days in it that are too old would cost more than their room.
	if err := s.ddl(ctx, "ALTER TABLE "+name+" MODIFY SETTING ttl_only_drop_parts = 1"); err != nil {
		return err
	}
	column := timeColumn(strings.TrimSuffix(name, "_state"))
	if column == "dekad" {
		days += 10 // It holds ten days from then, or eleven: the last of them counts.
	}
	// materialize_ttl_after_modify makes the server note for the parts that are there when they expire; only their metadata are written.
	// A sum behind 2106 would begin again at 1970, and drop everything.
	return s.ddl(ctx, fmt.Sprintf("ALTER TABLE %s MODIFY TTL toDateTime(least(toUInt64(toUnixTimestamp(%s)) + %d, 4294967295))", name, column, uint64(days)*86400))
}

// liftTTL makes the server keep a table for ever, on every node that does not: one may have been away when another was told.
func (s *Store) liftTTL(ctx context.Context, name string) error {
	limited, err := s.limited(ctx, name)
	if err != nil {
		return err
	}
	if s.cluster != nil && s.cluster.replicated { // One of a shard tells the others.
		limited = slices.CompactFunc(limited, func(a, b *node) bool { return a.shard == b.shard })
	}
	return oneLine(eachNode(limited, func(n *node) error { return n.exec(ctx, "ALTER TABLE "+name+n.store.suffix+" REMOVE TTL") }))
}

// limited are the nodes, or the one server, where a table has a TTL.
func (s *Store) limited(ctx context.Context, name string) ([]*node, error) {
	nodes := s.holders()
	has := make([]uint64, len(nodes))
	err := oneLine(eachNode(nodes, func(n *node) error {
		return n.store.conn.QueryRow(ctx, "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = {name:String} AND position(engine_full, ' TTL ') > 0",
			clickhouse.Named("name", name+n.store.suffix)).Scan(&has[slices.Index(nodes, n)])
	}))
	var out []*node
	for i, n := range nodes {
		if has[i] > 0 {
			out = append(out, n)
		}
	}
	return out, err //nolint:wrapcheck // SetRetention wraps it.
}

// Expired returns how many rows of a tier, over all its tables, are already older than days, and so would be dropped if that were set, and how
// many there are.
func (s *Store) Expired(ctx context.Context, tier string, days uint32) (rows, all uint64, err error) {
	if _, err := s.Horizon(ctx, tier); err != nil || days == 0 {
		return 0, 0, err
	}
	for _, name := range tierTables(tier) {
		column, kept := timeColumn(strings.TrimSuffix(name, "_state")), uint64(days)
		if column == "dekad" {
			kept += 10 // As setTTL has it.
		}
		var old, there uint64
		err := s.retry(ctx, "count what would expire", func() error {
			return s.conn.QueryRow(ctx, "SELECT countIf(toUInt64(toUnixTimestamp("+column+")) + 86400 * {days:UInt64} < toUnixTimestamp(now())), count() FROM "+name,
				clickhouse.Named("days", fmt.Sprint(kept))).Scan(&old, &there)
		})
		if err != nil {
			return 0, 0, err
		}
		rows, all = rows+old, all+there
	}
	return rows, all, nil
}

// warnExpired says that events of a batch are older than events are kept: they count in the rollups, and are dropped from `events` soon.
func (s *Store) warnExpired(b *event.Batch, gone time.Time) {
	old := 0
	for _, t := range b.Time {
		if t < gone.UnixMicro() {
			old++
		}
	}
	if old == 0 {
		return
	}
	s.log.Warn("events are older than the retention of events: the rollups count them, the events themselves will be dropped; `loader retention` shows and changes it",
		"events", old, "kept from", gone.Format(time.DateOnly), "oldest", time.UnixMicro(slices.Min(b.Time)).UTC().Format(time.DateOnly))
}

// checkRetention refuses a change under which a tier would outlive what is made of it.
func checkRetention(current []Kept, change map[string]uint32) error {
	days := map[string]uint32{}
	for _, k := range current {
		days[k.Tier] = k.Days
	}
	for tier, d := range change {
		if _, ok := days[tier]; !ok {
			return fmt.Errorf("%w: there is no tier %q%s", ErrRetention, tier, nearest.Hint(tier, Tiers()))
		}
		if d > 36500 {
			return fmt.Errorf("%w: %s=%dd is more than a hundred years: say forever", ErrRetention, tier, d)
		}
		days[tier] = d
	}
	const made = "what a rollup is made of may not be kept for longer than the rollup"
	for _, c := range []struct{ shorter, longer, why string }{
		{TierEvents, TierFootprints, made}, {TierEvents, TierHours, made}, {TierHours, TierDays, made},
		{TierFootprints, TierDays, "what sources touched is of no use without the days, which say how they scan"},
	} {
		shorter, longer := days[c.shorter], days[c.longer]
		if longer != 0 && (shorter == 0 || shorter > longer) {
			return fmt.Errorf("%w: %s would be kept for %s and %s for %s: %s", ErrRetention, c.shorter, inDays(shorter), c.longer, inDays(longer), c.why)
		}
	}
	return nil
}

func inDays(days uint32) string {
	if days == 0 {
		return "ever"
	}
	return fmt.Sprintf("%d days", days)
}
