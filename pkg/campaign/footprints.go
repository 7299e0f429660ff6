package campaign

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"murmuration/pkg/detect"
	"murmuration/pkg/event"
	"murmuration/pkg/store"
)

// footprints is what a detection run reads: the detector's input, and what its numbers stand for.
type footprints struct {
	input    detect.Input
	objects  []string // object 0 is none
	inferred bool     // the universe was guessed because no telescope is registered
	outside  uint64   // touches of addresses that no telescope holds
}

// collector turns the store's stream of footprints into the detector's input. Addresses and objects
// are interned as they come; ranks follow when all of them are known.
type collector struct {
	start   time.Time
	end     time.Time // exclusive
	ids     map[event.IP]uint32
	targets []targetCount // by id
	last    []uint32      // by id: 1 + the last source that touched it, to count each source once
	objects map[string]uint32
	names   []string
	sources []detect.Source
}

// read reads the footprints of the watch's window and ranks them in its telescopes, or in a guess of them
// when there are none.
func (opt *Options) read(ctx context.Context, st *store.Store, w *watch) (*footprints, error) {
	from, to, telescopes := w.from, w.to, slices.Clone(w.telescopes)
	c, err := opt.collect(ctx, st, from, to)
	if err != nil {
		return nil, err
	}
	f := &footprints{objects: c.names, inferred: len(telescopes) == 0}
	sorted := slices.SortedFunc(slices.Values(c.targets), func(a, b targetCount) int { return bytes.Compare(a.ip[:], b.ip[:]) })
	if f.inferred {
		telescopes = infer(sorted)
	}
	for i := range telescopes {
		telescopes[i].Since, telescopes[i].Until = w.bounds(telescopes[i])
	}
	sp, err := newSpace(telescopes, sorted, from, to)
	if err != nil {
		return nil, err
	}
	for i := range sp.universe.Blocks {
		b := &sp.universe.Blocks[i]
		for _, gap := range w.blind(w.watchers([]netip.Prefix{b.Prefix})) {
			b.Blind = append(b.Blind, detect.Interval{From: gap.from, To: gap.to})
		}
	}
	f.outside = c.rank(sp)
	f.input = detect.Input{Universe: sp.universe, Sources: c.sources, Start: from.Unix(), End: to.Unix()}
	return f, nil
}

// What a detection takes at its peak, in bytes for each cell and each source: at least so much, and up to mostTimes that where many groups
// have to be tested. Measured: 3.2 GB for 40 million cells of 0.65 million sources, 3.0 for 9.5 of 3.4, 19.3 for 92 of 11.
const (
	cellBytes   = 70
	sourceBytes = 450
	mostTimes   = 1.7
)

// checkMemory refuses what would be ended by the operating system in the middle, and something else with it.
func (opt *Options) checkMemory(cells, sources uint64) error {
	if opt.FreeMemory == nil {
		return nil
	}
	free, err := opt.FreeMemory()
	if err != nil {
		opt.Logger.Warn("how much memory is free is not known, so nothing is refused for it", "error", err)
		return nil
	}
	const gib = 1 << 30
	need, have := float64(cells*cellBytes+sources*sourceBytes)/gib, float64(free)/gib
	switch {
	case need > have:
		return fmt.Errorf("%w: %d cells of %d sources take at least %.1f GiB and %.1f GiB are free: look at a shorter time (--window), or where there is more memory",
			ErrMemory, cells, sources, need, have)
	case mostTimes*need > have:
		opt.Logger.Warn("the memory that is free may not do for this window", "cells", cells, "sources", sources, "least GiB", round(need), "most GiB", round(mostTimes*need), "free GiB", round(have))
	}
	return nil
}

func round(gib float64) float64 { return math.Round(10*gib) / 10 }

// collect reads the footprints, if there is memory for them.
func (opt *Options) collect(ctx context.Context, st *store.Store, from, to time.Time) (*collector, error) {
	const stage = "reading footprints"
	opt.Progress(stage, 0)
	cells, sources, err := st.FootprintSize(ctx, from, to)
	if err != nil {
		return nil, err //nolint:wrapcheck // It says what was read.
	}
	if err := opt.checkMemory(cells, sources); err != nil {
		return nil, err
	}
	c := &collector{start: from, end: to, ids: map[event.IP]uint32{}, objects: map[string]uint32{"": 0}, names: []string{""}}
	collected := 0
	err = st.Footprints(ctx, from, to, func(f *store.Footprint) error {
		collected += len(f.Dst)
		opt.Progress(stage, min(float64(collected)/float64(max(cells, 1)), 0.999))
		return c.add(f)
	})
	if err != nil {
		return nil, fmt.Errorf("read footprints: %w", err)
	}
	opt.Progress(stage, 1)
	return c, nil
}

// add takes one source's footprint. Until rank, a cell's Target is the id of the address.
func (c *collector) add(f *store.Footprint) error {
	src := detect.Source{
		Addr: event.Addr(f.Src), Cells: make([]detect.Cell, 0, len(f.Dst)),
		Behaviour: detect.Behaviour{
			Tool: f.Tool, Signature: f.Signature, TTLClass: f.TTLClass, UserAgent: f.UserAgent,
			Payload: f.Payload, Packets: f.Packets,
		},
	}
	self := uint32(len(c.sources)) + 1
	for i, dst := range f.Dst {
		// The store keeps footprints by day; what was touched on the window's first and last day, but not in the window, is
		// not part of it.
		if f.Last[i] < c.start.Unix() || f.First[i] >= c.end.Unix() {
			continue
		}
		id, ok := c.ids[dst]
		if !ok {
			id = uint32(len(c.targets))
			c.ids[dst] = id
			c.targets = append(c.targets, targetCount{ip: dst})
			c.last = append(c.last, 0)
		}
		if c.last[id] != self {
			c.last[id] = self
			c.targets[id].sources++
		}
		src.Cells = append(src.Cells, detect.Cell{
			Target: id, Object: c.object(f.Object[i]), Port: f.Port[i], Proto: int8(f.Proto[i]),
			First: c.seconds(f.First[i]), Last: c.seconds(min(f.Last[i], c.end.Unix()-1)),
		})
	}
	c.sources = append(c.sources, src)
	return nil
}

func (c *collector) object(name string) uint32 {
	id, ok := c.objects[name]
	if !ok {
		id = uint32(len(c.names))
		c.objects[name] = id
		c.names = append(c.names, name)
	}
	return id
}

func (c *collector) seconds(unix int64) uint32 {
	return uint32(min(max(unix-c.start.Unix(), 0), math.MaxUint32))
}

// rank replaces ids by ranks, sorts every footprint as the detector wants it, and drops what lies
// outside the space. It returns how many cells were dropped.
func (c *collector) rank(sp *space) (outside uint64) {
	const nowhere = math.MaxUint32
	ranks := make([]uint32, len(c.targets))
	for id, t := range c.targets {
		r, ok := sp.rank(t.ip)
		if !ok {
			r = nowhere
		}
		ranks[id] = r
	}
	for i := range c.sources {
		cells := c.sources[i].Cells
		for j := range cells {
			cells[j].Target = ranks[cells[j].Target]
		}
		kept := slices.DeleteFunc(cells, func(x detect.Cell) bool { return x.Target == nowhere })
		outside += uint64(len(cells) - len(kept))
		slices.SortFunc(kept, compareCells)
		c.sources[i].Cells = mergeEqual(kept)
	}
	c.sources = slices.DeleteFunc(c.sources, func(s detect.Source) bool { return len(s.Cells) == 0 })
	return outside
}

func compareCells(a, b detect.Cell) int {
	return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Target, b.Target), cmp.Compare(a.Object, b.Object))
}

// mergeEqual makes one cell of those that only the sensor told apart: two sensors may watch one address.
func mergeEqual(cells []detect.Cell) []detect.Cell {
	if len(cells) == 0 {
		return cells
	}
	out := cells[:1]
	for _, c := range cells[1:] {
		if last := &out[len(out)-1]; compareCells(*last, c) == 0 {
			last.First, last.Last = min(last.First, c.First), max(last.Last, c.Last)
			continue
		}
		out = append(out, c)
	}
	return out
}
