package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"murmuration/pkg/engine"
	"murmuration/pkg/engine/enginetest"
	"murmuration/pkg/event"
)

// What is inserted comes back, every column of it.
func TestInsertKeepsEveryColumn(t *testing.T) { insertKeepsEveryColumnOn(t, open(t)) }

func insertKeepsEveryColumnOn(t *testing.T, s *Store) {
	t.Helper()
	round := uint64(0)
	rapid.Check(t, func(rt *rapid.T) {
		round++
		g := newTraffic(rapid.Uint64().Draw(rt, "seed"))
		g.span = 10 * 24 * time.Hour
		b := g.batch(rapid.IntRange(1, 200).Draw(rt, "events"))
		require.NoError(t, s.InsertEvents(t.Context(), b, round, fmt.Sprint("round ", round)))
		want := map[event.Event]int{}
		for i := range b.Len() {
			want[b.Row(i)]++
		}
		got := map[event.Event]int{}
		require.NoError(t, s.eachEvent(t.Context(), round, firstTime, lastTime, func(e *event.Event) { got[*e]++ }))
		require.Equal(t, want, got)
	})
}

// A batch sent twice under its token is there once, in the events and in every rollup and view of a view; also where
// other batches came between, and where it has rows of many months.
func TestSameTokenIsOnce(t *testing.T) {
	s, twice := open(t), open(t)
	g := newTraffic(7)
	g.span = 300 * 24 * time.Hour
	var batches []*event.Batch
	for range 4 {
		batches = append(batches, g.batch(2000))
	}
	for i, b := range batches {
		require.NoError(t, s.InsertEvents(t.Context(), b, 1, fmt.Sprint("token ", i)))
	}
	for _, i := range []int{0, 1, 0, 1, 2, 3, 2, 0, 3} {
		require.NoError(t, twice.InsertEvents(t.Context(), batches[i], 1, fmt.Sprint("token ", i)))
	}
	assert.Equal(t, contents(t, s), contents(t, twice))
	// The digests can tell: one more batch changes all of them.
	before := contents(t, s)
	require.NoError(t, s.InsertEvents(t.Context(), batches[0], 1, "another token"))
	for name, digest := range contents(t, s) {
		assert.NotEqual(t, before[name], digest, name)
	}
}

// On what exactly-once rests: a batch becomes one part a partition in every table, however many keys it has.
func TestBatchStaysOneBlock(t *testing.T) {
	s := open(t)
	want := []string{"events\t1\n"}
	require.NoError(t, s.ddl(t.Context(), "SYSTEM STOP MERGES events"))
	for _, name := range rollups() {
		want = append(want, name+"_state\t1\n")
		require.NoError(t, s.ddl(t.Context(), "SYSTEM STOP MERGES "+name+"_state"))
	}
	slices.Sort(want)
	require.NoError(t, s.InsertEvents(t.Context(), wide(300_000), 1, "wide"))
	assert.Equal(t, strings.Join(want, ""),
		table(t, s, `SELECT table, count() FROM system.parts WHERE database = currentDatabase() AND active AND (table = 'events' OR table LIKE '%\_state')
			GROUP BY table ORDER BY table`))
	assert.Equal(t, "300000\n", table(t, s, "SELECT count() FROM events"))
}

// wide returns events of one day with many sources and targets; four fifths go to eight busy ports, the rest to any.
func wide(n int) *event.Batch {
	rnd := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // Reproducible on purpose.
	start := time.Date(2026, 3, 3, 0, 0, 0, 0, time.UTC).UnixMicro()
	b := new(event.Batch)
	for i := range n {
		port := pick(rnd, uint16(22), 23, 80, 443, 445, 3389, 5900, 8080)
		if rnd.UintN(5) == 0 {
			port = uint16(rnd.UintN(1 << 16)) //nolint:gosec // In range.
		}
		e := event.Event{
			Time: start + int64(i)*100_000, Sensor: "wide", Src: event.IP{10: 0xff, 11: 0xff, 12: 10, 13: byte(rnd.UintN(4)), 14: byte(rnd.UintN(256)), 15: byte(rnd.UintN(256))},
			Dst:   event.IP{10: 0xff, 11: 0xff, 12: 198, 13: 18, 14: byte(rnd.UintN(64)), 15: byte(rnd.UintN(256))},
			Dport: port, Sport: uint16(rnd.UintN(1 << 16)), Proto: event.ProtoTCP, Kind: event.KindScan, Technique: event.TechniqueSYN, //nolint:gosec // In range.
			Packets: 1, Flags: event.SYN, Window: 1024, Seq: rnd.Uint32(), TTL: 240, Signature: "1024:::",
		}
		switch i % 1000 {
		case 999:
			e.Kind, e.Technique = event.KindBackscatter, event.TechniqueNone
		case 0:
			e.Kind, e.Technique, e.Method, e.Path = event.KindRequest, event.TechniqueRequest, "GET", "/"
		}
		b.Append(&e)
	}
	return b
}

// The engine is killed at a random moment of every batch, comes back at another address, and all ends as if nothing had
// happened.
func TestKilledEngineLosesAndDoublesNothing(t *testing.T) {
	want := open(t)
	g := newTraffic(11)
	var batches []*event.Batch
	var took []time.Duration // for each batch undisturbed
	for i := range 10 {
		batches = append(batches, g.batch(8_000))
		start := time.Now()
		require.NoError(t, want.InsertEvents(t.Context(), batches[i], 1, fmt.Sprint("token ", i)))
		took = append(took, time.Since(start))
	}

	k := newKillable(t)
	o := options(t)
	ep := k.engine.Load().Endpoint()
	o.User, o.Password, o.RetryFor, o.DialContext = ep.User, ep.Password, 2*time.Minute, k.dial
	s := openWith(t, o)
	_, err := s.Migrate(t.Context())
	require.NoError(t, err)
	for i, b := range batches {
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			k.killAfter(t, time.Duration(g.rnd.Float64()*1.3*float64(took[i])))
		}()
		require.NoError(t, s.InsertEvents(t.Context(), b, 1, fmt.Sprint("token ", i)))
		require.NoError(t, s.PutMark(t.Context(), Mark{Start: int64(i), End: int64(i + 1), Token: fmt.Sprint("token ", i), Done: true}))
		<-killed
	}
	assert.Equal(t, contents(t, want), contents(t, s))
	marks, err := s.Marks(t.Context(), [32]byte{})
	require.NoError(t, err)
	assert.Len(t, marks, len(batches))
}

// killable is an engine of its own that can be killed and comes back.
type killable struct {
	dir    string
	engine atomic.Pointer[engine.Engine]
}

func newKillable(t *testing.T) *killable {
	t.Helper()
	enginetest.Need(t)
	k := &killable{dir: t.TempDir()}
	k.start(t)
	t.Cleanup(func() { assert.NoError(t, k.engine.Load().Stop(background())) })
	return k
}

func (k *killable) start(t *testing.T) {
	e, err := engine.Start(background(), engine.Options{Dir: k.dir})
	if !assert.NoError(t, err) {
		runtime.Goexit()
	}
	k.engine.Store(e)
}

func (k *killable) killAfter(t *testing.T, d time.Duration) {
	<-time.After(d)
	e := k.engine.Load()
	assert.NoError(t, syscall.Kill(e.Pid(), syscall.SIGKILL))
	<-e.Done()
	k.start(t)
}

// dial goes to wherever the engine listens now.
func (k *killable) dial(ctx context.Context, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", k.engine.Load().Endpoint().TCPAddr)
}

func TestBatchThatCannotBeStored(t *testing.T) {
	s := open(t)
	b := newTraffic(1).batch(3)
	require.ErrorIs(t, s.InsertEvents(t.Context(), b, 1, ""), ErrBatch)
	b.Time[1] = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	err := s.InsertEvents(t.Context(), b, 1, "t")
	require.ErrorIs(t, err, ErrBatch)
	assert.Contains(t, err.Error(), "event 1")
	assert.Contains(t, err.Error(), "2200")
	large := &event.Batch{Time: make([]int64, MaxBatchRows+1)}
	require.ErrorIs(t, s.InsertEvents(t.Context(), large, 1, "t"), ErrBatch)
	require.NoError(t, s.InsertEvents(t.Context(), new(event.Batch), 1, "t"), "an empty batch is nothing")
	assert.Equal(t, "0\n", table(t, s, "SELECT count() FROM events"))
}

// A write gives up when the server stays away, and says so; it ends at once when its context does.
func TestUnreachableServer(t *testing.T) {
	o := options(t)
	s := openWith(t, o)
	_, err := s.Migrate(t.Context())
	require.NoError(t, err)
	o.RetryFor, o.CreateDatabase = 300*time.Millisecond, false
	var gone atomic.Bool
	o.DialContext = func(ctx context.Context, addr string) (net.Conn, error) {
		if gone.Load() {
			return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
	lost := openWith(t, o)
	require.NoError(t, lost.conn.Close())
	gone.Store(true)
	require.NoError(t, lost.connect(o.Database))
	err = lost.InsertEvents(t.Context(), newTraffic(1).batch(3), 1, "t")
	require.ErrorIs(t, err, ErrUnavailable)
	assert.Contains(t, err.Error(), "nothing listens")

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(context.Canceled)
	require.ErrorIs(t, lost.InsertEvents(ctx, newTraffic(1).batch(3), 1, "t"), context.Canceled)
}

func BenchmarkInsertEvents(b *testing.B) {
	for _, n := range []int{100_000, 500_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := open(b)
			batch := wide(n)
			for i := 0; b.Loop(); i++ {
				require.NoError(b, s.InsertEvents(b.Context(), batch, 1, fmt.Sprint("token ", i)))
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// The bound: what the server itself takes for the same rows into the same tables.
func BenchmarkInsertSelect(b *testing.B) {
	for _, n := range []int{100_000, 500_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := open(b)
			require.NoError(b, s.ddl(b.Context(), "CREATE TABLE source AS events ENGINE = Memory"))
			require.NoError(b, s.InsertEvents(b.Context(), wide(n), 1, "first"))
			require.NoError(b, s.ddl(b.Context(), "INSERT INTO source SELECT * FROM events"))
			for b.Loop() {
				require.NoError(b, s.ddl(b.Context(), "INSERT INTO events SELECT * FROM source SETTINGS parallel_view_processing = 1, min_insert_block_size_rows = 1000000, max_block_size = 1000000"))
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
