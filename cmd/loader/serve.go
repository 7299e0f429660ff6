package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"murmuration/pkg/campaign"
	"murmuration/pkg/notify"
	"murmuration/pkg/store"
	"murmuration/pkg/surge"
	"murmuration/pkg/surge/track"
)

// secretVariable holds the secret of the webhook. There is no flag for it: command lines are for everybody to read.
const secretVariable = "MURMURATION_NOTIFY_SECRET"

// maxSecretFile bounds what is read of a file that is said to hold a secret.
const maxSecretFile = 4096

// newSender returns the sender to the webhook that the flags name, nil if they name none.
func newSender(c *cli.Context) (*notify.Sender, error) {
	address, file := c.String("notify"), c.String("notify-secret-file")
	if address == "" {
		if c.IsSet("notify-secret-file") && file != "" {
			return nil, usagef("--notify-secret-file needs --notify")
		}
		return nil, nil //nolint:nilnil // Nobody is to be told, which is no error.
	}
	text := os.Getenv(secretVariable)
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("--notify-secret-file: %w", err)
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, maxSecretFile))
		if err != nil {
			return nil, fmt.Errorf("--notify-secret-file: %w", err)
		}
		text = string(data)
	}
	if text == "" {
		return nil, usagef("--notify needs a secret to sign with: put one into a file (--notify-secret-file) or into %s; `openssl rand -base64 32` makes one", secretVariable)
	}
	secret, err := notify.ParseSecret(text)
	if err != nil {
		return nil, usageError{fmt.Errorf("--notify: %w", err)}
	}
	sender, err := notify.NewSender(address, secret, 0, nil)
	if err != nil {
		return nil, usageError{fmt.Errorf("--notify: %w", err)}
	}
	return sender, nil
}

// tellOnce tells the webhook after a single run. What it does not take stays for the next run with the same webhook.
func tellOnce(ctx context.Context, env environment, st *store.Store, sender *notify.Sender, log *slog.Logger, command string) error {
	var left uint64
	c := &campaign.Courier{Store: st, Sender: sender, Logger: log, OnLook: func(n uint64) { left = n }}
	if err := c.Look(ctx); err != nil {
		return err
	}
	if left > 0 {
		fmt.Fprintf(env.stderr, "note: %s has yet to be told of %s; the next `loader %s --notify` tries again\n", sender.Name(), count(int(left), "event"), command) //nolint:gosec // Few.
	}
	return nil
}

// notifyFlags say whom to tell what of.
func notifyFlags(what string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "notify", EnvVars: []string{"MURMURATION_NOTIFY"}, Usage: "tell the webhook at `URL` of " + what + ", by signed JSON"},
		&cli.StringFlag{Name: "notify-secret-file", EnvVars: []string{"MURMURATION_NOTIFY_SECRET_FILE"},
			Usage: "`FILE` with the secret that signs what the webhook is told; without it, the variable " + secretVariable},
	}
}

// serviceFlags are those of `loader detect --every`.
func serviceFlags() []cli.Flag {
	return append(notifyFlags("campaigns that are new, grow or ended and, with --every, of surges"),
		&cli.DurationFlag{Name: "every", Usage: "stay and do a run every `INTERVAL` (1h, 30m), one over all hosts that share the database, and look for surges after each; without it, one run"},
		&cli.StringFlag{Name: "metrics", Usage: "with --every, answer Prometheus at `ADDRESS`/metrics, for example 127.0.0.1:9187"})
}

// checkService refuses flags that do not go together.
func checkService(c *cli.Context) error {
	every := c.Duration("every")
	if c.IsSet("every") && every < time.Minute {
		return usagef("--every takes a minute or more, not %s", every)
	}
	if every > 0 {
		for _, name := range []string{"at", "members", "explain", "format"} {
			if c.IsSet(name) {
				return usagef("--%s is of a single run; it does not go with --every", name)
			}
		}
		return nil
	}
	if c.IsSet("metrics") {
		return usagef("--metrics needs --every")
	}
	return nil
}

// service keeps the schedule until the context ends.
func service(ctx context.Context, c *cli.Context, env environment, conn *connection, opt campaign.Options, sender *notify.Sender, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := newMetrics()
	refresh := func(ctx context.Context) {
		if err := m.refresh(ctx, conn.store); err != nil {
			log.WarnContext(ctx, "metrics are behind", "error", err)
		}
	}
	refresh(ctx)
	if addr := c.String("metrics"); addr != "" {
		where, stopped, err := m.serve(ctx, addr, log)
		if err != nil {
			return err
		}
		defer func() { cancel(); <-stopped }()
		fmt.Fprintf(env.stdout, "metrics at http://%s/metrics\n", where)
	}
	kick := make(chan struct{}, 1)
	if sender != nil {
		courier := &campaign.Courier{
			Store: conn.store, Sender: sender, Logger: log, Kick: kick,
			OnResult: func(result string) { m.told.WithLabelValues(result).Inc() }, OnLook: func(left uint64) { m.pending.Set(float64(left)) },
		}
		served := make(chan struct{})
		go func() { defer close(served); courier.Serve(ctx) }()
		defer func() { cancel(); <-served }()
		fmt.Fprintf(env.stdout, "telling %s\n", sender.Name())
	}
	s := &campaign.Schedule{Store: conn.store, Every: c.Duration("every"), Options: opt, OnTurn: func(ctx context.Context, t campaign.Turn) {
		m.turn(t)
		if t.Status != "" {
			// A look for surges that fails is made up for by the next one, and is no reason to stop detecting.
			if err := watchSurges(ctx, conn.store, sender, log); err != nil {
				log.WarnContext(ctx, "surges are behind", "error", err)
			}
		}
		refresh(ctx)
		select {
		case kick <- struct{}{}:
		default: // A look is due anyway.
		}
		fmt.Fprintln(env.stdout, turnText(t))
	}}
	fmt.Fprintf(env.stdout, "detecting %s; stop it with Ctrl-C or SIGTERM\n", s.Name())
	if err := s.Serve(ctx); err != nil {
		return err
	}
	if c.Err() == nil {
		return context.Cause(ctx) // Nobody asked for the end: the engine is gone.
	}
	return nil
}

// watchSurges decides about the hours since the last look for surges, and tells the webhook, if there is one, of what it found.
func watchSurges(ctx context.Context, st *store.Store, sender *notify.Sender, log *slog.Logger) error {
	rep, err := track.Run(ctx, st, track.Options{Params: surge.DefaultParams(), Version: version, Logger: log})
	if errors.Is(err, track.ErrNoData) {
		return nil
	}
	if err != nil || sender == nil {
		return err
	}
	return tellSurges(ctx, st, sender, rep)
}

// turnText is the line of a turn in the service's output.
func turnText(t campaign.Turn) string {
	slot := t.Slot.Format(minuteForm)
	if t.Status == "" {
		return slot + ": done by another host"
	}
	if t.Report == nil {
		return fmt.Sprintf("%s: %s: %v", slot, t.Status, t.Err)
	}
	fresh := 0
	for i := range t.Report.Found {
		if t.Report.Found[i].New {
			fresh++
		}
	}
	return fmt.Sprintf("%s: %s in %s: %s, %d new (run %s)", slot, t.Status, t.Took.Round(time.Millisecond), count(len(t.Report.Found), "campaign"), fresh, t.Report.Run)
}
