package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v2"
)

// Every command line of the systemd units is one that this program understands.
func TestUnitsCallCommandsThatExist(t *testing.T) {
	units, err := filepath.Glob(filepath.Join("..", "..", "deploy", "systemd", "*.service"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(units), 2)
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		require.NoError(t, err)
		started := 0
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(strings.TrimPrefix(line, "ExecStart="))
			if !strings.HasPrefix(line, "ExecStart=") {
				continue
			}
			started++
			require.Equal(t, "/opt/murmuration/bin/loader", words[0], unit)
			command := newApp(environment{}).Command(words[1])
			require.NotNil(t, command, "%s calls %s", unit, words[1])
			for _, w := range words[2:] {
				if name, ok := strings.CutPrefix(w, "--"); ok {
					require.True(t, slices.ContainsFunc(command.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) }), "%s: %s has no --%s", unit, words[1], name)
				}
			}
		}
		require.Equal(t, 1, started, unit)
	}
}
