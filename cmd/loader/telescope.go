package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"murmuration/pkg/store"
)

func telescopeCommand(env environment) *cli.Command {
	return &cli.Command{
		Name:            "telescope",
		Usage:           "say which prefixes are monitored: the space in which coverage is measured",
		OnUsageError:    usageErrorOf,
		HideHelpCommand: true,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("telescope has no %q; it has add, list and remove", c.Args().First())
			}
			return cli.ShowSubcommandHelp(c)
		},
		Subcommands: []*cli.Command{
			{
				Name:         "add",
				Usage:        "add monitored prefixes",
				ArgsUsage:    "PREFIX…",
				OnUsageError: usageErrorOf,
				Flags: withConnection(
					sensorFlag(),
					timeFlag("since", "watched from this `TIME` on; without it, always"),
					timeFlag("until", "watched until this `TIME`; without it, still"),
				),
				Action: func(c *cli.Context) error { return telescopeAdd(c, env) },
			},
			{
				Name:         "remove",
				Usage:        "forget prefixes that were added by mistake; what is watched no longer gets an --until instead",
				ArgsUsage:    "PREFIX…",
				OnUsageError: usageErrorOf,
				Flags:        withConnection(sensorFlag()),
				Action:       func(c *cli.Context) error { return telescopeRemove(c, env) },
			},
			{
				Name:         "list",
				Usage:        "list the monitored prefixes",
				OnUsageError: usageErrorOf,
				Flags:        withConnection(formatFlag()),
				Action:       func(c *cli.Context) error { return telescopeList(c, env) },
			},
		},
	}
}

func telescopeAdd(c *cli.Context, env environment) error {
	prefixes, err := parsePrefixes(c.Args().Slice())
	if err != nil {
		return err
	}
	if len(prefixes) == 0 {
		return usagef("telescope add takes at least one prefix, for example 192.0.2.0/24")
	}
	since, until := timestamp(c, "since"), timestamp(c, "until")
	if !since.IsZero() && !until.IsZero() && !since.Before(until) {
		return usagef("--since %s is not before --until %s", since.Format(time.RFC3339), until.Format(time.RFC3339))
	}
	return withStore(c, env, func(ctx context.Context, conn *connection, _ *slog.Logger) error {
		for _, p := range prefixes {
			t := store.Telescope{Prefix: p, Sensor: c.String("sensor"), Since: since, Until: until}
			if err := conn.store.AddTelescope(ctx, t); err != nil {
				return fmt.Errorf("add telescope %s: %w", p, err)
			}
		}
		return nil
	})
}

func telescopeRemove(c *cli.Context, env environment) error {
	prefixes, err := parsePrefixes(c.Args().Slice())
	if err != nil {
		return err
	}
	if len(prefixes) == 0 {
		return usagef("telescope remove takes at least one prefix")
	}
	return withStore(c, env, func(ctx context.Context, conn *connection, _ *slog.Logger) error {
		if err := refuseUnknown(ctx, conn.store, prefixes, c.String("sensor")); err != nil {
			return err
		}
		for i, p := range prefixes {
			// False means that somebody else was faster, or that the prefix is named twice: it is gone.
			if _, err := conn.store.RemoveTelescope(ctx, p, c.String("sensor")); err != nil {
				return fmt.Errorf("remove telescope %s, of which %d of %d are removed: %w", p, i, len(prefixes), err)
			}
		}
		return nil
	})
}

// refuseUnknown fails if any of the prefixes is no telescope of the sensor, before the others are removed.
func refuseUnknown(ctx context.Context, st *store.Store, prefixes []netip.Prefix, sensor string) error {
	all, err := st.Telescopes(ctx)
	if err != nil {
		return err
	}
	var unknown []string
	for _, p := range prefixes {
		if !slices.ContainsFunc(all, func(t store.Telescope) bool { return t.Prefix == p && t.Sensor == sensor }) {
			unknown = append(unknown, p.String())
		}
	}
	switch len(unknown) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%s is no telescope of sensor %s, so nothing was removed; see `loader telescope list`", unknown[0], sensor)
	}
	return fmt.Errorf("%s are no telescopes of sensor %s, so nothing was removed; see `loader telescope list`", strings.Join(unknown, ", "), sensor)
}

func telescopeList(c *cli.Context, env environment) error {
	if c.Args().Present() {
		return usagef("telescope list takes no arguments, got %q", c.Args().First())
	}
	return withStore(c, env, func(ctx context.Context, conn *connection, _ *slog.Logger) error {
		ts, err := conn.store.Telescopes(ctx)
		if err != nil {
			return err
		}
		t := newTable("prefix", "sensor", "since", "until")
		for _, x := range ts {
			t.add(x.Prefix.String(), x.Sensor, optionalTime(x.Since), optionalTime(x.Until))
		}
		return t.write(env.stdout, c.String("format"))
	})
}

func optionalTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// parsePrefixes reads prefixes as people write them: a bare address is a prefix of one.
func parsePrefixes(args []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, a := range args {
		p, err := netip.ParsePrefix(a)
		if err != nil {
			addr, aerr := netip.ParseAddr(a)
			if aerr != nil {
				return nil, usagef("%q is not a prefix: write 192.0.2.0/24, 2001:db8::/48 or one address", a)
			}
			p = netip.PrefixFrom(addr, addr.BitLen())
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 { // ::ffff:192.0.2.0/120 is how some tools write 192.0.2.0/24.
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p.Masked() != p {
			return nil, usagef("%s has bits set behind its length: did you mean %s?", a, p.Masked())
		}
		out = append(out, p)
	}
	return out, nil
}
