package store

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
)

// benchPlan is of ten chunks.
func benchPlan() BenchPlan {
	return BenchPlan{Events: 200_000, Days: 40, Seed: 3, Until: time.Date(2026, 7, 1, 13, 37, 11, 0, time.UTC), chunk: 20_000}
}

func none(uint64, uint64) {}

// ledger is what the ledger says of generated traffic: each chunk once, all of them ended.
func ledger(t *testing.T, s *Store) string {
	t.Helper()
	return table(t, s, "SELECT count(), uniqExact(start), sum(rows), min(done) FROM load_batches FINAL") +
		table(t, s, "SELECT count(), uniqExact(input), sum(rows) FROM loads")
}

// The engine is killed again and again while it generates. Every run after it goes on, and in the end rows, rollups and ledger are those of
// a run that nothing disturbed.
func TestGeneratingGoesOnAfterTheServerWasKilled(t *testing.T) {
	undisturbed := open(t)
	require.NoError(t, undisturbed.FillBench(t.Context(), benchPlan(), none))

	c := enginetest.StartCluster(t, "one", 1, 1)
	o := Options{
		Addr: c.Addrs(), User: c.User, Password: c.Password, Database: "bench", CreateDatabase: true,
		RetryFor: time.Second, Logger: slog.New(slog.DiscardHandler),
	}
	const kills = 3
	last, cut := uint64(0), 0
	for range kills {
		s := openWith(t, o)
		_, err := s.Migrate(t.Context())
		require.NoError(t, err)
		chunks, ended := make(chan uint64, 100), make(chan error, 1)
		go func() { ended <- s.FillBench(t.Context(), benchPlan(), func(done, _ uint64) { chunks <- done }) }()
		before := <-chunks
		require.GreaterOrEqual(t, before, last, "what was in is in")
		// One chunk came to its end, and two more are on their way.
		last = <-chunks
		c.Nodes[0].Kill(t)
		require.Error(t, <-ended)
		c.Nodes[0].Start(t)
		cut += len(strings.Fields(table(t, openWith(t, o), "SELECT start FROM load_batches FINAL WHERE NOT done")))
	}
	require.Positive(t, cut, "no chunk was cut off")
	require.Less(t, last, benchPlan().Events, "the kills came in the middle")
	s := openWith(t, o)
	require.NoError(t, s.FillBench(t.Context(), benchPlan(), none))
	assert.Equal(t, contents(t, undisturbed), contents(t, s))
	assert.Equal(t, ledger(t, undisturbed), ledger(t, s))
	assert.Equal(t, "10\t10\t200000\ttrue\n10\t10\t200000\n", ledger(t, s))

	want := contents(t, s)
	require.NoError(t, s.FillBench(t.Context(), benchPlan(), func(done, total uint64) { assert.Equal(t, total, done, "nothing is left to do") }))
	assert.Equal(t, want, contents(t, s))

	// June has ended, July has not.
	var done, total uint64
	require.NoError(t, s.MergeMonths(t.Context(), benchPlan().Until, func(d, of uint64) { done, total = d, of }))
	assert.Equal(t, total, done)
	assert.Positive(t, total)
	assert.Equal(t, want, contents(t, s))
	parts := "SELECT max(n) FROM (SELECT count() AS n FROM system.parts WHERE database = currentDatabase() AND active AND endsWith(table, '_state') AND partition_id "
	assert.Equal(t, "1\n", table(t, s, parts+"< '202607' GROUP BY table, partition_id)"))
	left, err := s.unmerged(t.Context(), "202607")
	require.NoError(t, err)
	assert.Empty(t, left)
}

// generatedOnEveryShard: generated traffic on a cluster is, row for row, that of one server, rollups and an answer included.
func generatedOnEveryShard(t *testing.T, s *Store) {
	one, p := open(t), benchPlan()
	p.Events = 60_000
	for _, st := range []*Store{one, s} {
		require.NoError(t, st.FillBench(t.Context(), p, none))
		require.NoError(t, st.FillBench(t.Context(), p, func(done, total uint64) { assert.Equal(t, total, done, "nothing is left to do") }))
	}
	require.NoError(t, s.MergeMonths(t.Context(), p.Until, none))
	left, err := s.unmerged(t.Context(), "202607")
	require.NoError(t, err)
	assert.Empty(t, left)
	assert.Equal(t, contents(t, one), contents(t, s))
	assert.Equal(t, ledger(t, one), ledger(t, s))
	replicasEqual(t, s)
	for _, n := range s.cluster.nodes {
		assert.NotEqual(t, "0\n", table(t, n.store, "SELECT count() FROM events_local"), "%s has a share", n)
	}
	ask := map[string]string{"hours": "960", "at": p.Until.Format(time.DateTime)}
	var answers []string
	for _, st := range []*Store{one, s} {
		r, err := st.Ask(t.Context(), "top_ports", ask)
		require.NoError(t, err)
		answers = append(answers, lines(t, r))
	}
	assert.NotEmpty(t, answers[0])
	assert.Equal(t, answers[0], answers[1])
}
