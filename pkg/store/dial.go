package store

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// How long things may take. The driver gives a whole statement the time of its read timeout, so that five minutes of a good
// answer would be taken for a dead server. Here it is the longest silence: a server that works on a query says so several times a second.
//
// Some statements it works on in silence (ALTER, OPTIMIZE, BACKUP), for hours where there is much data: these have a limit of their own. A server that
// is gone TCP tells of by its keep-alive, which Go's dialer asks for, within minutes; one that hangs, nothing.
const (
	longestSilence   = 5 * time.Minute
	longestStatement = 7 * 24 * time.Hour
)

// inSilence is the context of a statement that the server says nothing about until it is done.
func inSilence(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, longestStatement)
}

// dial connects to a server, by TLS where that is asked for.
func (s *Store) dial(ctx context.Context, addr string) (net.Conn, error) {
	connect := s.opt.DialContext
	if connect == nil {
		d := &net.Dialer{Timeout: s.opt.DialTimeout}
		connect = func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
	conn, err := connect(ctx, addr)
	if err != nil {
		return nil, err //nolint:wrapcheck // Callers explain it.
	}
	steady := steadied(ctx, conn)
	if s.opt.TLS == nil {
		return steady, nil
	}
	config := s.opt.TLS.Clone()
	if config.ServerName == "" {
		if config.ServerName, _, err = net.SplitHostPort(addr); err != nil {
			return nil, fmt.Errorf("address %s: %w", addr, err)
		}
	}
	secure := tls.Client(steady, config)
	ctx, cancel := context.WithTimeout(ctx, s.opt.DialTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // It is of no use.
		return nil, err  //nolint:wrapcheck // Callers explain it.
	}
	return secure, nil
}

// steadied makes a connection a steadyConn, which the driver can still ask whether it is alive after it was idle, if it could before.
func steadied(ctx context.Context, conn net.Conn) net.Conn {
	steady := &steadyConn{Conn: conn, given: ctx.Err}
	steady.greeted = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // Who reads gets its error.
	if raw, ok := conn.(syscall.Conn); ok {
		return struct {
			*steadyConn
			syscall.Conn
		}{steady, raw}
	}
	return steady
}

// steadyConn takes a limit of reading for that of a silence: whatever arrives gives the same time again. And it gives the greeting up when the context of who
// connects ends: the driver waits for the server's word for as long as to connect may take.
type steadyConn struct {
	net.Conn
	silence atomic.Int64 // the longest, in nanoseconds; 0: the limit of the connection stands
	given   func() error // why the context of who connects has ended
	greeted func() bool  // leaves that context; nil once the first limit was lifted, which is that of the greeting
}

// SetReadDeadline sets the end of the present silence, and so the length of those to come.
func (c *steadyConn) SetReadDeadline(t time.Time) error {
	c.silence.Store(0)
	if !t.IsZero() {
		c.silence.Store(int64(time.Until(t)))
	}
	return c.Conn.SetReadDeadline(t) //nolint:wrapcheck // It is that of the connection.
}

// SetDeadline sets an end to everything, as a context does.
func (c *steadyConn) SetDeadline(t time.Time) error {
	c.silence.Store(0)
	switch {
	case c.greeted == nil:
	case t.IsZero():
		c.greeted()
		c.greeted = nil
	case c.given() != nil:
		t = time.Unix(1, 0)
	}
	return c.Conn.SetDeadline(t) //nolint:wrapcheck // It is that of the connection.
}

func (c *steadyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if silence := c.silence.Load(); silence > 0 && n > 0 && err == nil {
		err = c.Conn.SetReadDeadline(time.Now().Add(time.Duration(silence)))
	}
	return n, err //nolint:wrapcheck // It is that of the connection.
}
