package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"murmuration/pkg/load"
	"murmuration/pkg/store"
)

// defaultSensor is the sensor's name where the user gives none.
const defaultSensor = "default"

func sensorFlag() cli.Flag {
	return &cli.StringFlag{Name: "sensor", Value: defaultSensor, Usage: "`NAME` of the sensor",
		Action: func(_ *cli.Context, v string) error {
			if strings.TrimSpace(v) == "" || utf8.RuneCountInString(v) > 100 || !utf8.ValidString(v) {
				return usagef("--sensor takes a name of 1 to 100 characters of UTF-8, not %q", v)
			}
			return nil
		}}
}

func loadCommand(env environment) *cli.Command {
	return &cli.Command{
		Name:      "load",
		Usage:     "load captures: pcap and pcapng, plain, .gz or .zst",
		ArgsUsage: "FILE… | DIR | -",
		Description: "Every input is loaded exactly once, whatever it is called: the same content again, whole or grown, after a\n" +
			"crash or under another name, adds only what is new. \"-\" is standard input.",
		OnUsageError: usageErrorOf,
		Flags: withConnection(
			sensorFlag(),
			&cli.StringSliceFlag{Name: "telescope", Usage: "monitored `PREFIX` (repeatable); tells inbound from outbound, and is kept for detection"},
			&cli.StringFlag{Name: "format", Value: "text", Usage: "text or json: how the summary is printed",
				Action: func(_ *cli.Context, v string) error {
					if v != "text" && v != formatJSON {
						return usagef("--format takes text or json here, not %q", v)
					}
					return nil
				}},
			&cli.IntFlag{Name: "batch", Value: load.DefaultBatchRows, Usage: "at most this many `ROWS` in one insert",
				Action: func(_ *cli.Context, v int) error {
					if v < 1 || v > store.MaxBatchRows {
						return usagef("--batch takes 1 to %d rows, not %d", store.MaxBatchRows, v)
					}
					return nil
				}},
		),
		Action: func(c *cli.Context) error { return loadInputs(c, env) },
	}
}

func loadInputs(c *cli.Context, env environment) error {
	if !c.Args().Present() {
		return usagef("load takes files, directories or - for standard input")
	}
	if f, ok := env.stdin.(*os.File); ok && slices.Contains(c.Args().Slice(), "-") && term.IsTerminal(int(f.Fd())) {
		return usagef("standard input is a terminal: pipe a capture into it, as in `tcpdump -w - | loader load -`")
	}
	prefixes, err := parsePrefixes(c.StringSlice("telescope"))
	if err != nil {
		return err
	}
	inputs, leftAlone, err := load.Inputs(c.Args().Slice(), env.stdin)
	if err != nil {
		return err
	}
	return withStore(c, env, func(ctx context.Context, conn *connection, log *slog.Logger) error {
		telescopes, err := sensorTelescopes(ctx, conn.store, c.String("sensor"), prefixes)
		if err != nil {
			return err
		}
		progress := newProgress(env.stderr)
		l := load.New(conn.store, load.Options{
			Sensor: c.String("sensor"), Telescopes: telescopes, BatchRows: c.Int("batch"), Logger: log, Progress: progress.show,
		})
		out := &loadSummary{w: env.stdout, json: c.String("format") == formatJSON}
		errs := loadAll(ctx, l, inputs, progress, out)
		out.total(len(leftAlone))
		if out.events > 0 {
			errs = append(errs, registerTelescopes(ctx, conn.store, c.String("sensor"), prefixes, env.stderr))
		}
		return joinErrors(errs)
	})
}

// sensorTelescopes returns the prefixes of the command line and those that the sensor has already: what
// was said once need not be said with every load.
func sensorTelescopes(ctx context.Context, st *store.Store, sensor string, prefixes []netip.Prefix) ([]netip.Prefix, error) {
	all, err := st.Telescopes(ctx)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(prefixes)
	for _, t := range all {
		if t.Sensor == sensor && !slices.Contains(out, t.Prefix) {
			out = append(out, t.Prefix)
		}
	}
	return out, nil
}

// registerTelescopes keeps the prefixes of the command line for detection and for later loads. It is called once
// something was found in them, and leaves out those to which nothing goes: a mistyped prefix would be space that
// nobody covers.
func registerTelescopes(ctx context.Context, st *store.Store, sensor string, prefixes []netip.Prefix, stderr io.Writer) error {
	for _, p := range prefixes {
		touched, err := st.Touched(ctx, p)
		if err != nil {
			return err
		}
		if !touched {
			fmt.Fprintf(stderr, "note: no event goes to the telescope %s, so it is not kept: check --telescope, or say `loader telescope add %s` if it is only quiet\n", p, p)
			continue
		}
		if err := st.AddTelescope(ctx, store.Telescope{Prefix: p, Sensor: sensor}); err != nil {
			return fmt.Errorf("add telescope %s: %w", p, err)
		}
	}
	return nil
}

// loadAll loads one input after the other. An input that fails is reported and the next one is taken;
// only what makes going on senseless ends the list.
func loadAll(ctx context.Context, l *load.Loader, inputs []load.Input, p *progress, out *loadSummary) []error {
	var errs []error
	for i, in := range inputs {
		p.start(in, i+1, len(inputs))
		rep, fatal := l.Load(ctx, in)
		p.finish()
		out.add(&rep)
		if rep.Err != nil {
			errs = append(errs, rep.Err)
		}
		if fatal != nil {
			if !errors.Is(fatal, rep.Err) {
				errs = append(errs, fatal)
			}
			if left := len(inputs) - i - 1; left > 0 {
				errs = append(errs, fmt.Errorf("%d inputs were not begun", left))
			}
			break
		}
	}
	return errs
}

// loadSummary prints what came of each input.
type loadSummary struct {
	w                                        io.Writer
	json                                     bool
	inputs, packets, events, inserted, known uint64
}
