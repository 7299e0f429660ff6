package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/urfave/cli/v2"

	"murmuration/pkg/engine"
	"murmuration/pkg/store"
)

func upCommand(env environment) *cli.Command {
	return &cli.Command{
		Name:  "up",
		Usage: "run the embedded ClickHouse in the foreground until interrupted",
		Description: "Other commands with --dsn embedded:DIR join it. Without `loader up` each command starts the engine\n" +
			"for its own duration, which is enough unless Grafana or another client shall ask, too.",
		OnUsageError: usageErrorOf,
		Flags: withConnection(
			&cli.StringFlag{Name: "data", Usage: "`DIR` that holds the data; without it that of --dsn", DefaultText: defaultDir()},
			&cli.IntFlag{Name: "tcp-port", Usage: "native protocol `PORT` on loopback; 0 lets the system choose"},
			&cli.IntFlag{Name: "http-port", Usage: "HTTP `PORT` on loopback; 0 lets the system choose"},
		),
		Action: func(c *cli.Context) error { return up(c, env) },
	}
}

func up(c *cli.Context, env environment) (err error) {
	if c.Args().Present() {
		return usagef("up takes no arguments, got %q", c.Args().First())
	}
	log, err := newLogger(c, env.stderr)
	if err != nil {
		return err
	}
	dir, err := upDir(c)
	if err != nil {
		return err
	}
	e, err := engine.Start(c.Context, engine.Options{
		Dir: dir, Library: flagString(c, "engine"), TCPPort: c.Int("tcp-port"), HTTPPort: c.Int("http-port"), Logger: log,
	})
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		err = errors.Join(err, e.Stop(ctx))
	}()
	if err := migrateEngine(c.Context, e, log); err != nil {
		return err
	}
	ep := e.Endpoint()
	fmt.Fprintf(env.stdout, `ClickHouse %s runs on %s
  native    %s
  HTTP      http://%s   (a page to type SQL into: http://%s/play)
  database  %s
  read-only user %q, password in %s
Stop it with Ctrl-C or SIGTERM.
`, ep.Version, dir, ep.TCPAddr, ep.HTTPAddr, ep.HTTPAddr, store.DefaultDatabase, ep.ReaderUser, ep.ReaderPasswordFile)
	select {
	case <-c.Done():
		return nil
	case <-e.Done():
		return fmt.Errorf("the engine ended by itself: %w", e.Err())
	}
}

// upDir is the directory to run on: --data, else that of --dsn, else the default.
func upDir(c *cli.Context) (string, error) {
	data, dsn := c.String("data"), flagString(c, "dsn")
	dir, embedded := strings.CutPrefix(dsn, "embedded:")
	switch {
	case data != "":
		return data, nil
	case dsn != "" && !embedded:
		return "", usagef("up runs the embedded ClickHouse, and --dsn names a server: say --data DIR or --dsn embedded:DIR")
	case dir != "":
		return dir, nil
	}
	return defaultDir(), nil
}

// migrateEngine brings the schema up to date and leaves no connection behind.
func migrateEngine(ctx context.Context, e *engine.Engine, log *slog.Logger) (err error) {
	opt := engineStore(e)
	opt.Logger = log
	st, err := store.Open(ctx, opt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	_, err = st.Migrate(ctx)
	return err
}
