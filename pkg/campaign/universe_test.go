package campaign

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"murmuration/pkg/event"
	"murmuration/pkg/store"
)

func prefixes(ts []store.Telescope) []string {
	var out []string
	for _, t := range ts {
		out = append(out, t.Prefix.String())
	}
	slices.Sort(out)
	return out
}

// probed returns the addresses of p of which each is hit by a number of sources drawn by draw.
func probed(p netip.Prefix, draw func() uint32) []targetCount {
	var out []targetCount
	for a := p.Addr(); p.Contains(a); a = a.Next() {
		if n := draw(); n > 0 {
			out = append(out, targetCount{ip: event.IPOf(a), sources: n})
		}
	}
	return out
}

func sorted(ts []targetCount) []targetCount {
	slices.SortFunc(ts, func(a, b targetCount) int { return bytes.Compare(a.ip[:], b.ip[:]) })
	return ts
}

// A telescope that is fully probed, and one of which only a tenth of the addresses were, are both found.
func TestInferFindsTheTelescope(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, mean := range []float64{8, 1, 0.3, 0.1} {
		poisson := func() uint32 { // by inversion of exponential gaps
			n, sum := uint32(0), rng.ExpFloat64()
			for ; sum < mean; sum += rng.ExpFloat64() {
				n++
			}
			return n
		}
		got := prefixes(infer(sorted(probed(netip.MustParsePrefix("198.18.0.0/18"), poisson))))
		require.Equal(t, []string{"198.18.0.0/18"}, got, "mean %.1f sources per address", mean)
	}
}

func TestInferKeepsSensorsApart(t *testing.T) {
	three := func() uint32 { return 3 }
	ts := append(probed(netip.MustParsePrefix("198.18.0.0/18"), three), probed(netip.MustParsePrefix("198.19.0.16/28"), three)...)
	ts = append(ts, probed(netip.MustParsePrefix("2001:db8::/124"), three)...)
	require.Equal(t, []string{"198.18.0.0/18", "198.19.0.16/28", "2001:db8::/64"}, prefixes(infer(sorted(ts))))
	require.Empty(t, infer(nil))
}

// Ranks are consecutive, in the order of addresses, and unknown addresses have none.
func TestRanksAreConsecutive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var telescopes []store.Telescope
		for range rapid.IntRange(1, 6).Draw(t, "telescopes") {
			a := netip.AddrFrom4([4]byte{10, 0, rapid.Byte().Draw(t, "b"), rapid.Byte().Draw(t, "c")})
			p, err := a.Prefix(rapid.IntRange(20, 32).Draw(t, "bits"))
			require.NoError(t, err)
			telescopes = append(telescopes, store.Telescope{Prefix: p})
		}
		sp, err := newSpace(telescopes, nil, time.Unix(0, 0), time.Unix(1000, 0))
		require.NoError(t, err)
		next := uint32(0)
		for a := netip.MustParseAddr("10.0.0.0"); a.Compare(netip.MustParseAddr("10.1.0.0")) < 0; a = a.Next() {
			inside := slices.ContainsFunc(telescopes, func(x store.Telescope) bool { return x.Prefix.Contains(a) })
			r, ok := sp.rank(event.IPOf(a))
			require.Equal(t, inside, ok, a)
			if ok {
				require.Equal(t, next, r, a)
				next++
			}
		}
		total := uint32(0)
		for _, b := range sp.universe.Blocks {
			total += b.Size
		}
		require.Equal(t, next, total)
	})
}

func TestSpaceOfSeenIPv6(t *testing.T) {
	three := func() uint32 { return 3 }
	targets := sorted(probed(netip.MustParsePrefix("2001:db8::f0/124"), three))
	sp, err := newSpace([]store.Telescope{{Prefix: netip.MustParsePrefix("2001:db8::/48")}}, targets, time.Unix(0, 0), time.Unix(1, 0))
	require.NoError(t, err)
	require.EqualValues(t, 16, sp.universe.Blocks[0].Size)
	r, ok := sp.rank(event.IPOf(netip.MustParseAddr("2001:db8::f3")))
	require.True(t, ok)
	require.EqualValues(t, 3, r)
	_, ok = sp.rank(event.IPOf(netip.MustParseAddr("2001:db8::1")))
	require.False(t, ok)
}

func TestSpaceLeavesOutTelescopesOfAnotherTime(t *testing.T) {
	from, to := time.Unix(1000, 0), time.Unix(2000, 0)
	p := netip.MustParsePrefix("192.0.2.0/24")
	for _, tc := range []struct {
		since, until int64
		blocks       int
	}{{0, 0, 1}, {0, 1000, 0}, {0, 1001, 1}, {2000, 0, 0}, {1999, 0, 1}} {
		x := store.Telescope{Prefix: p}
		if tc.since > 0 {
			x.Since = time.Unix(tc.since, 0)
		}
		if tc.until > 0 {
			x.Until = time.Unix(tc.until, 0)
		}
		sp, err := newSpace([]store.Telescope{x}, nil, from, to)
		require.NoError(t, err)
		require.Len(t, sp.universe.Blocks, tc.blocks, "%+v", tc)
	}
}
