package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEvaluate(t *testing.T) {
	args := []string{"evaluate", "--scenario", "tiny,udp", "--scale", "0.1", "--seeds", "2", "--baselines", "--format", "csv"}
	first := works(t, append(args, "--cost=false")...)
	require.Equal(t, first, works(t, append(args, "--cost=false")...), "the same seed gives the same output")
	require.NotEqual(t, first, works(t, append(args, "--cost=false", "--seed", "2")...))
	lines, err := csv.NewReader(strings.NewReader(first)).ReadAll()
	require.NoError(t, err)
	require.Len(t, lines, 1+2*8)
	require.Equal(t, []string{"tiny", "murmuration"}, lines[1][:2])
	require.Equal(t, []string{"udp", "naive"}, lines[16][:2])
	require.Equal(t, "0", lines[1][13], "no false campaign")

	table := works(t, "evaluate", "--scenario", "tiny", "--scale", "0.1", "--delay")
	for _, column := range []string{"f1", "precision", "recall", "jaccard", "pieces", "false", "delay", "seconds", "peak_mib"} {
		require.Contains(t, table, column)
	}
	var row map[string]any
	require.NoError(t, json.Unmarshal([]byte(works(t, "evaluate", "--scenario", "none", "--scale", "0.05", "--format", "json")), &row))
	require.Equal(t, 1.0, row["f1"])
	require.Nil(t, row["jaccard"], "there is no campaign to compare with")
	require.Positive(t, row["peak_mib"])
}

func TestEvaluateCalibration(t *testing.T) {
	args := []string{"evaluate", "--calibration", "2", "--scale", "0.05"}
	svg := works(t, args...)
	require.True(t, strings.HasPrefix(svg, "<svg "))
	require.Contains(t, svg, "naive, crowds")
	require.Equal(t, svg, works(t, args...))
}

func TestEvaluateUsage(t *testing.T) {
	for _, tc := range []struct{ flag, value, says string }{
		{"--scenario", "founing", `there is no scenario "founing", did you mean "founding"?`},
		{"--seeds", "0", "--seeds takes 1 or more, not 0"},
		{"--scale", "-1", "--scale takes a number above 0, not -1"},
		{"--scale", "NaN", "--scale takes a number above 0, not NaN"},
		{"--min-coverage", "0", "--min-coverage takes a share above 0 and up to 1, not 0"},
		{"--calibration", "0", "--calibration takes 1 or more, not 0"},
		{"--format", "xml", "--format takes table, csv or json"},
	} {
		r := loader(t, "", "evaluate", tc.flag, tc.value)
		require.Equal(t, exitUsage, r.code, "%v", tc)
		require.Contains(t, r.stderr, tc.says)
	}
	require.Contains(t, loader(t, "", "evaluate", "plain").stderr, "scenarios stand behind --scenario")
	require.Contains(t, works(t, "evaluate", "--help"), "60 random shards of one port")
}

func TestEvaluateInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errOut bytes.Buffer
	code := run(ctx, []string{"loader", "evaluate", "--scenario", "tiny", "--format", "csv"}, environment{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut})
	require.Equal(t, exitInterrupted, code, errOut.String())
	require.Contains(t, errOut.String(), "stopped after 0 rows")
	require.Equal(t, 1, strings.Count(out.String(), "\n"), "the head of the table alone")
}
