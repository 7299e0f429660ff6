package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"murmuration/pkg/netinfo"
	"murmuration/pkg/netinfo/keep"
	"murmuration/pkg/store"
)

func contextCommand(env environment) *cli.Command {
	return &cli.Command{
		Name:            "context",
		Usage:           "say what is known of networks: autonomous systems, countries, benign scanners",
		OnUsageError:    usageErrorOf,
		HideHelpCommand: true,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("context has no %q; it has add, list and remove", c.Args().First())
			}
			return cli.ShowSubcommandHelp(c)
		},
		Subcommands: []*cli.Command{
			{
				Name:      "add",
				Usage:     "add files, or put them in the place of those of the same names: all or, if one is broken, none",
				ArgsUsage: "FILE…",
				Description: "CSV and TSV with a prefix or two addresses a line (GeoLite2, DB-IP, iptoasn and others), MaxMind databases (.mmdb), and\n" +
					"lists of prefixes with a scanner's name behind each; plain, gzip or zstd. What a file tells is seen from its columns.",
				OnUsageError: usageErrorOf,
				Flags: withConnection(
					&cli.StringFlag{Name: "kind", Usage: "take only this of the files: asn, country or benign",
						Action: func(_ *cli.Context, v string) error {
							for _, k := range netinfo.Kinds() {
								if v == k {
									return nil
								}
							}
							return usagef("--kind takes asn, country or benign, not %q", v)
						}},
					&cli.StringFlag{Name: "name", Usage: "`NAME` of the scanner whose prefixes are listed without one; without it, the name of the file",
						Action: func(_ *cli.Context, v string) error {
							if err := netinfo.CheckName(v); err != nil {
								return usagef("--name: %w", err)
							}
							return nil
						}},
				),
				Action: func(c *cli.Context) error { return contextAdd(c, env) },
			},
			{
				Name:         "list",
				Usage:        "list the files that the context is made of",
				OnUsageError: usageErrorOf,
				Flags:        withConnection(formatFlag()),
				Action:       func(c *cli.Context) error { return contextList(c, env) },
			},
			{
				Name:         "remove",
				Usage:        "take files, by their names, out of the context",
				ArgsUsage:    "NAME…",
				OnUsageError: usageErrorOf,
				Flags:        withConnection(),
				Action:       func(c *cli.Context) error { return contextRemove(c, env) },
			},
		},
	}
}

func contextAdd(c *cli.Context, env environment) error {
	paths := c.Args().Slice()
	if len(paths) == 0 {
		return usagef("context add takes at least one file")
	}
	return withStore(c, env, func(ctx context.Context, conn *connection, _ *slog.Logger) error {
		files, err := keep.Add(ctx, conn.store, paths, keep.Options{Kind: c.String("kind"), Benign: c.String("name"), Progress: newStages(env.stderr).show})
		if err != nil {
			return err
		}
		for _, f := range files {
			fmt.Fprintf(env.stdout, "%s: %s of %s\n", f.Name, strings.ReplaceAll(f.Kinds, " ", " and "), count(int(f.Networks), "network")) //nolint:gosec // Counted by memory.
		}
		return nil
	})
}

func contextList(c *cli.Context, env environment) error {
	if c.Args().Present() {
		return usagef("context list takes no arguments, got %q", c.Args().First())
	}
	return withStore(c, env, func(ctx context.Context, conn *connection, _ *slog.Logger) error {
		files, err := conn.store.ContextFiles(ctx)
		if err != nil {
			return err
		}
		g := newTable("name", "kinds", "format", "networks", "loaded", "sum")
		g.numeric = []bool{3: true}
		for i := range files {
			g.add(contextRow(&files[i], c.String("format"))...)
		}
		return g.write(env.stdout, c.String("format"))
	})
}

func contextRow(f *store.ContextFile, format string) []any {
	sum := hex.EncodeToString(f.Sum[:])
	if format == formatTable {
		return []any{f.Name, f.Kinds, f.Format, f.Networks, f.Loaded.Format(minuteForm), sum[:12]}
	}
	return []any{f.Name, f.Kinds, f.Format, f.Networks, f.Loaded.Format(time.RFC3339), sum}
}

func contextRemove(c *cli.Context, env environment) error {
	names := c.Args().Slice()
	if len(names) == 0 {
		return usagef("context remove takes at least one name; see `loader context list`")
	}
	return withStore(c, env, func(ctx context.Context, conn *connection, _ *slog.Logger) error {
		err := keep.Remove(ctx, conn.store, names, newStages(env.stderr).show)
		if errors.Is(err, keep.ErrUnknown) {
			return usageError{err}
		}
		return err
	})
}
