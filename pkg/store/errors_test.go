package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
)

func TestParseDSN(t *testing.T) {
	for dsn, want := range map[string]Options{
		"clickhouse://localhost":                 {Addr: []string{"localhost:9000"}, Database: "scan"},
		"clickhouse://ada:s3@h:9001/db":          {Addr: []string{"h:9001"}, User: "ada", Password: "s3", Database: "db"},
		"clickhouse://a:p%40s%2Fs@h1:1,h2,h3:3/": {Addr: []string{"h1:1", "h2:9000", "h3:3"}, User: "a", Password: "p@s/s", Database: "scan"},
		"clickhouse://a:p:q@h":                   {Addr: []string{"h:9000"}, User: "a", Password: "p:q", Database: "scan"},
		"clickhouse://a:p@q@h":                   {Addr: []string{"h:9000"}, User: "a", Password: "p@q", Database: "scan"},
		"clickhouses://[2001:db8::1]/x":          {Addr: []string{"[2001:db8::1]:9440"}, Database: "x", Secure: true},
		"clickhouse://[::1]:9/x?secure=true&compress=zstd&dial_timeout=3s&retry_for=1m": {Addr: []string{"[::1]:9"}, Database: "x", Secure: true,
			Compression: CompressionZSTD, DialTimeout: 3 * time.Second, RetryFor: time.Minute},
		"clickhouse://h?secure=1&skip_verify=1": {Addr: []string{"h:9440"}, Database: "scan", Secure: true,
			TLS: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}}, //nolint:gosec // What is asked for.
	} {
		got, err := ParseDSN(dsn)
		require.NoError(t, err, dsn)
		assert.Equal(t, want, got, dsn)
	}
}

func TestBadDSN(t *testing.T) {
	for dsn, says := range map[string]string{
		"":                                       "clickhouse://user:password@host",
		"localhost:9000":                         "clickhouse://user:password@host",
		"http://h":                               "clickhouse://user:password@host",
		"clickhouse://":                          "a host is missing",
		"clickhouse://u:hunter2@":                "a host is missing",
		"clickhouse://u:hunter2@h:port":          "not host:port",
		"clickhouse://u:hunter2@h:0":             "not host:port",
		"clickhouse://u:hunter2@h:70000":         "not host:port",
		"clickhouse://u:hunter2@2001:db8::1":     "[IPv6 address]",
		"clickhouse://u:hunter2%zz@h":            "%25",
		"clickhouse://u:hunter2@h?secure=maybe":  "secure=maybe",
		"clickhouse://u:hunter2@h?sucre=1":       `"sucre"`,
		"clickhouse://u:hunter2@h?compress=br":   "lz4",
		"clickhouse://u:hunter2@h?skip_verify=1": "need secure=true",
		"clickhouse://u:hunter2@h/%zz":           "database",
	} {
		_, err := ParseDSN(dsn)
		require.ErrorIs(t, err, ErrDSN, dsn)
		assert.Contains(t, err.Error(), says, dsn)
		assert.NotContains(t, err.Error(), "hunter2", dsn)
	}
}

func FuzzParseDSN(f *testing.F) {
	f.Add("clickhouse://a:secret@h1:1,h2/db?secure=true")
	f.Fuzz(func(t *testing.T, dsn string) {
		o, err := ParseDSN(dsn)
		if err == nil {
			require.NotEmpty(t, o.Addr)
			require.NotEmpty(t, o.Database)
		}
	})
}

func TestVersions(t *testing.T) {
	for version, ok := range map[string]bool{
		"25.3.1.2703": true, "25.3": true, "25.12.1.1": true, "26.7.2.1": true, "100.1": true,
		"25.2.9.9": false, "24.12.1.1": false, "21.8": false, "": false, "latest": false, "25": false, "x.y": false,
	} {
		err := checkVersion(version)
		if ok {
			require.NoError(t, err, version)
			continue
		}
		require.ErrorIs(t, err, ErrTooOld, version)
		assert.Contains(t, err.Error(), "25.3", version)
	}
}

// fails opens with changed options and returns the error, which must come soon.
func fails(t *testing.T, change func(*Options)) error {
	t.Helper()
	o := options(t)
	o.CreateDatabase, o.DialTimeout = false, 2*time.Second
	change(&o)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := Open(ctx, o)
	require.Error(t, err)
	if o.Password != "" {
		assert.NotContains(t, err.Error(), o.Password)
	}
	return err
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	ep := enginetest.Endpoint(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // Accepts and never answers.
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, silent.Close()) })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	for name, c := range map[string]struct {
		change func(*Options)
		is     error
		says   string
	}{
		"wrong password":      {func(o *Options) { o.Password = "wrong-password" }, ErrAuth, "check user and password"},
		"unknown user":        {func(o *Options) { o.User = "nobody" }, ErrAuth, "nobody"},
		"unknown host":        {func(o *Options) { o.Addr = []string{"host.invalid:9000"} }, ErrUnavailable, "host.invalid"},
		"nothing there":       {func(o *Options) { o.Addr = []string{closed.Addr().String()} }, ErrUnavailable, "nothing listens"},
		"no answer":           {func(o *Options) { o.Addr = []string{silent.Addr().String()} }, ErrUnavailable, "no answer"},
		"TLS to a plain port": {func(o *Options) { o.Secure = true }, ErrTLS, "secure"},
		"HTTP port":           {func(o *Options) { o.Addr = []string{ep.HTTPAddr} }, ErrUnavailable, "native"},
		"no such database":    {func(*Options) {}, ErrNoDatabase, "loader migrate"},
		"odd database name":   {func(o *Options) { o.Database = "x; DROP" }, ErrDSN, "letters"},
	} {
		t.Run(name, func(t *testing.T) {
			err := fails(t, c.change)
			require.ErrorIs(t, err, c.is, "%v", err)
			assert.Contains(t, err.Error(), c.says)
		})
	}
}

// The first server of the list that answers is used.
func TestOpenTakesTheNextServer(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	o := options(t)
	o.Addr = append([]string{closed.Addr().String()}, o.Addr...)
	s := openWith(t, o)
	assert.Equal(t, "1\n", table(t, s, "SELECT 1"))
}

func TestExplainSortsCauses(t *testing.T) {
	s := &Store{opt: Options{Addr: []string{"h:9000"}}, log: slog.New(slog.DiscardHandler)}
	for _, c := range []struct {
		err     error
		is      error
		passing bool
	}{
		{&clickhouse.Exception{Code: codeNotEnoughSpace, Message: "Cannot reserve 1.00 MiB"}, ErrDiskFull, false},
		{&clickhouse.Exception{Code: codeCannotWrite, Message: "write failed, errno: 28, strerror: No space left on device"}, ErrDiskFull, false},
		{&clickhouse.Exception{Code: codeUnknownDatabase}, ErrNoDatabase, false},
		{&clickhouse.Exception{Code: codeTooManyParts}, nil, true},
		{&clickhouse.Exception{Code: codeMemoryLimit}, nil, true},
		{&clickhouse.Exception{Code: codeDNS}, nil, true},
		{&clickhouse.Exception{Code: codeNoKeeper}, nil, true},
		{&clickhouse.Exception{Code: codeNodesUnavailable, Message: "All connection tries failed. Log: (node2:9000, 10.0.0.2)"}, ErrUnavailable, true},
		{&clickhouse.Exception{Code: 62}, nil, false},
		{fmt.Errorf("read: %w", io.EOF), ErrUnavailable, true},
		{&net.OpError{Op: "read", Err: syscall.ECONNRESET}, ErrUnavailable, true},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, ErrUnavailable, true},
		{context.Canceled, context.Canceled, false},
		{errors.New("odd"), nil, false},
	} {
		got := s.explain(c.err)
		if c.is == nil {
			c.is = c.err
		}
		require.ErrorIs(t, got, c.is, "%v", c.err)
		assert.Equal(t, c.passing, passing(got), "%v", c.err)
	}
	// Nodes that answer and are not what they should be: nobody is named as silent who is not.
	bare := s.explain(&clickhouse.Exception{Code: codeNodesUnavailable, Message: "There is no table scan.events_local on server: node2"})
	assert.ErrorContains(t, bare, "no replica of a shard can be used")
	assert.ErrorContains(t, bare, "There is no table scan.events_local")
	assert.NoError(t, s.explain(nil))
	assert.True(t, strings.Contains(s.explain(io.EOF).Error(), "h:9000"))
}
