package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"murmuration/pkg/notify"
)

func TestSurges(t *testing.T) {
	dsn := newDSN(t)
	r := loader(t, "", "surges", "--dsn", dsn)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "is loaded yet")
	works(t, "load", demoCapture, "--dsn", dsn)
	first := works(t, "surges", "--dsn", dsn, "--window", "all", "--format", "csv")
	require.Contains(t, first, "proto,port,method,start,detected,peak,end,state,sources,expected,strength,excess,evidence\n")
	require.Equal(t, first, works(t, "surges", "--dsn", dsn, "--window", "all", "--format", "csv"), "the same data give the same surges")
	// The capture has none: its campaigns are slow. Where a million false alarms a month are welcome, there are some.
	more := works(t, "surges", "--dsn", dsn, "--window", "all", "--format", "csv", "--false-per-month", "1000000", "--min-sources", "2")
	require.Greater(t, len(more), len(first))
	require.Contains(t, works(t, "surges", "--dsn", dsn, "--window", "all", "--at", "2026-04-03T00:00:00Z"), "no surges from ")
	r = loader(t, "", "surges", "--dsn", dsn, "--window", "7d", "--at", "2020-01-01T00:00:00Z")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "the data is of 2026-04-01")
	works(t, "surges", "--dsn", dsn)
	require.Regexp(t, `^decided until 2026-07-31T\d\d:00:00Z already, with no surges from 2026-07-03T`, works(t, "surges", "--dsn", dsn))
	future := time.Now().UTC().AddDate(0, 7, 0).Format(time.DateOnly)
	r = loader(t, "", "surges", "--dsn", dsn, "--at", future)
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "--at: the hours would end in the future: "+future+"T00:00:00Z is ahead of the clock (")
	require.Contains(t, r.stderr, "and behind the newest event (2026-07-31T")
	r = loader(t, "", "surges", "--dsn", dsn, "--false-per-month", "inf")
	require.Contains(t, r.stderr, "must be above 0 and at most 1000000, not +Inf")
	r = loader(t, "", "surges", "--dsn", dsn, "--at", "2026-04-03T00:00:00Z", "--window", "all")
	require.Contains(t, r.stderr, "alarms begin at 2026-04-08T")
	for _, args := range [][]string{{"surges", "now"}, {"surges", "--window", "3y"}, {"surges", "--min-sources", "1"}, {"surges", "--false-per-month", "0"}} {
		require.Equal(t, exitUsage, loader(t, "", append(args, "--dsn", dsn)...).code, "%v", args)
	}
}

// A webhook is told of surges once, signed, as of campaigns.
func TestSurgesTellAWebhook(t *testing.T) {
	const secret = "a secret for the tests"
	key, err := notify.ParseSecret(secret)
	require.NoError(t, err)
	types := make(chan string, 1000)
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
	t.Setenv("MURMURATION_NOTIFY_SECRET", secret)
	dsn := newDSN(t)
	works(t, "load", demoCapture, "--dsn", dsn)
	sensitive := []string{"surges", "--dsn", dsn, "--window", "all", "--false-per-month", "1000000", "--min-sources", "2", "--format", "csv"}
	lines := strings.Split(works(t, sensitive...), "\n")
	require.Greater(t, len(lines), 2)
	detected, err := time.Parse(time.DateTime, strings.Split(lines[1], ",")[4])
	require.NoError(t, err)
	require.Empty(t, types)
	args := append(sensitive, "--at", detected.Add(time.Hour).Format(time.RFC3339), "--notify", hook.URL)
	works(t, args...)
	require.NotEmpty(t, types)
	require.Equal(t, "surge.began", <-types)
	for len(types) > 0 {
		require.Contains(t, <-types, "surge.")
	}
	works(t, args...)
	require.Empty(t, types, "nothing is told twice")
	require.Equal(t, exitUsage, loader(t, "", "surges", "--dsn", dsn, "--notify", "ftp://host").code)
}
