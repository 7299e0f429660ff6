package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"murmuration/pkg/event"
	"murmuration/pkg/export"
	"murmuration/pkg/nearest"
	"murmuration/pkg/store"
)

func exportCommand(env environment) *cli.Command {
	return &cli.Command{
		Name:      "export",
		Usage:     "write events, footprints or campaigns for other tools: Parquet, CSV or JSON",
		ArgsUsage: "events | footprints | campaigns",
		Description: "ClickHouse writes the format itself, streamed: neither it nor the loader holds more than a piece. Addresses are\n" +
			"text, times have their microseconds. Filters are joined by and.",
		OnUsageError: usageErrorOf,
		Flags: withConnection(
			&cli.StringFlag{Name: "format", Value: string(store.FormatParquet), Usage: "parquet, csv or json (one object a line)",
				Action: func(_ *cli.Context, v string) error {
					if !slices.Contains(store.Formats(), store.Format(v)) {
						return usagef("--format takes parquet, csv or json here, not %q", v)
					}
					return nil
				}},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "`FILE` to write; it takes its name when it is whole; without it, or as -, standard output"},
			&cli.StringFlag{Name: "window", Value: "all", Usage: "how far back to go: 90d, 12h, 2w, or all"},
			timeFlag("at", "`TIME` at which the window ends; without it, the newest event"),
			&cli.StringFlag{Name: "sensor", Usage: "only what this sensor saw"},
			&cli.StringFlag{Name: "kind", Usage: "only events of this kind: scan, request, backscatter or other"},
			&cli.IntFlag{Name: "port", Value: -1, Usage: "only to this destination port", DefaultText: "all"},
			&cli.StringFlag{Name: "source", Usage: "only from sources in this `PREFIX`"},
		),
		Action: func(c *cli.Context) error {
			return whenInterrupted(runExport(c, env), "what was exported is not whole: run the same command again to begin anew")
		},
	}
}

func runExport(c *cli.Context, env environment) error {
	o, err := exportOptions(c)
	if err != nil {
		return err
	}
	path, err := exportPath(c)
	if err != nil {
		return err
	}
	if f, ok := env.stdout.(*os.File); ok && path == "" && o.Format == store.FormatParquet && term.IsTerminal(int(f.Fd())) {
		return usagef("Parquet is not for a terminal: give --output FILE, or lead standard output elsewhere")
	}
	return withData(c, env, func(ctx context.Context, conn *connection, _ *slog.Logger) error {
		progress := newStages(env.stderr)
		o.Progress = func(done, total uint64) { progress.show("exporting "+o.What, done, total, "rows") }
		var r export.Report
		var err error
		if path == "" {
			path = "standard output"
			r, err = export.To(ctx, conn.store, env.stdout, o)
		} else {
			r, err = export.ToFile(ctx, conn.store, path, o)
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(env.stderr, "%s: %s, %s bytes\n", path, count(int(r.Rows), "row"), thousands(uint64(r.Bytes))) //nolint:gosec // Counts.
		return nil
	})
}

// exportPath is the file to write, "" for standard output.
func exportPath(c *cli.Context) (string, error) {
	switch path := c.String("output"); {
	case path == "" && c.IsSet("output"):
		return "", usagef("--output takes the name of a file, or - for standard output, not \"\"")
	case path == "-" || path == "/dev/stdout":
		// By its name it would be replaced where it is a file.
		return "", nil
	default:
		return path, nil
	}
}

// exportOptions reads the command line.
func exportOptions(c *cli.Context) (o export.Options, err error) {
	names, err := store.Exports()
	if err != nil {
		return o, err
	}
	if c.Args().Len() != 1 {
		return o, usagef("export takes one of events, footprints or campaigns, got %d arguments", c.Args().Len())
	}
	o.What, o.Format, o.To = c.Args().First(), store.Format(c.String("format")), timestamp(c, "at")
	if !slices.Contains(names, o.What) {
		return o, usagef("there is no %q to export%s", o.What, nearest.Hint(o.What, names))
	}
	o.Sensor, o.Kind, o.Port = c.String("sensor"), c.String("kind"), c.Int("port")
	if kinds := slices.Sorted(maps.Values(event.Kinds())); o.Kind != "" && !slices.Contains(kinds, o.Kind) {
		return o, usagef("there is no kind %q%s", o.Kind, nearest.Hint(o.Kind, kinds))
	}
	if c.IsSet("port") && (o.Port < 0 || o.Port > 65535) {
		return o, usagef("--port takes 0 to 65535, not %d", o.Port)
	}
	if o.Window, err = parseWindow(c.String("window")); err != nil {
		return o, err
	}
	if s := c.String("source"); s != "" {
		prefixes, err := parsePrefixes([]string{s})
		if err != nil {
			return o, err
		}
		o.Source = prefixes[0]
	}
	return o, refuseFilters(c, o.What)
}

// refuseFilters refuses what would be left unheeded: not everything that is exported has all filters.
func refuseFilters(c *cli.Context, what string) error {
	none := map[string][]string{"footprints": {"kind"}, "campaigns": {"kind", "window", "at", "sensor", "port", "source"}}
	for _, flag := range none[what] {
		if c.IsSet(flag) {
			return usagef("--%s does not go with %s", flag, what)
		}
	}
	return nil
}
