package nearest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHint(t *testing.T) {
	names := []string{"sources", "source_list", "tools"}
	require.Equal(t, `, did you mean "sources"?`, Hint("sorces", names))
	require.Equal(t, `, did you mean "tools"?`, Hint("tool", names))
	require.Equal(t, ", there are: sources, source_list, tools", Hint("frobnicate", names))
	require.Empty(t, Hint("x", nil))
}

func TestOrder(t *testing.T) {
	names := []string{"zebra", "default", "birds", "bird"}
	require.Equal(t, []string{"bird", "birds", "zebra", "default"}, Order("bird", names))
	require.Equal(t, []string{"zebra", "default", "birds", "bird"}, names, "the list itself stays")
	require.Empty(t, Order("x", nil))
}
