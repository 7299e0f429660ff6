package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func touch(t *testing.T, path string, mode os.FileMode) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n# stands for an engine\n"), mode))
	return path
}

func TestLocateInOrder(t *testing.T) {
	dir := t.TempDir()
	flag := touch(t, filepath.Join(dir, "flag", "libchdb.so"), 0o600)
	env := touch(t, filepath.Join(dir, "env", "libchdb.so"), 0o600)
	binary := touch(t, filepath.Join(dir, "bin", "clickhouse"), 0o700)
	modules := filepath.Join(dir, "project", "node_modules")
	npm := touch(t, filepath.Join(modules, packageFile()), 0o600)
	t.Setenv(LibraryEnv, env)
	t.Setenv("PATH", filepath.Dir(binary))
	for _, step := range []struct {
		flag, path, from string
		kind             Kind
		next             func()
	}{
		{flag, flag, "flag", KindLibrary, func() {}},
		{"", env, "environment", KindLibrary, func() { t.Setenv(LibraryEnv, "") }},
		{"", binary, "PATH", KindBinary, func() { t.Setenv("PATH", dir) }},
		{"", npm, "npm", KindLibrary, func() {}},
	} {
		lib, err := locate(step.flag, []string{filepath.Join(dir, "none"), modules})
		require.NoError(t, err)
		assert.Equal(t, Library{Path: step.path, Kind: step.kind, From: step.from}, lib)
		step.next()
	}
	lib, err := locate(filepath.Dir(npm), nil)
	require.NoError(t, err)
	assert.Equal(t, npm, lib.Path, "the package's directory serves, too")
}

func TestLocateNothing(t *testing.T) {
	t.Setenv(LibraryEnv, "")
	t.Setenv("PATH", t.TempDir())
	_, err := locate("", []string{t.TempDir()})
	require.ErrorIs(t, err, ErrNotFound)
	for _, part := range []string{"make build", "npm ci", "clickhouse", "--engine", LibraryEnv} {
		assert.Contains(t, err.Error(), part)
	}
	assert.NotContains(t, strings.TrimSuffix(err.Error(), "."), "\n")
}

// What was given and does not serve must not be passed over in silence.
func TestLocateGivenButUseless(t *testing.T) {
	dir := t.TempDir()
	plain := touch(t, filepath.Join(dir, "notes.txt"), 0o600)
	modules := filepath.Join(dir, "node_modules")
	touch(t, filepath.Join(modules, packageFile()), 0o600)
	for path, says := range map[string]string{
		filepath.Join(dir, "absent"): "does not exist",
		plain:                        "neither libchdb.so nor an executable",
		t.TempDir():                  "does not exist",
	} {
		_, err := locate(path, []string{modules})
		assert.ErrorContains(t, err, says)
		t.Setenv(LibraryEnv, path)
		_, err = locate("", []string{modules})
		assert.ErrorContains(t, err, says)
		assert.ErrorContains(t, err, "environment")
	}
}

func TestModuleDirsNearestFirst(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	below := filepath.Join(base, "a", "b")
	require.NoError(t, os.MkdirAll(below, 0o700))
	t.Chdir(below)
	t.Setenv("HOME", base)
	dirs := moduleDirs()
	self, err := os.Executable()
	require.NoError(t, err)
	order := []string{
		filepath.Join(filepath.Dir(filepath.Dir(self)), "node_modules"),
		filepath.Join(below, "node_modules"), filepath.Join(base, "a", "node_modules"), filepath.Join(base, "node_modules"),
		filepath.Join(base, ".local", "share", "murmuration", "engine", "node_modules"), "/usr/lib/node_modules",
	}
	last := -1
	for _, want := range order {
		at := -1
		for i, d := range dirs {
			if d == want {
				at = i
				break
			}
		}
		assert.Greaterf(t, at, last, "%s in %v", want, dirs)
		last = at
	}
}

func TestLibraryAndProgramAreToldApart(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	lib, err := inspect(self, "flag")
	require.NoError(t, err)
	assert.Equal(t, KindBinary, lib.Kind)
}

// Half a library would kill the process that loads it, with a dump of registers in the place of a reason.
func TestHalfALibraryIsRefused(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	whole, err := os.ReadFile(self)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "libchdb.so")
	require.NoError(t, os.WriteFile(path, whole, 0o600))
	lib, err := inspect(path, "flag")
	require.NoError(t, err)
	assert.Equal(t, KindLibrary, lib.Kind)
	require.NoError(t, os.Truncate(path, int64(len(whole)/2)))
	_, err = inspect(path, "flag")
	assert.ErrorContains(t, err, "cut short")
	assert.ErrorContains(t, err, "npm ci")
}
