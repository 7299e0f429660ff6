package store

import (
	"context"
	"fmt"
	"sync"
)

// A backup of a cluster is one piece a shard, which that shard's nodes write and read by themselves.

// eachPiece runs fn for each of the nodes at once, with the number of shards, and puts together how far they are.
func (s *Store) eachPiece(nodes []*node, progress func(done, total uint64), fn func(n *node, shards uint32, progress func(done, total uint64)) error) error {
	var shards uint32
	for _, n := range nodes {
		shards = max(shards, n.shard)
	}
	t := &together{progress: progress, of: map[*node][2]uint64{}}
	for _, n := range nodes {
		t.of[n] = [2]uint64{0, unknown}
	}
	return oneLine(eachNode(nodes, func(n *node) error {
		defer t.finish(n)
		return fn(n, shards, func(done, total uint64) { t.tell(n, done, total) })
	}))
}

// unknown is the total of what does not know its own yet.
const unknown = 1

// together adds up how far several nodes are. Who wants to know may be nobody.
type together struct {
	mu       sync.Mutex
	progress func(done, total uint64)
	of       map[*node][2]uint64 // done, total
}

func (t *together) tell(n *node, done, total uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of[n] = [2]uint64{done, total}
	var sum, all uint64
	for _, x := range t.of {
		if x[1] == unknown { // As long as one does not know, nobody knows the whole.
			sum, all = 0, unknown
			break
		}
		sum, all = sum+x[0], all+x[1]
	}
	if t.progress != nil {
		t.progress(sum, all)
	}
}

// finish is the end of a node, which may have come before it told anything.
func (t *together) finish(n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.of[n]
	if x[1] == unknown {
		x[1] = 0
	}
	t.of[n] = [2]uint64{x[1], x[1]}
}

// contents counts what the first replica of each shard has.
func (c *cluster) contents(ctx context.Context) ([]TableRows, error) {
	firsts := c.firsts()
	held, err := contentsOf(ctx, firsts)
	var out []TableRows
	for _, n := range firsts {
		for _, t := range held[n] {
			t.Shard = n.shard
			out = append(out, t)
		}
	}
	return out, err
}

// contentsOf counts what each of the nodes has.
func contentsOf(ctx context.Context, nodes []*node) (map[*node][]TableRows, error) {
	var mu sync.Mutex
	held := map[*node][]TableRows{}
	return held, oneLine(eachNode(nodes, func(n *node) error {
		contents, err := n.store.contentsOf(ctx, n.store.opt.Database)
		mu.Lock()
		defer mu.Unlock()
		held[n] = contents
		return err
	}))
}

// compareCopies refuses replicas of a shard that took different pieces, as they may where each looks for backups in a place of its own. Where they
// replicate, one took the piece for all.
func (s *Store) compareCopies(ctx context.Context) error {
	if s.cluster == nil || s.cluster.replicated {
		return nil
	}
	nodes := s.cluster.nodes
	held, err := contentsOf(ctx, nodes)
	if err != nil {
		return err
	}
	for i := 1; i < len(nodes); i++ {
		before, n := nodes[i-1], nodes[i]
		if before.shard != n.shard {
			continue
		}
		if d := difference(held[before], held[n]); d != "" {
			return fmt.Errorf("%w: node %s has taken another piece than node %s (%s): do they look for backups in the same place?", ErrBackup, n, before, d)
		}
	}
	return nil
}

// ofShard is what a shard has of the contents of all, without its number: what one server says of itself.
func ofShard(contents []TableRows, shard uint32) []TableRows {
	var out []TableRows
	for _, t := range contents {
		if t.Shard == shard {
			t.Shard = 0
			out = append(out, t)
		}
	}
	return out
}
