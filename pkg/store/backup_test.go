package store

import (
	"crypto/rand"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
	"murmuration/pkg/event"
	"murmuration/sql"
)

// place is a name for a backup that is removed at the end.
func place(t *testing.T) BackupPlace {
	t.Helper()
	name := rand.Text()
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(filepath.Join(enginetest.Engine(t).Backups(), name))) })
	return BackupPlace{Name: name}
}

// A backup of an older schema is brought up to date: it has the same tables, views and answers as a database that was always new.
func TestRestoreOfAnOlderSchema(t *testing.T) {
	migrations, err := sql.Migrations()
	require.NoError(t, err)
	b := newTraffic(3).batch(3000)
	fresh := open(t)
	require.NoError(t, fresh.InsertEvents(t.Context(), b, 1, "a"))
	for _, n := range []int{4, 8, len(migrations)} {
		old := openWith(t, options(t))
		migrateTo(t, old, n)
		require.NoError(t, old.insertOnce(t.Context(), b, 1, "a")) // as the program of that time did
		to := place(t)
		contents, err := old.Backup(t.Context(), to, nil, nil)
		require.NoError(t, err)
		require.NoError(t, old.VerifyBackup(t.Context(), to, contents, nil))
		restored := openWith(t, options(t))
		require.NoError(t, restored.Restore(t.Context(), to, old.Database(), contents, nil))
		assert.Equal(t, contentsOfSchema(t, fresh), contentsOfSchema(t, restored), "from migration %d", n)
		assert.Equal(t, table(t, fresh, "SELECT count(), sum(cityHash64(*)) FROM port_hours"), table(t, restored, "SELECT count(), sum(cityHash64(*)) FROM port_hours"))
		contents[0].Rows++
		require.ErrorIs(t, old.VerifyBackup(t.Context(), to, contents, nil), ErrBackup)
	}
	require.ErrorContains(t, openWith(t, options(t)).Restore(t.Context(), BackupPlace{Name: "none"}, "scan", nil, nil), "not found")
}

// contentsOfSchema lists tables and views with their columns.
func contentsOfSchema(t *testing.T, s *Store) string {
	t.Helper()
	return table(t, s, "SELECT table, name, type FROM system.columns WHERE database = currentDatabase() ORDER BY table, position") +
		table(t, s, "SELECT name, engine FROM system.tables WHERE database = currentDatabase() ORDER BY name")
}

// Batches that were under way when the backup was made, in the tables already, in part, or not yet, are there once when their load goes on
// after the restore: the tokens that would tell are not in a backup.
func TestCutBatchesAfterARestore(t *testing.T) {
	s := open(t)
	g := newTraffic(9)
	whole, half, none := g.batch(500), g.batch(500), g.batch(500)
	part := new(event.Batch)
	for i := range half.Len() / 2 {
		e := half.Row(i)
		part.Append(&e)
	}
	marks := []Mark{{Head: [32]byte{1}, Input: 1, End: 10, Token: "whole"}, {Head: [32]byte{2}, Input: 2, End: 20, Token: "half"}, {Head: [32]byte{3}, Input: 3, End: 30, Token: "none"}}
	for _, m := range marks {
		require.NoError(t, s.PutMark(t.Context(), m))
	}
	require.NoError(t, s.InsertEvents(t.Context(), whole, 1, "whole"))
	require.NoError(t, s.InsertEvents(t.Context(), part, 2, "half"))
	to := place(t)
	held, err := s.Backup(t.Context(), to, nil, nil)
	require.NoError(t, err)
	restored := openWith(t, options(t))
	require.NoError(t, restored.Restore(t.Context(), to, s.Database(), held, nil))
	for i, b := range []*event.Batch{whole, half, none} {
		known, err := restored.Marks(t.Context(), marks[i].Head)
		require.NoError(t, err)
		require.Len(t, known, 1)
		require.NoError(t, restored.InsertEvents(t.Context(), b, marks[i].Input, known[0].Token))
	}
	straight := open(t)
	for i, b := range []*event.Batch{whole, half, none} {
		require.NoError(t, straight.InsertEvents(t.Context(), b, marks[i].Input, marks[i].Token))
	}
	assert.Equal(t, contents(t, straight), contents(t, restored))
}

// backupOfAllShards: a backup of a cluster and an increment of it, restored, are the database as it was when they were written, on every node, and loads under way
// go on behind it.
func backupOfAllShards(t *testing.T, s *Store) {
	g := newTraffic(61)
	first, second, third := g.batch(2000), g.batch(1000), g.batch(500)
	cut := Mark{Head: [32]byte{3}, Input: 3, End: 30, Token: "third"}
	require.NoError(t, s.InsertEvents(t.Context(), first, 1, "first"))
	require.NoError(t, s.AddTelescope(t.Context(), Telescope{Prefix: netip.MustParsePrefix("198.51.100.0/24")}))
	full, more := BackupPlace{Name: rand.Text()}, BackupPlace{Name: rand.Text() + ".tar"}
	var told [][2]uint64
	held, err := s.Backup(t.Context(), full, nil, func(done, total uint64) { told = append(told, [2]uint64{done, total}) })
	require.NoError(t, err)
	require.NotEmpty(t, told)
	events := uint64(0)
	for _, r := range held {
		require.Positive(t, r.Shard)
		if r.Table == "events" {
			require.Positive(t, r.Rows, "every shard has a share")
			events += r.Rows
		}
	}
	require.Equal(t, uint64(first.Len()), events) //nolint:gosec // A length.

	require.NoError(t, s.InsertEvents(t.Context(), second, 2, "second"))
	require.NoError(t, s.PutMark(t.Context(), cut))
	require.NoError(t, s.InsertEvents(t.Context(), third, 3, "third"))
	held, err = s.Backup(t.Context(), more, &full, nil)
	require.NoError(t, err)
	if s.cluster.replicated {
		require.ErrorIs(t, s.VerifyBackup(t.Context(), more, held, nil), ErrUnverifiable)
	} else {
		require.NoError(t, s.VerifyBackup(t.Context(), more, held, nil))
		held[0].Rows++
		require.ErrorIs(t, s.VerifyBackup(t.Context(), more, held, nil), ErrBackup)
		held[0].Rows--
	}
	want := contents(t, s)
	require.ErrorIs(t, s.Restore(t.Context(), more, s.Database(), held, nil), ErrNotEmpty)
	require.Equal(t, want, contents(t, s), "a restore that is refused changes nothing")

	empty(t, s)
	require.NoError(t, s.Restore(t.Context(), more, s.Database(), held, nil))
	require.Equal(t, want, contents(t, s))
	replicasEqual(t, s)
	require.NoError(t, s.CheckSchema(t.Context()))
	known, err := s.Marks(t.Context(), cut.Head)
	require.NoError(t, err)
	require.Len(t, known, 1)
	require.NoError(t, s.InsertEvents(t.Context(), third, 3, known[0].Token))
	require.Equal(t, want, contents(t, s), "what was under way comes in once")
	replicasEqual(t, s)
	require.NoError(t, s.InsertEvents(t.Context(), g.batch(100), 4, "fourth"))
	replicasEqual(t, s)
}

// piecesOfABackup: a piece that is not there, or a backup of other shards, is told, and leaves an empty database; what is not empty on any node is not written over.
func piecesOfABackup(t *testing.T, c *enginetest.Cluster, s *Store) {
	empty(t, s)
	b := newTraffic(62).batch(500)
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, "a"))
	to := BackupPlace{Name: rand.Text()}
	held, err := s.Backup(t.Context(), to, nil, nil)
	require.NoError(t, err)
	_, err = s.Backup(t.Context(), to, nil, nil)
	require.ErrorContains(t, err, "already exists")

	o := clusterOptions(c)
	o.Database = enginetest.Name(t)
	other := openWith(t, o)
	require.NoError(t, other.Restore(t.Context(), to, s.Database(), held, nil))
	require.Equal(t, contents(t, s), contents(t, other), "under another name")
	lost := other.cluster.nodes[1]
	require.NoError(t, other.ddl(t.Context(), "TRUNCATE TABLE events"))
	for _, name := range rollups() {
		require.NoError(t, other.ddl(t.Context(), "TRUNCATE TABLE "+name+"_state"))
	}
	require.NoError(t, lost.exec(t.Context(), "INSERT INTO telescopes_log_local (prefix) VALUES ('192.0.2.0/24')"))
	err = other.Restore(t.Context(), to, s.Database(), held, nil)
	require.ErrorIs(t, err, ErrNotEmpty)
	require.ErrorContains(t, err, lost.addr)
	err = other.compareCopies(t.Context())
	require.ErrorIs(t, err, ErrBackup, "its replica has no such row")
	require.ErrorContains(t, err, "telescopes_log: 0, then 1")

	o.Database = enginetest.Name(t)
	other = openWith(t, o)
	require.NoError(t, other.markRestore(t.Context()))
	first := other.cluster.nodes[0]
	require.NoError(t, first.store.restoreTables(t.Context(), to.piece(1, 2), s.Database(), o.Database, nil))
	_, err = other.Migrate(t.Context())
	require.ErrorIs(t, err, ErrCutRestore)
	require.NoError(t, other.Restore(t.Context(), to, s.Database(), held, nil))
	require.Equal(t, contents(t, s), contents(t, other), "after one that was cut off")

	o.Database = enginetest.Name(t)
	other = openWith(t, o)
	require.NoError(t, os.RemoveAll(filepath.Join(c.Backups, to.piece(2, 2).Name)))
	err = other.Restore(t.Context(), to, s.Database(), held, nil)
	require.ErrorIs(t, err, ErrBackup)
	require.ErrorContains(t, err, "there is no "+to.Name+"-shard2of2")
	for _, n := range other.cluster.nodes {
		require.Empty(t, strings.Fields(table(t, n.store, "SELECT name FROM system.tables WHERE database = currentDatabase() AND NOT startsWith(name, '"+lockPrefix+"')")), n.addr)
	}
}

// The counts of a damaged part are right: its bytes have to be read. And what a verification that was killed left behind goes with the next one.
func TestDamagedBackup(t *testing.T) {
	s := open(t)
	require.NoError(t, s.InsertEvents(t.Context(), newTraffic(3).batch(3000), 1, "a"))
	require.NoError(t, s.ddl(t.Context(), "OPTIMIZE TABLE events FINAL"))
	to := place(t)
	held, err := s.Backup(t.Context(), to, nil, nil)
	require.NoError(t, err)
	left := s.Database() + verifyInfix + strings.ToLower(rand.Text())
	require.NoError(t, s.ddl(t.Context(), "CREATE DATABASE "+left))
	require.NoError(t, s.VerifyBackup(t.Context(), to, held, nil))
	require.Equal(t, "0\n", table(t, s, "SELECT count() FROM system.databases WHERE startsWith(name, currentDatabase()) AND name != currentDatabase()"))

	files, err := filepath.Glob(filepath.Join(enginetest.Engine(t).Backups(), to.Name, "data", "*", "events", "*", "data.bin"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	content, err := os.ReadFile(files[0])
	require.NoError(t, err)
	content[len(content)/2] ^= 1
	require.NoError(t, os.WriteFile(files[0], content, 0o600))
	for name, damaged := range map[string]func() error{
		"verified": func() error { return s.VerifyBackup(t.Context(), to, held, nil) },
		"restored": func() error {
			empty := openWith(t, options(t))
			err := empty.Restore(t.Context(), to, s.Database(), held, nil)
			assert.Equal(t, "0\n", table(t, empty, "SELECT count() FROM system.tables WHERE database = currentDatabase()"))
			return err
		},
	} {
		err := damaged()
		require.ErrorIs(t, err, ErrBackup, name)
		require.ErrorContains(t, err, "of events is damaged", name)
	}
}

// Rollups outlive the events, and a restore must not fill them a second time out of one another as the migrations once did.
func TestRestoreWhereEventsHaveExpired(t *testing.T) {
	s := open(t)
	g := newTraffic(9)
	g.start, g.span = time.Date(2020, 1, 3, 0, 0, 0, 0, time.UTC), 20*24*time.Hour
	require.NoError(t, s.InsertEvents(t.Context(), g.batch(2000), 1, "old"))
	require.NoError(t, s.SetRetention(t.Context(), map[string]uint32{TierEvents: 180, TierFootprints: 730}))
	expire(t, s, "events")
	want := contents(t, s)
	to := place(t)
	held, err := s.Backup(t.Context(), to, nil, nil)
	require.NoError(t, err)
	restored := openWith(t, options(t))
	require.NoError(t, restored.Restore(t.Context(), to, s.Database(), held, nil))
	assert.Equal(t, want, contents(t, restored))
	assert.Equal(t, "0\n", table(t, restored, "SELECT count() FROM events"))
	assert.NotEqual(t, "0\n", table(t, restored, "SELECT sum(events) FROM victim_days"))
}

func TestPieceNames(t *testing.T) {
	for name, want := range map[string]string{
		"b": "b-shard2of3", "2026-11-25": "2026-11-25-shard2of3", "a.b": "a.b-shard2of3",
		"b.tar": "b-shard2of3.tar", "b.tar.zst": "b-shard2of3.tar.zst", "dir/b.zip": "dir/b-shard2of3.zip",
	} {
		assert.Equal(t, BackupPlace{Disk: "d", Name: want}, BackupPlace{Disk: "d", Name: name}.piece(2, 3))
		assert.Equal(t, BackupPlace{Disk: "d", Name: name}, BackupPlace{Disk: "d", Name: name}.piece(0, 0))
	}
}

// How far several pieces are is known when all know it, those included that ended before they told anything.
func TestProgressOfPieces(t *testing.T) {
	a, b, c := &node{}, &node{}, &node{}
	var told [2]uint64
	all := &together{progress: func(done, total uint64) { told = [2]uint64{done, total} }, of: map[*node][2]uint64{a: {0, unknown}, b: {0, unknown}, c: {0, unknown}}}
	all.tell(a, 10, 100)
	assert.Equal(t, [2]uint64{0, unknown}, told)
	all.tell(b, 20, 300)
	assert.Equal(t, [2]uint64{0, unknown}, told)
	all.finish(c)
	all.tell(b, 30, 300)
	assert.Equal(t, [2]uint64{40, 400}, told)
	all.finish(b)
	all.tell(a, 99, 100)
	assert.Equal(t, [2]uint64{399, 400}, told)
}

// A restore that is killed before the views are made leaves a database that takes nothing, says so, and is restored anew.
func TestARestoreThatWasCutOff(t *testing.T) {
	s := open(t)
	b := newTraffic(63).batch(500)
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, "a"))
	to := place(t)
	held, err := s.Backup(t.Context(), to, nil, nil)
	require.NoError(t, err)
	cut := openWith(t, options(t))
	require.NoError(t, cut.markRestore(t.Context()))
	require.NoError(t, cut.restoreTables(t.Context(), to, s.Database(), cut.Database(), nil))
	_, err = cut.Migrate(t.Context())
	require.ErrorIs(t, err, ErrCutRestore)
	require.ErrorContains(t, err, "loader restore")
	require.ErrorIs(t, cut.CheckSchema(t.Context()), ErrCutRestore)

	require.ErrorContains(t, cut.Restore(t.Context(), BackupPlace{Name: "none"}, s.Database(), held, nil), "not found")
	_, err = cut.Migrate(t.Context())
	require.NoError(t, err, "a restore that failed leaves the database empty")
	require.NoError(t, cut.dropAll(t.Context()))
	require.NoError(t, cut.markRestore(t.Context()))
	require.NoError(t, cut.restoreTables(t.Context(), to, s.Database(), cut.Database(), nil))
	require.NoError(t, cut.Restore(t.Context(), to, s.Database(), held, nil))
	assert.Equal(t, contentsOfSchema(t, s), contentsOfSchema(t, cut))
	assert.Equal(t, contents(t, s), contents(t, cut))
	require.NoError(t, cut.CheckSchema(t.Context()))
}
