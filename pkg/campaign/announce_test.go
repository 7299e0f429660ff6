package campaign

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"murmuration/pkg/notify"
	"murmuration/pkg/store"
)

// hook is a real webhook: it takes what is signed rightly while it is up.
type hook struct {
	*httptest.Server
	secret notify.Secret
	mu     sync.Mutex
	down   bool
	took   []news
}

type news struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	Data News   `json:"data"`
}

func newHook(t *testing.T) *hook {
	t.Helper()
	s, err := notify.ParseSecret("a secret for the tests")
	require.NoError(t, err)
	h := &hook{secret: s}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		var n news
		body, err := io.ReadAll(r.Body)
		if h.down || err != nil || s.Verify(r.Header, body, time.Now()) != nil || json.Unmarshal(body, &n) != nil || n.ID != r.Header.Get(notify.HeaderID) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h.took = append(h.took, n)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) set(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
}

// kinds lists what it took as "kind campaign".
func (h *hook) kinds() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, n := range h.took {
		out = append(out, n.Type+" "+n.Data.Campaign)
	}
	return out
}

func (h *hook) courier(t *testing.T, st *store.Store, c Clock) *Courier {
	t.Helper()
	s, err := notify.NewSender(h.URL, h.secret, 0, nil)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return &Courier{Store: st, Sender: s, Clock: c}
}

func TestAWebhookIsToldOfTheLifeOfACampaign(t *testing.T) {
	f := newField(t)
	f.watch("198.18.0.0/22", "")
	members := sources("100.64.0.0", 64)
	f.hum("", "198.18.0.0/24", 5, at(0, 0), at(20, 0))
	f.sweep(sweep{members: members[:32], prefix: "198.18.0.0/22", port: 80, from: at(0, 0), to: at(1, 0), tool: "zmap", share: 0.6})
	f.sweep(sweep{members: members, prefix: "198.18.0.0/22", port: 80, from: at(2, 0), to: at(3, 0), tool: "zmap"})
	h, clock := newHook(t), newClock(time.Now())
	c := h.courier(t, f.st, clock)
	detect := func(end time.Time) *Report {
		opt := f.options(end, 3*days)
		opt.Tell = []string{c.Sender.Destination()}
		rep, err := Run(t.Context(), f.st, opt)
		require.NoError(t, err)
		return rep
	}
	look := func() (left uint64) {
		c.OnLook = func(n uint64) { left = n }
		require.NoError(t, c.Look(t.Context()))
		return left
	}

	id := only(t, detect(at(1, 0))).ID
	h.set(true)
	require.EqualValues(t, 1, look(), "the receiver is down; nothing is lost")
	require.Empty(t, h.kinds())
	h.set(false)
	require.EqualValues(t, 1, look(), "not due yet")
	clock.set(time.Now().Add(time.Minute), 0)
	require.Zero(t, look())
	want := []string{"campaign.new " + id}
	require.Equal(t, want, h.kinds())
	require.Equal(t, []string{"80"}, h.took[0].Data.Ports)
	require.EqualValues(t, 32, h.took[0].Data.Sources)

	detect(at(1, 1)) // Nothing happened.
	require.Zero(t, look())
	require.Equal(t, want, h.kinds())

	detect(at(3, 0))
	require.Zero(t, look())
	want = append(want, "campaign.growing "+id)
	require.Equal(t, want, h.kinds())
	require.EqualValues(t, 32, h.took[1].Data.SourcesBefore)
	require.EqualValues(t, 64, h.took[1].Data.Sources)

	detect(at(3, 2)) // Growth is told once.
	detect(at(19, 0))
	detect(at(19, 1))
	require.Zero(t, look())
	want = append(want, "campaign.ended "+id)
	require.Equal(t, want, h.kinds())
	require.Equal(t, StateEnded, h.took[2].Data.State)
	require.NotEqual(t, StateEnded, h.took[2].Data.StateBefore)

	// It comes back.
	f.sweep(sweep{members: members, prefix: "198.18.0.0/22", port: 80, from: at(20, 0), to: at(21, 0), tool: "zmap"})
	detect(at(21, 0))
	require.Zero(t, look())
	want = append(want, "campaign.growing "+id)
	require.Equal(t, want, h.kinds())

	detect(at(1, 0)) // A look back is no news.
	require.Zero(t, look())
	require.Equal(t, want, h.kinds())

	ids := map[string]bool{}
	for _, n := range h.took {
		ids[n.ID] = true
	}
	require.Len(t, ids, 4, "an identity of its own for each event")
}

// What a run that was never finished found is told to nobody; what a finished one found is, by whoever comes next, once.
func TestCrashBetweenSavingAndTelling(t *testing.T) {
	f := newField(t)
	h := newHook(t)
	a, b := h.courier(t, f.open(), nil), h.courier(t, f.open(), nil)
	destination := a.Sender.Destination()
	put := func(run, id string) {
		m, err := notify.NewMessage(notify.Event{ID: id, Type: EventNew, Data: News{Campaign: id}})
		require.NoError(t, err)
		require.NoError(t, f.st.PutNotifications(t.Context(), []store.Notification{{
			Destination: destination, ID: id, Run: run, Kind: EventNew, Subject: id, Body: m.Body, Created: time.Now().Add(-time.Minute),
		}}))
	}
	put("r1", "evt_lost")
	put("r2", "evt_kept")
	require.NoError(t, f.st.PutRun(t.Context(), store.CampaignRun{Run: "r1", Started: epoch, From: epoch, To: epoch, Status: store.RunFailed}))
	require.NoError(t, f.st.SaveRun(t.Context(), store.CampaignRun{Run: "r2", Started: epoch, From: epoch, To: epoch}, nil, nil))

	var g errgroup.Group
	for _, c := range []*Courier{a, b, a, b} {
		g.Go(func() error { return c.Look(t.Context()) })
	}
	require.NoError(t, g.Wait())
	require.NoError(t, a.Look(t.Context())) // Should two couriers have refused each other.
	require.Equal(t, []string{"campaign.new evt_kept"}, h.kinds())
}

func TestTell(t *testing.T) {
	f := newField(t)
	h := newHook(t)
	c := h.courier(t, f.st, nil)
	surge := notify.Event{ID: notify.ID("surge", "23/tcp"), Type: "surge.began", Time: time.Now().Add(-time.Minute), Data: map[string]string{"port": "23"}}
	for range 2 {
		require.NoError(t, Tell(t.Context(), f.st, c.Sender.Destination(), []notify.Event{surge, surge}))
		require.NoError(t, c.Look(t.Context()))
	}
	require.Equal(t, []string{"surge.began "}, h.kinds())
	require.NoError(t, Tell(t.Context(), f.st, c.Sender.Destination(), nil))
}

func TestCourierServes(t *testing.T) {
	f := newField(t)
	h, clock := newHook(t), newClock(time.Now())
	c := h.courier(t, f.st, clock)
	kick := make(chan struct{})
	c.Kick = kick
	stop := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { defer close(stop); c.Serve(ctx) }()
	clock.waits(1)
	require.NoError(t, Tell(t.Context(), f.st, c.Sender.Destination(), []notify.Event{{ID: "evt_1", Type: "surge.began", Time: time.Now().Add(-time.Hour)}}))
	kick <- struct{}{}
	clock.waits(1)
	require.Len(t, h.kinds(), 1)
	cancel()
	<-stop
}
