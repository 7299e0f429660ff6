package detect_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"murmuration/pkg/detect"
)

// BenchmarkRun runs whole detections over clean months of 10^3 to 10^6 sources and reports the exponent of growth over sources from
// one size to the next: 1 is linear. The fourth is the one of forty million cells.
func BenchmarkRun(b *testing.B) {
	var lastTime, lastSources float64
	for _, scale := range []float64{0.2, 2, 20, 125, 200} {
		w := build(b, "month", 1, scale)
		cells := 0
		for _, s := range w.Input.Sources {
			cells += len(s.Cells)
		}
		sources := float64(len(w.Input.Sources))
		b.Run(fmt.Sprintf("sources=%d", len(w.Input.Sources)), func(b *testing.B) {
			start := time.Now()
			for b.Loop() {
				if _, err := detect.Run(context.Background(), &w.Input, detect.Params{}, nil); err != nil {
					b.Fatal(err)
				}
			}
			took := time.Since(start).Seconds() / float64(b.N)
			b.ReportMetric(float64(cells)/took, "cells/s")
			if lastTime > 0 {
				b.ReportMetric(math.Log(took/lastTime)/math.Log(sources/lastSources), "exponent")
			}
			lastTime, lastSources = took, sources
		})
	}
}
