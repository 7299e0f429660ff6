package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// captures loads the demo's captures: the telescope's, and the honeypot's, whose scanners made HTTP requests.
func captures(t *testing.T) (dsn string) {
	t.Helper()
	dsn = newDSN(t)
	works(t, "load", demoCapture, "--dsn", dsn, "--sensor", "demo")
	works(t, "load", filepath.Join("..", "..", "demo", "honeypot.pcap.zst"), "--dsn", dsn, "--sensor", "honeypot")
	works(t, "telescope", "add", "198.18.32.0/21", "--sensor", "demo", "--dsn", dsn)
	works(t, "telescope", "add", "198.18.40.0/21", "--sensor", "demo", "--since", "2026-04-10T03:30:00Z", "--dsn", dsn)
	works(t, "telescope", "add", "198.19.0.16/28", "--sensor", "honeypot", "--dsn", dsn)
	works(t, "detect", "--dsn", dsn)
	return dsn
}

const (
	probes  = "kind IN ('scan', 'request')"
	inRange = "startsWith(toString(dst), '::ffff:198.18.33.') AND toUInt8(splitByChar('.', toString(dst))[4]) BETWEEN 16 AND 31"
	// The telescopes that captures registers.
	telescope1 = "dst >= toIPv6('198.18.32.0') AND dst <= toIPv6('198.18.39.255') AND sensor = 'demo'"
	telescope2 = "dst >= toIPv6('198.18.40.0') AND dst <= toIPv6('198.18.47.255') AND sensor = 'demo' AND ts >= '2026-04-10 03:30:00'"
	telescope3 = "dst >= toIPv6('198.19.0.16') AND dst <= toIPv6('198.19.0.31') AND sensor = 'honeypot'"
)

// waits is the naive answer to first_scans.
func waits() string {
	part := func(prefix, sensor, born, where string) string {
		return fmt.Sprintf(`SELECT '%s' AS prefix, '%s' AS sensor, dst AS target, %s AS born, toDateTime(min(ts), 'UTC') AS first_scan, toUInt64(toUnixTimestamp(first_scan) - toUnixTimestamp(born)) AS seconds
			FROM events WHERE %s AND %s GROUP BY dst`, prefix, sensor, born, where, probes)
	}
	first := func(where string) string {
		return "(SELECT toDateTime(min(ts), 'UTC') FROM events WHERE " + where + " AND " + probes + ")"
	}
	return strings.Join([]string{
		part("198.18.32.0/21", "demo", first(telescope1), telescope1),
		part("198.18.40.0/21", "demo", "toDateTime('2026-04-10 03:30:00', 'UTC')", telescope2),
		part("198.19.0.16/28", "honeypot", first(telescope3), telescope3),
	}, " UNION ALL ")
}

// looksFor is the naive answer to what_for and campaign_targets: what probes and requests that where admits looked for. Forms of
// paths have a test of their own.
func looksFor(where string) string {
	return `SELECT what, name, m AS method, uniqExact(src) AS sources, uniqExact(dst) AS targets, count() AS events FROM
		(
			SELECT src, dst, 'port' AS what, if(proto = 'tcp', toString(dport), if(dport = 0, toString(proto), toString(dport) || '/' || toString(proto))) AS name, '' AS m
			FROM events WHERE ` + probes + ` AND ` + where + `
			UNION ALL
			SELECT src, dst, 'path', (SELECT groupArray((path, form)) FROM path_forms AS f).2[indexOf((SELECT groupArray((path, form)) FROM path_forms AS f).1, path)], method
			FROM events WHERE kind = 'request' AND method != '' AND ` + where + `
		) GROUP BY what, name, m`
}

// Every question answers what the events of real captures say.
func TestQuestionsEqualRealEvents(t *testing.T) {
	dsn := captures(t)
	const day = "'2026-04-24'"
	const (
		at, length = "at=2026-06-10 10:30:00", "hours=1224"
		window     = "ts >= '2026-04-20 10:30:00' AND ts < '2026-06-10 10:30:00'"
		wholeDays  = "toDate(ts) >= '2026-04-20' AND toDate(ts) <= '2026-06-10'"
	)
	const universe = "(dst >= toIPv6('198.18.32.0') AND dst <= toIPv6('198.18.47.255') OR " + telescope3 + ")"
	campaign := strings.TrimSpace(strings.Split(works(t, "query", "--dsn", dsn, "--format", "csv", "SELECT campaign FROM campaigns_latest ORDER BY sources DESC, campaign LIMIT 1"), "\n")[1])
	for _, q := range []struct {
		name, columns string
		params        []string
		naive         string
	}{
		{"new_ports", "transport, port, sources, targets, events", []string{"days=7", "at=2026-04-24 12:00:00"},
			`SELECT toString(proto) AS transport, dport AS port, uniqExact(src) AS sources, uniqExact(dst) AS targets, count() AS events FROM events
			WHERE ` + probes + ` AND toDate(ts) = ` + day + ` AND (proto, dport) NOT IN (SELECT proto, dport FROM events WHERE ` + probes + ` AND toDate(ts) >= toDate(` + day + `) - 7 AND toDate(ts) < ` + day + `)
			GROUP BY transport, port`},
		{"prefix_hours", "*", []string{"prefix=198.18.33.16/28", length, at},
			"SELECT dst AS target, toStartOfHour(ts) AS hour, uniqExact(src) AS sources, uniqExact(proto, dport) AS ports, count() AS events FROM events WHERE " + inRange + " AND " + window + " AND " + probes + " GROUP BY dst, hour"},
		{"shared_sources", "*", []string{"prefix=198.18.33.16/28", length, at},
			`WITH touches AS (SELECT DISTINCT dst, src FROM events WHERE ` + inRange + ` AND ` + window + ` AND ` + probes + `)
			SELECT a.dst AS target, b.dst AS other, uniqExact(a.src) AS sources, uniqExact(b.src) AS other_sources, uniqExactIf(a.src, a.src = b.src) AS shared, shared / (sources + other_sources - shared) AS share
			FROM touches AS a CROSS JOIN touches AS b WHERE a.dst < b.dst GROUP BY a.dst, b.dst`},
		{"first_scans", "*", nil, waits()},
		{"telescope_waits", "*", nil, `SELECT prefix, sensor, born, bitShiftLeft(toUInt64(1), 32 - toUInt8(splitByChar('/', prefix)[2])) AS addresses, count() AS scanned,
			arraySort(groupArray(seconds))[toUInt64(ceil(0.5 * count()))] AS median, arraySort(groupArray(seconds))[toUInt64(ceil(0.9 * count()))] AS percentile90, max(seconds) AS longest
			FROM (` + waits() + `) GROUP BY prefix, sensor, born`},
		{"dispersion", "sources, addresses, touched, median, percentile90, round(mean, 9) AS mean, round(variance, 9) AS variance, round(dispersion, 9) AS dispersion", []string{"port=23", length, at},
			`WITH (SELECT arrayConcat(groupArray(n), arrayWithConstant(4112 - count(), toUInt64(0))) FROM (SELECT uniqExact(src) AS n FROM events WHERE dport = 23 AND ` + probes + ` AND ` + window + ` AND ` + universe + ` GROUP BY dst)) AS counts
			SELECT (SELECT uniqExact(src) FROM events WHERE dport = 23 AND ` + probes + ` AND ` + window + ` AND ` + universe + `) AS sources, length(counts) AS addresses, length(arrayFilter(c -> c > 0, counts)) AS touched,
				arraySort(counts)[2056] AS median, arraySort(counts)[3701] AS percentile90, round(arrayAvg(counts), 9) AS mean, round(arrayAvg(c -> pow(c - arrayAvg(counts), 2), counts), 9) AS variance,
				round(arrayAvg(c -> pow(c - arrayAvg(counts), 2), counts) / arrayAvg(counts), 9) AS dispersion`},
		{"source_sizes", "*", []string{length, at}, `SELECT tupleElement(pair, 1) AS what, count() AS sources, arraySort(groupArray(pair.2))[toUInt64(ceil(0.5 * count()))] AS median, arraySort(groupArray(pair.2))[toUInt64(ceil(0.9 * count()))] AS percentile90, arraySort(groupArray(pair.2))[toUInt64(ceil(0.99 * count()))] AS percentile99,
				max(pair.2) AS most, avg(pair.2) AS mean
			FROM (SELECT arrayJoin([('events', count()), ('targets', uniqExact(dst)), ('ports', uniqExact(dport))]) AS pair FROM events WHERE ` + probes + ` AND ` + wholeDays + ` GROUP BY src) GROUP BY what`},
		{"load_history", "input, events", nil, "SELECT input, count() AS events FROM events GROUP BY input"},
		{"load_history", "input, rejects", nil, "SELECT input, sum(records) AS rejects FROM rejects GROUP BY input UNION ALL SELECT input, 0 FROM loads WHERE empty(rejected)"},
		{"normal_paths", "method, form, paths, sources, targets, requests", []string{length, at},
			"SELECT method, form, uniqExact(e.path) AS paths, uniqExact(src) AS sources, uniqExact(dst) AS targets, count() AS requests FROM events AS e INNER JOIN path_forms AS f ON f.path = e.path WHERE kind = 'request' AND method != '' AND " + wholeDays + " GROUP BY method, form"},
		{"what_for", "what, name, method, sources, targets, events", []string{"network=::/0", length, at}, looksFor(wholeDays)},
		{"what_for", "what, name, method, sources, targets, events", []string{"network=100.64.0.0/12", length, at}, looksFor(wholeDays + " AND src >= toIPv6('100.64.0.0') AND src <= toIPv6('100.79.255.255')")},
		{"campaign_targets", "what, name, method, sources, targets, events", []string{"campaign=" + campaign},
			looksFor("src IN (SELECT src FROM campaign_sources_latest WHERE campaign = '" + campaign + "') AND toDate(ts) >= (SELECT toDate(first_seen) FROM campaigns_latest WHERE campaign = '" + campaign + "') AND toDate(ts) <= (SELECT toDate(last_seen) FROM campaigns_latest WHERE campaign = '" + campaign + "')")},
	} {
		t.Run(q.name, func(t *testing.T) {
			got := lines(works(t, "query", "--dsn", dsn, "--format", "csv", "SELECT "+q.columns+" FROM "+written(q.name, q.params)))
			want := lines(works(t, "query", "--dsn", dsn, "--format", "csv", q.naive))
			require.Greater(t, len(want), 1, "the events answer with nothing: the test is worth nothing")
			require.Equal(t, want[:min(len(want), 5)], got[:min(len(got), 5)])
			require.Equal(t, want, got)
		})
	}
}

// written is the call of a question's view.
func written(name string, params []string) string {
	var args []string
	for _, p := range params {
		k, v, _ := strings.Cut(p, "=")
		args = append(args, k+" = '"+v+"'")
		if k == "at" {
			name += "_at"
		}
	}
	if len(args) == 0 {
		return name
	}
	return name + "(" + strings.Join(args, ", ") + ")"
}

// lines are the lines of a text, the first left where it is and the others sorted.
func lines(text string) []string {
	out := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	slices.Sort(out[1:])
	return out
}
