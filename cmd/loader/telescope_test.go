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
}
