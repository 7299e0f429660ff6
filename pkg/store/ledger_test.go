package store

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
)

func TestMarks(t *testing.T) { marksOn(t, open(t)) }

func marksOn(t *testing.T, s *Store) {
	t.Helper()
	at := time.Date(2026, 5, 1, 12, 0, 0, 123456000, time.UTC)
	head, other := [32]byte{0, 1, 2, 0xff}, [32]byte{9}
	m := Mark{Head: head, Start: 10, End: 20, Sum: [32]byte{31: 7}, Token: "one", Options: "sensor=a", Input: 1<<64 - 1, Records: 5, Rows: 4, At: at}
	put := func(m Mark) { require.NoError(t, s.PutMark(t.Context(), m)) }
	get := func(head [32]byte) []Mark {
		marks, err := s.Marks(t.Context(), head)
		require.NoError(t, err)
		return marks
	}
	assert.Empty(t, get(head))
	put(m)
	assert.Equal(t, []Mark{m}, get(head), "an intent is read back at once, every field of it")

	later := m
	later.Token, later.At = "two", at.Add(time.Second)
	put(later)
	assert.Equal(t, []Mark{later}, get(head), "the latest intent counts")
	put(m)
	assert.Equal(t, []Mark{later}, get(head), "an older intent that comes late does not")

	done := m
	done.Done, done.Token = true, "two"
	put(done)
	assert.Equal(t, []Mark{done}, get(head))
	later.At = at.Add(time.Hour)
	put(later)
	assert.Equal(t, []Mark{done}, get(head), "what is in stays in")
	put(done)
	assert.Equal(t, []Mark{done}, get(head))

	next := Mark{Head: head, Start: 20, End: 25, Sum: [32]byte{1}, At: at}
	twin := Mark{Head: head, Start: 20, End: 25, Sum: [32]byte{2}, At: at}
	put(twin)
	put(next)
	put(Mark{Head: other, End: 1, At: at})
	assert.Equal(t, []Mark{done, next, twin}, get(head), "by offset; another sum is another mark")
	assert.Len(t, get(other), 1)
	require.NoError(t, s.ddl(t.Context(), "OPTIMIZE TABLE load_batches FINAL"))
	assert.Equal(t, []Mark{done, next, twin}, get(head))

	put(Mark{Head: other, End: 2})
	assert.WithinDuration(t, time.Now(), get(other)[1].At, time.Minute, "no time is now")
}

func TestLoads(t *testing.T) { loadsOn(t, open(t)) }

func loadsOn(t *testing.T, s *Store) {
	t.Helper()
	started := time.Date(2026, 5, 1, 12, 0, 0, 5_000_000, time.UTC)
	a := Load{
		Input: 7, Name: "a.pcap", Sensor: "north", Size: 100, Offset: 90, Records: 10, Rows: 6, Inserted: 6,
		Rejected: map[string]uint64{"outbound": 3, "not IP": 1}, State: "partial", Reason: "a.pcap: byte 90: cut in a record", Parser: 1,
		Options: "sensor=north", Started: started, Finished: started.Add(time.Second),
	}
	require.NoError(t, s.PutLoad(t.Context(), a))
	b := Load{Input: 1<<64 - 1, Name: "b", State: "done", Started: started.Add(-time.Hour), Rejected: map[string]uint64{}}
	require.NoError(t, s.PutLoad(t.Context(), b))
	again := a
	again.Name, again.State, again.Reason, again.Inserted = "copy of a.pcap", "done", "", 0
	require.NoError(t, s.PutLoad(t.Context(), again))
	require.NoError(t, s.PutLoad(t.Context(), again))

	got, err := s.Loads(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []Load{b, a, again}, got, "a damaged copy and a whole one are two rows")
	assert.Equal(t, "7\tcopy of a.pcap\toutbound\t3\tdone\t\n7\tcopy of a.pcap\tnot IP\t1\tdone\t\n",
		table(t, s, "SELECT * FROM rejects WHERE name = 'copy of a.pcap'"))
	broken := Load{Input: 8, Name: "broken", State: "failed", Reason: "broken: byte 0: the file is empty"}
	require.NoError(t, s.PutLoad(t.Context(), broken))
	assert.Equal(t, "8\tbroken\t\t0\tfailed\tbroken: byte 0: the file is empty\n", table(t, s, "SELECT * FROM rejects WHERE name = 'broken'"))
}

func TestTelescopes(t *testing.T) { telescopesOn(t, open(t)) }

func telescopesOn(t *testing.T, s *Store) {
	t.Helper()
	since, until := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	v4, v6 := Telescope{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Sensor: "a", Since: since}, Telescope{Prefix: netip.MustParsePrefix("2001:db8::/32")}
	for _, x := range []Telescope{v4, v6, v6, {Prefix: netip.MustParsePrefix("198.51.100.77/24"), Sensor: "a", Since: since, Until: until}} {
		require.NoError(t, s.AddTelescope(t.Context(), x))
	}
	got, err := s.Telescopes(t.Context())
	require.NoError(t, err)
	v4.Until = until
	assert.Equal(t, []Telescope{v4, v6}, got, "the same prefix and beginning again sets its end")

	removed, err := s.RemoveTelescope(t.Context(), v6.Prefix, "")
	require.NoError(t, err)
	assert.True(t, removed)
	removed, err = s.RemoveTelescope(t.Context(), v6.Prefix, "")
	require.NoError(t, err)
	assert.False(t, removed)
	got, err = s.Telescopes(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []Telescope{v4}, got)

	require.Error(t, s.AddTelescope(t.Context(), Telescope{}))
	require.Error(t, s.AddTelescope(t.Context(), Telescope{Prefix: v4.Prefix, Since: until, Until: since}))
}

// Have tells which events of a batch are stored, each as often as it is stored, for that input alone.
func TestHave(t *testing.T) { haveOn(t, open(t)) }

func haveOn(t *testing.T, s *Store) {
	t.Helper()
	all := newTraffic(3).batch(500)
	part, twice := new(event.Batch), all.Row(10)
	for i := range all.Len() {
		if e := all.Row(i); i%3 == 0 || e == twice {
			part.Append(&e)
		}
	}
	require.NoError(t, s.InsertEvents(t.Context(), part, 1, "a"))
	require.NoError(t, s.InsertEvents(t.Context(), all, 2, "b"))
	all.Append(&twice)
	all.Append(&twice)
	stored := map[event.Event]int{}
	for i := range part.Len() {
		stored[part.Row(i)]++
	}
	want := make([]bool, all.Len())
	for i := range want {
		if e := all.Row(i); stored[e] > 0 {
			stored[e]--
			want[i] = true
		}
	}
	got, err := s.Have(t.Context(), all, 1)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	assert.Contains(t, got, true)
	assert.False(t, got[len(got)-1], "a third copy is not stored")

	got, err = s.Have(t.Context(), all, 3)
	require.NoError(t, err)
	assert.NotContains(t, got, true)
	got, err = s.Have(t.Context(), new(event.Batch), 1)
	require.NoError(t, err)
	assert.Empty(t, got)
}

func TestRuns(t *testing.T) { runsOn(t, open(t)) }

func runsOn(t *testing.T, s *Store) {
	t.Helper()
	_, found, err := s.LastRun(t.Context())
	require.NoError(t, err)
	assert.False(t, found)

	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	campaign := Campaign{
		ID: "c-1", First: at, Last: at.Add(time.Hour), Sources: 2, Ports: []uint16{22, 80}, Protos: []event.Proto{event.ProtoTCP, event.ProtoSCTP}, Tool: "zmap",
		Coverage: 0.75, OverlapRatio: 0.01, ExpectedOverlap: 500, ObservedOverlap: 5, Evidence: 123.5, Pattern: "parallel", Universe: 512,
		Targets: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/25"), netip.MustParsePrefix("2001:db8::/48")}, Networks: 2, Summary: "it's ä", State: "active",
	}
	member := CampaignSource{Campaign: "c-1", Src: event.IP{10: 0xff, 11: 0xff, 12: 1}, Probability: 0.5, Cells: 3, First: at, Last: at.Add(time.Minute)}
	run := CampaignRun{Run: "20260501T120000", Started: at, From: at.AddDate(0, 0, -90), To: at, Seed: 1<<64 - 1, Parameters: `{"a":1}`, Version: "v1", Status: RunRunning}
	require.NoError(t, s.PutRun(t.Context(), run))
	campaigns, err := s.Campaigns(t.Context(), "")
	require.NoError(t, err)
	assert.Empty(t, campaigns)

	// Rows of a run that is not done are nobody's business.
	require.NoError(t, s.insertRows(t.Context(), "test", "INSERT INTO campaign_sources_log (run, campaign, src)", 1, func(b driver.Batch, _ int) error {
		return b.Append(run.Run, "half", event.IP{})
	}))
	assert.Equal(t, "0\n", table(t, s, "SELECT count() FROM campaign_sources"))

	run.Finished, run.Sources, run.Cells, run.Groups, run.Campaigns = at.Add(time.Second), 10, 100, 7, 1
	weaker := campaign
	weaker.ID, weaker.Evidence, weaker.Targets, weaker.Ports, weaker.Protos = "c-0", 5, nil, nil, nil
	for range 2 { // Saving again after an error changes nothing.
		require.NoError(t, s.SaveRun(t.Context(), run, []Campaign{weaker, campaign}, []CampaignSource{member}))
	}
	run.Status = RunDone
	last, found, err := s.LastRun(t.Context())
	require.NoError(t, err)
	assert.True(t, found)
	assert.Equal(t, run, last)

	campaign.Run, weaker.Run, member.Run = run.Run, run.Run, run.Run
	weaker.Ports = []uint16{}
	campaigns, err = s.Campaigns(t.Context(), "")
	require.NoError(t, err)
	assert.Equal(t, []Campaign{campaign, weaker}, campaigns, "strongest evidence first")
	assert.Equal(t, "2\n", table(t, s, "SELECT count() FROM campaigns_latest"))

	// A later run sees one campaign differently and not the other; a failed one changes nothing.
	second := run
	second.Run, second.Status = "20260502T120000", RunRunning
	changed, newMember := campaign, member
	changed.Evidence, newMember.Src[12] = 200, 2
	require.NoError(t, s.SaveRun(t.Context(), second, []Campaign{changed}, []CampaignSource{newMember}))
	failed := second
	failed.Run, failed.Status, failed.Error = "20260503T120000", RunFailed, "no memory"
	require.NoError(t, s.PutRun(t.Context(), failed))
	changed.Run, newMember.Run = second.Run, second.Run

	campaigns, err = s.Campaigns(t.Context(), "")
	require.NoError(t, err)
	assert.Equal(t, []Campaign{changed}, campaigns)
	campaigns, err = s.Campaigns(t.Context(), run.Run)
	require.NoError(t, err)
	assert.Len(t, campaigns, 2)
	members, err := s.CampaignSources(t.Context(), "")
	require.NoError(t, err)
	assert.Equal(t, []CampaignSource{newMember}, members)
	known, knownSources, err := s.KnownCampaigns(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []Campaign{weaker, changed}, known, "each as the latest run that saw it")
	assert.Equal(t, []CampaignSource{newMember}, knownSources)
	runs, err := s.Runs(t.Context())
	require.NoError(t, err)
	assert.Len(t, runs, 3)
	assert.Equal(t, "no memory", runs[0].Error)
}

// A Store serves several goroutines.
func TestConcurrentUse(t *testing.T) {
	s := open(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			assert.NoError(t, s.InsertEvents(t.Context(), newTraffic(uint64(i)).batch(200), uint64(i), string(rune('a'+i)))) //nolint:gosec // Small.
			_, err := s.Marks(t.Context(), [32]byte{})
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	assert.Equal(t, "8\n", table(t, s, "SELECT uniqExact(input) FROM events"))
}
