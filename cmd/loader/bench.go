package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"murmuration/pkg/nearest"
	"murmuration/pkg/store"
	"murmuration/sql"
)

// benchDatabase is where generated traffic goes unless told otherwise: apart from what was loaded.
const benchDatabase = "bench"

// benchUntil ends the generated time inside an hour, so that questions about all of it have edges at both ends.
func benchUntil() time.Time { return time.Date(2026, 7, 1, 13, 37, 11, 0, time.UTC) }

func benchCommand(env environment) *cli.Command {
	return &cli.Command{
		Name:            "bench",
		Usage:           "measure the schema on generated traffic of any size",
		OnUsageError:    usageErrorOf,
		HideHelpCommand: true,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("bench has no %q; it has data, questions and bytes", c.Args().First())
			}
			return cli.ShowSubcommandHelp(c)
		},
		Subcommands: []*cli.Command{
			{
				Name:         "data",
				Usage:        "fill a database with generated traffic; interrupted and run again it goes on",
				OnUsageError: usageErrorOf,
				Flags: withConnection(
					benchDatabaseFlag(),
					&cli.Uint64Flag{Name: "events", Value: 1_000_000, Usage: "how many"},
					&cli.IntFlag{Name: "days", Value: 90, Usage: "that they are spread over"},
					&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "the same seed gives the same events"},
					timeFlag("until", "end of the `TIME` that they are spread over (default 2026-07-01 13:37:11)"),
					&cli.BoolFlag{Name: "mix", Usage: "also into a database that holds loads, or what other flags generated"},
				),
				Action: func(c *cli.Context) error { return benchData(c, env) },
			},
			{
				Name:         "questions",
				Usage:        "ask the standard questions and, in the same run, the events themselves",
				OnUsageError: usageErrorOf,
				Flags: withConnection(
					benchDatabaseFlag(), formatFlag(),
					&cli.IntFlag{Name: "days", Value: 90, Usage: "that are asked for"},
					timeFlag("at", "end of the `TIME` asked for (default the newest event)"),
					&cli.IntFlag{Name: "repeat", Value: 7, Usage: "times that a question is asked; the median counts"},
					&cli.IntFlag{Name: "repeat-raw", Value: 3, Usage: "times that the events are asked; 0 leaves them out"},
					&cli.StringSliceFlag{Name: "question", Usage: "`NAME` of a standard question, repeatable or with commas; without it, all"},
				),
				Action: func(c *cli.Context) error { return benchQuestions(c, env) },
			},
			{
				Name:         "bytes",
				Usage:        "list the tables with their rows and bytes, beside the events",
				OnUsageError: usageErrorOf,
				Flags:        withConnection(benchDatabaseFlag(), formatFlag()),
				Action:       func(c *cli.Context) error { return benchBytes(c, env) },
			},
		},
	}
}

func benchDatabaseFlag() cli.Flag {
	return &cli.StringFlag{Name: "database", Value: benchDatabase, Usage: "`NAME` of the database, whatever the DSN says",
		Action: func(_ *cli.Context, v string) error {
			if v == "" {
				return usagef("--database takes a name; without it, it is %s", benchDatabase)
			}
			if store.ServerDatabase(v) {
				return usagef("--database %s: that is the server's own; name another, or leave it away for %s", v, benchDatabase)
			}
			return nil
		}}
}

// withBench is withDatabase for what only reads: a database that is not there is refused, and not made.
func withBench(c *cli.Context, env environment, f func(context.Context, *connection, *slog.Logger) error) error {
	return with(c, env, connectThere, c.String("database"), f)
}

// connectThere is connect to a database that is there.
func connectThere(c *cli.Context, log *slog.Logger, database string) (conn *connection, err error) {
	server, err := open(c, log, "system")
	if err != nil {
		return nil, err
	}
	// Left last: it keeps an embedded engine running for the connection that is returned.
	defer func() {
		if closeErr := server.Close(); closeErr != nil && err == nil {
			err = errors.Join(closeErr, conn.Close())
		}
	}()
	there, err := server.store.Databases(c.Context)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(there, database) {
		return nil, fmt.Errorf("there is no database %q%s (`loader bench data` makes one)", database, nearest.Hint(database, there))
	}
	return connect(c, log, database)
}

func benchData(c *cli.Context, env environment) error {
	if c.Args().Present() {
		return usagef("bench data takes no arguments, got %q", c.Args().First())
	}
	p := store.BenchPlan{Events: c.Uint64("events"), Days: c.Int("days"), Seed: c.Uint64("seed"), Until: timestamp(c, "until"), Mix: c.Bool("mix")}
	if p.Until.IsZero() {
		p.Until = benchUntil()
	}
	switch {
	case p.Events < 1 || p.Events > 1e12:
		return usagef("--events takes 1 to 1000000000000, not %d", p.Events)
	case p.Days < 1 || p.Days > 3650:
		return usagef("--days takes 1 to 3650, not %d", p.Days)
	case p.Until.AddDate(0, 0, -p.Days).Unix() < 0 || p.Until.Year() > 2105:
		return usagef("--until %s: the %d days before must lie between 1970 and 2106", p.Until.Format(time.RFC3339), p.Days)
	}
	return withDatabase(c, env, c.String("database"), func(ctx context.Context, conn *connection, _ *slog.Logger) error {
		w := newFilling(env.stderr)
		err := conn.store.FillBench(ctx, p, w.show)
		if errors.Is(err, store.ErrMixed) {
			return fmt.Errorf("%w: name another --database, or say --mix if generated traffic shall stand among them", err)
		}
		if errors.Is(err, store.ErrOtherPlan) {
			return fmt.Errorf("%w: give the same flags, name another --database, or say --mix if both shall stand in one", err)
		}
		if err != nil {
			return err
		}
		merging := newStages(env.stderr).of("rows")
		if err := conn.store.MergeMonths(ctx, p.Until, func(done, total uint64) { merging("merging the months that have ended", done, total) }); err != nil {
			return err
		}
		for _, t := range benchTelescopes() {
			if err := conn.store.AddTelescope(ctx, t); err != nil {
				return err
			}
		}
		there, err := conn.store.CountEvents(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(env.stdout, "%s events in database %s: %s new in %s (%s events/s)\n", thousands(there), conn.store.Database(),
			thousands(w.now-w.before), w.elapsed().Round(100*time.Millisecond), thousands(perSecond(w.now-w.before, w.elapsed())))
		return nil
	})
}

// filling shows how far the generation is: a line now and then, with share, rate and time left.
type filling struct {
	mu                 sync.Mutex
	w                  io.Writer
	began, written     time.Time
	before, now, total uint64 // rows in at the start, in, and wanted
}

func newFilling(w io.Writer) *filling { return &filling{w: w} }

// show may be called by several goroutines; the highest figure counts.
func (f *filling) show(done, total uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.began.IsZero() {
		f.began, f.written, f.before, f.total = time.Now(), time.Now(), done, total
	}
	f.now = max(f.now, done)
	if time.Since(f.written) >= lineEvery {
		f.written = time.Now()
		fmt.Fprintln(f.w, f.line(time.Since(f.began)))
	}
}

func (f *filling) line(elapsed time.Duration) string {
	return fmt.Sprintf("%s of %s events, %s", thousands(f.now), thousands(f.total), pace(f.before, f.now, f.total, "events", elapsed))
}

func (f *filling) elapsed() time.Duration { return time.Since(f.began) }

func benchQuestions(c *cli.Context, env environment) error {
	days, repeat, raw := c.Int("days"), c.Int("repeat"), c.Int("repeat-raw")
	switch {
	case c.Args().Present():
		return usagef("bench questions takes no arguments, got %q; questions stand behind --question", c.Args().First())
	case days < 1 || days > 3650:
		return usagef("--days takes 1 to 3650, not %d", days)
	case repeat < 1 || raw < 0:
		return usagef("--repeat takes 1 or more and --repeat-raw 0 or more")
	}
	return withBench(c, env, func(ctx context.Context, conn *connection, _ *slog.Logger) error {
		standards, err := chosenStandards(conn.store, c.StringSlice("question"))
		if err != nil {
			return err
		}
		at := timestamp(c, "at")
		if at.IsZero() {
			_, last, err := conn.store.Span(ctx)
			if err != nil {
				return err
			}
			if last.IsZero() {
				return fmt.Errorf("database %s has no events: `loader bench data` makes some", conn.store.Database())
			}
			at = last.Add(time.Second)
		}
		t := newTable("question", "rows", "rows_read", "bytes_read", "ms", "cpu_ms", "raw_rows_read", "raw_bytes_read", "raw_ms", "raw_cpu_ms")
		t.numeric = []bool{false, true, true, true, true, true, true, true, true, true}
		for _, s := range standards {
			fmt.Fprintf(env.stderr, "asking %s\n", s.Name)
			row, err := measureStandard(ctx, conn.store, s, at, days, repeat, raw)
			if err != nil {
				return err
			}
			t.add(row...)
		}
		return t.write(env.stdout, c.String("format"))
	})
}

// chosenStandards are the standard questions of the given names, all without one.
func chosenStandards(st *store.Store, names []string) ([]sql.Standard, error) {
	all, err := st.Standards()
	if err != nil || len(names) == 0 {
		return all, err
	}
	var known []string
	for _, s := range all {
		known = append(known, s.Name)
	}
	for _, n := range names {
		if !slices.Contains(known, n) {
			return nil, usagef("there is no standard question %q%s", n, nearest.Hint(n, known))
		}
	}
	return slices.DeleteFunc(all, func(s sql.Standard) bool { return !slices.Contains(names, s.Name) }), nil
}

// measureStandard asks a standard question and the events in turn, and returns a row: medians.
func measureStandard(ctx context.Context, st *store.Store, s sql.Standard, at time.Time, days, repeat, raw int) ([]any, error) {
	const micro = "2006-01-02 15:04:05.000000"
	window := map[string]string{"hours": fmt.Sprint(24 * days), "days": fmt.Sprint(days), "at": at.UTC().Format(micro)}
	ask, err := st.Takes(s.Question, window)
	if err != nil {
		return nil, fmt.Errorf("standard question %s: %w", s.Name, err)
	}
	maps.Copy(ask, s.Params)
	window["since"], window["until"] = at.UTC().AddDate(0, 0, -days).Format(micro), window["at"]
	var asked, events []store.Cost
	for i := range max(repeat, raw) {
		if i < repeat {
			cost, err := st.MeasureAsk(ctx, s.Question, ask)
			if err != nil {
				return nil, fmt.Errorf("standard question %s: %w", s.Name, err)
			}
			asked = append(asked, cost)
		}
		if i < raw {
			cost, err := st.MeasureQuery(ctx, s.Raw, window)
			if err != nil {
				return nil, fmt.Errorf("standard question %s, asked of the events: %w", s.Name, err)
			}
			events = append(events, cost)
		}
	}
	q := medianCost(asked)
	row := []any{s.Name, q.Rows, q.ReadRows, q.ReadBytes, milliseconds(q.Took), milliseconds(q.CPU)}
	if raw == 0 {
		return append(row, nil, nil, nil, nil), nil
	}
	r := medianCost(events)
	return append(row, r.ReadRows, r.ReadBytes, milliseconds(r.Took), milliseconds(r.CPU)), nil
}

// medianCost is the cost of the median time, with the median of CPU.
func medianCost(costs []store.Cost) store.Cost {
	slices.SortFunc(costs, func(a, b store.Cost) int { return cmp.Compare(a.CPU, b.CPU) })
	cpu := costs[len(costs)/2].CPU
	slices.SortFunc(costs, func(a, b store.Cost) int { return cmp.Compare(a.Took, b.Took) })
	median := costs[len(costs)/2]
	median.CPU = cpu
	return median
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(100*time.Microsecond).Microseconds()) / 1000
}

func benchBytes(c *cli.Context, env environment) error {
	if c.Args().Present() {
		return usagef("bench bytes takes no arguments, got %q", c.Args().First())
	}
	return withBench(c, env, func(ctx context.Context, conn *connection, _ *slog.Logger) error {
		sizes, err := conn.store.TableSizes(ctx)
		if err != nil {
			return err
		}
		events := slices.IndexFunc(sizes, func(t store.TableSize) bool { return t.Name == "events" })
		if events < 0 {
			return fmt.Errorf("database %s has no events: `loader bench data` makes some", conn.store.Database())
		}
		n := float64(sizes[events].Rows)
		t := newTable("table", "rows", "bytes", "parts", "rows_per_event", "bytes_per_event")
		t.numeric = []bool{false, true, true, true, true, true}
		for _, s := range sizes {
			t.add(strings.TrimSuffix(s.Name, "_state"), s.Rows, s.Bytes, s.Parts, fmt.Sprintf("%.4f", float64(s.Rows)/n), fmt.Sprintf("%.2f", float64(s.Bytes)/n))
		}
		return t.write(env.stdout, c.String("format"))
	})
}

// benchTelescopes are the monitored prefixes that sql/bench/traffic.sql aims at.
func benchTelescopes() []store.Telescope {
	return []store.Telescope{
		{Prefix: netip.MustParsePrefix("198.18.0.0/16"), Sensor: "darknet"},
		{Prefix: netip.MustParsePrefix("198.19.0.0/20"), Sensor: "campus"},
		{Prefix: netip.MustParsePrefix("198.19.240.0/24"), Sensor: "honeypot"},
	}
}
