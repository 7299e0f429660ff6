package engine_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine"
)

// serverConfig is the part of the configuration that the played clickhouse server understands.
type serverConfig struct {
	XMLName    xml.Name `xml:"clickhouse"`
	TCPPort    int      `xml:"tcp_port"`
	HTTPPort   int      `xml:"http_port"`
	ListenHost []string `xml:"listen_host"`
	Path       string   `xml:"path"`
	Users      string   `xml:"users_config"`
	Macros     struct {
		Shard string `xml:"shard"`
	} `xml:"macros"`
}

type serverUsers struct {
	XMLName xml.Name `xml:"clickhouse"`
	Users   struct {
		List []struct {
			XMLName xml.Name
			Hash    string `xml:"password_sha256_hex"`
		} `xml:",any"`
	} `xml:"users"`
}

// playClickHouse stands in for a clickhouse binary: it knows `server --version` and `server --config-file=…`, reads
// the configuration that the engine wrote, and answers over HTTP whoever has a password of users.xml. It shows how the
// engine handles such a process; that a real server accepts the configuration it cannot show.
func playClickHouse(args []string) int {
	if len(args) != 2 || args[0] != "server" {
		fmt.Fprintln(os.Stderr, "unexpected arguments", args)
		return 2
	}
	if args[1] == "--version" {
		fmt.Println("ClickHouse server version " + os.Args[0] + " (official build).")
		return 0
	}
	path, ok := strings.CutPrefix(args[1], "--config-file=")
	var config serverConfig
	var users serverUsers
	if !ok || !load(path, &config) || !load(config.Users, &users) || len(users.Users.List) != 2 || len(config.ListenHost) != 1 {
		fmt.Fprintln(os.Stderr, "Code: 36. DB::Exception: bad configuration")
		return 36
	}
	if config.Macros.Shard == "broken" {
		fmt.Fprintln(os.Stderr, "Code: 36. DB::Exception: broken on request")
		return 36
	}
	for _, port := range []int{config.TCPPort, config.HTTPPort} {
		ln, err := net.Listen("tcp", fmt.Sprintf("%s:%d", config.ListenHost[0], port))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 210
		}
		if port == config.HTTPPort {
			go func() { _ = http.Serve(ln, users) }()
		}
	}
	if err := os.WriteFile(filepath.Join(config.Path, "played"), fmt.Appendf(nil, "%d", os.Getpid()), 0o600); err != nil {
		return 1
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	<-c
	_ = os.WriteFile(filepath.Join(config.Path, "clean"), nil, 0o600)
	return 0
}

func load(path string, into any) bool {
	b, err := os.ReadFile(path)
	return err == nil && xml.Unmarshal(b, into) == nil
}

func (u serverUsers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	sum := sha256.Sum256([]byte(r.Header.Get("X-ClickHouse-Key")))
	for _, user := range u.Users.List {
		if user.XMLName.Local == r.Header.Get("X-ClickHouse-User") && user.Hash == hex.EncodeToString(sum[:]) {
			fmt.Fprintln(w, "25.8.1.1")
			return
		}
	}
	w.WriteHeader(http.StatusForbidden)
}

// fakeBinary makes an executable `clickhouse` that is this test binary in its other part. The program name carries the
// version it tells.
func fakeBinary(t *testing.T, version string) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "clickhouse")
	script := fmt.Sprintf("#!/bin/bash\n%s=clickhouse exec -a %s '%s' \"$@\"\n", roleEnv, version, self)
	require.NoError(t, os.WriteFile(path, []byte(script), 0o700))
	return path
}

func TestBinaryIsSupervised(t *testing.T) {
	dir := t.TempDir()
	o := engine.Options{Dir: dir, Library: fakeBinary(t, "25.8.1.1")}
	e, err := engine.Start(t.Context(), o)
	require.NoError(t, err)
	assert.Equal(t, engine.KindBinary, e.Library().Kind)
	assert.Equal(t, "25.8.1.1", e.Version())
	joined, err := engine.Open(t.Context(), o)
	require.NoError(t, err)
	assert.Equal(t, e.Pid(), joined.Pid())
	leave(t, e)
	require.NoFileExists(t, filepath.Join(dir, "data", "clean"))
	leave(t, joined)
	assert.FileExists(t, filepath.Join(dir, "data", "clean"), "it was asked to stop, not killed")
	assert.False(t, running(t, dir))
}

func TestKilledSupervisorTakesTheServerAlong(t *testing.T) {
	dir := t.TempDir()
	e, err := engine.Start(t.Context(), engine.Options{Dir: dir, Library: fakeBinary(t, "25.8.1.1")})
	require.NoError(t, err)
	var pid int
	b, err := os.ReadFile(filepath.Join(dir, "data", "played"))
	require.NoError(t, err)
	_, err = fmt.Sscan(string(b), &pid)
	require.NoError(t, err)
	kill9(t, e)
	require.ErrorIs(t, e.Err(), engine.ErrDied)
	require.Eventually(t, func() bool {
		var d net.Dialer
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c, err := d.DialContext(ctx, "tcp", e.Endpoint().TCPAddr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	}, limit, 10*time.Millisecond)
	assert.NoFileExists(t, filepath.Join(dir, "data", "clean"))
}

func TestOldBinaryIsRefused(t *testing.T) {
	_, err := engine.Start(t.Context(), engine.Options{Dir: t.TempDir(), Library: fakeBinary(t, "24.8.1.1")})
	require.ErrorIs(t, err, engine.ErrStart)
	assert.ErrorContains(t, err, "is ClickHouse 24.8; 25.3 or newer is needed")
	_, err = engine.Start(t.Context(), engine.Options{Dir: t.TempDir(), Library: "/bin/true"})
	assert.ErrorContains(t, err, "does not tell a version")
	assert.NotContains(t, err.Error(), "\n")
}

func TestBinaryThatEndsAtStart(t *testing.T) {
	began := time.Now()
	_, err := engine.Start(t.Context(), engine.Options{
		Dir: t.TempDir(), Library: fakeBinary(t, "25.8.1.1"), ExtraConfig: "<macros><shard>broken</shard></macros>",
	})
	require.ErrorIs(t, err, engine.ErrStart)
	assert.ErrorContains(t, err, "broken on request")
	assert.Less(t, time.Since(began), engine.DefaultStartTimeout, "it is told at once")
}
