package engine_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine"
	"murmuration/pkg/engine/enginetest"
)

func TestStartStopAndStartAgain(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir)
	assert.True(t, e.Owned())
	assert.Regexp(t, `^\d+\.\d+\.\d+`, e.Version())
	assert.Equal(t, e.Version(), e.Endpoint().Version)
	c := owner(t, e)
	require.NoError(t, c.Exec(t.Context(), "CREATE DATABASE d"))
	require.NoError(t, c.Exec(t.Context(), "CREATE TABLE d.t (a UInt64) ENGINE = MergeTree ORDER BY a"))
	require.NoError(t, c.Exec(t.Context(), "INSERT INTO d.t SELECT number FROM numbers(1000)"))
	require.NoError(t, c.Close())
	password := e.Endpoint().Password
	leave(t, e)
	require.NoError(t, e.Err())
	assert.False(t, running(t, dir))
	assert.NoFileExists(t, filepath.Join(dir, "engine.json"))
	assert.NoFileExists(t, filepath.Join(dir, "control.sock"))
	leave(t, e) // Once more does nothing.

	e = start(t, dir)
	assert.Equal(t, password, e.Endpoint().Password)
	assert.EqualValues(t, 1000, number(t, owner(t, e), "SELECT count() FROM d.t"))
}

func TestNothingIsReadableByOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "the", "engine")
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	e := start(t, dir)
	c := owner(t, e)
	require.NoError(t, c.Exec(t.Context(), "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a"))
	require.NoError(t, c.Exec(t.Context(), "INSERT INTO t SELECT 1"))
	require.NoError(t, c.Exec(t.Context(), "SYSTEM FLUSH LOGS"))
	seen := map[string]bool{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		if os.IsNotExist(err) {
			return nil // Merged away meanwhile.
		}
		require.NoError(t, err)
		seen[d.Name()] = true
		if d.Type() != fs.ModeSymlink {
			assert.Zerof(t, info.Mode().Perm()&0o077, "%s %s", info.Mode(), path)
		}
		return nil
	}))
	for _, name := range []string{"password", "reader.password", "users.xml", "config.xml", "engine.json", "engine.lock", "control.sock", "engine.log", "data.bin"} {
		assert.Truef(t, seen[name], "no %s", name)
	}
}

func TestNeitherArgumentsNorEnvironmentTell(t *testing.T) {
	t.Setenv("CLICKHOUSE_PASSWORD", "from-the-users-environment")
	t.Setenv("MURMURATION_TEST_SECRET", "from-the-users-environment")
	e := start(t, t.TempDir())
	for _, file := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", e.Pid(), file))
		require.NoError(t, err)
		require.NotEmpty(t, b)
		assert.NotContains(t, string(b), e.Endpoint().Password)
		assert.NotContains(t, string(b), "from-the-users-environment")
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", e.Pid()))
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(string(b), "murmuration-engine\x00"+e.Dir()), "%q", b)
}

func TestJoin(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir)
	other := startLoader(t, dir)
	assert.Equal(t, e.Pid(), other.Pid)
	assert.False(t, other.Owned)
	assert.Equal(t, e.Endpoint(), other.Endpoint)
	other.leave(t)
	assert.EqualValues(t, 1, number(t, owner(t, e), "SELECT toUInt64(1)"))
	leave(t, e)
	assert.False(t, running(t, dir))
}

func TestJoinerSurvivesTheStarter(t *testing.T) {
	for name, end := range map[string]func(*loader, *testing.T){
		"left":   func(l *loader, t *testing.T) { l.leave(t) },
		"killed": func(l *loader, t *testing.T) { l.kill(t) },
	} {
		t.Run(name, func(t *testing.T) {
			enginetest.Need(t)
			dir := t.TempDir()
			starter := startLoader(t, dir)
			require.True(t, starter.Owned)
			e, err := engine.Open(t.Context(), engine.Options{Dir: dir})
			require.NoError(t, err)
			require.False(t, e.Owned())
			end(starter, t)
			c := owner(t, e)
			assert.EqualValues(t, 1, number(t, c, "SELECT toUInt64(1)"))
			require.NoError(t, c.Close())
			third := startLoader(t, dir)
			assert.Equal(t, e.Pid(), third.Pid)
			third.leave(t)
			leave(t, e)
			require.NoError(t, e.Err())
			assert.False(t, running(t, dir), "the last one to leave stops the engine and waits for it")
		})
	}
}

func TestManyAtTheSameMoment(t *testing.T) {
	enginetest.Need(t)
	dir := t.TempDir()
	const users, rounds = 6, 3
	for range rounds {
		engines := make([]*engine.Engine, users)
		errs := make([]error, users)
		var wg sync.WaitGroup
		for i := range engines {
			wg.Go(func() { engines[i], errs[i] = engine.Open(t.Context(), engine.Options{Dir: dir}) })
		}
		wg.Wait()
		owned := 0
		for i, e := range engines {
			require.NoError(t, errs[i])
			assert.Equal(t, engines[0].Pid(), e.Pid())
			if e.Owned() {
				owned++
			}
		}
		assert.Equal(t, 1, owned)
		for _, e := range engines {
			wg.Go(func() { assert.NoError(t, e.Close(context.Background())) })
		}
		wg.Wait()
		assert.False(t, running(t, dir))
	}
}

// Opening while the last user leaves must give an engine that runs, never one that is about to end.
func TestOpenWhileTheLastLeaves(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir)
	for range 8 {
		left := make(chan error, 1)
		go func() { left <- e.Close(context.Background()) }()
		next, err := engine.Open(t.Context(), engine.Options{Dir: dir})
		require.NoError(t, err)
		require.NoError(t, <-left)
		c := owner(t, next)
		assert.EqualValues(t, 1, number(t, c, "SELECT toUInt64(1)"))
		require.NoError(t, c.Close())
		e = next
	}
	leave(t, e)
}

func TestSecondStartSaysWhoHolds(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir)
	_, err := engine.Start(t.Context(), engine.Options{Dir: dir})
	require.ErrorIs(t, err, engine.ErrHeld)
	var held *engine.HeldError
	require.ErrorAs(t, err, &held)
	host, hostErr := os.Hostname()
	require.NoError(t, hostErr)
	assert.Equal(t, e.Pid(), held.Holder.Pid)
	assert.Equal(t, os.Getpid(), held.Holder.ClientPid)
	assert.Equal(t, host, held.Holder.Host)
	assert.False(t, held.Holder.Started.IsZero())
	assert.Contains(t, held.Holder.Command, filepath.Base(os.Args[0]))
	for _, part := range []string{dir, fmt.Sprint("pid ", e.Pid()), host, held.Holder.Command, held.Holder.Started.Format("2006-01-02T15:04:05Z")} {
		assert.Contains(t, err.Error(), part)
	}
	assert.EqualValues(t, 1, number(t, owner(t, e), "SELECT toUInt64(1)"), "asking must not end it")
}

func TestStopReachesEverybody(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir)
	joined, err := engine.Open(t.Context(), engine.Options{Dir: dir})
	require.NoError(t, err)
	stop(t, e)
	require.NoError(t, e.Err())
	ended(t, joined)
	require.ErrorIs(t, joined.Err(), engine.ErrStopped)
	leave(t, joined)
	assert.False(t, running(t, dir))
}

func TestSIGTERMWithOpenConnections(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			dir := t.TempDir()
			e := start(t, dir)
			c := owner(t, e)
			require.NoError(t, c.Exec(t.Context(), "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a"))
			require.NoError(t, c.Exec(t.Context(), "INSERT INTO t SELECT number FROM numbers(10)"))
			sendSignal(t, e.Pid(), sig)
			ended(t, e)
			require.ErrorIs(t, e.Err(), engine.ErrStopped)
			assert.Contains(t, e.Err().Error(), map[syscall.Signal]string{syscall.SIGTERM: "SIGTERM", syscall.SIGINT: "SIGINT"}[sig])
			assert.NoFileExists(t, filepath.Join(dir, "engine.json"), "a clean stop leaves no state")
			again := start(t, dir)
			assert.EqualValues(t, 10, number(t, owner(t, again), "SELECT count() FROM t"))
		})
	}
}

func TestCancelledStartLeavesNothingRunning(t *testing.T) {
	enginetest.Need(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := engine.Start(ctx, engine.Options{Dir: dir})
		failed <- err
	}()
	require.Eventually(t, func() bool { _, err := os.Stat(filepath.Join(dir, "engine.json")); return err == nil }, limit, 1e6)
	cancel()
	require.ErrorIs(t, <-failed, context.Canceled)
	gone(t, dir)
	e := start(t, dir)
	assert.True(t, e.Owned())
}

func TestStopUnderARunningQuery(t *testing.T) {
	dir := t.TempDir()
	e := start(t, dir)
	c := owner(t, e)
	failed := make(chan error, 1)
	go func() {
		failed <- c.Exec(context.Background(), "SELECT sleepEachRow(1) FROM numbers(1000) SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0 FORMAT Null")
	}()
	watch := owner(t, e)
	require.Eventually(t, func() bool {
		return number(t, watch, "SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow%' AND query NOT LIKE '%processes%'") == 1
	}, limit, 1e7)
	stop(t, e)
	require.Error(t, <-failed)
	assert.NoFileExists(t, filepath.Join(dir, "engine.json"), "it ended in good order, not by the limit")
}
