package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"murmuration/pkg/engine"
	"murmuration/pkg/store"
)

// closeTimeout is how long leaving the engine may take once the work is done.
const closeTimeout = 30 * time.Second

// connection is an open store and, where the data is embedded, the engine under it.
type connection struct {
	store  *store.Store
	engine *engine.Engine // nil for a server
	where  string         // the DSN without its password
	// applied are the migrations that opening the connection applied.
	applied []string
}

// connect opens the store that the flags name, or another database beside it, and brings its schema up to date.
func connect(c *cli.Context, log *slog.Logger, database string) (*connection, error) {
	conn, err := open(c, log, database)
	if err != nil {
		return nil, err
	}
	if conn.applied, err = conn.store.Migrate(c.Context); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if len(conn.applied) > 0 {
		log.InfoContext(c.Context, "schema brought up to date", "steps", conn.applied)
	}
	return conn, nil
}

// open opens the store that the flags name, or another database beside it, as it is.
func open(c *cli.Context, log *slog.Logger, database string) (*connection, error) {
	ctx := c.Context
	dsn := flagString(c, "dsn")
	if dsn == "" {
		dsn = "embedded:" + defaultDir()
	}
	conn, opt, err := resolve(ctx, dsn, flagString(c, "engine"), log)
	if err != nil {
		return nil, err
	}
	if opt.Cluster = flagString(c, "cluster"); opt.Cluster != "" {
		if conn.engine != nil {
			return nil, errors.Join(usagef("--cluster %s needs servers: give --dsn clickhouse://host,host2/database (the embedded engine is one server)", opt.Cluster), conn.Close())
		}
		conn.where += " on cluster " + opt.Cluster
	}
	opt.Logger, opt.Progress = log, newStages(c.App.ErrWriter).of("rows")
	opt.CreateDatabase = opt.CreateDatabase || createsDatabase(c)
	if database != "" {
		opt.Database, opt.CreateDatabase = database, true
	}
	if conn.store, err = store.Open(ctx, opt); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// createsDatabase says whether a command makes a server's database where it is missing, as those do that begin a
// collection. The others refuse: a mistyped name should not look like a database without answers.
func createsDatabase(c *cli.Context) bool {
	return slices.Contains([]string{"load", "migrate", "restore"}, c.Command.Name)
}

// resolve turns a DSN into the options of a store, starting or joining the embedded engine if it names one.
func resolve(ctx context.Context, dsn, library string, log *slog.Logger) (*connection, store.Options, error) {
	if dir, ok := strings.CutPrefix(dsn, "embedded:"); ok {
		if dir == "" {
			dir = defaultDir()
		}
		e, err := engine.Open(ctx, engine.Options{Dir: dir, Library: library, Logger: log})
		if err != nil {
			return nil, store.Options{}, err
		}
		return &connection{engine: e, where: dsn}, engineStore(e), nil
	}
	if !strings.Contains(dsn, "://") {
		return nil, store.Options{}, usagef("--dsn takes embedded:DIR or clickhouse://user:password@host:9000/database, not %q", dsn)
	}
	opt, err := store.ParseDSN(dsn)
	if err != nil {
		return nil, store.Options{}, usageError{fmt.Errorf("--dsn: %w", err)}
	}
	return &connection{where: "clickhouse://" + strings.Join(opt.Addr, ",") + "/" + opt.Database}, opt, nil
}

func engineStore(e *engine.Engine) store.Options {
	ep := e.Endpoint()
	return store.Options{Addr: []string{ep.TCPAddr}, HTTPAddr: ep.HTTPAddr, User: ep.User, Password: ep.Password, Database: store.DefaultDatabase, CreateDatabase: true}
}

// Close leaves the store first: the engine stops at once when no client is connected.
func (c *connection) Close() error {
	var errs []error
	if c.store != nil {
		errs = append(errs, c.store.Close())
	}
	if c.engine != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		errs = append(errs, c.engine.Close(ctx))
	}
	return errors.Join(errs...)
}

// errEngineGone ends what runs on an embedded engine that ended.
var errEngineGone = errors.New("the embedded ClickHouse ended; what it acknowledged is safe, run the same command again")

// withStore runs f on the store that the flags name. Its context ends when the engine does: without it
// nothing that f waits for can come.
func withStore(c *cli.Context, env environment, f func(context.Context, *connection, *slog.Logger) error) error {
	return with(c, env, connect, "", f)
}

// withDatabase is withStore on another database than the flags name, unless it is empty.
func withDatabase(c *cli.Context, env environment, database string, f func(context.Context, *connection, *slog.Logger) error) error {
	return with(c, env, connect, database, f)
}

// withStoreAsItIs is withStore for what must find the database as it is, without a schema if it has none.
func withStoreAsItIs(c *cli.Context, env environment, f func(context.Context, *connection, *slog.Logger) error) error {
	return with(c, env, open, "", f)
}

type opener func(c *cli.Context, log *slog.Logger, database string) (*connection, error)

func with(c *cli.Context, env environment, connect opener, database string, f func(context.Context, *connection, *slog.Logger) error) (err error) {
	log, err := newLogger(c, env.stderr)
	if err != nil {
		return err
	}
	conn, err := connect(c, log, database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ctx, cancel := context.WithCancelCause(c.Context)
	defer cancel(nil)
	if conn.engine != nil {
		go func() {
			select {
			case <-conn.engine.Done():
				cancel(errEngineGone)
			case <-ctx.Done():
			}
		}()
	}
	err = f(ctx, conn, log)
	if err != nil && errors.Is(context.Cause(ctx), errEngineGone) && !errors.Is(err, errEngineGone) {
		err = fmt.Errorf("%w (%w)", errEngineGone, err)
	}
	return err
}
