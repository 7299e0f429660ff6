package notify

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

func secret(t testing.TB) Secret {
	t.Helper()
	s, err := ParseSecret("whsec_" + base64.StdEncoding.EncodeToString([]byte("a secret of some length")))
	require.NoError(t, err)
	return s
}

// The example of the Standard Webhooks specification's own libraries.
func TestSignatureOfTheSpecification(t *testing.T) {
	s, err := ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	require.NoError(t, err)
	got := s.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", got)
}

func TestVerify(t *testing.T) {
	s := secret(t)
	rapid.Check(t, func(t *rapid.T) {
		id, body := rapid.StringMatching(`[a-z0-9_]{1,20}`).Draw(t, "id"), rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		h := http.Header{}
		h.Set(HeaderID, id)
		h.Set(HeaderTimestamp, fmt.Sprint(noon.Unix()))
		h.Set(HeaderSignature, "v1,other "+s.Sign(id, noon, body))
		require.NoError(t, s.Verify(h, body, noon.Add(time.Minute)))
		require.ErrorIs(t, s.Verify(h, append(body, 'x'), noon), ErrSignature)
		require.ErrorIs(t, s.Verify(h, body, noon.Add(Tolerance+time.Second)), ErrSignature, "replayed")
		other, err := ParseSecret("another secret of some length")
		require.NoError(t, err)
		require.ErrorIs(t, other.Verify(h, body, noon), ErrSignature)
		h.Set(HeaderID, id+"x")
		require.ErrorIs(t, s.Verify(h, body, noon), ErrSignature)
		h.Del(HeaderTimestamp)
		require.ErrorIs(t, s.Verify(h, body, noon), ErrSignature)
	})
}

func TestSecretsAndAddresses(t *testing.T) {
	for _, bad := range []string{"", "short", "whsec_%%%", "whsec_c2hvcnQ="} {
		_, err := ParseSecret(bad)
		require.ErrorIs(t, err, ErrSecret, bad)
	}
	s, err := ParseSecret("  a secret with a line end around\n")
	require.NoError(t, err)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", s, s, s, s), "line end")
	for _, bad := range []string{"", "host/path", "ftp://host", "https://", "http://[::1"} {
		_, err := NewSender(bad, s, 0, nil)
		require.ErrorIs(t, err, ErrURL, bad)
	}
	_, err = NewSender("https://host", Secret{}, 0, nil)
	require.ErrorIs(t, err, ErrSecret)
	require.NotEqual(t, ID("ab", "c"), ID("a", "bc"))
}

// box is an outbox in memory.
type box struct {
	mu   sync.Mutex
	rows map[string]*row
}

type row struct {
	Message
	order int
	state string
	due   time.Time
	why   string
}

func newBox(ids ...string) *box {
	b := &box{rows: map[string]*row{}}
	for i, id := range ids {
		b.rows[id] = &row{Message: Message{ID: id, Body: []byte(`{"id":"` + id + `"}`)}, order: i}
	}
	return b
}

func (b *box) Pending(_ context.Context, now time.Time, n int) ([]Message, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var due []*row
	for _, r := range b.rows {
		if r.state == "" && !r.due.After(now) {
			due = append(due, r)
		}
	}
	slices.SortFunc(due, func(x, y *row) int { return cmp.Compare(x.order, y.order) })
	var out []Message
	for _, r := range due[:min(n, len(due))] {
		out = append(out, r.Message)
	}
	return out, nil
}

func (b *box) set(id string, f func(*row)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b.rows[id])
	return nil
}

func (b *box) Delivered(_ context.Context, id string) error {
	return b.set(id, func(r *row) { r.state = "delivered" })
}

func (b *box) Failed(_ context.Context, id string, attempts int, next time.Time, why string) error {
	return b.set(id, func(r *row) { r.Attempts, r.due, r.why = attempts, next, why })
}

func (b *box) Dropped(_ context.Context, id string, attempts int, why string) error {
	return b.set(id, func(r *row) { r.Attempts, r.state, r.why = attempts, "dropped", why })
}

// receiver is a real server that answers as it is told, and remembers what it took.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request) bool // true: it took the event
	took   []string
}

func newReceiver(t *testing.T, s Secret, answer func(http.ResponseWriter, *http.Request) bool) *receiver {
	x := &receiver{answer: answer}
	x.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || s.Verify(r.Header, body, noon) != nil || r.Header.Get("Content-Type") != "application/json" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		x.mu.Lock()
		answer := x.answer
		x.mu.Unlock()
		if answer(w, r) {
			x.mu.Lock()
			x.took = append(x.took, r.Header.Get(HeaderID))
			x.mu.Unlock()
		}
	}))
	t.Cleanup(x.Close)
	return x
}

func (x *receiver) set(answer func(http.ResponseWriter, *http.Request) bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.answer = answer
}

func takes(http.ResponseWriter, *http.Request) bool { return true }

func says(status int, header ...string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		return false
	}
}

func deliverer(t *testing.T, b *box, x *receiver, now *time.Time, timeout time.Duration) *Deliverer {
	t.Helper()
	s, err := NewSender(x.URL+"/hook?key=hidden", secret(t), timeout, func() time.Time { return noon })
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return &Deliverer{Outbox: b, Sender: s, Now: func() time.Time { return *now }, Logger: slog.New(slog.DiscardHandler)}
}

func TestDeliver(t *testing.T) {
	var ids []string
	for i := range 2*piece + 5 {
		ids = append(ids, fmt.Sprintf("evt_%03d", i))
	}
	b, now := newBox(ids...), noon
	x := newReceiver(t, secret(t), takes)
	d := deliverer(t, b, x, &now, 0)
	n, err := d.Deliver(t.Context())
	require.NoError(t, err)
	require.Equal(t, len(ids), n)
	require.Equal(t, ids, x.took, "in order, once each")
	n, err = d.Deliver(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
}

// A receiver that fails in every way it can loses nothing and is told again, later and later.
func TestDeliverToAReceiverThatFails(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"500":        says(500),
		"401":        says(401),
		"a redirect": says(302, "Location", "http://127.0.0.1:1/"),
		"hangs up":   func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) },
		"never ends": func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return false },
		"hangs after": func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(503)
			<-r.Context().Done()
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, now := newBox("evt_a", "evt_b"), noon
			x := newReceiver(t, secret(t), answer)
			d := deliverer(t, b, x, &now, 50*time.Millisecond)
			results := map[string]int{}
			d.OnResult = func(r string) { results[r]++ }
			before := time.Duration(0)
			for attempt := 1; attempt <= 4; attempt++ {
				n, err := d.Deliver(t.Context())
				require.NoError(t, err)
				require.Zero(t, n)
				r := b.rows["evt_a"]
				require.Equal(t, attempt, r.Attempts)
				require.NotEmpty(t, r.why)
				require.NotContains(t, r.why, "hidden", "the address may hold a secret")
				require.Greater(t, r.due.Sub(now), before, "later each time")
				before = r.due.Sub(now)
				// The other one is due still: it is tried, fails, and waits, too.
				_, err = d.Deliver(t.Context())
				require.NoError(t, err)
				now = latest(b)
			}
			require.Equal(t, 8, results["failed"])
			x.set(takes)
			n, err := d.Deliver(t.Context())
			require.NoError(t, err)
			require.Equal(t, 2, n)
			require.Equal(t, []string{"evt_a", "evt_b"}, x.took)
		})
	}
}

// latest is when everything in the box is due.
func latest(b *box) time.Time {
	var out time.Time
	for _, r := range b.rows {
		if r.due.After(out) {
			out = r.due
		}
	}
	return out
}

func TestRetryAfter(t *testing.T) {
	b, now := newBox("evt_a"), noon
	x := newReceiver(t, secret(t), says(429, "Retry-After", "600"))
	_, err := deliverer(t, b, x, &now, 0).Deliver(t.Context())
	require.NoError(t, err)
	require.GreaterOrEqual(t, b.rows["evt_a"].due.Sub(noon), 600*time.Second)
	require.Equal(t, 90*time.Second, retryAfter(noon.Add(90*time.Second).Format(http.TimeFormat), noon))
	require.Equal(t, 24*time.Hour, retryAfter("4000000000", noon))
	require.Zero(t, retryAfter("soon", noon))
}

func TestGivenUp(t *testing.T) {
	b, now := newBox("evt_a", "evt_b"), noon
	x := newReceiver(t, secret(t), says(http.StatusGone))
	_, err := deliverer(t, b, x, &now, 0).Deliver(t.Context())
	require.NoError(t, err)
	require.Equal(t, "dropped", b.rows["evt_a"].state)
	require.Equal(t, "dropped", b.rows["evt_b"].state)

	b = newBox("evt_c")
	b.rows["evt_c"].Attempts = maxAttempts - 1
	x.set(says(500))
	_, err = deliverer(t, b, x, &now, 0).Deliver(t.Context())
	require.NoError(t, err)
	require.Equal(t, "dropped", b.rows["evt_c"].state)

	total := time.Duration(0)
	for n := 1; n < maxAttempts; n++ {
		total += wait("", n, errors.New("down"))
	}
	require.Greater(t, total, 60*time.Hour, "a receiver may be away over a weekend")
}

// A stop in the middle of an attempt waits for the answer, so that nothing is told twice, and does not begin another.
func TestStoppedWhileTelling(t *testing.T) {
	b, now := newBox("evt_a", "evt_b"), noon
	ctx, cancel := context.WithCancel(t.Context())
	x := newReceiver(t, secret(t), func(http.ResponseWriter, *http.Request) bool { cancel(); return true })
	n, err := deliverer(t, b, x, &now, 0).Deliver(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, n)
	require.Equal(t, []string{"evt_a"}, x.took)
	require.Equal(t, "delivered", b.rows["evt_a"].state)
	require.Empty(t, b.rows["evt_b"].state)
}

// A receiver that hangs does not hold up a stop for long, and the attempt counts as none.
func TestStoppedWhileHanging(t *testing.T) {
	b, now := newBox("evt_a"), noon
	ctx, cancel := context.WithCancel(t.Context())
	x := newReceiver(t, secret(t), func(_ http.ResponseWriter, r *http.Request) bool { cancel(); <-r.Context().Done(); return false })
	d := deliverer(t, b, x, &now, time.Minute)
	d.Grace = time.Millisecond
	_, err := d.Deliver(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, b.rows["evt_a"].Attempts)
	require.Empty(t, b.rows["evt_a"].state)
}

func TestMessages(t *testing.T) {
	m, err := NewMessage(Event{ID: "evt_x", Type: "campaign.new", Time: noon, Data: map[string]int{"sources": 3}})
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"evt_x","type":"campaign.new","timestamp":"2026-03-02T12:00:00Z","data":{"sources":3}}`, string(m.Body))
	_, err = NewMessage(Event{Data: func() {}})
	require.ErrorContains(t, err, "unsupported type")
	require.True(t, strings.HasPrefix(ID("a"), "evt_"))
}
