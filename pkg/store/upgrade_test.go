package store

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
	"murmuration/sql"
)

// migrateTo applies the first n migrations and nothing else, as the program of that time did.
func migrateTo(t *testing.T, s *Store, n int) {
	t.Helper()
	migrations, err := sql.Migrations()
	require.NoError(t, err)
	require.NoError(t, s.ddl(t.Context(), migrationsTable))
	for _, m := range migrations[:n] {
		for _, statement := range m.Statements {
			require.NoError(t, s.ddl(t.Context(), statement))
		}
		require.NoError(t, s.apply(t.Context(), sql.Migration{Number: m.Number, Name: m.Name, Checksum: m.Checksum}))
	}
}

// answers are the answers to every question that is held against the events, and to some that are not.
func answers(t *testing.T, s *Store) map[string]string {
	t.Helper()
	out := map[string]string{}
	const micro = "2006-01-02 15:04:05.000000"
	until := time.Date(2026, 3, 20, 10, 30, 0, 0, time.UTC)
	for i, q := range asked {
		params := append([]string{"hours", "1000", "at", until.Format(micro)}, q.params...)
		out[fmt.Sprint(q.name, i)] = table(t, s, "SELECT count(), sum(cityHash64(*)) FROM "+callOf(t, q.name), params...)
	}
	out["new_ports"] = table(t, s, "SELECT * FROM new_ports_at(days = 10, at = '2026-01-20')")
	out["tools"] = table(t, s, "SELECT * FROM tools_at(hours = 1000, at = '2026-03-20 10:30:00')")
	return out
}

// A database that earlier migrations made, with data in it, ends as a new one: the same objects, the same rollups, the same
// answers, whichever migration it stood at and also while something is being loaded.
func TestUpgradeEndsAsNew(t *testing.T) {
	g := newTraffic(31)
	batches := []*event.Batch{g.batch(1500), g.batch(1500), g.batch(1500)}
	want := open(t)
	for i, b := range batches {
		require.NoError(t, want.InsertEvents(t.Context(), b, 1, fmt.Sprint(i)))
	}
	wantAnswers, wantContents, wantSchema := answers(t, want), contents(t, want), schemaOf(t, want)
	for name, answer := range wantAnswers {
		assert.False(t, answer == "" || strings.HasPrefix(answer, "0\t"), "%s answers nothing: the test is worth nothing", name)
	}
	for _, n := range []int{1, 2, 3, 4, 8, 11, 12, 13} {
		for _, live := range []bool{false, true} {
			if live && n < 4 {
				continue // The tables before are those of 0004 but for what is not there yet.
			}
			t.Run(fmt.Sprintf("%04d live %v", n, live), func(t *testing.T) {
				s := openWith(t, options(t))
				migrateTo(t, s, n)
				require.NoError(t, s.insertOnce(t.Context(), batches[0], 1, "0"))
				loaded := make(chan error, 1)
				load := func() { loaded <- s.insertOnce(context.WithoutCancel(t.Context()), batches[1], 1, "1") }
				if live {
					go load()
				} else {
					load()
				}
				_, err := s.Migrate(t.Context())
				require.NoError(t, err)
				require.NoError(t, <-loaded)
				if live {
					// An insert that began before a feed was there and ended behind the comparison is told by Repair, as after a crash.
					_, err = s.Repair(t.Context())
					require.NoError(t, err)
				}
				require.NoError(t, s.InsertEvents(t.Context(), batches[2], 1, "2"))
				assert.Equal(t, wantSchema, schemaOf(t, s))
				assert.Equal(t, wantContents, contents(t, s))
				assert.Equal(t, wantAnswers, answers(t, s))
				made, err := s.Repair(t.Context())
				require.NoError(t, err)
				assert.Empty(t, made)
			})
		}
	}
}

// A migration that was cut off between making a rollup and filling it is finished by the next run.
func TestUpgradeCutOffBeforeFilling(t *testing.T) {
	for name, b := range map[string]*event.Batch{"all kinds": newTraffic(32).batch(1000), "probes alone, which leave some rollups empty": agedBatch(100, 3)} {
		t.Run(name, func(t *testing.T) {
			s := openWith(t, options(t))
			migrateTo(t, s, 11)
			require.NoError(t, s.insertOnce(t.Context(), b, 1, "0"))
			migrations, err := sql.Migrations()
			require.NoError(t, err)
			for _, statement := range migrations[11].Statements {
				require.NoError(t, s.ddl(t.Context(), statement))
			}
			require.NoError(t, s.ddl(t.Context(), "TRUNCATE TABLE ports_by_day_state"))
			_, err = s.Migrate(t.Context())
			require.NoError(t, err)
			want := open(t)
			require.NoError(t, want.InsertEvents(t.Context(), b, 1, "0"))
			assert.Equal(t, contents(t, want), contents(t, s))
		})
	}
}

// Times whose events are gone live on in the rollups that replace those that told of them, also when the migration was cut off and
// made once more.
func TestUpgradeKeepsWhatEventsNoLongerTell(t *testing.T) {
	b := newTraffic(33).batch(4000)
	want := open(t)
	require.NoError(t, want.InsertEvents(t.Context(), b, 1, "0"))
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("again %v", again), func(t *testing.T) {
			s := openWith(t, options(t))
			migrateTo(t, s, 11)
			require.NoError(t, s.insertOnce(t.Context(), b, 1, "0"))
			require.NoError(t, s.SetRetention(t.Context(), map[string]uint32{TierEvents: 1}))
			require.NoError(t, s.ddl(t.Context(), "TRUNCATE TABLE events"))
			if again {
				migrations, err := sql.Migrations()
				require.NoError(t, err)
				for _, statement := range migrations[11].Statements {
					if strings.HasPrefix(statement, "CREATE MATERIALIZED VIEW") {
						break
					}
					require.NoError(t, s.ddl(t.Context(), statement))
				}
			}
			_, err := s.Migrate(t.Context())
			require.NoError(t, err)
			have, all := contents(t, s), contents(t, want)
			delete(have, "events")
			delete(all, "events")
			assert.Equal(t, all, have)
		})
	}
}

// A month of which a part has expired keeps in the rollups what the events have no more, and loses nothing of the rest.
func TestUpgradeOfAMonthThatExpiredInPart(t *testing.T) {
	b := newTraffic(34).batch(4000)
	want := open(t)
	require.NoError(t, want.InsertEvents(t.Context(), b, 1, "0"))
	s := openWith(t, options(t))
	migrateTo(t, s, 11)
	require.NoError(t, s.insertOnce(t.Context(), b, 1, "0"))
	// As while the server has dropped some of what is too old: the server itself drops it when it likes.
	require.NoError(t, s.noteRetention(t.Context(), TierEvents, 1))
	require.NoError(t, s.ddl(t.Context(), "DELETE FROM events WHERE ts < '2026-02-11'"))
	require.NotEqual(t, "0\n", table(t, s, "SELECT count() FROM events WHERE ts < '2026-03-01'"), "the rest of February is there")
	_, err := s.Migrate(t.Context())
	require.NoError(t, err)
	have, all := contents(t, s), contents(t, want)
	delete(have, "events")
	delete(all, "events")
	assert.Equal(t, all, have)
}

// Who migrates a large database sees how far the fills are.
func TestMigrateTellsProgress(t *testing.T) {
	s := openWith(t, options(t))
	migrateTo(t, s, 11)
	require.NoError(t, s.insertOnce(t.Context(), newTraffic(35).batch(3000), 1, "a"))
	told := map[string]uint64{}
	s.opt.Progress = func(stage string, done, total uint64) {
		assert.LessOrEqual(t, done, total, stage)
		told[stage] = max(told[stage], done)
	}
	_, err := s.Migrate(t.Context())
	require.NoError(t, err)
	read := uint64(0)
	for stage, rows := range told {
		assert.Regexp(t, `^(\d{4}_\w+\.sql, step \d+ of \d+|filling \w+ of \d{6})$`, stage)
		read += rows
	}
	assert.Greater(t, read, uint64(3000), "the old rollups were read: %v", told)
}

// What a migration fills from an archive of ten years and more is not refused for its many months, which the server takes for a mistake.
func TestManyMonthsInOneStatement(t *testing.T) {
	s := open(t)
	require.NoError(t, s.ddl(t.Context(), "INSERT INTO ports_by_dekad_state (dekad, proto, dport, events) SELECT toDate('2009-01-01') + 31 * number, 'tcp', 80, 1 FROM numbers(150)"))
	require.Equal(t, "150\n", table(t, s, "SELECT uniqExact(toYYYYMM(dekad)) FROM ports_by_dekad"))
}
