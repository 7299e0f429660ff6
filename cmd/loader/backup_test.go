package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The embedded engine as a user has it: back up, lose everything, restore, load the same again.
func TestBackupAndRestore(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	old, fresh := "embedded:"+at("old"), "embedded:"+at("fresh")
	works(t, "load", demoCapture, "--dsn", old, "--sensor", "demo", "--telescope", "198.18.32.0/20")
	works(t, "detect", "--dsn", old)
	want := works(t, "campaigns", "--dsn", old, "--format", "csv")
	require.Contains(t, works(t, "backup", at("full"), "--dsn", old), "62,780 events in ")
	works(t, "load", filepath.Join("..", "..", "demo", "honeypot.pcap.zst"), "--dsn", old)
	require.Contains(t, works(t, "backup", at("more.tar.zst"), "--base", at("full"), "--no-verify", "--dsn", old), "an increment of "+at("full")+", not verified")

	require.Contains(t, works(t, "restore", at("more.tar.zst"), "--dsn", fresh), "restored 67,617 events in ")
	require.Equal(t, want, works(t, "campaigns", "--dsn", fresh, "--format", "csv"))
	require.Contains(t, works(t, "load", demoCapture, "--dsn", fresh, "--sensor", "demo"), " 0 new, 62,780 already loaded")
	r := loader(t, "", "restore", at("full"), "--dsn", fresh)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "nothing was restored: the database is not empty")
	r = loader(t, "", "backup", at("full"), "--dsn", old)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "a backup replaces nothing")
	for _, args := range [][]string{{"backup"}, {"restore"}, {"backup", "a", "b"}, {"backup", ""}, {"restore", ""}, {"backup", at("x"), "--base", ""},
		{"backup", at("x"), "--base", at("full"), "--base", at("full")}, {"backup", at("x"), "--disk", "d"}, {"restore", at("full"), "--from", "x"}} {
		require.Equal(t, exitUsage, loader(t, "", append(args, "--dsn", old)...).code, "%v", args)
	}
}

// A mistyped directory is not made, and not backed up as if it held everything.
func TestBackupOfNothing(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, args := range [][]string{{"backup", at("b")}, {"export", "events", "-o", at("b")}} {
		r := loader(t, "", append(args, "--dsn", "embedded:"+at("mistyped"))...)
		require.Equal(t, exitFailed, r.code, r.stderr)
		require.Contains(t, r.stderr, "data directory "+at("mistyped")+": nothing was loaded into it yet")
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	works(t, "migrate", "--dsn", "embedded:"+at("empty"))
	r := loader(t, "", "backup", at("b"), "--no-verify", "--dsn", "embedded:"+at("empty"))
	require.Zero(t, r.code, r.stderr)
	require.Contains(t, r.stderr, "note: "+at("b")+" holds no event")
}

// Of these commands nothing is kept when they are interrupted.
func TestInterruptedBackupRestoreExport(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dsn := newDSN(t)
	for command, says := range map[string]string{
		"backup x":      "loader: interrupted; no backup was made: have the server remove what it wrote under that name, or give another, and begin anew\n",
		"restore x":     "loader: interrupted; nothing of the restore is kept: run the same command again to begin anew\n",
		"export events": "loader: interrupted; what was exported is not whole: run the same command again to begin anew\n",
	} {
		var out, errOut bytes.Buffer
		args := append([]string{"loader"}, strings.Fields(command)...)
		code := run(ctx, append(args, "--dsn", dsn), environment{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut})
		require.Equal(t, exitInterrupted, code, errOut.String())
		require.Equal(t, says, errOut.String())
	}
}

// A server finds backups in places of its own, by the name that the command line gives.
func TestBackupOfAServer(t *testing.T) {
	dsn, other := newDSN(t), newDSN(t)
	works(t, "load", demoCapture, "--dsn", dsn)
	name := filepath.Base(t.TempDir()) + filepath.Base(other)
	require.Contains(t, works(t, "backup", name, "--dsn", dsn), "62,780 events in ")
	r := loader(t, "", "restore", name, "--dsn", other)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "was the database called otherwise when the backup was made?")
	require.Contains(t, works(t, "restore", name, "--from", filepath.Base(dsn), "--dsn", other), "restored 62,780 events in ")
	require.Contains(t, works(t, "load", demoCapture, "--dsn", other), " 0 new, 62,780 already loaded")
	r = loader(t, "", "backup", "x", "--disk", "nix", "--dsn", dsn)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "allowed_disk")
}
