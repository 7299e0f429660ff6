package track

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
	"murmuration/pkg/event"
	"murmuration/pkg/store"
	"murmuration/pkg/surge"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Main(m)) }

func open(t testing.TB) *store.Store {
	t.Helper()
	ep := enginetest.Endpoint(t)
	s, err := store.Open(t.Context(), store.Options{
		Addr: []string{ep.TCPAddr}, User: ep.User, Password: ep.Password, Database: enginetest.Name(t), CreateDatabase: true,
		RetryFor: 20 * time.Second, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	_, err = s.Migrate(t.Context())
	require.NoError(t, err)
	return s
}

var (
	begin = time.Date(2026, 3, 1, 5, 17, 3, 0, time.UTC)
	first = begin.Truncate(time.Hour)
)

// at is the middle of hour h of the data.
func at(h int) time.Time { return first.Add(time.Duration(h)*time.Hour + 30*time.Minute) }

func source(n int) event.IP {
	return event.IP{10: 0xff, 11: 0xff, 12: 203, 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}
}

// world is five weeks of a telescope: some ports with a rhythm, rare ports by the hundred, and two surges: port 81/tcp, which
// nobody asked for before, in hour 700, and HEAD on port 80 in hour 800, which GET drowns.
func world() *event.Batch {
	r := rand.New(rand.NewPCG(4, 2))
	b := new(event.Batch)
	add := func(h int, e event.Event) {
		e.Time, e.Dst, e.Packets = max(begin.UnixMicro(), at(h).UnixMicro()), event.IP{10: 0xff, 11: 0xff, 12: 198, 15: byte(r.IntN(256))}, 1
		b.Append(&e)
	}
	probe := func(h, from int, port uint16, proto event.Proto) {
		add(h, event.Event{Src: source(from), Kind: event.KindScan, Technique: event.TechniqueSYN, Proto: proto, Dport: port})
	}
	request := func(h, from int, method string) {
		add(h, event.Event{Src: source(from), Kind: event.KindRequest, Technique: event.TechniqueRequest, Proto: event.ProtoTCP, Dport: 80, Method: method, Path: "/"})
	}
	for h := range 840 {
		for range 4 + r.IntN(4+h%24/4) {
			probe(h, r.IntN(1<<20), 22, event.ProtoTCP)
		}
		for range 60 + r.IntN(100) {
			request(h, r.IntN(1<<20), "GET")
		}
		for range 10 {
			probe(h, r.IntN(50), uint16(1000+r.IntN(60000)), event.ProtoUDP)
		}
		if h >= 700 && h < 712 {
			for range 40 {
				probe(h, r.IntN(1<<20), 81, event.ProtoTCP)
			}
		}
		if h >= 800 {
			for range 25 {
				request(h, r.IntN(1<<20), "HEAD")
			}
		}
		// Backscatter is no scan, however much of it there is.
		for range 60 * (h % 400 / 399) {
			add(h, event.Event{Src: source(r.IntN(1 << 20)), Kind: event.KindBackscatter, Technique: event.TechniqueSYNACK, Proto: event.ProtoTCP, Dport: 7777})
		}
	}
	return b
}

func held(t *testing.T, s *store.Store) []store.Surge {
	t.Helper()
	out, err := s.Surges(t.Context(), first, at(2000))
	require.NoError(t, err)
	for i := range out {
		out[i].Run = ""
	}
	return out
}

func run(t *testing.T, s *store.Store, w Window, end time.Time) *Report {
	t.Helper()
	rep, err := Run(t.Context(), s, Options{Window: w, At: end, Params: surge.DefaultParams(), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return rep
}

func TestRun(t *testing.T) {
	s := open(t)
	_, err := Run(t.Context(), s, Options{Params: surge.DefaultParams()})
	require.ErrorIs(t, err, ErrNoData)
	require.NoError(t, s.InsertEvents(t.Context(), world(), 1, "a"))
	end := at(840)

	rep := run(t, s, Window{All: true}, end)
	assert.Equal(t, first, rep.From)
	whole := held(t, s)
	require.Len(t, whole, 2, "%+v", whole)
	assert.Equal(t, store.SeriesKey{Proto: event.ProtoTCP, Port: 80, Method: "HEAD"}, whole[0].SeriesKey)
	assert.Equal(t, "open", whole[0].State)
	assert.Equal(t, first.Add(800*time.Hour), whole[0].Start)
	assert.Equal(t, store.SeriesKey{Proto: event.ProtoTCP, Port: 81}, whole[1].SeriesKey)
	assert.Equal(t, "ended", whole[1].State)
	assert.Equal(t, first.Add(700*time.Hour), whole[1].Start)
	assert.Equal(t, first.Add(700*time.Hour), whole[1].Detected)
	assert.Equal(t, first.Add(712*time.Hour), whole[1].End)
	assert.Less(t, rep.Series, 10, "rare ports are not read")

	t.Run("the question", func(t *testing.T) {
		r, err := s.Ask(t.Context(), "recent_surges", map[string]string{"hours": "24", "at": at(840).Format(time.DateTime)})
		require.NoError(t, err)
		require.True(t, r.Next())
		v, err := r.Values()
		require.NoError(t, err)
		assert.Equal(t, []any{"tcp", uint16(80), "HEAD", whole[0].Start, "http"}, []any{v[0], v[1], v[2], v[3], v[12]})
		require.False(t, r.Next(), "the surge of port 81 is over")
		require.NoError(t, r.Close())
		r, err = s.Ask(t.Context(), "recent_surges", map[string]string{"hours": "24", "at": at(706).Format(time.DateTime)})
		require.NoError(t, err)
		require.True(t, r.Next())
		v, err = r.Values()
		require.NoError(t, err)
		assert.Equal(t, uint16(81), v[1])
		require.False(t, r.Next(), "that of HEAD had not begun")
		require.NoError(t, r.Close())
	})
	t.Run("nothing new", func(t *testing.T) {
		again := run(t, s, Window{}, end)
		assert.Equal(t, again.From, again.To)
		assert.Equal(t, whole, held(t, s))
	})
	t.Run("a run that fails changes nothing", func(t *testing.T) {
		require.NoError(t, s.PutSurgeRun(t.Context(), store.SurgeRun{Run: "99990101", From: first, To: end, Status: store.RunFailed}))
		assert.Equal(t, whole, held(t, s))
	})
	t.Run("deciding again about the last hours", func(t *testing.T) {
		run(t, s, Window{Length: 36 * time.Hour}, end)
		assert.Equal(t, whole, held(t, s))
		run(t, s, Window{Length: 140 * time.Hour}, end)
		assert.Equal(t, whole, held(t, s), "also from the middle of a surge")
	})
	t.Run("going back and on again", func(t *testing.T) {
		run(t, s, Window{Length: 20 * time.Hour}, at(705))
		now := held(t, s)
		require.Len(t, now, 2)
		assert.Equal(t, "open", now[1].State, "as it stood at the time")
		run(t, s, Window{}, end)
		assert.Equal(t, whole, held(t, s))
	})
}

// Every surge of late is news once, however often runs come by: its alarm, and later its end.
func TestNews(t *testing.T) {
	s := open(t)
	require.NoError(t, s.InsertEvents(t.Context(), world(), 1, "a"))
	told := map[string]bool{}
	tell := func(rep *Report) (fresh []string) {
		news, err := rep.News(t.Context(), s)
		require.NoError(t, err)
		for _, e := range news {
			if n := e.Data.(News); !told[e.ID] {
				told[e.ID] = true
				fresh = append(fresh, fmt.Sprint(e.Type, " ", n.Port, n.Method, " ", n.State))
			}
		}
		return fresh
	}
	assert.Empty(t, tell(run(t, s, Window{}, at(700))))
	assert.Equal(t, []string{"surge.began 81 open"}, tell(run(t, s, Window{}, at(703))))
	assert.Empty(t, tell(run(t, s, Window{}, at(705))))
	assert.Equal(t, []string{"surge.ended 81 ended"}, tell(run(t, s, Window{}, at(760))))
	run(t, s, Window{}, at(820)) // One that is killed before it tells.
	assert.Equal(t, []string{"surge.began 80HEAD open"}, tell(run(t, s, Window{}, at(840))))
	assert.Empty(t, tell(run(t, s, Window{All: true}, at(840))), "deciding again about everything is no news")
	old, err := run(t, s, Window{All: true}, at(840+400)).News(t.Context(), s)
	require.NoError(t, err)
	assert.Empty(t, old, "what is old is no news")
}

// To look at the last hours again leaves none undecided, and follows what is open from its alarm on, however long ago that was.
func TestTheLastHoursAgain(t *testing.T) {
	s := open(t)
	require.NoError(t, s.InsertEvents(t.Context(), world(), 1, "a"))
	run(t, s, Window{}, at(705))
	rep := run(t, s, Window{Length: 12 * time.Hour}, at(839))
	assert.Equal(t, first.Add(705*time.Hour), rep.From, "the hours after the last run come with it")
	got := held(t, s)
	run(t, s, Window{All: true}, at(839))
	assert.Equal(t, held(t, s), got)
	require.Len(t, got, 2)
	assert.Equal(t, first.Add(827*time.Hour), run(t, s, Window{Length: 12 * time.Hour}, at(839)).From)

	// As a run of before this rule left it: open at 705, and nothing decided until 1700.
	s = open(t)
	require.NoError(t, s.InsertEvents(t.Context(), world(), 1, "a"))
	run(t, s, Window{}, at(705))
	f := finder{progress: func(string, uint64, uint64) {}, params: surge.DefaultParams(), born: hour(first), from: hour(first) + 1700, to: hour(first) + 1712}
	require.NoError(t, f.run(t.Context(), s))
	require.Len(t, f.found, 1)
	assert.Equal(t, uint16(81), f.found[0].Port)
	assert.Equal(t, got[1].Sources, f.found[0].Sources)
	assert.Equal(t, got[1].End, f.found[0].End)
}

// Weeks without anything at all are no past of zeros, after which all that goes on would be a surge.
func TestRecordingThatBeginsAnew(t *testing.T) {
	s := open(t)
	b := new(event.Batch)
	for h := range 50 * 24 {
		for i := range 20 {
			if h < 10*24 || h >= 40*24 {
				b.Append(&event.Event{
					Time: at(h).UnixMicro(), Src: source(20*h + i), Dst: event.IP{10: 0xff, 11: 0xff, 12: 198, 15: 1},
					Kind: event.KindScan, Technique: event.TechniqueSYN, Proto: event.ProtoTCP, Dport: 22, Packets: 1,
				})
			}
		}
	}
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, "a"))
	assert.Empty(t, run(t, s, Window{All: true}, at(50*24)).Found)
	s = open(t)
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, "a"))
	for h := 9 * 24; h <= 50*24; h += 24 {
		assert.Empty(t, run(t, s, Window{}, at(h)).Found, "%d", h)
	}
}

// Run after run, hour by hour and day by day, finds what one run finds.
func TestIncrementalEqualsWhole(t *testing.T) {
	b := world()
	s := open(t)
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, "a"))
	run(t, s, Window{All: true}, at(840))
	want := held(t, s)
	s = open(t)
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, "a"))
	for h := 168; h < 840; {
		run(t, s, Window{}, at(h))
		switch {
		case h >= 698 && h < 716:
			h++
		case h >= 716 && h < 730:
			h += 5
		default:
			h += 31
		}
	}
	run(t, s, Window{}, at(840))
	assert.Equal(t, want, held(t, s))
}

// What is read from the rollups is what the events say.
func TestSeriesEqualEvents(t *testing.T) {
	s := open(t)
	require.NoError(t, s.InsertEvents(t.Context(), world(), 1, "a"))
	past, from, to := first.Add(650*time.Hour), first.Add(690*time.Hour), first.Add(820*time.Hour)
	got := ""
	var read, rows uint64
	progress := func(done, total uint64) { read, rows = done, total }
	require.NoError(t, s.EachSeries(t.Context(), past, from, to, 5, progress, func(k store.SeriesKey, counts []store.HourCount) error {
		for _, c := range counts {
			got += fmt.Sprintln(k.Proto, k.Port, k.Method, c.Hour.Unix(), c.Sources)
		}
		return nil
	}))
	assert.Positive(t, read)
	assert.GreaterOrEqual(t, rows, read)
	r, err := s.Query(t.Context(), `SELECT proto, dport, m, toUnixTimestamp(hour), n FROM
		(
			SELECT proto, dport, m, toStartOfHour(ts) AS hour, uniqExact(src) AS n
			FROM (SELECT *, method AS m FROM events UNION ALL SELECT *, '' AS m FROM events WHERE method != '')
			WHERE kind IN ('scan', 'request') AND ts >= fromUnixTimestamp64Micro({past:Int64}) AND ts < fromUnixTimestamp64Micro({to:Int64})
			GROUP BY proto, dport, m, hour
		)
		QUALIFY max(if(hour >= fromUnixTimestamp64Micro({from:Int64}), n, 0)) OVER (PARTITION BY proto, dport, m) >= 5
		ORDER BY CAST(proto, 'Int8'), dport, m, hour`,
		map[string]string{"past": fmt.Sprint(past.UnixMicro()), "from": fmt.Sprint(from.UnixMicro()), "to": fmt.Sprint(to.UnixMicro())})
	require.NoError(t, err)
	want := ""
	for r.Next() {
		v, err := r.Values()
		require.NoError(t, err)
		want += fmt.Sprintln(v...)
	}
	require.NoError(t, r.Err())
	require.NoError(t, r.Close())
	assert.NotEmpty(t, want)
	assert.Equal(t, want, got)
}
