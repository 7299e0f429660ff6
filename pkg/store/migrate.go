package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"

	"murmuration/sql"
)

// What is wrong with the schema of a database.
var (
	ErrSchemaNewer   = errors.New("the database has a newer schema than this program")
	ErrSchemaChanged = errors.New("a migration was changed after it had been applied")
	ErrSchemaOld     = errors.New("the database has an older schema than this program")
)

const migrationsTable = `CREATE TABLE IF NOT EXISTS schema_migrations
(
    number   UInt32 COMMENT 'of the migration; 0 for the views of the named questions',
    name     String COMMENT 'file name',
    checksum String COMMENT 'SHA-256 of the file',
    applied  DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(applied)
ORDER BY number
COMMENT 'Migrations of the schema that were applied.'`

// questionsNumber is the number under which the views of the questions are recorded: they are made again whenever
// one of them changes.
const questionsNumber = 0

// Migrate brings the schema up to date and returns the names of what it applied, none if it was. It runs under
// a lock that other processes respect, and can be run again after a crash. It refuses a database whose applied
// migrations are not those of this program (ErrSchemaChanged, ErrSchemaNewer).
func (s *Store) Migrate(ctx context.Context) (applied []string, err error) {
	migrations, err := sql.Migrations()
	if err != nil {
		return nil, fmt.Errorf("migrations in this program: %w", err)
	}
	return s.migrate(ctx, migrations)
}

func (s *Store) migrate(ctx context.Context, migrations []sql.Migration) (applied []string, err error) {
	if err := s.checkRestored(ctx); err != nil {
		return nil, err
	}
	if s.cluster != nil {
		if err := errors.Join(s.cluster.checkBare(ctx, s.opt.Database), s.cluster.checkMacros(ctx)); err != nil {
			return nil, err
		}
	}
	pending, err := s.pending(ctx, migrations)
	if err != nil || len(pending) == 0 {
		return nil, err
	}
	ctx, l, err := s.lockSchema(ctx)
	if err != nil {
		return nil, s.explain(err)
	}
	defer func() {
		if releaseErr := l.release(ctx); err == nil {
			err = releaseErr
		}
	}()
	if err := s.ddl(ctx, migrationsTable); err != nil {
		return nil, fmt.Errorf("create schema_migrations: %w", s.explain(err))
	}
	// Somebody else may have been here while this process waited for the lock.
	if pending, err = s.pending(ctx, migrations); err != nil {
		return nil, err
	}
	for _, m := range pending {
		s.log.Info("applying migration", "name", m.Name)
		if err := s.apply(ctx, m); err != nil {
			return applied, err
		}
		applied = append(applied, m.Name)
	}
	return applied, nil
}

// CheckSchema returns nil if the schema is the one of this program, else ErrSchemaOld, ErrSchemaNewer or
// ErrSchemaChanged. It changes nothing.
func (s *Store) CheckSchema(ctx context.Context) error {
	migrations, err := sql.Migrations()
	if err != nil {
		return fmt.Errorf("migrations in this program: %w", err)
	}
	if err := s.checkRestored(ctx); err != nil {
		return err
	}
	pending, err := s.pending(ctx, migrations)
	if err == nil && len(pending) > 0 {
		err = fmt.Errorf("%w: run `loader migrate` (%s is missing in %s)", ErrSchemaOld, pending[0].Name, s.opt.Database)
	}
	return err
}

// apply runs the statements of a migration and records it.
func (s *Store) apply(ctx context.Context, m sql.Migration) error {
	fresh := freshRollups(m)
	var before standing
	if len(fresh) > 0 {
		var err error
		if before, err = s.standing(ctx); err != nil {
			return fmt.Errorf("migration %s: %w", m.Name, err)
		}
		feeds, err := s.feeds(ctx)
		if err != nil {
			return fmt.Errorf("migration %s: %w", m.Name, err)
		}
		// What came in when an earlier try was cut off is not known.
		before.busy = before.busy || slices.ContainsFunc(fresh, func(rollup string) bool { return slices.Contains(feeds, rollup+"_feed") })
	}
	if err := s.run(ctx, m); err != nil {
		return err
	}
	if len(fresh) > 0 {
		// Recorded once it is full, so that a migration that was cut off is filled by the next run.
		if err := s.backfill(ctx, fresh, before); err != nil {
			return fmt.Errorf("migration %s: %w", m.Name, err)
		}
	}
	if err := s.conn.Exec(ctx, "INSERT INTO schema_migrations (number, name, checksum) VALUES (?, ?, ?)", uint32(m.Number), m.Name, m.Checksum); err != nil { //nolint:gosec // Small and positive.
		return fmt.Errorf("record migration %s: %w", m.Name, s.explain(err))
	}
	return nil
}

// run has the statements of a migration executed.
func (s *Store) run(ctx context.Context, m sql.Migration) error {
	for i, statement := range m.Statements {
		if cause := context.Cause(ctx); cause != nil {
			return fmt.Errorf("migration %s stopped before statement %d: %w", m.Name, i+1, cause)
		}
		if err := s.ddl(s.told(ctx, fmt.Sprintf("%s, step %d of %d", m.Name, i+1, len(m.Statements))), statement); err != nil {
			return fmt.Errorf("migration %s, statement %d (%s): %w", m.Name, i+1, firstLine(statement), s.explain(err))
		}
	}
	return nil
}

// told lets Options.Progress know how far the statements are that are run with the context it returns.
func (s *Store) told(ctx context.Context, stage string) context.Context {
	if s.opt.Progress == nil || s.cluster != nil {
		return ctx
	}
	var done, total uint64
	return clickhouse.Context(ctx, clickhouse.WithProgress(func(p *clickhouse.Progress) {
		done, total = done+p.Rows, total+p.TotalRows
		s.opt.Progress(stage, done, total)
	}))
}

// freshRollups are the rollups that a migration feeds, which must then say what the events say that are there already.
func freshRollups(m sql.Migration) (names []string) {
	for _, statement := range m.Statements {
		if c := parse(statement); c.is("CREATE", "MATERIALIZED VIEW") {
			names = append(names, strings.TrimSuffix(c.name, "_feed"))
		}
	}
	return names
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// pending returns what must be applied: the missing migrations in order, then the questions if they changed.
func (s *Store) pending(ctx context.Context, migrations []sql.Migration) ([]sql.Migration, error) {
	questions, err := questionsMigration()
	if err != nil {
		return nil, err
	}
	have, err := s.appliedMigrations(ctx)
	if err != nil {
		return nil, err
	}
	var pending []sql.Migration
	for _, m := range migrations {
		switch a, ok := have[m.Number]; {
		case !ok:
			pending = append(pending, m)
		case a.Checksum != m.Checksum:
			return nil, fmt.Errorf("%w: %s was applied to %s with other content than this program has: never edit a migration, add one",
				ErrSchemaChanged, m.Name, s.opt.Database)
		case len(pending) > 0:
			return nil, fmt.Errorf("%w: %s was applied to %s and %s before it was not", ErrSchemaChanged, m.Name, s.opt.Database, pending[0].Name)
		}
	}
	for number, a := range have {
		if number > len(migrations) {
			return nil, fmt.Errorf("%w: %s has %s, this program knows %d migrations: use a newer program", ErrSchemaNewer, s.opt.Database, a.Name, len(migrations))
		}
	}
	if len(pending) > 0 || have[questionsNumber].Checksum != questions.Checksum {
		pending = append(pending, questions)
	}
	return pending, nil
}

func (s *Store) appliedMigrations(ctx context.Context) (map[int]sql.Migration, error) {
	var exists uint8
	if err := s.conn.QueryRow(ctx, "EXISTS TABLE schema_migrations").Scan(&exists); err != nil {
		return nil, fmt.Errorf("look for schema_migrations: %w", s.explain(err))
	}
	have := map[int]sql.Migration{}
	if exists == 0 {
		return have, nil
	}
	rows, err := s.conn.Query(ctx, "SELECT number, name, checksum FROM schema_migrations FINAL")
	if err != nil {
		return nil, fmt.Errorf("read schema_migrations: %w", s.explain(err))
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells.
	for rows.Next() {
		var number uint32
		var m sql.Migration
		if err := rows.Scan(&number, &m.Name, &m.Checksum); err != nil {
			return nil, fmt.Errorf("read schema_migrations: %w", err)
		}
		m.Number = int(number)
		have[m.Number] = m
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read schema_migrations: %w", s.explain(err))
	}
	return have, nil
}

// questionsMigration makes a step of the named questions: a view, or two, for each.
func questionsMigration() (sql.Migration, error) {
	questions, err := sql.Questions()
	if err != nil {
		return sql.Migration{}, fmt.Errorf("questions in this program: %w", err)
	}
	m := sql.Migration{Number: questionsNumber, Name: "questions"}
	for _, q := range questions {
		for _, v := range q.Views() {
			// Behind a body that ends in a subquery, ClickHouse 25 takes COMMENT for the subquery's alias.
			m.Statements = append(m.Statements, "CREATE OR REPLACE VIEW "+v.Name+" AS\n"+v.Body,
				"ALTER TABLE "+v.Name+" MODIFY COMMENT "+literal(q.Comment))
		}
	}
	sum := sha256.Sum256([]byte(strings.Join(m.Statements, ";\n")))
	m.Checksum = hex.EncodeToString(sum[:])
	return m, nil
}

// literal quotes a text of our own; values of users are only ever bound.
func literal(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}
