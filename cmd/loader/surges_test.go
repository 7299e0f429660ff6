package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSurges(t *testing.T) {
	dsn := newDSN(t)
	r := loader(t, "", "surges", "--dsn", dsn)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "nothing is loaded yet")
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
	r = loader(t, "", "surges", "--dsn", dsn, "--at", "2026-04-03T00:00:00Z", "--window", "all")
	require.Contains(t, r.stderr, "alarms begin at 2026-04-08T")
	for _, args := range [][]string{{"surges", "now"}, {"surges", "--window", "3y"}, {"surges", "--min-sources", "1"}, {"surges", "--false-per-month", "0"}} {
		require.Equal(t, exitUsage, loader(t, "", append(args, "--dsn", dsn)...).code, "%v", args)
	}
}
