package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unsafe"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/cenkalti/backoff/v5"

	"murmuration/pkg/event"
)

// MaxBatchRows is the largest batch that InsertEvents takes: it must stay one block in the server and in every
// view, or a batch sent again could be cut differently and its deduplication miss.
const MaxBatchRows = 1_000_000

// ErrBatch is returned for a batch that cannot be stored whatever the server does.
var ErrBatch = errors.New("batch cannot be stored")

// partitionsSetting limits the partitions, here months, that one block may touch. The server's default of 100 would refuse a sparse archive of ten years, and
// the fill of a rollup from it.
const (
	partitionsSetting = "max_partitions_per_insert_block"
	maxPartitions     = 10_000
)

// insertSettings are all settings on which exactly-once rests. Their defaults changed between versions
// of ClickHouse, so none is left to them.
func insertSettings(token string) clickhouse.Settings {
	return clickhouse.Settings{
		"async_insert":               0,
		"insert_deduplicate":         1,
		"insert_deduplication_token": token,
		"deduplicate_blocks_in_dependent_materialized_views": 1,
		"materialized_views_ignore_errors":                   0,
		// A batch is one block, and stays one: nothing is squashed or split on its way into the table, and what a
		// view makes of it is put together to one block before it is written. So a batch that is sent again has
		// the same blocks under the same tokens, in whatever order threads worked. (4 GiB is the most that is taken.)
		"min_insert_block_size_rows":                         MaxBatchRows,
		"min_insert_block_size_bytes":                        4 << 30,
		"min_insert_block_size_rows_for_materialized_views":  16 << 20,
		"min_insert_block_size_bytes_for_materialized_views": 4 << 30,
		"max_insert_block_size":                              MaxBatchRows,
		"max_block_size":                                     MaxBatchRows,
		"group_by_two_level_threshold":                       0,
		"group_by_two_level_threshold_bytes":                 0,
		partitionsSetting:                                    maxPartitions,
		"throw_on_max_partitions_per_insert_block":           1,
		// Putting rows of one key together is left to merges: as they are written it costs a third of the insert.
		"optimize_on_insert":       0,
		"parallel_view_processing": 1,
		// The driver sends plain strings several times faster than dictionaries, and the server is no slower.
		"low_cardinality_allow_in_native_format": 0,
	}
}

const eventColumns = " (ts, sensor, src, dst, sport, dport, proto, kind, technique, packets, tcp_flags, window, seq, " +
	"ip_id, ttl, df, signature, tool, icmp_type, icmp_code, payload_len, payload_hash, method, host, path, user_agent, input)"

// InsertEvents stores a batch as rows of the given input, exactly once: a batch sent again under its
// token changes neither events nor any rollup. The token must stand for the rows, and a batch for at
// most MaxBatchRows of them. While the server cannot be reached, or is too busy, the batch is sent
// again under the same token for Options.RetryFor; then the error wraps ErrUnavailable. It wraps
// ErrDiskFull where the server has no room, and ErrBatch where the batch itself is at fault.
//
// A batch that may have been cut off, because it had to be sent again or because Marks said that it was never
// done, is then compared with what the tables hold: see repair.go. After a restore the tables know no tokens; a batch that
// was under way is compared first (see Restore).
func (s *Store) InsertEvents(ctx context.Context, b *event.Batch, input uint64, token string) error {
	if err := checkBatch(b, token); err != nil {
		return err
	}
	if b.Len() == 0 {
		return nil
	}
	if strings.HasPrefix(token, compareFirst) {
		return s.settle(ctx, b, input)
	}
	gone, err := s.Horizon(ctx, TierEvents)
	if err != nil {
		return err
	}
	s.warnExpired(b, gone)
	tries := 0
	err = s.retry(ctx, "insert events", func() error {
		tries++
		return s.insertOnce(ctx, b, input, token)
	})
	if err != nil || tries == 1 && !s.cutOff(token) {
		return err
	}
	if err := s.settle(ctx, b, input); err != nil {
		return err
	}
	s.settled(token)
	return nil
}

// The times that the rollups can hold: their hours are DateTime.
const (
	firstTime = 0
	lastTime  = (1<<32 - 1) * 1_000_000
)

func checkBatch(b *event.Batch, token string) error {
	if token == "" {
		return fmt.Errorf("%w: it has no token", ErrBatch)
	}
	if n := b.Len(); n > MaxBatchRows {
		return fmt.Errorf("%w: %d events, at most %d go into one", ErrBatch, n, MaxBatchRows)
	}
	for i, t := range b.Time {
		if t < firstTime || t > lastTime {
			return fmt.Errorf("%w: event %d is of %s, outside 1970 to 2106", ErrBatch, i, time.UnixMicro(t).UTC())
		}
	}
	return nil
}

// retry runs op until it succeeds, fails for good, or RetryFor is over.
func (s *Store) retry(ctx context.Context, what string, op func() error) error {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 100*time.Millisecond, 5*time.Second
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := s.explain(op())
		if err != nil && !passing(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(b), backoff.WithMaxElapsedTime(s.opt.RetryFor), backoff.WithNotify(func(err error, wait time.Duration) {
		s.log.Warn("trying again", "what", what, "wait", wait.Round(time.Millisecond), "error", err)
	}))
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("%s: %w", what, cause)
	}
	if passing(err) && !errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("%s: %w: it did not recover: %w", what, ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (s *Store) insertOnce(ctx context.Context, b *event.Batch, input uint64, token string) error {
	if err := s.passGate(ctx); err != nil {
		return err
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(insertSettings(token)))
	return s.insertBatch(ctx, "INSERT INTO events"+s.suffix+eventColumns, func(batch driver.Batch) error {
		if err := appendEvents(batch, b, input); err != nil {
			return fmt.Errorf("%w: %w", ErrBatch, err)
		}
		return nil
	})
}

// insertBatch sends one batch, which fill has filled. Every insert passes here.
//
// The driver watches the context of a batch in a goroutine that may live on for a moment after Send has returned and
// the connection is back in the pool. Were the context to end in that moment, it would close the connection under
// whoever has it by then. So a batch has a context of its own, which ends with the caller's only until Send returns.
func (s *Store) insertBatch(ctx context.Context, statement string, fill func(driver.Batch) error) error {
	own, end := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { end(context.Cause(ctx)) })
	defer stop()
	batch, err := s.conn.PrepareBatch(own, statement)
	if err != nil {
		return err //nolint:wrapcheck // Callers run under retry, which wraps it.
	}
	defer batch.Close() //nolint:errcheck // After Send it does nothing; before it the error is already known.
	if err := fill(batch); err != nil {
		return err
	}
	return batch.Send() //nolint:wrapcheck // See above.
}

// appendEvents appends the columns in the order of eventColumns.
func appendEvents(batch driver.Batch, b *event.Batch, input uint64) error {
	n := b.Len()
	times := make([]time.Time, n)
	for i, t := range b.Time {
		times[i] = time.UnixMicro(t)
	}
	inputs := make([]uint64, n)
	for i := range inputs {
		inputs[i] = input
	}
	for i, column := range []any{
		times, b.Sensor, b.Src, b.Dst, b.Sport, b.Dport, int8s(b.Proto), int8s(b.Kind), int8s(b.Technique), b.Packets, b.Flags, b.Window, b.Seq,
		b.IPID, b.TTL, b.DF, b.Signature, b.Tool, b.ICMPType, b.ICMPCode, b.PayloadLen, b.PayloadHash, b.Method, b.Host, b.Path, b.UserAgent, inputs,
	} {
		if err := batch.Column(i).Append(column); err != nil {
			return fmt.Errorf("column %d: %w", i, err)
		}
	}
	return nil
}

// int8s returns the same memory as int8s: the driver takes enumerations as these.
func int8s[E ~int8](v []E) []int8 {
	return unsafe.Slice((*int8)(unsafe.Pointer(unsafe.SliceData(v))), len(v)) //nolint:gosec // Same size, same meaning.
}
