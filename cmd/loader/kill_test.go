package main

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
)

// process starts a loader of its own, which can be killed.
func process(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), asLoader+"=1")
	require.NoError(t, cmd.Start())
	return cmd
}

// enginePid returns the process that serves a data directory, 0 while there is none.
func enginePid(dir string) int {
	data, err := os.ReadFile(filepath.Join(dir, "engine.json"))
	if err != nil {
		return 0
	}
	var state struct {
		Pid int `json:"pid"`
	}
	if json.Unmarshal(data, &state) != nil {
		return 0
	}
	return state.Pid
}

// contents is every table and rollup as rows and a hash, and what the ledger says is in.
func contents(t testing.TB, dsn string) string {
	t.Helper()
	var parts []string
	for _, name := range []string{"events", "port_hours", "port_days", "source_days", "target_days", "path_days", "footprints"} {
		parts = append(parts, "SELECT '"+name+"' AS t, count() AS n, sum(cityHash64(*)) AS h FROM scan."+name)
	}
	return works(t, "query", "--dsn", dsn, "--format", "csv", "SELECT * FROM ("+strings.Join(parts, " UNION ALL ")+") ORDER BY t")
}

// Twenty times the loader or the engine is killed at a random moment. Whenever a load then gets to its
// end, it leaves what an undisturbed load leaves, in the table and in every rollup.
func TestKilledAtRandomMoments(t *testing.T) {
	enginetest.Need(t)
	args := func(dir string) []string {
		return []string{"load", demoCapture, "--sensor", "demo", "--batch", "3000", "--dsn", "embedded:" + dir}
	}
	undisturbed := t.TempDir()
	began := time.Now()
	works(t, args(undisturbed)...)
	whole := time.Since(began)
	want := contents(t, "embedded:"+undisturbed)

	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(20, 26))
	const rounds, kills = 100, 20
	killed := 0
	for round := 0; killed < kills; round++ {
		require.Less(t, round, rounds, "only %d loads lived long enough to be killed", killed)
		cmd := process(t, args(dir)...)
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		// The moment is what the test is about: from the start of the engine to the middle of the load, so
		// that one load is killed several times before it is through.
		select {
		case <-time.After(time.Duration(rng.Int64N(int64(whole / 2)))):
		case err := <-ended:
			require.NoError(t, err)
			require.Equal(t, want, contents(t, "embedded:"+dir))
			dir = t.TempDir()
			continue
		}
		if pid := enginePid(dir); round%2 == 0 && pid > 0 {
			// The engine goes, and the loader has to notice.
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		} else {
			require.NoError(t, cmd.Process.Kill())
		}
		killed++
		<-ended
	}
	works(t, args(dir)...)
	require.Equal(t, want, contents(t, "embedded:"+dir))
	require.Contains(t, works(t, args(dir)...), " 0 new, 62,780 already loaded")
}
