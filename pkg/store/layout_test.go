package store

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// everyStatement is what a new database is made of: the schema and the views of the questions.
func everyStatement(t *testing.T) []string {
	t.Helper()
	statements, err := schemaStatements()
	require.NoError(t, err)
	questions, err := questionsMigration()
	require.NoError(t, err)
	return append(statements, questions.Statements...)
}

// Replicated tables cannot be run by the embedded engine, so what they would be made by is held against what it must say,
// statement by statement; that ClickHouse understands every one of them, its parser says.
func TestReplicatedSchema(t *testing.T) {
	s := open(t)
	statements := everyStatement(t)
	sp := newSpread("birds", "scan", true, statements)
	placed := map[placement]int{}
	for _, statement := range statements {
		steps, err := sp.steps(statement)
		require.NoError(t, err, statement)
		for _, st := range steps {
			if st.by == byHolder {
				continue // ON CLUSTER is for DDL.
			}
			distributed, err := onCluster(st.text, "birds")
			require.NoError(t, err)
			assert.Equal(t, byEach, st.by, "the schema has no rows of its own")
			assert.Equal(t, 1, strings.Count(distributed, "ON CLUSTER"), distributed)
			parsed := table(t, s, "SELECT formatQuery({q:String})", "q", distributed)
			assert.Contains(t, parsed, "ON CLUSTER birds")
		}
		c := parse(statement)
		switch {
		case c.is("CREATE", "TABLE"):
			require.Len(t, steps, 2, statement)
			placed[sp.tables[c.name]]++
			replicatedTable(t, c, steps[0].text)
			distributedTable(t, sp, c, steps[1].text)
		case c.is("CREATE", "MATERIALIZED VIEW"):
			require.Len(t, steps, 1)
			assert.Regexp(t, `(?s)^CREATE MATERIALIZED VIEW IF NOT EXISTS \w+_feed TO \w+_state_local AS\b.*\bFROM \w+_local\b`, steps[0].text)
			assert.Equal(t, statement, strings.ReplaceAll(steps[0].text, localSuffix, ""), "nothing else changes")
		case c.is("CREATE", "VIEW"):
			require.Len(t, steps, 1)
			assert.NotContains(t, steps[0].text, localSuffix)
			assert.Equal(t, 1, strings.Count(steps[0].text, "prefer_global_in_and_join = 1"))
		case c.is("INSERT"):
			require.Len(t, steps, 1)
			assert.Equal(t, byHolder, steps[0].by, "a fill is from tables of the same shard")
			assert.Regexp(t, `(?s)^INSERT INTO \w+_state_local \(.*\bFROM \w+_state_local\b`, steps[0].text)
			assert.Equal(t, statement, strings.ReplaceAll(steps[0].text, localSuffix, ""), "nothing else changes")
			assert.NotEmpty(t, table(t, s, "SELECT formatQuery({q:String})", "q", steps[0].text))
		case c.is("DROP"):
			assert.Equal(t, statement, steps[0].text)
			if where, known := sp.tables[c.name]; known {
				placed[where]--
				require.Len(t, steps, 2)
				assert.Equal(t, statement+localSuffix, steps[1].text)
			} else {
				require.Len(t, steps, 1, "views stand on the nodes under their own names")
			}
		default:
			assert.True(t, c.is("ALTER"), statement)
			require.Len(t, steps, 1)
			if _, known := sp.tables[c.name]; known {
				assert.Equal(t, strings.Replace(statement, c.name, c.name+localSuffix, 1), steps[0].text)
			} else {
				assert.Equal(t, statement, steps[0].text)
			}
		}
	}
	assert.Equal(t, 1, placed[bySource], "events alone is cut by source")
	assert.Equal(t, len(rollups()), placed[fed])
	assert.Greater(t, placed[onFirst], 10)
}

var replicatedEngineOf = regexp.MustCompile(`ENGINE = Replicated(\w*MergeTree)\('/clickhouse/tables/scan/(\w+)/\{shard\}', '\{replica\}'(?:, (\w+))?\)`)

func replicatedTable(t *testing.T, c clause, text string) {
	t.Helper()
	m := replicatedEngineOf.FindStringSubmatch(text)
	require.NotNil(t, m, text)
	assert.Equal(t, []string{c.engine(), c.name}, m[1:3])
	if c.word(c.engineAt()+1).Text == "(" {
		assert.Equal(t, c.word(c.engineAt()+2).Text, m[3], "the version of a ReplacingMergeTree")
	}
	assert.Equal(t, 1, strings.Count(text, c.name+localSuffix))
	assert.NotContains(t, text, "non_replicated")
	assert.Equal(t, strings.Contains(c.text, "non_replicated_deduplication_window = 10000"),
		strings.Contains(text, "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = "), text)
	// But for that it is the table of one server.
	back := strings.Replace(replicatedEngineOf.ReplaceAllString(text, "ENGINE = $1($3)"), c.name+localSuffix, c.name, 1)
	back = strings.Replace(regexp.MustCompile(`, replicated_deduplication_window_seconds = \d+`).ReplaceAllString(back, ""), "replicated_dedup", "non_replicated_dedup", 1)
	assert.Equal(t, c.text, strings.Replace(back, "MergeTree()", "MergeTree", 1))
}

func distributedTable(t *testing.T, sp *spread, c clause, text string) {
	t.Helper()
	key := map[placement]string{onFirst: ", 0", bySource: ", cityHash64(src)", fed: ""}[sp.tables[c.name]]
	assert.Contains(t, text, "CREATE TABLE IF NOT EXISTS "+c.name+" AS "+c.name+localSuffix+"\nENGINE = Distributed('birds', 'scan', '"+c.name+localSuffix+"'"+key+")")
	assert.True(t, strings.HasSuffix(text, "COMMENT "+c.comment()))
}

// Statements of migrations that are yet to come, by their kind.
func TestSpreadByKind(t *testing.T) {
	sp := newSpread("birds", "scan", true, everyStatement(t))
	for _, c := range []struct {
		statement string
		want      []string
	}{
		{"ALTER TABLE events MODIFY TTL toDateTime(ts) + toIntervalDay(180)", []string{"ALTER TABLE events_local MODIFY TTL toDateTime(ts) + toIntervalDay(180)"}},
		{"ALTER TABLE `events` ADD COLUMN IF NOT EXISTS asn UInt32 AFTER src, MODIFY SETTING non_replicated_deduplication_window = 5, ADD INDEX i (a, b) TYPE minmax", []string{
			"ALTER TABLE events_local ADD COLUMN IF NOT EXISTS asn UInt32 AFTER src, MODIFY SETTING replicated_deduplication_window = 5, replicated_deduplication_window_seconds = 315360000, ADD INDEX i (a, b) TYPE minmax",
			"ALTER TABLE `events` ADD COLUMN IF NOT EXISTS asn UInt32 AFTER src",
		}},
		{"ALTER TABLE port_hours MODIFY COMMENT 'x'", []string{"ALTER TABLE port_hours MODIFY COMMENT 'x'"}},
		{"OPTIMIZE TABLE port_days_state FINAL", []string{"OPTIMIZE TABLE port_days_state_local FINAL"}},
		{"TRUNCATE TABLE IF EXISTS scan.events", []string{"TRUNCATE TABLE IF EXISTS events_local"}},
		{"DROP TABLE IF EXISTS loads_log SYNC", []string{"DROP TABLE IF EXISTS loads_log SYNC", "DROP TABLE IF EXISTS loads_log_local SYNC"}},
		{"DELETE FROM telescopes_log WHERE prefix = {p:String}", []string{"DELETE FROM telescopes_log_local WHERE prefix = {p:String}"}},
		{"CREATE DICTIONARY IF NOT EXISTS asns (a UInt32) PRIMARY KEY a SOURCE(CLICKHOUSE(TABLE 'asns_log')) LAYOUT(FLAT()) LIFETIME(0)", []string{
			"CREATE DICTIONARY IF NOT EXISTS asns (a UInt32) PRIMARY KEY a SOURCE(CLICKHOUSE(TABLE 'asns_log')) LAYOUT(FLAT()) LIFETIME(0)"}},
		{"SYSTEM RELOAD DICTIONARY asns", []string{"SYSTEM RELOAD DICTIONARY asns"}},
		{"CREATE TABLE IF NOT EXISTS proofs (run String) ENGINE = ReplacingMergeTree() ORDER BY run COMMENT 'what, (it) says'", []string{
			"CREATE TABLE IF NOT EXISTS proofs_local (run String) ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/scan/proofs/{shard}', '{replica}') ORDER BY run COMMENT 'what, (it) says'",
			"CREATE TABLE IF NOT EXISTS proofs AS proofs_local\nENGINE = Distributed('birds', 'scan', 'proofs_local', 0)\nCOMMENT 'what, (it) says'",
		}},
		{"CREATE TABLE scratch (x UInt8) ENGINE = Memory", []string{"CREATE TABLE scratch (x UInt8) ENGINE = Memory"}},
		{"CREATE VIEW v AS SELECT 1 SETTINGS max_threads = 1 COMMENT 'c'", []string{"CREATE VIEW v AS SELECT 1 SETTINGS max_threads = 1, prefer_global_in_and_join = 1\nCOMMENT 'c'"}},
	} {
		steps, err := sp.steps(c.statement)
		require.NoError(t, err, c.statement)
		var got []string
		for _, st := range steps {
			got = append(got, st.text)
		}
		assert.Equal(t, c.want, got)
	}
	steps, err := sp.steps("INSERT INTO proofs (run) VALUES ('a')")
	require.NoError(t, err)
	assert.Equal(t, []step{{text: "INSERT INTO proofs (run) VALUES ('a')", by: byOne}}, steps, "rows are written once, by one node")
	for _, statement := range []string{"EXCHANGE TABLES a AND b", "CREATE MATERIALIZED VIEW v ENGINE = MergeTree ORDER BY a AS SELECT a FROM events", "", "CREATE TABLE"} {
		_, err := sp.steps(statement)
		require.ErrorIs(t, err, ErrSpread, statement)
	}
	for statement, want := range map[string]string{
		"SYSTEM RELOAD DICTIONARY asns":             "SYSTEM RELOAD DICTIONARY ON CLUSTER `birds` asns",
		"DROP TABLE IF EXISTS `a b` SYNC":           "DROP TABLE IF EXISTS `a b` ON CLUSTER `birds` SYNC",
		"CREATE DATABASE IF NOT EXISTS `scan`":      "CREATE DATABASE IF NOT EXISTS `scan` ON CLUSTER `birds`",
		"CREATE OR REPLACE VIEW scan.v AS SELECT 1": "CREATE OR REPLACE VIEW scan.v ON CLUSTER `birds` AS SELECT 1",
	} {
		got, err := onCluster(statement, "birds")
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
}

// A base table whose rows have no source has its rows, and its views, on the first shard.
func TestSpreadOfOtherBases(t *testing.T) {
	sp := newSpread("birds", "scan", false, []string{
		"CREATE TABLE flows (a UInt8) ENGINE = MergeTree ORDER BY a", "CREATE TABLE flow_days_state (a UInt8) ENGINE = MergeTree ORDER BY a",
		"CREATE TABLE names (a UInt8) ENGINE = MergeTree ORDER BY a",
		"CREATE MATERIALIZED VIEW flow_days_feed TO flow_days_state AS WITH (SELECT 1) AS x SELECT a FROM (SELECT a FROM flows) AS f JOIN names USING a",
	})
	assert.Equal(t, map[string]placement{"flows": onFirst, "flow_days_state": fed, "names": onFirst}, sp.tables)
	steps, err := sp.steps("CREATE MATERIALIZED VIEW flow_days_feed TO flow_days_state AS WITH (SELECT 1) AS x SELECT a FROM (SELECT a FROM flows) AS f JOIN names USING a")
	require.NoError(t, err)
	assert.Equal(t, "CREATE MATERIALIZED VIEW flow_days_feed TO flow_days_state_local AS WITH (SELECT 1) AS x SELECT a FROM (SELECT a FROM flows_local) AS f JOIN names USING a", steps[0].text)
}

func TestUnreplicated(t *testing.T) {
	for engine, want := range map[string]string{
		"ReplicatedAggregatingMergeTree('/clickhouse/tables/scan/x/{shard}', '{replica}') ORDER BY a": "AggregatingMergeTree() ORDER BY a",
		"ReplicatedReplacingMergeTree('/x', '{replica}', version) ORDER BY a":                         "ReplacingMergeTree(version) ORDER BY a",
		"AggregatingMergeTree PARTITION BY b ORDER BY a SETTINGS index_granularity = 1":               "AggregatingMergeTree PARTITION BY b ORDER BY a SETTINGS index_granularity = 1",
	} {
		assert.Equal(t, want, unreplicated(engine))
	}
}
