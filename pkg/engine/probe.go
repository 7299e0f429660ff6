package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
)

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// probeTimeout bounds one attempt to reach the engine; the engine answers within milliseconds or not at all.
const probeTimeout = 5 * time.Second

// queryHTTP runs one statement over HTTP and returns the answer without its line end.
func queryHTTP(ctx context.Context, addr, user, password, query string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/", strings.NewReader(query))
	if err != nil {
		return "", err
	}
	req.Header.Set("X-ClickHouse-User", user)
	req.Header.Set("X-ClickHouse-Key", password)
	// No proxy, which the environment may name, and no connection that stays open: a stop would wait for it.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(body))
	if resp.StatusCode != http.StatusOK {
		return "", &answerError{status: resp.StatusCode, text: text}
	}
	return text, nil
}

// answerError is an answer that is not the result.
type answerError struct {
	status int
	text   string
}

func (e *answerError) Error() string { return fmt.Sprintf("HTTP status %d: %s", e.status, e.text) }

// awaitVersion waits until the engine answers over HTTP as this user, and returns its version. It gives up when stop
// is closed; the process that started the engine bounds the time.
func awaitVersion(stop <-chan struct{}, addr, user, password string) (string, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return backoff.Retry(ctx, func() (string, error) {
		v, err := queryHTTP(ctx, addr, user, password, "SELECT version()")
		// An answer that is an error, for instance a refused password, will not change; no answer yet will.
		if answer := (*answerError)(nil); errors.As(err, &answer) && answer.status != http.StatusServiceUnavailable {
			err = backoff.Permanent(err)
		}
		return v, err
	}, backoff.WithBackOff(&backoff.ConstantBackOff{Interval: pollInterval}), backoff.WithMaxElapsedTime(0))
}

// pollInterval is how often a condition in another process is looked at again.
const pollInterval = 10 * time.Millisecond
