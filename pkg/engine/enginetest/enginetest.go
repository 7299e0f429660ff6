// Package enginetest gives tests a real ClickHouse: one embedded engine for a test binary, started by the first test
// that asks for it, and databases of their own.
//
//	func TestMain(m *testing.M) { os.Exit(enginetest.Main(m)) }
//
//	func TestSomething(t *testing.T) {
//		ep, db := enginetest.Endpoint(t), enginetest.Database(t)
//		…
//	}
//
// Where no engine is installed, tests that ask for one are skipped, and fail if CI is set.
package enginetest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"murmuration/pkg/engine"
)

// shared is the engine of this test binary. There is one, because a test binary is one process and an engine costs a
// quarter of a gigabyte; it is the only reason for a variable of the package.
var shared struct {
	mu     sync.Mutex
	inMain bool
	tried  bool
	dir    string
	engine *engine.Engine
	err    error
}

// stopTimeout bounds the stop at the end of the tests.
const stopTimeout = 30 * time.Second

// Main runs the tests, then stops the engine if one was started and removes its data. It returns the status to exit
// with, which is not 0 if the engine died under the tests or did not stop. It must be all of TestMain: the engine's
// process is this test binary, started again.
func Main(m *testing.M) int {
	engine.MaybeChild()
	shared.mu.Lock()
	shared.inMain = true
	shared.mu.Unlock()
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "enginetest:", err)
		code = max(code, 1)
	}
	return code
}

func stop() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.dir == "" {
		return nil
	}
	var errs []error
	if e := shared.engine; e != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		errs = append(errs, e.Stop(ctx), e.Err())
	}
	return errors.Join(append(errs, os.RemoveAll(shared.dir))...)
}

// Engine returns the engine of this test binary, and starts it for the first caller. Tests that stop or kill an engine
// start their own.
func Engine(t testing.TB) *engine.Engine {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if !shared.inMain {
		t.Fatal("enginetest: TestMain must be `func TestMain(m *testing.M) { os.Exit(enginetest.Main(m)) }`")
	}
	if !shared.tried {
		shared.tried = true
		shared.err = start()
	}
	if errors.Is(shared.err, engine.ErrNotFound) {
		missing(t, shared.err)
	}
	if shared.err != nil {
		t.Fatalf("enginetest: %v", shared.err)
	}
	return shared.engine
}

// Need skips the test where no engine is installed, and fails it if CI is set. It is for tests that start engines of
// their own.
func Need(t testing.TB) engine.Library {
	t.Helper()
	lib, err := engine.Locate("")
	if err != nil {
		missing(t, err)
	}
	return lib
}

func missing(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("enginetest: these tests need the real engine: %v", err)
	}
	t.Skipf("enginetest: %v", err)
}

func start() (err error) {
	if shared.dir, err = os.MkdirTemp("", "murmuration-test-"); err != nil {
		return err
	}
	shared.engine, err = engine.Start(context.Background(), engine.Options{Dir: shared.dir})
	return err
}

// Endpoint returns the addresses and credentials of the engine of this test binary.
func Endpoint(t testing.TB) engine.Endpoint {
	t.Helper()
	return Engine(t).Endpoint()
}

// Database makes an empty database with a random name, and drops it at the end of the test.
func Database(t testing.TB) string {
	t.Helper()
	name := Name(t)
	Exec(t, "CREATE DATABASE "+name)
	return name
}

// Name returns a random name for a database that the test makes itself. What has that name is dropped at the end.
func Name(t testing.TB) string {
	t.Helper()
	Engine(t)
	b := make([]byte, 8)
	_, _ = rand.Read(b) // Never fails: crypto/rand ends the program instead.
	name := "test_" + hex.EncodeToString(b)
	t.Cleanup(func() { Exec(t, "DROP DATABASE IF EXISTS "+name+" SYNC") })
	return name
}

// execTimeout bounds one statement of Exec.
const execTimeout = time.Minute

// Exec runs one statement as the owner and returns what it answers, as tab-separated text.
func Exec(t testing.TB, statement string) string {
	t.Helper()
	ep := Endpoint(t)
	// Not the test's context, which is cancelled before its cleanups run.
	ctx, cancel := context.WithTimeout(context.Background(), execTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+ep.HTTPAddr+"/", strings.NewReader(statement))
	if err != nil {
		t.Fatalf("enginetest: %v", err)
	}
	req.Header.Set("X-ClickHouse-User", ep.User)
	req.Header.Set("X-ClickHouse-Key", ep.Password)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("enginetest: %s: %v", statement, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("enginetest: %s: %v", statement, err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("enginetest: %s: %s", statement, body)
	}
	return strings.TrimSuffix(string(body), "\n")
}
