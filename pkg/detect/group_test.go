package detect

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A group is exactly the tracks that aim at its span and obey its rule, however they were dealt out into slots.
func TestGroupsAreTheTracksOfTheirRule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sp := testSpace(t, 64)
		window := uint32(rapid.IntRange(1, 5000).Draw(t, "window"))
		b := &bucket{kind: manyPorts, keys: []uint64{80, 443}}
		for i := range rapid.IntRange(5, 60).Draw(t, "tracks") {
			var cells [][2]uint32
			for _, c := range rapid.SliceOfNDistinct(rapid.Uint32Range(0, 127), 2, 12, rapid.ID).Draw(t, "cells") {
				cells = append(cells, [2]uint32{c / 64, c % 64})
			}
			tr := testTrack(sp, int32(i), cells...)
			tr.first = rapid.Uint32Range(0, window-1).Draw(t, "first")
			tr.last = rapid.Uint32Range(tr.first, window-1).Draw(t, "last")
			tool := rapid.Uint64Range(1, 2).Draw(t, "tool")
			tr.class = [4]uint64{0, tool, hash(tool, rapid.Uint64Range(1, 2).Draw(t, "full")), 0}
			tr.class[3] = hash(tr.class[2], b.habit(tr))
			b.tracks = append(b.tracks, tr)
		}
		p := DefaultParams()
		p.MinSources = 3
		for _, st := range spans(b.tracks, p.MinSources) {
			from := narrow(b.tracks, st, p.MaxShare)
			for _, g := range groups(b.tracks, st, frame{0, uint64(window), timeLevels}, p) {
				want := slices.DeleteFunc(slices.Clone(from), func(i int32) bool { return !g.rule.holds(b.tracks[i]) })
				if !slices.Equal(want, g.members) {
					t.Fatalf("rule %+v in %v gave %v, and holds for %v", g.rule, st.span, g.members, want)
				}
			}
		}
	})
}

func TestLowestAreTheLowest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfNDistinct(rapid.Int(), 1, 200, rapid.ID).Draw(t, "list")
		n := rapid.IntRange(0, len(list)).Draw(t, "n")
		want := slices.Sorted(slices.Values(list))
		lowest(list, n, func(i, j int) bool { return i < j })
		if got := slices.Sorted(slices.Values(list[:n])); !slices.Equal(got, want[:n]) {
			t.Fatalf("the %d lowest are %v, not %v", n, want[:n], got)
		}
		if got := slices.Sorted(slices.Values(list)); !slices.Equal(got, want) {
			t.Fatalf("the list became %v", got)
		}
	})
}

// Feet are found alike whether the arena has a table of them or they are searched for.
func TestFeetOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a arena
		a.of = slices.Sorted(slices.Values(rapid.SliceOfNDistinct(rapid.Int32Range(0, 300), 0, 80, rapid.ID).Draw(t, "of")))
		members := slices.Sorted(slices.Values(rapid.SliceOfNDistinct(rapid.Int32Range(0, 300), 0, 80, rapid.ID).Draw(t, "members")))
		var want []int
		for _, i := range members {
			if k := slices.Index(a.of, i); k >= 0 {
				want = append(want, k)
			}
		}
		if got := a.feetOf(members); !slices.Equal(got, want) {
			t.Fatalf("feet of %v among %v are %v, not %v", members, a.of, want, got)
		}
	})
}

// The rotation null key by key is the one in which every cell is moved by itself.
func TestRotationMovesEveryCell(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, _ := testArena(t)
		half := make([]uint8, a.width)
		for i := range half {
			half[i] = uint8(rapid.IntRange(0, 1).Draw(t, "half"))
		}
		if rapid.Bool().Draw(t, "whole") {
			half = nil
		}
		seed := rapid.Uint64().Draw(t, "seed")
		all := a.everyone()
		mean, _ := a.rotation(a.feet, all, half, -1, newRand(seed), 9, 0)
		rng := newRand(seed)
		want := 0.0
		for range 9 {
			touched := map[uint32]float64{}
			for _, i := range all {
				turn := a.turn(a.track[i], rng)
				for _, c := range a.feet[i].cells {
					at, ok := turn.move(c % a.width)
					if !ok || half != nil && half[at] == 0 {
						continue
					}
					want += touched[c-c%a.width+at]
					touched[c-c%a.width+at]++
				}
			}
		}
		if d := mean - want/9; d > 1e-9 || d < -1e-9 {
			t.Fatalf("mean overlap %v, not %v", mean, want/9)
		}
		if slices.Max(a.count) != 0 {
			t.Fatal("counters are left")
		}
	})
}
