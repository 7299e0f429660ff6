package engine_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine"
)

// residentMB reads how much memory the engine has in RAM.
func residentMB(b *testing.B, e *engine.Engine) float64 {
	b.Helper()
	f, err := os.Open(filepath.Join("/proc", fmt.Sprint(e.Pid()), "status"))
	require.NoError(b, err)
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kb float64
		if strings.HasPrefix(s.Text(), "VmRSS:") {
			_, err := fmt.Sscanf(s.Text(), "VmRSS: %f kB", &kb)
			require.NoError(b, err)
			return kb / 1024
		}
	}
	b.Fatal("no VmRSS")
	return 0
}

// BenchmarkStart is from the call to an engine that answers, on a directory that has been used before.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	stop(b, start(b, dir))
	for b.Loop() {
		e := start(b, dir)
		b.StopTimer()
		b.ReportMetric(residentMB(b, e), "rss-MB")
		stop(b, e)
		b.StartTimer()
	}
}

// BenchmarkStop is the stop of an idle engine without connections.
func BenchmarkStop(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		b.StopTimer()
		e := start(b, dir)
		b.StartTimer()
		stop(b, e)
	}
}

// BenchmarkStopConnected is the stop of an engine with an idle native connection.
func BenchmarkStopConnected(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		b.StopTimer()
		e := start(b, dir)
		c := owner(b, e)
		require.NoError(b, c.Ping(b.Context()))
		b.StartTimer()
		stop(b, e)
	}
}

// BenchmarkJoin is joining an engine that runs, and leaving it.
func BenchmarkJoin(b *testing.B) {
	dir := b.TempDir()
	start(b, dir)
	for b.Loop() {
		e, err := engine.Open(b.Context(), engine.Options{Dir: dir})
		require.NoError(b, err)
		leave(b, e)
	}
}
