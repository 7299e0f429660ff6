package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// held is a question, the naive answer to it with {since}, {until} and the like for the time, and what of it is approximate.
type held struct {
	name, params string
	key, exact   string // columns that tell rows apart, and further columns that must be equal
	naive        string
	limit        int     // sources are exact up to so many
	err          float64 // and then have this standard error; 0: they are exact, and among the exact columns
}

const (
	inTime  = probes + " AND ts >= '{since}' AND ts < '{until}'"
	inHours = probes + " AND ts >= toStartOfHour(toDateTime64('{since}', 6, 'UTC')) AND ts < '{until_hour}'"
	inDays  = "ts >= toStartOfDay(toDateTime64('{since}', 6, 'UTC')) AND ts < '{until_day}'"
	// Up to a week whole hours, beyond it whole days.
	inHoursOrDays = "if({hours} <= 168, " + inHours + ", " + probes + " AND " + inDays + ")"
)

// heldByTime are the questions about a time, with what the events say.
var heldByTime = []held{
	{"sources", "port = 23, method = '', ", "1", "events, packets", "SELECT 1, uniqExact(src) AS sources, count() AS events, sum(e.packets) AS packets FROM events AS e WHERE dport = 23 AND " + inTime, 4096, 0.0029},
	{"sources", "port = 80, method = 'get', ", "1", "events, packets", "SELECT 1, uniqExact(src) AS sources, count() AS events, sum(e.packets) AS packets FROM events AS e WHERE dport = 80 AND method = 'GET' AND " + inTime, 4096, 0.0029},
	{"source_list", "port = 80, method = '', ", "src", "events, packets, targets, first_seen, last_seen, tool, user_agent", "SELECT src, count() AS events, sum(e.packets) AS packets, uniqExact(dst) AS targets, min(ts) AS first_seen, max(ts) AS last_seen, max(e.tool) AS tool, max(e.user_agent) AS user_agent FROM events AS e WHERE dport = 80 AND " + inTime + " GROUP BY src", 0, 0},
	{"port_history", "port = 22, method = '', ", "hour", "targets, events, packets", "SELECT toStartOfHour(ts) AS hour, uniqExact(src) AS sources, uniqExact(dst) AS targets, count() AS events, sum(e.packets) AS packets FROM events AS e WHERE dport = 22 AND " + inHours + " GROUP BY hour", 128, 0.016},
	{"top_ports", "", "proto, dport", "targets, events, packets", "SELECT proto, dport, uniqExact(src) AS sources, uniqExact(dst) AS targets, count() AS events, sum(e.packets) AS packets FROM events AS e WHERE " + inHoursOrDays + " AND dport IN (SELECT dport FROM events WHERE " + inHoursOrDays + " GROUP BY dport ORDER BY count() DESC, dport LIMIT 32) GROUP BY proto, dport", 128, 0.016},
	{"top_sources", "", "src", "events, packets, targets, ports, first_seen, last_seen", "SELECT src, count() AS events, sum(e.packets) AS packets, uniqExact(dst) AS targets, uniqExact(dport) AS ports, toDateTime(min(ts), 'UTC') AS first_seen, toDateTime(max(ts), 'UTC') AS last_seen FROM events AS e WHERE " + probes + " AND " + inDays + " GROUP BY src ORDER BY events DESC, src LIMIT 1000", 0, 0},
	{"top_networks", "", "network", "sources, events, packets", "SELECT concat(arrayStringConcat(arraySlice(splitByChar('.', replaceOne(toString(src), '::ffff:', '')), 1, 3), '.'), '.0/24') AS network, uniqExact(src) AS sources, count() AS events, sum(e.packets) AS packets FROM events AS e WHERE " + probes + " AND " + inDays + " GROUP BY network", 0, 0},
	{"victims", "", "victim", "packets, events, targets, first_seen, last_seen", "SELECT src AS victim, sum(e.packets) AS packets, count() AS events, uniqExact(dst) AS targets, toDateTime(min(ts), 'UTC') AS first_seen, toDateTime(max(ts), 'UTC') AS last_seen FROM events AS e WHERE kind = 'backscatter' AND " + inDays + " GROUP BY victim ORDER BY packets DESC, victim LIMIT 100", 0, 0},
	{"http_paths", "", "method, path", "targets, requests", "SELECT method, path, uniqExact(src) AS sources, uniqExact(dst) AS targets, count() AS requests FROM events WHERE kind = 'request' AND method != '' AND " + inDays + " GROUP BY method, path", 512, 0.008},
	{"target_sources", "prefix = '198.18.33.16/28', ", "target", "sources, ports, events, first_seen, last_seen", "SELECT dst AS target, uniqExact(src) AS sources, uniqExact(proto, dport) AS ports, count() AS events, min(ts) AS first_seen, max(ts) AS last_seen FROM events WHERE " + inRange + " AND " + inTime + " GROUP BY target", 0, 0},
	{"source_sizes", "", "what", "sources, median, percentile90, percentile99, most, mean", `SELECT tupleElement(pair, 1) AS what, count() AS sources, arraySort(groupArray(pair.2))[toUInt64(ceil(0.5 * count()))] AS median, arraySort(groupArray(pair.2))[toUInt64(ceil(0.9 * count()))] AS percentile90, arraySort(groupArray(pair.2))[toUInt64(ceil(0.99 * count()))] AS percentile99, max(pair.2) AS most, avg(pair.2) AS mean
		FROM (SELECT arrayJoin([('events', count()), ('targets', uniqExact(dst)), ('ports', uniqExact(dport))]) AS pair FROM events WHERE ` + probes + ` AND ` + inDays + ` GROUP BY src) GROUP BY what`, 0, 0},
	{"dispersion", "port = 23, ", "1", "sources, touched", "SELECT 1, uniqExact(src) AS sources, uniqExact(dst) AS touched FROM events WHERE dport = 23 AND " + inTime, 0, 0},
}

// Every question about a time equals the events of real captures row by row, whether the time begins and ends on the day, in the middle of a
// day, or of an hour; what is approximate is exact as far as it says, and then within four of its standard errors.
func TestQuestionsEqualRealEventsInEveryWindow(t *testing.T) {
	dsn := newDSN(t)
	works(t, "load", sample(t, "telescope.pcap.zst"), "--dsn", dsn, "--sensor", "telescope")
	works(t, "load", sample(t, "honeypot.pcap.zst"), "--dsn", dsn, "--sensor", "honeypot")
	ask := func(sql string) []string { return lines(works(t, "query", "--dsn", dsn, "--format", "csv", sql)) }
	answered := map[string]int{}
	for _, w := range []struct {
		at    string
		hours int
	}{
		{"2026-06-10 10:30:17.250001", 1224},
		{"2026-05-17 00:00:00", 24},
		{"2026-06-10 10:00:00", 2},
		{"2026-06-10 10:30:00", 1},
		{"2026-05-20 10:30:00", 168},
		{"2026-05-20 10:30:00", 169},
		{"2026-08-01 00:00:00", 2928},
		{"2026-05-11 00:00:00", 240}, // one dekad
		{"2026-06-21 12:00:00", 745},
		{"2027-01-01 00:00:00", 1},
	} {
		until, err := time.Parse("2006-01-02 15:04:05", w.at)
		require.NoError(t, err)
		const micro = "2006-01-02 15:04:05.000000"
		fill := strings.NewReplacer("{hours}", fmt.Sprint(w.hours), "{since}", until.Add(-time.Duration(w.hours)*time.Hour).Format(micro), "{until}", until.Format(micro),
			"{until_hour}", until.Add(time.Hour-time.Microsecond).Truncate(time.Hour).Format(micro),
			"{until_day}", until.Add(24*time.Hour-time.Microsecond).Truncate(24*time.Hour).Format(micro))
		for _, h := range heldByTime {
			question := fmt.Sprintf("%s_at(%shours = %d, at = '%s')", h.name, h.params, w.hours, w.at)
			naive := fill.Replace(h.naive)
			columns := h.key + ", " + h.exact
			want := ask("SELECT " + columns + " FROM (" + naive + ")")
			require.Equal(t, want, ask("SELECT "+columns+" FROM "+question), question)
			answered[h.name] += len(want) - 1
			if h.err > 0 {
				on := "USING (" + h.key + ")"
				if h.key == "1" {
					on = "ON 1 = 1"
				}
				off := ask(fmt.Sprintf("SELECT q.sources, n.sources FROM %s AS q INNER JOIN (%s) AS n %s WHERE abs(toInt64(q.sources) - toInt64(n.sources)) > if(n.sources <= %d, 0, 4 * %v * n.sources)",
					question, naive, on, h.limit, h.err))
				require.Len(t, off, 1, "%s: %v", question, off)
			}
		}
	}
	for _, h := range heldByTime {
		require.Positive(t, answered[h.name], "%s answered nothing in any window", h.name)
	}
}

// A port is new or not whatever dekads, months and days the past before it is made of.
func TestNewPortsOverEverySpan(t *testing.T) {
	dsn := newDSN(t)
	works(t, "load", sample(t, "telescope.pcap.zst"), "--dsn", dsn, "--sensor", "telescope")
	ask := func(sql string) []string { return lines(works(t, "query", "--dsn", dsn, "--format", "csv", sql)) }
	answered := 0
	for _, today := range []string{"2026-04-24", "2026-05-01", "2026-05-11", "2026-05-12", "2026-06-01", "2026-06-21"} {
		for _, days := range []int{0, 1, 9, 10, 11, 28, 31, 45} {
			want := ask(fmt.Sprintf(`SELECT toString(proto) AS transport, dport AS port, uniqExact(src) AS sources, uniqExact(dst) AS targets, count() AS events FROM events
				WHERE %[1]s AND toDate(ts) <= toDate('%[2]s') AND toDate(ts) >= toDate('%[2]s') - %[3]d GROUP BY transport, port HAVING min(toDate(ts)) = toDate('%[2]s')`, probes, today, days))
			question := fmt.Sprintf("new_ports_at(days = %d, at = '%s 12:00:00')", days, today)
			require.Equal(t, want, ask("SELECT transport, port, sources, targets, events FROM "+question), question)
			answered += len(want) - 1
		}
	}
	require.Positive(t, answered)
}
