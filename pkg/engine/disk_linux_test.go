package engine_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"murmuration/pkg/engine"
	"murmuration/pkg/engine/enginetest"
)

// small mounts a file system of that size, where this is allowed.
func small(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("a small file system cannot be mounted: %v", err)
		}
		t.Skipf("a small file system cannot be mounted: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestFullDisk(t *testing.T) {
	enginetest.Need(t)
	for _, size := range []string{"4k", "16k"} {
		dir := small(t, size)
		_, err := engine.Open(t.Context(), engine.Options{Dir: dir})
		if assert.Error(t, err, size) {
			assert.Regexp(t, "(?i)no space left", err.Error(), size)
		}
		gone(t, dir)
	}
}

// A disk that fills up later must leave the engine able to say so, and to go on when there is space again.
func TestDiskFillsUp(t *testing.T) {
	dir := small(t, "96m")
	e := start(t, dir)
	c := owner(t, e)
	require.NoError(t, c.Exec(t.Context(), "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a"))
	ballast := filepath.Join(dir, "user_files", "ballast")
	f, err := os.Create(ballast)
	require.NoError(t, err)
	chunk := make([]byte, 1<<20)
	for err == nil {
		_, err = f.Write(chunk)
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, f.Close())
	err = c.Exec(t.Context(), "INSERT INTO t SELECT rand64() FROM numbers(1000000)")
	require.Error(t, err)
	assert.Regexp(t, "(?i)no space left|not enough space|cannot reserve", err.Error())
	require.NoError(t, os.Remove(ballast))
	require.NoError(t, c.Exec(t.Context(), "INSERT INTO t SELECT rand64() FROM numbers(1000)"))
	assert.EqualValues(t, 1000, number(t, c, "SELECT count() FROM t"))
	require.NoError(t, c.Close())
	leave(t, e)
}

func TestReadOnlyFileSystem(t *testing.T) {
	enginetest.Need(t)
	dir := small(t, "64k")
	require.NoError(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	_, err := engine.Open(t.Context(), engine.Options{Dir: dir})
	require.ErrorContains(t, err, "read-only")
}
