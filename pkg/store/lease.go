package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
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
	var id [8]byte
	rand.Read(id[:]) //nolint:errcheck,gosec // It never fails.
	l := &Lease{name: name, lock: &lock{
		store: s, table: leasePrefix(name) + hex.EncodeToString(id[:]), stop: make(chan struct{}), stopped: make(chan struct{}),
	}}
	holder, err := l.try(ctx)
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
	go l.lock.renew(ctx)
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
	close(l.lock.stop)
	<-l.lock.stopped
	l.lock.lost(nil)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockRenew)
	defer cancel()
	if err := l.lock.drop(ctx, l.lock.table); err != nil {
		return fmt.Errorf("release the lease %s (it expires in %s): %w", l.name, lockFor, err)
	}
	return nil
}

func leasePrefix(name string) string { return "lease_" + name + "_" }

// try claims the lease once and returns who else holds it, "" for nobody.
func (l *Lease) try(ctx context.Context) (holder string, err error) {
	if holder, err = l.other(ctx); err != nil || holder != "" {
		return holder, err
	}
	if err := l.lock.claim(ctx, "CREATE TABLE "+l.lock.table+" (x UInt8) ENGINE = Memory COMMENT "); err != nil {
		return "", err
	}
	if holder, err = l.other(ctx); err != nil || holder != "" {
		err = errors.Join(err, l.lock.drop(context.WithoutCancel(ctx), l.lock.table))
	}
	return holder, err
}

// other returns who else holds a claim that still stands, and removes those that ran out, also those of other leases: what
// a killed loader was loading may never be asked for again.
func (l *Lease) other(ctx context.Context) (holder string, err error) {
	rows, err := l.lock.store.conn.Query(ctx, "SELECT name, comment, toUnixTimestamp64Milli(now64(3)) FROM system.tables WHERE database = currentDatabase() AND match(name, '^lease_[a-z]+_[0-9a-f]+$')")
	if err != nil {
		return "", err //nolint:wrapcheck // TryLease wraps it.
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells.
	var expired []string
	for rows.Next() {
		var name, comment string
		var now int64
		if err := rows.Scan(&name, &comment, &now); err != nil {
			return "", err //nolint:wrapcheck // TryLease wraps it.
		}
		if name == l.lock.table {
			continue
		}
		switch who, stands := readClaim(comment, now); {
		case !stands && strings.HasPrefix(comment, "until "):
			expired = append(expired, name)
		case stands && strings.HasPrefix(name, leasePrefix(l.name)):
			holder = who
		}
	}
	if err := rows.Err(); err != nil {
		return "", err //nolint:wrapcheck // TryLease wraps it.
	}
	for _, name := range expired {
		if err := l.lock.drop(ctx, name); err != nil {
			return "", err
		}
	}
	return holder, nil
}
