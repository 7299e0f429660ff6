package main

import (
	"encoding/csv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCampaigns(t *testing.T) {
	dsn := newDSN(t)
	require.Contains(t, works(t, "campaigns", "--dsn", dsn), "0 campaigns")
	works(t, "load", demoCapture, "--dsn", dsn, "--sensor", "demo", "--telescope", "198.18.32.0/20")
	works(t, "detect", "--dsn", dsn)
	works(t, "detect", "--dsn", dsn)

	rows, err := csv.NewReader(strings.NewReader(works(t, "campaigns", "--dsn", dsn, "--format", "csv"))).ReadAll()
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(rows), 3)
	a, b := rows[1][0], rows[2][0]
	for _, r := range rows[1:] {
		require.Equal(t, "2", r[4], "both runs saw it")
		require.Equal(t, r[5], r[6], "the same data has the same members")
	}
	table := works(t, "campaigns", "--dsn", dsn, "--state", rows[1][1])
	require.Contains(t, table, a)
	require.Contains(t, table, "states as of 2026-")

	history := works(t, "campaigns", a, "--dsn", dsn)
	require.Equal(t, 1, strings.Count(history, "continued with"), history)
	verdict := works(t, "campaigns", "--compare", a, b, "--dsn", dsn)
	require.Contains(t, verdict, "sources are in both")
	require.Contains(t, works(t, "campaigns", "--compare", a, b, "--dsn", dsn, "--format", "json"), `"shared_sources":`)

	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"campaigns", "--compare", a}, "--compare takes two campaigns"},
		{[]string{"campaigns", a, b}, "two with --compare"},
		{[]string{"campaigns", "--state", "lively"}, "--state takes"},
		{[]string{"campaigns", "c-none"}, `"c-none"`},
	} {
		r := loader(t, "", append(tc.args, "--dsn", dsn)...)
		require.Equal(t, exitUsage, r.code, r.stderr)
		require.Contains(t, r.stderr, tc.says)
	}
}
