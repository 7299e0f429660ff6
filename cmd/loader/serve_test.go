package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"murmuration/pkg/engine/enginetest"
	"murmuration/pkg/notify"
)

// serving runs `loader detect --every` in this process until stop, and returns its lines as they come.
func serving(t testing.TB, args ...string) (lines *bufio.Scanner, stop func() (code int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	var g errgroup.Group
	var code int
	g.Go(func() error {
		code = run(ctx, append([]string{"loader", "detect"}, args...), environment{stdin: strings.NewReader(""), stdout: w, stderr: w})
		return w.Close()
	})
	return bufio.NewScanner(r), func() int {
		cancel()
		go io.Copy(io.Discard, r) //nolint:errcheck // What it says at its end.
		require.NoError(t, g.Wait())
		return code
	}
}

// until reads lines up to the first that contains a text, and returns it.
func until(t testing.TB, lines *bufio.Scanner, text string) string {
	t.Helper()
	var seen []string
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return lines.Text()
		}
		seen = append(seen, lines.Text())
	}
	require.Fail(t, "it never said "+text, strings.Join(seen, "\n"))
	return ""
}

func TestDetectService(t *testing.T) {
	dsn := newDSN(t)
	works(t, "load", demoCapture, "--dsn", dsn, "--sensor", "demo", "--telescope", "198.18.32.0/20")
	lines, stop := serving(t, "--every", "1000h", "--dsn", dsn, "--metrics", "127.0.0.1:0")
	url := strings.TrimPrefix(until(t, lines, "metrics at "), "metrics at ")
	require.Contains(t, until(t, lines, ": done in "), "campaigns, ")

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)
	for _, says := range []string{
		`murmuration_detect_runs_total{result="done"} 1`, `murmuration_detect_runs_total{result="failed"} 0`,
		"murmuration_detect_run_duration_seconds_count 1", `murmuration_campaigns{state="ended"} `,
	} {
		require.Contains(t, string(text), says)
	}
	require.NotContains(t, string(text), "murmuration_detect_last_success_timestamp_seconds 0\n")
	require.Contains(t, works(t, "query", "--dsn", dsn, "--format", "csv", "SELECT status FROM surge_runs"), "done", "it looks for surges, too")
	require.Zero(t, stop(), "told to stop, it ends well")

	// The next to serve has nothing to do in this slot; a run by hand is free to go.
	require.Contains(t, works(t, "query", "--dsn", dsn, "--format", "csv", "SELECT status, attempts FROM "+dsn[strings.LastIndex(dsn, "/")+1:]+".detect_slots"), "done,1")
	works(t, "detect", "--dsn", dsn)
}

func TestDetectServiceUsage(t *testing.T) {
	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"detect", "--every", "1s"}, "--every takes a minute or more"},
		{[]string{"detect", "--every", "1h", "--members"}, "--members is of a single run"},
		{[]string{"detect", "--metrics", "127.0.0.1:0"}, "--metrics needs --every"},
	} {
		r := loader(t, "", tc.args...)
		require.Equal(t, exitUsage, r.code, r.stderr)
		require.Contains(t, r.stderr, tc.says)
	}
}

// A webhook is told by the service at once, and by a single run at its end; each event once, signed.
func TestDetectTellsAWebhook(t *testing.T) {
	const secret = "a secret for the tests"
	key, err := notify.ParseSecret(secret)
	require.NoError(t, err)
	types := make(chan string, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e notify.Event
		body, err := io.ReadAll(r.Body)
		if err != nil || key.Verify(r.Header, body, time.Now()) != nil || json.Unmarshal(body, &e) != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		types <- e.Type
	}))
	t.Cleanup(hook.Close)
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte(secret+"\n"), 0o600))
	dsn := newDSN(t)
	works(t, "load", demoCapture, "--dsn", dsn, "--sensor", "demo", "--telescope", "198.18.32.0/20")

	lines, stop := serving(t, "--every", "1000h", "--dsn", dsn, "--notify", hook.URL+"/?key=hidden", "--notify-secret-file", file)
	require.NotContains(t, until(t, lines, "telling "), "hidden")
	until(t, lines, ": done in ")
	require.Equal(t, "campaign.new", <-types)
	require.Zero(t, stop())

	t.Setenv("MURMURATION_NOTIFY_SECRET", secret)
	found := strings.Count(works(t, "campaigns", "--dsn", dsn, "--format", "json"), "\n")
	works(t, "detect", "--dsn", dsn, "--notify", hook.URL+"/?key=hidden")
	require.Len(t, types, found-1, "what the service was stopped before telling is told by the next run; nothing is told twice")
	hook.Close()
	r := loader(t, "", "detect", "--dsn", dsn, "--notify", hook.URL+"/another")
	require.Zero(t, r.code, "that nobody listens is no failure of the run")
}

func TestNotifyUsage(t *testing.T) {
	t.Setenv("MURMURATION_NOTIFY_SECRET", "")
	short := filepath.Join(t.TempDir(), "short")
	require.NoError(t, os.WriteFile(short, []byte("short"), 0o600))
	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"--notify", "http://127.0.0.1:1"}, "--notify needs a secret"},
		{[]string{"--notify-secret-file", short}, "needs --notify"},
		{[]string{"--notify", "http://127.0.0.1:1", "--notify-secret-file", short}, "5 bytes"},
	} {
		r := loader(t, "", append([]string{"detect"}, tc.args...)...)
		require.Equal(t, exitUsage, r.code, r.stderr)
		require.Contains(t, r.stderr, tc.says)
	}
	r := loader(t, "", "detect", "--notify", "http://127.0.0.1:1", "--notify-secret-file", filepath.Join(t.TempDir(), "none"))
	require.Equal(t, exitFailed, r.code)
	t.Setenv("MURMURATION_NOTIFY_SECRET", "a secret for the tests")
	r = loader(t, "", "detect", "--notify", "ftp://user:hidden@host")
	require.Equal(t, exitUsage, r.code)
	require.NotContains(t, r.stderr, "hidden")
}

// A service whose engine dies says so and fails, so that whoever keeps it starts it again.
func TestDetectServiceWithoutItsEngine(t *testing.T) {
	enginetest.Need(t)
	dir := t.TempDir()
	lines, stop := serving(t, "--every", "1000h", "--dsn", "embedded:"+dir)
	until(t, lines, ": empty: ")
	require.NoError(t, syscall.Kill(enginePid(dir), syscall.SIGKILL))
	until(t, lines, "the embedded ClickHouse ended")
	require.Equal(t, exitFailed, stop())
}
