package track

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
	"murmuration/pkg/store"
	"murmuration/pkg/surge"
)

// fill stores n events over 60 days: four fifths go to twenty ports, one fifth to all 65,536, so that most series have a
// source now and then.
func fill(b *testing.B, s *store.Store, n int) {
	b.Helper()
	const batch = 250_000
	r := rand.New(rand.NewPCG(5, 5))
	start := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for done := 0; done < n; done += batch {
		events := new(event.Batch)
		for i := done; i < done+batch; i++ {
			port := uint16(20 + r.IntN(20))
			if i%5 == 0 {
				port = uint16(r.IntN(1 << 16))
			}
			events.Append(&event.Event{
				Time: start.Add(time.Duration(float64(i) / float64(n) * float64(60*24*time.Hour))).UnixMicro(), Sensor: "x", Src: source(r.IntN(30000)),
				Dst: event.IP{10: 0xff, 11: 0xff, 12: 198, 14: byte(r.IntN(256)), 15: byte(r.IntN(256))}, Dport: port, Proto: event.ProtoTCP,
				Kind: event.KindScan, Technique: event.TechniqueSYN, Packets: 1,
			})
		}
		require.NoError(b, s.InsertEvents(b.Context(), events, 1, fmt.Sprint(done)))
	}
}

// BenchmarkRun measures a run over everything and one over the hour since the last run.
func BenchmarkRun(b *testing.B) {
	s := open(b)
	fill(b, s, 1_000_000)
	end := time.Date(2026, 4, 29, 12, 0, 0, 0, time.UTC)
	do := func(b *testing.B, w Window, at time.Time) {
		rep, err := Run(b.Context(), s, Options{Window: w, At: at, Params: surge.DefaultParams(), Logger: slog.New(slog.DiscardHandler)})
		require.NoError(b, err)
		b.ReportMetric(float64(rep.Series), "series")
	}
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			do(b, Window{All: true}, end)
		}
	})
	b.Run("hour", func(b *testing.B) {
		for b.Loop() {
			do(b, Window{Length: time.Hour}, end)
		}
	})
}
