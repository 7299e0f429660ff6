package engine_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine"
	"murmuration/pkg/engine/enginetest"
)

func TestUnusualNames(t *testing.T) {
	for _, name := range []string{
		"with space", "umlaut äöü 数据", `quote ' " & < > ]]> %20 $x`, strings.Repeat("long-name/", 30) + "end",
	} {
		t.Run(name[:min(len(name), 10)], func(t *testing.T) {
			runtime := t.TempDir()
			t.Setenv("XDG_RUNTIME_DIR", runtime)
			dir := filepath.Join(t.TempDir(), name)
			e := start(t, dir)
			joined, err := engine.Open(t.Context(), engine.Options{Dir: dir})
			require.NoError(t, err)
			assert.Equal(t, e.Pid(), joined.Pid())
			c := owner(t, joined)
			require.NoError(t, c.Exec(t.Context(), "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a"))
			require.NoError(t, c.Exec(t.Context(), "INSERT INTO t SELECT number FROM numbers(10)"))
			require.NoError(t, c.Exec(t.Context(), "BACKUP TABLE t TO File('b')"))
			assert.EqualValues(t, 10, number(t, c, "SELECT count() FROM t"))
			require.NoError(t, c.Close())
			sockets, err := filepath.Glob(filepath.Join(runtime, "*", "*"))
			require.NoError(t, err)
			assert.Len(t, sockets, map[bool]int{true: 1, false: 0}[len(filepath.Join(dir, "control.sock")) > 107])
			leave(t, joined)
			leave(t, e)
			left, err := os.ReadDir(runtime)
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}

func TestLinksLeadToOneEngine(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "real")
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.NoError(t, os.Symlink(dir, filepath.Join(base, "link")))
	e := start(t, filepath.Join(base, "link"))
	t.Chdir(base)
	joined, err := engine.Open(t.Context(), engine.Options{Dir: "real"})
	require.NoError(t, err)
	assert.Equal(t, e.Pid(), joined.Pid())
	leave(t, joined)
}

func TestUselessDirectories(t *testing.T) {
	enginetest.Need(t)
	base := t.TempDir()
	file := filepath.Join(base, "file")
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
	documents := filepath.Join(base, "documents")
	require.NoError(t, os.Mkdir(documents, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(documents, "letter.txt"), []byte("x"), 0o600))
	for _, c := range []struct{ dir, says string }{
		{"", "no data directory given"},
		{file, "a part of its path is a file"},
		{filepath.Join(file, "below"), "a part of its path is a file"},
		{documents, `holds "letter.txt" and is not an engine's`},
		{filepath.Join(base, strings.Repeat("n", 300)), "longer than the system allows"},
		{filepath.Join(base, "not\xffutf8"), "not valid UTF-8"},
		{filepath.Join(base, "new\nline"), "control character"},
		{filepath.Join(base, "${x}"), "would expand"},
		{filepath.Join(base, `back\slash`), "backslash"},
	} {
		_, err := engine.Open(t.Context(), engine.Options{Dir: c.dir})
		if assert.Errorf(t, err, "%q", c.dir) {
			assert.Contains(t, err.Error(), c.says)
			assert.NotContains(t, err.Error(), "\n")
		}
	}
	info, err := os.Stat(documents)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o755), info.Mode().Perm(), "a directory that is not ours is left alone")
}

func TestDirectoryOfSomebodyElse(t *testing.T) {
	enginetest.Need(t)
	base, err := os.MkdirTemp("", "murmuration-test-") //nolint:usetesting // t.TempDir is closed to the other user.
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	require.NoError(t, os.Chmod(base, 0o755))
	dir := filepath.Join(base, "data")
	require.NoError(t, os.Mkdir(dir, 0o700))
	if os.Getuid() != 0 {
		require.NoError(t, os.Chmod(dir, 0o500))
		_, err := engine.Open(t.Context(), engine.Options{Dir: filepath.Join(dir, "sub")})
		assert.ErrorContains(t, err, "this user may not use it")
		return
	}
	const nobody = 65534
	for _, path := range []string{dir, filepath.Join(dir, "sub"), filepath.Join(base, "sub")} {
		l := runLoader(t, path, &syscall.Credential{Uid: nobody, Gid: nobody})
		assert.Contains(t, l.Err, "data directory "+path+": this user may not use it; change its owner or choose another directory")
	}
}

func TestTakenPort(t *testing.T) {
	enginetest.Need(t)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_, err = engine.Open(ctx, engine.Options{Dir: dir, HTTPPort: port})
	require.ErrorIs(t, err, engine.ErrStart)
	require.ErrorContains(t, err, "cannot be listened on")
	_, err = engine.Open(ctx, engine.Options{Dir: dir, HTTPPort: port, TCPPort: port})
	require.ErrorContains(t, err, "cannot serve both")
	_, err = engine.Open(ctx, engine.Options{Dir: dir, HTTPPort: 70000})
	require.ErrorContains(t, err, "not between")

	require.NoError(t, ln.Close())
	e := startWith(t, engine.Options{Dir: dir, HTTPPort: port})
	assert.Equal(t, ln.Addr().String(), e.Endpoint().HTTPAddr)
}

func TestExtraConfig(t *testing.T) {
	enginetest.Need(t)
	_, err := engine.Open(t.Context(), engine.Options{Dir: t.TempDir(), ExtraConfig: "<a></b>"})
	require.ErrorContains(t, err, "extra engine configuration")
	_, err = engine.Open(t.Context(), engine.Options{Dir: t.TempDir(), ExtraConfig: "</clickhouse><clickhouse>"})
	require.ErrorContains(t, err, "extra engine configuration")

	shard := start(t, t.TempDir())
	require.NoError(t, owner(t, shard).Exec(t.Context(), "CREATE TABLE default.t (a UInt64) ENGINE = MergeTree ORDER BY a"))
	ep := shard.Endpoint()
	_, port, err := net.SplitHostPort(ep.TCPAddr)
	require.NoError(t, err)
	e := startWith(t, engine.Options{
		Dir: t.TempDir(),
		ExtraConfig: "<macros><shard>one</shard></macros><remote_servers><c><shard><replica><host>127.0.0.1</host><port>" + port +
			"</port><user>" + ep.User + "</user><password>" + ep.Password + "</password></replica></shard></c></remote_servers>",
		ExtraGrants: []string{"GRANT READ, WRITE ON REMOTE"},
	})
	c := owner(t, e)
	require.NoError(t, c.Exec(t.Context(), "CREATE TABLE d (a UInt64) ENGINE = Distributed('c', 'default', 't')"))
	assert.EqualValues(t, 1, number(t, c, "SELECT toUInt64(getMacro('shard') = 'one')"))
	require.NoError(t, c.Exec(t.Context(), "INSERT INTO d SELECT number FROM numbers(5)"))
	// Sent in the background, which is what the pool of the configuration is for.
	require.Eventually(t, func() bool { return number(t, c, "SELECT count() FROM d") == 5 }, limit, 20*time.Millisecond)
}

func TestMemoryLimit(t *testing.T) {
	e := startWith(t, engine.Options{Dir: t.TempDir(), MaxMemory: 700 << 20})
	c := owner(t, e)
	assert.EqualValues(t, 700<<20, number(t, c, "SELECT toUInt64(value) FROM system.server_settings WHERE name = 'max_server_memory_usage'"))
	assert.ErrorContains(t, c.Exec(t.Context(), "SELECT groupArray(number) FROM numbers(300000000) FORMAT Null"), "code: 241")
	assert.EqualValues(t, 1, number(t, c, "SELECT toUInt64(1)"))
}
