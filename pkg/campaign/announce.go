package campaign

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"murmuration/pkg/notify"
	"murmuration/pkg/store"
)

// The kinds of events about campaigns.
const (
	EventNew     = "campaign.new"     // no earlier run knew it
	EventGrowing = "campaign.growing" // it grew a good deal since it was told last, or is back after its end was told
	EventEnded   = "campaign.ended"   // its state became ended
)

// What counts as growth since a destination was last told.
const (
	growthSources  = 1.5 // times as many members
	growthCoverage = 0.1 // more coverage
)

// News is the data of an event about a campaign.
type News struct {
	Campaign       string    `json:"campaign"`
	State          string    `json:"state"`
	StateBefore    string    `json:"state_before,omitempty"`
	Sources        uint64    `json:"sources"`
	SourcesBefore  uint64    `json:"sources_before,omitempty"` // as told last
	Coverage       float64   `json:"coverage"`                 // 0 to 1
	CoverageBefore float64   `json:"coverage_before,omitempty"`
	OverlapRatio   float64   `json:"overlap_ratio"`
	Evidence       float64   `json:"evidence"` // -log10 p, corrected
	Pattern        string    `json:"pattern"`
	Ports          []string  `json:"ports"`
	Tool           string    `json:"tool,omitempty"`
	Targets        []string  `json:"targets"`
	Networks       uint64    `json:"networks"`
	FirstSeen      time.Time `json:"first_seen"`
	LastSeen       time.Time `json:"last_seen"`
	Summary        string    `json:"summary"`
	MergedInto     string    `json:"merged_into,omitempty"`
	SplitFrom      string    `json:"split_from,omitempty"`
	Run            string    `json:"run"`
	AsOf           time.Time `json:"as_of"` // end of the time that the run looked at
}

// announce puts what the run found into the outbox of every destination. It becomes visible with the run.
func (opt *Options) announce(ctx context.Context, st *store.Store, rep *Report) error {
	var all []store.Notification
	for _, destination := range opt.Tell {
		told, err := st.ToldOf(ctx, destination)
		if err != nil {
			return fmt.Errorf("look up what was told: %w", err)
		}
		for _, x := range rep.news(told) {
			m, err := notify.NewMessage(notify.Event{ID: notify.ID(x.kind, x.Campaign, rep.Run), Type: x.kind, Time: opt.Now(), Data: x.News})
			if err != nil {
				return fmt.Errorf("tell of campaign %s: %w", x.Campaign, err)
			}
			all = append(all, store.Notification{
				Destination: destination, ID: m.ID, Run: rep.Run, Kind: x.kind, Subject: x.Campaign, Sources: x.Sources, Coverage: x.Coverage, Body: m.Body, Created: opt.Now(),
			})
		}
	}
	if err := st.PutNotifications(ctx, all); err != nil {
		return fmt.Errorf("write down what is to be told: %w", err)
	}
	return nil
}

// kindOf news.
type kindOf struct {
	kind string
	News
}

// news lists what somebody who was told this much should be told now. A look back at an earlier time than others looked at
// has none.
func (rep *Report) news(told map[string]store.Told) []kindOf {
	for _, k := range rep.known {
		if k.life.AsOf.After(rep.To) {
			return nil
		}
	}
	var out []kindOf
	seen := map[string]bool{}
	for i := range rep.Found {
		f := &rep.Found[i]
		seen[f.ID] = true
		n := rep.newsOf(f)
		last, known := told[f.ID]
		if before, ok := rep.known[f.ID]; ok && !known {
			last = store.Told{Sources: before.life.Sources, Coverage: before.life.Coverage}
		}
		n.SourcesBefore, n.CoverageBefore = last.Sources, last.Coverage
		switch {
		case f.New:
			out = append(out, kindOf{EventNew, n})
		case f.State == StateEnded:
			if n.StateBefore != StateEnded {
				out = append(out, kindOf{EventEnded, n})
			}
		case last.Kind == EventEnded, float64(n.Sources) >= growthSources*float64(last.Sources), n.Coverage >= last.Coverage+growthCoverage:
			out = append(out, kindOf{EventGrowing, n})
		}
	}
	for _, s := range rep.States {
		k, ok := rep.known[s.Campaign]
		if ok && !seen[s.Campaign] && s.State == StateEnded && k.State != StateEnded {
			out = append(out, kindOf{EventEnded, rep.newsOfKnown(k, s)})
		}
	}
	return out
}

func (rep *Report) newsOf(f *Found) News {
	r := row(f)
	n := News{
		Campaign: f.ID, State: f.State, Sources: r.Sources, Coverage: f.Coverage, OverlapRatio: f.OverlapRatio, Evidence: f.Evidence, Pattern: r.Pattern,
		Ports: f.PortNames(), Tool: r.Tool, Networks: r.Networks, FirstSeen: r.First.UTC(), LastSeen: r.Last.UTC(), Summary: r.Summary, Run: rep.Run, AsOf: rep.To,
	}
	for _, p := range f.Space {
		n.Targets = append(n.Targets, p.String())
	}
	if k, ok := rep.known[f.ID]; ok {
		n.StateBefore = k.State
		n.FirstSeen = earlier(n.FirstSeen, k.life.First)
	}
	if i := slices.IndexFunc(rep.Links, func(l store.CampaignLink) bool { return l.Kind == store.LinkSplit && l.Later == f.ID }); i >= 0 {
		n.SplitFrom = rep.Links[i].Earlier
	}
	return n
}

func (rep *Report) newsOfKnown(k *Known, s store.CampaignState) News {
	l := &k.life
	f := Found{}
	f.Ports = k.Ports
	n := News{
		Campaign: k.ID, State: s.State, StateBefore: k.State, Sources: l.Sources, Coverage: l.Coverage, OverlapRatio: l.OverlapRatio, Evidence: l.Evidence,
		Pattern: l.Pattern, Ports: f.PortNames(), Tool: l.Tool, Networks: l.Networks, FirstSeen: l.First, LastSeen: l.Last, Summary: l.Summary,
		MergedInto: s.MergedInto, Run: rep.Run, AsOf: rep.To,
	}
	for _, p := range l.Targets {
		n.Targets = append(n.Targets, p.String())
	}
	return n
}

// Tell puts events that belong to no run, such as surges, into the outbox of a destination (notify.Sender.Destination).
// Events whose ID is there already are left out, so that it may be called again with the same.
func Tell(ctx context.Context, st *store.Store, destination string, events []notify.Event) error {
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	have, err := st.HaveNotifications(ctx, destination, ids)
	if err != nil {
		return fmt.Errorf("look up what was told: %w", err)
	}
	var ns []store.Notification
	for _, e := range events {
		if have[e.ID] {
			continue
		}
		have[e.ID] = true
		m, err := notify.NewMessage(e)
		if err != nil {
			return fmt.Errorf("tell: %w", err)
		}
		ns = append(ns, store.Notification{Destination: destination, ID: e.ID, Kind: e.Type, Body: m.Body, Created: e.Time})
	}
	if err := st.PutNotifications(ctx, ns); err != nil {
		return fmt.Errorf("write down what is to be told: %w", err)
	}
	return nil
}

// outbox is the part of the store that one webhook is told from.
type outbox struct {
	st          *store.Store
	destination string
}

func (o outbox) Pending(ctx context.Context, now time.Time, n int) ([]notify.Message, error) {
	ns, err := o.st.DueNotifications(ctx, o.destination, now, n)
	if err != nil {
		return nil, err
	}
	out := make([]notify.Message, len(ns))
	for i, x := range ns {
		out[i] = notify.Message{ID: x.ID, Body: x.Body, Attempts: int(x.Attempts)}
	}
	return out, nil
}

func (o outbox) Delivered(ctx context.Context, id string) error {
	return o.st.UpdateNotification(ctx, o.destination, id, store.NotifyDelivered, 0, time.Unix(0, 0), "")
}

func (o outbox) Failed(ctx context.Context, id string, attempts int, next time.Time, why string) error {
	return o.st.UpdateNotification(ctx, o.destination, id, store.NotifyPending, uint32(attempts), next, why) //nolint:gosec // Few.
}

func (o outbox) Dropped(ctx context.Context, id string, attempts int, why string) error {
	return o.st.UpdateNotification(ctx, o.destination, id, store.NotifyDropped, uint32(attempts), time.Unix(0, 0), why) //nolint:gosec // Few.
}

const (
	notifyLease = "notify"
	courierLook = 30 * time.Second // between two looks at the outbox
)

// Courier tells one webhook what is in its outbox, one courier at a time over all hosts.
type Courier struct {
	Store    *store.Store
	Sender   *notify.Sender
	Clock    Clock // nil is SystemClock
	Logger   *slog.Logger
	OnResult func(result string)  // of every attempt: "delivered", "failed", "dropped"
	OnLook   func(pending uint64) // how much is left, after every look
	Kick     <-chan struct{}      // a look at once; may be nil
}

// Look tells what is due. If another courier is at it, it does nothing.
func (c *Courier) Look(ctx context.Context) error {
	clock, log := c.Clock, c.Logger
	if clock == nil {
		clock = SystemClock{}
	}
	if log == nil {
		log = slog.Default()
	}
	destination := c.Sender.Destination()
	pending, err := c.Store.PendingNotifications(ctx, destination)
	if err == nil && pending > 0 {
		err = c.carry(ctx, &notify.Deliverer{Outbox: outbox{c.Store, destination}, Sender: c.Sender, Now: clock.Now, Logger: log, OnResult: c.OnResult})
		if err == nil {
			pending, err = c.Store.PendingNotifications(ctx, destination)
		}
	}
	if err != nil {
		return fmt.Errorf("tell %s: %w", c.Sender.Name(), err)
	}
	if c.OnLook != nil {
		c.OnLook(pending)
	}
	return nil
}

func (c *Courier) carry(ctx context.Context, d *notify.Deliverer) error {
	held, l, err := c.Store.TryLease(ctx, notifyLease)
	if errors.Is(err, store.ErrLeaseHeld) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = d.Deliver(held)
	return errors.Join(err, l.Release(ctx))
}

// Serve looks every half minute, and when kicked, until the context ends.
func (c *Courier) Serve(ctx context.Context) {
	clock, log := c.Clock, c.Logger
	if clock == nil {
		clock = SystemClock{}
	}
	if log == nil {
		log = slog.Default()
	}
	for ctx.Err() == nil {
		if err := c.Look(ctx); err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "the webhook is not told for the moment", "error", err)
		}
		c.rest(ctx, clock)
	}
}

// rest waits for the next look.
func (c *Courier) rest(ctx context.Context, clock Clock) {
	ctx, cancel := context.WithCancel(ctx)
	kicked := make(chan struct{})
	go func() {
		defer close(kicked)
		select {
		case <-c.Kick:
			cancel()
		case <-ctx.Done():
		}
	}()
	_ = clock.Wait(ctx, clock.Now().Add(courierLook)) // Whatever ends the wait, it has ended.
	cancel()
	<-kicked
}
