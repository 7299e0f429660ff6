package engine_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/gofrs/flock"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine"
	"murmuration/pkg/engine/enginetest"
)

// roleEnv makes the test binary play another program: a loader that can be killed, or a clickhouse binary.
const roleEnv = "MURMURATION_ENGINE_TEST_ROLE"

func TestMain(m *testing.M) {
	engine.MaybeChild()
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(enginetest.Main(m))
	case "loader":
		os.Exit(playLoader(os.Args[1]))
	case "clickhouse":
		os.Exit(playClickHouse(os.Args[1:]))
	}
}

// limit bounds what a test waits for; nothing takes nearly as long unless it is broken.
const limit = 60 * time.Second

// report is what the played loader prints when it has its engine.
type report struct {
	Pid      int
	Owned    bool
	Endpoint engine.Endpoint
	Err      string
}

// playLoader opens the engine, says so, keeps it until its standard input ends, and leaves.
func playLoader(dir string) int {
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Options{Dir: dir})
	if err != nil {
		_ = json.NewEncoder(os.Stdout).Encode(report{Err: err.Error()})
		return 1
	}
	_ = json.NewEncoder(os.Stdout).Encode(report{Pid: e.Pid(), Owned: e.Owned(), Endpoint: e.Endpoint()})
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := e.Close(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// loader is another process that uses an engine.
type loader struct {
	report
	cmd   *exec.Cmd
	stdin io.Closer
}

// startLoader starts a loader that must get its engine.
func startLoader(t *testing.T, dir string) *loader {
	t.Helper()
	l := runLoader(t, dir, nil)
	require.Empty(t, l.Err)
	return l
}

func runLoader(t *testing.T, dir string, credential *syscall.Credential) *loader {
	t.Helper()
	l := &loader{cmd: &exec.Cmd{Path: "/proc/self/exe", Args: []string{"loader", dir}, Dir: "/", Stderr: os.Stderr}}
	// It runs elsewhere, so it is told where the library is.
	l.cmd.Env = append(os.Environ(), roleEnv+"=loader", engine.LibraryEnv+"="+enginetest.Need(t).Path)
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	in, err := l.cmd.StdinPipe()
	require.NoError(t, err)
	l.stdin = in
	out, err := l.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, l.cmd.Start())
	t.Cleanup(func() {
		_ = l.cmd.Process.Kill()
		_ = l.cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(line, &l.report))
	return l
}

// leave lets the process end in good order.
func (l *loader) leave(t *testing.T) {
	t.Helper()
	require.NoError(t, l.stdin.Close())
	require.NoError(t, l.cmd.Wait())
}

func (l *loader) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, l.cmd.Process.Kill())
	require.Error(t, l.cmd.Wait())
}

// start starts an engine that the test stops or kills.
func start(t testing.TB, dir string) *engine.Engine {
	t.Helper()
	return startWith(t, engine.Options{Dir: dir})
}

func startWith(t testing.TB, o engine.Options) *engine.Engine {
	t.Helper()
	enginetest.Need(t)
	e, err := engine.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, e) })
	return e
}

func stop(t testing.TB, e *engine.Engine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	require.NoError(t, e.Stop(ctx))
}

// sendSignal sends a signal to an engine, and never to the process group of the test, which is what process id 0 means.
func sendSignal(t testing.TB, pid int, s syscall.Signal) {
	t.Helper()
	require.Greater(t, pid, 1)
	require.NoError(t, syscall.Kill(pid, s))
}

// leave closes the engine for this user of it.
func leave(t testing.TB, e *engine.Engine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	require.NoError(t, e.Close(ctx))
}

// ended waits for the end of the engine as its user sees it.
func ended(t testing.TB, e *engine.Engine) {
	t.Helper()
	select {
	case <-e.Done():
	case <-time.After(limit):
		t.Fatal("the engine did not end")
	}
}

// running reports whether an engine holds the directory, which only its lock tells.
func running(t testing.TB, dir string) bool {
	t.Helper()
	lock := flock.New(filepath.Join(dir, "engine.lock"))
	free, err := lock.TryLock()
	require.NoError(t, err)
	require.NoError(t, lock.Close())
	return !free
}

func gone(t testing.TB, dir string) {
	t.Helper()
	require.Eventually(t, func() bool { return !running(t, dir) }, limit, 10*time.Millisecond, "the engine still holds its lock")
}

// connect opens a native connection.
func connect(t testing.TB, ep engine.Endpoint, user, password string) driver.Conn {
	t.Helper()
	c, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{ep.TCPAddr}, Auth: clickhouse.Auth{Username: user, Password: password}, DialTimeout: 5 * time.Second,
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func owner(t testing.TB, e *engine.Engine) driver.Conn {
	t.Helper()
	ep := e.Endpoint()
	return connect(t, ep, ep.User, ep.Password)
}

func number(t testing.TB, c driver.Conn, query string) (n uint64) {
	t.Helper()
	require.NoError(t, c.QueryRow(t.Context(), query).Scan(&n))
	return n
}
