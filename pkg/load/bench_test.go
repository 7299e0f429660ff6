package load_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/capture"
	"murmuration/pkg/engine/enginetest"
	"murmuration/pkg/event"
	"murmuration/pkg/load"
)

// benchCapture is the public sample's telescope where it lies beside the clone, else the demo's capture:
// plain pcap bytes.
func benchCapture(b *testing.B) []byte {
	b.Helper()
	path := filepath.Join("..", "..", "..", "shared", "data", "real-scanners", "telescope.pcap.zst")
	if _, err := os.Stat(path); err != nil {
		path = filepath.Join("..", "..", "demo", "telescope.pcap.zst")
	}
	f, err := os.Open(path)
	require.NoError(b, err)
	defer f.Close()
	z, err := zstd.NewReader(f)
	require.NoError(b, err)
	defer z.Close()
	data, err := io.ReadAll(z)
	require.NoError(b, err)
	return data
}

func decodeAll(b *testing.B, data []byte, batch *event.Batch) uint64 {
	b.Helper()
	r, err := capture.NewReader(bytes.NewReader(data), "bench", capture.Options{Sensor: "bench"})
	require.NoError(b, err)
	for err == nil {
		err = r.Next(batch)
	}
	require.True(b, errors.Is(err, io.EOF), err)
	require.NoError(b, r.Close())
	return r.Records()
}

func perSecond(b *testing.B, n uint64, unit string) {
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), unit)
}

// BenchmarkStages times the way of a capture into the store end to end and stage by stage, beside the
// server's own INSERT … SELECT of the same rows into the same tables. Compare the figures of one run.
func BenchmarkStages(b *testing.B) {
	data := benchCapture(b)
	var rows event.Batch
	packets := decodeAll(b, data, &rows)

	b.Run("decode", func(b *testing.B) {
		var batch event.Batch
		for b.Loop() {
			batch.Reset()
			decodeAll(b, data, &batch)
		}
		perSecond(b, packets, "packets/s")
	})
	b.Run("insert", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			st := newStore(b)
			b.StartTimer()
			require.NoError(b, st.InsertEvents(b.Context(), &rows, 1, "token"))
		}
		perSecond(b, uint64(rows.Len()), "rows/s")
	})
	b.Run("end-to-end", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			st := newStore(b)
			b.StartTimer()
			rep := mustLoad(b, st, load.Options{}, input("bench.pcap", data))
			require.NoError(b, rep.Err)
		}
		perSecond(b, packets, "packets/s")
	})
	b.Run("insert-select", func(b *testing.B) {
		from := newStore(b)
		require.NoError(b, from.InsertEvents(b.Context(), &rows, 1, "token"))
		for b.Loop() {
			b.StopTimer()
			st := newStore(b)
			b.StartTimer()
			enginetest.Exec(b, fmt.Sprintf("INSERT INTO %s.events SELECT * FROM %s.events SETTINGS max_threads = 1, max_insert_threads = 1, "+
				"max_block_size = 1000000, min_insert_block_size_rows = 1000000, min_insert_block_size_bytes = 0", st.Database(), from.Database()))
		}
		perSecond(b, uint64(rows.Len()), "rows/s")
	})
	b.Run("again", func(b *testing.B) {
		st := newStore(b)
		mustLoad(b, st, load.Options{}, input("bench.pcap", data))
		b.ResetTimer()
		for b.Loop() {
			mustLoad(b, st, load.Options{}, input("bench.pcap", data))
		}
		perSecond(b, packets, "packets/s")
	})
}

// BenchmarkBytes reports the bytes that an event takes on disk, by table, beside the capture and its
// zstd. Its time means nothing.
func BenchmarkBytes(b *testing.B) {
	data := benchCapture(b)
	st := newStore(b)
	rep := mustLoad(b, st, load.Options{}, input("bench.pcap", data))
	for b.Loop() {
	}
	events := float64(rep.Events)
	b.ReportMetric(float64(len(data))/events, "pcap-B/event")
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	require.NoError(b, err)
	b.ReportMetric(float64(len(z.EncodeAll(data, nil)))/events, "zstd-best-B/event")
	rows, err := st.Query(b.Context(), "SELECT table, toFloat64(sum(bytes_on_disk)) FROM system.parts WHERE active AND database = currentDatabase() GROUP BY table", nil)
	require.NoError(b, err)
	for rows.Next() {
		v, err := rows.Values()
		require.NoError(b, err)
		table, ok := v[0].(string)
		require.True(b, ok)
		size, ok := v[1].(float64)
		require.True(b, ok)
		b.ReportMetric(size/events, table+"-B/event")
	}
	require.NoError(b, rows.Err())
	require.NoError(b, rows.Close())
}
