package store

import (
	"context"
	"sync"
)

// A backup of a cluster is one piece a shard, which that shard's nodes write and read by themselves.

// eachPiece runs fn for each of the nodes at once, with the number of shards, and puts together how far they are.
func (s *Store) eachPiece(nodes []*node, progress func(done, total uint64), fn func(n *node, shards uint32, progress func(done, total uint64)) error) error {
	var of uint32
	t := &together{progress: progress, done: make([]uint64, len(nodes)), total: make([]uint64, len(nodes))}
	at := map[*node]int{}
	for i, n := range nodes {
		of, at[n] = max(of, n.shard), i
	}
	return oneLine(eachNode(nodes, func(n *node) error { return fn(n, of, t.of(at[n])) }))
}

// together adds up how far several are.
type together struct {
	mu          sync.Mutex
	progress    func(done, total uint64)
	done, total []uint64
}

// of returns what the i-th tells; nil where nobody wants to know.
func (t *together) of(i int) func(done, total uint64) {
	if t.progress == nil {
		return nil
	}
	return func(done, total uint64) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.done[i], t.total[i] = done, total
		var sum, all uint64
		for k := range t.done {
			if t.total[k] <= 1 { // As long as one does not know, nobody knows the whole.
				sum, all = 0, 1
				break
			}
			sum, all = sum+t.done[k], all+t.total[k]
		}
		t.progress(sum, all)
	}
}

// contents counts what the first replica of each shard has.
func (c *cluster) contents(ctx context.Context) ([]TableRows, error) {
	firsts := c.firsts()
	held := make([][]TableRows, len(firsts))
	at := map[*node]int{}
	for i, n := range firsts {
		at[n] = i
	}
	errs := eachNode(firsts, func(n *node) (err error) {
		held[at[n]], err = n.store.contentsOf(ctx, n.store.opt.Database)
		return err
	})
	var out []TableRows
	for i, n := range firsts {
		for _, t := range held[i] {
			t.Shard = n.shard
			out = append(out, t)
		}
	}
	return out, oneLine(errs)
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
