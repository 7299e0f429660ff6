package export

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"murmuration/pkg/engine/enginetest"
	"murmuration/pkg/event"
	"murmuration/pkg/load"
	"murmuration/pkg/store"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Main(m)) }

func open(t testing.TB) *store.Store {
	t.Helper()
	ep := enginetest.Endpoint(t)
	st, err := store.Open(t.Context(), store.Options{
		Addr: []string{ep.TCPAddr}, HTTPAddr: ep.HTTPAddr, User: ep.User, Password: ep.Password, Database: enginetest.Name(t), CreateDatabase: true,
		Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	_, err = st.Migrate(t.Context())
	require.NoError(t, err)
	return st
}

// loaded is a store with the demo's captures and an event whose text is hard to write.
func loaded(t testing.TB) *store.Store {
	t.Helper()
	st := open(t)
	inputs, _, err := load.Inputs([]string{filepath.Join("..", "..", "demo", "telescope.pcap.zst"), filepath.Join("..", "..", "demo", "honeypot.pcap.zst")}, nil)
	require.NoError(t, err)
	l := load.New(st, load.Options{Sensor: "demo", Logger: slog.New(slog.DiscardHandler), Progress: func(load.Progress) {}})
	for _, in := range inputs {
		rep, err := l.Load(t.Context(), in)
		require.NoError(t, err)
		require.NoError(t, rep.Err)
	}
	b := new(event.Batch)
	b.Append(&event.Event{
		Time: time.Date(2026, 8, 1, 0, 0, 0, 123456000, time.UTC).UnixMicro(), Sensor: `north, "pole"`, Src: event.IPOf(netip.MustParseAddr("2001:db8::1")),
		Dst: event.IPOf(netip.MustParseAddr("198.51.100.1")), Dport: 8080, Proto: event.ProtoTCP, Kind: event.KindRequest, Technique: event.TechniqueRequest,
		Packets: 3, Method: "GET", Path: "/a\nb,\"c\"\x00ä\xff", UserAgent: "'; DROP TABLE events; --", PayloadHash: 1<<64 - 1,
	})
	require.NoError(t, st.InsertEvents(t.Context(), b, 1<<63+1, "odd"))
	return st
}

// record is an event as the Parquet file has it.
type record struct {
	TS          time.Time `parquet:"ts,timestamp(microsecond)"`
	Sensor      string    `parquet:"sensor"`
	Src         string    `parquet:"src"`
	Dst         string    `parquet:"dst"`
	Sport       uint16    `parquet:"sport"`
	Dport       uint16    `parquet:"dport"`
	Proto       string    `parquet:"proto"`
	Kind        string    `parquet:"kind"`
	Technique   string    `parquet:"technique"`
	Packets     uint32    `parquet:"packets"`
	Seq         uint32    `parquet:"seq"`
	IPID        uint16    `parquet:"ip_id"`
	TTL         uint8     `parquet:"ttl"`
	DF          bool      `parquet:"df"`
	Signature   string    `parquet:"signature"`
	PayloadHash uint64    `parquet:"payload_hash"`
	Method      string    `parquet:"method"`
	Path        string    `parquet:"path"`
	UserAgent   string    `parquet:"user_agent"`
	Input       uint64    `parquet:"input"`
}

// line writes a record as the naive query does.
func (r *record) line() string {
	return fmt.Sprint(r.TS.UnixMicro(), r.Sensor, "|", r.Src, "|", r.Dst, "|", r.Sport, "|", r.Dport, "|", r.Proto, "|", r.Kind, "|", r.Technique, "|", r.Packets, "|",
		r.Seq, "|", r.IPID, "|", r.TTL, "|", r.DF, "|", r.Signature, "|", r.PayloadHash, "|", r.Method, "|", r.Path, "|", r.UserAgent, "|", r.Input)
}

// naive reads the events themselves, over the native protocol.
func naive(t testing.TB, st *store.Store, where string) []string {
	t.Helper()
	rows, err := st.Query(t.Context(), `SELECT ts, toString(sensor), src, dst, sport, dport, toString(proto), toString(kind), toString(technique), packets, seq, ip_id, ttl, df,
		toString(signature), payload_hash, toString(method), path, user_agent, input FROM events WHERE `+where, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	out := []string{}
	for rows.Next() {
		v, err := rows.Values()
		require.NoError(t, err)
		v[0] = v[0].(time.Time).UnixMicro()
		var b strings.Builder
		for i, x := range v {
			switch {
			case i > 1:
				b.WriteByte('|')
			}
			fmt.Fprint(&b, x)
		}
		out = append(out, strings.ReplaceAll(b.String(), "::ffff:", ""))
	}
	require.NoError(t, rows.Err())
	slices.Sort(out)
	return out
}

// A sensor that there is not is refused with those there are; what would break out of a text reaches the server as a value.
func TestExportOfNoSensor(t *testing.T) {
	st := loaded(t)
	x := store.Selection{What: "events", Port: -1, Sensor: "' OR 1=1 --"}
	path := filepath.Join(t.TempDir(), "events.csv")
	_, err := ToFile(t.Context(), st, path, Options{Selection: x, Format: store.FormatCSV})
	require.ErrorIs(t, err, ErrNothing)
	require.ErrorContains(t, err, `there are: demo, north, "pole"`)
	require.NoFileExists(t, path)
	rows, err := st.Export(t.Context(), io.Discard, x, store.FormatCSV, nil)
	require.NoError(t, err)
	assert.Zero(t, rows)
	x.Sensor = "demo"
	rows, err = st.Export(t.Context(), io.Discard, x, store.FormatCSV, nil)
	require.NoError(t, err)
	assert.NotZero(t, rows)
}

func TestParquetHasEveryEvent(t *testing.T) {
	st := loaded(t)
	path := filepath.Join(t.TempDir(), "events.parquet")
	for _, c := range []struct {
		what  store.Selection
		back  time.Duration
		where string
	}{
		{store.Selection{Port: -1}, 0, "1"},
		{store.Selection{Port: 80}, 0, "dport = 80"},
		{store.Selection{Port: -1, Kind: "request"}, 0, "kind = 'request'"},
		{store.Selection{Port: -1, Sensor: `north, "pole"`}, 0, "sensor != 'demo'"},
		{store.Selection{Port: -1, Source: netip.MustParsePrefix("100.64.0.0/12")}, 0, "src >= toIPv6('100.64.0.0') AND src <= toIPv6('100.79.255.255')"},
		{store.Selection{Port: -1, Source: netip.MustParsePrefix("2001:db8::/32")}, 0, "sensor != 'demo'"},
		{store.Selection{Port: -1}, 30 * 24 * time.Hour, "ts >= toDateTime64('2026-08-01 00:00:01', 6, 'UTC') - toIntervalDay(30)"},
		{store.Selection{Port: 23, From: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 5, 2, 0, 0, 0, 1000, time.UTC)}, 0, "dport = 23 AND ts >= '2026-05-01 00:00:00' AND ts < '2026-05-02 00:00:00.000001'"},
	} {
		c.what.What = "events"
		r, err := ToFile(t.Context(), st, path, Options{Selection: c.what, Format: store.FormatParquet, Window: c.back})
		require.NoError(t, err)
		records, err := parquet.ReadFile[record](path)
		require.NoError(t, err)
		got := make([]string, len(records))
		for i := range records {
			got[i] = records[i].line()
		}
		slices.Sort(got)
		want := naive(t, st, c.where)
		assert.Equal(t, uint64(len(want)), r.Rows)
		require.Equal(t, want[:min(len(want), 3)], got[:min(len(got), 3)], c.where)
		require.Equal(t, want, got, c.where)
		require.NotEmpty(t, want, c.where)
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, info.Size(), r.Bytes)
	}
}

func TestTextFormats(t *testing.T) {
	st := loaded(t)
	var out bytes.Buffer
	r, err := To(t.Context(), st, &out, Options{Selection: store.Selection{What: "events", Port: -1}, Format: store.FormatCSV})
	require.NoError(t, err)
	lines, err := csv.NewReader(&out).ReadAll()
	require.NoError(t, err)
	require.Equal(t, "ts", lines[0][0])
	assert.Len(t, lines, int(r.Rows)+1) //nolint:gosec // Small.
	i := slices.IndexFunc(lines, func(l []string) bool { return l[1] == `north, "pole"` })
	require.Positive(t, i)
	assert.Equal(t, []string{"2026-08-01 00:00:00.123456", `north, "pole"`, "2001:db8::1", "198.51.100.1"}, lines[i][:4])
	assert.Contains(t, lines[i], "'; DROP TABLE events; --")

	out.Reset()
	r, err = To(t.Context(), st, &out, Options{Selection: store.Selection{What: "footprints", Port: -1}, Format: store.FormatJSON})
	require.NoError(t, err)
	n, events := uint64(0), 0.0
	for s := bufio.NewScanner(&out); s.Scan(); n++ {
		var x map[string]any
		require.NoError(t, json.Unmarshal(s.Bytes(), &x))
		events += x["events"].(float64)
	}
	assert.Equal(t, r.Rows, n)
	assert.InDelta(t, float64(len(naive(t, st, "kind IN ('scan', 'request')"))), events, 0)
	_, err = To(t.Context(), st, &out, Options{Selection: store.Selection{What: "campaigns"}, Format: store.FormatParquet})
	require.NoError(t, err)
}

// A window of events ends with the newest event, whatever its kind; one of footprints with the newest that makes one.
func TestWindowEndsWithTheNewest(t *testing.T) {
	st := open(t)
	b := new(event.Batch)
	start := time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
	b.Append(&event.Event{Time: start.UnixMicro(), Kind: event.KindScan, Proto: event.ProtoTCP, Technique: event.TechniqueSYN, Packets: 1})
	for i := range 10 {
		b.Append(&event.Event{Time: start.Add(time.Duration(i) * time.Hour).UnixMicro(), Kind: event.KindBackscatter, Proto: event.ProtoTCP, Packets: 1})
	}
	require.NoError(t, st.InsertEvents(t.Context(), b, 1, "a"))
	for what, want := range map[string]uint64{"events": 4, "footprints": 1} {
		r, err := To(t.Context(), st, io.Discard, Options{Selection: store.Selection{What: what, Port: -1}, Format: store.FormatCSV, Window: 4 * time.Hour})
		require.NoError(t, err)
		assert.Equal(t, want, r.Rows, what)
	}
}

// What fails leaves the file that was there, and nothing beside it.
func TestFileIsWholeOrTheOldOne(t *testing.T) {
	st, dir := loaded(t), t.TempDir()
	path := filepath.Join(dir, "events.csv")
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	_, err := ToFile(ctx, st, path, Options{Selection: store.Selection{What: "events", Port: -1}, Format: store.FormatCSV})
	require.ErrorIs(t, err, stop)
	_, err = ToFile(t.Context(), st, path, Options{Selection: store.Selection{What: "event"}, Format: store.FormatCSV})
	require.ErrorContains(t, err, `did you mean "events"?`)
	_, err = ToFile(t.Context(), st, path, Options{Selection: store.Selection{What: "events"}, Format: "xml"})
	require.ErrorIs(t, err, store.ErrExport)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "old", string(content))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, left, 1)
	_, err = ToFile(t.Context(), st, filepath.Join(dir, "none", "x"), Options{Selection: store.Selection{What: "events"}, Format: store.FormatCSV})
	require.ErrorContains(t, err, "there is no directory")
	_, err = To(t.Context(), open(t), new(bytes.Buffer), Options{Selection: store.Selection{What: "events", Port: -1}, Format: store.FormatCSV, Window: time.Hour})
	require.ErrorIs(t, err, ErrNothing)
}

// What is no file is written into, and a link is followed: neither is replaced.
func TestPlacesThatAreNoFiles(t *testing.T) {
	st, dir := loaded(t), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	o := Options{Selection: store.Selection{What: "events", Port: -1}, Format: store.FormatCSV}
	var want bytes.Buffer
	r, err := To(t.Context(), st, &want, o)
	require.NoError(t, err)

	require.NoError(t, unix.Mkfifo(at("pipe"), 0o600))
	got := make(chan []byte, 1)
	go func() {
		data, _ := os.ReadFile(at("pipe"))
		got <- data
	}()
	piped, err := ToFile(t.Context(), st, at("pipe"), o)
	require.NoError(t, err)
	assert.Equal(t, r, piped)
	assert.Len(t, <-got, want.Len())

	require.NoError(t, os.WriteFile(at("file"), []byte("old"), 0o600))
	for link, to := range map[string]string{"null": "/dev/null", "full": "/dev/full", "link": "file", "dangling": "nowhere"} {
		require.NoError(t, os.Symlink(to, at(link)))
	}
	_, err = ToFile(t.Context(), st, at("null"), o)
	require.NoError(t, err)
	_, err = ToFile(t.Context(), st, at("full"), o)
	require.ErrorContains(t, err, "no room is left there")
	_, err = ToFile(t.Context(), st, at("link"), o)
	require.NoError(t, err)
	info, err := os.Stat(at("file"))
	require.NoError(t, err)
	assert.Equal(t, r.Bytes, info.Size())
	_, err = ToFile(t.Context(), st, at("dangling"), o)
	require.ErrorContains(t, err, at("dangling")+": this is a link to nowhere, which is not there")
	for _, name := range []string{"null", "full", "link", "dangling"} {
		_, err := os.Readlink(at(name))
		require.NoError(t, err, name)
	}
	var l net.ListenConfig
	socket, err := l.Listen(t.Context(), "unix", at("socket"))
	require.NoError(t, err)
	defer socket.Close()
	_, err = ToFile(t.Context(), st, at("socket"), o)
	require.ErrorContains(t, err, "this is a disk or a socket")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, left, 7, "nothing stays beside them")
}

// Waiting for somebody who reads from a pipe ends with the context.
func TestPipeThatNobodyReads(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, unix.Mkfifo(pipe, 0o600))
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	_, err := openInto(ctx, pipe)
	require.ErrorIs(t, err, stop)
	f, err := os.OpenFile(pipe, os.O_RDONLY|unix.O_NONBLOCK, 0) // Lets go of what waits.
	require.NoError(t, err)
	require.NoError(t, f.Close())
}
