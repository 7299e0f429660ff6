package evaluate

import (
	"runtime"
	"runtime/metrics"
	"time"
)

// cost is what one run took.
type cost struct {
	seconds float64
	peak    uint64 // bytes of objects on the heap, those that the collector has yet to find dead included
}

// measured runs f and returns its cost. The heap is looked at every few milliseconds, and before and after.
func measured(f func() error) (cost, error) {
	runtime.GC()
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		every := time.NewTicker(2 * time.Millisecond)
		defer every.Stop()
		most := heapBytes()
		for {
			select {
			case <-every.C:
				most = max(most, heapBytes())
			case <-stop:
				peak <- max(most, heapBytes())
				return
			}
		}
	}()
	start := time.Now()
	err := f()
	c := cost{seconds: time.Since(start).Seconds()}
	close(stop)
	c.peak = <-peak
	return c, err
}

// heapBytes returns the bytes of all objects on the heap.
func heapBytes() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
