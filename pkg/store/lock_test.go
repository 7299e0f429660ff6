package store

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// valve stands between a client and a server. Shut, it swallows what is sent without closing a connection, as a network does that drops packets.
type valve struct {
	mu   sync.Mutex
	shut chan struct{} // closed when it opens; nil while it is open
}

func (v *valve) turn(shut bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case shut && v.shut == nil:
		v.shut = make(chan struct{})
	case !shut && v.shut != nil:
		close(v.shut)
		v.shut = nil
	}
}

// listen returns an address that leads to the server.
func (v *valve) listen(t *testing.T, server string) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			behind, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			go v.pass(behind, client)
			go v.pass(client, behind)
		}
	}()
	return l.Addr().String()
}

func (v *valve) pass(to io.WriteCloser, from io.Reader) {
	defer to.Close() //nolint:errcheck // The other side sees that it ended.
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		v.mu.Lock()
		shut := v.shut
		v.mu.Unlock()
		if shut != nil {
			<-shut
		}
		if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
			return
		}
	}
}

// Who holds a lock and hears no more from the server stops before anybody else can have taken it, though no connection was closed.
func TestLockOfASilentServer(t *testing.T) {
	o := options(t)
	other := openWith(t, o)
	var v valve
	o.Addr = []string{v.listen(t, o.Addr[0])}
	s := openWith(t, o)
	l := s.newLock("lease_silent_", `^lease_silent_[0-9a-f]+$`)
	l.lasts, l.every = 6*time.Second, 1500*time.Millisecond // It is lost a renewal before it runs out, however busy the machine is.
	ok, holder, err := l.try(t.Context())
	require.NoError(t, err)
	require.True(t, ok, holder)
	held, lost := context.WithCancelCause(t.Context())
	l.lost = lost
	l.keep(held)
	defer v.turn(false)
	v.turn(true)

	next := other.newLock(l.prefix, l.sweep)
	for {
		if ok, _, err = next.try(t.Context()); err == nil && ok {
			break
		}
		require.NoError(t, pause(t.Context(), 20*time.Millisecond))
	}
	require.Error(t, held.Err(), "two hold the lock")
	require.ErrorContains(t, context.Cause(held), "the migration lock was lost")
	v.turn(false)
	require.NoError(t, l.end(t.Context()))
	require.NoError(t, next.drop(t.Context()))
	assert.Equal(t, "0\n", table(t, other, "SELECT count() FROM system.tables WHERE database = currentDatabase() AND startsWith(name, '"+l.prefix+"')"))
}

// A claim that somebody removed is no claim: its holder stops at the next renewal and not when it would have run out.
func TestLockThatWasRemoved(t *testing.T) {
	s := open(t)
	l := s.newLock("lease_removed_", `^lease_removed_[0-9a-f]+$`)
	l.every = 50 * time.Millisecond
	ok, holder, err := l.try(t.Context())
	require.NoError(t, err)
	require.True(t, ok, holder)
	held, lost := context.WithCancelCause(t.Context())
	l.lost = lost
	l.keep(held)
	require.NoError(t, s.ddl(t.Context(), "DROP TABLE "+l.table))
	<-held.Done()
	require.ErrorContains(t, context.Cause(held), "the migration lock was lost")
	require.True(t, time.Now().Before(l.until), "long before it would have run out")
	require.NoError(t, l.end(t.Context()))
}
