package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"murmuration/pkg/event"
)

// plain returns an uncompressed sample capture.
func plain(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	z, err := zstd.NewReader(f)
	require.NoError(t, err)
	defer z.Close()
	raw, err := io.ReadAll(z)
	require.NoError(t, err)
	return raw
}

// packet is one record of a little-endian pcap file in microseconds.
type packet struct {
	time int64
	wire int
	data []byte
}

func packets(raw []byte) []packet {
	var all []packet
	for p := raw[pcapHeader:]; len(p) >= 16; {
		n := int(binary.LittleEndian.Uint32(p[8:]))
		all = append(all, packet{
			time: int64(binary.LittleEndian.Uint32(p))*1e6 + int64(binary.LittleEndian.Uint32(p[4:])),
			wire: int(binary.LittleEndian.Uint32(p[12:])), data: p[16 : 16+n],
		})
		p = p[16+n:]
	}
	return all
}

func prefixes(p ...netip.Prefix) []netip.Prefix { return p }

// cpu returns the processor time that this process has used, which a busy machine disturbs less than the clock.
func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func report(b *testing.B, packets int, from time.Duration) {
	b.ReportMetric(float64(cpu(b)-from)/float64(packets)/float64(b.N), "cpu-ns/packet")
	b.ReportMetric(float64(packets)*float64(b.N)/b.Elapsed().Seconds(), "packets/s")
}

// End to end over a telescope's capture in memory: framing, summing and decoding.
func BenchmarkReader(b *testing.B) {
	for _, name := range []string{"telescope", "honeypot"} {
		raw := plain(b, samples(b, name+".pcap.zst"))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			from := cpu(b)
			var batch event.Batch
			n := 0
			for range b.N {
				n = readAll(b, raw, &batch)
			}
			report(b, n, from)
		})
	}
}

func readAll(b *testing.B, raw []byte, batch *event.Batch) int {
	r, err := NewReader(bytes.NewReader(raw), "bench", Options{})
	require.NoError(b, err)
	defer r.Close()
	for {
		err := r.Next(batch)
		if batch.Len() > 100_000 {
			batch.Reset()
		}
		if errors.Is(err, io.EOF) {
			return int(r.Records())
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// The same from zstd, as captures are stored.
func BenchmarkReaderZstd(b *testing.B) {
	raw, err := os.ReadFile(samples(b, "telescope.pcap.zst"))
	require.NoError(b, err)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	from := cpu(b)
	var batch event.Batch
	n := 0
	for range b.N {
		n = readAll(b, raw, &batch)
	}
	report(b, n, from)
}

// Framing and summing alone: the link type's decoder is left out by a time that is not believed.
func BenchmarkFraming(b *testing.B) {
	raw := bytes.Clone(plain(b, samples(b, "telescope.pcap.zst")))
	n := 0
	for p := raw[pcapHeader:]; len(p) >= 16; n++ {
		binary.LittleEndian.PutUint32(p, 0xffffffff)
		p = p[16+int(binary.LittleEndian.Uint32(p[8:])):]
	}
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	from := cpu(b)
	var batch event.Batch
	for range b.N {
		readAll(b, raw, &batch)
	}
	report(b, n, from)
}

// The decoder alone, a packet an operation.
func BenchmarkDecoder(b *testing.B) {
	for _, name := range []string{"telescope", "honeypot"} {
		all := packets(plain(b, samples(b, name+".pcap.zst")))
		b.Run(name, func(b *testing.B) { benchDecoder(b, all, Options{}) })
		b.Run(name+"_scoped", func(b *testing.B) { benchDecoder(b, all, Options{Telescopes: prefixes(monitored)}) })
	}
	b.Run("bare_syns", func(b *testing.B) { benchDecoder(b, bareSYNs(1<<18), Options{}) })
}

func benchDecoder(b *testing.B, all []packet, opt Options) {
	d := NewDecoder(opt)
	var batch event.Batch
	run := func(n int) {
		for i := range n {
			p := &all[i%len(all)]
			d.Decode(LinkEthernet, p.time, p.wire, p.data, &batch)
			if batch.Len() > 100_000 {
				batch.Reset()
			}
		}
	}
	run(len(all)) // The batch and the table reach their size.
	b.ReportAllocs()
	from := cpu(b)
	b.ResetTimer()
	run(b.N)
	report(b, 1, from)
}

// bareSYNs makes SYNs without options in random order of addresses and ports.
func bareSYNs(n int) []packet {
	all := make([]packet, n)
	for i := range all {
		x := uint64(i) * 0x9e3779b97f4a7c15
		p := make([]byte, 60)
		copy(p[12:], []byte{8, 0, 0x45, 0, 0, 40})
		binary.BigEndian.PutUint16(p[18:], uint16(x>>20))
		p[22], p[23] = 240, protoTCP
		binary.BigEndian.PutUint32(p[26:], uint32(x>>40)|100<<24)
		binary.BigEndian.PutUint32(p[30:], uint32(x>>48)|198<<24|18<<16)
		binary.BigEndian.PutUint16(p[34:], uint16(x))
		binary.BigEndian.PutUint16(p[36:], uint16(x>>8)%1024)
		binary.BigEndian.PutUint32(p[38:], uint32(x>>16))
		p[46], p[47] = 0x50, event.SYN
		binary.BigEndian.PutUint16(p[48:], 1024)
		all[i] = packet{time: 1775e12/1000 + int64(i), wire: 60, data: p}
	}
	return all
}
