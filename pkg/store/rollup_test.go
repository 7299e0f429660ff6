package store

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// demanded are probes and requests, those with a method a second time under it.
const demanded = "(SELECT *, '' AS m FROM events WHERE kind IN ('scan', 'request') UNION ALL SELECT *, method AS m FROM events WHERE kind IN ('scan', 'request') AND method != '')"

// naive says what each view must be, straight from the events.
var naive = map[string]string{
	"port_hours": `SELECT toStartOfHour(ts) AS hour, proto, dport, sensor, kind, technique, tool, method, count() AS events, sum(e.packets) AS packets,
		uniqExact(src) AS sources, uniqExact(dst) AS targets FROM events AS e GROUP BY hour, proto, dport, sensor, kind, technique, tool, method`,
	"port_days": `SELECT toDate(ts) AS day, proto, dport, sensor, kind, technique, tool, method, count() AS events, sum(e.packets) AS packets,
		uniqExact(src) AS sources, uniqExact(dst) AS targets FROM events AS e GROUP BY day, proto, dport, sensor, kind, technique, tool, method`,
	"target_days": `SELECT toDate(ts) AS day, dst, sensor, kind, count() AS events, sum(e.packets) AS packets, toDateTime(min(ts), 'UTC') AS first_seen
		FROM events AS e GROUP BY day, dst, sensor, kind`,
	"path_days": `SELECT toDate(ts) AS day, method, path, count() AS events, uniqExact(src) AS sources, uniqExact(dst) AS targets
		FROM events WHERE kind = 'request' AND method != '' GROUP BY day, method, path`,
	"footprints": `SELECT toDate(ts) AS day, src, proto, dport, dst, sensor, if(kind = 'request' AND method != '', concat(method, ' ', path), '') AS object,
		count() AS events, toDateTime(min(ts), 'UTC') AS first_seen, toDateTime(max(ts), 'UTC') AS last_seen
		FROM events WHERE kind IN ('scan', 'request') GROUP BY day, src, proto, dport, dst, sensor, object`,
	"demand_by_hour": `SELECT toStartOfHour(ts) AS hour, proto, dport, m AS method, count() AS events, sum(e.packets) AS packets, uniqExact(src) AS sources, uniqExact(dst) AS targets
		FROM ` + demanded + ` AS e GROUP BY hour, proto, dport, m`,
	"demand_by_day": `SELECT toDate(ts) AS day, proto, dport, m AS method, count() AS events, sum(e.packets) AS packets, uniqExact(src) AS sources, uniqExact(dst) AS targets
		FROM ` + demanded + ` AS e GROUP BY day, proto, dport, m`,
	"demand_by_dekad": `SELECT toStartOfMonth(ts) + multiIf(toDayOfMonth(ts) <= 10, 0, toDayOfMonth(ts) <= 20, 10, 20) AS dekad, proto, dport, m AS method, count() AS events, sum(e.packets) AS packets,
		uniqExact(src) AS sources, uniqExact(dst) AS targets FROM ` + demanded + ` AS e GROUP BY dekad, proto, dport, m`,
	"ports_by_hour":  `SELECT toStartOfHour(ts) AS hour, proto, dport, count() AS events FROM events WHERE kind IN ('scan', 'request') GROUP BY hour, proto, dport`,
	"ports_by_day":   `SELECT toDate(ts) AS day, proto, dport, count() AS events FROM events WHERE kind IN ('scan', 'request') GROUP BY day, proto, dport`,
	"ports_by_dekad": `SELECT toStartOfMonth(ts) + multiIf(toDayOfMonth(ts) <= 10, 0, toDayOfMonth(ts) <= 20, 10, 20) AS dekad, proto, dport, count() AS events FROM events WHERE kind IN ('scan', 'request') GROUP BY dekad, proto, dport`,
	"victim_days": `SELECT toDate(ts) AS day, src, count() AS events, sum(e.packets) AS packets, toDateTime(min(ts), 'UTC') AS first_seen, toDateTime(max(ts), 'UTC') AS last_seen, uniqExact(dst) AS targets
		FROM events AS e WHERE kind = 'backscatter' GROUP BY day, src`,
	"victim_dekads": `SELECT toStartOfMonth(ts) + multiIf(toDayOfMonth(ts) <= 10, 0, toDayOfMonth(ts) <= 20, 10, 20) AS dekad, src, count() AS events, sum(e.packets) AS packets,
		toDateTime(min(ts), 'UTC') AS first_seen, toDateTime(max(ts), 'UTC') AS last_seen, uniqExact(dst) AS targets FROM events AS e WHERE kind = 'backscatter' GROUP BY dekad, src`,
	"sensor_days": `SELECT toDate(ts) AS day, sensor, kind, count() AS events, sum(e.packets) AS packets, toDateTime(min(ts), 'UTC') AS first_seen, uniqExact(dst) AS targets
		FROM events AS e GROUP BY day, sensor, kind`,
	"source_days_counts": `SELECT toDate(ts) AS day, sensor, src, count() AS events, sum(e.packets) AS packets, countIf(kind = 'request') AS requests,
		countIf(kind = 'backscatter') AS backscatter, countIf(kind = 'other') AS other, toDateTime(min(ts), 'UTC') AS first_seen, toDateTime(max(ts), 'UTC') AS last_seen,
		uniqExactIf(dst, kind IN ('scan', 'request')) AS targets, uniqExactIf(dport, kind IN ('scan', 'request')) AS ports, countIf(technique = 'syn') AS syns,
		countIf(kind = 'scan') AS probes FROM events AS e GROUP BY day, sensor, src`,
}

const sourceDaysCounts = "(SELECT day, sensor, src, events, packets, requests, backscatter, other, first_seen, last_seen, targets, ports, syns, probes FROM source_days)"

// After any batches every rollup says what the events say, whatever was merged meanwhile.
func TestRollupsEqualEvents(t *testing.T) { rollupsEqualEventsOn(t, open(t)) }

func rollupsEqualEventsOn(t *testing.T, s *Store) {
	t.Helper()
	for round := range uint64(4) {
		g := newTraffic(round)
		require.NoError(t, s.InsertEvents(t.Context(), g.batch(100+g.rnd.IntN(3000)), round, "round "+string(rune('a'+round))))
		if round%2 == 1 {
			for _, name := range rollups() {
				require.NoError(t, s.ddl(t.Context(), "OPTIMIZE TABLE "+name+"_state FINAL"))
			}
		}
		for name, want := range naive {
			view := name
			if name == "source_days_counts" {
				view = sourceDaysCounts
			}
			assert.NotEqual(t, "0\n", table(t, s, "SELECT count() FROM "+view), name)
			same(t, s, "SELECT * FROM "+view, want, fmt.Sprintf("round %d: %s", round, name))
		}
	}
}

// same holds two queries against each other, row by row.
func same(t *testing.T, s *Store, got, want, what string, params ...string) {
	t.Helper()
	assert.Empty(t, table(t, s, "SELECT * FROM (("+want+") EXCEPT ("+got+")) LIMIT 3", params...), "%s lacks", what)
	assert.Empty(t, table(t, s, "SELECT * FROM (("+got+") EXCEPT ("+want+")) LIMIT 3", params...), "%s has too much", what)
	assert.Equal(t, table(t, s, "SELECT count() FROM ("+want+")", params...), table(t, s, "SELECT count() FROM ("+got+")", params...), "%s: number of rows", what)
}

// The sketch of distinct sources is exact up to the number that its comment states, also when it was merged.
func TestDistinctSourcesAreExactAsStated(t *testing.T) {
	s := open(t)
	for _, limit := range []struct {
		precision string
		exact     string
	}{{"17", "4096"}, {"14", "512"}, {"12", "128"}} {
		got := table(t, s, `SELECT uniqCombined64Merge(`+limit.precision+`)(state) FROM (SELECT uniqCombined64State(`+limit.precision+`)(toIPv6(concat('2001:db8::', hex(number % 65536)))) AS state
			FROM numbers(`+limit.exact+`) GROUP BY number % 7)`)
		assert.Equal(t, limit.exact+"\n", got)
	}
	stated := table(t, s, "SELECT DISTINCT type, comment FROM system.columns WHERE database = currentDatabase() AND name IN ('sources', 'rough') AND type LIKE 'AggregateFunction%' AND table LIKE '%_state' ORDER BY type, comment")
	assert.Equal(t, "AggregateFunction(uniqCombined64(12), IPv6)\tthe sources once more, exact up to 128, then +-1.6 %: merges thirty times as fast\n"+
		"AggregateFunction(uniqCombined64(14), IPv6)\texact up to 512, then +-0.8 % (one standard error)\n"+
		"AggregateFunction(uniqCombined64(17), IPv6)\texact up to 4,096, then +-0.29 % (one standard error)\n", stated)
}
