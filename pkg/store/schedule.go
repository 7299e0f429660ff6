package store

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// The states of a slot beyond RunRunning, RunDone and RunFailed.
const (
	SlotStopped = "stopped" // its process was told to stop; it is done again
	SlotEmpty   = "empty"   // there was no data
)

// Slot is one interval of a schedule.
type Slot struct {
	Schedule string
	Slot     time.Time // start of the interval
	Status   string
	Run      string
	Holder   string
	Attempts uint32
	Error    string
	Started  time.Time
	Finished time.Time // zero while it runs
}

// PutSlot writes what became of a slot.
func (s *Store) PutSlot(ctx context.Context, x Slot) error {
	return s.retry(ctx, "write the slot", func() error {
		return s.insertRow(ctx, "INSERT INTO detect_slots_log (schedule, slot, status, run, holder, attempts, error, started, finished, updated)",
			x.Schedule, x.Slot, x.Status, x.Run, x.Holder, x.Attempts, x.Error, orEpoch(x.Started), orEpoch(x.Finished), time.Now())
	})
}

// SlotOf returns what became of a slot, false if nobody began it.
func (s *Store) SlotOf(ctx context.Context, schedule string, slot time.Time) (x Slot, ok bool, err error) {
	err = s.retry(ctx, "read the slot", func() error {
		ok = false
		return s.each(ctx, `SELECT schedule, slot, status, run, holder, attempts, error, started, finished FROM detect_slots
			WHERE schedule = {schedule:String} AND slot = fromUnixTimestamp({slot:Int64})`, func(rows driver.Rows) error {
			ok = true
			if err := rows.Scan(&x.Schedule, &x.Slot, &x.Status, &x.Run, &x.Holder, &x.Attempts, &x.Error, &x.Started, &x.Finished); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			x.Slot, x.Started, x.Finished = x.Slot.UTC(), fromEpoch(x.Started), fromEpoch(x.Finished)
			return nil
		}, clickhouse.Named("schedule", schedule), clickhouse.Named("slot", fmt.Sprint(slot.Unix())))
	})
	return x, ok, err
}
