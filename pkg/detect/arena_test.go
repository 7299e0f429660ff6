package detect

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// testTrack makes a track of cells (key, target).
func testTrack(sp *space, source int32, cells ...[2]uint32) *track {
	t := &track{sources: []int32{source}}
	for _, c := range cells {
		t.cells = append(t.cells, uint64(c[0])<<32|uint64(c[1]))
		t.times = append(t.times, 0)
	}
	t.finish(sp, 1)
	return t
}

// testArena draws tracks with random cells under a few keys.
func testArena(t *rapid.T) (*arena, *bucket) {
	sp := testSpace(t, 32)
	b := &bucket{kind: manyPorts, keys: []uint64{80, 443, 22}}
	n := rapid.IntRange(2, 8).Draw(t, "tracks")
	for i := range n {
		codes := rapid.SliceOfNDistinct(rapid.Uint32Range(0, 95), 2, 20, rapid.ID).Draw(t, "cells")
		slices.Sort(codes)
		var cells [][2]uint32
		for _, c := range codes {
			cells = append(cells, [2]uint32{c / 32, c % 32})
		}
		b.tracks = append(b.tracks, testTrack(sp, int32(i), cells...))
	}
	return newArena(b, &scratch{}, b.everyone(), sp.root()), b
}

// Expected and observed overlap are sums over pairs of sources, though no pair is ever formed.
func TestOverlapAgainstPairs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := testArena(t)
		tracks := b.tracks
		var expected, observed float64
		for i := range tracks {
			for j := range i {
				for k := range uint64(3) {
					in := func(t *track) (n float64) {
						for _, c := range t.cells {
							if c>>32 == k {
								n++
							}
						}
						return n
					}
					expected += in(tracks[i]) * in(tracks[j]) / 32
				}
				for _, c := range tracks[i].cells {
					if slices.Contains(tracks[j].cells, c) {
						observed++
					}
				}
			}
		}
		e, o := a.overlap(a.feet, a.everyone(), 32)
		if math.Abs(e-expected) > 1e-9 || o != observed {
			t.Fatalf("expected %v, want %v; observed %v, want %v", e, expected, o, observed)
		}
		m := newMuster(tracks, b.everyone(), a.span, frame{0, 1, 0})
		var members []int32
		for i := range m.list {
			members = append(members, int32(i))
		}
		if got := m.expected(members); math.Abs(got-expected) > 1e-9 {
			t.Fatalf("the muster expects %v, want %v", got, expected)
		}
		for i, n := range a.count {
			if n != 0 {
				t.Fatalf("cell %d is left counted", i)
			}
		}
	})
}

// The scores of single sources add up to twice the group's overlap, and halves of the addresses to the whole.
func TestScoresAndHalvesAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, _ := testArena(t)
		all := a.everyone()
		e, o := a.overlap(a.feet, all, 32)
		z := make([]float64, len(a.feet))
		a.enter(a.feet, all)
		e2, o2 := a.scores(a.feet, all, 32, z)
		a.wipe(a.feet, all)
		if math.Abs(e-e2) > 1e-9 || o != o2 {
			t.Fatalf("scores add up to %v, %v and not to %v, %v", e2, o2, e, o)
		}
		in := make([]bool, len(a.feet))
		for i := range in {
			in[i] = true
		}
		var e3, o3 float64
		a.against(a.feet, all, all, in, 32, func(_ int, e, o float64) { e3, o3 = e3+e/2, o3+o/2 })
		if math.Abs(e-e3) > 1e-9 || o != o3 {
			t.Fatalf("against adds up to %v, %v and not to %v, %v", e3, o3, e, o)
		}
		fold, n, _ := a.halves(rapid.Uint64().Draw(t, "seed"), uint(rapid.IntRange(0, 3).Draw(t, "shift")), all)
		if n[0]+n[1] != 32 {
			t.Fatalf("%v addresses in the halves", n)
		}
		_, left := a.overlap(fold[0], all, 32)
		_, right := a.overlap(fold[1], all, 32)
		if left+right != o {
			t.Fatalf("halves share %v + %v cells, the whole %v", left, right, o)
		}
	})
}

// Mean and variance of the rotation null agree with all rotations of a pair.
func TestRotationAgainstAllRotations(t *testing.T) {
	sp := testSpace(t, 32)
	cells := func(lo, n uint32) (out [][2]uint32) {
		for i := range n {
			out = append(out, [2]uint32{0, lo + i})
		}
		return out
	}
	b := &bucket{kind: perPort, keys: []uint64{80}, tracks: []*track{
		testTrack(sp, 0, cells(1, 6)...), testTrack(sp, 1, cells(11, 9)...),
	}}
	a := newArena(b, &scratch{}, b.everyone(), sp.root())
	for i := range b.tracks {
		require.Equal(t, shapeRuns, b.tracks[i].shape)
		step, _ := a.step(b.tracks[i])
		require.EqualValues(t, 1, step)
	}
	var sum, sum2 float64
	for d := range 32 {
		o := 0.0
		for i := range 6 {
			if at := (i + d) % 32; at < 9 {
				o++
			}
		}
		sum += o / 32
		sum2 += o * o / 32
	}
	mean, variance := a.rotation(a.feet, []int{0, 1}, nil, -1, newRand(5), 20000, 0)
	assert.InDelta(t, sum, mean, 0.05)
	assert.InDelta(t, sum2-sum*sum, variance, 0.25)
}

// Aligned blocks rotate on their grid, and the chance that they never meet is the birthday problem's.
func TestPlacedIsTheBirthdayProblem(t *testing.T) {
	sp := testSpace(t, 64)
	b := &bucket{kind: perPort, keys: []uint64{80}}
	want := 0.0
	for i := range uint32(8) {
		var cells [][2]uint32
		for k := range uint32(8) {
			cells = append(cells, [2]uint32{0, i*8 + k})
		}
		b.tracks = append(b.tracks, testTrack(sp, int32(i), cells...))
		want -= math.Log10(float64(8-i) / 8)
	}
	a := newArena(b, &scratch{}, b.everyone(), sp.root())
	for _, t2 := range b.tracks {
		step, places := a.step(t2)
		require.EqualValues(t, 8, step)
		require.EqualValues(t, 8, places)
	}
	assert.InDelta(t, want, a.placed(a.everyone()), 1e-9)
	assert.True(t, a.gridded(a.everyone()))
}

// Peeling finds a planted partition among independent samplers, and settling ends with exactly its members.
func TestPeelAndSettleFindThePartition(t *testing.T) {
	sp := testSpace(t, 2048)
	rng := rand.New(rand.NewPCG(8, 8))
	b := &bucket{kind: perPort, keys: []uint64{80}}
	perm := rng.Perm(2048)
	for i := range 20 {
		var cells [][2]uint32
		for _, p := range perm[i*100 : i*100+100] {
			cells = append(cells, [2]uint32{0, uint32(p)})
		}
		b.tracks = append(b.tracks, testTrack(sp, int32(i), cells...))
	}
	for i := range 60 {
		var cells [][2]uint32
		for _, p := range rng.Perm(2048)[:100] {
			cells = append(cells, [2]uint32{0, uint32(p)})
		}
		b.tracks = append(b.tracks, testTrack(sp, int32(20+i), cells...))
	}
	a := newArena(b, &scratch{}, b.everyone(), sp.root())
	all := a.everyone()
	peeled := a.peel(a.feet, all, 2048, 5)
	got := a.settle(a.feet, all, peeled, 2048, 5)
	assert.Equal(t, all[:20], got)
	m := a.refine(peeled, DefaultParams())
	assert.Equal(t, all[:20], m.feet)
	for i := range m.feet {
		assert.Greater(t, m.prob[i], 0.99)
		assert.Zero(t, m.observed[i])
	}
}

func TestShapes(t *testing.T) {
	sp := testSpace(t, 4096)
	rng := rand.New(rand.NewPCG(9, 9))
	make1 := func(f func(i int) uint32, n int) *track {
		var cells [][2]uint32
		for i := range n {
			cells = append(cells, [2]uint32{0, f(i)})
		}
		return testTrack(sp, 0, cells...)
	}
	block := make1(func(i int) uint32 { return 512 + uint32(i) }, 256)
	assert.Equal(t, shapeRuns, block.shape)
	assert.EqualValues(t, 256, block.run)
	assert.EqualValues(t, 256, block.align)
	assert.Equal(t, span{512, 768}, block.path[len(block.path)-1])
	ragged := make1(func(i int) uint32 { return 515 + uint32(i) }, 201)
	assert.Equal(t, shapeRuns, ragged.shape)
	assert.EqualValues(t, 1, ragged.align)
	// Network and broadcast addresses left out do not hide the block.
	inner := make1(func(i int) uint32 { return 513 + uint32(i) }, 254)
	assert.EqualValues(t, 256, inner.align)
	stride := make1(func(i int) uint32 { return 7 + 50*uint32(i) }, 80)
	assert.Equal(t, shapeStride, stride.shape)
	perm := rng.Perm(4096)
	for _, n := range []int{10, 200, 1500, 3000} {
		scatter := make1(func(i int) uint32 { return uint32(perm[i]) }, n)
		assert.Equal(t, shapeScatter, scatter.shape, "%d of 4096", n)
	}
}

func TestTwinsMergeSharesAndNeverBlocks(t *testing.T) {
	sp := testSpace(t, 4096)
	rng := rand.New(rand.NewPCG(10, 10))
	share := func(n int) (out [][2]uint32) {
		for _, p := range rng.Perm(4096)[:n] {
			out = append(out, [2]uint32{0, uint32(p)})
		}
		return out
	}
	same := share(100)
	var run [][2]uint32
	for i := range uint32(128) {
		run = append(run, [2]uint32{0, 256 + i})
	}
	b := &bucket{kind: perPort, keys: []uint64{80}, tracks: []*track{
		testTrack(sp, 0, same...), testTrack(sp, 1, share(100)...), testTrack(sp, 2, same[:95]...), testTrack(sp, 3, run...), testTrack(sp, 4, run...), testTrack(sp, 5, same...),
	}}
	b.twins(sp, 1)
	var got [][]int32
	for _, t := range b.tracks {
		got = append(got, t.sources)
	}
	require.Len(t, got, 4)
	assert.ElementsMatch(t, []int32{0, 2, 5}, got[0])
	assert.Equal(t, [][]int32{{1}, {3}, {4}}, got[1:])
	assert.Len(t, b.tracks[0].cells, 100)
}
