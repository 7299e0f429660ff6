package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"murmuration/pkg/campaign"
	"murmuration/pkg/event"
	"murmuration/pkg/notify"
	"murmuration/pkg/store"
	"murmuration/pkg/surge"
	"murmuration/pkg/surge/track"
)

func surgesCommand(env environment) *cli.Command {
	d := surge.DefaultParams()
	return &cli.Command{
		Name:  "surges",
		Usage: "find ports that suddenly far more sources ask for than usual",
		Description: "Holds the distinct sources of each hour, port and HTTP method against the same hours of the last 28 days, writes\n" +
			"surges and surge_runs, and prints the surges of the time. A run goes on where the last one ended: one every hour\n" +
			"is cheap. An hour that still goes on is left for later unless --at names it, and what is ahead of the clock is left out.",
		OnUsageError: usageErrorOf,
		Flags: withConnection(append(notifyFlags("surges that began or ended in the last two weeks"),
			formatFlag(),
			&cli.StringFlag{Name: "window", Value: windowNew, Usage: "which hours to decide about: new (since the last run), all, or the last 12h, 90d, 2w again"},
			timeFlag("at", "`TIME` at which the hours end; without it, the hour of the newest event, or of the clock if that is earlier"),
			&cli.Float64Flag{Name: "false-per-month", Value: d.FalsePerMonth, Usage: "false alarms in 30 days, over all ports, that are acceptable: more finds smaller surges"},
			&cli.UintFlag{Name: "min-sources", Value: uint(d.MinSources), Usage: "least distinct sources in the hour of an alarm"},
		)...),
		Action: func(c *cli.Context) error { return runSurges(c, env) },
	}
}

const (
	windowNew = "new"
	// shown is how far back surges are printed when a run decides about new hours only.
	shown = 28 * 24 * time.Hour
)

func runSurges(c *cli.Context, env environment) error {
	if c.Args().Present() {
		return usagef("surges takes no arguments, got %q", c.Args().First())
	}
	window := track.Window{All: c.String("window") == "all"}
	if w := c.String("window"); w != windowNew {
		length, err := parseWindow(w)
		if err != nil {
			return err
		}
		window.Length = length
	}
	params := surge.DefaultParams()
	params.FalsePerMonth, params.MinSources = c.Float64("false-per-month"), uint32(min(c.Uint("min-sources"), 1<<31)) //nolint:gosec // In range.
	if err := params.Check(); err != nil {
		return usageError{err}
	}
	sender, err := newSender(c)
	if err != nil {
		return err
	}
	return withStore(c, env, func(ctx context.Context, conn *connection, log *slog.Logger) error {
		rep, err := track.Run(ctx, conn.store, track.Options{Window: window, At: timestamp(c, "at"), Params: params, Version: version, Logger: log,
			Progress: newStages(env.stderr).of("rows")})
		if errors.Is(err, track.ErrAhead) {
			return usageError{fmt.Errorf("--at: %w", err)}
		}
		if err != nil {
			return err
		}
		for _, n := range rep.Notes {
			fmt.Fprintln(env.stderr, "note:", n)
		}
		if rep.To.Before(rep.Ready) {
			fmt.Fprintf(env.stderr, "note: a week of past is needed before the first alarm: alarms begin at %s\n", rep.Ready.Format(time.RFC3339))
		}
		if sender != nil {
			defer sender.Close()
			if err := tellSurges(ctx, conn.store, sender, rep); err != nil {
				return err
			}
			if err := tellOnce(ctx, env, conn.store, sender, log, "surges"); err != nil {
				return err
			}
		}
		from := rep.From
		if c.String("window") == windowNew {
			from = rep.To.Add(-shown)
		}
		surges, err := conn.store.Surges(ctx, from, rep.To)
		if err != nil {
			return err
		}
		if len(surges) == 0 && c.String("format") == formatTable {
			_, err := fmt.Fprintln(env.stdout, noSurges(rep, from))
			return err
		}
		return writeSurges(env, surges, c.String("format"))
	})
}

// tellSurges has the webhook told of the surges of late that it was not told of yet.
func tellSurges(ctx context.Context, st *store.Store, sender *notify.Sender, rep *track.Report) error {
	news, err := rep.News(ctx, st)
	if err != nil {
		return err
	}
	return campaign.Tell(ctx, st, sender.Destination(), news)
}

// noSurges says what it means that there are none.
func noSurges(rep *track.Report, from time.Time) string {
	if !rep.From.Before(rep.To) {
		return fmt.Sprintf("decided until %s already, with no surges from %s on; --window all decides again", rep.From.Format(time.RFC3339), from.Format(time.RFC3339))
	}
	return fmt.Sprintf("no surges from %s to %s (%d ports and methods were busy enough to look at)", from.Format(time.RFC3339), rep.To.Format(time.RFC3339), rep.Series)
}

func writeSurges(env environment, surges []store.Surge, format string) error {
	g := newTable("port", "method", "start", "alarm", "peak", "end", "state", "sources", "usual", "strength", "evidence")
	g.numeric = []bool{7: true, 8: true, 9: true, 10: true}
	if format != formatTable {
		g = newTable("proto", "port", "method", "start", "detected", "peak", "end", "state", "sources", "expected", "strength", "excess", "evidence")
	}
	for i := range surges {
		x := &surges[i]
		if format != formatTable {
			g.add(x.Proto.String(), x.Port, x.Method, x.Start, x.Detected, x.Peak, x.End, x.State, x.Sources, x.Expected, x.Strength, x.Excess, x.Evidence)
			continue
		}
		end := "goes on"
		if x.State != string(surge.Open) {
			end = minute(x.End)
		}
		g.add(portName(x.Proto, x.Port), x.Method, minute(x.Start), minute(x.Detected), minute(x.Peak), end, x.State, x.Sources,
			fmt.Sprintf("%.1f", x.Expected), strength(x), fmt.Sprintf("%.1f", x.Evidence))
	}
	return g.write(env.stdout, format)
}

// strength is how many times the usual the peak was; of next to nothing that says nothing.
func strength(x *store.Surge) string {
	const nothing = 0.05 // sources in an hour
	if x.Expected < nothing {
		return "new"
	}
	return fmt.Sprintf("%.1f×", x.Strength)
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }

// portName writes a port as people do: "80" for TCP, else with the protocol, "5060/udp", "icmp".
func portName(proto event.Proto, port uint16) string {
	switch proto {
	case event.ProtoTCP:
		return strconv.Itoa(int(port))
	case event.ProtoUDP, event.ProtoSCTP:
		return fmt.Sprintf("%d/%s", port, proto)
	}
	return proto.String()
}
