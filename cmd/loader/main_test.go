package main

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
)

// asLoader makes the test binary behave as bin/loader, for tests that must kill it.
const asLoader = "MURMURATION_TEST_AS_LOADER"

func TestMain(m *testing.M) {
	if os.Getenv(asLoader) != "" {
		main()
	}
	os.Exit(enginetest.Main(m))
}

// result is what a command line came to.
type result struct {
	code           int
	stdout, stderr string
}

// loader runs a command line in this process.
func loader(t testing.TB, stdin string, args ...string) result {
	t.Helper()
	var out, errOut bytes.Buffer
	ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGUSR1)
	defer stop()
	code := run(ctx, append([]string{"loader"}, args...), environment{stdin: strings.NewReader(stdin), stdout: &out, stderr: &errOut})
	return result{code, out.String(), errOut.String()}
}

// works runs a command line that must succeed and returns its standard output.
func works(t testing.TB, args ...string) string {
	t.Helper()
	r := loader(t, "", args...)
	require.Zero(t, r.code, "loader %s\n%s%s", strings.Join(args, " "), r.stdout, r.stderr)
	return r.stdout
}

// newDSN is a database of its own on the shared engine.
func newDSN(t testing.TB) string {
	t.Helper()
	ep := enginetest.Endpoint(t)
	return fmt.Sprintf("clickhouse://%s:%s@%s/%s", ep.User, url.QueryEscape(ep.Password), ep.TCPAddr, enginetest.Database(t))
}

// On a server the commands that begin a collection make the database. The others say how, so that a mistyped name does not
// look like a database without answers.
func TestAMissingDatabaseIsMadeByWhoFillsIt(t *testing.T) {
	for _, begins := range [][]string{{"migrate"}, {"load", demoCapture}} {
		dsn := newDSN(t) + "_missing"
		for _, command := range [][]string{{"query", "SELECT 1"}, {"detect"}, {"telescope", "list"}} {
			r := loader(t, "", append(command, "--dsn", dsn)...)
			require.Equal(t, exitFailed, r.code, "%v", command)
			require.Contains(t, r.stderr, "create it with `loader migrate`", "%v", command)
		}
		works(t, append(begins, "--dsn", dsn)...)
		works(t, "query", "--dsn", dsn, "SELECT count() FROM events")
		enginetest.Exec(t, "DROP DATABASE "+dsn[strings.LastIndex(dsn, "/")+1:]+" SYNC")
	}
}

// sample is the path of a file of the public sample, which lies beside the clone. Where it is not, the
// test fails in CI and is skipped elsewhere.
func sample(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "data", "real-scanners", name)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("the public sample is not beside the clone: %v", err)
		}
		t.Skipf("the public sample is not beside the clone: %v", err)
	}
	return path
}

var demoCapture = filepath.Join("..", "..", "demo", "telescope.pcap.zst")

func TestUsage(t *testing.T) {
	require.Contains(t, works(t, "--help"), "detect")
	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"lod", "x"}, `there is no command "lod"`},
		{[]string{"load"}, "load takes files"},
		{[]string{"load", "x", "--format", "xml"}, "--format takes text or json"},
		{[]string{"load", "x", "--telescope", "10.0.0.1/8"}, "did you mean 10.0.0.0/8?"},
		{[]string{"load", "x", "--telescope", "ten"}, `"ten" is not a prefix`},
		{[]string{"load", "--nonsense", "x"}, "see loader load --help"},
		{[]string{"load", "x", "--batch", "0"}, "--batch takes 1 to"},
		{[]string{"load", "x", "--log-level", "loud"}, "--log-level takes"},
		{[]string{"load", demoCapture, "--dsn", "mysql://x"}, "--dsn"},
		{[]string{"query", "--dsn", "embedded"}, "--dsn takes embedded:DIR or clickhouse://"},
		{[]string{"detect", "--window", "3y"}, "--window takes"},
		{[]string{"detect", "now"}, "detect takes no arguments"},
		{[]string{"detect", "--min-coverage", "5"}, "--min-coverage takes a share from 0 to 1"},
		{[]string{"detect", "--min-coverage", "NaN"}, "--min-coverage takes a share from 0 to 1"},
		{[]string{"detect", "--min-sources", "1"}, "--min-sources takes at least 2"},
		{[]string{"detect", "--min-evidence", "-1"}, "--min-evidence takes a number above 0"},
		{[]string{"detect", "--workers", "0"}, "--workers takes at least 1"},
		{[]string{"detect", "--members", "--format", "json"}, "--members writes csv, not json"},
		{[]string{"load", "x", "--sensor", "\xff"}, "1 to 100 characters of UTF-8"},
		{[]string{"telescope", "add"}, "at least one prefix"},
		{[]string{"up", "x"}, "up takes no arguments"},
		{[]string{"up", "--dsn", "clickhouse://host/scan"}, "--dsn names a server"},
		{[]string{"telescope", "forget", "x"}, "it has add, list and remove"},
		{[]string{"telescope", "remove"}, "at least one prefix"},
		{[]string{"telescope", "add", "10.0.0.0/8", "--since", "yesterday"}, "is not a time"},
	} {
		r := loader(t, "", tc.args...)
		require.Equal(t, exitUsage, r.code, "%v: %s", tc.args, r.stderr)
		require.Contains(t, r.stderr, tc.says, "%v", tc.args)
		require.Equal(t, 1, strings.Count(strings.TrimSpace(r.stderr), "\n")+1, "%v: one sentence, not\n%s", tc.args, r.stderr)
	}
}

func TestFlagsMayStandBehindArguments(t *testing.T) {
	app := newApp(environment{})
	for _, tc := range []struct{ in, want string }{
		{"loader load a b", "loader load -- a b"},
		{"loader load a --sensor s b", "loader load --sensor s -- a b"},
		{"loader load a --sensor=s -", "loader load --sensor=s -- a -"},
		{"loader --dsn d load a", "loader --dsn d load -- a"},
		{"loader telescope add p --sensor s", "loader telescope add --sensor s -- p"},
		{"loader detect --members", "loader detect --members"},
		{"loader detect --members --window 3d", "loader detect --members --window 3d"},
		{"loader load -- --sensor", "loader load -- --sensor"},
		{"loader query load", "loader query -- load"},
	} {
		require.Equal(t, tc.want, strings.Join(flagsFirst(app, strings.Fields(tc.in)), " "))
	}
}

func TestLoadDetectQuery(t *testing.T) {
	dsn := newDSN(t)
	db := dsn[strings.LastIndex(dsn, "/")+1:]
	out := works(t, "load", demoCapture, "--dsn", dsn, "--sensor", "demo", "--telescope", "198.18.32.0/20")
	require.Contains(t, out, "62,780 packets")
	require.Contains(t, out, "0 already loaded")
	require.Contains(t, works(t, "load", demoCapture, "--dsn", dsn, "--sensor", "demo"), " 0 new, 62,780 already loaded")
	require.Contains(t, works(t, "telescope", "list", "--dsn", dsn, "--format", "csv"), "198.18.32.0/20,demo,,")

	table := works(t, "detect", "--dsn", dsn)
	for _, column := range []string{"first seen", "last seen", "sources", "ports", "tool", "coverage", "overlap", "evidence", "pattern"} {
		require.Contains(t, table, column)
	}
	members := works(t, "detect", "--dsn", dsn, "--members")
	require.True(t, strings.HasPrefix(members, "source,campaign\n"), members)
	require.Equal(t, members, works(t, "detect", "--dsn", dsn, "--members"), "the same data and seed give the same members and identities")
	checkMembers(t, members, demoTruth(t), map[string]float64{"B": 0.95, "D": 0.95, "H": 0.95}, 0.95)

	one := works(t, "query", "--dsn", dsn, "--format", "csv",
		"SELECT sources FROM "+db+".sources_at(port = 80, method = '', hours = 24, at = '2026-06-15 00:00:00')")
	naive := works(t, "query", "--dsn", dsn, "--format", "csv",
		"SELECT uniqExact(src) AS sources FROM "+db+".events WHERE dport = 80 AND kind IN ('scan', 'request') AND ts > '2026-06-14 00:00:00' AND ts <= '2026-06-15 00:00:00'")
	require.Equal(t, naive, one)
	named := works(t, "query", "--dsn", dsn, "--format", "json", "sources", "port=80", "method=HEAD", "hours=24", "at=2026-06-15 00:00:00")
	require.Contains(t, named, `"sources":0`)
	require.Contains(t, works(t, "query", "--dsn", dsn), "sources")

	r := loader(t, "", "query", "--dsn", dsn, "sorces", "port=80")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, `did you mean "sources"?`)
	r = loader(t, "", "query", "--dsn", dsn, "INSERT INTO events SELECT * FROM events")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "changes nothing")
	for _, insert := range []string{"WITH 1 AS x INSERT INTO events (ts, sensor) SELECT now64(), 'forged'", "WITH x AS (SELECT 1) INSERT INTO events (ts, sensor) SELECT now64(), 'forged'"} {
		r = loader(t, "", "query", "--dsn", dsn, insert)
		require.Equal(t, exitFailed, r.code)
		require.Contains(t, r.stderr, "readonly mode")
	}
	require.Contains(t, works(t, "query", "--dsn", dsn, "-- a comment\n/* another */ (SELECT 41 + 1)"), "42")
	r = loader(t, "", "query", "--dsn", dsn, "SELECT nonsense FROM events")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "nonsense")
	r = loader(t, "", "query", "--dsn", dsn, "sources", "port=80")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "is missing")
	r = loader(t, "", "query", "--dsn", dsn, "sources", "port=80", "port=81", "method=GET", "hours=24")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "port is given twice")
	r = loader(t, "", "query", "--dsn", dsn, "sources", "prt=80", "method=GET", "hours=24")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, `it has no "prt", did you mean "port"?`)
	r = loader(t, "", "query", "--dsn", dsn, "top_ports", "hours=24", "at=2001-01-01")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stderr, "note: the hours asked for are 2000-12-31 00:00 to 2001-01-01 00:00, outside the data, which is of 2026-04-01 15:14 to ")
	r = loader(t, "", "query", "--dsn", dsn, "top_ports", "hours=24", "at=2026-06-15")
	require.Empty(t, r.stderr, "inside the data there is nothing to say")
	r = loader(t, "", "query", "--dsn", dsn, "sources", "port=80", "method='); DROP TABLE events; --", "hours=24")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, works(t, "query", "--dsn", dsn, "--format", "csv", "SELECT count() FROM "+db+".events"), "62780")
}

func TestStandardInput(t *testing.T) {
	dsn := newDSN(t)
	data, err := os.ReadFile(demoCapture)
	require.NoError(t, err)
	r := loader(t, string(data), "load", "-", "--dsn", dsn)
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, "-: 62,780 packets")
}

// Nobody types a capture: waiting for one would look like a command that hangs.
func TestStandardInputThatIsATerminal(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	defer terminal.Close()
	var out bytes.Buffer
	code := run(t.Context(), []string{"loader", "load", "-"}, environment{stdin: terminal, stdout: &out, stderr: &out})
	require.Equal(t, exitUsage, code)
	require.Contains(t, out.String(), "standard input is a terminal")
}

// What was said of a sensor's telescopes stays, unless it was a mistake.
func TestTelescopesOfASensor(t *testing.T) {
	dsn := newDSN(t)
	list := func() string { return works(t, "telescope", "list", "--dsn", dsn, "--format", "csv") }
	r := loader(t, "", "load", demoCapture, "--dsn", dsn, "--telescope", "203.0.113.0/24")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "none of its 62780 packets is to or from the telescope 203.0.113.0/24")
	require.NotContains(t, list(), "203.0.113.0/24", "a prefix in which nothing was found is not kept")
	works(t, "telescope", "add", "198.18.32.0/20", "2001:db8::/48", "--since", "2026-01-01", "--dsn", dsn)
	require.Contains(t, list(), "198.18.32.0/20,default,2026-01-01T00:00:00Z,")
	works(t, "telescope", "remove", "2001:db8::/48", "--dsn", dsn)
	require.NotContains(t, list(), "2001:db8::/48")
	r = loader(t, "", "telescope", "remove", "2001:db8::/48", "--dsn", dsn)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "is no telescope of sensor default")
	require.Contains(t, works(t, "load", demoCapture, "--dsn", dsn), " 62,780 new")
	require.Contains(t, works(t, "load", demoCapture, "--dsn", dsn, "--sensor", "other"), "keeps them: sensor=default telescopes=198.18.32.0/20")
}

// Of several prefixes those to which nothing goes are told and left out: they would be space that nobody covers.
func TestAMistypedTelescopeBesideARightOne(t *testing.T) {
	dsn := newDSN(t)
	r := loader(t, "", "load", demoCapture, "--dsn", dsn, "--telescope", "::ffff:198.18.32.0/116", "--telescope", "203.0.113.0/24")
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stdout, " 62,780 new")
	require.Contains(t, r.stderr, "note: no event goes to the telescope 203.0.113.0/24")
	require.Equal(t, "prefix,sensor,since,until\n198.18.32.0/20,default,,\n", works(t, "telescope", "list", "--dsn", dsn, "--format", "csv"))
}

func TestDetectOnNothing(t *testing.T) {
	r := loader(t, "", "detect", "--dsn", newDSN(t))
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "is loaded yet")
}

func TestDetectBeforeTheData(t *testing.T) {
	dsn := newDSN(t)
	works(t, "load", demoCapture, "--dsn", dsn)
	r := loader(t, "", "detect", "--dsn", dsn, "--window", "1d", "--at", "2020-01-01T00:00:00Z")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "the data is of 2026-04-01")
}

func TestABadFileDoesNotStopTheOthers(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "a.pcap")
	require.NoError(t, os.WriteFile(bad, []byte("<html>not found</html>"), 0o600))
	empty := filepath.Join(dir, "b.pcap")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	r := loader(t, "", "load", bad, filepath.Join(dir, "missing.pcap"), empty, demoCapture, "--dsn", newDSN(t))
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stdout, "62,780 new")
	for _, says := range []string{bad + ": byte 0:", "missing.pcap: there is no such file", empty + ": byte 0: the file is empty"} {
		require.Contains(t, r.stderr, says)
	}
}

func TestInterruptedBeforeItBegan(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errOut bytes.Buffer
	code := run(ctx, []string{"loader", "load", demoCapture, "--dsn", newDSN(t)}, environment{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut})
	require.Equal(t, exitInterrupted, code, errOut.String())
	require.Contains(t, errOut.String(), "run the same command again")
}
