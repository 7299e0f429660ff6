package store

import (
	"context"
	"fmt"
	"hash/maphash"
	"net/netip"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"go4.org/netipx"

	"murmuration/pkg/event"
)

// Mark says which bytes of an input a batch of events was made of. It is written with Done false before
// the batch is sent, so that a crash leaves the token behind, and with Done true when the batch is in.
type Mark struct {
	Head    [32]byte // hash of the input's beginning, which finds the input again
	Start   int64    // offset of the first byte
	End     int64    // offset behind the last byte
	Sum     [32]byte // hash of the bytes before End
	Token   string   // deduplication token that the batch was sent under
	Options string   // what else decided on the rows
	Input   uint64   // number of the input, events.input
	Records uint64   // packets or lines
	Rows    uint64   // events
	Done    bool
	At      time.Time // zero: now
}

// ledgerSettings keep the ledger's rows out of the deduplication of events: they replace each other by key.
func ledgerSettings(ctx context.Context) context.Context {
	return clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"async_insert": 0, "insert_deduplicate": 0}))
}

// PutMark writes a mark. One that is done is never undone by one that is not.
func (s *Store) PutMark(ctx context.Context, m Mark) error {
	if m.At.IsZero() {
		m.At = time.Now()
	}
	return s.retry(ctx, "write a mark", func() error {
		return s.insertRow(ctx, "INSERT INTO load_batches (head, start, end, sum, token, options, input, records, rows, done, at)",
			string(m.Head[:]), m.Start, m.End, string(m.Sum[:]), m.Token, m.Options, m.Input, m.Records, m.Rows, m.Done, m.At)
	})
}

// Marks returns the marks of the inputs that begin with head, by offset. It sees every PutMark that
// returned before.
func (s *Store) Marks(ctx context.Context, head [32]byte) ([]Mark, error) {
	var marks []Mark
	err := s.retry(ctx, "read marks", func() error {
		marks = nil
		rows, err := s.conn.Query(ctx, `SELECT start, end, sum, token, options, input, records, rows, done, at
			FROM load_batches FINAL WHERE head = unhex({head:String}) ORDER BY end, start, sum`, clickhouse.Named("head", fmt.Sprintf("%x", head)))
		if err != nil {
			return err //nolint:wrapcheck // retry wraps it.
		}
		defer rows.Close() //nolint:errcheck // rows.Err tells.
		for rows.Next() {
			m := Mark{Head: head}
			var sum string
			if err := rows.Scan(&m.Start, &m.End, &sum, &m.Token, &m.Options, &m.Input, &m.Records, &m.Rows, &m.Done, &m.At); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			copy(m.Sum[:], sum)
			marks = append(marks, m)
		}
		return rows.Err() //nolint:wrapcheck // retry wraps it.
	})
	for _, m := range marks {
		if !m.Done {
			s.noteCut(m.Token)
		}
	}
	return marks, err
}

// Load is the ledger's row of one input.
type Load struct {
	Input    uint64 // number of the input, events.input
	Name     string // name that it was loaded under
	Sensor   string
	Size     uint64            // bytes as stored, 0 if not known
	Offset   uint64            // bytes of content read, through the last whole record
	Records  uint64            // packets or lines read
	Rows     uint64            // events found in them
	Inserted uint64            // events that were new in this load
	Rejected map[string]uint64 // what was no event, by reason
	State    string            // done, partial, failed
	Reason   string            // why it ended early
	Parser   uint32            // version of the decoder
	Options  string
	Started  time.Time
	Finished time.Time
}

// PutLoad writes an input's row. It replaces the row of the same input and name.
func (s *Store) PutLoad(ctx context.Context, l Load) error {
	rejected := l.Rejected
	if rejected == nil {
		rejected = map[string]uint64{}
	}
	return s.retry(ctx, "write to the ledger", func() error {
		return s.insertRow(ctx, `INSERT INTO loads_log (input, name, sensor, size, offset, records, rows, inserted, rejected, state, reason, parser, options, started, finished, updated)`,
			l.Input, l.Name, l.Sensor, l.Size, l.Offset, l.Records, l.Rows, l.Inserted, rejected, l.State, l.Reason, l.Parser, l.Options,
			orEpoch(l.Started), orEpoch(l.Finished), time.Now())
	})
}

// Loads returns the ledger, oldest first.
func (s *Store) Loads(ctx context.Context) ([]Load, error) {
	var loads []Load
	err := s.retry(ctx, "read the ledger", func() error {
		loads = nil
		rows, err := s.conn.Query(ctx, `SELECT input, name, sensor, size, offset, records, rows, inserted, rejected, state, reason, parser, options, started, finished
			FROM loads ORDER BY started, input, name`)
		if err != nil {
			return err //nolint:wrapcheck // retry wraps it.
		}
		defer rows.Close() //nolint:errcheck // rows.Err tells.
		for rows.Next() {
			var l Load
			if err := rows.Scan(&l.Input, &l.Name, &l.Sensor, &l.Size, &l.Offset, &l.Records, &l.Rows, &l.Inserted, &l.Rejected, &l.State, &l.Reason,
				&l.Parser, &l.Options, &l.Started, &l.Finished); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			l.Started, l.Finished = fromEpoch(l.Started), fromEpoch(l.Finished)
			loads = append(loads, l)
		}
		return rows.Err() //nolint:wrapcheck // retry wraps it.
	})
	return loads, err
}

// Telescope is a monitored prefix.
type Telescope struct {
	Prefix netip.Prefix
	Sensor string    // who watches it; "" is any
	Since  time.Time // zero is unbounded
	Until  time.Time // zero is unbounded
}

// AddTelescope registers a monitored prefix. The same prefix, sensor and Since again replaces Until.
func (s *Store) AddTelescope(ctx context.Context, t Telescope) error {
	if !t.Prefix.IsValid() {
		return fmt.Errorf("telescope: %q is not a prefix such as 192.0.2.0/24", t.Prefix)
	}
	if !t.Until.IsZero() && !t.Until.After(t.Since) {
		return fmt.Errorf("telescope %s: it ends at %s, before it begins", t.Prefix, t.Until.UTC().Format(time.RFC3339))
	}
	return s.retry(ctx, "register a telescope", func() error {
		return s.insertRow(ctx, "INSERT INTO telescopes_log (prefix, sensor, since, until, updated)",
			t.Prefix.Masked().String(), t.Sensor, orEpoch(t.Since), orEpoch(t.Until), time.Now())
	})
}

// RemoveTelescope forgets a prefix of a sensor, whenever it was watched, and tells whether there was one. It
// is for mistakes: a prefix that is watched no longer gets an end by AddTelescope.
func (s *Store) RemoveTelescope(ctx context.Context, prefix netip.Prefix, sensor string) (removed bool, err error) {
	err = s.retry(ctx, "remove a telescope", func() error {
		var n uint64
		args := []any{clickhouse.Named("prefix", prefix.Masked().String()), clickhouse.Named("sensor", sensor)}
		const which = "FROM telescopes_log WHERE prefix = {prefix:String} AND sensor = {sensor:String}"
		if err := s.conn.QueryRow(ctx, "SELECT count() "+which, args...).Scan(&n); err != nil {
			return err //nolint:wrapcheck // retry wraps it.
		}
		if n == 0 {
			return nil
		}
		removed = true
		return s.ddl(ctx, "DELETE "+which+" SETTINGS lightweight_deletes_sync = 2", args...)
	})
	return removed, err
}

// Touched reports whether any event went to an address of a prefix.
func (s *Store) Touched(ctx context.Context, prefix netip.Prefix) (touched bool, err error) {
	r := netipx.RangeOfPrefix(prefix)
	from, to := event.IPOf(r.From()), event.IPOf(r.To())
	err = s.retry(ctx, "look for events of a prefix", func() error {
		return s.conn.QueryRow(ctx, "SELECT count() > 0 FROM (SELECT dst FROM target_days_state WHERE dst BETWEEN toIPv6({from:String}) AND toIPv6({to:String}) LIMIT 1)",
			clickhouse.Named("from", netip.AddrFrom16(from).String()), clickhouse.Named("to", netip.AddrFrom16(to).String())).Scan(&touched)
	})
	return touched, err
}

// Telescopes returns the monitored prefixes.
func (s *Store) Telescopes(ctx context.Context) ([]Telescope, error) {
	var out []Telescope
	err := s.retry(ctx, "read telescopes", func() error {
		out = nil
		rows, err := s.conn.Query(ctx, "SELECT prefix, sensor, since, until FROM telescopes ORDER BY prefix, sensor, since")
		if err != nil {
			return err //nolint:wrapcheck // retry wraps it.
		}
		defer rows.Close() //nolint:errcheck // rows.Err tells.
		for rows.Next() {
			var prefix string
			var t Telescope
			if err := rows.Scan(&prefix, &t.Sensor, &t.Since, &t.Until); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			if t.Prefix, err = netip.ParsePrefix(prefix); err != nil {
				return fmt.Errorf("table telescopes: %w", err)
			}
			t.Since, t.Until = fromEpoch(t.Since), fromEpoch(t.Until)
			out = append(out, t)
		}
		return rows.Err() //nolint:wrapcheck // retry wraps it.
	})
	return out, err
}

// EventsOf returns how many events of an input are stored.
func (s *Store) EventsOf(ctx context.Context, input uint64) (n uint64, err error) {
	err = s.retry(ctx, "count the events of an input", func() error {
		return s.conn.QueryRow(ctx, "SELECT count() FROM events WHERE input = {input:UInt64}", clickhouse.Named("input", fmt.Sprint(input))).Scan(&n)
	})
	return n, err
}

// Have tells, for each event of a batch, whether the table holds it already as a row of the input, of whatever sensor:
// the sensor is what the user called it, and not in the content. Equal events are told apart by their number: of three in
// the batch two are there if the table holds two.
func (s *Store) Have(ctx context.Context, b *event.Batch, input uint64) ([]bool, error) {
	have := make([]bool, b.Len())
	if b.Len() == 0 {
		return have, nil
	}
	seed := maphash.MakeSeed()
	hash := func(e event.Event) uint64 {
		e.Sensor = ""
		return maphash.Comparable(seed, e)
	}
	wanted := make(map[uint64]int, b.Len())
	for i := range have {
		wanted[hash(b.Row(i))]++
	}
	var stored map[uint64]int
	err := s.retry(ctx, "compare with stored events", func() error {
		stored = make(map[uint64]int)
		return s.eachEvent(ctx, input, slices.Min(b.Time), slices.Max(b.Time), func(e *event.Event) {
			if h := hash(*e); stored[h] < wanted[h] {
				stored[h]++
			}
		})
	})
	if err != nil {
		return nil, err
	}
	for i := range have {
		h := hash(b.Row(i))
		if stored[h] > 0 {
			stored[h]--
			have[i] = true
		}
	}
	return have, nil
}

// eachEvent calls fn with every stored event of an input between two times, in microseconds, both included. The event
// is reused.
func (s *Store) eachEvent(ctx context.Context, input uint64, from, to int64, fn func(*event.Event)) error {
	rows, err := s.conn.Query(ctx, `SELECT ts, sensor, src, dst, sport, dport, proto, kind, technique, packets, tcp_flags, window, seq, ip_id, ttl, df, signature,
		tool, icmp_type, icmp_code, payload_len, payload_hash, method, host, path, user_agent
		FROM events`+s.suffix+` WHERE input = {input:UInt64} AND ts BETWEEN fromUnixTimestamp64Micro({from:Int64}) AND fromUnixTimestamp64Micro({to:Int64})`,
		clickhouse.Named("input", fmt.Sprint(input)), clickhouse.Named("from", fmt.Sprint(from)), clickhouse.Named("to", fmt.Sprint(to)))
	if err != nil {
		return err //nolint:wrapcheck // retry wraps it.
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells.
	for rows.Next() {
		var e event.Event
		var ts time.Time
		if err := rows.Scan(&ts, &e.Sensor, &e.Src, &e.Dst, &e.Sport, &e.Dport, (*int8)(&e.Proto), (*int8)(&e.Kind), (*int8)(&e.Technique), &e.Packets,
			&e.Flags, &e.Window, &e.Seq, &e.IPID, &e.TTL, &e.DF, &e.Signature, &e.Tool, &e.ICMPType, &e.ICMPCode, &e.PayloadLen, &e.PayloadHash,
			&e.Method, &e.Host, &e.Path, &e.UserAgent); err != nil {
			return err //nolint:wrapcheck // retry wraps it.
		}
		e.Time = ts.UnixMicro()
		fn(&e)
	}
	return rows.Err() //nolint:wrapcheck // retry wraps it.
}

// insertRow inserts one row.
func (s *Store) insertRow(ctx context.Context, statement string, values ...any) error {
	return s.insertBatch(ledgerSettings(ctx), statement, func(batch driver.Batch) error {
		return batch.Append(values...) //nolint:wrapcheck // Callers run under retry, which wraps it.
	})
}

// The schema keeps "no time" as the epoch, Go as the zero time.
func orEpoch(t time.Time) time.Time {
	if t.IsZero() {
		return time.Unix(0, 0)
	}
	return t
}

func fromEpoch(t time.Time) time.Time {
	if t.Unix() == 0 {
		return time.Time{}
	}
	return t.UTC()
}
