package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
)

const (
	within    = "ts >= {since:DateTime64(6)} AND ts < {until:DateTime64(6)}"
	hours     = "ts >= toStartOfHour({since:DateTime64(6)}) AND ts < {until_hour:DateTime64(6)}"
	days      = "ts >= toStartOfDay({since:DateTime64(6)}) AND ts < {until_day:DateTime64(6)}"
	hit       = "dport = {port:UInt32} AND kind IN ('scan', 'request') AND ({method:String} = '' OR method = {method:String})"
	probeKind = "kind IN ('scan', 'request')"
)

// asked is a question with the naive answer to it, from the events alone.
var asked = []struct {
	name   string
	params []string
	naive  string
}{
	{"sources", []string{"port", "80", "method", "HEAD"}, "SELECT uniqExact(src) AS sources, count() AS events, sum(e.packets) AS packets, {since:DateTime64(6, 'UTC')} AS from, {until:DateTime64(6, 'UTC')} AS to FROM events AS e WHERE " + hit + " AND " + within},
	{"sources", []string{"port", "80", "method", ""}, "SELECT uniqExact(src) AS sources, count() AS events, sum(e.packets) AS packets, {since:DateTime64(6, 'UTC')} AS from, {until:DateTime64(6, 'UTC')} AS to FROM events AS e WHERE " + hit + " AND " + within},
	{"source_list", []string{"port", "80", "method", "GET"}, "SELECT src, count() AS events, sum(e.packets) AS packets, uniqExact(dst) AS targets, min(ts) AS first_seen, max(ts) AS last_seen, max(e.tool) AS tool, max(e.user_agent) AS user_agent FROM events AS e WHERE " + hit + " AND " + within + " GROUP BY src"},
	{"port_history", []string{"port", "22", "method", ""}, "SELECT toStartOfHour(ts) AS hour, uniqExact(src) AS sources, uniqExact(dst) AS targets, count() AS events, sum(e.packets) AS packets FROM events AS e WHERE " + hit + " AND " + hours + " GROUP BY hour"},
	{"top_ports", nil, "SELECT proto, dport, uniqExact(src) AS sources, uniqExact(dst) AS targets, count() AS events, sum(e.packets) AS packets FROM events AS e WHERE " + probeKind + " AND if({hours:UInt32} <= 168, " + hours + ", " + days + ") GROUP BY proto, dport"},
	{"top_sources", nil, "SELECT src, count() AS events, sum(e.packets) AS packets, uniqExact(dst) AS targets, uniqExact(dport) AS ports, toDateTime(min(ts), 'UTC') AS first_seen, toDateTime(max(ts), 'UTC') AS last_seen FROM events AS e WHERE " + probeKind + " AND " + days + " GROUP BY src"},
	{"sensors", nil, "SELECT sensor, count() AS events, countIf(kind = 'scan') AS scans, countIf(kind = 'request') AS requests, countIf(kind = 'backscatter') AS backscatter, countIf(kind = 'other') AS other, sum(e.packets) AS packets, uniqExact(dst) AS targets, toDateTime(min(ts), 'UTC') AS first_seen, toDate(max(ts)) AS last_day FROM events AS e GROUP BY sensor"},
	{"victims", nil, "SELECT src AS victim, sum(e.packets) AS packets, count() AS events, uniqExact(dst) AS targets, toDateTime(min(ts), 'UTC') AS first_seen, toDateTime(max(ts), 'UTC') AS last_seen FROM events AS e WHERE kind = 'backscatter' AND " + days + " GROUP BY src"},
	{"http_paths", nil, "SELECT method, path, uniqExact(src) AS sources, uniqExact(dst) AS targets, count() AS requests FROM events WHERE kind = 'request' AND method != '' AND " + days + " GROUP BY method, path"},
	{"target_sources", []string{"prefix", "198.51.100.0/29"}, "SELECT dst AS target, uniqExact(src) AS sources, uniqExact(proto, dport) AS ports, count() AS events, min(ts) AS first_seen, max(ts) AS last_seen FROM events WHERE " + probeKind + " AND startsWith(toString(dst), '::ffff:198.51.100.') AND toUInt8OrZero(splitByChar('.', toString(dst))[4]) < 8 AND " + within + " GROUP BY dst"},
	{"target_sources", []string{"prefix", "2001:db8:ff00::/40"}, "SELECT dst AS target, uniqExact(src) AS sources, uniqExact(proto, dport) AS ports, count() AS events, min(ts) AS first_seen, max(ts) AS last_seen FROM events WHERE " + probeKind + " AND startsWith(toString(dst), '2001:db8:ff00:') AND " + within + " GROUP BY dst"},
	{"source_life", []string{"source", "203.0.0.6"}, "SELECT * FROM source_days WHERE toString(src) = '::ffff:203.0.0.6'"},
}

// Every question answers what the events say, for windows that begin and end anywhere: inside an hour, on the hour, on
// the day, within one hour of one day, over all.
func TestQuestionsEqualEvents(t *testing.T) {
	s := open(t)
	g := newTraffic(21)
	g.span = 6 * 24 * time.Hour
	require.NoError(t, s.InsertEvents(t.Context(), g.batch(20_000), 1, "a"))
	require.NoError(t, s.ddl(t.Context(), "OPTIMIZE TABLE port_days_state FINAL"))
	base := g.start
	windows := []struct {
		until time.Time
		hours int
	}{
		{base.Add(50*time.Hour + 17*time.Minute + 3*time.Second + 5*time.Microsecond), 24},
		{base.Add(48 * time.Hour), 24},
		{base.Add(30 * time.Hour), 1},
		{base.Add(30*time.Hour + time.Minute), 1},
		{base.Add(30*time.Hour + time.Minute), 3},
		{base.Add(100*time.Hour + 59*time.Minute), 75},
		{base.Add(300 * time.Hour), 2000},
		// A dekad ends inside the traffic: after its end, and before.
		{base.Add(26*time.Hour + 30*time.Minute), 720},
		{base.Add(23*time.Hour + 30*time.Minute), 720},
		{base.Add(-24 * time.Hour), 24},
	}
	for _, w := range windows {
		since := w.until.Add(-time.Duration(w.hours) * time.Hour)
		const micro = "2006-01-02 15:04:05.000000"
		for _, q := range asked {
			t.Run(fmt.Sprintf("%s/%s/%d", q.name, w.until.Format("02T15:04:05"), w.hours), func(t *testing.T) {
				params := append([]string{
					"since", since.Format(micro), "until", w.until.Format(micro),
					"until_hour", ceil(w.until, time.Hour).Format(micro), "until_day", ceil(w.until, 24*time.Hour).Format(micro),
					"hours", fmt.Sprint(w.hours), "at", w.until.Format(micro),
				}, q.params...)
				same(t, s, "SELECT * FROM "+callOf(t, q.name), q.naive, q.name, params...)
			})
		}
	}
}

func ceil(t time.Time, d time.Duration) time.Time {
	if f := t.Truncate(d); !f.Equal(t) {
		return f.Add(d)
	}
	return t
}

// callOf writes a question with all its parameters bound, `at` included.
func callOf(t *testing.T, name string) string {
	t.Helper()
	s := Store{}
	questions, err := s.Questions()
	require.NoError(t, err)
	for _, q := range questions {
		if q.Name != name {
			continue
		}
		if len(q.Params) == 0 {
			return name
		}
		var args []string
		for _, p := range q.Params {
			args = append(args, fmt.Sprintf("%s = {%s:%s}", p.Name, p.Name, p.Type))
		}
		views := q.Views()
		return views[len(views)-1].Name + "(" + strings.Join(args, ", ") + ")"
	}
	require.Fail(t, "no question "+name)
	return ""
}

func TestTopNetworks(t *testing.T) { topNetworksOn(t, open(t)) }

func topNetworksOn(t *testing.T, s *Store) {
	t.Helper()
	b := newTraffic(5).batch(2000)
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, "a"))
	type count struct{ sources, events, packets uint64 }
	want := map[string]count{}
	seen := map[event.IP]bool{}
	for i := range b.Len() {
		e := b.Row(i)
		if e.Kind != event.KindScan && e.Kind != event.KindRequest {
			continue
		}
		a := event.Addr(e.Src)
		bits := 24
		if a.Is6() {
			bits = 48
		}
		p, err := a.Prefix(bits)
		require.NoError(t, err)
		c := want[p.String()]
		if !seen[e.Src] {
			seen[e.Src] = true
			c.sources++
		}
		c.events, c.packets = c.events+1, c.packets+uint64(e.Packets)
		want[p.String()] = c
	}
	r, err := s.Ask(t.Context(), "top_networks", map[string]string{"hours": "24000", "at": "2026-06-01"})
	require.NoError(t, err)
	got := map[string]count{}
	for r.Next() {
		v, err := r.Values()
		require.NoError(t, err)
		got[v[0].(string)] = count{v[1].(uint64), v[2].(uint64), v[3].(uint64)}
	}
	require.NoError(t, r.Close())
	assert.Equal(t, want, got)
	assert.Greater(t, len(want), 2)
}

// The founding question works as it is written in the README, for now and for another time.
func TestFoundingQuestion(t *testing.T) { foundingQuestionOn(t, open(t)) }

func foundingQuestionOn(t *testing.T, s *Store) {
	t.Helper()
	now := time.Now()
	b := new(event.Batch)
	for i, ago := range []time.Duration{time.Second, time.Minute, 23 * time.Hour, 25 * time.Hour} {
		for range 2 {
			b.Append(&event.Event{
				Time: now.Add(-ago).UnixMicro(), Src: event.IP{10: 0xff, 11: 0xff, 15: byte(i)}, Dport: 80, Proto: event.ProtoTCP,
				Kind: event.KindRequest, Method: "HEAD", Path: "/", Packets: 1,
			})
		}
	}
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, "a"))
	ask := func(what string) string { return table(t, s, "SELECT sources, events FROM "+s.Database()+"."+what) }
	assert.Equal(t, "3\t6\n", ask("sources(port = 80, method = 'HEAD', hours = 24)"))
	assert.Equal(t, "3\t6\n", ask("sources(port = 80, method = 'head', hours = 24)"))
	assert.Equal(t, "4\t8\n", ask("sources(port = 80, method = '', hours = 48)"))
	assert.Equal(t, "0\t0\n", ask("sources(port = 80, method = 'GET', hours = 24)"))
	assert.Equal(t, "0\t0\n", ask("sources(port = 65616, method = '', hours = 24)"), "a port above 65535 is no other port")
	at := now.Add(-24 * time.Hour).UTC()
	for _, form := range []string{"2006-01-02 15:04:05", time.RFC3339} {
		assert.Equal(t, "1\t2\n", ask("sources_at(port = 80, method = 'HEAD', hours = 24, at = '"+at.Format(form)+"')"))
		r, err := s.Ask(t.Context(), "sources", map[string]string{"port": "80", "method": "HEAD", "hours": "24", "at": at.Format(form)})
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(lines(t, r), "1\t2\t2\t"))
	}
}

func TestAskRefusesWhatItDoesNotKnow(t *testing.T) {
	s := open(t)
	for _, c := range []struct {
		name   string
		params map[string]string
		is     error
		says   string
	}{
		{"source", nil, ErrUnknownQuestion, `"sources"`},
		{"sorces", nil, ErrUnknownQuestion, `"sources"`},
		{"what on earth", nil, ErrUnknownQuestion, "there are: "},
		{"sources", map[string]string{"port": "80", "method": "GET"}, ErrParameter, "hours is missing"},
		{"sources", map[string]string{"port": "80", "method": "GET", "hours": "1", "ports": "2"}, ErrParameter, `did you mean "port"`},
		{"sensors", map[string]string{"x": "1"}, ErrParameter, `no "x"`},
	} {
		_, err := s.Ask(t.Context(), c.name, c.params)
		require.ErrorIs(t, err, c.is)
		assert.Contains(t, err.Error(), c.says)
	}
	// What cannot be meant is refused here, before the server explains it by its own source.
	for _, c := range []struct{ name, parameter, value, says string }{
		{"sources", "port", "http", "a port from 0 to 65535"},
		{"sources", "port", "80) OR (1 = 1", "a port from 0 to 65535"},
		{"sources", "port", "65536", "a port from 0 to 65535"},
		{"sources", "hours", "99999999999", "from 1 to 4294967295"},
		{"sources", "hours", "0", "from 1 to 4294967295"},
		{"sources", "at", "yesterdayish", "a time: 2026-06-15"},
		{"sources", "at", "2026", "a time: 2026-06-15"},
		{"target_sources", "prefix", "198.18.0.0/33", "a prefix such as"},
		{"target_sources", "prefix", "", "a prefix such as"},
		{"what_for", "network", "here", "a prefix such as"},
		{"source_life", "source", "192.0.2", "an address such as"},
		{"source_behaviour", "from", "June", "a day such as"},
	} {
		params := map[string]string{"port": "80", "method": "GET", "hours": "1"}
		switch c.name {
		case "target_sources", "what_for":
			params = map[string]string{"hours": "1"}
		case "source_life":
			params = map[string]string{}
		case "source_behaviour":
			params = map[string]string{"to": "2026-06-02"}
		}
		params[c.parameter] = c.value
		_, err := s.Ask(t.Context(), c.name, params)
		require.ErrorIs(t, err, ErrParameter, "%+v", c)
		assert.ErrorContains(t, err, c.says)
	}
}

// A time may be written as on the command line, in any zone; a prefix may be an address or have bits behind its length.
func TestFormsOfParameters(t *testing.T) {
	s := open(t)
	for _, at := range []string{"2026-06-15", "2026-06-15 00:00:00", "2026-06-15 00:00", "2026-06-15T00:00:00", "2026-06-15T02:00:00+02:00", "2026-06-15 00:00:00.0"} {
		r, err := s.Ask(t.Context(), "sources", map[string]string{"port": "80", "method": "", "hours": "24", "at": at})
		require.NoError(t, err)
		assert.Equal(t, "0\t0\t0\t2026-06-14 00:00:00 +0000 UTC\t2026-06-15 00:00:00 +0000 UTC\n", lines(t, r), at)
	}
	for _, prefix := range []string{"192.0.2.0/24", "192.0.2.7/24", "192.0.2.7", "2001:db8::1", "::/0"} {
		r, err := s.Ask(t.Context(), "target_sources", map[string]string{"prefix": prefix, "hours": "1"})
		require.NoError(t, err)
		assert.Empty(t, lines(t, r), prefix)
	}
}

// What a user gives stays a value, whatever is in it.
func TestParametersAreValues(t *testing.T) {
	s := open(t)
	for _, value := range []string{`' OR 1 = 1 --`, `\' OR 1=1`, "a\tb\nc\\", `{x:String}`, "ä€😀", `$1`, "'"} {
		assert.Equal(t, value+"\n", table(t, s, "SELECT {v:String}", "v", value))
		r, err := s.Ask(t.Context(), "sources", map[string]string{"port": "80", "method": value, "hours": "1"})
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(lines(t, r), "0\t0\t0\t"), value)
	}
}

// Every question is a view with its comment, and its example runs.
func TestEveryExampleRuns(t *testing.T) {
	s := open(t)
	questions, err := s.Questions()
	require.NoError(t, err)
	for _, q := range questions {
		t.Run(q.Name, func(t *testing.T) {
			require.NotEmpty(t, q.Example)
			assert.True(t, strings.HasSuffix(q.Title, "?"), "%q asks nothing", q.Title)
			assert.Contains(t, q.Comment, "\nExactness: ")
			table(t, s, q.Example)
			for _, v := range q.Views() {
				assert.Equal(t, q.Comment+"\n", table(t, s, "SELECT comment FROM system.tables WHERE database = currentDatabase() AND name = {v:String}", "v", v.Name))
			}
		})
	}
	// Those that are not in the table of naive answers have a test of their own.
	covered := map[string]bool{"source_behaviour": true, "tools": true, "rejects": true, "top_networks": true}
	for _, a := range asked {
		covered[a.name] = true
	}
	for _, name := range heldElsewhere {
		covered[name] = true
	}
	for _, q := range questions {
		assert.True(t, covered[q.Name], "question %s is held against nothing", q.Name)
	}
}
