package store

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

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
