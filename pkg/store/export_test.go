package store

import (
	"bytes"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
)

// A query that fails in its middle is an error with the server's reason, however much came before.
func TestStreamThatBreaks(t *testing.T) {
	s := open(t)
	s.opt.HTTPAddr = enginetest.Endpoint(t).HTTPAddr
	var out bytes.Buffer
	err := s.stream(t.Context(), &out, "SELECT number, throwIf(number = 3000000, 'in the middle') FROM numbers(10000000) SETTINGS max_threads = 1 FORMAT CSV", "broken", nil)
	require.Error(t, err)
	assert.ErrorContains(t, err, "in the middle")
	assert.Greater(t, out.Len(), 1<<20)
	err = s.stream(t.Context(), &out, "SELECT nonsense", "nonsense", nil)
	assert.ErrorContains(t, err, "nonsense")
}

func TestNoHTTP(t *testing.T) {
	s := open(t)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	s.opt.HTTPAddr = ln.Addr().String()
	require.NoError(t, ln.Close())
	_, err = s.Export(t.Context(), new(bytes.Buffer), Selection{What: "events", Port: -1}, FormatCSV, nil)
	require.ErrorIs(t, err, ErrUnavailable)
	assert.ErrorContains(t, err, "http=HOST:PORT")
	o, err := ParseDSN("clickhouse://h/scan?http=h:18123")
	require.NoError(t, err)
	assert.Equal(t, "h:18123", o.HTTPAddr)
	_, err = ParseDSN("clickhouse://h/scan?http=h")
	require.ErrorIs(t, err, ErrDSN)
	base := (&Store{opt: Options{Addr: []string{"[::1]:9000"}}}).httpBase()
	assert.Equal(t, "http://[::1]:8123/", base.String())
}
