package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// The migration lock.
//
// ClickHouse has no advisory locks. What it has is CREATE TABLE: visible to everybody at once, durable, and
// carrying a comment from its first moment. Whoever wants to migrate makes a table of its own, whose
// comment says until when it claims the lock, and then looks: if any other claim stands, it takes its own back and
// waits. Of two that claim at once the later one sees the earlier one's table (both may see each
// other and both step back, for random times); so two never both hold it. The holder renews its claim; one that died
// lets it expire, and whoever comes next removes it. A holder that cannot renew in time stops before its next
// statement. All times are the server's. Statements of migrations can be run twice (IF NOT EXISTS), so that
// even a holder that was frozen in the middle of one does no harm.
//
// On a cluster the claim is made, and looked for, on every node that answers, which must be more than half of them: any
// two such sets share a node, and there one of two sees the other. Each node's claim is by that node's clock.
const (
	lockPrefix = "schema_lock_"
	lockFor    = 20 * time.Second
	lockRenew  = 5 * time.Second
	lockPoll   = 200 * time.Millisecond
)

type lock struct {
	nodes   []*node
	prefix  string // of the tables of all who claim it
	sweep   string // which tables are claims, of this lock and of those like it, and removed when they ran out
	table   string
	until   time.Time // by the local clock, on the safe side
	stop    chan struct{}
	stopped chan struct{}
	lost    context.CancelCauseFunc
}

func (s *Store) newLock(prefix, sweep string) *lock {
	var id [8]byte
	rand.Read(id[:]) //nolint:errcheck,gosec // It never fails.
	return &lock{nodes: s.holders(), prefix: prefix, sweep: sweep, table: prefix + hex.EncodeToString(id[:]), stop: make(chan struct{}), stopped: make(chan struct{})}
}

// lockSchema waits for the lock and returns a context that ends when it is lost. The lock must be released.
func (s *Store) lockSchema(ctx context.Context) (context.Context, *lock, error) {
	l := s.newLock(lockPrefix, "^"+lockPrefix)
	for waited := false; ; {
		ok, holder, err := l.try(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("take the migration lock: %w", err)
		}
		if ok {
			break
		}
		if !waited {
			s.log.Info("waiting for another migration", "holder", holder)
			waited = true
		}
		if err := pause(ctx, jitter(lockPoll)); err != nil {
			return nil, nil, fmt.Errorf("waiting for the migration lock, held by %s: %w", holder, err)
		}
	}
	ctx, l.lost = context.WithCancelCause(ctx)
	go l.renew(ctx)
	return ctx, l, nil
}

// try claims the lock once. If somebody else has it, holder says who.
func (l *lock) try(ctx context.Context) (ok bool, holder string, err error) {
	if holder, err = l.other(ctx); err != nil || holder != "" {
		return false, holder, err
	}
	err = l.claim(ctx, "CREATE TABLE IF NOT EXISTS "+l.table+" (x UInt8) ENGINE = Memory COMMENT ")
	if err == nil {
		holder, err = l.other(ctx)
	}
	if err != nil || holder != "" {
		return false, holder, errors.Join(err, l.drop(context.WithoutCancel(ctx), l.table))
	}
	return true, "", nil
}

// most runs fn for every node and returns an error if it failed for half of them or more.
func (l *lock) most(fn func(*node) error) error {
	if errs := eachNode(l.nodes, fn); 2*len(errs) >= len(l.nodes) {
		return oneLine(errs)
	}
	return nil
}

// claim runs a statement that ends in the comment of the claim, good for lockFor from now.
func (l *lock) claim(ctx context.Context, statement string) error {
	before := time.Now()
	err := l.most(func(n *node) error {
		var now time.Time
		if err := n.store.conn.QueryRow(ctx, "SELECT now64(3)").Scan(&now); err != nil {
			return err //nolint:wrapcheck // lockSchema wraps it.
		}
		return n.exec(ctx, statement+"'"+claimText(now.Add(lockFor))+"'")
	})
	if err == nil {
		l.until = before.Add(lockFor)
	}
	return err
}

// other returns who else holds a claim that still stands, and removes those that ran out, of a lease also those of other leases: what a
// killed loader was loading may never be asked for again.
func (l *lock) other(ctx context.Context) (holder string, err error) {
	var mu sync.Mutex
	err = l.most(func(n *node) error {
		who, err := l.otherOn(ctx, n)
		mu.Lock()
		defer mu.Unlock()
		holder = max(holder, who)
		return err
	})
	return holder, err
}

func (l *lock) otherOn(ctx context.Context, n *node) (holder string, err error) {
	var expired []string
	err = n.store.each(ctx, `SELECT name, comment, toUnixTimestamp64Milli(now64(3)) FROM system.tables
		WHERE database = currentDatabase() AND match(name, {sweep:String})`, func(rows driver.Rows) error {
		var name, comment string
		var now int64
		if err := rows.Scan(&name, &comment, &now); err != nil {
			return err //nolint:wrapcheck // lockSchema wraps it.
		}
		if name == l.table {
			return nil
		}
		switch who, stands := readClaim(comment, now); {
		case !stands && (strings.HasPrefix(comment, "until ") || l.prefix == lockPrefix):
			expired = append(expired, name)
		case stands && strings.HasPrefix(name, l.prefix):
			holder = who
		}
		return nil
	}, clickhouse.Named("sweep", l.sweep))
	if err != nil {
		return "", err
	}
	for _, name := range expired {
		if err := n.dropClaim(ctx, name); err != nil {
			return "", err
		}
	}
	return holder, nil
}

// drop takes a claim back. Where a node of several does not answer, it expires.
func (l *lock) drop(ctx context.Context, table string) error {
	return l.most(func(n *node) error { return n.dropClaim(ctx, table) })
}

func (n *node) dropClaim(ctx context.Context, table string) error {
	return n.exec(ctx, "DROP TABLE IF EXISTS "+table+" SYNC")
}

// renew keeps the claim standing until release, and ends the context of the holder if it cannot.
func (l *lock) renew(ctx context.Context) {
	defer close(l.stopped)
	for {
		select {
		case <-l.stop:
			return
		case <-ctx.Done():
			return
		case <-time.After(lockRenew):
		}
		err := l.claim(ctx, "ALTER TABLE "+l.table+" MODIFY COMMENT ")
		if err != nil && time.Now().After(l.until.Add(-lockRenew)) {
			l.lost(fmt.Errorf("the migration lock was lost: %w", err))
			return
		}
	}
}

// release gives the lock back, also when the context has ended.
func (l *lock) release(ctx context.Context) error {
	close(l.stop)
	<-l.stopped
	l.lost(nil)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockRenew)
	defer cancel()
	if err := l.drop(ctx, l.table); err != nil {
		return fmt.Errorf("release the migration lock (it expires in %s): %w", lockFor, err)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// jitter returns a random time between d/2 and 3d/2, so that two that stepped back for each other do not meet again.
func jitter(d time.Duration) time.Duration {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(d)))
	if err != nil {
		return d
	}
	return d/2 + time.Duration(n.Int64())
}
