package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
)

// What commands say is the same on one server and on a cluster, from the first load into a database that is not there yet.
func TestCommandsOnACluster(t *testing.T) {
	c := enginetest.StartCluster(t, "birds", 2, 1)
	address := fmt.Sprintf("clickhouse://%s:%s@%s/scan", c.User, c.Password, strings.Join(c.Addrs(), ","))
	one, cluster := []string{"--dsn", newDSN(t)}, []string{"--dsn", address, "--cluster", c.Name}
	for _, args := range [][]string{
		{"load", demoCapture, "--sensor", "demo", "--telescope", "198.18.32.0/20", "--batch", "20000"},
		{"load", demoCapture, "--sensor", "demo"},
		{"telescope", "add", "192.0.2.0/24"},
		{"telescope", "remove", "192.0.2.0/24"},
		{"telescope", "list", "--format", "csv"},
		{"detect", "--members"},
		{"surges", "--window", "all", "--format", "csv", "--false-per-month", "1000000", "--min-sources", "2"},
		{"query", "--format", "csv", "SELECT campaign, state, runs, sources, sources_ever, ports, coverage, evidence FROM campaigns_known ORDER BY campaign"},
		{"query", "--format", "csv", "SELECT name, sensor, records, events, rejects, state FROM load_history"},
		{"query", "--format", "csv", "recent_surges", "hours=100000"},
		{"query", "--format", "csv", "top_ports", "hours=4000", "at=2026-08-01"},
	} {
		want, got := works(t, append(args, one...)...), works(t, append(args, cluster...)...)
		if args[0] != "load" { // Its line ends in how long it took.
			assert.Equal(t, want, got, "%v", args)
			assert.True(t, want != "" || args[0] == "telescope", "%v says nothing", args)
		} else {
			w, _, _ := strings.Cut(want, " already loaded")
			assert.True(t, strings.HasPrefix(got, w), "%q is not %q", got, w)
		}
	}
	whole := works(t, append([]string{"backup", "evening"}, cluster...)...)
	assert.Contains(t, whole, "evening: 62,780 events in ")
	assert.Contains(t, whole, "tables of 2 shards, restored once to see that it is good")
	copied := []string{"--dsn", strings.TrimSuffix(address, "scan") + enginetest.Name(t), "--cluster", c.Name}
	assert.Contains(t, works(t, append([]string{"restore", "evening", "--from", "scan"}, copied...)...), "evening: restored 62,780 events in ")
	question := []string{"query", "--format", "csv", "top_ports", "hours=4000", "at=2026-08-01"}
	assert.Equal(t, works(t, append(question, cluster...)...), works(t, append(question, copied...)...))
	assert.Contains(t, works(t, append([]string{"load", demoCapture, "--sensor", "demo"}, copied...)...), "already loaded")
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--dsn", "embedded:" + t.TempDir(), "--cluster", "birds"}, exitUsage, "--cluster birds needs servers"},
		{[]string{"--dsn", address, "--cluster", "bird"}, exitFailed, "there are: birds"},
		{[]string{"--dsn", address}, exitFailed, "add --cluster birds"},
		{[]string{"--dsn", one[1], "--cluster", "birds"}, exitFailed, "knows no cluster"},
	} {
		r := loader(t, "", append([]string{"query", "SELECT 1"}, tc.args...)...)
		require.Equal(t, tc.code, r.code, r.stderr)
		require.Contains(t, r.stderr, tc.says)
		require.Equal(t, 1, strings.Count(strings.TrimSpace(r.stderr), "\n")+1, "one sentence, not\n%s", r.stderr)
	}
}
