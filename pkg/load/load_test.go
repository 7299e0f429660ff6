package load_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"murmuration/pkg/capture"
	"murmuration/pkg/engine/enginetest"
	"murmuration/pkg/event"
	"murmuration/pkg/load"
	"murmuration/pkg/store"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Main(m)) }

// newStore is a store on a database of its own.
func newStore(t testing.TB) *store.Store {
	t.Helper()
	ep := enginetest.Endpoint(t)
	st, err := store.Open(t.Context(), store.Options{
		Addr: []string{ep.TCPAddr}, User: ep.User, Password: ep.Password, Database: enginetest.Database(t), CreateDatabase: true,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	_, err = st.Migrate(t.Context())
	require.NoError(t, err)
	return st
}

// demo returns the first n records of the demo's capture as plain pcap bytes, and the offsets behind each.
func demo(t testing.TB, n int) (data []byte, ends []int) {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "..", "demo", "telescope.pcap.zst"))
	require.NoError(t, err)
	defer f.Close()
	z, err := zstd.NewReader(f)
	require.NoError(t, err)
	defer z.Close()
	data, err = io.ReadAll(z)
	require.NoError(t, err)
	const fileHeader, recordHeader = 24, 16
	at := fileHeader
	for i := 0; i < n && at < len(data); i++ {
		at += recordHeader + int(binary.LittleEndian.Uint32(data[at+8:]))
		ends = append(ends, at)
	}
	return data[:at], ends
}

func input(name string, data []byte) load.Input {
	return load.Input{Name: name, Size: int64(len(data)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
}

func mustLoad(t testing.TB, st *store.Store, opt load.Options, in load.Input) load.Report {
	t.Helper()
	if opt.Sensor == "" {
		opt.Sensor = "test"
	}
	rep, err := load.New(st, opt).Load(t.Context(), in)
	require.NoError(t, err)
	return rep
}

// The tables and views whose whole content must be the same after any history of loads.
var contents = []string{"events", "port_hours", "port_days", "source_days", "target_days", "path_days", "footprints"}

// digest is the content of every table as rows and one hash each, whatever parts it is stored in.
func digest(t testing.TB, st *store.Store) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range contents {
		rows, err := st.Query(t.Context(), fmt.Sprintf("SELECT count(), sum(cityHash64(*)) FROM %s", name), nil)
		require.NoError(t, err)
		require.True(t, rows.Next(), "%s: %v", name, rows.Err())
		values, err := rows.Values()
		require.NoError(t, err)
		out[name] = fmt.Sprint(values...)
		require.NoError(t, rows.Close())
	}
	return out
}

func TestTheSameContentIsLoadedOnce(t *testing.T) {
	data, ends := demo(t, 5000)
	st := newStore(t)
	first := mustLoad(t, st, load.Options{BatchRows: 1000}, input("first.pcap", data))
	require.NoError(t, first.Err)
	require.EqualValues(t, len(ends), first.Packets)
	require.Equal(t, first.Events, first.Inserted)
	require.Positive(t, first.Inserted)
	want := digest(t, st)

	var gz, zst bytes.Buffer
	w := gzip.NewWriter(&gz)
	_, err := w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	z, err := zstd.NewWriter(&zst)
	require.NoError(t, err)
	_, err = z.Write(data)
	require.NoError(t, err)
	require.NoError(t, z.Close())

	for _, again := range []struct {
		name  string
		bytes []byte
		opt   load.Options
	}{
		{"first.pcap", data, load.Options{BatchRows: 1000}},
		{"renamed.pcap", data, load.Options{BatchRows: 1000}},
		{"compressed.pcap.gz", gz.Bytes(), load.Options{BatchRows: 1000}},
		{"compressed.pcap.zst", zst.Bytes(), load.Options{BatchRows: 1000}},
		{"larger-batches.pcap", data, load.Options{BatchRows: 100_000}},
		{"another-sensor.pcap", data, load.Options{BatchRows: 1000, Sensor: "other"}},
	} {
		rep := mustLoad(t, st, again.opt, input(again.name, again.bytes))
		require.NoError(t, rep.Err, again.name)
		require.Zero(t, rep.Inserted, again.name)
		require.Equal(t, first.Events, rep.Known, again.name)
		require.Equal(t, want, digest(t, st), again.name)
	}
}

// A file that grows is cut anywhere, in the middle of a record as well, and loaded at each stage. The
// end is the same as of one load of the whole.
func TestAGrownFileAddsOnlyWhatIsNew(t *testing.T) {
	data, ends := demo(t, 4000)
	rng := rand.New(rand.NewPCG(7, 7))
	whole := newStore(t)
	all := mustLoad(t, whole, load.Options{}, input("whole.pcap", data))
	st := newStore(t)
	inserted := uint64(0)
	for _, share := range []float64{0.1, 0.35, 0.36, 0.7} {
		cut := int(share*float64(len(data))) + rng.IntN(40)
		rep := mustLoad(t, st, load.Options{BatchRows: 500}, input("growing.pcap", data[:cut]))
		if rep.Err != nil {
			require.ErrorIs(t, rep.Err, capture.ErrTruncated)
		}
		inserted += rep.Inserted
	}
	rep := mustLoad(t, st, load.Options{BatchRows: 500}, input("growing.pcap", data))
	require.NoError(t, rep.Err)
	require.EqualValues(t, len(ends), rep.Packets)
	require.Equal(t, all.Events, inserted+rep.Inserted)
	require.Equal(t, digest(t, whole), digest(t, st))
}

// A shorter copy of what is loaded brings nothing, wherever it ends; a copy that goes another way brings
// only what differs.
func TestCopiesThatShareABeginning(t *testing.T) {
	data, ends := demo(t, 3000)
	st := newStore(t)
	mustLoad(t, st, load.Options{BatchRows: 1000}, input("whole.pcap", data))
	want := digest(t, st)
	for _, n := range []int{1, 700, 1500, 2999} {
		for _, sensor := range []string{"test", "other"} {
			rep := mustLoad(t, st, load.Options{BatchRows: 1000, Sensor: sensor}, input("shorter.pcap", data[:ends[n-1]]))
			require.NoError(t, rep.Err)
			require.Zero(t, rep.Inserted, "%d records of %s", n, sensor)
			require.Equal(t, want, digest(t, st), "%d records of %s", n, sensor)
		}
	}
	// The last 500 records replaced by records that come later in the capture.
	more, moreEnds := demo(t, 4000)
	other := append(append([]byte{}, data[:ends[2499]]...), more[moreEnds[2999]:]...)
	rep := mustLoad(t, st, load.Options{BatchRows: 1000}, input("other.pcap", other))
	require.NoError(t, rep.Err)
	require.EqualValues(t, 1000, rep.Inserted)
}

// Loads of one content at the same time, cut differently and of a file that grew in between, count every event once: they
// wait for each other.
func TestLoadsOfOneContentAtTheSameTime(t *testing.T) {
	data, ends := demo(t, 6000)
	whole := newStore(t)
	all := mustLoad(t, whole, load.Options{}, input("whole.pcap", data))
	st := newStore(t)
	var g errgroup.Group
	var inserted atomic.Uint64
	for i, l := range []struct {
		records, batch int
	}{{6000, 700}, {4000, 1000}, {5999, 100_000}, {3000, 800}} {
		g.Go(func() error {
			rep, err := load.New(st, load.Options{Sensor: "test", BatchRows: l.batch}).Load(t.Context(), input(fmt.Sprint(i), data[:ends[l.records-1]]))
			inserted.Add(rep.Inserted)
			return errors.Join(err, rep.Err)
		})
	}
	require.NoError(t, g.Wait())
	require.Equal(t, all.Events, inserted.Load())
	require.Equal(t, digest(t, whole), digest(t, st))
}

// failing breaks off an input after some bytes, as a full disk or a pulled cable would.
type failing struct {
	io.Reader
	left int
}

var errCable = errors.New("cable pulled")

func (f *failing) Read(p []byte) (int, error) {
	if f.left <= 0 {
		return 0, errCable
	}
	n, err := f.Reader.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, err
}

func TestAnInputThatBreaksOffIsResumed(t *testing.T) {
	data, _ := demo(t, 3000)
	whole := newStore(t)
	mustLoad(t, whole, load.Options{BatchRows: 400}, input("whole.pcap", data))
	st := newStore(t)
	broken := load.Input{Name: "nfs/file.pcap", Open: func() (io.ReadCloser, error) {
		return io.NopCloser(&failing{bytes.NewReader(data), len(data) / 2}), nil
	}}
	rep := mustLoad(t, st, load.Options{BatchRows: 400}, broken)
	require.ErrorIs(t, rep.Err, errCable)
	require.ErrorContains(t, rep.Err, "nfs/file.pcap")
	require.Positive(t, rep.Inserted)
	rep = mustLoad(t, st, load.Options{BatchRows: 400}, input("nfs/file.pcap", data))
	require.NoError(t, rep.Err)
	require.Positive(t, rep.Known)
	require.Equal(t, digest(t, whole), digest(t, st))
}

// Interrupted at any moment, the next load finishes the job and nothing is in twice.
func TestAnInterruptedLoadIsResumed(t *testing.T) {
	data, _ := demo(t, 3000)
	whole := newStore(t)
	mustLoad(t, whole, load.Options{BatchRows: 200}, input("whole.pcap", data))
	st := newStore(t)
	for n := range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		reads := 0
		in := load.Input{Name: "file.pcap", Open: func() (io.ReadCloser, error) {
			return io.NopCloser(readerFunc(func(p []byte) (int, error) {
				if reads++; reads > n+1 {
					cancel()
				}
				return bytes.NewReader(data[min(len(data), (reads-1)*32768):]).Read(p[:min(len(p), 32768)])
			})), nil
		}}
		rep, err := load.New(st, load.Options{Sensor: "test", BatchRows: 200}).Load(ctx, in)
		cancel()
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
		}
		decoded := uint64(0)
		for _, n := range rep.Tally.Events {
			decoded += n
		}
		require.Equal(t, decoded, rep.Events, "the summary contradicts itself")
	}
	rep := mustLoad(t, st, load.Options{BatchRows: 200}, input("file.pcap", data))
	require.NoError(t, rep.Err)
	require.Equal(t, digest(t, whole), digest(t, st))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A load that was interrupted under one sensor is not finished under another: its rows would be of two minds.
func TestAnInterruptedLoadKeepsItsOptions(t *testing.T) {
	data, _ := demo(t, 100)
	st := newStore(t)
	whole := mustLoad(t, newStore(t), load.Options{}, input("a.pcap", data))
	require.NoError(t, whole.Err)
	// What a crash between intent and insert leaves behind.
	r, err := capture.NewReader(bytes.NewReader(data), "a.pcap", capture.Options{})
	require.NoError(t, err)
	head := headOf(t, r)
	require.NoError(t, st.PutMark(t.Context(), store.Mark{Head: head.Sum, Start: 0, End: int64(len(data)), Token: "x", Options: "sensor=one telescopes=", Rows: 100}))
	rep := mustLoad(t, st, load.Options{Sensor: "two"}, input("a.pcap", data))
	require.ErrorIs(t, rep.Err, load.ErrInterruptedElsewhere)
	require.ErrorContains(t, rep.Err, "sensor=one")
	require.Zero(t, rep.Inserted)
}

func TestATelescopeThatMatchesNothing(t *testing.T) {
	data, _ := demo(t, 500)
	st := newStore(t)
	rep := mustLoad(t, st, load.Options{Telescopes: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}, input("a.pcap", data))
	require.ErrorContains(t, rep.Err, "203.0.113.0/24")
	require.ErrorContains(t, rep.Err, "500 packets")
	require.Zero(t, rep.Inserted)
}

// Packets that another capture would have given as events are not passed over: those of an interface of an unknown
// link type, and all where there is no time.
func TestPacketsThatCannotBeUsedAreSaid(t *testing.T) {
	block := func(kind uint32, body ...[]byte) []byte {
		b := slices.Concat(body...)
		b = append(b, make([]byte, -len(b)&3)...)
		n := binary.LittleEndian.AppendUint32(nil, uint32(12+len(b)))
		return slices.Concat(binary.LittleEndian.AppendUint32(nil, kind), n, b, n)
	}
	words := func(v ...uint32) []byte {
		var b []byte
		for _, w := range v {
			b = binary.LittleEndian.AppendUint32(b, w)
		}
		return b
	}
	data, ends := demo(t, 1)
	packet := data[24+16 : ends[0]]
	n := uint32(len(packet))
	section := block(0x0a0d0d0a, words(0x1a2b3c4d, 1, 0xffffffff, 0xffffffff))
	ethernet, unknown := block(1, words(1, 0)), block(1, words(147, 0))
	timed := func(i uint32) []byte { return block(6, words(i, 400_000, 0, n, n), packet) }
	st := newStore(t)
	mixed := mustLoad(t, st, load.Options{}, input("mixed.pcapng", slices.Concat(section, ethernet, unknown, timed(0), timed(1))))
	require.ErrorContains(t, mixed.Err, "mixed.pcapng: 1 of its 2 packets are of interfaces whose link type is not decoded")
	require.EqualValues(t, 1, mixed.Inserted)
	timeless := mustLoad(t, st, load.Options{}, input("timeless.pcapng", slices.Concat(section, ethernet, block(3, words(n), packet))))
	require.ErrorContains(t, timeless.Err, "timeless.pcapng: none of its 1 packets has a time stamp")
	require.Zero(t, timeless.Inserted)
}

func TestWhatCannotBeOpenedIsSaid(t *testing.T) {
	st := newStore(t)
	inputs, _, err := load.Inputs([]string{filepath.Join(t.TempDir(), "missing.pcap")}, nil)
	require.NoError(t, err)
	rep := mustLoad(t, st, load.Options{}, inputs[0])
	require.ErrorIs(t, rep.Err, os.ErrNotExist)
	require.ErrorContains(t, rep.Err, "missing.pcap")
}

func TestInputsOfADirectory(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.pcap.gz", "a.pcapng", "notes.txt", "sub/c.cap", "d.pcap3", "e.pcap.12.zst"} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
	}
	inputs, left, err := load.Inputs([]string{dir, "-"}, bytes.NewReader(nil))
	require.NoError(t, err)
	var names []string
	for _, in := range inputs {
		names = append(names, in.Name)
	}
	require.Equal(t, []string{
		filepath.Join(dir, "a.pcapng"), filepath.Join(dir, "b.pcap.gz"), filepath.Join(dir, "d.pcap3"),
		filepath.Join(dir, "e.pcap.12.zst"), filepath.Join(dir, "sub/c.cap"), "-",
	}, names)
	require.Equal(t, []string{filepath.Join(dir, "notes.txt")}, left)

	inputs, _, err = load.Inputs([]string{t.TempDir(), filepath.Join(dir, "a.pcapng")}, nil)
	require.NoError(t, err)
	require.Len(t, inputs, 2, "an empty directory does not stop the others")
	_, err = inputs[0].Open()
	require.ErrorContains(t, err, "no capture in this directory: names must end in .pcap, .pcapng, .cap, .dmp or .ntar,")

	link := filepath.Join(t.TempDir(), "captures")
	require.NoError(t, os.Symlink(dir, link))
	inputs, _, err = load.Inputs([]string{link}, nil)
	require.NoError(t, err)
	require.Len(t, inputs, 5)
	require.Equal(t, filepath.Join(link, "a.pcapng"), inputs[0].Name)
}

// headOf reads the first record and returns the mark behind it, which names the input in the ledger.
func headOf(t *testing.T, r *capture.Reader) capture.Mark {
	t.Helper()
	defer r.Close()
	require.NoError(t, r.Next(new(event.Batch)))
	return r.Mark()
}
