package simulate

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/detect"
	"murmuration/pkg/event"
)

func world(t testing.TB, name string, seed uint64, scale float64) *World {
	t.Helper()
	s, err := Find(name)
	require.NoError(t, err)
	return s.Build(seed, scale)
}

func TestScenariosAreReproducibleAndLawful(t *testing.T) {
	for _, name := range Names() {
		if name == "month" || name == "bazaar" || name == "founding" {
			continue
		}
		a, b := world(t, name, 3, 0.05), world(t, name, 3, 0.05)
		require.Equal(t, a.Input, b.Input, name)
		require.Equal(t, a.Truth, b.Truth, name)
		assert.NotEqual(t, a.Input.Sources, world(t, name, 4, 0.05).Input.Sources, name)
		var total uint32
		for _, bl := range a.Input.Universe.Blocks {
			assert.Equal(t, total, bl.First)
			total += bl.Size
		}
		window := a.Input.End - a.Input.Start
		seen := map[netip.Addr]bool{}
		for _, s := range a.Input.Sources {
			assert.False(t, seen[s.Addr], "%s: %v twice", name, s.Addr)
			seen[s.Addr] = true
			sorted := slices.IsSortedFunc(s.Cells, func(a, b detect.Cell) int {
				switch {
				case a.Proto != b.Proto:
					return int(a.Proto) - int(b.Proto)
				case a.Port != b.Port:
					return int(a.Port) - int(b.Port)
				case a.Target != b.Target:
					return int(a.Target) - int(b.Target)
				}
				return int(a.Object) - int(b.Object)
			})
			require.True(t, sorted, name)
			for _, c := range s.Cells {
				require.Less(t, c.Target, total, name)
				require.LessOrEqual(t, c.First, c.Last, name)
				require.Less(t, int64(c.Last), window, name)
				require.Less(t, int(c.Object), len(a.Objects), name)
			}
		}
	}
	_, err := Find("nowhere")
	assert.ErrorContains(t, err, `no scenario "nowhere"`)
}

// What a plan promises is in the cells: a partition has no cell twice and none left over.
func TestPlansKeepTheirPromise(t *testing.T) {
	counts := func(w *World) (map[uint32]int, int) {
		k := map[uint32]int{}
		touches := 0
		for _, m := range w.Truth[0].Sources {
			for _, c := range w.Input.Sources[m].Cells {
				if c.Port == 80 && c.Proto == int8(event.ProtoTCP) && c.Object == 0 {
					k[c.Target]++
					touches++
				}
			}
		}
		return k, touches
	}
	for _, name := range []string{"plain", "ranges", "residues", "unequal", "late", "short", "rotating", "mixed"} {
		k, touches := counts(world(t, name, 1, 0.01))
		assert.Len(t, k, 16384, name)
		assert.Equal(t, 16384, touches, name)
	}
	k, touches := counts(world(t, "loss30", 1, 0.01))
	assert.InDelta(t, 0.7*16384, touches, 300)
	assert.Len(t, k, touches)
	_, touches = counts(world(t, "overlap30", 1, 0.01))
	assert.InDelta(t, 1.295*16384, touches, 300)
	k, _ = counts(world(t, "grid", 1, 0.01))
	assert.InDelta(t, 0.85*8192, len(k), 300)
	w := world(t, "rotating", 1, 0.01)
	type stretch struct{ from, to uint32 }
	var order []stretch
	for _, m := range w.Truth[0].Sources {
		s := stretch{1 << 31, 0}
		for _, c := range w.Input.Sources[m].Cells {
			s.from, s.to = min(s.from, c.First), max(s.to, c.Last)
		}
		order = append(order, s)
	}
	slices.SortFunc(order, func(a, b stretch) int { return int(a.from) - int(b.from) })
	for i := 1; i < len(order); i++ {
		assert.GreaterOrEqual(t, order[i].from, order[i-1].to)
	}
}

func TestJudge(t *testing.T) {
	truth := []Truth{{Name: "a", Sources: []int{0, 1, 2, 3}, Decidable: true}, {Name: "b", Sources: []int{10, 11}, Decidable: true}, {Name: "c", Sources: []int{20, 21}}}
	perfect := JudgeLists(truth, [][]int{{0, 1, 2, 3}, {10, 11}})
	assert.Equal(t, 1.0, perfect.F1)
	assert.Zero(t, perfect.False)
	assert.Equal(t, []CampaignScore{
		{Name: "a", Sources: 4, Pieces: 1, Jaccard: 1, Precision: 1, Recall: 1, F1: 1},
		{Name: "b", Sources: 2, Pieces: 1, Jaccard: 1, Precision: 1, Recall: 1, F1: 1},
	}, perfect.Campaigns)
	s := JudgeLists(truth, [][]int{{0, 1, 50}, {2, 3}, {60, 61}, {20, 21, 70}})
	assert.Equal(t, 1, s.False)
	assert.Equal(t, 2, s.Campaigns[0].Pieces)
	assert.InDelta(t, 0.5, s.Campaigns[0].Jaccard, 1e-12)
	assert.Zero(t, s.Campaigns[1].Jaccard)
	// Four of seven claimed are right, the undecidable campaign counts for nothing; four of six members are claimed.
	assert.InDelta(t, 4.0/7, s.Precision, 1e-12)
	assert.InDelta(t, 4.0/6, s.Recall, 1e-12)
	nothing := JudgeLists(nil, nil)
	assert.Equal(t, 1.0, nothing.F1)
	half := JudgeLists(truth, [][]int{{0, 1, 10, 11}})
	assert.Equal(t, 1, half.False, "no campaign holds more than half of it")
}

// The stream of events holds every touch, in order, with the header fields that the behaviour promises.
func TestEvents(t *testing.T) {
	w := world(t, "paths", 2, 0.2)
	want := 0
	for _, s := range w.Input.Sources {
		for _, c := range s.Cells {
			want++
			if c.Last != c.First {
				want++
			}
		}
	}
	var last int64
	got, requests := 0, 0
	for e := range w.Events() {
		got++
		assert.GreaterOrEqual(t, e.Time, last)
		last = e.Time
		require.True(t, w.Input.Universe.Blocks[0].Prefix.Contains(event.Addr(e.Dst)))
		if e.Kind == event.KindRequest {
			requests++
			assert.NotEmpty(t, e.Path)
		}
	}
	assert.Equal(t, want, got)
	assert.Positive(t, requests)
	for range w.Events() {
		break
	}
	assert.False(t, w.Address(16).IsValid())
}
