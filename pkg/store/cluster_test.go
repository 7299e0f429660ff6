package store

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
)

func TestCluster(t *testing.T) {
	c := enginetest.StartCluster(t, "birds", 2, 2)
	o := Options{
		Addr: c.Addrs(), User: c.User, Password: c.Password, Database: "scan", CreateDatabase: true, Cluster: c.Name,
		RetryFor: 20 * time.Second, Logger: slog.New(slog.DiscardHandler),
	}
	s, err := Open(t.Context(), o)
	require.NoError(t, err)
	start := time.Now()
	_, err = s.Migrate(t.Context())
	require.NoError(t, err)
	fmt.Println("migrated", time.Since(start))
	one := open(t)
	g := newTraffic(21)
	g.span = 6 * 24 * time.Hour
	for i := range 4 {
		b := g.batch(5000)
		start = time.Now()
		require.NoError(t, s.InsertEvents(t.Context(), b, 1, fmt.Sprint(i)))
		fmt.Println("inserted", time.Since(start))
		require.NoError(t, one.InsertEvents(t.Context(), b, 1, fmt.Sprint(i)))
	}
	assert.Equal(t, contents(t, one), contents(t, s))
	for _, n := range s.cluster.nodes {
		fmt.Print(n, " ", table(t, n.store, "SELECT count(), uniqExact(src) FROM events_local"))
	}
	questions, err := s.Questions()
	require.NoError(t, err)
	for _, q := range questions {
		t.Run(q.Name, func(t *testing.T) {
			start := time.Now()
			assert.Equal(t, table(t, one, q.Example), table(t, s, q.Example))
			fmt.Println(q.Name, time.Since(start))
		})
	}
	_ = strings.Join
	require.NoError(t, s.Close())
}
