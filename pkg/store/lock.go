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
	lasts   time.Duration // a claim
	every   time.Duration // it is renewed
	until   time.Time     // by the local clock, on the safe side
	halt    context.CancelFunc
	stopped chan struct{}
	lost    context.CancelCauseFunc
}

func (s *Store) newLock(prefix, sweep string) *lock {
	var id [8]byte
	rand.Read(id[:]) //nolint:errcheck,gosec // It never fails.
	return &lock{nodes: s.holders(), prefix: prefix, sweep: sweep, table: prefix + hex.EncodeToString(id[:]), lasts: lockFor, every: lockRenew, stopped: make(chan struct{})}
}

// lockSchema waits for the lock and returns a context that ends when it is lost. The lock must be released.
func (s *Store) lockSchema(ctx context.Context) (context.Context, *lock, error) {
	return s.take(ctx, s.newLock(lockPrefix, "^"+lockPrefix))
}

// rebuildPrefix begins the claims of who makes a month of a rollup anew, on this server or node: inserts wait for it (passGate), or what comes in meanwhile would be lost with
// the month that is replaced, time and again where batches follow one another.
const rebuildPrefix = lockPrefix + "rebuild_"

// closeGate keeps inserts away, and returns when those that run have ended and what they brought to another replica has been fetched.
func (s *Store) closeGate(ctx context.Context) (context.Context, *lock, error) {
	ctx, l, err := s.take(ctx, s.newLock(rebuildPrefix, "^"+rebuildPrefix))
	if err != nil {
		return nil, nil, err
	}
	for {
		running, err := s.inserting(ctx)
		if err == nil && running > 0 {
			err = pause(ctx, lockPoll)
		} else if err == nil {
			if err = s.syncReplica(ctx); err == nil {
				return ctx, l, nil
			}
		}
		if err != nil {
			return nil, nil, errors.Join(err, l.release(ctx))
		}
	}
}

// passGate waits for those who make a month anew.
func (s *Store) passGate(ctx context.Context) error {
	l := s.newLock(rebuildPrefix, "^"+rebuildPrefix)
	l.lasts = lockRenew // A node that does not answer holds no batch up for longer.
	for waited := false; ; waited = true {
		holder, err := l.other(ctx)
		if err != nil || holder == "" {
			return err
		}
		if !waited {
			s.log.Info("waiting for a rollup that is made anew", "holder", holder)
		}
		if err := pause(ctx, lockPoll); err != nil {
			return err
		}
	}
}

func (s *Store) take(ctx context.Context, l *lock) (context.Context, *lock, error) {
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
	l.keep(ctx)
	return ctx, l, nil
}

// try claims the lock once. If somebody else has it, holder says who.
func (l *lock) try(ctx context.Context) (ok bool, holder string, err error) {
	if holder, err = l.other(ctx); err != nil || holder != "" {
		return false, holder, err
	}
	err = l.claim(ctx, "CREATE TABLE IF NOT EXISTS "+l.table+" (x UInt8) ENGINE = Memory COMMENT ", time.Now().Add(l.lasts))
	if err == nil {
		holder, err = l.other(ctx)
	}
	if err != nil || holder != "" {
		return false, holder, errors.Join(err, l.drop(ctx))
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

// claim runs a statement that ends in the comment of the claim, good for l.lasts from now. A node that has not answered by a time counts as one
// that failed: it may hang, or the network swallow what is sent to it, and nobody closes the connection.
func (l *lock) claim(ctx context.Context, statement string, by time.Time) error {
	before := time.Now()
	ctx, cancel := context.WithDeadline(ctx, by)
	defer cancel()
	err := l.most(func(n *node) error {
		var now time.Time
		if err := n.store.conn.QueryRow(ctx, "SELECT now64(3)").Scan(&now); err != nil {
			return err //nolint:wrapcheck // lockSchema wraps it.
		}
		return n.exec(ctx, statement+"'"+claimText(now.Add(l.lasts))+"'")
	})
	if err == nil {
		l.until = before.Add(l.lasts)
	}
	return err
}

// other returns who else holds a claim that still stands, and removes those that ran out, of a lease also those of other leases: what a
// killed loader was loading may never be asked for again.
func (l *lock) other(ctx context.Context) (holder string, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.lasts)
	defer cancel()
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

// drop takes the claim back, also when the context has ended. Where a node of several does not answer, it expires.
func (l *lock) drop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.every)
	defer cancel()
	return l.most(func(n *node) error { return n.dropClaim(ctx, l.table) })
}

func (n *node) dropClaim(ctx context.Context, table string) error {
	return n.exec(ctx, "DROP TABLE IF EXISTS "+table+" SYNC")
}

// keep renews the claim from now on, until it is ended.
func (l *lock) keep(ctx context.Context) {
	ctx, l.halt = context.WithCancel(ctx)
	go l.renew(ctx)
}

// renew keeps the claim standing, and ends the context of the holder if it cannot: before the claim runs out, and at once where somebody has removed it.
func (l *lock) renew(ctx context.Context) {
	defer close(l.stopped)
	for pause(ctx, l.every) == nil {
		last := l.until.Add(-l.every)
		by := time.Now().Add(l.every)
		if last.Before(by) {
			by = last
		}
		err := l.claim(ctx, "ALTER TABLE "+l.table+" MODIFY COMMENT ", by)
		var ex *clickhouse.Exception
		removed := errors.As(err, &ex) && ex.Code == codeUnknownTable
		if err != nil && ctx.Err() == nil && (removed || !time.Now().Before(last)) {
			l.lost(fmt.Errorf("the migration lock was lost: %w", err))
			return
		}
	}
}

// end stops renewing the claim and takes it back.
func (l *lock) end(ctx context.Context) error {
	l.halt()
	<-l.stopped
	l.lost(nil)
	return l.drop(ctx)
}

// release gives the lock back, also when the context has ended.
func (l *lock) release(ctx context.Context) error {
	if err := l.end(ctx); err != nil {
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
