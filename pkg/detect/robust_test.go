package detect_test

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/detect"
	"murmuration/pkg/event"
	"murmuration/pkg/simulate"
)

// moving builds a telescope that moves: forty blocks, each watched for its own day, and in each the one source that came that
// day and sampled what there was. Told says when each block was watched.
func moving(told func(b *detect.Block, from, to int64)) *detect.Input {
	const days, size, day = 40, 256, 86400
	in := &detect.Input{Start: simulate.Start, End: simulate.Start + days*day}
	rng := rand.New(rand.NewPCG(8, 8))
	for d := range uint32(days) {
		b := detect.Block{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(2 * d), 0}), 24), Sensor: "moving", First: size * d, Size: size}
		told(&b, in.Start+int64(d)*day, in.Start+int64(d+1)*day)
		in.Universe.Blocks = append(in.Universe.Blocks, b)
		s := detect.Source{Addr: netip.AddrFrom4([4]byte{100, 64, 0, byte(d)}), Behaviour: detect.Behaviour{Tool: "zmap"}}
		for _, k := range rng.Perm(size)[:90] {
			at := d*day + rng.Uint32N(day)
			s.Cells = append(s.Cells, detect.Cell{Target: size*d + uint32(k), Port: 80, Proto: int8(event.ProtoTCP), First: at, Last: at})
		}
		in.Sources = append(in.Sources, s)
	}
	return in
}

// Sources that could not meet because their blocks were watched at different times have not shared anything out.
func TestSourcesThatCouldNotMeet(t *testing.T) {
	untold := run(t, moving(func(*detect.Block, int64, int64) {}), detect.Params{})
	assert.NotEmpty(t, untold.Campaigns, "without the times the blocks look shared out, or this test tests nothing")
	since := moving(func(b *detect.Block, from, to int64) { b.Since, b.Until = from, to })
	assert.Empty(t, run(t, since, detect.Params{}).Campaigns)
	blind := moving(func(b *detect.Block, from, to int64) {
		b.Blind = []detect.Interval{{From: simulate.Start - 99, To: from}, {From: to, To: simulate.Start + 50*86400}}
	})
	assert.Empty(t, run(t, blind, detect.Params{}).Campaigns)
}

// A gap in the middle of the window neither makes a campaign nor hides one.
func TestGapInTheWindow(t *testing.T) {
	for _, name := range []string{"plain", "none"} {
		w := build(t, name, 9, 0.3)
		in := w.Input
		from, to := uint32(30*86400), uint32(50*86400)
		in.Universe.Blocks = slices.Clone(in.Universe.Blocks)
		in.Universe.Blocks[0].Blind = []detect.Interval{{From: in.Start + int64(from), To: in.Start + int64(to)}}
		in.Sources = slices.Clone(in.Sources)
		for i := range in.Sources {
			s := &in.Sources[i]
			s.Cells = slices.DeleteFunc(slices.Clone(s.Cells), func(c detect.Cell) bool { return c.Target < 16384 && c.First >= from && c.First < to })
		}
		s := simulate.Judge(w.Truth, run(t, &in, detect.Params{}).Campaigns)
		assert.Zero(t, s.False, name)
		assert.GreaterOrEqual(t, s.F1, 0.97, name)
	}
}

// Times that run backwards, or lie outside of the window, change nothing about who meets whom: no panic, no alarm.
func TestClocksRunningBackwards(t *testing.T) {
	for _, name := range []string{"plain", "none"} {
		w := build(t, name, 10, 0.3)
		in := w.Input
		rng := rand.New(rand.NewPCG(1, 9))
		in.Sources = slices.Clone(in.Sources)
		for i := range in.Sources {
			s := &in.Sources[i]
			s.Cells = slices.Clone(s.Cells)
			for k := range s.Cells {
				c := &s.Cells[k]
				switch rng.IntN(3) {
				case 0:
					c.First, c.Last = c.Last+uint32(rng.IntN(5000)), c.First
				case 1:
					c.First = max(c.First, 7200) - uint32(rng.IntN(7200))
				}
			}
		}
		s := simulate.Judge(w.Truth, run(t, &in, detect.Params{}).Campaigns)
		assert.Zero(t, s.False, name)
		assert.GreaterOrEqual(t, s.F1, 0.97, name)
	}
}

// A part of the space that stays whole stays a part, wherever it lies.
func TestAPartMovedAsOne(t *testing.T) {
	w := build(t, "part22", 11, 0.2)
	want := members(run(t, &w.Input, detect.Params{}))
	for _, k := range []uint32{1, 7, 12} {
		res := run(t, rotated(&w.Input, 1024*k), detect.Params{})
		require.Len(t, res.Campaigns, 1)
		assert.Equal(t, 1024, res.Campaigns[0].Addresses)
		assert.Equal(t, want, members(res))
	}
}

// rotated moves every target of the first block around by shift.
func rotated(in *detect.Input, shift uint32) *detect.Input {
	out := *in
	size := in.Universe.Blocks[0].Size
	out.Sources = slices.Clone(in.Sources)
	for i := range out.Sources {
		s := &out.Sources[i]
		s.Cells = slices.Clone(s.Cells)
		for k := range s.Cells {
			if c := &s.Cells[k]; c.Target < size {
				c.Target = (c.Target + shift) % size
			}
		}
	}
	return &out
}

// Two runs over overlapping windows agree about who belongs together.
func TestOverlappingWindowsAgree(t *testing.T) {
	w := build(t, "twins", 12, 0.3)
	window := func(from, to float64) [][]netip.Addr {
		in := w.Input
		a, z := uint32(from*90*86400), uint32(to*90*86400)
		in.Start, in.End = in.Start+int64(a), in.Start+int64(z)
		in.Sources = slices.Clone(in.Sources)
		for i := range in.Sources {
			s := &in.Sources[i]
			s.Cells = slices.DeleteFunc(slices.Clone(s.Cells), func(c detect.Cell) bool { return c.First < a || c.First >= z })
			for k := range s.Cells {
				s.Cells[k].First, s.Cells[k].Last = s.Cells[k].First-a, max(s.Cells[k].Last, a)-a
			}
		}
		return members(run(t, &in, detect.Params{}))
	}
	whole := window(0, 1)
	require.Len(t, whole, 2)
	for _, part := range [][][]netip.Addr{window(0, 0.9), window(0.1, 1)} {
		for _, list := range part {
			in := 0
			for _, full := range whole {
				n := 0
				for _, a := range list {
					if _, ok := slices.BinarySearchFunc(full, a, netip.Addr.Compare); ok {
						n++
					}
				}
				in = max(in, n)
			}
			assert.Equal(t, len(list), in, "a campaign of the part is one of the whole")
		}
		assert.NotEmpty(t, part)
	}
}

// The axis of ports keeps to the same rules: any number of workers, sources in any order.
func TestOwnPortsAreReproducible(t *testing.T) {
	w := build(t, "ports-own", 13, 0.5)
	first := run(t, &w.Input, detect.Params{Workers: 1})
	require.Len(t, first.Campaigns, 1)
	assert.Equal(t, show(first), show(run(t, &w.Input, detect.Params{Workers: 4})))
	in := w.Input
	in.Sources = slices.Clone(in.Sources)
	rng := rand.New(rand.NewPCG(3, 1))
	rng.Shuffle(len(in.Sources), func(i, j int) { in.Sources[i], in.Sources[j] = in.Sources[j], in.Sources[i] })
	assert.Equal(t, members(first), members(run(t, &in, detect.Params{})))
}

// One source, and one address, are no crowd, whatever they do.
func TestOneSourceOneAddress(t *testing.T) {
	w := build(t, "ports-all", 14, 0.1)
	one := w.Input
	one.Sources = one.Sources[:1]
	res, err := detect.Run(context.Background(), &one, detect.Params{}, nil)
	require.NoError(t, err)
	assert.Empty(t, res.Campaigns)
	assert.Empty(t, res.Undecided)
}

// In a space of fifty million cells nobody covers a share worth naming; meetings still tell every member.
func TestHugeSpace(t *testing.T) {
	w := build(t, "slash8", 1, 0.02)
	res := run(t, &w.Input, detect.Params{Surrogates: 16})
	require.Len(t, res.Campaigns, 1)
	c := res.Campaigns[0]
	assert.Less(t, c.Coverage, 0.01)
	assert.False(t, c.Emerging)
	assert.Equal(t, 3<<24, c.Universe)
	assert.Equal(t, 1.0, simulate.Judge(w.Truth, res.Campaigns).F1)
}
