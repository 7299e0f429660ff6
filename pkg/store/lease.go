package store

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// What callers of leases decide on.
var (
	ErrLeaseHeld = errors.New("somebody else holds the lease")
	ErrLeaseLost = errors.New("the lease was lost")
)

// leaseMaxPoll is the longest time between two looks at a lease that is waited for.
const leaseMaxPoll = 5 * time.Second

// Lease is the right to do something that only one process at a time may do, over all hosts that share the database. It
// is claimed as the migration lock is (see lock.go): by a table whose comment says until when. The claim is renewed while
// the lease is held; that of a process that died runs out after 20 seconds, and whoever comes next removes it.
type Lease struct {
	name string
	lock *lock
}

var leaseName = regexp.MustCompile(`^[a-z]+$`)

// TryLease takes a lease, named by lower-case letters, or returns ErrLeaseHeld with who holds it. Two that try at once may
// both be refused. The context ends, with ErrLeaseLost, when the lease cannot be renewed in time.
func (s *Store) TryLease(ctx context.Context, name string) (context.Context, *Lease, error) {
	if !leaseName.MatchString(name) {
		return nil, nil, fmt.Errorf("lease %q: lower-case letters only", name)
	}
	l := &Lease{name: name, lock: s.newLock("lease_"+name+"_", `^lease_[a-z]+_[0-9a-f]+$`)}
	_, holder, err := l.lock.try(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("take the lease %s: %w", name, s.explain(err))
	}
	if holder != "" {
		return nil, nil, fmt.Errorf("%w %s: %s", ErrLeaseHeld, name, holder)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	l.lock.lost = func(cause error) {
		if cause != nil {
			cause = fmt.Errorf("%w: %s: %w", ErrLeaseLost, name, errors.Unwrap(cause))
		}
		cancel(cause)
	}
	l.lock.keep(ctx)
	return ctx, l, nil
}

// WaitLease takes a lease as soon as nobody else holds it. waiting, if set, is told once who is waited for.
func (s *Store) WaitLease(ctx context.Context, name string, waiting func(holder error)) (context.Context, *Lease, error) {
	poll := lockPoll
	for told := false; ; {
		held, l, err := s.TryLease(ctx, name)
		if err == nil || !errors.Is(err, ErrLeaseHeld) {
			return held, l, err
		}
		if !told && waiting != nil {
			waiting(err)
			told = true
		}
		if err := pause(ctx, jitter(poll)); err != nil {
			return nil, nil, fmt.Errorf("waiting for the lease %s: %w", name, err)
		}
		poll = min(2*poll, leaseMaxPoll)
	}
}

// Release gives the lease back, also when the context has ended.
func (l *Lease) Release(ctx context.Context) error {
	if err := l.lock.end(ctx); err != nil {
		return fmt.Errorf("release the lease %s (it expires in %s): %w", l.name, lockFor, err)
	}
	return nil
}
