package detect_test

import (
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

// cutAt returns the input as it was known a share into the life of the first campaign.
func cutAt(w *simulate.World, share float64) *detect.Input {
	first, last := uint32(1<<31), uint32(0)
	for _, m := range w.Truth[0].Sources {
		for _, c := range w.Input.Sources[m].Cells {
			first, last = min(first, c.First), max(last, c.First)
		}
	}
	at := first + uint32(share*float64(last-first))
	in := w.Input
	in.End = in.Start + int64(at) + 1
	in.Sources = slices.Clone(in.Sources)
	for i := range in.Sources {
		s := &in.Sources[i]
		s.Cells = slices.DeleteFunc(slices.Clone(s.Cells), func(c detect.Cell) bool { return c.First > at })
	}
	return &in
}

// A tenth of the way a campaign is reported as emerging, and those who are listed belong to it.
func TestEarly(t *testing.T) {
	for name, share := range map[string]float64{"plain": 0.1, "rotating": 0.1, "udp": 0.15} {
		w := build(t, name, 1, 0.5)
		in := cutAt(w, share)
		res := run(t, in, detect.Params{})
		require.Len(t, res.Campaigns, 1, name)
		c := res.Campaigns[0]
		assert.True(t, c.Emerging, name)
		assert.Less(t, c.Coverage, 0.2, name)
		s := simulate.Judge(w.Truth, res.Campaigns)
		assert.GreaterOrEqual(t, s.Campaigns[0].Precision, 0.9, name)
		for _, m := range c.Members {
			assert.GreaterOrEqual(t, m.Probability, 0.8, name)
		}
		assert.Empty(t, run(t, in, detect.Params{EarlyCoverage: 1}).Campaigns, "%s: nothing early was asked for", name)
	}
}

// What covered as little and stopped is not emerging: the window goes on for long after it.
func TestEarlyNeedsGrowth(t *testing.T) {
	w := build(t, "plain", 1, 0.5)
	in := cutAt(w, 0.1)
	require.NotEmpty(t, run(t, in, detect.Params{}).Campaigns)
	in.End += 30 * 86400
	assert.Empty(t, run(t, in, detect.Params{}).Campaigns)
}

// A finished campaign is not emerging.
func TestWholeIsNotEarly(t *testing.T) {
	w := build(t, "plain", 1, 0.3)
	for _, c := range run(t, &w.Input, detect.Params{}).Campaigns {
		assert.False(t, c.Emerging)
	}
}

// Members with ports of their own are found, and each says which.
func TestOwnPorts(t *testing.T) {
	for _, name := range []string{"ports", "ports-own"} {
		w := build(t, name, 3, 1)
		res := run(t, &w.Input, detect.Params{})
		require.Len(t, res.Campaigns, 1, name)
		c := res.Campaigns[0]
		assert.Equal(t, detect.CutPorts, c.Cut, name)
		assert.Len(t, c.Ports, 72, name)
		assert.Equal(t, 72*256, c.Universe, name)
		assert.Less(t, c.OverlapRatio, 0.1, name)
		assert.Greater(t, c.Expected, 1000.0, name)
		assert.Equal(t, 1.0, simulate.Judge(w.Truth, res.Campaigns).F1, name)
	}
}

// sweepers builds sources that sweep a /24, each on ports of its own.
func sweepers(ports ...[]uint16) *detect.Input {
	in := &detect.Input{Start: simulate.Start, End: simulate.Start + 86400}
	in.Universe.Blocks = []detect.Block{{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Size: 256}}
	for i, list := range ports {
		s := detect.Source{Addr: netip.AddrFrom4([4]byte{100, 64, byte(i >> 8), byte(i)}), Behaviour: detect.Behaviour{Tool: "masscan"}}
		for _, p := range list {
			for target := range uint32(256) {
				s.Cells = append(s.Cells, detect.Cell{Target: target, Port: p, Proto: int8(event.ProtoTCP), First: uint32(40 * i), Last: uint32(40 * i)})
			}
		}
		in.Sources = append(in.Sources, s)
	}
	return in
}

// The same sweepers are a campaign where their ports fill an interval, and none where each has favourites of its own, however
// many they are and although no two share any.
func TestFavouritePortsAreNoCampaign(t *testing.T) {
	var filled, favourites, single [][]uint16
	rng := rand.New(rand.NewPCG(5, 5))
	any := rng.Perm(9000)
	for i := range 20 {
		a := uint16(3000 + 4*i)
		filled = append(filled, []uint16{a, a + 1, a + 2, a + 3})
		list := []uint16{}
		for k := range 4 {
			list = append(list, uint16(1+any[4*i+k]))
		}
		slices.Sort(list)
		favourites = append(favourites, list)
		single = append(single, []uint16{uint16(3000 + i)})
	}
	res := run(t, sweepers(filled...), detect.Params{})
	require.Len(t, res.Campaigns, 1)
	assert.Len(t, res.Campaigns[0].Members, 20)
	assert.Empty(t, run(t, sweepers(favourites...), detect.Params{}).Campaigns)
	assert.Empty(t, run(t, sweepers(single...), detect.Params{}).Campaigns, "one port each is a favourite, even side by side")
	assert.Empty(t, run(t, sweepers(slices.Repeat([][]uint16{{21, 22, 23, 25, 80, 110, 143, 443}}, 20)...), detect.Params{}).Campaigns, "one list for all")
}

// Independent private ports in every shape raise no alarm.
func TestTastes(t *testing.T) {
	for seed := range uint64(2) {
		w := build(t, "tastes", 20+seed, 0.5)
		assert.Empty(t, run(t, &w.Input, detect.Params{Seed: seed}).Campaigns)
	}
}

// Two parts of a mis-sharded tool stay two, and each names the other.
func TestKin(t *testing.T) {
	in := &detect.Input{Start: simulate.Start, End: simulate.Start + 86400}
	in.Universe.Blocks = []detect.Block{{Prefix: netip.MustParsePrefix("198.18.0.0/20"), Size: 4096}}
	rng := rand.New(rand.NewPCG(6, 6))
	for part := range 2 {
		perm := rng.Perm(4096)[:2200]
		members := make([]detect.Source, 22)
		for i := range members {
			members[i] = detect.Source{Addr: netip.AddrFrom4([4]byte{100, 64, byte(part), byte(i)}), Behaviour: detect.Behaviour{Tool: "masscan", TTLClass: uint8(64 << part)}}
		}
		for k, target := range perm {
			m := &members[k%22]
			at := uint32(rng.IntN(80000))
			m.Cells = append(m.Cells, detect.Cell{Target: uint32(target), Port: 8080, Proto: int8(event.ProtoTCP), First: at, Last: at})
		}
		in.Sources = append(in.Sources, members...)
	}
	res := run(t, in, detect.Params{})
	require.Len(t, res.Campaigns, 2)
	for _, c := range res.Campaigns {
		assert.Len(t, c.Members, 22)
		assert.Contains(t, c.Why[len(c.Why)-1], "Campaigns with the same tool, ports, space and time overlap it as independent sources do: 22 sources")
	}
}

// Windows without a campaign, cut off anywhere, hold nothing that emerges.
func TestEarlyRaisesNoFalseAlarm(t *testing.T) {
	for _, name := range []string{"none", "crowds"} {
		for seed := range uint64(2) {
			w := build(t, name, 40+seed, 0.3)
			for _, share := range []float64{0.1, 0.3, 0.6, 0.9} {
				in := w.Input
				at := uint32(share * float64(in.End-in.Start))
				in.End = in.Start + int64(at)
				in.Sources = slices.Clone(in.Sources)
				for i := range in.Sources {
					s := &in.Sources[i]
					s.Cells = slices.DeleteFunc(slices.Clone(s.Cells), func(c detect.Cell) bool { return c.First >= at })
				}
				assert.Empty(t, run(t, &in, detect.Params{}).Campaigns, "%s, seed %d, cut at %v", name, seed, share)
			}
		}
	}
}
