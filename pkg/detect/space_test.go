package detect

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func testSpace(t require.TestingT, sizes ...uint32) *space {
	var u Universe
	var first uint32
	for i, n := range sizes {
		a := netip.AddrFrom4([4]byte{198, 18, byte(i), 0})
		u.Blocks = append(u.Blocks, Block{Prefix: netip.PrefixFrom(a, 24), First: first, Size: n})
		first += n
	}
	sp, err := newSpace(u)
	require.NoError(t, err)
	return sp
}

func TestSpaceRefusesWhatContradictsItself(t *testing.T) {
	p := netip.MustParsePrefix("198.18.0.0/24")
	for name, blocks := range map[string][]Block{
		"gap":     {{Prefix: p, First: 0, Size: 4}, {Prefix: p, First: 5, Size: 4}},
		"overlap": {{Prefix: p, First: 0, Size: 4}, {Prefix: p, First: 3, Size: 4}},
		"empty":   {{Prefix: p, First: 0, Size: 0}},
		"late":    {{Prefix: p, First: 1, Size: 4}},
		"huge":    {{Prefix: p, First: 0, Size: 1<<32 - 1}, {Prefix: p, First: 1<<32 - 1, Size: 9}},
	} {
		_, err := newSpace(Universe{Blocks: blocks})
		assert.ErrorIs(t, err, ErrInput, name)
	}
}

// Children split their parent without a gap, down to single addresses, whatever the sizes of the blocks.
func TestChildrenPartitionTheirParent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sp := testSpace(t, rapid.SliceOfN(rapid.Uint32Range(1, 40), 1, 5).Draw(t, "sizes")...)
		var walk func(s span)
		walk = func(s span) {
			if _, ok := sp.child(s, s.lo); !ok {
				if s.size() != 1 {
					t.Fatalf("%v has no child", s)
				}
				return
			}
			for at := s.lo; at < s.hi; {
				c, ok := sp.child(s, at)
				if !ok || c.lo != at || c.size() == 0 || !s.holds(c) || c == s {
					t.Fatalf("child %v of %v at %d", c, s, at)
				}
				walk(c)
				at = c.hi
			}
		}
		walk(sp.root())
	})
}

// The hull is the smallest span of the tree that holds all but the loose share.
func TestHullAgainstEverySpan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sp := testSpace(t, 16, 32, 5)
		ranks := rapid.SliceOfN(rapid.Uint32Range(0, 52), 1, 30).Draw(t, "ranks")
		slices.Sort(ranks)
		path := sp.hull(nil, ranks, 0.05)
		hull := path[len(path)-1]
		need := len(ranks) - int(0.05*float64(len(ranks)))
		if within(ranks, hull) < need {
			t.Fatalf("%v holds too few of %v", hull, ranks)
		}
		for at := hull.lo; at < hull.hi; {
			c, ok := sp.child(hull, at)
			if !ok {
				break
			}
			if within(ranks, c) >= need {
				t.Fatalf("%v inside %v would have done for %v", c, hull, ranks)
			}
			at = c.hi
		}
	})
}

func TestPrefixesNameExactlyTheSpan(t *testing.T) {
	u := Universe{Blocks: []Block{
		{Prefix: netip.MustParsePrefix("198.18.0.0/18"), First: 0, Size: 16384},
		{Prefix: netip.MustParsePrefix("2001:db8::/120"), First: 16384, Size: 256},
	}}
	sp, err := newSpace(u)
	require.NoError(t, err)
	assert.Equal(t, "198.18.0.0/18, 2001:db8::/120", prefixList(sp.prefixes(sp.root())))
	assert.Equal(t, "198.18.40.0/21", prefixList(sp.prefixes(span{10240, 12288})))
	assert.Equal(t, "2001:db8::80/121", prefixList(sp.prefixes(span{16512, 16640})))
	assert.Equal(t, "198.18.63.255", sp.address(16383).String())
	assert.Equal(t, "2001:db8::ff", sp.address(16639).String())
	assert.False(t, sp.address(16640).IsValid())
}
