package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

func TestLeaseIsHeldByOneAtATime(t *testing.T) {
	o := options(t)
	openWith(t, o)
	var inside, entered atomic.Int32
	var g errgroup.Group
	for range 5 {
		s := openWith(t, o)
		g.Go(func() error {
			ctx, l, err := s.WaitLease(t.Context(), "work", nil)
			if err != nil {
				return err
			}
			if inside.Add(1) != 1 {
				return errors.New("two hold the lease")
			}
			entered.Add(1)
			// Some work on the server, so that the others meet the lease.
			err = s.ddl(ctx, "CREATE OR REPLACE VIEW lease_work AS SELECT 1")
			inside.Add(-1)
			return errors.Join(err, l.Release(ctx))
		})
	}
	require.NoError(t, g.Wait())
	require.EqualValues(t, 5, entered.Load())
}

func TestLease(t *testing.T) {
	o := options(t)
	a, b := openWith(t, o), openWith(t, o)
	ctx, l, err := a.TryLease(t.Context(), "work")
	require.NoError(t, err)
	_, _, err = b.TryLease(t.Context(), "work")
	require.ErrorIs(t, err, ErrLeaseHeld)
	require.ErrorContains(t, err, "process")

	// Another lease is another matter, and so are migrations.
	otherCtx, other, err := b.TryLease(t.Context(), "play")
	require.NoError(t, err)
	require.NoError(t, other.Release(otherCtx))
	_, err = b.Migrate(t.Context())
	require.NoError(t, err)

	// Whoever waits hears for whom, and stops waiting when told to.
	waiting, stop := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	_, _, err = b.WaitLease(waiting, "work", func(holder error) {
		require.ErrorIs(t, holder, ErrLeaseHeld)
		stop(enough)
	})
	require.ErrorIs(t, err, enough)

	require.NoError(t, l.Release(ctx))
	require.Error(t, ctx.Err())
	ctx, l, err = b.TryLease(t.Context(), "work")
	require.NoError(t, err)
	require.NoError(t, l.Release(ctx))
	_, _, err = b.TryLease(t.Context(), "Not a name")
	require.Error(t, err)
}

// The claim of a process that died runs out and is swept away.
func TestLeaseOfTheDead(t *testing.T) {
	s := openWith(t, options(t))
	for _, name := range []string{"lease_work_dead", "lease_loadmnop_0123456789abcdef"} {
		require.NoError(t, s.ddl(t.Context(), "CREATE TABLE "+name+" (x UInt8) ENGINE = Memory COMMENT 'until 1790000000000 held by process 1 on nowhere'"))
	}
	require.NoError(t, s.ddl(t.Context(), "CREATE TABLE lease_car_feed (x UInt8) ENGINE = Memory COMMENT 'of somebody else'"))
	ctx, l, err := s.TryLease(t.Context(), "work")
	require.NoError(t, err)
	require.NoError(t, l.Release(ctx))
	require.Equal(t, "lease_car_feed\n", table(t, s, "SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE 'lease%'"))
}

// A lease that cannot be renewed ends the work that it protects.
func TestLeaseThatIsLost(t *testing.T) {
	s := openWith(t, options(t))
	ctx, l, err := s.TryLease(t.Context(), "work")
	require.NoError(t, err)
	l.lock.lost(fmt.Errorf("lost: %w", ErrUnavailable))
	require.ErrorIs(t, context.Cause(ctx), ErrLeaseLost)
	require.ErrorIs(t, context.Cause(ctx), ErrUnavailable)
	require.NoError(t, l.Release(ctx))
}
