package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"murmuration/pkg/backup"
	"murmuration/pkg/store"
)

func backupCommand(env environment) *cli.Command {
	return &cli.Command{
		Name:      "backup",
		Usage:     "write a backup of everything: events, rollups, ledger, campaigns, context",
		ArgsUsage: "DIR | FILE",
		Description: "A name that ends in .tar or .tar.zst becomes one file, any other a directory. The backup is restored beside the data\n" +
			"once to see that it is good, and only then takes its name. On a server the name is one that the server allows; on a\n" +
			"cluster each shard writes a backup of its own, NAME-shard1of2 and so on.",
		OnUsageError: usageErrorOf,
		Flags: withConnection(
			&cli.GenericFlag{Name: "base", Value: &names{}, Usage: "write only what is new against the backup in this `DIR`"},
			&cli.StringFlag{Name: "disk", Usage: "`DISK` of a server that it has for backups; without it, its backups.allowed_path"},
			&cli.BoolFlag{Name: "no-verify", Usage: "do not restore the backup to see whether it is good"},
		),
		Action: func(c *cli.Context) error {
			says := "no backup was made: run the same command again to begin anew"
			if embeddedDir(c) == "" {
				says = "no backup was made: have the server remove what it wrote under that name, or give another, and begin anew"
			}
			return whenInterrupted(runBackup(c, env), says)
		},
	}
}

func restoreCommand(env environment) *cli.Command {
	return &cli.Command{
		Name:      "restore",
		Usage:     "bring a backup back, into an empty database",
		ArgsUsage: "DIR | FILE",
		Description: "Afterwards the schema is up to date, and loading what was loaded before brings nothing twice. A database that holds\n" +
			"something is refused.",
		OnUsageError: usageErrorOf,
		Flags: withConnection(
			&cli.GenericFlag{Name: "base", Value: &names{}, Usage: "`DIR` where a backup is now that this one is an increment of, if it was moved (repeatable)"},
			&cli.StringFlag{Name: "disk", Usage: "`DISK` of a server that it has for backups; without it, its backups.allowed_path"},
			&cli.StringFlag{Name: "from", Usage: "`NAME` of the database in a server's backup, if it was another"},
		),
		Action: func(c *cli.Context) error {
			return whenInterrupted(runRestore(c, env), "nothing of the restore is kept: run the same command again to begin anew")
		},
	}
}

// names is the value of a flag that may be given several times; a name may hold a comma.
type names []string

// Set adds a name.
func (n *names) Set(s string) error {
	if s == "" {
		return errors.New("it takes a name, not \"\"")
	}
	*n = append(*n, s)
	return nil
}

func (n *names) String() string { return strings.Join(*n, " ") }

// bases are the backups that --base names.
func bases(c *cli.Context) []string {
	if n, ok := c.Generic("base").(*names); ok {
		return *n
	}
	return nil
}

// oneName is the only argument of a command, which must not be empty: that would be the working directory.
func oneName(c *cli.Context, what string) (string, error) {
	if c.Args().Len() != 1 {
		return "", usagef("%s takes one directory or file to %s, got %d", c.Command.Name, what, c.Args().Len())
	}
	if c.Args().First() == "" {
		return "", usagef("%s takes the name of a directory or file to %s, not \"\"", c.Command.Name, what)
	}
	return c.Args().First(), nil
}

// interrupted is what ends a command that does not go on where it was stopped, with what is to be said then.
type interrupted struct {
	error
	says string
}

func (e interrupted) Unwrap() error { return e.error }

func whenInterrupted(err error, says string) error {
	if errors.Is(err, context.Canceled) {
		return interrupted{err, says}
	}
	return err
}

// embeddedDir is the directory of the embedded engine that the flags name, "" for a server.
func embeddedDir(c *cli.Context) string {
	dsn := flagString(c, "dsn")
	dir, embedded := strings.CutPrefix(dsn, "embedded:")
	switch {
	case dsn != "" && !embedded:
		return ""
	case dsn == "" || dir == "":
		return defaultDir()
	}
	return dir
}

// withData is withStore for what writes out what there is. It makes no data directory: a mistyped name should not look like one whose backup holds
// everything.
func withData(c *cli.Context, env environment, f func(context.Context, *connection, *slog.Logger) error) error {
	if dir := embeddedDir(c); dir != "" {
		// An engine makes its lock first.
		if _, err := os.Lstat(filepath.Join(dir, "engine.lock")); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("data directory %s: nothing was loaded into it yet, so %s has nothing to write: give the directory of the data with --dsn embedded:DIR, or load a capture first (loader load FILE)", dir, c.Command.Name)
		}
	}
	return withStore(c, env, f)
}

// backupOptions are those that depend on whether the data is embedded.
func backupOptions(c *cli.Context, conn *connection, env environment) (backup.Options, error) {
	o := backup.Options{Disk: c.String("disk"), Version: version, Progress: newStages(env.stderr).of("bytes")}
	if conn.engine != nil {
		o.Engine = conn.engine.Backups()
		if o.Disk != "" {
			return o, usagef("--disk is for a server; the embedded ClickHouse writes to DIR or FILE itself")
		}
	}
	return o, nil
}

func runBackup(c *cli.Context, env environment) error {
	target, err := oneName(c, "write")
	if err != nil {
		return err
	}
	if b := bases(c); len(b) > 1 {
		return usagef("backup takes one --base, got %d: an increment builds on one backup, and on those that it builds on", len(b))
	}
	return withData(c, env, func(ctx context.Context, conn *connection, _ *slog.Logger) error {
		o, err := backupOptions(c, conn, env)
		if err != nil {
			return err
		}
		o.NoVerify = c.Bool("no-verify")
		o.Bases = bases(c)
		m, err := backup.Create(ctx, conn.store, target, o)
		if err != nil {
			return err
		}
		verified := ", restored once to see that it is good"
		if m.Unverified != "" {
			verified = ", not verified (" + m.Unverified + ")"
		}
		fmt.Fprintf(env.stdout, "%s: %s%s\n", target, contentsText(m), verified)
		if events(m) == 0 {
			fmt.Fprintf(env.stderr, "note: %s holds no event, since there is none in the database: is --dsn that of the data?\n", target)
		}
		return nil
	})
}

func runRestore(c *cli.Context, env environment) error {
	source, err := oneName(c, "read")
	if err != nil {
		return err
	}
	return withStoreAsItIs(c, env, func(ctx context.Context, conn *connection, _ *slog.Logger) error {
		o, err := backupOptions(c, conn, env)
		if err != nil {
			return err
		}
		if o.Database = c.String("from"); o.Database != "" && o.Engine != "" {
			return usagef("--from is for a server; a backup of the embedded ClickHouse says itself how its database was called")
		}
		o.Bases = bases(c)
		m, err := backup.Restore(ctx, conn.store, source, o)
		if errors.Is(err, store.ErrNotEmpty) {
			return fmt.Errorf("nothing was restored: %w", err)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(env.stdout, "%s: restored %s\n", source, contentsText(m))
		return nil
	})
}

// events is how many a backup holds.
func events(m *backup.Manifest) (n uint64) {
	for _, t := range m.Tables {
		if t.Table == "events" {
			n += t.Rows
		}
	}
	return n
}

// contentsText is how much a backup holds.
func contentsText(m *backup.Manifest) string {
	tables, shards := map[string]bool{}, map[uint32]bool{}
	for _, t := range m.Tables {
		tables[t.Table], shards[t.Shard] = true, true
	}
	text := thousands(events(m)) + " events in " + count(len(tables), "table")
	if !shards[0] {
		text += " of " + count(len(shards), "shard")
	}
	if m.Base != nil {
		text += ", an increment of " + m.Base.Path
	}
	return text
}
