package store

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"murmuration/pkg/event"
	"murmuration/sql"
)

var enumPair = regexp.MustCompile(`'(\w+)' = (-?\d+)`)

func enumOf(t *testing.T, columnType string) map[int8]string {
	t.Helper()
	out := map[int8]string{}
	for _, m := range enumPair.FindAllStringSubmatch(columnType, -1) {
		n, err := strconv.ParseInt(m[2], 10, 8)
		require.NoError(t, err)
		out[int8(n)] = m[1]
	}
	return out
}

func widen[E ~int8](names map[E]string) map[int8]string {
	out := map[int8]string{}
	for v, n := range names {
		out[int8(v)] = n
	}
	return out
}

// Every enumeration in every table and view has the names and values of package event.
func TestEnumerationsEqualEvent(t *testing.T) {
	s := open(t)
	want := map[string]map[int8]string{"proto": widen(event.Protos()), "kind": widen(event.Kinds()), "technique": widen(event.Techniques())}
	seen := map[string]int{}
	for _, line := range strings.Split(strings.TrimSpace(table(t, s, "SELECT table, name, type FROM system.columns WHERE database = currentDatabase() AND type LIKE 'Enum8%'")), "\n") {
		f := strings.SplitN(line, "\t", 3)
		require.Contains(t, want, f[1], "table %s has an enumeration that package event does not know", f[0])
		assert.Equal(t, want[f[1]], enumOf(t, f[2]), "%s.%s", f[0], f[1])
		seen[f[1]]++
	}
	for name := range want {
		assert.GreaterOrEqual(t, seen[name], 3, "enumeration %s is in too few tables", name)
	}
}

// schemaOf returns the definition of everything in the database, without what a random name or an identity makes differ.
func schemaOf(t *testing.T, s *Store) string {
	t.Helper()
	return strings.ReplaceAll(table(t, s, `SELECT name, engine, replaceRegexpAll(create_table_query, 'UUID \'[^\']*\'', ''), comment
		FROM system.tables WHERE database = currentDatabase() ORDER BY name`), s.Database()+".", "")
}

func TestMigrateTwiceAppliesNothing(t *testing.T) {
	s := open(t)
	before := schemaOf(t, s)
	applied, err := s.Migrate(t.Context())
	require.NoError(t, err)
	assert.Empty(t, applied)
	assert.Equal(t, before, schemaOf(t, s))
	require.NoError(t, s.CheckSchema(t.Context()))
}

func TestMigrateRefusesChangedFile(t *testing.T) {
	s := open(t)
	migrations, err := sql.Migrations()
	require.NoError(t, err)
	migrations[1].Checksum = strings.Repeat("0", 64)
	_, err = s.migrate(t.Context(), migrations)
	require.ErrorIs(t, err, ErrSchemaChanged)
	assert.Contains(t, err.Error(), migrations[1].Name)
}

func TestMigrateRefusesNewerDatabase(t *testing.T) {
	s := open(t)
	migrations, err := sql.Migrations()
	require.NoError(t, err)
	last := migrations[len(migrations)-1]
	_, err = s.migrate(t.Context(), migrations[:len(migrations)-1])
	require.ErrorIs(t, err, ErrSchemaNewer)
	assert.Contains(t, err.Error(), last.Name)
}

func TestCheckSchemaOfEmptyDatabase(t *testing.T) {
	s := openWith(t, options(t))
	require.ErrorIs(t, s.CheckSchema(t.Context()), ErrSchemaOld)
}

// Many migrate at once: every step is applied once, by whoever came first.
func TestConcurrentMigratorsApplyOnce(t *testing.T) {
	o := options(t)
	var mu sync.Mutex
	count := map[string]int{}
	var g errgroup.Group
	for range 6 {
		s := openWith(t, o)
		g.Go(func() error {
			applied, err := s.Migrate(t.Context())
			mu.Lock()
			defer mu.Unlock()
			for _, name := range applied {
				count[name]++
			}
			return err
		})
	}
	require.NoError(t, g.Wait())
	migrations, err := sql.Migrations()
	require.NoError(t, err)
	assert.Len(t, count, len(migrations)+1)
	for name, n := range count {
		assert.Equal(t, 1, n, name)
	}
	assert.Empty(t, table(t, openWith(t, o), "SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE 'schema_lock%'"))
}

// A migration that was cut off behind any of its statements is finished by the next run.
func TestInterruptedMigrationResumes(t *testing.T) {
	want := schemaOf(t, open(t))
	migrations, err := sql.Migrations()
	require.NoError(t, err)
	for _, cut := range []int{1, 3, 8, 15} {
		s := openWith(t, options(t))
		done := 0
		for i := range migrations {
			for j, statement := range migrations[i].Statements {
				if done == cut {
					break
				}
				require.NoError(t, s.ddl(t.Context(), statement))
				if done++; j == len(migrations[i].Statements)-1 {
					require.NoError(t, s.ddl(t.Context(), migrationsTable))
					require.NoError(t, s.apply(t.Context(), sql.Migration{Number: migrations[i].Number, Name: migrations[i].Name, Checksum: migrations[i].Checksum}))
				}
			}
		}
		_, err := s.Migrate(t.Context())
		require.NoError(t, err, "cut behind statement %d", cut)
		assert.Equal(t, want, schemaOf(t, s), "cut behind statement %d", cut)
	}
}

func TestMigrationLock(t *testing.T) {
	o := options(t)
	s := openWith(t, o)

	t.Run("one at a time", func(t *testing.T) {
		var inside, entered atomic.Int32
		var g errgroup.Group
		for range 5 {
			s := openWith(t, o)
			g.Go(func() error {
				ctx, l, err := s.lockSchema(t.Context())
				if err != nil {
					return err
				}
				assert.EqualValues(t, 1, inside.Add(1))
				entered.Add(1)
				// Some work on the server, so that the others meet the lock.
				err = s.ddl(ctx, "CREATE OR REPLACE VIEW lock_work AS SELECT 1")
				inside.Add(-1)
				if releaseErr := l.release(ctx); err == nil {
					err = releaseErr
				}
				return err
			})
		}
		require.NoError(t, g.Wait())
		assert.EqualValues(t, 5, entered.Load())
	})

	t.Run("a standing claim is waited for", func(t *testing.T) {
		ctx, l, err := s.lockSchema(t.Context())
		require.NoError(t, err)
		short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, _, err = openWith(t, o).lockSchema(short)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Contains(t, err.Error(), "held by process")
		require.NoError(t, l.release(ctx))
	})

	t.Run("the claim of a dead process expires", func(t *testing.T) {
		past := strconv.FormatInt(time.Now().Add(-time.Hour).UnixMilli(), 10)
		require.NoError(t, s.ddl(t.Context(), "CREATE TABLE "+lockPrefix+"dead (x UInt8) ENGINE = Memory COMMENT 'until "+past+" held by process 1 on nowhere'"))
		ctx, l, err := s.lockSchema(t.Context())
		require.NoError(t, err)
		require.NoError(t, l.release(ctx))
		assert.Empty(t, table(t, s, "SELECT name FROM system.tables WHERE database = currentDatabase() AND startsWith(name, '"+lockPrefix+"')"))
	})

	t.Run("a renewed claim stands longer", func(t *testing.T) {
		ctx, l, err := s.lockSchema(t.Context())
		require.NoError(t, err)
		claim := "SELECT comment FROM system.tables WHERE database = currentDatabase() AND name = '" + l.table + "'"
		before := table(t, s, claim)
		require.NoError(t, l.claim(ctx, "ALTER TABLE "+l.table+" MODIFY COMMENT ", time.Now().Add(lockFor)))
		assert.NotEqual(t, before, table(t, s, claim))
		require.NoError(t, l.release(ctx))
	})
}
