// Package notify tells webhooks what happened: JSON over HTTP, signed, tried again until it is taken. It knows neither
// ClickHouse nor campaigns; whoever feeds it keeps the events in an Outbox.
//
// Requests follow the Standard Webhooks specification (standardwebhooks.com, v1), for which receivers find libraries in
// most languages:
//
//	webhook-id         the event, the same however often it is sent: receivers drop what they have seen
//	webhook-timestamp  seconds since 1970-01-01 UTC, of this attempt
//	webhook-signature  "v1," and the base64 of HMAC-SHA256(secret, id "." timestamp "." body)
package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The headers of a request.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

// DefaultTimeout is how long a receiver may take to answer.
const DefaultTimeout = 15 * time.Second

// Tolerance is how old, or how far ahead, a timestamp may be that Verify accepts.
const Tolerance = 5 * time.Minute

// What callers decide on.
var (
	ErrURL       = errors.New("bad address of a webhook")
	ErrSecret    = errors.New("bad secret of a webhook")
	ErrSignature = errors.New("the signature does not fit")
	// ErrGone is returned when the receiver says, by status 410, that it wants no more events.
	ErrGone = errors.New("the receiver wants no more events")
)

// Event is what a webhook is told.
type Event struct {
	ID   string    `json:"id"`        // the same however often it is sent
	Type string    `json:"type"`      // "campaign.new"
	Time time.Time `json:"timestamp"` // when it was found
	Data any       `json:"data"`
}

// ID makes the identity of an event from what makes it the one it is, such as its type, its run and its campaign.
func ID(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return "evt_" + hex.EncodeToString(h.Sum(nil)[:16])
}

// Message is an event as it is sent, byte for byte the same at every attempt.
type Message struct {
	ID       string
	Body     []byte // JSON
	Attempts int    // so far
}

// NewMessage writes an event as a message.
func NewMessage(e Event) (Message, error) {
	e.Time = e.Time.UTC()
	body, err := json.Marshal(e)
	if err != nil {
		return Message{}, fmt.Errorf("event %s: %w", e.ID, err)
	}
	return Message{ID: e.ID, Body: body}, nil
}

// Secret signs. Print it with %v and it does not show.
type Secret struct{ key []byte }

// String hides the secret.
func (Secret) String() string { return "(secret)" }

// GoString hides the secret, too.
func (Secret) GoString() string { return "(secret)" }

// leastSecret is the least length of a secret in bytes.
const leastSecret = 16

// ParseSecret reads a secret: "whsec_" and base64, or any text of 16 bytes or more. Space around it is dropped.
func ParseSecret(text string) (Secret, error) {
	text = strings.TrimSpace(text)
	key := []byte(text)
	if encoded, ok := strings.CutPrefix(text, "whsec_"); ok {
		var err error
		if key, err = base64.StdEncoding.DecodeString(encoded); err != nil {
			return Secret{}, fmt.Errorf("%w: what follows whsec_ is not base64", ErrSecret)
		}
	}
	if len(key) < leastSecret {
		return Secret{}, fmt.Errorf("%w: it has %d bytes, %d are the least; `openssl rand -base64 32` makes one", ErrSecret, len(key), leastSecret)
	}
	return Secret{key}, nil
}

// Sign returns the signature of a body sent at a time.
func (s Secret) Sign(id string, at time.Time, body []byte) string {
	h := hmac.New(sha256.New, s.key)
	fmt.Fprintf(h, "%s.%d.", id, at.Unix())
	h.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// Verify is for receivers: it returns ErrSignature unless the body was signed with the secret not long before now.
func (s Secret) Verify(header http.Header, body []byte, now time.Time) error {
	seconds, err := strconv.ParseInt(header.Get(HeaderTimestamp), 10, 64)
	if err != nil {
		return fmt.Errorf("%w: no timestamp", ErrSignature)
	}
	at := time.Unix(seconds, 0)
	if age := now.Sub(at); age > Tolerance || age < -Tolerance {
		return fmt.Errorf("%w: it was sent %s ago", ErrSignature, age.Round(time.Second))
	}
	want := s.Sign(header.Get(HeaderID), at, body)
	for _, have := range strings.Fields(header.Get(HeaderSignature)) {
		if hmac.Equal([]byte(have), []byte(want)) {
			return nil
		}
	}
	return ErrSignature
}

// Sender sends to one webhook.
type Sender struct {
	url    string
	name   string
	secret Secret
	client *http.Client
	now    func() time.Time
}

// NewSender checks the address, which must be http or https. timeout is how long the receiver may take, 0 for
// DefaultTimeout; now is the clock, nil for time.Now. Redirects are not followed: the signed event is for this address.
func NewSender(address string, secret Secret, timeout time.Duration, now func() time.Time) (*Sender, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("%w: it should look like https://host/path", ErrURL) // The address may hold a secret.
	}
	if len(secret.key) == 0 {
		return nil, fmt.Errorf("%w: there is none", ErrSecret)
	}
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	if now == nil {
		now = time.Now
	}
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		transport = &http.Transport{Proxy: http.ProxyFromEnvironment}
	}
	return &Sender{url: address, name: u.Scheme + "://" + u.Host, secret: secret, now: now, client: &http.Client{
		Transport: transport.Clone(), Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close closes the connections that are idle.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

// Name is the address without what may be secret in it: scheme and host.
func (s *Sender) Name() string { return s.name }

// Destination identifies the address without telling it.
func (s *Sender) Destination() string {
	sum := sha256.Sum256([]byte(s.url))
	return hex.EncodeToString(sum[:8])
}

// Refused is an answer that is not a success.
type Refused struct {
	Status     int
	RetryAfter time.Duration // as the receiver asks, 0 if it does not
}

func (r *Refused) Error() string {
	return fmt.Sprintf("the receiver answered %d %s", r.Status, http.StatusText(r.Status))
}

// Is makes a 410 an ErrGone.
func (r *Refused) Is(target error) bool { return target == ErrGone && r.Status == http.StatusGone }

// Send tries once. A status from 200 to 299 is success; others are *Refused.
func (s *Sender) Send(ctx context.Context, m Message) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(m.Body))
	if err != nil {
		return fmt.Errorf("tell %s: %w", s.name, err)
	}
	now := s.now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "murmuration")
	req.Header.Set(HeaderID, m.ID)
	req.Header.Set(HeaderTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(HeaderSignature, s.secret.Sign(m.ID, now, m.Body))
	resp, err := s.client.Do(req)
	if err != nil {
		var where *url.Error
		if errors.As(err, &where) {
			err = where.Err // It quotes the address.
		}
		return fmt.Errorf("tell %s: %w", s.name, err)
	}
	defer resp.Body.Close() //nolint:errcheck // Nothing in it is needed.
	// What little there is is read, so that the connection can be used again.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode/100 == 2 {
		return nil
	}
	return fmt.Errorf("tell %s: %w", s.name, &Refused{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header.Get("Retry-After"), now)})
}

// retryAfter reads seconds or a date (RFC 9110, 10.2.3), a day at most.
func retryAfter(value string, now time.Time) time.Duration {
	const most = 24 * time.Hour
	if n, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(n)*time.Second, most) //nolint:gosec // 32 bits.
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(0, at.Sub(now)), most)
	}
	return 0
}
