package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
)

// typed is a command of the tutorial and what it says there.
type typed struct {
	command string
	says    []string
}

// What differs from run to run.
var varying = []struct {
	pattern *regexp.Regexp
	as      string
}{
	{regexp.MustCompile(`\([0-9.]+m?s, [0-9,]+ packets/s\)`), "(in no time)"},
	{regexp.MustCompile(`rows? in [0-9.]+m?s`), "rows"},
	{regexp.MustCompile(`20[0-9]{6}T[0-9]{6}\.[0-9]{6}Z`), "RUN"},
	{regexp.MustCompile(`[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}\.[0-9]{6}`), "NOW"},
	{regexp.MustCompile(`127\.0\.0\.1:[0-9]+`), "PORT"},
}

// The tutorial was typed as it stands: each of its commands says today what it says there.
func TestTutorial(t *testing.T) {
	enginetest.Need(t)
	text, err := os.ReadFile("../../docs/tutorial.md")
	require.NoError(t, err)
	e := evening{t: t, dir: t.TempDir(), port: freePort(t)}
	e.prepare()
	ran := 0
	for _, c := range commandsIn(strings.ReplaceAll(string(text), "18123", e.port)) {
		var got string
		switch word, rest, _ := strings.Cut(c.command, " "); {
		case word == "make": // This test is what it builds.
			continue
		case word == "export":
			e.env = append(e.env, rest)
		case word == "zstd": // It may not be there.
			e.unpack("demo/telescope.pcap.zst", "renamed.pcap")
		case word == "curl":
			got = e.fetch(rest)
		case strings.HasPrefix(rest, "up "):
			got = e.up(c.command)
		default:
			got = e.shell(c.command)
		}
		ran++
		require.True(t, alike(c.says, strings.Split(strings.TrimRight(got, "\n"), "\n")), "$ %s\nsays in docs/tutorial.md:\n%s\nand now:\n%s", c.command, strings.Join(c.says, "\n"), got)
	}
	require.Greater(t, ran, 20)
}

// commandsIn are the commands of the console blocks, lines that end in \ joined to the next.
func commandsIn(text string) (out []typed) {
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)\n```").FindAllStringSubmatch(text, -1) {
		for _, line := range strings.Split(strings.ReplaceAll(block[1], "\\\n", ""), "\n") {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				out = append(out, typed{command: command})
			} else {
				out[len(out)-1].says = append(out[len(out)-1].says, line)
			}
		}
	}
	return out
}

// left marks text that was left out.
var left = regexp.MustCompile(` *…`)

// alike compares what is said with what was written down, in which … stands for any text in a line, and alone for any lines.
func alike(want, got []string) bool {
	if len(want) == 0 {
		return len(got) == 0 || len(got) == 1 && got[0] == ""
	}
	if want[0] == "…" {
		return alike(want[1:], got) || len(got) > 0 && alike(want, got[1:])
	}
	if len(got) == 0 {
		return false
	}
	parts := left.Split(steady(want[0]), -1)
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	line := regexp.MustCompile("^" + strings.Join(parts, ".*") + "$")
	return line.MatchString(steady(got[0])) && alike(want[1:], got[1:])
}

// steady is a line without what differs from run to run.
func steady(line string) string {
	for _, v := range varying {
		line = v.pattern.ReplaceAllString(line, v.as)
	}
	return strings.TrimRight(line, " ")
}

// evening is the directory and the shell in which the tutorial is typed.
type evening struct {
	t    *testing.T
	dir  string
	port string // in the place of 18123
	env  []string
}

// prepare makes what the first step of the tutorial does: the program and the demo are there.
func (e *evening) prepare() {
	e.t.Helper()
	self, err := os.Executable()
	require.NoError(e.t, err)
	for _, name := range []string{"demo", "node_modules"} {
		there, err := filepath.Abs("../../" + name)
		require.NoError(e.t, err)
		require.NoError(e.t, os.Symlink(there, filepath.Join(e.dir, name)))
	}
	require.NoError(e.t, os.Mkdir(filepath.Join(e.dir, "bin"), 0o700))
	script := fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", asLoader, self)
	require.NoError(e.t, os.WriteFile(filepath.Join(e.dir, "bin", "loader"), []byte(script), 0o700)) //nolint:gosec // It is to be run.
}

func (e *evening) shell(command string) string {
	e.t.Helper()
	cmd := exec.CommandContext(e.t.Context(), "bash", "-c", command) //nolint:gosec // It stands in our own tutorial.
	cmd.Dir, cmd.Env = e.dir, append(os.Environ(), e.env...)
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	require.NoError(e.t, cmd.Run(), "%s\n%s", command, &said)
	return out.String()
}

func (e *evening) unpack(from, to string) {
	e.t.Helper()
	in, err := os.Open(filepath.Join(e.dir, from))
	require.NoError(e.t, err)
	defer in.Close() //nolint:errcheck // It was only read.
	z, err := zstd.NewReader(in)
	require.NoError(e.t, err)
	defer z.Close()
	out, err := os.Create(filepath.Join(e.dir, to))
	require.NoError(e.t, err)
	_, err = io.Copy(out, z)
	require.NoError(e.t, err)
	require.NoError(e.t, out.Close())
}

// up starts the engine, which runs until the test ends, and returns what it says until it waits.
func (e *evening) up(command string) string {
	e.t.Helper()
	// The test's context ends before its cleanup, and would kill the loader before that has stopped the engine.
	cmd := exec.CommandContext(context.Background(), "bash", "-c", "exec "+command) //nolint:gosec // See shell.
	cmd.Dir, cmd.Env = e.dir, append(os.Environ(), e.env...)
	out, err := cmd.StdoutPipe()
	require.NoError(e.t, err)
	require.NoError(e.t, cmd.Start())
	e.t.Cleanup(func() {
		require.NoError(e.t, cmd.Process.Signal(syscall.SIGTERM))
		require.NoError(e.t, cmd.Wait())
	})
	var said []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said = append(said, lines.Text())
		if strings.HasPrefix(lines.Text(), "Stop it") {
			break
		}
	}
	return strings.Join(said, "\n")
}

var curled = regexp.MustCompile(`^-s -u "reader:\$\(cat (\S+)\)" '?(http://[^' ]+)'? +--data "(.*)"$`)

// fetch does what curl does, which may not be there.
func (e *evening) fetch(arguments string) string {
	e.t.Helper()
	m := curled.FindStringSubmatch(arguments)
	require.NotNil(e.t, m, "curl %s", arguments)
	password, err := os.ReadFile(filepath.Join(e.dir, m[1]))
	require.NoError(e.t, err)
	r, err := http.NewRequestWithContext(e.t.Context(), http.MethodPost, m[2], strings.NewReader(m[3]))
	require.NoError(e.t, err)
	r.SetBasicAuth("reader", strings.TrimSpace(string(password)))
	answer, err := http.DefaultClient.Do(r)
	require.NoError(e.t, err)
	defer answer.Body.Close() //nolint:errcheck // It is read to its end.
	body, err := io.ReadAll(answer.Body)
	require.NoError(e.t, err)
	return string(body)
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // It listens at once.
	require.NoError(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return port
}
