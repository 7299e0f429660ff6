package store

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A context that ends as soon as an insert has returned takes nothing else with it: the connection is somebody else's by
// then.
func TestAnEndedContextLeavesTheConnectionAlone(t *testing.T) {
	var said bytes.Buffer
	o := options(t)
	o.Logger = slog.New(slog.NewTextHandler(&said, nil))
	s := openWith(t, o)
	_, err := s.Migrate(t.Context())
	require.NoError(t, err)
	said.Reset()
	for i := range int64(200) {
		ctx, cancel := context.WithCancel(t.Context())
		require.NoError(t, s.PutMark(ctx, Mark{Start: i, End: i + 1, Token: "token"}))
		cancel()
		require.NoError(t, s.PutLoad(t.Context(), Load{Input: 1, Name: "name"}))
	}
	assert.Empty(t, said.String(), "an insert had to be tried again")
}
