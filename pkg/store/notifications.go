package store

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// The states of a notification.
const (
	NotifyPending   = "pending"
	NotifyDelivered = "delivered"
	NotifyDropped   = "dropped"
)

// Notification is something that one destination is to be told.
type Notification struct {
	Destination string
	ID          string // of the event
	Run         string // it is told once this run is done; "": at once
	Kind        string
	Subject     string // campaign, or whatever it is about
	Sources     uint64
	Coverage    float64
	Body        []byte
	Created     time.Time
	Status      string
	Attempts    uint32
	Due         time.Time
	Error       string
}

// PutNotifications writes new notifications as pending and due. An ID that is there already must not be put again.
func (s *Store) PutNotifications(ctx context.Context, ns []Notification) error {
	return s.insertRows(ctx, "write notifications", `INSERT INTO notifications_log (destination, id, run, kind, subject, sources, coverage, body, created, status,
		attempts, due, error, updated)`, len(ns), func(b driver.Batch, i int) error {
		n := &ns[i]
		return b.Append(n.Destination, n.ID, n.Run, n.Kind, n.Subject, n.Sources, n.Coverage, string(n.Body), n.Created, NotifyPending, uint32(0), n.Created, "", time.Now())
	})
}

// HaveNotifications returns which of the IDs a destination was told, or is to be told, already.
func (s *Store) HaveNotifications(ctx context.Context, destination string, ids []string) (map[string]bool, error) {
	var have map[string]bool
	err := s.retry(ctx, "look up notifications", func() error {
		have = map[string]bool{}
		return s.each(ctx, "SELECT DISTINCT id FROM notifications_log WHERE destination = {destination:String} AND has({ids:Array(String)}, id)", func(rows driver.Rows) error {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			have[id] = true
			return nil
		}, clickhouse.Named("destination", destination), clickhouse.Named("ids", ids))
	})
	return have, err
}

// DueNotifications returns at most n pending notifications that are due, oldest first.
func (s *Store) DueNotifications(ctx context.Context, destination string, now time.Time, n int) ([]Notification, error) {
	var out []Notification
	err := s.retry(ctx, "read notifications", func() error {
		out = nil
		return s.each(ctx, `SELECT destination, id, run, kind, subject, sources, coverage, body, created, status, attempts, due, error FROM notifications
			WHERE destination = {destination:String} AND status = 'pending' AND due <= fromUnixTimestamp64Milli({now:Int64}) ORDER BY created, id LIMIT {n:UInt32}`,
			func(rows driver.Rows) error {
				var x Notification
				var body string
				if err := rows.Scan(&x.Destination, &x.ID, &x.Run, &x.Kind, &x.Subject, &x.Sources, &x.Coverage, &body, &x.Created, &x.Status, &x.Attempts, &x.Due, &x.Error); err != nil {
					return err //nolint:wrapcheck // retry wraps it.
				}
				x.Body, x.Created, x.Due = []byte(body), x.Created.UTC(), x.Due.UTC()
				out = append(out, x)
				return nil
			}, clickhouse.Named("destination", destination), clickhouse.Named("now", fmt.Sprint(now.UnixMilli())), clickhouse.Named("n", fmt.Sprint(n)))
	})
	return out, err
}

// UpdateNotification records what became of a notification: its state, attempts, when it is due again, and why.
func (s *Store) UpdateNotification(ctx context.Context, destination, id, status string, attempts uint32, due time.Time, why string) error {
	return s.retry(ctx, "write a notification", func() error {
		// The version counts on from the one that it replaces, so that clocks that differ lose nothing.
		return s.conn.Exec(ledgerSettings(ctx), `INSERT INTO notifications_log (destination, id, run, kind, subject, sources, coverage, body, created, status, attempts, due, error, updated)
			SELECT destination, id, run, kind, subject, sources, coverage, body, created, {status:String}, {attempts:UInt32}, fromUnixTimestamp64Milli({due:Int64}), {error:String},
				greatest(now64(6), addMicroseconds(updated, 1))
			FROM notifications_log FINAL WHERE destination = {destination:String} AND id = {id:String}`,
			clickhouse.Named("status", status), clickhouse.Named("attempts", fmt.Sprint(attempts)), clickhouse.Named("due", fmt.Sprint(due.UnixMilli())),
			clickhouse.Named("error", why), clickhouse.Named("destination", destination), clickhouse.Named("id", id)) //nolint:wrapcheck // retry wraps it.
	})
}

// PendingNotifications counts what a destination has yet to be told.
func (s *Store) PendingNotifications(ctx context.Context, destination string) (n uint64, err error) {
	err = s.retry(ctx, "count notifications", func() error {
		return s.conn.QueryRow(ctx, "SELECT count() FROM notifications WHERE destination = {destination:String} AND status = 'pending'",
			clickhouse.Named("destination", destination)).Scan(&n)
	})
	return n, err
}

// Told is what a destination was told last of a campaign, or is to be told.
type Told struct {
	Kind     string  // of the latest
	Sources  uint64  // most that it was told
	Coverage float64 // most that it was told
}

// ToldOf returns what a destination was told, by subject.
func (s *Store) ToldOf(ctx context.Context, destination string) (map[string]Told, error) {
	var out map[string]Told
	err := s.retry(ctx, "read what was told", func() error {
		out = map[string]Told{}
		return s.each(ctx, `SELECT subject, argMax(kind, (n.created, n.id)), max(n.sources), max(n.coverage) FROM notifications AS n
			WHERE destination = {destination:String} GROUP BY subject`, func(rows driver.Rows) error {
			var subject string
			var t Told
			if err := rows.Scan(&subject, &t.Kind, &t.Sources, &t.Coverage); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			out[subject] = t
			return nil
		}, clickhouse.Named("destination", destination))
	})
	return out, err
}
