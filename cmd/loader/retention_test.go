package main

import (
	"encoding/csv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRetention(t *testing.T) {
	dsn := newDSN(t)
	works(t, "load", demoCapture, "--dsn", dsn, "--sensor", "demo")
	show := func() map[string]map[string]string {
		out := map[string]map[string]string{}
		for _, r := range parseCSV(t, csv.NewReader(strings.NewReader(works(t, "retention", "--dsn", dsn, "--format", "csv")))) {
			out[r["tier"]] = r
		}
		return out
	}
	before := show()
	require.Equal(t, "forever", before["events"]["kept"], "nothing expires unless it is set: the demo is of April")
	require.Equal(t, "62780", before["events"]["rows"])
	require.Equal(t, "2026-04", before["events"]["oldest"])
	require.Equal(t, "180d", before["events"]["suggested"])

	r := loader(t, "", "retention", "set", "events=1d", "hours=2y", "--dsn", dsn)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "events=1d would drop 62,780 of the 62,780 rows of events")
	require.Equal(t, before, show())
	r = loader(t, "", "retention", "set", "days=10d", "--dsn", dsn)
	days := number(t, before["days"]["rows"])
	require.Contains(t, r.stderr, "days=10d would drop "+thousands(uint64(days))+" of the "+thousands(uint64(days))+" rows of days", "all that `retention` shows")
	works(t, "retention", "set", "events=50y", "hours=60y", "days=forever", "--dsn", dsn)
	after := show()
	require.Equal(t, []string{"50y", "60y", "forever"}, []string{after["events"]["kept"], after["hours"]["kept"], after["days"]["kept"]})
	require.NotEmpty(t, after["events"]["since"])
	require.Equal(t, "62780", after["events"]["rows"])
	works(t, "retention", "set", "events=1d", "--drop", "--dsn", dsn)
	require.Equal(t, "1d", show()["events"]["kept"])
	// What is set already, or more of it, drops nothing new, whether the rows are gone yet or not.
	works(t, "load", demoCapture, "--dsn", dsn, "--sensor", "demo")
	works(t, "retention", "set", "events=1d", "--dsn", dsn)
	works(t, "retention", "set", "events=2d", "--dsn", dsn)
	works(t, "retention", "set", "events=1d", "--drop", "--dsn", dsn)

	// An answer that may lack what was dropped says so, and one that does not read it does not.
	whole := []string{"hours=10000", "at=2026-08-01", "--dsn", dsn}
	note := "note: events of before " + time.Now().UTC().AddDate(0, 0, -1).Format("2006-01")
	r = loader(t, "", append([]string{"query", "sources", "port=80", "method="}, whole...)...)
	require.Zero(t, r.code)
	require.Contains(t, r.stderr, note)
	require.NotContains(t, r.stderr, "hours of before")
	require.Empty(t, loader(t, "", append([]string{"query", "top_sources"}, whole...)...).stderr)

	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"set"}, "retention set takes TIER=TIME"},
		{[]string{"set", "events"}, "is not TIER=TIME"},
		{[]string{"set", "events=90"}, "is not TIER=TIME"},
		{[]string{"set", "events=0d"}, "is not TIER=TIME"},
		{[]string{"set", "events=90d", "events=80d"}, "events is given twice"},
		{[]string{"set", "weeks=90d"}, "there are events, footprints, hours, days"},
		{[]string{"set", "events=3y", "hours=2y", "--drop", "--dsn", dsn}, "may not be kept for longer than the rollup"},
		{[]string{"set", "hours=2y", "days=2y", "--drop", "--dsn", dsn}, "footprints would be kept for ever and days for 730 days: what sources touched is of no use without the days"},
		{[]string{"shw"}, `retention has no "shw"`},
	} {
		r := loader(t, "", append([]string{"retention"}, tc.args...)...)
		require.Equal(t, exitUsage, r.code, "%v: %s", tc.args, r.stderr)
		require.Contains(t, r.stderr, tc.says)
	}
}
