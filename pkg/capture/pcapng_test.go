package capture

import (
	"bytes"
	"encoding/binary"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
)

// ngWriter writes pcapng blocks.
type ngWriter struct {
	bytes.Buffer
	order interface {
		binary.ByteOrder
		binary.AppendByteOrder
	}
}

func (w *ngWriter) block(kind uint32, body []byte) {
	for len(body)%4 != 0 {
		body = append(body, 0)
	}
	n := uint32(len(body) + 12)
	b := w.order.AppendUint32(nil, kind)
	b = w.order.AppendUint32(b, n)
	b = append(b, body...)
	w.Write(w.order.AppendUint32(b, n))
}

func (w *ngWriter) section() {
	b := w.order.AppendUint32(nil, byteOrderMagic)
	b = w.order.AppendUint16(b, 1)
	b = w.order.AppendUint16(b, 0)
	w.block(blockSection, append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))
}

func (w *ngWriter) option(b []byte, code uint16, v []byte) []byte {
	b = w.order.AppendUint16(b, code)
	b = w.order.AppendUint16(b, uint16(len(v)))
	b = append(b, v...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func (w *ngWriter) iface(link LinkType, snap uint32, resolution byte, offset int64) {
	b := w.order.AppendUint16(nil, uint16(link))
	b = w.order.AppendUint16(b, 0)
	b = w.order.AppendUint32(b, snap)
	b = w.option(b, 2, []byte("eth0"))
	b = w.option(b, optTSResol, []byte{resolution})
	b = w.option(b, optTSOffset, w.order.AppendUint64(nil, uint64(offset)))
	w.block(blockInterface, w.option(b, optEnd, nil))
}

func (w *ngWriter) enhanced(id uint32, stamp uint64, wire int, data []byte) {
	b := w.order.AppendUint32(nil, id)
	b = w.order.AppendUint32(b, uint32(stamp>>32))
	b = w.order.AppendUint32(b, uint32(stamp))
	b = w.order.AppendUint32(b, uint32(len(data)))
	b = w.order.AppendUint32(b, uint32(wire))
	b = append(b, data...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	w.block(blockEnhanced, w.option(b, 1, []byte("a comment")))
}

// ngFile is the base capture as pcapng, with time stamps in units of 10^-digits seconds after offset.
func ngFile(t testing.TB, order binary.ByteOrder, digits byte, offset int64) []byte {
	w := ngWriter{order: binary.LittleEndian}
	if order == binary.BigEndian {
		w.order = binary.BigEndian
	}
	units := uint64(1)
	for range digits {
		units *= 10
	}
	w.section()
	w.block(0x0bad, make([]byte, maxBlock+4096)) // An unknown block that is not held in memory.
	w.iface(LinkEthernet, 0, digits, offset)
	for _, p := range packets(base(t)) {
		w.enhanced(0, uint64(p.time-offset*1e6)*(units/1e6), p.wire, p.data)
	}
	w.block(5, make([]byte, 8)) // Interface statistics.
	return w.Bytes()
}

func TestPcapngTime(t *testing.T) {
	for _, c := range []struct {
		resolution byte
		offset     int64
		stamp      uint64
		want       int64
	}{
		{6, 0, 1_500_000, 1_500_000},
		{9, 0, 1_500_000_999, 1_500_000},
		{0, 0, 7, 7e6},
		{3, 100, 7500, 107_500_000},
		{19, 0, 15_000_000_000_000_000_000, 1_500_000},
		{20, 0, 1, -1},
		{0x80 | 20, 0, 3 << 19, 1_500_000},
		{0x80 | 63, 0, 1<<63 | 1<<62, 1_500_000},
		{0x80 | 64, 0, 1, -1},
		{6, -10, 1_500_000, -1},
		{6, -10, 11_500_000, 1_500_000},
		{6, 1<<63 - 1, 1_500_000, -1},
		{6, -1 << 63, 1_500_000, -1},
		{0, 0, 1<<64 - 1, -1},
	} {
		f := iface{units: resolution(c.resolution), offset: c.offset}
		assert.Equal(t, c.want, f.micros(c.stamp), "%+v", c)
	}
}

// Several sections of both byte orders, several interfaces of different link types with their own time
// units, and all three kinds of packet blocks.
func TestPcapngMixed(t *testing.T) {
	p := packets(base(t))[0]
	var all bytes.Buffer
	for _, order := range []interface {
		binary.ByteOrder
		binary.AppendByteOrder
	}{binary.LittleEndian, binary.BigEndian} {
		w := ngWriter{order: order}
		w.section()
		w.iface(LinkEthernet, 0, 6, 0)
		w.iface(LinkRaw, 0, 9, 0)
		w.iface(147, 0, 6, 0)
		w.enhanced(0, uint64(p.time), p.wire, p.data)
		w.enhanced(1, uint64(p.time)*1000, p.wire, p.data[14:])
		w.enhanced(2, uint64(p.time), p.wire, p.data)
		old := order.AppendUint16(nil, 1)
		old = order.AppendUint16(old, 9) // Drops.
		old = order.AppendUint32(old, uint32(uint64(p.time)*1000>>32))
		old = order.AppendUint32(old, uint32(uint64(p.time)*1000))
		old = order.AppendUint32(old, uint32(len(p.data)-14))
		old = order.AppendUint32(old, uint32(p.wire-14))
		w.block(blockPacket, append(old, p.data[14:]...))
		w.block(blockSimple, append(order.AppendUint32(nil, uint32(p.wire)), p.data...))
		all.Write(w.Bytes())
	}
	b, r, err := read(&all, Options{})
	require.NoError(t, err)
	assert.EqualValues(t, 10, r.Records())
	assert.Equal(t, 6, b.Len())
	for i := range b.Len() {
		assert.Equal(t, p.time, b.Time[i])
		assert.Equal(t, b.Row(0), b.Row(i))
	}
	assert.EqualValues(t, 2, r.Tally().Dropped[ReasonLinkType])
	assert.EqualValues(t, 2, r.Tally().Dropped[ReasonTime], "simple packets have no time")
}

func TestPcapngUnknownLinkTypeIsTold(t *testing.T) {
	w := ngWriter{order: binary.LittleEndian}
	w.section()
	w.iface(147, 0, 6, 0)
	w.enhanced(0, 1e15, 60, make([]byte, 60))
	_, r, err := read(&w.Buffer, Options{})
	require.ErrorIs(t, err, ErrLinkType)
	assert.Contains(t, err.Error(), "147")
	assert.EqualValues(t, 1, r.Records())
}

func TestPcapngDamage(t *testing.T) {
	good := func() *ngWriter {
		w := &ngWriter{order: binary.LittleEndian}
		w.section()
		w.iface(LinkEthernet, 0, 6, 0)
		w.enhanced(0, 1e15, 60, make([]byte, 60))
		return w
	}
	prefix := good().Len()
	for name, c := range map[string]struct {
		tail []byte
		kind error
		says string
	}{
		"length not of 4":  {[]byte{6, 0, 0, 0, 33, 0, 0, 0}, ErrCorrupt, "length of 33"},
		"length too short": {[]byte{6, 0, 0, 0, 8, 0, 0, 0}, ErrCorrupt, "length of 8"},
		"huge packet":      {[]byte{6, 0, 0, 0, 0, 0, 0, 0x80}, ErrCorrupt, "2147483648"},
		"huge unknown":     {[]byte{99, 0, 0, 0, 0xf0, 0xff, 0xff, 0xff}, ErrTruncated, "4294967280 bytes of a block"},
		"cut header":       {[]byte{6, 0, 0}, ErrTruncated, "3 of 8 bytes"},
		"cut block":        {[]byte{6, 0, 0, 0, 32, 0, 0, 0, 1}, ErrTruncated, "9 of 32 bytes"},
		"other length":     {[]byte{5, 0, 0, 0, 12, 0, 0, 0, 16, 0, 0, 0}, ErrCorrupt, "12 bytes at its start and 16"},
		"no interface":     {enhancedOf(7, 60), ErrCorrupt, "interface 7"},
		"more than a block": {append(enhancedOf(0, 60)[:20], append([]byte{0xff, 0xff, 3, 0}, enhancedOf(0, 60)[24:]...)...),
			ErrCorrupt, "262143 bytes"},
		"bad section": {[]byte{10, 13, 13, 10, 28, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0}, ErrCorrupt, "magic"},
	} {
		t.Run(name, func(t *testing.T) {
			w := good()
			w.Write(c.tail)
			whole, _ := markOf(t, good().Bytes())
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, r, err := read(&w.Buffer, Options{})
			runtime.ReadMemStats(&after)
			require.ErrorIs(t, err, c.kind)
			assert.Contains(t, err.Error(), c.says)
			var e *Error
			require.ErrorAs(t, err, &e)
			assert.EqualValues(t, prefix, e.Offset)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20), "a claimed length must not be allocated")
			assert.Equal(t, whole, r.Mark(), "the mark stays before the damage")
		})
	}
}

func enhancedOf(id uint32, n int) []byte {
	w := ngWriter{order: binary.LittleEndian}
	w.enhanced(id, 1e15, n, make([]byte, n))
	return w.Bytes()
}

// markOf reads everything and returns the last mark and all events.
func markOf(t testing.TB, raw []byte) (Mark, *event.Batch) {
	r, err := NewReader(bytes.NewReader(raw), "input", Options{})
	require.NoError(t, err)
	defer r.Close()
	b := new(event.Batch)
	for err == nil {
		err = r.Next(b)
	}
	require.Equal(t, io.EOF, err)
	return r.Mark(), b
}
