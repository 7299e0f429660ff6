package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"log/slog"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"murmuration/pkg/campaign"
	"murmuration/pkg/detect"
)

func detectCommand(env environment) *cli.Command {
	d := detect.DefaultParams()
	return &cli.Command{
		Name:  "detect",
		Usage: "find coordinated campaigns: sources that share out a target space",
		Description: "Reads footprints, writes campaigns, campaign_sources and campaign_runs, and prints what it found. The evidence\n" +
			"is -log10 of the probability that independent sources overlap so little, corrected for every group tested.",
		OnUsageError: usageErrorOf,
		Flags: withConnection(append(serviceFlags(),
			formatFlag(),
			&cli.StringFlag{Name: "window", Value: "all", Usage: "how far back to look: 90d, 12h, 2w, or all"},
			timeFlag("at", "`TIME` at which the window ends; without it, the newest event"),
			&cli.BoolFlag{Name: "members", Usage: "print the members as CSV: source,campaign"},
			&cli.BoolFlag{Name: "explain", Usage: "print the reasons of every campaign below the table"},
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "of everything random; the same seed on the same data finds the same"},
			&cli.Float64Flag{Name: "min-evidence", Value: d.MinEvidence, Usage: "least corrected evidence that is reported"},
			&cli.IntFlag{Name: "min-sources", Value: d.MinSources, Usage: "least number of members"},
			&cli.Float64Flag{Name: "min-coverage", Value: d.MinCoverage, Usage: "least share of its space that a campaign has covered"},
			&cli.Float64Flag{Name: "early-coverage", Value: d.EarlyCoverage, Usage: "least share of its space that a campaign has covered which is still growing; 1 reports nothing early"},
			&cli.IntFlag{Name: "workers", Value: d.Workers, Usage: "goroutines; never changes the result"},
		)...),
		Action: func(c *cli.Context) error { return runDetect(c, env) },
	}
}

func runDetect(c *cli.Context, env environment) error {
	if c.Args().Present() {
		return usagef("detect takes no arguments, got %q", c.Args().First())
	}
	if err := checkService(c); err != nil {
		return err
	}
	window, err := parseWindow(c.String("window"))
	if err != nil {
		return err
	}
	params := detect.DefaultParams()
	params.Seed = c.Uint64("seed")
	params.MinEvidence, params.MinSources = c.Float64("min-evidence"), c.Int("min-sources")
	params.EarlyCoverage = c.Float64("early-coverage")
	params.MinCoverage, params.Workers = c.Float64("min-coverage"), c.Int("workers")
	sender, err := newSender(c)
	if err != nil {
		return err
	}
	return withStore(c, env, func(ctx context.Context, conn *connection, log *slog.Logger) error {
		opt := campaign.Options{Window: window, At: timestamp(c, "at"), Params: params, Version: version, Logger: log}
		if sender != nil {
			defer sender.Close()
			opt.Tell = []string{sender.Destination()}
		}
		if c.Duration("every") > 0 {
			return service(ctx, c, env, conn, opt, sender, log)
		}
		opt.Progress = newStageProgress(env.stderr)
		rep, err := campaign.RunAlone(ctx, conn.store, opt)
		if err != nil {
			return err
		}
		for _, n := range rep.Notes {
			fmt.Fprintln(env.stderr, "note:", n)
		}
		if sender != nil {
			if err := tellOnce(ctx, env, conn.store, sender, log); err != nil {
				return err
			}
		}
		if c.Bool("members") {
			return writeMembers(env.stdout, rep)
		}
		return writeCampaigns(env, rep, c.String("format"), c.Bool("explain"))
	})
}

var windowForm = regexp.MustCompile(`^([0-9]+)([hdw])$`)

// parseWindow reads "90d", "12h", "2w" or "all" (0).
func parseWindow(s string) (time.Duration, error) {
	if s == "all" {
		return 0, nil
	}
	m := windowForm.FindStringSubmatch(s)
	if m == nil {
		return 0, usagef("--window takes a number of hours, days or weeks (12h, 90d, 2w) or all, not %q", s)
	}
	unit := map[string]time.Duration{"h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}[m[2]]
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || n == 0 || n > int64(math.MaxInt64/unit) {
		return 0, usagef("--window %s is not a length of time", s)
	}
	return time.Duration(n) * unit, nil
}

// newStageProgress shows the stages of a run on a terminal, one line that is redrawn; elsewhere it is silent
// but for long runs.
func newStageProgress(w io.Writer) func(stage string, share float64) {
	p := newProgress(w)
	written := time.Now()
	return func(stage string, share float64) {
		switch {
		case p.terminal && share >= 1:
			fmt.Fprint(w, "\r\033[K")
		case p.terminal:
			fmt.Fprintf(w, "\r\033[K%s %.0f %%", stage, 100*share)
		case time.Since(written) >= lineEvery:
			written = time.Now()
			fmt.Fprintf(w, "%s: %.0f %%\n", stage, 100*share)
		}
	}
}

// writeMembers prints one line per member. A source that is in two campaigns has two lines.
func writeMembers(w io.Writer, rep *campaign.Report) error {
	out := csv.NewWriter(w)
	if err := out.Write([]string{"source", "campaign"}); err != nil {
		return err
	}
	for _, f := range rep.Found {
		for _, m := range f.Members {
			if err := out.Write([]string{m.Addr.String(), f.ID}); err != nil {
				return err
			}
		}
	}
	out.Flush()
	return out.Error()
}

func writeCampaigns(env environment, rep *campaign.Report, format string, explain bool) error {
	g := newTable("campaign", "first seen", "last seen", "sources", "ports", "tool", "coverage", "overlap", "evidence", "pattern", "targets")
	if format != formatTable {
		g.columns = []string{"campaign", "first_seen", "last_seen", "sources", "ports", "tool", "coverage", "overlap_ratio", "evidence", "pattern", "targets"}
	}
	g.numeric = []bool{false, false, false, true, false, false, true, true, true}
	for i := range rep.Found {
		f := &rep.Found[i]
		g.add(campaignRow(f, format)...)
	}
	if len(rep.Found) > 0 || format != formatTable {
		if err := g.write(env.stdout, format); err != nil {
			return err
		}
	}
	if format != formatTable {
		return nil
	}
	fmt.Fprintf(env.stdout, "%s among %s sources and %s cells; %s groups tested; %s to %s (run %s)\n", count(len(rep.Found), "campaign"),
		thousands(uint64(rep.Sources)), thousands(uint64(rep.Cells)), thousands(uint64(rep.Tests)),
		rep.From.Format(time.DateOnly), rep.To.Format(time.DateOnly), rep.Run)
	if rep.Undecided > 0 {
		fmt.Fprintf(env.stdout, "%s shared out but too small to tell\n", count(rep.Undecided, "more group looks", "more groups look"))
	}
	if explain {
		for i := range rep.Found {
			fmt.Fprintf(env.stdout, "\n%s\n", rep.Found[i].ID)
			for _, why := range rep.Found[i].Why {
				fmt.Fprintln(env.stdout, "  ", why)
			}
		}
	}
	return nil
}

func campaignRow(f *campaign.Found, format string) []any {
	const minute = "2006-01-02 15:04"
	targets := make([]string, len(f.Space))
	for i, p := range f.Space {
		targets[i] = p.String()
	}
	tool := strings.Join(f.Tools, " ")
	first, last := time.Unix(f.First, 0).UTC(), time.Unix(f.Last, 0).UTC()
	if format == formatJSON {
		return []any{f.ID, first, last, len(f.Members), f.PortNames(), tool, f.Coverage, f.OverlapRatio, f.Evidence, f.Pattern, targets}
	}
	if format == formatCSV {
		return []any{f.ID, first.Format(time.RFC3339), last.Format(time.RFC3339), len(f.Members), f.PortNames(), tool,
			f.Coverage, f.OverlapRatio, f.Evidence, f.Pattern, targets}
	}
	return []any{f.ID, first.Format(minute), last.Format(minute), len(f.Members), shortList(f.PortNames(), 8), tool,
		fmt.Sprintf("%.1f %%", 100*f.Coverage), fmt.Sprintf("%.3f", f.OverlapRatio), fmt.Sprintf("%.1f", f.Evidence), f.Pattern, shortList(targets, 3)}
}

// shortList is the first n of a list, and how many more there are.
func shortList(s []string, n int) string {
	if len(s) <= n {
		return strings.Join(s, " ")
	}
	return fmt.Sprintf("%s +%d", strings.Join(s[:n], " "), len(s)-n)
}
