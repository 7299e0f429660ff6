package load

import (
	"context"
	"time"

	"github.com/cespare/xxhash/v2"

	"murmuration/pkg/store"
)

// The states of an input in the ledger.
const (
	StateDone    = "done"    // read to its end
	StatePartial = "partial" // something was left out; the reason says what
	StateFailed  = "failed"  // nothing could be read
)

// record writes what came of an input to the ledger, also when the context has ended: the next run
// should find out why this one stopped.
func (l *Loader) record(ctx context.Context, in Input, rep *Report, started time.Time) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	state, reason := StateDone, ""
	if rep.Err != nil {
		state, reason = StatePartial, rep.Err.Error()
		if rep.Packets == 0 {
			state = StateFailed
		}
	}
	id := rep.ID
	if id == 0 {
		// Nothing could be read that would name the content: the row stands under the name alone.
		id = xxhash.Sum64String(in.Name)
	}
	return l.store.PutLoad(ctx, store.Load{
		Input: id, Name: in.Name, Sensor: rep.Sensor, Size: uint64(in.Size), Offset: uint64(rep.Offset),
		Records: rep.Packets, Rows: rep.Events, Inserted: rep.Inserted, Rejected: rep.Tally.Dropped,
		State: state, Reason: reason, Parser: ParserVersion, Options: l.options(),
		Started: started.UTC(), Finished: time.Now().UTC(),
	})
}
