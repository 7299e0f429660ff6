package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
	"murmuration/pkg/event"
	"murmuration/pkg/netinfo"
)

// The address of a real cluster to run the same tests against, and its name in remote_servers there. They make a database of
// their own and drop it.
const (
	realClusterDSN  = "MURMURATION_TEST_CLUSTER_DSN"
	realClusterName = "MURMURATION_TEST_CLUSTER"
)

// onStore is what must hold on a cluster as it does on one server, or of a cluster alone.
type onStore struct {
	name string
	on   func(*testing.T, *Store)
}

// suite is what engines on one machine are asked; whole is asked of a real cluster on top, which has the machines for it.
var (
	suite = []onStore{
		{"marks", marksOn}, {"loads", loadsOn}, {"telescopes", telescopesOn}, {"runs", runsOn},
		{"questions", questionsEqualOneServer}, {"leases", leasesOverNodes}, {"repair", repairOnEveryNode}, {"upkeep", upkeepOfNodes},
		{"generated traffic", generatedOnEveryShard}, {"backup", backupOfAllShards},
	}
	whole = []onStore{
		{"have", haveOn}, {"every column", insertKeepsEveryColumnOn}, {"rollups", rollupsEqualEventsOn}, {"footprints", footprintsEqualEventsOn},
		{"span", spanOn}, {"behaviour", behaviourOn}, {"behaviour beyond SYNs", behaviourBeyondSYNsOn},
		{"top networks", topNetworksOn}, {"founding question", foundingQuestionOn},
	}
)

func clusterOptions(c *enginetest.Cluster) Options {
	return Options{
		Addr: c.Addrs(), User: c.User, Password: c.Password, Database: "scan", CreateDatabase: true, Cluster: c.Name,
		RetryFor: time.Minute, Logger: slog.New(slog.DiscardHandler),
	}
}

// On a cluster of engines everything holds that holds on one server, and what is loaded while nodes are killed is exact; and on a
// cluster of servers, where the address of one is given.
func TestCluster(t *testing.T) {
	t.Run("engines", func(t *testing.T) {
		c := enginetest.StartCluster(t, "birds", 2, 2)
		s := migrated(t, clusterOptions(c))
		t.Run("nodes killed during loads", func(t *testing.T) { nodesKilledDuringLoads(t, c, s) })
		runSuite(t, s, suite)
		t.Run("pieces of a backup", func(t *testing.T) { piecesOfABackup(t, c, s) })
		t.Run("what a node lost", func(t *testing.T) { whatANodeLost(t, s) })
		t.Run("as if Keeper replicated", func(t *testing.T) { settledWhereNodesReplicate(t, s) })
		t.Run("bad input", func(t *testing.T) { clusterBadInput(t, c, s) })
		t.Run("a node that lost the database", func(t *testing.T) { nodeThatLostTheDatabase(t, c, s) })
	})
	dsn := os.Getenv(realClusterDSN)
	if dsn == "" {
		return
	}
	t.Run("servers", func(t *testing.T) {
		o, err := ParseDSN(dsn)
		require.NoError(t, err)
		o.Cluster, o.Database, o.CreateDatabase, o.Logger = os.Getenv(realClusterName), enginetest.Name(t), true, slog.New(slog.DiscardHandler)
		s := migrated(t, o)
		t.Cleanup(func() { require.NoError(t, s.ddl(background(), "DROP DATABASE IF EXISTS "+o.Database+" SYNC")) })
		runSuite(t, s, append(suite, whole...))
	})
}

func migrated(t *testing.T, o Options) *Store {
	t.Helper()
	s := openWith(t, o)
	applied, err := s.Migrate(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, applied)
	applied, err = s.Migrate(t.Context())
	require.NoError(t, err)
	require.Empty(t, applied)
	return s
}

func runSuite(t *testing.T, s *Store, cases []onStore) {
	t.Helper()
	for _, c := range cases {
		empty(t, s)
		t.Run(c.name, func(t *testing.T) { c.on(t, s) })
	}
}

// empty takes all rows out of all tables but the migrations.
func empty(t *testing.T, s *Store) {
	t.Helper()
	filled := map[string]bool{}
	for _, n := range s.cluster.nodes {
		for _, name := range strings.Fields(table(t, n.store, "SELECT name FROM system.tables WHERE database = currentDatabase() AND name LIKE '%\\_local' AND total_rows > 0")) {
			filled[strings.TrimSuffix(name, localSuffix)] = true
		}
	}
	delete(filled, "schema_migrations")
	for name := range filled {
		require.NoError(t, s.ddl(t.Context(), "TRUNCATE TABLE "+name))
	}
}

// nodesKilledDuringLoads: replicas, and the node that the loader inserts to, are killed while a batch is on its way, and come
// back; and the loader dies and another one goes on. In the end every table of every node is what it would have been.
func nodesKilledDuringLoads(t *testing.T, c *enginetest.Cluster, s *Store) {
	g := newTraffic(31)
	g.span = 6 * 24 * time.Hour
	one := open(t)
	killed := []*enginetest.Node{nil, c.Nodes[3], c.Nodes[0], c.Nodes[2], c.Nodes[0], nil}
	for i, victim := range killed {
		b, mark := g.batch(3000), Mark{Start: int64(i), End: int64(i + 1), Token: fmt.Sprint("load ", i)}
		require.NoError(t, one.InsertEvents(t.Context(), b, 1, mark.Token))
		require.NoError(t, s.PutMark(t.Context(), mark))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.InsertEvents(ctx, b, 1, mark.Token) }()
		if victim != nil {
			underWay(t, s, victim.Addr, done)
			victim.Kill(t)
			victim.Start(t)
		} else if i > 0 {
			// The loader goes, and the next one finds its mark.
			underWay(t, s, c.Nodes[1].Addr, done)
			cancel()
			<-done
			s = openWith(t, clusterOptions(c))
			marks, err := s.Marks(t.Context(), mark.Head)
			require.NoError(t, err)
			require.Equal(t, mark.Token, marks[len(marks)-1].Token)
			go func() { done <- s.InsertEvents(t.Context(), b, 1, mark.Token) }()
		}
		require.NoError(t, <-done)
		cancel()
		mark.Done = true
		require.NoError(t, s.PutMark(t.Context(), mark))
		require.NoError(t, s.InsertEvents(t.Context(), b, 1, mark.Token), "sent again, nothing changes")
	}
	assert.Equal(t, contents(t, one), contents(t, s))
	replicasEqual(t, s)
	assert.Equal(t, "1\n", table(t, s, "SELECT count() = uniqExact(src) FROM (SELECT src, getMacro('shard') AS shard FROM clusterAllReplicas('"+c.Name+"', currentDatabase(), events_local) GROUP BY src, shard)"),
		"every source is on one shard")
	shares := strings.Fields(table(t, s.cluster.nodes[0].store, "SELECT count() FROM events_local") + table(t, s.cluster.nodes[2].store, "SELECT count() FROM events_local"))
	assert.NotContains(t, shares, "0", "both shards have a share")
}

// underWay returns when a node has an insert under way, or the insert is over.
func underWay(t *testing.T, s *Store, addr string, done chan error) {
	t.Helper()
	i := slices.IndexFunc(s.cluster.nodes, func(n *node) bool { return n.addr == addr })
	for len(done) == 0 && table(t, s.cluster.nodes[i].store, "SELECT count() FROM system.processes WHERE query_kind = 'Insert'") == "0\n" {
	}
}

// nodeContents is what contents is of, of one node alone: its rows, and its states as the views finish them.
func nodeContents(t *testing.T, n *node) map[string]string {
	t.Helper()
	out := map[string]string{"events": table(t, n.store, "SELECT count(), sum(cityHash64(*)) FROM events_local")}
	for _, name := range rollups() {
		finish := table(t, n.store, "SELECT as_select FROM system.tables WHERE database = currentDatabase() AND name = {name:String}", "name", name)
		out[name] = table(t, n.store, "SELECT count(), sum(cityHash64(*)) FROM ("+strings.ReplaceAll(finish, name+"_state", name+"_state_local")+")")
	}
	return out
}

func replicasEqual(t *testing.T, s *Store) {
	t.Helper()
	of := map[uint32]map[string]string{}
	for _, n := range s.cluster.nodes {
		if s.cluster.replicated {
			for name := range s.cluster.spread.tables {
				require.NoError(t, n.exec(t.Context(), "SYSTEM SYNC REPLICA "+name+localSuffix))
			}
		}
		got := nodeContents(t, n)
		if first, ok := of[n.shard]; ok {
			assert.Equal(t, first, got, n.String())
		}
		of[n.shard] = got
	}
}

// questionsEqualOneServer asks every question of one server and of the cluster, with the same data, campaigns and surges, and
// holds the answers against each other row by row.
func questionsEqualOneServer(t *testing.T, s *Store) {
	one := open(t)
	g := newTraffic(41)
	g.span = 6 * 24 * time.Hour
	b := g.batch(8000)
	at := g.start.Add(100*time.Hour + 17*time.Minute)
	run := CampaignRun{Run: "20260501T120000", Started: at, From: g.start, To: at, Seed: 1, Version: "v1"}
	campaign := Campaign{ID: "c-1", First: g.start, Last: at, Sources: 2, Ports: []uint16{80}, Protos: []event.Proto{event.ProtoTCP}, Evidence: 9, State: "active"}
	var members []CampaignSource
	for i := range 40 {
		members = append(members, CampaignSource{Campaign: "c-1", Src: b.Src[i], Probability: 1, Cells: 1, First: g.start, Last: at})
	}
	surge := Surge{
		SeriesKey: SeriesKey{Proto: event.ProtoTCP, Port: 80}, Start: g.start, Detected: g.start.Add(time.Hour), Peak: g.start.Add(time.Hour),
		End: g.start.Add(2 * time.Hour), State: "open", Sources: 9, Expected: 1, Strength: 9,
	}
	for _, st := range []*Store{one, s} {
		require.NoError(t, st.InsertEvents(t.Context(), b, 1, "questions"))
		for _, prefix := range []string{"198.51.100.0/29", "2001:db8:ff00::/40"} {
			require.NoError(t, st.AddTelescope(t.Context(), Telescope{Prefix: netip.MustParsePrefix(prefix), Since: g.start.Add(time.Hour)}))
		}
		require.NoError(t, st.PutLoad(t.Context(), Load{Input: 1, Name: "a", State: "done", Rejected: map[string]uint64{"reply": 3}, Started: at, Finished: at}))
		require.NoError(t, st.SaveRun(t.Context(), run, []Campaign{campaign}, members))
		require.NoError(t, st.ChangeContext(t.Context(), func(context.Context, []ContextFile) (*ContextChange, error) {
			fact := netinfo.Fact{ASN: 64500, ASName: "Example", Country: "NL", Benign: "surveyor"}
			first, last := netip.MustParseAddr("203.0.0.0").As16(), netip.MustParseAddr("203.0.0.127").As16()
			file := ContextFile{Name: "as.tsv", Kinds: "asn", Format: "tsv", Networks: 1, Loaded: at}
			networks := []netinfo.Network{{First: first, Last: last, Fact: fact}}
			return &ContextChange{Files: []ContextFile{file}, Networks: map[string][]netinfo.Network{file.Name: networks}, Ranges: netinfo.Compile([][]netinfo.Network{networks})}, nil
		}))
		require.NoError(t, st.SaveSurges(t.Context(), SurgeRun{Run: "r", Started: at, From: g.start, To: at}, []Surge{surge}))
	}
	given := map[string]string{
		"port": "80", "method": "", "hours": "90", "days": "28", "at": at.Format(time.DateTime), "prefix": "198.51.100.0/28", "network": "::/0",
		"source": "203.0.0.6", "campaign": "c-1", "from": g.start.Format(time.DateOnly), "to": at.Format(time.DateOnly),
	}
	questions, err := s.Questions()
	require.NoError(t, err)
	for _, q := range questions {
		params := map[string]string{}
		for _, p := range q.Params {
			require.Contains(t, given, p.Name)
			params[p.Name] = given[p.Name]
		}
		if q.Name == "new_ports" { // On the first day every port is new.
			params["at"] = g.start.Format(time.DateOnly)
		}
		want, got := ask(t, one, q.Name, params), ask(t, s, q.Name, params)
		if !strings.Contains(q.Body, "\nORDER BY ") { // Of these nothing says in which order they come.
			want, got = inOrder(want), inOrder(got)
		}
		assert.NotEmpty(t, want, q.Name)
		assert.Equal(t, want, got, q.Name)
	}
	for _, view := range []string{"campaigns", "campaign_sources", "campaigns_latest", "campaigns_known", "campaign_runs", "surges", "surge_runs", "source_days", "port_days", "footprints"} {
		same := "SELECT count(), sum(cityHash64(toString(tuple(*)))) FROM " + view
		assert.Equal(t, table(t, one, same), table(t, s, same), view)
	}
	// Whoever asks without the connection's settings, as any client does, gets the same answer.
	plain := s.cluster.nodes[len(s.cluster.nodes)-1].store
	for _, question := range []string{"campaign_targets(campaign = 'c-1')", "first_scans", "new_ports_at(days = 28, at = '2026-01-20')"} {
		assert.Equal(t, table(t, one, "SELECT * FROM "+question), table(t, plain, "SELECT * FROM "+question), question)
	}
}

func inOrder(rows string) string {
	lines := strings.SplitAfter(rows, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func ask(t *testing.T, s *Store, name string, params map[string]string) string {
	t.Helper()
	r, err := s.Ask(t.Context(), name, params)
	require.NoError(t, err, name)
	return lines(t, r)
}

// leasesOverNodes: who connects to another node sees the same leases.
func leasesOverNodes(t *testing.T, s *Store) {
	o := s.opt
	o.Addr = []string{s.cluster.nodes[len(s.cluster.nodes)-1].addr}
	other := openWith(t, o)
	ctx, l, err := s.TryLease(t.Context(), "work")
	require.NoError(t, err)
	_, _, err = other.TryLease(t.Context(), "work")
	require.ErrorIs(t, err, ErrLeaseHeld)
	require.NoError(t, l.Release(ctx))
	ctx, l, err = other.TryLease(t.Context(), "work")
	require.NoError(t, err)
	require.NoError(t, l.Release(ctx))
}

// repairOnEveryNode: a rollup that differs on one node is made anew there, from what the node has.
func repairOnEveryNode(t *testing.T, s *Store) {
	g := newTraffic(18)
	g.span = 14 * 24 * time.Hour // Of two months.
	require.NoError(t, s.InsertEvents(t.Context(), g.batch(2000), 1, "repair"))
	want := contents(t, s)
	made, err := s.Repair(t.Context())
	require.NoError(t, err)
	require.Empty(t, made)
	n := s.cluster.nodes[len(s.cluster.nodes)-1]
	require.NoError(t, n.exec(t.Context(), "TRUNCATE TABLE port_days_state_local"))
	require.NoError(t, n.exec(t.Context(), "ALTER TABLE footprints_state_local DROP PARTITION ID '202601'"))
	made, err = s.Repair(t.Context())
	require.NoError(t, err)
	for _, what := range []string{"footprints 202601", "port_days 202602"} {
		assert.True(t, slices.ContainsFunc(made, func(m string) bool { return strings.HasPrefix(m, what+" on ") }), "%s was not made anew: %v", what, made)
	}
	assert.Equal(t, want, contents(t, s))
	replicasEqual(t, s)
}

// upkeepOfNodes: retention is set on every node and can be taken back, sizes are of all shards.
func upkeepOfNodes(t *testing.T, s *Store) {
	g := newTraffic(23)
	g.start = time.Now().Add(-48 * time.Hour) // Nothing of it expires.
	b := g.batch(2000)
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, "upkeep"))
	limited := func(of string) {
		for _, n := range s.cluster.nodes {
			for _, name := range []string{"events", "footprints_state"} {
				assert.Equal(t, of, table(t, n.store, "SELECT position(engine_full, ' TTL ') > 0 FROM system.tables WHERE database = currentDatabase() AND name = '"+name+"_local'"), n.String())
			}
		}
	}
	require.NoError(t, s.SetRetention(t.Context(), map[string]uint32{TierEvents: 90, TierFootprints: 90}))
	limited("1\n")
	kept, err := s.Retention(t.Context())
	require.NoError(t, err)
	assert.Equal(t, uint32(90), kept[0].Days)
	assert.Equal(t, uint64(b.Len()), kept[0].Rows, "of all shards, of each once")
	// A node that has done so already, when another was away, is no reason to leave that one as it is.
	require.NoError(t, s.cluster.nodes[0].exec(t.Context(), "ALTER TABLE events_local REMOVE TTL"))
	require.NoError(t, s.SetRetention(t.Context(), map[string]uint32{TierEvents: 0, TierFootprints: 0}))
	limited("0\n")
	sizes, err := s.TableSizes(t.Context())
	require.NoError(t, err)
	i := slices.IndexFunc(sizes, func(of TableSize) bool { return of.Name == "events" })
	require.GreaterOrEqual(t, i, 0)
	assert.Equal(t, uint64(b.Len()), sizes[i].Rows)
}

// whatANodeLost: rows that a batch, which may have been cut off, left on one replica and not on the other, are sent there.
func whatANodeLost(t *testing.T, s *Store) {
	empty(t, s)
	g := newTraffic(19)
	g.span = 6 * 24 * time.Hour
	b, mark := g.batch(1500), Mark{Start: 1, End: 2, Token: "lost"}
	require.NoError(t, s.PutMark(t.Context(), mark))
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, mark.Token))
	want := contents(t, s)
	n := s.cluster.nodes[1]
	// Deleted in place, the blocks stay known, as after a loss of power.
	// Not by rand(): once in some thirty tries the rollup would count as many as there are, other ones.
	for name, gone := range map[string]string{"events_local": "cityHash64(src, ts) % 2 = 0", "port_hours_state_local": "dport % 4 < 3"} {
		require.NoError(t, n.exec(t.Context(), "ALTER TABLE "+name+" DELETE WHERE "+gone+" SETTINGS mutations_sync = 2"))
	}
	_, err := s.Marks(t.Context(), mark.Head)
	require.NoError(t, err)
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, mark.Token))
	assert.Equal(t, want, contents(t, s))
	replicasEqual(t, s)
}

// settledWhereNodesReplicate: what Keeper does not know is settled, too, after a restore and where a month of a rollup has forgotten its blocks. (Engines cannot
// replicate: here they are taken for nodes that do, and have nothing to wait for.)
func settledWhereNodesReplicate(t *testing.T, s *Store) {
	empty(t, s)
	s.cluster.replicated = true
	defer func() { s.cluster.replicated = false }()
	b := newTraffic(29).batch(600)
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, compareFirst+"restored"))
	assert.Equal(t, fmt.Sprintf("%d\n", b.Len()), table(t, s, "SELECT count() FROM events"), "the tables know no token of it")
	want := contents(t, s)
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, compareFirst+"restored"))
	assert.Equal(t, want, contents(t, s))

	mark := Mark{Start: 1, End: 2, Token: "again"}
	require.NoError(t, s.PutMark(t.Context(), mark))
	require.NoError(t, s.cluster.nodes[0].exec(t.Context(), "INSERT INTO port_days_state_local SELECT * FROM port_days_state_local"))
	_, err := s.Marks(t.Context(), mark.Head)
	require.NoError(t, err)
	other := newTraffic(29).batch(600)
	require.NoError(t, s.InsertEvents(t.Context(), other, 1, mark.Token))
	assert.Equal(t, table(t, s, "SELECT count() FROM events"), table(t, s, "SELECT sum(events) FROM port_days"))
}

// nodeThatLostTheDatabase: it is named, and nothing is made that would answer for what is gone.
func nodeThatLostTheDatabase(t *testing.T, c *enginetest.Cluster, s *Store) {
	require.NoError(t, s.cluster.nodes[3].exec(t.Context(), "DROP DATABASE scan SYNC"))
	for range 2 {
		_, err := openWith(t, clusterOptions(c)).Migrate(t.Context()) // Opening makes the database, and no table.
		require.ErrorIs(t, err, ErrCluster)
		require.ErrorContains(t, err, s.cluster.nodes[3].String()+" holds nothing of scan")
	}
}

// Macros that would put the rows of two shards into one place, or two replicas, are refused before anything is made.
func TestMacrosOfNodes(t *testing.T) {
	nodes := []*node{{shard: 1, replica: 1, addr: "a:1"}, {shard: 1, replica: 2, addr: "b:1"}, {shard: 2, replica: 1, addr: "c:1"}}
	for _, c := range []struct {
		shards, replicas []string
		says             string
	}{
		{[]string{"01", "01", "02"}, []string{"a", "b", "a"}, ""},
		{[]string{"01", "", "02"}, []string{"a", "", "a"}, ""},
		{[]string{"01", "01", "01"}, []string{"a", "b", "c"}, `the macro shard is "01" on c:1`},
		{[]string{"01", "02", "03"}, []string{"a", "b", "c"}, `the macro shard is "02" on b:1`},
		{[]string{"01", "01", "02"}, []string{"a", "a", "b"}, `the macro replica is "a" on b:1`},
	} {
		err := compareMacros(nodes, c.shards, c.replicas)
		if c.says == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, ErrCluster)
		assert.ErrorContains(t, err, c.says)
	}
}

func withoutCluster(s *Store) Options {
	o := s.opt
	o.Cluster, o.CreateDatabase = "", false
	return o
}

// clusterBadInput: a sentence for everything that does not fit.
func clusterBadInput(t *testing.T, c *enginetest.Cluster, s *Store) {
	o := clusterOptions(c)
	o.Cluster, o.CreateDatabase = "bird", false
	_, err := Open(t.Context(), o)
	require.ErrorIs(t, err, ErrCluster)
	require.ErrorContains(t, err, `there is no "bird" in remote_servers`)
	require.ErrorContains(t, err, "there are: birds")
	o.Cluster = "b'; DROP"
	_, err = Open(t.Context(), o)
	require.ErrorIs(t, err, ErrCluster)

	checked := openUnchecked(t, withoutCluster(s))
	require.ErrorIs(t, checked, ErrWrongLayout)
	require.ErrorContains(t, checked, "add --cluster birds")

	plain := withoutCluster(s)
	plain.Database, plain.CreateDatabase = "plain", true
	require.NoError(t, openWith(t, plain).ddl(t.Context(), migrationsTable))
	o = clusterOptions(c)
	o.Database, o.CreateDatabase = "plain", true
	err = openUnchecked(t, o)
	require.ErrorIs(t, err, ErrWrongLayout)
	require.ErrorContains(t, err, "was made on one server")

	// A replica that is down is not missed by questions, and by leases not as long as most nodes are there.
	whole := contents(t, s)
	c.Nodes[3].Kill(t)
	assert.Equal(t, whole, contents(t, s))
	ctx, l, err := s.TryLease(t.Context(), "work")
	require.NoError(t, err)
	require.NoError(t, l.Release(ctx))
	// What changes the schema says which node it misses, and does the rest when it is run again.
	const view = "CREATE OR REPLACE VIEW one AS SELECT 1 AS n"
	err = s.ddl(t.Context(), view)
	require.ErrorIs(t, err, ErrUnavailable)
	require.ErrorContains(t, err, "node "+c.Nodes[3].Addr+" (shard 2, replica 2)")

	// A shard that is gone is an error, not half an answer, and a batch for it waits for as long as it is told to.
	c.Nodes[2].Kill(t)
	r, err := s.Query(t.Context(), "SELECT count() FROM events", nil)
	if err == nil {
		require.False(t, r.Next())
		err = r.Err()
		r.Close() // It says the same once more.
	}
	require.ErrorIs(t, err, ErrUnavailable)
	require.ErrorContains(t, err, c.Nodes[2].Addr)
	require.NotContains(t, err.Error(), "\n", "a sentence")
	_, _, err = s.TryLease(t.Context(), "work")
	require.ErrorIs(t, err, ErrUnavailable)
	require.NotContains(t, err.Error(), "\n", "a sentence")
	o = clusterOptions(c)
	o.CreateDatabase, o.RetryFor = false, time.Second
	impatient := openWith(t, o)
	b := newTraffic(5).batch(500)
	err = impatient.InsertEvents(t.Context(), b, 9, "waits")
	require.ErrorIs(t, err, ErrUnavailable)
	require.False(t, errors.Is(err, context.DeadlineExceeded))
	c.Nodes[2].Start(t)
	c.Nodes[3].Start(t)
	require.NoError(t, s.InsertEvents(t.Context(), b, 9, "waits"))
	assert.Equal(t, fmt.Sprintln(b.Len()), table(t, s, "SELECT count() FROM events WHERE input = 9"))
	require.NoError(t, s.ddl(t.Context(), view))
	assert.Equal(t, "1\n", table(t, s.cluster.nodes[3].store, "SELECT n FROM one"))
}

func openUnchecked(t *testing.T, o Options) error {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err == nil {
		require.NoError(t, s.Close())
	}
	return err
}
