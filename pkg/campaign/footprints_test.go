package campaign

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
)

// A run that would need more memory than is free is refused before it reads anything, and its record says why; how far the reading is, is told.
func TestMoreThanMemoryHolds(t *testing.T) {
	f := newField(t)
	f.watch("198.18.0.0/22", "")
	f.sweep(sweep{members: sources("100.64.0.0", 32), prefix: "198.18.0.0/22", port: 80, from: at(0, 0), to: at(2, 0), tool: "zmap"})
	opt := f.options(at(3, 0), 0)
	var log bytes.Buffer
	opt.Logger = slog.New(slog.NewTextHandler(&log, nil))
	cells, n, err := f.st.FootprintSize(t.Context(), at(0, 0), at(3, 0))
	require.NoError(t, err)
	require.Equal(t, uint64(1024), cells)
	require.Equal(t, uint64(32), n)
	need := cells*cellBytes + n*sourceBytes

	opt.FreeMemory = func() (uint64, error) { return need - 1, nil }
	_, err = Run(t.Context(), f.st, opt)
	require.ErrorIs(t, err, ErrMemory)
	require.ErrorContains(t, err, "1024 cells of 32 sources")
	require.ErrorContains(t, err, "--window")
	failed := enginetest.Exec(t, "SELECT status, error FROM "+f.opt.Database+".campaign_runs")
	require.Contains(t, failed, "failed")
	require.Contains(t, failed, "1024 cells of 32 sources")

	for i, free := range []func() (uint64, error){
		func() (uint64, error) { return need + 1, nil },
		func() (uint64, error) { return 2 * need, nil },
		func() (uint64, error) { return 0, errors.New("nobody knows") },
	} {
		opt.FreeMemory = free
		log.Reset()
		var told []float64
		opt.Progress = func(stage string, share float64) {
			if stage == "reading footprints" {
				told = append(told, share)
			}
		}
		rep, err := Run(t.Context(), f.st, opt)
		require.NoError(t, err)
		require.Len(t, rep.Found, 1)
		require.Len(t, told, 1+32+1)
		require.IsNonDecreasing(t, told)
		require.InDelta(t, 1, told[len(told)-1], 0)
		says := []string{"may not do for this window", "", "how much memory is free is not known"}[i]
		require.Equal(t, says != "", strings.Contains(log.String(), "memory"), log.String())
		require.Contains(t, log.String(), says)
	}
}
