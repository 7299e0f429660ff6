package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
)

func TestExport(t *testing.T) {
	dsn, path := captures(t)+"?http="+enginetest.Endpoint(t).HTTPAddr, filepath.Join(t.TempDir(), "events.csv")
	r := loader(t, "", "export", "events", "--format", "csv", "-o", path, "--dsn", dsn)
	require.Zero(t, r.code, r.stderr)
	require.Empty(t, r.stdout)
	require.Contains(t, r.stderr, "events.csv: 67,617 rows, ")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, 67_618, strings.Count(string(text), "\n"))
	require.True(t, strings.HasPrefix(works(t, "export", "events", "--window", "30d", "--port", "80", "--dsn", dsn), "PAR1"))
	require.Contains(t, works(t, "export", "campaigns", "--format", "json", "--dsn", dsn), `"campaign":"c-`)
	r = loader(t, "", "export", "events", "--sensor", "hony", "--dsn", dsn)
	require.Equal(t, exitFailed, r.code, r.stderr)
	require.Contains(t, r.stderr, `nothing to export: there is no sensor "hony"`)
	require.Empty(t, r.stdout)
	r = loader(t, "", "export", "events", "-o", filepath.Dir(path), "--dsn", dsn)
	require.Equal(t, exitFailed, r.code, r.stderr)
	require.Contains(t, r.stderr, "this is a directory: name a file in it")
	for _, stdout := range []string{"-", "/dev/stdout"} {
		r = loader(t, "", "export", "campaigns", "--format", "json", "-o", stdout, "--dsn", dsn)
		require.Zero(t, r.code, r.stderr)
		require.Contains(t, r.stdout, `"campaign":"c-`)
		require.Contains(t, r.stderr, "standard output: ")
	}
	require.NoFileExists(t, "-")
	for _, tc := range []struct{ args, says string }{
		{"export events --windw 3d", `loader export has no flag --windw, did you mean "window"?`},
		{"export", "takes one of events"},
		{"export event", `did you mean "events"?`},
		{"export events --format xml", "--format takes parquet, csv or json here"},
		{"export events --kind scam", `did you mean "scan"?`},
		{"export events --port 70000", "--port takes 0 to 65535"},
		{"export events --port -1", "--port takes 0 to 65535, not -1"},
		{"export events --output=", "--output takes the name of a file, or - for standard output"},
		{"export events --source ten", `"ten" is not a prefix`},
		{"export events --window 3y", "--window takes"},
		{"export campaigns --port 80", "--port does not go with campaigns"},
	} {
		r := loader(t, "", append(strings.Fields(tc.args), "--dsn", dsn)...)
		require.Equal(t, exitUsage, r.code, "%s: %s", tc.args, r.stderr)
		require.Contains(t, r.stderr, tc.says, tc.args)
	}
}
