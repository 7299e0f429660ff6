package campaign

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"murmuration/pkg/store"
)

// clock stands still until a test moves it. Everybody who waits says so on arrived.
type clock struct {
	mu      sync.Mutex
	now     time.Time
	arrived chan time.Time
	tick    chan struct{}
}

func newClock(now time.Time) *clock {
	return &clock{now: now, arrived: make(chan time.Time), tick: make(chan struct{})}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Microsecond) // No two runs begin at once.
	return c.now
}

func (c *clock) Wait(ctx context.Context, until time.Time) error {
	select {
	case c.arrived <- until:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-c.tick:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// waits lets n schedules come to rest and returns until when one of them waits.
func (c *clock) waits(n int) (until time.Time) {
	for range n {
		until = <-c.arrived
	}
	return until
}

func (c *clock) set(now time.Time, n int) {
	c.mu.Lock()
	c.now = now
	c.mu.Unlock()
	for range n {
		c.tick <- struct{}{}
	}
}

// turns collects what schedules did.
type turns struct {
	mu  sync.Mutex
	all []Turn
}

func (x *turns) add(_ context.Context, t Turn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.all = append(x.all, t)
}

// did lists the turns in which something was done.
func (x *turns) did() []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []string
	for _, t := range x.all {
		if t.Status != "" {
			out = append(out, t.Slot.Format("15:04 ")+t.Status)
		}
	}
	return out
}

// serve starts a schedule on a connection of its own and returns how to end it.
func (f *field) serve(c Clock, x *turns, change func(*Schedule)) (stop func()) {
	f.t.Helper()
	s := &Schedule{Store: f.open(), Every: time.Hour, Options: f.options(time.Time{}, 0), Clock: c, OnTurn: x.add}
	if change != nil {
		change(s)
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	var g errgroup.Group
	g.Go(func() error { return s.Serve(ctx) })
	return func() {
		cancel()
		require.NoError(f.t, g.Wait())
	}
}

// swept is a field with one campaign in it.
func swept(t *testing.T) *field {
	f := newField(t)
	f.watch("198.18.0.0/22", "")
	f.sweep(sweep{members: sources("100.64.0.0", 32), prefix: "198.18.0.0/22", port: 80, from: at(0, 0), to: at(1, 0), tool: "zmap"})
	return f
}

func (f *field) runs() []string {
	f.t.Helper()
	runs, err := f.st.Runs(f.t.Context())
	require.NoError(f.t, err)
	var out []string
	for _, r := range runs {
		out = append(out, r.Status)
	}
	return out
}

func TestTwoSchedulesRunOnce(t *testing.T) {
	f := swept(t)
	c, x := newClock(at(10, 0).Add(7*time.Minute)), &turns{}
	stopA, stopB := f.serve(c, x, nil), f.serve(c, x, nil)
	require.Equal(t, at(10, 1), c.waits(2))
	require.Equal(t, []string{"00:00 done"}, x.did())

	// Nothing is due within the hour; what was missed while nobody looked is made up for once.
	c.set(at(10, 0).Add(40*time.Minute), 2)
	c.waits(2)
	c.set(at(10, 7).Add(time.Minute), 2)
	c.waits(2)
	require.Equal(t, []string{"00:00 done", "07:00 done"}, x.did())
	// A clock that goes back asks for nothing that was done.
	c.set(at(10, 0).Add(time.Minute), 2)
	c.waits(2)
	stopA()
	stopB()
	require.Equal(t, []string{"done", "done"}, f.runs())

	// A restart within the hour does not repeat the run, another schedule has slots of its own.
	c = newClock(at(10, 7).Add(2 * time.Minute))
	stop := f.serve(c, x, nil)
	c.waits(1)
	stop()
	require.Len(t, x.did(), 2)
	c = newClock(at(10, 7).Add(2 * time.Minute))
	stop = f.serve(c, x, func(s *Schedule) { s.Options.Window = days })
	c.waits(1)
	stop()
	require.Len(t, x.did(), 3)
}

func TestAFailedRunLeavesTheLastGoodResult(t *testing.T) {
	f := swept(t)
	c, x := newClock(at(10, 0)), &turns{}
	stop := f.serve(c, x, nil)
	c.waits(1)
	good := f.known()
	require.Len(t, good, 1)
	for i := range 256 { // More addresses than a run can number.
		f.watch(fmt.Sprintf("%d.0.0.0/8", i), "")
	}
	c.set(at(10, 1), 1)
	require.Equal(t, at(10, 2), c.waits(1), "the next slot is tried, not the same one")
	stop()
	require.Equal(t, []string{"00:00 done", "01:00 failed"}, x.did())
	require.Equal(t, []string{"failed", "done"}, f.runs())
	require.Equal(t, good, f.known())
	slot, ok, err := f.st.SlotOf(t.Context(), "every 1h0m0s over all", at(10, 1))
	require.NoError(t, err)
	require.True(t, ok)
	require.Contains(t, slot.Error, "detect one sensor at a time")
}

func TestStoppedInTheMiddleOfARun(t *testing.T) {
	f := swept(t)
	x := &turns{}
	ctx, cancel := context.WithCancel(t.Context())
	s := &Schedule{Store: f.open(), Every: time.Hour, Options: f.options(time.Time{}, 0), Clock: newClock(at(10, 0)), OnTurn: x.add}
	s.Options.Progress = func(stage string, _ float64) {
		if stage == "reading footprints" {
			cancel()
		}
	}
	require.NoError(t, s.Serve(ctx))
	require.Equal(t, []string{"00:00 stopped"}, x.did())
	require.Equal(t, []string{"failed"}, f.runs())
	require.Empty(t, f.known())

	// Whoever serves next does it again, at once: the lease was given back.
	c := newClock(at(10, 0).Add(time.Minute))
	stop := f.serve(c, x, nil)
	c.waits(1)
	stop()
	require.Equal(t, []string{"00:00 stopped", "00:00 done"}, x.did())
	require.Len(t, f.known(), 1)
}

func TestNothingLoadedYet(t *testing.T) {
	f := newField(t)
	c, x := newClock(at(10, 0)), &turns{}
	stop := f.serve(c, x, nil)
	c.waits(1)
	stop()
	require.Equal(t, []string{"00:00 empty"}, x.did())
	require.Empty(t, f.runs())
}

// A process that dies in the middle of a run is made up for in the same slot, three times at most.
func TestCrashed(t *testing.T) {
	for attempts, want := range map[uint32]string{1: "00:00 done", maxAttempts: "00:00 failed"} {
		f := swept(t)
		name := "every 1h0m0s over all"
		dead := runName(at(10, 0))
		require.NoError(t, f.st.PutSlot(t.Context(), store.Slot{Schedule: name, Slot: at(10, 0), Status: store.RunRunning, Run: dead, Attempts: attempts, Started: at(10, 0)}))
		require.NoError(t, f.st.PutRun(t.Context(), store.CampaignRun{Run: dead, Started: at(10, 0), From: at(0, 0), To: at(1, 0), Status: store.RunRunning}))
		c, x := newClock(at(10, 0).Add(time.Minute)), &turns{}
		stop := f.serve(c, x, nil)
		c.waits(1)
		stop()
		require.Equal(t, []string{want}, x.did())
		runs, err := f.st.Runs(t.Context())
		require.NoError(t, err)
		oldest := runs[len(runs)-1]
		require.Equal(t, dead, oldest.Run)
		require.Equal(t, store.RunFailed, oldest.Status)
		require.Contains(t, oldest.Error, "ended without a word")
	}
}

func TestScheduleTooOften(t *testing.T) {
	require.ErrorIs(t, (&Schedule{Every: time.Second}).Serve(t.Context()), ErrSchedule)
}

// A run by hand waits for the one that goes on, and can be told not to.
func TestARunByHandWaits(t *testing.T) {
	f := swept(t)
	_, l, err := f.open().TryLease(t.Context(), lease)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	opt := f.options(at(1, 0), days)
	var log strings.Builder
	opt.Logger = slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
		defer cancel()
		return log.Write(p)
	}), nil))
	_, err = RunAlone(ctx, f.st, opt)
	require.ErrorIs(t, err, context.Canceled)
	require.Contains(t, log.String(), "waiting for another run")
	require.Contains(t, log.String(), "process")
	require.Empty(t, f.runs())
	require.NoError(t, l.Release(t.Context()))
	_, err = RunAlone(t.Context(), f.st, f.options(at(1, 0), days))
	require.NoError(t, err)
	require.Equal(t, []string{"done"}, f.runs())
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }
