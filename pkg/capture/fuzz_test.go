package capture

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
)

// fuzzFile reads an arbitrary input: it must not panic, marks must rise and be right, and every packet must be
// accounted for.
func fuzzFile(t *testing.T, raw []byte) {
	r, err := NewReader(bytes.NewReader(raw), "fuzz", Options{MaxFlows: 64})
	if err != nil {
		var e *Error
		require.ErrorAs(t, err, &e)
		require.NotEmpty(t, e.Reason)
		return
	}
	defer r.Close()
	var b event.Batch
	last := r.Mark()
	for err == nil {
		err = r.Next(&b)
		if b.Len() > 1000 {
			b.Reset()
		}
		require.GreaterOrEqual(t, r.Offset(), last.Offset)
		last = Mark{Offset: r.Offset()}
	}
	if !errors.Is(err, io.EOF) {
		var e *Error
		require.ErrorAs(t, err, &e)
		require.GreaterOrEqual(t, e.Offset, last.Offset)
	}
	if r.raw.n.Load() == int64(len(raw)) && len(r.closers) == 0 && last.Offset <= int64(len(raw)) {
		require.Equal(t, sha256.Sum256(raw[:last.Offset]), r.Mark().Sum)
	}
	accounted(t, r.Tally(), r.Records())
	require.Zero(t, r.decoder.heads.n)
	require.LessOrEqual(t, len(r.stream.buf), maxBlock)
}

func accounted(t *testing.T, tally Tally, records uint64) {
	sum := tally.Used
	for _, n := range tally.Dropped {
		sum += n
	}
	require.Equal(t, records, sum)
	require.Equal(t, records, tally.Packets)
}

func FuzzPcap(f *testing.F) {
	for _, n := range []int{0, 1, 40} {
		f.Add(small(f, n))
	}
	f.Add(plainHoneypot(f)[:4000])
	for _, name := range []string{"modified", "big-endian ns", "SLL", "GRE with key", "four tags", "gzip, 2 members", "zstd"} {
		raw := encodings(f)[name]
		f.Add(raw[:min(len(raw), 3000)])
	}
	f.Fuzz(fuzzFile)
}

func FuzzPcapng(f *testing.F) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		raw := ngFile(f, order, 9, 100)
		// Without the large block that is skipped.
		f.Add(append(bytes.Clone(raw[:28]), raw[28+maxBlock+4096+12:][:3000]...))
	}
	w := ngWriter{order: binary.LittleEndian}
	w.section()
	w.iface(LinkEthernet, 60, 0x80|20, -5)
	w.block(blockSimple, append([]byte{60, 0, 0, 0}, make([]byte, 60)...))
	w.block(blockPacket, make([]byte, 24))
	f.Add(w.Bytes())
	f.Fuzz(fuzzFile)
}

// FuzzDecoder takes a link type and packets with a length in front of each.
func FuzzDecoder(f *testing.F) {
	var all []byte
	for _, p := range packets(plainHoneypot(f)) {
		all = append(binary.BigEndian.AppendUint16(all, uint16(len(p.data))), p.data...)
	}
	f.Add(uint16(LinkRaw), all[:6000])
	for _, p := range packets(base(f))[:400:400] {
		if len(p.data) > 60 {
			f.Add(uint16(LinkEthernet), append(binary.BigEndian.AppendUint16(nil, uint16(len(p.data))), p.data...))
		}
	}
	f.Fuzz(func(t *testing.T, link uint16, raw []byte) {
		d := NewDecoder(Options{MaxFlows: 16})
		var b event.Batch
		n := uint64(0)
		for ; len(raw) >= 2; n++ {
			size := min(int(binary.BigEndian.Uint16(raw)), len(raw)-2)
			p := raw[2 : 2+size : 2+size]
			before := bytes.Clone(p)
			d.Decode(LinkType(link), int64(n)*1e6, size+int(n%3)*7, p, &b)
			require.Equal(t, before, p, "the packet was changed")
			raw = raw[2+size:]
		}
		d.Flush(&b)
		accounted(t, d.Tally(), n)
		require.Zero(t, d.heads.n)
		for i := range b.Len() {
			e := b.Row(i)
			require.NotZero(t, e.Kind)
			require.LessOrEqual(t, len(e.Path), maxPath)
			require.LessOrEqual(t, len(e.UserAgent), maxAgent)
		}
	})
}

// FuzzParseRequest: what is read of a head lies inside of it.
func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{headA, getB, postC, "GET /\n", "GE"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		r, v := parseRequest(p)
		require.LessOrEqual(t, r.size, len(p))
		require.Equal(t, v == fullHTTP, r.size > 0)
		if v == fullHTTP {
			require.NotEmpty(t, r.target)
			require.True(t, isMethod(r.method))
		}
	})
}
