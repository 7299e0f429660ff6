package campaign

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// One event with a wrong time does not move the window to then, and a time that nothing can have come in of yet is refused.
func TestEventsAheadOfTheClock(t *testing.T) {
	f := newField(t)
	f.watch("198.18.0.0/22", "")
	f.sweep(sweep{members: sources("100.64.0.0", 32), prefix: "198.18.0.0/22", port: 80, from: at(0, 0), to: at(2, 0), tool: "zmap"})
	f.sweep(sweep{members: sources("100.99.0.0", 1), prefix: "198.18.0.0/30", port: 81, from: at(900, 0), to: at(900, 1)})
	opt := f.options(time.Time{}, 4*24*time.Hour)
	opt.Now = func() time.Time { return at(2, 12) }
	var log bytes.Buffer
	opt.Logger = slog.New(slog.NewTextHandler(&log, nil))
	rep, err := Run(t.Context(), f.st, opt)
	require.NoError(t, err)
	require.Len(t, rep.Found, 1)
	require.Contains(t, log.String(), "ahead of the clock are left out")
	log.Reset()

	opt.At = at(1000, 0)
	_, err = Run(t.Context(), f.st, opt)
	require.ErrorIs(t, err, ErrAhead)
	opt.At = at(900, 1)
	_, err = Run(t.Context(), f.st, opt)
	require.NoError(t, err, "whoever names the time of an event may look at it")
	require.NotContains(t, log.String(), "ahead of the clock")
}
