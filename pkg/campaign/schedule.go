package campaign

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"murmuration/pkg/store"
)

const (
	lease       = "detect" // of every run, scheduled or not
	maxAttempts = 3        // at a slot whose runs take their process down
	recordFor   = 10 * time.Second
	minEvery    = time.Minute
)

// errVanished is what is recorded of a run whose process ended without a word.
var errVanished = errors.New("the process of this run ended without a word")

// Clock tells the time and waits. Tests have one of their own.
type Clock interface {
	Now() time.Time
	// Wait returns nil at the given time, or the cause of the end of the context.
	Wait(ctx context.Context, until time.Time) error
}

// SystemClock is the clock of the machine.
type SystemClock struct{}

// Now returns the time.
func (SystemClock) Now() time.Time { return time.Now() }

// Wait looks at the clock once a minute at least: timers stand still while a machine sleeps.
func (SystemClock) Wait(ctx context.Context, until time.Time) error {
	for {
		left := time.Until(until.Round(0)) // Round(0) makes it a time of the wall clock.
		if left <= 0 {
			return nil
		}
		t := time.NewTimer(min(left, time.Minute))
		select {
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		case <-t.C:
		}
	}
}

// RunAlone does one run, as soon as no other goes on, on this host or another that shares the database.
func RunAlone(ctx context.Context, st *store.Store, opt Options) (rep *Report, err error) {
	// Whoever started a run by hand should know why nothing happens.
	waiting := func(holder error) { opt.logger().WarnContext(ctx, "waiting for another run to end", "why", holder) }
	err = alone(ctx, st, waiting, func(ctx context.Context) error {
		rep, err = Run(ctx, st, opt)
		return err
	})
	return rep, err
}

func (opt *Options) logger() *slog.Logger {
	if opt.Logger == nil {
		return slog.Default()
	}
	return opt.Logger
}

// alone calls f while it holds the lease of detection; waiting is told once who is waited for. Runs that are still marked as running then are of processes that
// died; they are marked as failed.
func alone(ctx context.Context, st *store.Store, waiting func(holder error), f func(context.Context) error) error {
	held, l, err := st.WaitLease(ctx, lease, waiting)
	if err != nil {
		return fmt.Errorf("wait for other runs: %w", err)
	}
	err = bury(held, st)
	if err == nil {
		err = f(held)
	}
	if cause := context.Cause(held); err != nil && errors.Is(cause, store.ErrLeaseLost) {
		err = errors.Join(cause, err)
	}
	return errors.Join(err, l.Release(ctx))
}

func bury(ctx context.Context, st *store.Store) error {
	runs, err := st.Runs(ctx)
	if err != nil {
		return fmt.Errorf("look for runs that broke off: %w", err)
	}
	for _, r := range runs {
		if r.Status != store.RunRunning {
			continue
		}
		r.Status, r.Error = store.RunFailed, errVanished.Error()
		if err := st.PutRun(ctx, r); err != nil {
			return fmt.Errorf("mark the run %s as failed: %w", r.Run, err)
		}
	}
	return nil
}

// Schedule does a run in every interval, once over all hosts that have the same interval and window and share the
// database. Intervals begin at multiples of Every since 1970-01-01 UTC. However many were missed, the present one is
// made up for, once.
type Schedule struct {
	Store   *store.Store
	Every   time.Duration // a minute at least
	Options Options
	Clock   Clock  // nil is SystemClock
	Holder  string // who this is, for the record; "" is host and process
	// OnTurn, if set, is told of every turn that this process took, after it.
	OnTurn func(context.Context, Turn)
}

// Turn is one slot as this process saw it.
type Turn struct {
	Slot   time.Time
	Status string // store.RunDone, RunFailed, SlotStopped, SlotEmpty; "" if another host did it
	Report *Report
	Err    error
	Took   time.Duration
}

// ErrSchedule is returned for a schedule that cannot be kept.
var ErrSchedule = errors.New("bad schedule")

// Serve keeps the schedule until the context ends, and then returns nil: a run that goes on is broken off, recorded as
// such, and done again by whoever serves next. A run that fails is recorded and logged, and the next slot is waited for.
func (s *Schedule) Serve(ctx context.Context) error {
	if s.Every < minEvery {
		return fmt.Errorf("%w: every %s is too often, a minute is the least", ErrSchedule, s.Every)
	}
	if s.Clock == nil {
		s.Clock = SystemClock{}
	}
	if s.Holder == "" {
		host, _ := os.Hostname()
		s.Holder = fmt.Sprintf("process %d on %s", os.Getpid(), host)
	}
	s.Options.Now = s.Clock.Now
	log := s.Options.logger()
	for ctx.Err() == nil {
		now := s.Clock.Now().UTC()
		slot := now.Truncate(s.Every)
		next := slot.Add(s.Every)
		if err := s.turn(ctx, slot); err != nil && ctx.Err() == nil {
			// Not even the record could be written: the store is away.
			next = earlier(next, now.Add(minEvery/2))
			log.ErrorContext(ctx, "detection could not be begun, trying again", "at", next, "error", err)
		}
		if s.Clock.Wait(ctx, next) != nil {
			break
		}
	}
	return nil
}

// Name identifies the schedule: hosts with the same name share its slots.
func (s *Schedule) Name() string {
	window := "all"
	if s.Options.Window > 0 {
		window = s.Options.Window.String()
	}
	return fmt.Sprintf("every %s over %s", s.Every, window)
}

// turn does the run of a slot unless it was done. An error means that nothing could be recorded.
func (s *Schedule) turn(ctx context.Context, slot time.Time) error {
	if x, err := s.slot(ctx, slot); err != nil || settled(x) {
		return err
	}
	waiting := func(holder error) { s.Options.logger().InfoContext(ctx, "another run goes on", "why", holder) }
	return alone(ctx, s.Store, waiting, func(held context.Context) error {
		x, err := s.slot(held, slot)
		if err != nil {
			return err
		}
		if settled(x) {
			s.tell(ctx, Turn{Slot: slot})
			return nil
		}
		return s.attempt(ctx, held, x)
	})
}

// slot returns the record of a slot, a fresh one if there is none.
func (s *Schedule) slot(ctx context.Context, slot time.Time) (store.Slot, error) {
	x, ok, err := s.Store.SlotOf(ctx, s.Name(), slot)
	if err != nil {
		return x, fmt.Errorf("look up the slot %s: %w", slot.Format(time.RFC3339), err)
	}
	if !ok {
		x = store.Slot{Schedule: s.Name(), Slot: slot}
	}
	return x, nil
}

// settled reports whether nobody needs to do a slot again. One that is running needs it if whoever looks holds the lease:
// its process died. Whoever does not, finds out by waiting for the lease.
func settled(x store.Slot) bool {
	return x.Status == store.RunDone || x.Status == store.RunFailed || x.Status == store.SlotEmpty
}

// attempt does the run of a slot under the lease, and records what came of it, also when ctx has ended.
func (s *Schedule) attempt(ctx, held context.Context, x store.Slot) error {
	started := s.Clock.Now().UTC()
	if x.Status == store.RunRunning && x.Attempts >= maxAttempts {
		x.Status, x.Error, x.Finished = store.RunFailed, fmt.Sprintf("given up after %d attempts: %v", x.Attempts, errVanished), started
		s.tell(ctx, Turn{Slot: x.Slot, Status: x.Status, Err: errVanished})
		return s.Store.PutSlot(held, x)
	}
	opt := s.Options
	opt.Run = runName(started)
	x.Status, x.Run, x.Holder, x.Started, x.Finished, x.Error = store.RunRunning, opt.Run, s.Holder, started, time.Time{}, ""
	x.Attempts++
	if err := s.Store.PutSlot(held, x); err != nil {
		return fmt.Errorf("begin the slot: %w", err)
	}
	rep, err := Run(held, s.Store, opt)
	x.Finished = s.Clock.Now().UTC()
	switch {
	case err == nil:
		x.Status = store.RunDone
	case ctx.Err() != nil || errors.Is(context.Cause(held), store.ErrLeaseLost):
		x.Status, x.Error = store.SlotStopped, err.Error()
	case errors.Is(err, ErrNoData):
		x.Status, x.Error = store.SlotEmpty, err.Error()
	default:
		x.Status, x.Error = store.RunFailed, err.Error()
		opt.logger().ErrorContext(ctx, "the run failed; the last good result stays", "run", opt.Run, "error", err)
	}
	record, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordFor)
	defer cancel()
	putErr := s.Store.PutSlot(record, x)
	s.tell(record, Turn{Slot: x.Slot, Status: x.Status, Report: rep, Err: err, Took: x.Finished.Sub(started)})
	if putErr != nil {
		return fmt.Errorf("record the slot: %w", putErr)
	}
	if x.Status == store.SlotStopped && ctx.Err() == nil {
		return err // The lease was lost, and the slot is free for whoever gets it next.
	}
	return nil
}

func (s *Schedule) tell(ctx context.Context, t Turn) {
	if s.OnTurn != nil {
		s.OnTurn(ctx, t)
	}
}

// runName names a run by the time of its start.
func runName(t time.Time) string { return t.UTC().Format("20060102T150405.000000Z") }
