package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"murmuration/pkg/event"
)

// settle makes a batch that may have been cut off complete on every node.
//
// Where nodes replicate, one that lags behind must not be taken for one that lost rows: what is compared are replicas that have fetched everything. Keeper takes
// a block's identity and its part in one step, so the events are there once the batch was sent again; but after a restore it is not sent, and a month of a rollup that was
// made anew has forgotten the identities of its blocks, so that a batch sent again counts in it once more. Plain tables have to be compared one by one: the batch was
// acknowledged, so every node answered, and each should have all that its shard has.
func (c *cluster) settle(ctx context.Context, s *Store, b *event.Batch, input uint64) error {
	if c.replicated {
		if err := s.retry(ctx, "insert the rest of a batch", func() error {
			if err := c.sync(ctx); err != nil {
				return err
			}
			return s.insertMissing(ctx, b, input)
		}); err != nil {
			return err
		}
		_, err := c.repair(ctx, monthsOf(b))
		return err
	}
	return s.retry(ctx, "complete a batch on every node", func() error {
		have, err := c.have(ctx, b, input)
		if err != nil {
			return err
		}
		if err := s.insertRest(ctx, b, input, union(have, c.nodes, 0)); err != nil {
			return err
		}
		for i, n := range c.nodes {
			// Rows of other shards are no loss of this node.
			known := union(have, c.nodes, n.shard)
			for k := range known {
				known[k] = have[i][k] || !known[k]
			}
			if err := n.store.insertRest(ctx, b, input, known); err != nil {
				return fmt.Errorf("node %s: %w", n, err)
			}
		}
		_, err = c.repair(ctx, monthsOf(b))
		return err
	})
}

// sync waits until the nodes that answer have fetched what the other replicas of their shard have. Of each shard one has to.
func (c *cluster) sync(ctx context.Context) error {
	synced := map[uint32]bool{}
	var mu sync.Mutex
	errs := eachNode(c.nodes, func(n *node) error {
		err := n.store.syncReplica(ctx)
		mu.Lock()
		defer mu.Unlock()
		synced[n.shard] = synced[n.shard] || err == nil
		return err
	})
	for _, n := range c.nodes {
		if !synced[n.shard] {
			return oneLine(errs)
		}
	}
	for _, err := range errs {
		if !errors.Is(err, ErrUnavailable) { // A node that is away is asked for nothing either.
			return err
		}
	}
	return nil
}

// syncReplica waits until this node has fetched what the other replicas of its shard have. Where nothing replicates there is nothing to wait for.
func (s *Store) syncReplica(ctx context.Context) error {
	var names []string
	err := s.conn.QueryRow(ctx, "SELECT groupArray(name) FROM system.tables WHERE database = currentDatabase() AND startsWith(engine, 'Replicated')").Scan(&names)
	ctx, cancel := inSilence(ctx)
	defer cancel()
	for _, name := range names {
		if err := s.conn.Exec(ctx, "SYSTEM SYNC REPLICA "+quoted(name)+" LIGHTWEIGHT"); err != nil {
			return fmt.Errorf("wait for the other replicas' rows of %s: %w", name, err)
		}
	}
	return err //nolint:wrapcheck // Callers wrap it.
}

// have tells for every node which events of a batch it holds.
func (c *cluster) have(ctx context.Context, b *event.Batch, input uint64) ([][]bool, error) {
	have := make([][]bool, len(c.nodes))
	for i, n := range c.nodes {
		var err error
		if have[i], err = n.store.Have(ctx, b, input); err != nil {
			return nil, fmt.Errorf("node %s: %w", n, err)
		}
	}
	return have, nil
}

// union tells which events any node of a shard holds, of all shards for shard 0.
func union(have [][]bool, nodes []*node, shard uint32) []bool {
	out := make([]bool, len(have[0]))
	for i, n := range nodes {
		if shard != 0 && n.shard != shard {
			continue
		}
		for k, h := range have[i] {
			out[k] = out[k] || h
		}
	}
	return out
}

// repair holds the rollups of every node against the events of that node, all nodes at once. Where nodes replicate, one of a
// shard does it for all: the first that can.
func (c *cluster) repair(ctx context.Context, months []uint32) ([]string, error) {
	return c.eachCopy(func(group []*node) ([]string, error) { return repairOne(ctx, group, months) })
}

// backfill is that of one server on every node, or where nodes replicate on the first of a shard.
func (c *cluster) backfill(ctx context.Context, fresh []string, before standing) error {
	_, err := c.eachCopy(func(group []*node) ([]string, error) {
		if err := group[0].store.backfill(ctx, fresh, before); err != nil {
			return nil, fmt.Errorf("node %s: %w", group[0], err)
		}
		return nil, nil
	})
	return err
}

// eachCopy runs fn at once for all groups of nodes of which one acts for the others: shards where nodes replicate, else single nodes.
func (c *cluster) eachCopy(fn func([]*node) ([]string, error)) ([]string, error) {
	var groups [][]*node
	for i, n := range c.nodes {
		if last := len(groups) - 1; c.replicated && i > 0 && c.nodes[i-1].shard == n.shard {
			groups[last] = append(groups[last], n)
			continue
		}
		groups = append(groups, []*node{n})
	}
	made, errs := make([][]string, len(groups)), make([]error, len(groups))
	var all sync.WaitGroup
	for i, group := range groups {
		all.Go(func() { made[i], errs[i] = fn(group) })
	}
	all.Wait()
	return slices.Concat(made...), errors.Join(errs...)
}

// repairOne repairs the first node of several equal ones that can be.
func repairOne(ctx context.Context, group []*node, months []uint32) (made []string, err error) {
	for _, n := range group {
		what, failed := n.store.repair(ctx, months)
		for _, w := range what {
			made = append(made, w+" on "+n.addr)
		}
		if failed == nil {
			return made, nil
		}
		err = errors.Join(err, fmt.Errorf("node %s: %w", n, failed))
	}
	return made, err
}
