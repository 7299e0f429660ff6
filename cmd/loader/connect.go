package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// connect opens the store that the flags name and brings its schema up to date.
func connect(c *cli.Context, log *slog.Logger) (*connection, error) {
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
	opt.Logger = log
	conn.store, err = store.Open(ctx, opt)
	if errors.Is(err, store.ErrNoDatabase) && opt.Cluster != "" {
		opt.CreateDatabase = true // On every node, which is tedious by hand.
		conn.store, err = store.Open(ctx, opt)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if conn.applied, err = conn.store.Migrate(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if len(conn.applied) > 0 {
		log.InfoContext(ctx, "schema brought up to date", "steps", conn.applied)
	}
	return conn, nil
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
	opt, err := store.ParseDSN(dsn)
	if err != nil {
		return nil, store.Options{}, usageError{fmt.Errorf("--dsn: %w", err)}
	}
	return &connection{where: "clickhouse://" + strings.Join(opt.Addr, ",") + "/" + opt.Database}, opt, nil
}

func engineStore(e *engine.Engine) store.Options {
	ep := e.Endpoint()
	return store.Options{Addr: []string{ep.TCPAddr}, User: ep.User, Password: ep.Password, Database: store.DefaultDatabase, CreateDatabase: true}
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
var errEngineGone = errors.New("the embedded ClickHouse ended in the middle of the work; what it acknowledged is safe, run the same command again to go on")

// withStore runs f on the store that the flags name. Its context ends when the engine does: without it
// nothing that f waits for can come.
func withStore(c *cli.Context, env environment, f func(context.Context, *connection, *slog.Logger) error) (err error) {
	log, err := newLogger(c, env.stderr)
	if err != nil {
		return err
	}
	conn, err := connect(c, log)
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
