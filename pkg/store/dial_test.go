package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
)

// watchedConn notes the limits that reads are given.
type watchedConn struct {
	net.Conn
	mu     sync.Mutex
	limits []time.Time
}

func (c *watchedConn) note(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limits = append(c.limits, t)
}

// take returns the limits since it was last called.
func (c *watchedConn) take() []time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.limits
	c.limits = nil
	return out
}

func (c *watchedConn) SetReadDeadline(t time.Time) error {
	c.note(t)
	return c.Conn.SetReadDeadline(t) //nolint:wrapcheck // It is that of the connection.
}

func (c *watchedConn) SetDeadline(t time.Time) error {
	c.note(t)
	return c.Conn.SetDeadline(t) //nolint:wrapcheck // It is that of the connection.
}

// A limit of reading counts anew from whatever arrives; the end of a context does not, and no limit is none.
func TestLimitsAreOfSilence(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close() //nolint:errcheck // It is a pipe.
	defer far.Close()  //nolint:errcheck // It is a pipe.
	watched := &watchedConn{Conn: near}
	conn := steadied(t.Context(), watched)
	read := func() []time.Time {
		watched.take()
		go far.Write([]byte("x")) //nolint:errcheck // Read tells.
		_, err := conn.Read(make([]byte, 1))
		require.NoError(t, err)
		return watched.take()
	}
	require.Empty(t, read())
	limit := time.Now().Add(time.Hour)
	require.NoError(t, conn.SetReadDeadline(limit))
	for range 2 {
		next := read()
		require.Len(t, next, 1)
		require.True(t, next[0].After(limit), "%s is no later than %s", next[0], limit)
		require.WithinDuration(t, limit, next[0], 30*time.Minute)
		limit = next[0]
	}
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Hour)))
	require.Empty(t, read())
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Hour)))
	require.NoError(t, conn.SetReadDeadline(time.Time{}))
	require.Empty(t, read())
	_, alive := conn.(syscall.Conn)
	require.False(t, alive, "a pipe cannot be asked")
}

// An answer may take as long as it comes, and a statement that the server works on in silence longer than any backup takes.
func TestStatementsMayTakeLong(t *testing.T) {
	o := options(t)
	var mu sync.Mutex
	var conns []*watchedConn
	o.DialContext = func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err //nolint:wrapcheck // It is a test's.
		}
		mu.Lock()
		defer mu.Unlock()
		conns = append(conns, &watchedConn{Conn: conn})
		return conns[len(conns)-1], nil
	}
	s := openWith(t, o)
	limits := func() (out []time.Time) {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			for _, l := range c.take() {
				if !l.IsZero() {
					out = append(out, l)
				}
			}
		}
		return out
	}
	limits()
	assert.NotEmpty(t, table(t, s, "SELECT number FROM numbers(300000)"))
	given := limits()
	require.Greater(t, len(given), 3, "every packet gives time anew")
	for i, l := range given {
		require.WithinDuration(t, time.Now().Add(longestSilence), l, longestSilence, "%d", i)
	}
	_, err := s.Migrate(t.Context())
	require.NoError(t, err)
	limits()
	day := time.Now().AddDate(0, 0, 1)
	require.NoError(t, s.ddl(t.Context(), "OPTIMIZE TABLE port_hours_state FINAL"))
	given = limits()
	require.NotEmpty(t, given)
	require.True(t, given[len(given)-1].After(day))
}

// The server is reached by TLS, if it is the one that the certificate names, and one that is not is refused.
func TestTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil) // For its certificate of 127.0.0.1.
	t.Cleanup(web.Close)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS12, Certificates: web.TLS.Certificates})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	engine := enginetest.Endpoint(t).TCPAddr
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := new(net.Dialer).DialContext(context.Background(), "tcp", engine)
			if err != nil {
				_ = client.Close() // The test fails by it.
				continue
			}
			go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
			go func() { _, _ = io.Copy(client, server); _ = client.Close() }()
		}
	}()
	o := options(t)
	o.Addr, o.Secure = []string{l.Addr().String()}, true
	o.RetryFor = time.Second
	_, err = Open(t.Context(), o)
	require.ErrorIs(t, err, ErrTLS, "nobody knows who signed it")
	known := x509.NewCertPool()
	known.AddCert(web.Certificate())
	o.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: known}
	s := openWith(t, o)
	require.Equal(t, "300000\n", table(t, s, "SELECT count() FROM (SELECT number FROM numbers(300000))"))
	o.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: known, ServerName: "elsewhere.test"}
	_, err = Open(t.Context(), o)
	require.ErrorIs(t, err, ErrTLS, "it is of another name")
}
