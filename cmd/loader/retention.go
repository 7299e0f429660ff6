package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"murmuration/pkg/store"
)

const forever = "forever"

func retentionCommand(env environment) *cli.Command {
	return &cli.Command{
		Name:         "retention",
		Usage:        "show or set how long events and rollups are kept",
		OnUsageError: usageErrorOf,
		Description: "Time counts from when a thing was seen, not from when it was loaded. Nothing expires unless it is set:\n" +
			"  loader retention set events=180d hours=2y days=forever",
		HideHelpCommand: true,
		Flags:           withConnection(formatFlag()),
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("retention has no %q; without arguments it shows, and it has set", c.Args().First())
			}
			return retentionShow(c, env)
		},
		Subcommands: []*cli.Command{{
			Name:         "set",
			Usage:        "keep tiers for so long: days, weeks or years as 90d, 26w, 2y, or forever",
			ArgsUsage:    "TIER=TIME…",
			OnUsageError: usageErrorOf,
			Flags: withConnection(
				&cli.BoolFlag{Name: "drop", Usage: "also if that drops what is there"},
			),
			Action: func(c *cli.Context) error { return retentionSet(c, env) },
		}},
	}
}

func retentionShow(c *cli.Context, env environment) error {
	return withStore(c, env, func(ctx context.Context, conn *connection, _ *slog.Logger) error {
		kept, err := conn.store.Retention(ctx)
		if err != nil {
			return err
		}
		suggested := store.Suggested()
		t := newTable("tier", "kept", "since", "rows", "bytes", "oldest", "suggested")
		t.numeric = []bool{false, false, false, true, true, false, false}
		for _, k := range kept {
			oldest := ""
			if !k.First.IsZero() {
				oldest = k.First.Format("2006-01")
			}
			t.add(k.Tier, length(k.Days), optionalTime(k.Since), k.Rows, k.Bytes, oldest, length(suggested[k.Tier]))
		}
		return t.write(env.stdout, c.String("format"))
	})
}

func retentionSet(c *cli.Context, env environment) error {
	change, err := parseRetention(c.Args().Slice())
	if err != nil {
		return err
	}
	return withStore(c, env, func(ctx context.Context, conn *connection, _ *slog.Logger) error {
		if !c.Bool("drop") {
			if err := refuseDrop(ctx, conn.store, change); err != nil {
				return err
			}
		}
		err := conn.store.SetRetention(ctx, change)
		if errors.Is(err, store.ErrRetention) {
			return usageError{err}
		}
		return err
	})
}

// refuseDrop fails if a change would drop what is there. What is set for as long or shorter already drops nothing that was not
// to be dropped anyway.
func refuseDrop(ctx context.Context, st *store.Store, change map[string]uint32) error {
	current, err := st.Retention(ctx)
	if err != nil {
		return err
	}
	for _, k := range current {
		tier := k.Tier
		days, ok := change[tier]
		if !ok || k.Days > 0 && k.Days <= days {
			continue
		}
		rows, all, err := st.Expired(ctx, tier, days)
		if err != nil {
			return err
		}
		if rows > 0 {
			return fmt.Errorf("%s=%s would drop %s of the %s rows of %s, which are of before %s: say --drop if that is meant", tier, length(days), thousands(rows), thousands(all), tier,
				time.Now().UTC().AddDate(0, 0, -int(days)).Format(time.DateOnly))
		}
	}
	return nil
}

// parseRetention reads TIER=TIME.
func parseRetention(args []string) (map[string]uint32, error) {
	if len(args) == 0 {
		return nil, usagef("retention set takes TIER=TIME, for example events=180d hours=2y days=forever")
	}
	change := map[string]uint32{}
	for _, a := range args {
		tier, value, ok := strings.Cut(a, "=")
		days, err := parseDays(value)
		if !ok || err != nil {
			return nil, usagef("%q is not TIER=TIME: write days, weeks or years as events=90d, hours=104w, days=2y, or forever", a)
		}
		if _, twice := change[tier]; twice {
			return nil, usagef("%s is given twice", tier)
		}
		change[tier] = days
	}
	for tier := range change {
		if !slices.Contains(store.Tiers(), tier) {
			return nil, usagef("there is no tier %q: there are %s", tier, strings.Join(store.Tiers(), ", "))
		}
	}
	return change, nil
}

// parseDays reads a length of whole days; 0 is for ever.
func parseDays(s string) (uint32, error) {
	if s == forever {
		return 0, nil
	}
	if s == "" {
		return 0, errors.New("empty")
	}
	unit := map[byte]uint64{'d': 1, 'w': 7, 'y': 365}[s[len(s)-1]]
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 16)
	if err != nil || unit == 0 || n == 0 {
		return 0, fmt.Errorf("%q is no length", s)
	}
	return uint32(n * unit), nil //nolint:gosec // At most 65535 times 365.
}

// length writes days as parseDays reads them.
func length(days uint32) string {
	switch {
	case days == 0:
		return forever
	case days%365 == 0:
		return fmt.Sprintf("%dy", days/365)
	}
	return fmt.Sprintf("%dd", days)
}
