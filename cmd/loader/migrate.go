package main

import (
	"fmt"
	"log/slog"

	"github.com/urfave/cli/v2"
)

func migrateCommand(env environment) *cli.Command {
	return &cli.Command{
		Name:         "migrate",
		Usage:        "bring the schema up to date (every other command does it, too)",
		OnUsageError: usageErrorOf,
		Flags:        withConnection(),
		Action: func(c *cli.Context) error {
			log, err := newLogger(c, env.stderr)
			if err != nil {
				return err
			}
			return migrate(c, env, log)
		},
	}
}

func migrate(c *cli.Context, env environment, log *slog.Logger) error {
	conn, err := connect(c, log, "")
	if err != nil {
		return err
	}
	fmt.Fprintf(env.stdout, "%s: schema is up to date, %d steps applied now\n", conn.where, len(conn.applied))
	for _, step := range conn.applied {
		fmt.Fprintln(env.stdout, " ", step)
	}
	return conn.Close()
}
