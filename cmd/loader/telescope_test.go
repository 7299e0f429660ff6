package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Of several prefixes all are removed or, if one is not there, none.
func TestRemoveTelescopesAllOrNone(t *testing.T) {
	dsn := newDSN(t)
	list := func() string { return works(t, "telescope", "list", "--dsn", dsn, "--format", "csv") }
	works(t, "telescope", "add", "192.0.2.0/24", "198.51.100.0/24", "--dsn", dsn)
	both := list()
	r := loader(t, "", "telescope", "remove", "192.0.2.0/24", "203.0.113.0/24", "--dsn", dsn)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "203.0.113.0/24 is no telescope of sensor default, so nothing was removed; see `loader telescope list`")
	require.Equal(t, both, list())
	r = loader(t, "", "telescope", "remove", "192.0.2.0/24", "203.0.113.0/24", "--sensor", "x", "--dsn", dsn)
	require.Contains(t, r.stderr, "192.0.2.0/24, 203.0.113.0/24 are no telescopes of sensor x, so nothing was removed")
	require.Equal(t, both, list())
	works(t, "telescope", "remove", "192.0.2.0/24", "198.51.100.0/24", "192.0.2.0/24", "--dsn", dsn)
	require.Equal(t, "prefix,sensor,since,until\n", list())
	r = loader(t, "", "telescope", "list", "x", "--dsn", dsn)
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, `telescope list takes no arguments, got "x"`)
	for _, wrong := range [][]string{{"--since", "1960-01-01"}, {"--until", "2200-01-01"}} {
		r = loader(t, "", append([]string{"telescope", "add", "10.0.0.0/8", "--dsn", dsn}, wrong...)...)
		require.Equal(t, exitUsage, r.code, r.stdout)
		require.Contains(t, r.stderr, "lies outside 1970-01-01 to 2106-02-07")
	}
	r = loader(t, "", "load", "--dsn", dsn, "--telescope", "0.0.0.0/0", demoCapture)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr+r.stdout, "stay inside the telescope 0.0.0.0/0, so nothing was loaded")
	r = loader(t, "", "detect", "--dsn", dsn, "--at", "2100-01-01")
	require.Equal(t, exitFailed, r.code, "nothing is loaded")
	works(t, "load", "--dsn", dsn, demoCapture)
	r = loader(t, "", "detect", "--dsn", dsn, "--at", "2100-01-01")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "ahead of the clock")
}
