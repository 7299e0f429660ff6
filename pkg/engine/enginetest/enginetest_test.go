package enginetest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine"
	"murmuration/pkg/engine/enginetest"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Main(m)) }

func TestDatabasesAreOnesOwnAndDropped(t *testing.T) {
	databases := func() []string { return strings.Split(enginetest.Exec(t, "SHOW DATABASES"), "\n") }
	enginetest.Engine(t)
	var names []string
	for range 2 {
		t.Run("inner", func(t *testing.T) {
			name := enginetest.Database(t)
			names = append(names, name)
			enginetest.Exec(t, "CREATE TABLE "+name+".t (a UInt64) ENGINE = MergeTree ORDER BY a")
			assert.Contains(t, databases(), name)
		})
	}
	require.NotEqual(t, names[0], names[1])
	for _, name := range names {
		assert.NotContains(t, databases(), name)
	}
}

func TestOneEngineForAll(t *testing.T) {
	assert.Same(t, enginetest.Engine(t), enginetest.Engine(t))
	assert.Equal(t, engine.OwnerUser, enginetest.Exec(t, "SELECT currentUser()"))
}

// TestNeedsEngine is run again by the next test where there is no engine.
func TestNeedsEngine(t *testing.T) { enginetest.Endpoint(t) }

func TestMissingEngine(t *testing.T) {
	base := t.TempDir()
	t.Chdir(base)
	t.Setenv("HOME", base)
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("PATH", base)
	t.Setenv(engine.LibraryEnv, "")
	if _, err := engine.Locate(""); err == nil {
		t.Skip("an engine is installed for all users of this machine")
	}
	for _, c := range []struct{ ci, verdict string }{{"", "--- SKIP"}, {"true", "--- FAIL"}} {
		t.Setenv("CI", c.ci)
		self, err := os.Executable()
		require.NoError(t, err)
		out, err := exec.CommandContext(t.Context(), self, "-test.run=^TestNeedsEngine$", "-test.v").CombinedOutput()
		assert.Equal(t, c.ci != "", err != nil)
		assert.Contains(t, string(out), c.verdict)
		assert.Contains(t, string(out), engine.ErrNotFound.Error())
	}
}
