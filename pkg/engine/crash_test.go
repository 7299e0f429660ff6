package engine_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine"
	"murmuration/pkg/engine/enginetest"
)

// kill9 kills the engine and nothing else.
func kill9(t *testing.T, e *engine.Engine) {
	t.Helper()
	sendSignal(t, e.Pid(), syscall.SIGKILL)
	ended(t, e)
}

func TestKilledUnderInsertsEverythingAcknowledgedIsThere(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir)
	c := owner(t, e)
	require.NoError(t, c.Exec(t.Context(), "CREATE TABLE t (batch UInt64, a UInt64) ENGINE = MergeTree ORDER BY (batch, a)"))
	require.NoError(t, c.Close())
	const rounds, rows = 5, 20_000
	var acknowledged atomic.Uint64 // number of batches; batch n was acknowledged if n < acknowledged
	for round := range rounds {
		enough := acknowledged.Load() + uint64(3+7*round)
		conn := owner(t, e)
		stopped := make(chan error, 1)
		reached := make(chan struct{})
		go func() {
			for {
				n := acknowledged.Load()
				b, err := conn.PrepareBatch(context.Background(), "INSERT INTO t")
				for i := 0; err == nil && i < rows; i++ {
					err = b.Append(n, uint64(i))
				}
				if err == nil {
					err = b.Send()
				}
				if err != nil {
					stopped <- err
					return
				}
				if acknowledged.Add(1) == enough {
					close(reached)
				}
			}
		}()
		select {
		case <-reached: // The next batch is on its way now.
		case err := <-stopped:
			t.Fatal(err)
		}
		kill9(t, e)
		require.ErrorIs(t, e.Err(), engine.ErrDied)
		require.ErrorContains(t, e.Err(), "killed")
		require.Error(t, <-stopped)
		require.NoError(t, conn.Close())

		e = start(t, dir)
		conn = owner(t, e)
		n := acknowledged.Load()
		require.EqualValues(t, n, number(t, conn, "SELECT count() FROM (SELECT batch FROM t WHERE batch < "+
			"(SELECT "+itoa(n)+") GROUP BY batch HAVING uniqExact(a) = 20000 AND count() = 20000)"))
		// The batch in flight may be there or not, but whole, and it is sent again by the next round: clear it.
		require.EqualValues(t, 0, number(t, conn, "SELECT toUInt64(count() % 20000) FROM t"))
		require.NoError(t, conn.Exec(t.Context(), "ALTER TABLE t DELETE WHERE batch >= "+itoa(n)+" SETTINGS mutations_sync = 2"))
		require.NoError(t, conn.Close())
	}
}

func TestKilledParentTakesTheEngineAlong(t *testing.T) {
	enginetest.Need(t)
	dir := t.TempDir()
	l := startLoader(t, dir)
	require.True(t, l.Owned)
	c := connect(t, l.Endpoint, l.Endpoint.User, l.Endpoint.Password)
	require.NoError(t, c.Exec(t.Context(), "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a"))
	require.NoError(t, c.Exec(t.Context(), "INSERT INTO t SELECT number FROM numbers(77)"))
	require.NoError(t, c.Close())
	l.kill(t)
	gone(t, dir)
	assert.NoFileExists(t, filepath.Join(dir, "engine.json"), "the engine stopped in good order")
	e := start(t, dir)
	assert.EqualValues(t, 77, number(t, owner(t, e), "SELECT count() FROM t"))
}

func TestKilledParentAndEngine(t *testing.T) {
	enginetest.Need(t)
	dir := t.TempDir()
	l := startLoader(t, dir)
	sendSignal(t, l.Pid, syscall.SIGKILL)
	l.kill(t)
	gone(t, dir)
	require.FileExists(t, filepath.Join(dir, "engine.json"), "the state is stale now")
	e, err := engine.Open(t.Context(), engine.Options{Dir: dir})
	require.NoError(t, err)
	assert.True(t, e.Owned())
	assert.NotEqual(t, l.Pid, e.Pid())
	leave(t, e)
}

// Stale state must not be believed, least of all a process id that somebody else has by now.
func TestStaleState(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"a living process id": func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "engine.json"), []byte(`{"pid": 1, "phase": "ready", "tcp_addr": "127.0.0.1:1"}`), 0o600))
		},
		"cut state file": func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "engine.json"), []byte(`{"pi`), 0o600))
		},
		"empty state file": func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "engine.json"), nil, 0o600))
		},
		"dead socket": func(t *testing.T, dir string) {
			ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "control.sock")})
			require.NoError(t, err)
			ln.SetUnlinkOnClose(false)
			require.NoError(t, ln.Close())
		},
		"half a file": func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "engine.json.new"), []byte("x"), 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "password.new"), []byte("x"), 0o600))
		},
		"cut password": func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "password"), []byte("abc"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.Need(t)
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "engine.lock"), nil, 0o600))
			spoil(t, dir)
			e, err := engine.Open(t.Context(), engine.Options{Dir: dir})
			require.NoError(t, err)
			assert.True(t, e.Owned())
			assert.Len(t, e.Endpoint().Password, 64)
			c := owner(t, e)
			assert.EqualValues(t, 1, number(t, c, "SELECT toUInt64(1)"))
			require.NoError(t, c.Close())
			leave(t, e)
		})
	}
}

// A password that others could read is replaced; one that only the owner can read stays.
func TestExposedPasswordIsReplaced(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir)
	first := e.Endpoint().Password
	leave(t, e)
	require.NoError(t, os.Chmod(filepath.Join(dir, "password"), 0o644))
	e = start(t, dir)
	assert.NotEqual(t, first, e.Endpoint().Password)
	c := connect(t, e.Endpoint(), engine.OwnerUser, first)
	assert.Error(t, c.Ping(t.Context()))
	info, err := os.Stat(filepath.Join(dir, "password"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

// vanish breaks off a native insert in the middle of a block, as a killed process does: by the end of the connection,
// or by a reset.
func vanish(t *testing.T, ep engine.Endpoint, after int, reset bool) {
	t.Helper()
	broken := &breaking{left: after, reset: reset}
	c, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{ep.TCPAddr}, Auth: clickhouse.Auth{Username: ep.User, Password: ep.Password}, MaxOpenConns: 1,
		DialContext: func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", addr)
			if err == nil {
				broken.Conn = conn
			}
			return broken, err
		},
	})
	require.NoError(t, err)
	defer c.Close()
	b, err := c.PrepareBatch(t.Context(), "INSERT INTO t")
	for i := 0; err == nil; i++ {
		if err = b.Append(uint64(i), strings.Repeat("x", 100)); err == nil && i%5000 == 4999 {
			err = b.Flush()
		}
	}
	require.True(t, broken.done, "%v", err)
}

// breaking is a connection that ends after some bytes were written.
type breaking struct {
	net.Conn
	left  int
	reset bool
	done  bool
}

func (b *breaking) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left > 0 {
		return b.Conn.Write(p)
	}
	_, _ = b.Conn.Write(p[:len(p)/2])
	if b.reset {
		_ = b.Conn.(*net.TCPConn).SetLinger(0)
	}
	b.done = true
	_ = b.Close()
	return 0, net.ErrClosed
}

// A client that vanishes in the middle of an insert must not end the engine, however often: see redirect.
func TestVanishingClientsDoNotEndTheEngine(t *testing.T) {
	e := start(t, t.TempDir())
	c := owner(t, e)
	require.NoError(t, c.Exec(t.Context(), "CREATE TABLE t (a UInt64, s String) ENGINE = MergeTree ORDER BY a"))
	for i := range 80 {
		vanish(t, e.Endpoint(), 1_000+i*40_000, i%2 == 0)
	}
	assert.EqualValues(t, 1, number(t, c, "SELECT toUInt64(1)"))
	assert.NoError(t, e.Err())
}
