package backup

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"murmuration/pkg/engine/enginetest"
	"murmuration/pkg/load"
	"murmuration/pkg/store"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Main(m)) }

// unmigrated is a store on a database that has nothing yet.
func unmigrated(t testing.TB) *store.Store {
	t.Helper()
	ep := enginetest.Endpoint(t)
	st, err := store.Open(t.Context(), store.Options{
		Addr: []string{ep.TCPAddr}, User: ep.User, Password: ep.Password, Database: enginetest.Name(t), CreateDatabase: true,
		RetryFor: 20 * time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	return st
}

func open(t testing.TB) *store.Store {
	t.Helper()
	st := unmigrated(t)
	_, err := st.Migrate(t.Context())
	require.NoError(t, err)
	return st
}

func options(t testing.TB) Options {
	t.Helper()
	return Options{Engine: enginetest.Engine(t).Backups(), Version: "test"}
}

var (
	telescope = filepath.Join("..", "..", "demo", "telescope.pcap.zst")
	honeypot  = filepath.Join("..", "..", "demo", "honeypot.pcap.zst")
)

// loadCapture loads a capture and returns how many of its events were new.
func loadCapture(t testing.TB, st *store.Store, path string) uint64 {
	t.Helper()
	inputs, _, err := load.Inputs([]string{path}, nil)
	require.NoError(t, err)
	l := load.New(st, load.Options{Sensor: "demo", BatchRows: 10_000, Logger: slog.New(slog.DiscardHandler), Progress: func(load.Progress) {}})
	rep, err := l.Load(t.Context(), inputs[0])
	require.NoError(t, err)
	require.NoError(t, rep.Err)
	return rep.Inserted
}

// answers is a digest of everything that can be asked: every table and view without parameters.
func answers(t testing.TB, st *store.Store) map[string]string {
	t.Helper()
	out := map[string]string{}
	names := strings.Fields(enginetest.Exec(t, "SELECT name || if(engine LIKE '%Replacing%', ':FINAL', '') FROM system.tables WHERE database = '"+st.Database()+"' AND parameterized_view_parameters = [] AND engine != 'MaterializedView' AND name NOT IN ('schema_migrations') ORDER BY name"))
	require.Greater(t, len(names), 40)
	for _, name := range names {
		// States of a rollup depend on which parts were merged; the views over them do not.
		if !strings.HasSuffix(name, "_state") {
			out[name] = enginetest.Exec(t, "SELECT count(), sum(cityHash64(toString(tuple(*)))) FROM "+st.Database()+"."+strings.Replace(name, ":", " ", 1))
		}
	}
	out["sources"] = enginetest.Exec(t, "SELECT sources, events FROM "+st.Database()+".sources_at(port = 80, method = '', hours = 24000, at = '2026-08-01')")
	return out
}

// A backup, brought back after everything is gone, gives the same answers, knows what was loaded, and goes on filling its rollups.
func TestRoundTrip(t *testing.T) {
	st, dir := open(t), t.TempDir()
	require.NotZero(t, loadCapture(t, st, telescope))
	for _, name := range []string{"directory", "file.tar", "file.tar.zst"} {
		t.Run(name, func(t *testing.T) {
			want, contents := answers(t, st), must(st.Contents(t.Context()))(t)
			o := options(t)
			o.NoVerify = isArchive(name) // What is packed was verified as a directory; once is enough here.
			m, err := Create(t.Context(), st, filepath.Join(dir, name), o)
			require.NoError(t, err)
			assert.Equal(t, contents, m.Tables)
			again := unmigrated(t)
			_, err = Restore(t.Context(), again, filepath.Join(dir, name), options(t))
			require.NoError(t, err)
			assert.Equal(t, want, answers(t, again))
			assert.Equal(t, contents, must(again.Contents(t.Context()))(t))
			require.NoError(t, again.CheckSchema(t.Context()))
			assert.Zero(t, loadCapture(t, again, telescope), "what was loaded is known")
			assert.Equal(t, want["events"], answers(t, again)["events"])
			fresh := loadCapture(t, again, honeypot)
			assert.NotZero(t, fresh)
			assert.Equal(t, enginetest.Exec(t, "SELECT count() FROM "+again.Database()+".events"), enginetest.Exec(t, "SELECT sum(events) FROM "+again.Database()+".port_days"), "what is loaded now comes into the rollups")
		})
	}
	left, err := os.ReadDir(options(t).Engine)
	require.NoError(t, err)
	assert.Empty(t, left, "nothing stays in the engine's directory")
	left, err = os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, left, 3, "and nothing beside the backups")
	assert.Empty(t, enginetest.Exec(t, "SELECT name FROM system.databases WHERE name LIKE '%_verify_%'"))
}

// must makes a failing test of an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		require.NoError(t, err)
		return v
	}
}

func TestDestroyedDatabaseComesBackUnderItsName(t *testing.T) {
	st, dir := open(t), t.TempDir()
	loadCapture(t, st, honeypot)
	want := answers(t, st)
	_, err := Create(t.Context(), st, filepath.Join(dir, "b"), options(t))
	require.NoError(t, err)
	_, err = Restore(t.Context(), st, filepath.Join(dir, "b"), options(t))
	require.ErrorIs(t, err, store.ErrNotEmpty)
	assert.Equal(t, want, answers(t, st), "a refused restore touches nothing")
	for _, name := range strings.Fields(enginetest.Exec(t, "SELECT name FROM system.tables WHERE database = '"+st.Database()+"' AND engine LIKE '%MergeTree' AND name != 'schema_migrations'")) {
		enginetest.Exec(t, "TRUNCATE TABLE "+st.Database()+"."+name+" SYNC")
	}
	_, err = Restore(t.Context(), st, filepath.Join(dir, "b"), options(t))
	require.NoError(t, err, "a schema without data makes way")
	assert.Equal(t, want, answers(t, st))
	assert.Zero(t, loadCapture(t, st, honeypot))
}

func TestIncrements(t *testing.T) {
	st, dir := open(t), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	loadCapture(t, st, telescope)
	_, err := Create(t.Context(), st, at("full"), options(t))
	require.NoError(t, err)
	loadCapture(t, st, honeypot)
	o := options(t)
	o.Bases = []string{at("full")}
	_, err = Create(t.Context(), st, at("one"), o)
	require.NoError(t, err)
	enginetest.Exec(t, "OPTIMIZE TABLE "+st.Database()+".events FINAL")
	o.Bases = []string{at("one")}
	m, err := Create(t.Context(), st, at("two.tar"), o)
	require.NoError(t, err)
	assert.Equal(t, at("one"), m.Base.Path)
	assert.Less(t, size(t, at("one")), size(t, at("full"))/2+1, "an increment has only what is new")
	want := answers(t, st)
	again := unmigrated(t)
	_, err = Restore(t.Context(), again, at("two.tar"), options(t))
	require.NoError(t, err)
	assert.Equal(t, want, answers(t, again))

	require.NoError(t, os.Rename(at("full"), at("elsewhere")))
	other := unmigrated(t)
	_, err = Restore(t.Context(), other, at("one"), options(t))
	require.ErrorContains(t, err, at("one")+": it is an increment of the backup that was at "+at("full"))
	require.ErrorContains(t, err, "name the directory where it is now with --base")
	o = options(t)
	o.Bases = []string{at("one")}
	_, err = Create(t.Context(), st, at("three"), o)
	require.ErrorContains(t, err, at("one")+": it is an increment of the backup that was at "+at("full"))
	require.ErrorContains(t, err, "make a full backup, without --base", "--base names what to build on, and not what that builds on")
	require.NoDirExists(t, at("three"))
	o = options(t)
	o.Bases = []string{at("elsewhere")}
	_, err = Restore(t.Context(), other, at("one"), o)
	require.NoError(t, err)
	assert.Equal(t, want["events"], answers(t, other)["events"])
}

func size(t testing.TB, dir string) (n int64) {
	t.Helper()
	require.NoError(t, eachFile(dir, func(_ string, info os.FileInfo) error { n += info.Size(); return nil }))
	return n
}

// A backup that is interrupted, before it begins, in the middle of its writing and of its verification, leaves nothing under its name, nor
// beside it, and the next one succeeds.
func TestInterrupted(t *testing.T) {
	st, dir := open(t), t.TempDir()
	loadCapture(t, st, telescope)
	stop := errors.New("stop")
	for _, c := range []struct {
		stage string
		calls int
	}{{"writing the backup", 1}, {"writing the backup", 2}, {"verifying", 1}, {"packing", 1}} {
		ctx, cancel := context.WithCancelCause(t.Context())
		// So slow that the second call comes while the engine writes.
		slow := clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"max_backup_bandwidth": 500_000}))
		if c.calls == 1 {
			slow = ctx
		}
		o, calls := options(t), 0
		o.Progress = func(stage string, _, _ uint64) {
			if stage == c.stage {
				if calls++; calls == c.calls {
					cancel(stop)
				}
			}
		}
		_, err := Create(slow, st, filepath.Join(dir, "b.tar"), o)
		require.ErrorIs(t, err, stop, "%v", c)
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Empty(t, left, "%v", c)
		assert.Equal(t, "0", enginetest.Exec(t, "SELECT countIf(status IN ('CREATING_BACKUP', 'RESTORING')) FROM system.backups"))
	}
	_, err := Create(t.Context(), st, filepath.Join(dir, "b.tar"), options(t))
	require.NoError(t, err)
}

// Data that comes in while a backup is written makes another try of it; where it never stops the backup says so.
func TestDataComesIn(t *testing.T) {
	st, dir := open(t), t.TempDir()
	loadCapture(t, st, honeypot)
	insert := func() {
		enginetest.Exec(t, "INSERT INTO "+st.Database()+".events SELECT * FROM "+st.Database()+".events LIMIT 1 SETTINGS insert_deduplicate = 0")
	}
	o, times := options(t), 0
	o.Progress = func(stage string, done, _ uint64) {
		if stage == "writing the backup" && done == 0 {
			if times++; times == 1 {
				insert()
			}
		}
	}
	// A slow try tells more than once that it is at 0, so the tries are counted where the server keeps them.
	tries := func() int {
		n, err := strconv.Atoi(strings.TrimSpace(enginetest.Exec(t, "SELECT countIf(status LIKE 'BACKUP\\_%') FROM system.backups")))
		require.NoError(t, err)
		return n
	}
	before := tries()
	_, err := Create(t.Context(), st, filepath.Join(dir, "b"), o)
	require.NoError(t, err)
	assert.Equal(t, 2, tries()-before)
	o.Progress = func(stage string, done, _ uint64) {
		if stage == "writing the backup" && done == 0 {
			insert()
		}
	}
	_, err = Create(t.Context(), st, filepath.Join(dir, "c"), o)
	require.ErrorIs(t, err, store.ErrMoving)
	require.NoFileExists(t, filepath.Join(dir, "c"))
}

func TestNoRoom(t *testing.T) {
	st, dir := open(t), t.TempDir()
	loadCapture(t, st, telescope)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); err != nil {
		require.Empty(t, os.Getenv("CI"), "a small file system cannot be mounted: %v", err)
		return
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	target := filepath.Join(dir, "b")
	_, err := Create(t.Context(), st, target, options(t))
	require.ErrorIs(t, err, unix.ENOSPC)
	require.ErrorContains(t, err, target+": no room is left there")
	require.NotContains(t, err.Error(), "ClickHouse", "it is not its disk that is full")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)

	_, err = Create(t.Context(), st, dir, options(t))
	require.ErrorContains(t, err, "a file system is mounted there")
	archive := filepath.Join(t.TempDir(), "b.tar.zst")
	o := options(t)
	o.NoVerify = true
	_, err = Create(t.Context(), st, archive, o)
	require.NoError(t, err)
	o.Engine = dir
	_, err = Restore(t.Context(), unmigrated(t), archive, o)
	require.ErrorIs(t, err, unix.ENOSPC)
	require.ErrorContains(t, err, archive+": there is no room to unpack it in "+dir)
	require.NotContains(t, err.Error(), "cut off")
	left, err = os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left, "what was unpacked goes")

	require.NoError(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	_, err = Create(t.Context(), st, target, options(t))
	require.ErrorContains(t, err, target+": the file system there is read-only")
}

// Whatever appears under the name while a backup is written stays, and the backup says so.
func TestNameTakenMeanwhile(t *testing.T) {
	st, dir := open(t), t.TempDir()
	loadCapture(t, st, honeypot)
	write := func(path string) { require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600)) }
	for name, appears := range map[string]func(path string){
		"file":      write,
		"file.tar":  write,
		"link":      func(path string) { require.NoError(t, os.Symlink(dir, path)) },
		"directory": func(path string) { require.NoError(t, os.Mkdir(path, 0o700)); write(filepath.Join(path, "f")) },
	} {
		target := filepath.Join(dir, name)
		o, once := options(t), new(sync.Once)
		o.NoVerify = true
		o.Progress = func(string, uint64, uint64) { once.Do(func() { appears(target) }) }
		_, err := Create(t.Context(), st, target, o)
		require.ErrorIs(t, err, ErrPlace, name)
		require.ErrorContains(t, err, target+": there is something called "+name+" by now", name)
		info, err := os.Lstat(target)
		require.NoError(t, err, name)
		assert.Equal(t, name == "link", info.Mode()&os.ModeSymlink != 0, name)
	}
	for _, path := range []string{"file", "file.tar", filepath.Join("directory", "f")} {
		text, err := os.ReadFile(filepath.Join(dir, path))
		require.NoError(t, err)
		assert.Equal(t, "precious", string(text), path)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, left, 4)

	target := filepath.Join(dir, "empty")
	o, once := options(t), new(sync.Once)
	o.NoVerify = true
	o.Progress = func(string, uint64, uint64) {
		once.Do(func() { require.NoError(t, os.Mkdir(target, 0o700), "an empty directory makes way") })
	}
	_, err = Create(t.Context(), st, target, o)
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(target, manifestName))
}

// A backup goes to where a link leads, and the link stays.
func TestLinks(t *testing.T) {
	st, dir := open(t), t.TempDir()
	loadCapture(t, st, honeypot)
	at := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.Mkdir(at("place"), 0o700))
	for link, to := range map[string]string{"link": "place", "dangling": "nowhere", "archive.tar": "place"} {
		require.NoError(t, os.Symlink(to, at(link)))
	}
	o := options(t)
	o.NoVerify = true
	_, err := Create(t.Context(), st, at("dangling"), o)
	require.ErrorContains(t, err, at("dangling")+": this is a link that leads to nothing")
	_, err = Create(t.Context(), st, at("archive.tar"), o)
	require.ErrorContains(t, err, "a backup replaces nothing")
	_, err = Create(t.Context(), st, at("link"), o)
	require.NoError(t, err)
	to, err := os.Readlink(at("link"))
	require.NoError(t, err)
	assert.Equal(t, "place", to)
	require.FileExists(t, filepath.Join(at("place"), manifestName))
	_, err = Restore(t.Context(), unmigrated(t), at("link"), options(t))
	require.NoError(t, err)
	_, err = Create(t.Context(), st, at("link"), o)
	require.ErrorContains(t, err, "a backup replaces nothing", "what it leads to is no longer empty")
}

func TestBadPlaces(t *testing.T) {
	st, dir := open(t), t.TempDir()
	loadCapture(t, st, honeypot)
	full := filepath.Join(dir, "full")
	require.NoError(t, os.Mkdir(full, 0o700), "an empty directory may be taken")
	_, err := Create(t.Context(), st, full, options(t))
	require.NoError(t, err)
	for target, says := range map[string]string{
		full:                                   "a backup replaces nothing",
		filepath.Join(full, manifestName):      "a backup replaces nothing",
		filepath.Join(dir, "none", "b"):        "there is no such directory",
		filepath.Join(full, manifestName, "b"): "is a file and no directory",
		filepath.Join(dir, "b.tar.gz"):         "the archives that are written are called .tar or .tar.zst, not .gz",
		filepath.Join(dir, "b.ZIP"):            "the archives that are written are called .tar or .tar.zst, not .ZIP",
		filepath.Join(dir, "b.zst"):            "the archives that are written are called .tar or .tar.zst, not .zst",
	} {
		_, err := Create(t.Context(), st, target, options(t))
		require.ErrorIs(t, err, ErrPlace, target)
		require.ErrorContains(t, err, says, target)
	}
	empty := unmigrated(t)
	cut := filepath.Join(dir, "cut.tar")
	_, err = Create(t.Context(), st, cut, options(t))
	require.NoError(t, err)
	info, err := os.Stat(cut)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(cut, info.Size()/2+100))
	other := filepath.Join(dir, "other.tar")
	require.NoError(t, os.WriteFile(other, bytes.Repeat([]byte("no archive "), 1000), 0o600))
	for source, says := range map[string]string{
		dir:                        "it is no backup of `loader backup`",
		filepath.Join(dir, "none"): "there is no such directory or file",
		cut:                        "was it cut off",
		telescope:                  "this is no backup: one is a directory, or a file whose name ends in .tar or .tar.zst",
		"/dev/null":                "this is no backup",
		other:                      "it is damaged: it cannot be unpacked to its end: archive/tar: invalid tar header",
	} {
		_, err := Restore(t.Context(), empty, source, options(t))
		require.ErrorContains(t, err, says, source)
	}
	left, err := os.ReadDir(options(t).Engine)
	require.NoError(t, err)
	assert.Empty(t, left, "what was unpacked of an archive that is none goes")
	o := options(t)
	o.Bases = []string{telescope}
	_, err = Create(t.Context(), st, filepath.Join(dir, "b"), o)
	require.ErrorContains(t, err, "this is no backup")
	// A backup that lost a file is told when it is restored, and leaves the database empty.
	var victim string
	require.NoError(t, eachFile(filepath.Join(full, "data"), func(path string, info os.FileInfo) error {
		if filepath.Base(path) == "data.bin" && strings.Contains(path, "/events/") {
			victim = path
		}
		return nil
	}))
	if victim == "" {
		require.NoError(t, eachFile(filepath.Join(full, "data"), func(path string, info os.FileInfo) error {
			if strings.Contains(path, "/events/") && strings.HasSuffix(path, ".bin") {
				victim = path
			}
			return nil
		}))
	}
	require.NotEmpty(t, victim)
	require.NoError(t, os.Truncate(victim, 10))
	damaged := func() {
		_, err = Restore(t.Context(), empty, full, options(t))
		require.ErrorIs(t, err, ErrDamaged)
		require.ErrorContains(t, err, "backup "+full+": it is damaged: ")
		require.NotContains(t, err.Error(), "\n", "one line of the engine's is enough")
	}
	damaged()
	require.NoError(t, os.Remove(victim))
	damaged()
	assert.Equal(t, "0", enginetest.Exec(t, "SELECT count() FROM system.tables WHERE database = '"+empty.Database()+"'"))
}
