package main

import (
	"encoding/csv"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
)

// Generated traffic fills every rollup, is the same for the same seed, is there once however often it is asked for, and the standard
// questions can be asked of it.
func TestBench(t *testing.T) {
	dsn, database := newDSN(t), enginetest.Name(t)
	data := []string{"bench", "data", "--dsn", dsn, "--database", database, "--events", "30000", "--days", "20"}
	require.Contains(t, works(t, data...), "30,000 events in database "+database+": 30,000 new")
	digest := func(db string) string {
		return works(t, "query", "--dsn", dsn, "--format", "csv", "SELECT count(), sum(cityHash64(*)) FROM (SELECT * EXCEPT (input) FROM "+db+".events)")
	}
	first := digest(database)
	require.Contains(t, works(t, data...), ": 0 new")
	require.Equal(t, first, digest(database))
	other := enginetest.Name(t)
	works(t, "bench", "data", "--dsn", dsn, "--database", other, "--events", "30000", "--days", "20", "--seed", "2")
	require.NotEqual(t, first, digest(other))

	out := works(t, "bench", "questions", "--dsn", dsn, "--database", database, "--days", "20", "--repeat", "1", "--repeat-raw", "1", "--format", "csv")
	rows := parseCSV(t, csv.NewReader(strings.NewReader(out)))
	require.Greater(t, len(rows), 5)
	for _, r := range rows {
		require.NotEqual(t, "0", r["rows"], r["question"])
		require.NotEqual(t, "0", r["rows_read"], r["question"])
	}
	sizes := parseCSV(t, csv.NewReader(strings.NewReader(works(t, "bench", "bytes", "--dsn", dsn, "--database", database, "--format", "csv"))))
	tables := map[string]string{}
	for _, r := range sizes {
		tables[r["table"]] = r["rows"]
	}
	require.Equal(t, "30000", tables["events"])
	for _, name := range []string{"port_hours", "port_days", "source_days", "target_days", "path_days", "footprints", "demand_by_hour", "demand_by_day", "demand_by_dekad", "ports_by_hour", "ports_by_day", "ports_by_dekad", "victim_days", "victim_dekads", "sensor_days"} {
		require.NotEmpty(t, tables[name], "%s has no rows", name)
	}
	// What it looks like: the rhythm of the day, a fifth of the probes on ports of no name, sources with a heavy tail, one tool a source.
	shape := strings.Split(lines(works(t, "query", "--dsn", dsn, "--format", "csv", `SELECT
			(SELECT max(n) / min(n) FROM (SELECT count() AS n FROM `+database+`.events GROUP BY toHour(ts))) AS rhythm,
			(SELECT countIf(n < 20) / count() FROM (SELECT dport, count() OVER (PARTITION BY dport) AS n FROM `+database+`.events WHERE kind = 'scan')) AS rare,
			(SELECT max(n) / avg(n) FROM (SELECT count() AS n FROM `+database+`.events GROUP BY src)) AS tail,
			(SELECT countIf(n = 1) / count() FROM (SELECT uniqExact(tool) AS n FROM `+database+`.events WHERE technique = 'syn' GROUP BY src)) AS tools,
			(SELECT uniqExact(dst) FROM `+database+`.events) > 1000 AS targets`))[1], ",")
	require.Greater(t, number(t, shape[0]), 1.5)
	require.InDelta(t, 0.2, number(t, shape[1]), 0.08)
	require.Greater(t, number(t, shape[2]), 20.0)
	require.Greater(t, number(t, shape[3]), 0.99, "two sources may have one address, seldom")
	require.Equal(t, "1", shape[4])
}

func number(t *testing.T, s string) float64 {
	t.Helper()
	x, err := strconv.ParseFloat(s, 64)
	require.NoError(t, err)
	return x
}

// Generated traffic of other flags is not mixed in unless that is meant, also where it was interrupted, and what is printed is what is there.
func TestBenchKeepsApartFromOtherTraffic(t *testing.T) {
	dsn, database := newDSN(t), enginetest.Name(t)
	data := func(args ...string) []string {
		return append([]string{"bench", "data", "--dsn", dsn, "--database", database, "--days", "2"}, args...)
	}
	refuses := func(says string, args ...string) {
		t.Helper()
		r := loader(t, "", data(args...)...)
		require.Equal(t, exitFailed, r.code, r.stdout)
		require.Contains(t, r.stderr, says)
		require.Contains(t, r.stderr, "say --mix")
	}
	works(t, data("--events", "1000")...)
	require.Contains(t, works(t, data("--events", "2000")...), "3,000 events in database "+database+": 2,000 new")
	refuses("the database holds traffic that was generated otherwise: "+database+" is of 2 days until 2026-07-01 13:37:11, seed 1, and asked for is 2 days until 2026-07-01 13:37:11, seed 2", "--events", "1000", "--seed", "2")
	refuses("and asked for is 3 days until", "--events", "1000", "--days", "3")
	refuses("asked for is 2 days until 2026-06-01 00:00:00, seed 1", "--events", "1000", "--until", "2026-06-01")
	require.Contains(t, works(t, data("--events", "1000", "--seed", "2", "--mix")...), "4,000 events in database "+database+": 1,000 new")

	// One that was interrupted has batches in the ledger and no load. The same flags go on with it.
	enginetest.Exec(t, "DROP DATABASE "+database+" SYNC")
	works(t, data("--events", "1000")...)
	enginetest.Exec(t, "TRUNCATE TABLE "+database+".loads_log")
	refuses("in "+database+" a generation with other flags was interrupted", "--events", "1000", "--seed", "2")
	require.Contains(t, works(t, data("--events", "1000")...), "1,000 events in database "+database+": 0 new")
}

// What only reads makes no database, and the server's own are no place for traffic.
func TestBenchReadsWhatIsThere(t *testing.T) {
	dsn, database := newDSN(t), enginetest.Name(t)
	works(t, "bench", "data", "--dsn", dsn, "--database", database, "--events", "1000", "--days", "2")
	for _, command := range []string{"bytes", "questions"} {
		r := loader(t, "", "bench", command, "--dsn", dsn, "--database", database+"x")
		require.Equal(t, exitFailed, r.code, command)
		require.Contains(t, r.stderr, `there is no database "`+database+`x", did you mean "`, command)
	}
	require.NotContains(t, works(t, "query", "--dsn", dsn, "SELECT name FROM system.databases"), database+"x")
	for name, says := range map[string]string{"": "--database takes a name", "system": "--database system: that is the server's own", "INFORMATION_SCHEMA": "the server's own", "default": "the server's own"} {
		for _, command := range []string{"data", "bytes", "questions"} {
			r := loader(t, "", "bench", command, "--dsn", dsn, "--database", name)
			require.Equal(t, exitUsage, r.code, "%s %s: %s", command, name, r.stderr)
			require.Contains(t, r.stderr, says)
		}
	}
}

func TestBenchKeepsApartFromLoads(t *testing.T) {
	dsn := newDSN(t)
	database := dsn[strings.LastIndex(dsn, "/")+1:]
	works(t, "load", demoCapture, "--dsn", dsn, "--sensor", "demo")
	data := []string{"bench", "data", "--dsn", dsn, "--database", database, "--events", "1000", "--days", "2"}
	r := loader(t, "", data...)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "the database holds loads")
	require.Contains(t, r.stderr, "--mix")
	works(t, append(data, "--mix")...)
	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"bench", "date"}, `bench has no "date"`},
		{[]string{"bench", "data", "--evnts", "3"}, `loader bench data has no flag --evnts, did you mean "events"?; see loader bench data --help`},
		{[]string{"bench", "data", "--events", "0"}, "--events takes"},
		{[]string{"bench", "data", "--days", "0"}, "--days takes"},
		{[]string{"bench", "data", "--days", "3000", "--until", "1971-01-01"}, "1970"},
		{[]string{"bench", "questions", "--repeat", "0"}, "--repeat takes"},
		{[]string{"bench", "questions", "--dsn", dsn, "--database", database, "--question", "top_prts"}, `did you mean "top_ports"`},
	} {
		r := loader(t, "", tc.args...)
		require.Equal(t, exitUsage, r.code, "%v: %s", tc.args, r.stderr)
		require.Contains(t, r.stderr, tc.says, "%v", tc.args)
	}
}

func TestFillingSaysHowFarItIs(t *testing.T) {
	f := newFilling(&strings.Builder{})
	f.show(1_000_000, 5_000_000)
	f.show(3_000_000, 5_000_000)
	f.show(2_000_000, 5_000_000)
	require.Equal(t, "3,000,000 of 5,000,000 events, 60 %, 100,000 events/s, 20s left", f.line(20*time.Second))
}

// BenchmarkQuestions asks the standard questions of a million generated events and, in the same run, the events themselves.
func BenchmarkQuestions(b *testing.B) {
	dsn, database := newDSN(b), enginetest.Name(b)
	works(b, "bench", "data", "--dsn", dsn, "--database", database)
	for b.Loop() {
		b.Log("\n" + works(b, "bench", "questions", "--dsn", dsn, "--database", database, "--repeat", "3", "--repeat-raw", "1"))
	}
	b.Log("\n" + works(b, "bench", "bytes", "--dsn", dsn, "--database", database))
}
