package notify

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"time"
)

// Outbox keeps what is to be told to one webhook, over crashes.
type Outbox interface {
	// Pending returns at most n messages that are due, oldest first.
	Pending(ctx context.Context, now time.Time, n int) ([]Message, error)
	// Delivered records that a message was taken. If that is lost, the message is sent again.
	Delivered(ctx context.Context, id string) error
	// Failed records that an attempt failed and when the next is due.
	Failed(ctx context.Context, id string, attempts int, next time.Time, why string) error
	// Dropped records that a message is given up.
	Dropped(ctx context.Context, id string, attempts int, why string) error
}

// How often it is tried again: after 5 seconds, then twice as long each time, up to an hour, for about three days.
const (
	firstWait   = 5 * time.Second
	longestWait = time.Hour
	maxAttempts = 80
)

// DefaultGrace is long enough for any receiver that lives.
const DefaultGrace = 3 * time.Second

// piece is how many messages are read at a time.
const piece = 100

// Deliverer empties an outbox.
type Deliverer struct {
	Outbox Outbox
	Sender *Sender
	Now    func() time.Time // nil is time.Now
	Logger *slog.Logger     // nil is slog.Default
	// Grace is how long an attempt may go on when the context ends, 0 for DefaultGrace: an event that the receiver took
	// without anybody waiting for its answer would be told twice.
	Grace time.Duration
	// OnResult, if set, is told of every attempt: "delivered", "failed" or "dropped".
	OnResult func(result string)
}

// Deliver tries every message that is due, oldest first, until one fails: the receiver is left alone then until the next
// call. It returns how many were taken, and an error only if the outbox failed or the context ended.
func (d *Deliverer) Deliver(ctx context.Context) (taken int, err error) {
	for {
		messages, err := d.Outbox.Pending(ctx, d.now(), piece)
		if err != nil {
			return taken, fmt.Errorf("read what is to be told: %w", err)
		}
		for _, m := range messages {
			if ctx.Err() != nil {
				return taken, context.Cause(ctx)
			}
			ok, err := d.one(ctx, m)
			if err != nil {
				return taken, err
			}
			if !ok {
				return taken, nil
			}
			taken++
		}
		if len(messages) < piece {
			return taken, nil
		}
	}
}

// one tries one message, and reports whether the receiver is in a state to be told the next.
func (d *Deliverer) one(ctx context.Context, m Message) (goOn bool, err error) {
	sendErr := d.send(ctx, m)
	if sendErr == nil {
		d.result("delivered")
		// It was taken: that is recorded also while stopping, or it would be told twice.
		record, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := d.Outbox.Delivered(record, m.ID); err != nil {
			return false, fmt.Errorf("record that %s was told: %w", m.ID, err)
		}
		return true, nil
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	attempts := m.Attempts + 1
	if attempts >= maxAttempts || errors.Is(sendErr, ErrGone) {
		d.result("dropped")
		d.logger().ErrorContext(ctx, "an event is given up", "event", m.ID, "attempts", attempts, "error", sendErr)
		if err := d.Outbox.Dropped(ctx, m.ID, attempts, sendErr.Error()); err != nil {
			return false, fmt.Errorf("record that %s was given up: %w", m.ID, err)
		}
		return true, nil
	}
	d.result("failed")
	next := d.now().Add(wait(m.ID, attempts, sendErr))
	d.logger().WarnContext(ctx, "an event could not be told, trying again", "event", m.ID, "attempts", attempts, "at", next, "error", sendErr)
	if err := d.Outbox.Failed(ctx, m.ID, attempts, next, sendErr.Error()); err != nil {
		return false, fmt.Errorf("record that %s was not told: %w", m.ID, err)
	}
	return false, nil
}

// send tries once, and a little beyond the end of the context.
func (d *Deliverer) send(ctx context.Context, m Message) error {
	grace := d.Grace
	if grace <= 0 {
		grace = DefaultGrace
	}
	attempt, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-t.C:
			cancel()
		case <-attempt.Done():
		}
	})
	defer stop()
	return d.Sender.Send(attempt, m)
}

// wait is how long to leave the receiver alone after a failed attempt. Up to a quarter is added by the identity of the
// event, so that not everything comes back at once.
func wait(id string, attempts int, why error) time.Duration {
	w := longestWait
	if n := attempts - 1; n < 20 {
		w = min(firstWait<<n, longestWait)
	}
	var refused *Refused
	if errors.As(why, &refused) {
		w = max(w, refused.RetryAfter)
	}
	h := fnv.New32a()
	fmt.Fprint(h, id, attempts)
	return w + w/4*time.Duration(h.Sum32()%1024)/1024
}

func (d *Deliverer) now() time.Time {
	if d.Now == nil {
		return time.Now()
	}
	return d.Now()
}

func (d *Deliverer) logger() *slog.Logger {
	if d.Logger == nil {
		return slog.Default()
	}
	return d.Logger
}

func (d *Deliverer) result(what string) {
	if d.OnResult != nil {
		d.OnResult(what)
	}
}
