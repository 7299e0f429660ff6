package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Stages say share, rate and time left: those of a stage of its own, from where it was first heard of.
func TestStagesSayHowFarTheyAre(t *testing.T) {
	var out strings.Builder
	now := time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	s := newStages(&out)
	s.now, s.written = func() time.Time { return now }, now
	after := func(d time.Duration, stage string, done, total uint64, unit string) string {
		now = now.Add(d)
		out.Reset()
		s.show(stage, done, total, unit)
		return out.String()
	}
	require.Empty(t, after(0, "writing", 0, 1, "bytes"))
	require.Empty(t, after(9*time.Second, "writing", 1, 2, "bytes"), "a line every ten seconds is enough")
	require.Equal(t, "writing: 25 %, 100,000 bytes/s, 30s left\n", after(time.Second, "writing", 1_000_000, 4_000_000, "bytes"))
	require.Empty(t, after(time.Second, "writing", 2_000_000, 4_000_000, "bytes"))
	require.Equal(t, "writing: 0 %, 0 bytes/s\n", after(9*time.Second, "writing", 0, 4_000_000, "bytes"), "it has begun again")
	require.Equal(t, "verifying: 50 %, 0 rows/s\n", after(10*time.Second, "verifying", 5, 10, "rows"), "nothing was done since it was first heard of")
	require.Equal(t, "verifying: 70 %, 0 rows/s, 15s left\n", after(10*time.Second, "verifying", 7, 10, "rows"))
	require.Empty(t, after(10*time.Second, "verifying", 0, 0, "rows"), "nothing is known")
	now = now.Add(time.Minute)
	out.Reset()
	s.share("clustering", 0)
	now = now.Add(20 * time.Second)
	out.Reset()
	s.share("clustering", 0.25)
	require.Equal(t, "clustering: 25 %, 1m0s left\n", out.String())
}

// On a terminal one line is redrawn, not more often than can be seen, and goes away at the end of a stage.
func TestStagesOnATerminal(t *testing.T) {
	var out strings.Builder
	now := time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	s := newStages(&out)
	s.p.terminal, s.now, s.written = true, func() time.Time { return now }, now
	show := s.of("rows")
	show("looking", 0, 100)
	show("looking", 1, 100)
	now = now.Add(time.Second)
	show("looking", 50, 100)
	show("looking", 100, 100)
	require.Equal(t, "\r\x1b[Klooking 0 %, 0 rows/s\r\x1b[Klooking 50 %, 50 rows/s, 1s left\r\x1b[K", out.String())
}
