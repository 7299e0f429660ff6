package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"murmuration/sql"
)

// What is wrong with a backup or a restore.
var (
	// ErrMoving is returned for a backup that cannot be known to be of one moment, because data came in meanwhile.
	ErrMoving = errors.New("data came in while the backup was written")
	// ErrNotEmpty is returned for a restore into a database that holds something.
	ErrNotEmpty = errors.New("the database is not empty")
	// ErrBackup is returned for a backup that does not hold what it should.
	ErrBackup = errors.New("the backup is not good")
	// ErrCutRestore is returned for a database that a restore left half done.
	ErrCutRestore = errors.New("a restore into this database was cut off")
	// ErrUnverifiable is returned where a backup cannot be restored beside the data.
	ErrUnverifiable = errors.New("replicated tables cannot be restored beside the same tables")
)

// The server's codes for a backup that is not there, and for something that is not in one.
const (
	codeBackupNotFound      = 599
	codeBackupEntryNotFound = 605
)

// BackupPlace is where ClickHouse writes a backup: on a disk that its configuration has for backups, or, without one, in a
// directory that backups.allowed_path allows. Both are the server's.
type BackupPlace struct {
	Disk string // "" is File(Name)
	Name string
}

// piece is the place of what a shard of a cluster has: one backup a shard, of a name that says how many there are, so that those of a cluster are not
// taken for those of another. The one server's (shard 0) is the place itself.
func (p BackupPlace) piece(shard, shards uint32) BackupPlace {
	if shard == 0 {
		return p
	}
	stem, ending := p.Name, ""
	for _, e := range []string{".zip", ".zipx", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.lzma", ".tar.zst", ".tzst", ".tar.xz"} { // By these ClickHouse knows archives.
		if strings.HasSuffix(p.Name, e) && len(e) > len(ending) {
			stem, ending = strings.TrimSuffix(p.Name, e), e
		}
	}
	return BackupPlace{Disk: p.Disk, Name: fmt.Sprintf("%s-shard%dof%d%s", stem, shard, shards, ending)}
}

// bind writes the place as an expression of parameters called after what.
func (p BackupPlace) bind(what string) (expression string, params []any) {
	params = append(params, clickhouse.Named(what, p.Name))
	if p.Disk == "" {
		return "File({" + what + ":String})", params
	}
	return "Disk({" + what + "_disk:String}, {" + what + ":String})", append(params, clickhouse.Named(what+"_disk", p.Disk))
}

// TableRows says how much a table holds: rows, or the events that the states of a rollup count; either does not change when
// ClickHouse merges.
type TableRows struct {
	Shard uint32 `json:"shard,omitempty"` // of a cluster, from 1
	Table string `json:"table"`
	Rows  uint64 `json:"rows"`
}

// scratch says whether a table is one of those that come and go: locks, and rollups that are being rebuilt.
func scratch(table string) bool {
	return strings.HasPrefix(table, lockPrefix) || strings.Contains(table, rebuildInfix)
}

// Contents counts every table that keeps data, by name; on a cluster, what the first replica of each shard has.
func (s *Store) Contents(ctx context.Context) ([]TableRows, error) {
	if s.cluster == nil {
		return s.contentsOf(ctx, s.opt.Database)
	}
	return s.cluster.contents(ctx)
}

// contentsOf counts the tables of one server or node.
func (s *Store) contentsOf(ctx context.Context, database string) ([]TableRows, error) {
	var names, engines []string
	err := s.retry(ctx, "list tables", func() error {
		return s.conn.QueryRow(ctx, `SELECT groupArray(name), groupArray(engine) FROM
			(SELECT name, engine FROM system.tables WHERE database = {db:String} AND endsWith(engine, 'MergeTree') ORDER BY name)`,
			clickhouse.Named("db", database)).Scan(&names, &engines)
	})
	if err != nil {
		return nil, err
	}
	var out []TableRows
	for i, name := range names {
		if scratch(name) {
			continue
		}
		query := "SELECT count() FROM {db:Identifier}.{name:Identifier}"
		switch {
		case strings.Contains(engines[i], "Replacing"):
			query += " FINAL"
		case strings.Contains(engines[i], "Aggregating"):
			query = "SELECT sum(events) FROM {db:Identifier}.{name:Identifier}"
		}
		t := TableRows{Table: strings.TrimSuffix(name, s.suffix)}
		if err := s.retry(ctx, "count "+name, func() error {
			return s.conn.QueryRow(ctx, query, clickhouse.Named("db", database), clickhouse.Named("name", name)).Scan(&t.Rows)
		}); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// Backup writes every table that keeps data to a place, or, with a base, what is new against that backup. Views are not
// written: Restore makes them anew. It returns what is in the backup. While it runs no other process migrates, rebuilds a
// rollup or changes the context, and where events, rollups or the ledger changed meanwhile the error is ErrMoving: the ledger of
// the backup might then speak of events that are not in it. On a cluster the first replica of each shard writes a piece. progress, if not nil, is told the
// bytes done and all bytes, (0, 1) while these are not known.
func (s *Store) Backup(ctx context.Context, to BackupPlace, base *BackupPlace, progress func(done, total uint64)) (contents []TableRows, err error) {
	ctx, l, err := s.lockSchema(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if releaseErr := l.release(ctx); err == nil {
			err = releaseErr
		}
	}()
	if err := oneLine(eachNode(s.firsts(), func(n *node) error { return n.store.syncReplica(ctx) })); err != nil {
		return nil, err
	}
	before, err := s.Contents(ctx)
	if err != nil {
		return nil, err
	}
	err = s.eachPiece(s.firsts(), progress, func(n *node, shards uint32, progress func(done, total uint64)) error {
		on := base
		if base != nil {
			piece := base.piece(n.shard, shards)
			on = &piece
		}
		return n.store.writeBackup(ctx, to.piece(n.shard, shards), on, ofShard(before, n.shard), progress)
	})
	if err != nil {
		return nil, err
	}
	after, err := s.Contents(ctx)
	if err != nil {
		return nil, err
	}
	if d := difference(before, after); d != "" {
		return nil, fmt.Errorf("%w (%s): stop loading for the time of a backup", ErrMoving, d)
	}
	return before, nil
}

// writeBackup has one server write the tables, of which it has those that hold rows.
func (s *Store) writeBackup(ctx context.Context, to BackupPlace, base *BackupPlace, contents []TableRows, progress func(done, total uint64)) error {
	var tables []string
	for _, t := range contents {
		tables = append(tables, "TABLE "+quoted(s.opt.Database)+"."+quoted(t.Table+s.suffix))
	}
	if len(tables) == 0 {
		return fmt.Errorf("%w: the database %s holds no table", ErrBackup, s.opt.Database)
	}
	place, params := to.bind("to")
	if err := s.backupOrRestore(ctx, "BACKUP "+strings.Join(tables, ", ")+" TO "+place, params, base, nil, progress); err != nil {
		return fmt.Errorf("write the backup: %w", err)
	}
	return nil
}

// quoted writes a name of our own tables as an identifier: BACKUP takes no parameters in their place.
func quoted(name string) string {
	return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(name) + "`"
}

// difference is the first table in which two contents differ, as a text; empty if none does.
func difference(want, got []TableRows) string {
	type table struct {
		shard uint32
		name  string
	}
	have := map[table]uint64{}
	for _, t := range got {
		have[table{t.Shard, t.Table}] = t.Rows
	}
	for _, t := range want {
		n, ok := have[table{t.Shard, t.Table}]
		switch {
		case ok && n == t.Rows:
		case t.Shard > 0:
			return fmt.Sprintf("%s of shard %d: %d, then %d", t.Table, t.Shard, t.Rows, n)
		default:
			return fmt.Sprintf("%s: %d, then %d", t.Table, t.Rows, n)
		}
	}
	return ""
}

// backupOrRestore runs a statement under an identifier of its own, tells how far it is, and, where the context ends, has the server end
// it and waits until it has.
func (s *Store) backupOrRestore(ctx context.Context, statement string, params []any, base *BackupPlace, settings []string, progress func(done, total uint64)) error {
	id := "murmuration-" + rand.Text()
	settings = append(settings, "id = '"+id+"'")
	if base != nil {
		place, more := base.bind("base")
		settings, params = append(settings, "base_backup = "+place), append(params, more...)
	}
	if progress != nil {
		progress(0, 1)
	}
	done := make(chan error, 1)
	silent, cancel := inSilence(ctx)
	defer cancel()
	go func() { done <- s.conn.Exec(silent, statement+" SETTINGS "+strings.Join(settings, ", "), params...) }()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				err = errors.Join(s.explain(err), s.endBackup(ctx, id))
			}
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		case <-ticker.C:
			s.tellProgress(ctx, id, progress)
		}
	}
}

// tellProgress asks how far a backup or a restore is. What it asks in vain is asked again soon.
func (s *Store) tellProgress(ctx context.Context, id string, progress func(done, total uint64)) {
	var done, total uint64
	err := s.conn.QueryRow(ctx, `SELECT max(greatest(bytes_read, ProfileEvents['WriteBufferFromFileDescriptorWriteBytes'])), max(total_size)
		FROM system.backups WHERE id = {id:String}`, clickhouse.Named("id", id)).Scan(&done, &total)
	if err == nil && progress != nil && total > 0 {
		progress(min(done, total-1), total) // It has ended when its statement has.
	}
}

// endBackup makes sure that a backup or a restore that failed or was given up writes no more.
func (s *Store) endBackup(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	for {
		var running uint64
		if err := s.conn.QueryRow(ctx, "SELECT countIf(status IN ('CREATING_BACKUP', 'RESTORING')) FROM system.backups WHERE id = {id:String}", clickhouse.Named("id", id)).Scan(&running); err != nil {
			return fmt.Errorf("whether the server has stopped is not known: %w", err)
		}
		if running == 0 {
			return nil
		}
		if err := s.conn.Exec(ctx, "KILL QUERY WHERE query_id IN (SELECT query_id FROM system.backups WHERE id = {id:String}) SYNC", clickhouse.Named("id", id)); err != nil {
			return fmt.Errorf("stop the server's work on it: %w", err)
		}
		if err := pause(ctx, lockPoll); err != nil {
			return fmt.Errorf("the server still works on it: %w", err)
		}
	}
}

// VerifyBackup restores a backup into a database of its own beside this one, counts what is there, and drops it. The error wraps ErrBackup where
// it is not what is wanted. It needs the right to make databases, and as much room as the data takes. On a cluster each piece is restored where it was
// written; replicated tables, whose places in Keeper are taken, cannot be (ErrUnverifiable).
func (s *Store) VerifyBackup(ctx context.Context, from BackupPlace, want []TableRows, progress func(done, total uint64)) (err error) {
	if s.cluster != nil && s.cluster.replicated {
		return ErrUnverifiable
	}
	// One at a time: whatever there is of others, a process left behind that was killed.
	ctx, lease, err := s.WaitLease(ctx, "verify", nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lease.Release(ctx)) }()
	return s.eachPiece(s.firsts(), progress, func(n *node, shards uint32, progress func(done, total uint64)) error {
		if err := n.store.dropVerified(ctx); err != nil {
			return err
		}
		return n.store.verifyPiece(ctx, from.piece(n.shard, shards), ofShard(want, n.shard), progress)
	})
}

// dropVerified drops the databases that verifications left behind.
func (s *Store) dropVerified(ctx context.Context) error {
	var names []string
	err := s.retry(ctx, "look for what verifications left", func() error {
		return s.conn.QueryRow(ctx, "SELECT groupArray(name) FROM system.databases WHERE match(name, {like:String})",
			clickhouse.Named("like", "^"+regexp.QuoteMeta(s.opt.Database+verifyInfix)+"[a-z2-7]{26}$")).Scan(&names)
	})
	for _, name := range names {
		s.log.Warn("dropping what a verification that was killed left behind", "database", name)
		if err := s.ddl(ctx, "DROP DATABASE IF EXISTS "+quoted(name)+" SYNC"); err != nil {
			return fmt.Errorf("drop %s: %w", name, s.explain(err))
		}
	}
	return err
}

// verifyInfix stands between the name of a database and the random part of the name of the one that its backup is restored into.
const verifyInfix = "_verify_"

func (s *Store) verifyPiece(ctx context.Context, from BackupPlace, want []TableRows, progress func(done, total uint64)) (err error) {
	database := s.opt.Database + verifyInfix + strings.ToLower(rand.Text())
	if err := s.ddl(ctx, "CREATE DATABASE "+quoted(database)); err != nil {
		return fmt.Errorf("verify the backup: %w", s.explain(err))
	}
	defer func() {
		if dropErr := s.ddl(context.WithoutCancel(ctx), "DROP DATABASE IF EXISTS "+quoted(database)+" SYNC"); err == nil {
			err = dropErr
		}
	}()
	if err := s.restoreTables(ctx, from, s.opt.Database, database, progress); err != nil {
		return fmt.Errorf("verify the backup: %w", err)
	}
	if err := s.expectContents(ctx, database, want); err != nil {
		return err
	}
	return s.checkParts(ctx, database)
}

// checkParts has the server read every part of a database and hold it against its checksums: a restore copies files and counts are kept in them, so that
// a damaged one is noticed when somebody asks for it.
func (s *Store) checkParts(ctx context.Context, database string) error {
	contents, err := s.contentsOf(ctx, database)
	if err != nil {
		return err
	}
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"check_query_single_value_result": 0, "max_execution_time": 0}))
	for _, t := range contents {
		err := s.each(ctx, "CHECK TABLE "+quoted(database)+"."+quoted(t.Table+s.suffix), func(rows driver.Rows) error {
			var part, why string
			var whole uint8
			if err := rows.Scan(&part, &whole, &why); err != nil {
				return err //nolint:wrapcheck // It is wrapped below.
			}
			if whole == 0 {
				return fmt.Errorf("%w: part %s of %s is damaged: %s", ErrBackup, part, t.Table, firstLine(why))
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("check %s: %w", t.Table, s.explain(err))
		}
	}
	return nil
}

func (s *Store) expectContents(ctx context.Context, database string, want []TableRows) error {
	got, err := s.contentsOf(ctx, database)
	if err != nil {
		return err
	}
	if d := difference(want, got); d != "" {
		return fmt.Errorf("%w: restored from it is something else than was written: %s", ErrBackup, d)
	}
	return nil
}

func (s *Store) restoreTables(ctx context.Context, from BackupPlace, database, as string, progress func(done, total uint64)) error {
	place, params := from.bind("from")
	err := s.backupOrRestore(ctx, "RESTORE DATABASE "+quoted(database)+" AS "+quoted(as)+" FROM "+place, params, nil, []string{"create_database = 0"}, progress)
	var ex *clickhouse.Exception
	switch {
	case errors.As(err, &ex) && ex.Code == codeBackupNotFound && s.suffix != "":
		return fmt.Errorf("%w: there is no %s where this node looks for backups: each node has to reach the pieces of its shard, and a backup fits a cluster of as many shards as it was made of: %w",
			ErrBackup, from.Name, err)
	case errors.As(err, &ex) && ex.Code == codeBackupEntryNotFound:
		return fmt.Errorf("%w: it holds no database %s: was the database called otherwise when the backup was made?: %w", ErrBackup, database, err)
	}
	return err
}

// Restore brings a backup of a database, by the name that it had, into this one, which must hold nothing (ErrNotEmpty): tables of a schema without
// data make way. want, if it is not nil, is what must come out. Afterwards the schema is up to date, and loading what was loaded before the
// backup brings nothing twice. A restore that fails leaves the database empty. On a cluster every node that is written to (all, or where they replicate the
// first of each shard) takes the piece of its shard.
func (s *Store) Restore(ctx context.Context, from BackupPlace, database string, want []TableRows, progress func(done, total uint64)) (err error) {
	if !identifier.MatchString(database) {
		return fmt.Errorf("database name %q: two or more letters, digits and _ only", database)
	}
	if s.cluster != nil && s.cluster.replicated && database != s.opt.Database {
		return fmt.Errorf("%w: replicated tables have places in Keeper that are called after their database: restore %s under its own name", ErrCluster, database)
	}
	if err := s.restoreLocked(ctx, from, database, want, progress); err != nil {
		return err
	}
	_, err = s.Migrate(ctx)
	return err
}

func (s *Store) restoreLocked(ctx context.Context, from BackupPlace, database string, want []TableRows, progress func(done, total uint64)) (err error) {
	ctx, l, err := s.lockSchema(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if releaseErr := l.release(ctx); err == nil {
			err = releaseErr
		}
	}()
	if err := s.checkEmpty(ctx); err != nil {
		return err
	}
	if err := s.markRestore(ctx); err != nil {
		return errors.Join(err, s.unmarkRestore(context.WithoutCancel(ctx))) // Nothing was changed yet.
	}
	if err := s.dropEverywhere(ctx); err != nil {
		return err
	}
	err = s.eachPiece(s.rowHolders(), progress, func(n *node, shards uint32, progress func(done, total uint64)) error {
		if err := n.store.restoreTables(ctx, from.piece(n.shard, shards), database, s.opt.Database, progress); err != nil {
			return err
		}
		if want != nil {
			if err := n.store.expectContents(ctx, s.opt.Database, ofShard(want, n.shard)); err != nil {
				return err
			}
		}
		return n.store.checkParts(ctx, s.opt.Database)
	})
	if err == nil {
		err = s.compareCopies(ctx)
	}
	if err == nil {
		err = s.remakeSchema(ctx, want)
	}
	if err == nil {
		err = s.compareCutBatches(ctx)
	}
	if err != nil {
		ctx := context.WithoutCancel(ctx)
		err = fmt.Errorf("restore: %w", err)
		if dropErr := s.dropEverywhere(ctx); dropErr != nil {
			return errors.Join(err, dropErr)
		}
		return errors.Join(err, s.unmarkRestore(ctx))
	}
	return s.unmarkRestore(ctx)
}

// restoreMark is a table that stands while a restore is under way. Restored tables come before the views that feed them, and the record of migrations with them: a
// database that was left in between counts as up to date, and lacks all feeds or some of them.
const restoreMark = "restore_under_way"

func (s *Store) markRestore(ctx context.Context) error {
	err := oneLine(eachNode(s.holders(), func(n *node) error {
		return n.store.ddl(ctx, "CREATE TABLE IF NOT EXISTS "+restoreMark+" (begun DateTime) ENGINE = Memory")
	}))
	if err != nil {
		return fmt.Errorf("begin the restore: %w", s.explain(err))
	}
	return nil
}

func (s *Store) unmarkRestore(ctx context.Context) error {
	err := oneLine(eachNode(s.holders(), func(n *node) error { return n.store.ddl(ctx, "DROP TABLE IF EXISTS "+restoreMark+" SYNC") }))
	if err != nil {
		return fmt.Errorf("end the restore: %w", s.explain(err))
	}
	return nil
}

// checkRestored refuses a database that a restore left half done.
func (s *Store) checkRestored(ctx context.Context) error {
	marked, err := s.restoreMarked(ctx)
	if err == nil && marked {
		err = fmt.Errorf("%w, or is under way: when none is, run `loader restore` again, which begins anew (%s)", ErrCutRestore, s.opt.Database)
	}
	return err
}

// restoreMarked tells whether this server or node has the mark of a restore.
func (s *Store) restoreMarked(ctx context.Context) (bool, error) {
	var exists uint8
	if err := s.conn.QueryRow(ctx, "EXISTS TABLE "+restoreMark).Scan(&exists); err != nil {
		return false, fmt.Errorf("look for %s: %w", restoreMark, s.explain(err))
	}
	return exists > 0, nil
}

// checkEmpty refuses a database in which a table holds something beside the record of migrations. What a restore that was cut off left is nothing.
func (s *Store) checkEmpty(ctx context.Context) error {
	return oneLine(eachNode(s.holders(), func(n *node) error { return n.store.checkNodeEmpty(ctx) }))
}

func (s *Store) checkNodeEmpty(ctx context.Context) error {
	if marked, err := s.restoreMarked(ctx); err != nil || marked {
		return err
	}
	contents, err := s.contentsOf(ctx, s.opt.Database)
	if err != nil {
		return err
	}
	for _, t := range contents {
		if t.Rows > 0 && t.Table != "schema_migrations" {
			return fmt.Errorf("%w: %s of %s has %d rows, and a restore goes into an empty database only: give another --dsn, or drop this database first if nobody needs it",
				ErrNotEmpty, t.Table, s.opt.Database, t.Rows)
		}
	}
	return nil
}

func (s *Store) dropEverywhere(ctx context.Context) error {
	return oneLine(eachNode(s.holders(), func(n *node) error { return n.store.dropAll(ctx) }))
}

// dropAll drops every table and view of the database on one server or node but locks and the mark of a restore; what feeds others goes first.
func (s *Store) dropAll(ctx context.Context) error {
	var names, engines []string
	if err := s.retry(ctx, "list tables", func() error {
		return s.conn.QueryRow(ctx, `SELECT groupArray(name), groupArray(engine) FROM
			(SELECT name, engine FROM system.tables WHERE database = currentDatabase() ORDER BY endsWith(engine, 'View') DESC, name)`).Scan(&names, &engines)
	}); err != nil {
		return err
	}
	for i, name := range names {
		if strings.HasPrefix(name, lockPrefix) || name == restoreMark {
			continue
		}
		kind := "TABLE"
		if strings.HasSuffix(engines[i], "View") {
			kind = "VIEW"
		}
		if err := s.ddl(ctx, "DROP "+kind+" IF EXISTS "+quoted(name)+" SYNC"); err != nil {
			return fmt.Errorf("drop %s: %w", name, s.explain(err))
		}
	}
	return nil
}

// remakeSchema makes the views of the migrations that the restored database has, and fills nothing: the rows are there, and want, if it is not nil, is what they
// must still be. (The engine's own restore of views under another database name loses the aliases of tables in them.)
func (s *Store) remakeSchema(ctx context.Context, want []TableRows) error {
	migrations, err := sql.Migrations()
	if err != nil {
		return fmt.Errorf("migrations in this program: %w", err)
	}
	// On a cluster a backup has the tables that hold rows, and not those that are spread over them.
	if err := s.ddl(ctx, migrationsTable); err != nil {
		return fmt.Errorf("create schema_migrations: %w", s.explain(err))
	}
	if _, err := s.pending(ctx, migrations); err != nil {
		return err
	}
	have, err := s.appliedMigrations(ctx)
	if err != nil {
		return err
	}
	for _, m := range migrations {
		if _, applied := have[m.Number]; !applied {
			continue
		}
		m.Statements = slices.DeleteFunc(slices.Clone(m.Statements), func(statement string) bool { return parse(statement).is("INSERT") })
		if err := s.run(ctx, m); err != nil {
			return err
		}
	}
	if want != nil {
		err := oneLine(eachNode(s.rowHolders(), func(n *node) error { return n.store.expectContents(ctx, s.opt.Database, ofShard(want, n.shard)) }))
		if err != nil {
			return err
		}
	}
	questions, err := questionsMigration()
	if err != nil || slices.ContainsFunc(migrations, func(m sql.Migration) bool { _, applied := have[m.Number]; return !applied }) {
		return err // With migrations still to come, the questions come behind them.
	}
	return s.apply(ctx, questions)
}

// compareFirst begins the token of a batch whose rows must be compared with the table before any is sent.
const compareFirst = "compare "

// compareCutBatches has batches compared that were under way: the restored tables have forgotten the tokens that would keep their rows from
// coming in twice.
func (s *Store) compareCutBatches(ctx context.Context) error {
	return s.retry(ctx, "mark batches that were under way", func() error {
		return s.conn.Exec(ledgerSettings(ctx), `INSERT INTO load_batches (head, start, end, sum, token, options, input, records, rows, done, at)
			SELECT head, start, end, sum, if(startsWith(token, {prefix:String}), token, concat({prefix:String}, token)), options, input, records, rows, done, now64(6)
			FROM load_batches FINAL WHERE NOT done`, clickhouse.Named("prefix", compareFirst))
	})
}
