package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

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
			&cli.StringFlag{Name: "base", Usage: "write only what is new against the backup in this `DIR`"},
			&cli.StringFlag{Name: "disk", Usage: "`DISK` of a server that it has for backups; without it, its backups.allowed_path"},
			&cli.BoolFlag{Name: "no-verify", Usage: "do not restore the backup to see whether it is good"},
		),
		Action: func(c *cli.Context) error { return runBackup(c, env) },
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
			&cli.StringSliceFlag{Name: "base", Usage: "`DIR` where a backup is now that this one is an increment of, if it was moved (repeatable)"},
			&cli.StringFlag{Name: "disk", Usage: "`DISK` of a server that it has for backups; without it, its backups.allowed_path"},
			&cli.StringFlag{Name: "from", Usage: "`NAME` of the database in a server's backup, if it was another"},
		),
		Action: func(c *cli.Context) error { return runRestore(c, env) },
	}
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
	if c.Args().Len() != 1 {
		return usagef("backup takes one directory or file to write, got %d", c.Args().Len())
	}
	target := c.Args().First()
	return withStore(c, env, func(ctx context.Context, conn *connection, _ *slog.Logger) error {
		o, err := backupOptions(c, conn, env)
		if err != nil {
			return err
		}
		o.NoVerify = c.Bool("no-verify")
		if base := c.String("base"); base != "" {
			o.Bases = []string{base}
		}
		m, err := backup.Create(ctx, conn.store, target, o)
		if err != nil {
			return err
		}
		verified := ", restored once to see that it is good"
		if m.Unverified != "" {
			verified = ", not verified (" + m.Unverified + ")"
		}
		fmt.Fprintf(env.stdout, "%s: %s%s\n", target, contentsText(m), verified)
		return nil
	})
}

func runRestore(c *cli.Context, env environment) error {
	if c.Args().Len() != 1 {
		return usagef("restore takes one directory or file to read, got %d", c.Args().Len())
	}
	source := c.Args().First()
	return withStoreAsItIs(c, env, func(ctx context.Context, conn *connection, _ *slog.Logger) error {
		o, err := backupOptions(c, conn, env)
		if err != nil {
			return err
		}
		if o.Database = c.String("from"); o.Database != "" && o.Engine != "" {
			return usagef("--from is for a server; a backup of the embedded ClickHouse says itself how its database was called")
		}
		o.Bases = c.StringSlice("base")
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

// contentsText is how much a backup holds.
func contentsText(m *backup.Manifest) string {
	events, names, shards := uint64(0), map[string]bool{}, map[uint32]bool{}
	for _, t := range m.Tables {
		names[t.Table], shards[t.Shard] = true, true
		if t.Table == "events" {
			events += t.Rows
		}
	}
	text := thousands(events) + " events in " + count(len(names), "table")
	if !shards[0] {
		text += " of " + count(len(shards), "shard")
	}
	if m.Base != nil {
		text += ", an increment of " + m.Base.Path
	}
	return text
}
