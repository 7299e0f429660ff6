package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"murmuration/pkg/nearest"
	"murmuration/sql"
)

// A cluster: the nodes that remote_servers names. What the schema becomes on them is in layout.go; here is how statements
// reach them. Rows and questions go through whichever node is connected to. What concerns one node (DDL where ON CLUSTER is refused, claims of
// locks, repair) goes to that node, under the name and port that the others know it by.

// What is wrong with a cluster.
var (
	ErrCluster     = errors.New("the cluster cannot be used")
	ErrWrongLayout = errors.New("the database is laid out otherwise")
)

// cluster is what a store knows about the cluster that it works on.
type cluster struct {
	name string
	// replicated: the nodes keep each other's copies (internal_replication). Else whoever inserts writes to every replica.
	replicated bool
	nodes      []*node // shard by shard
	spread     *spread
	byNode     atomic.Bool // ON CLUSTER is refused
}

// node is one server of a cluster. Its store works on the tables of that node.
type node struct {
	shard, replica uint32
	addr           string
	store          *Store
}

func (n *node) String() string {
	return fmt.Sprintf("%s (shard %d, replica %d)", n.addr, n.shard, n.replica)
}

// exec runs a statement on this node alone.
func (n *node) exec(ctx context.Context, statement string, args ...any) error {
	return n.store.conn.Exec(ctx, statement, args...) //nolint:wrapcheck // Callers say what it was for.
}

var clusterName = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// clusterSettings make any node as good as any other to ask and to insert to.
func clusterSettings() clickhouse.Settings {
	return clickhouse.Settings{
		// An insert is acknowledged when every shard has it, every replica where they do not replicate.
		"distributed_foreground_insert": 1,
		// INSERT … SELECT passes through one node, or it would read and write one replica of a shard only.
		"parallel_distributed_insert_select": 0,
		// A subquery is asked once, for all shards.
		"prefer_global_in_and_join": 1,
		"distributed_product_mode":  "global",
		// Whoever asks reads the same replica of a shard while it lives, so that what one has written the next one sees.
		"load_balancing":           "in_order",
		"prefer_localhost_replica": 0,
		// A shard that is gone is an error, not a smaller answer.
		"skip_unavailable_shards": 0,
	}
}

// joinCluster reads the nodes of the cluster from the server that answers.
func (s *Store) joinCluster(ctx context.Context) error {
	name := s.opt.Cluster
	if !clusterName.MatchString(name) {
		return fmt.Errorf("%w: its name %q: letters, digits and _ . - only", ErrCluster, name)
	}
	c := &cluster{name: name}
	replicated := map[bool]bool{}
	err := s.each(ctx, `SELECT shard_num, replica_num, host_name, port, internal_replication FROM system.clusters WHERE cluster = {cluster:String}
		ORDER BY shard_num, replica_num`, func(rows driver.Rows) error {
		n := &node{}
		var host string
		var port uint16
		var internal uint8
		if err := rows.Scan(&n.shard, &n.replica, &host, &port, &internal); err != nil {
			return err //nolint:wrapcheck // explain wraps it.
		}
		n.addr = net.JoinHostPort(host, strconv.Itoa(int(port)))
		c.nodes = append(c.nodes, n)
		replicated[internal != 0] = true
		return nil
	}, clickhouse.Named("cluster", name))
	if err != nil {
		return fmt.Errorf("read the nodes of the cluster: %w", s.explain(err))
	}
	if len(c.nodes) == 0 {
		return s.unknownCluster(ctx)
	}
	if len(replicated) > 1 {
		return fmt.Errorf("%w: %s has shards with internal_replication and shards without: make them equal in remote_servers", ErrCluster, name)
	}
	c.replicated = replicated[true]
	statements, err := schemaStatements()
	if err != nil {
		return err
	}
	c.spread = newSpread(name, s.opt.Database, c.replicated, statements)
	s.cluster = c
	return nil
}

func (s *Store) unknownCluster(ctx context.Context) error {
	var all []string
	if err := s.conn.QueryRow(ctx, "SELECT groupUniqArray(cluster) FROM system.clusters").Scan(&all); err != nil {
		return fmt.Errorf("read the names of clusters: %w", s.explain(err))
	}
	if len(all) == 0 {
		return fmt.Errorf("%w: %s knows no cluster: name its nodes in remote_servers, or leave --cluster away", ErrCluster, strings.Join(s.opt.Addr, ", "))
	}
	slices.Sort(all)
	return fmt.Errorf("%w: there is no %q in remote_servers of %s, there are: %s", ErrCluster, s.opt.Cluster, strings.Join(s.opt.Addr, ", "),
		strings.Join(nearest.Order(s.opt.Cluster, all), ", "))
}

// schemaStatements are all statements that make tables.
func schemaStatements() ([]string, error) {
	migrations, err := sql.Migrations()
	if err != nil {
		return nil, fmt.Errorf("migrations in this program: %w", err)
	}
	statements := []string{migrationsTable}
	for _, m := range migrations {
		statements = append(statements, m.Statements...)
	}
	return statements, nil
}

// openNodes makes a store for every node, connected when it is first used, and lets the store of the whole fall back on any.
func (s *Store) openNodes(database string) error {
	for _, n := range s.cluster.nodes {
		o := s.opt
		o.Addr, o.Cluster, o.CreateDatabase, o.Progress = []string{n.addr}, "", false, nil
		n.store = &Store{opt: o, log: s.log, suffix: localSuffix}
		if err := n.store.connect(database); err != nil {
			return err
		}
		if !slices.Contains(s.opt.Addr, n.addr) {
			s.opt.Addr = append(slices.Clone(s.opt.Addr), n.addr)
		}
	}
	if s.cluster.replicated {
		for _, n := range s.cluster.nodes {
			n.store.peers = slices.DeleteFunc(slices.Clone(s.cluster.nodes), func(other *node) bool { return other == n || other.shard != n.shard })
		}
	}
	return nil
}

func (c *cluster) close() error {
	var errs []error
	for _, n := range c.nodes {
		if n.store != nil {
			errs = append(errs, n.store.Close())
		}
	}
	return errors.Join(errs...)
}

// eachNode runs fn for every node at once and returns the errors, one a node, with the node's name.
func eachNode(nodes []*node, fn func(*node) error) []error {
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() {
			if errs[i] = fn(n); errs[i] != nil && n.shard > 0 {
				errs[i] = fmt.Errorf("node %s: %w", n, n.store.explain(errs[i]))
			}
		})
	}
	all.Wait()
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// oneLine puts errors together to a sentence.
func oneLine(errs []error) error {
	var all error
	for _, err := range errs {
		if all == nil {
			all = err
		} else {
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return all
}

// ddl runs what a statement becomes on a cluster.
func (c *cluster) ddl(ctx context.Context, s *Store, statement string, args ...any) error {
	steps, err := c.spread.steps(statement)
	if err != nil {
		return err
	}
	for _, st := range steps {
		switch st.by {
		case byOne:
			err = s.conn.Exec(ctx, st.text, args...)
		case byHolder:
			err = oneLine(eachNode(c.rowHolders(), func(n *node) error {
				if err := n.store.syncReplica(ctx); err != nil { // It fills one table from others.
					return err
				}
				return n.exec(ctx, st.text, args...)
			}))
		default:
			err = c.everywhere(ctx, s, st.text, args...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// everywhere runs a statement on all nodes: by ON CLUSTER, or node by node where the server has no queue for it. Both fail
// where a node is down; ON CLUSTER after a wait, and the node then makes up for it when it is up.
func (c *cluster) everywhere(ctx context.Context, s *Store, text string, args ...any) error {
	if !c.byNode.Load() {
		distributed, err := onCluster(text, c.name)
		if err != nil {
			return err
		}
		if err = s.conn.Exec(ctx, distributed, args...); !refusesOnCluster(err) {
			return err //nolint:wrapcheck // Callers say which statement it was.
		}
		s.log.Info("the server refuses ON CLUSTER: statements go to each node", "nodes", len(c.nodes))
		c.byNode.Store(true)
	}
	return oneLine(eachNode(c.nodes, func(n *node) error { return n.exec(ctx, text, args...) }))
}

// checkBare refuses a cluster of which a node has lost the database, or never had it, while others hold it: what it is asked it would answer with nothing, and what
// it lost only its operator can bring back. Nodes that do not answer are looked at when they do.
func (c *cluster) checkBare(ctx context.Context, database string) error {
	tables, begun := make([]uint64, len(c.nodes)), make([]uint64, len(c.nodes))
	silent := make([]bool, len(c.nodes))
	err := oneLine(eachNode(c.nodes, func(n *node) error {
		i := slices.Index(c.nodes, n)
		err := n.store.explain(n.store.conn.QueryRow(ctx, `SELECT countIf(name = 'events_local'), sumIf(ifNull(total_rows, 0), name = 'schema_migrations_local')
			FROM system.tables WHERE database = currentDatabase()`).Scan(&tables[i], &begun[i]))
		if silent[i] = errors.Is(err, ErrUnavailable); silent[i] || errors.Is(err, ErrNoDatabase) {
			return nil
		}
		return err
	}))
	if err != nil || slices.Max(begun) == 0 { // A first migration that was cut off is gone on with.
		return err
	}
	var bare []string
	for i, n := range c.nodes {
		if tables[i] == 0 && !silent[i] {
			bare = append(bare, n.String())
		}
	}
	if len(bare) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s holds nothing of %s, which other nodes have: bring its data directory back, or that of another replica of its shard, "+
		"or restore a backup into a new database (docs/design/cluster.md)", ErrCluster, strings.Join(bare, ", "), database)
}

// checkMacros refuses nodes that would replicate into one another, or not at all: the places of their tables in Keeper are named by macros of their own configuration, which
// remote_servers knows nothing of.
func (c *cluster) checkMacros(ctx context.Context) error {
	if !c.replicated {
		return nil
	}
	shards, replicas := make([]string, len(c.nodes)), make([]string, len(c.nodes))
	err := oneLine(eachNode(c.nodes, func(n *node) error {
		i := slices.Index(c.nodes, n)
		err := n.store.explain(n.store.conn.QueryRow(ctx, "SELECT getMacro('shard'), getMacro('replica')").Scan(&shards[i], &replicas[i]))
		if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrNoDatabase) { // Nothing is made there now.
			return nil
		}
		return err
	}))
	if err != nil {
		return err
	}
	return compareMacros(c.nodes, shards, replicas)
}

// compareMacros holds the macros of nodes, "" where they are not known, against the places of the nodes in the cluster.
func compareMacros(nodes []*node, shards, replicas []string) error {
	for i, a := range nodes {
		for k, b := range nodes[:i] {
			switch known := shards[i] != "" && shards[k] != ""; {
			case !known:
			case (a.shard == b.shard) != (shards[i] == shards[k]):
				return fmt.Errorf("%w: the macro shard is %q on %s and %q on %s: it must be the same on the replicas of a shard and another on every other", ErrCluster, shards[i], a, shards[k], b)
			case a.shard == b.shard && replicas[i] == replicas[k]:
				return fmt.Errorf("%w: the macro replica is %q on %s and on %s: it must be another on each", ErrCluster, replicas[i], a, b)
			}
		}
	}
	return nil
}

// rowHolders are the nodes that together hold every row, each as often as rows are written: all of them, or, where Keeper sends rows to the
// other replicas of a shard, the first of each.
func (c *cluster) rowHolders() []*node {
	if !c.spread.replicated {
		return c.nodes
	}
	return c.firsts()
}

// firsts are the first replicas of each shard.
func (c *cluster) firsts() []*node {
	var out []*node
	for i, n := range c.nodes {
		if i == 0 || c.nodes[i-1].shard != n.shard {
			out = append(out, n)
		}
	}
	return out
}

// refusesOnCluster: the server has no distributed_ddl, or no Keeper for it.
func refusesOnCluster(err error) bool {
	var ex *clickhouse.Exception
	return errors.As(err, &ex) && (ex.Code == codeProhibited || ex.Code == codeNoConfiguration)
}

// checkLayout refuses a database that was made for one server when a cluster is named, and the reverse: half of it would be seen.
func (s *Store) checkLayout(ctx context.Context) error {
	var engine, full string
	err := s.each(ctx, "SELECT engine, engine_full FROM system.tables WHERE database = currentDatabase() AND name = 'schema_migrations'", func(rows driver.Rows) error {
		return rows.Scan(&engine, &full)
	})
	if err != nil {
		return fmt.Errorf("look for schema_migrations: %w", s.explain(err))
	}
	_, rest, _ := strings.Cut(full, "Distributed('")
	over, _, _ := strings.Cut(rest, "'")
	switch {
	case engine == "":
		return nil
	case s.cluster == nil && engine == "Distributed":
		return fmt.Errorf("%w: %s is spread over the cluster %s: add --cluster %s", ErrWrongLayout, s.opt.Database, over, over)
	case s.cluster != nil && engine != "Distributed":
		return fmt.Errorf("%w: %s was made on one server: leave --cluster away, or load into another database of the cluster", ErrWrongLayout, s.opt.Database)
	case s.cluster != nil && over != s.cluster.name:
		return fmt.Errorf("%w: %s is spread over the cluster %s, not %s: add --cluster %s", ErrWrongLayout, s.opt.Database, over, s.cluster.name, over)
	}
	return nil
}

// shards are stores that together hold every row once: the first replicas of a cluster, or the one server.
func (s *Store) shards() []*Store {
	var out []*Store
	for _, n := range s.firsts() {
		out = append(out, n.store)
	}
	return out
}

// firsts are the first replicas of each shard of a cluster, or the one server.
func (s *Store) firsts() []*node {
	if s.cluster != nil {
		return s.cluster.firsts()
	}
	return s.holders()
}

// rowHolders are the nodes of a cluster that rows are written to, or the one server.
func (s *Store) rowHolders() []*node {
	if s.cluster != nil {
		return s.cluster.rowHolders()
	}
	return s.holders()
}

// holders are what locks are claimed on: every node of a cluster, or the one server.
func (s *Store) holders() []*node {
	if s.cluster != nil {
		return s.cluster.nodes
	}
	return []*node{{store: s}}
}
