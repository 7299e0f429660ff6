package detect_test

import (
	"math"
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

// ranging is a telescope of a /16 with sources that all use one tool on one port at one time.
type ranging struct {
	*rand.Rand
	in detect.Input
}

const rangingSize = 1 << 16

func newRanging(seed uint64) *ranging {
	r := &ranging{Rand: rand.New(rand.NewPCG(seed, 3))}
	r.in = detect.Input{Start: simulate.Start, End: simulate.Start + 30*86400}
	r.in.Universe.Blocks = []detect.Block{{Prefix: netip.MustParsePrefix("198.18.0.0/16"), Size: rangingSize}}
	return r
}

// scan adds a source that touches each address of a range with this probability.
func (r *ranging) scan(lo, hi uint32, share float64) (source int) {
	source = len(r.in.Sources)
	s := detect.Source{Addr: netip.AddrFrom4([4]byte{100, 64, byte(source >> 8), byte(source)}), Behaviour: detect.Behaviour{Tool: "masscan"}}
	for at := lo; at < min(hi, rangingSize); at++ {
		if r.Float64() < share {
			first := r.Uint32N(30 * 86400)
			s.Cells = append(s.Cells, detect.Cell{Target: at, Port: 81, Proto: int8(event.ProtoTCP), First: first, Last: first})
		}
	}
	r.in.Sources = append(r.in.Sources, s)
	return source
}

// Sources that scan a range each and know nothing of one another have no seams, whatever custom they follow in where these lie.
func TestRangesOfCustomAreNoCampaign(t *testing.T) {
	for name, add := range map[string]func(r *ranging){
		"anywhere": func(r *ranging) {
			for range 150 {
				lo := r.Uint32N(rangingSize - 1000)
				r.scan(lo, lo+200+r.Uint32N(800), 1)
			}
		},
		"a sample of a range anywhere": func(r *ranging) {
			for range 150 {
				lo := r.Uint32N(rangingSize - 1000)
				r.scan(lo, lo+1000, 0.1)
			}
		},
		"in one popular part": func(r *ranging) {
			for range 150 {
				lo := 3*rangingSize/16 + r.Uint32N(rangingSize/16)
				r.scan(lo, lo+100+r.Uint32N(200), 1)
			}
		},
		"a sample of an aligned block": func(r *ranging) {
			for range 200 {
				lo := r.Uint32N(rangingSize/512) * 512
				r.scan(lo, lo+512, 0.05+0.6*r.Float64())
			}
		},
		"an aligned block each, of which a tenth got lost": func(r *ranging) {
			for range 100 {
				lo := r.Uint32N(rangingSize/512) * 512
				r.scan(lo, lo+512, 0.9)
			}
		},
		"a place each of one grid that begins anywhere": func(r *ranging) {
			for range 100 {
				lo := 123 + 600*r.Uint32N(109)
				r.scan(lo, lo+600, 0.9)
			}
		},
		"a sample of a place of one grid that begins anywhere": func(r *ranging) {
			for range 100 {
				lo := 123 + 600*r.Uint32N(109)
				r.scan(lo, lo+600, 0.4)
			}
		},
		"a network each of one list": func(r *ranging) {
			ends := make([]uint32, 120)
			for i := range ends {
				ends[i] = r.Uint32N(rangingSize)
			}
			slices.Sort(ends)
			for range 100 {
				k := r.IntN(len(ends) - 1)
				r.scan(ends[k], ends[k+1], 0.8)
			}
		},
		"from one of a few places on, or up to it": func(r *ranging) {
			places := make([]uint32, 12)
			for i := range places {
				places[i] = 2000 + r.Uint32N(rangingSize-4000)
			}
			for range 150 {
				at, n := places[r.IntN(len(places))], 300+r.Uint32N(1500)
				if r.IntN(2) == 0 {
					r.scan(at, at+n, 1)
				} else {
					r.scan(at-n, at, 1)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(8) {
				r := newRanging(seed)
				add(r)
				found := len(run(t, &r.in, detect.Params{Seed: seed}).Campaigns)
				assert.Zero(t, found, "seed %d", seed)
			}
		})
	}
}

// Ranges that follow one upon another are found among three times as many that lie anywhere, of the same tool, port, time and
// size, also where a sample of them is all that was touched, and their sizes differ. Three strangers come to a member: one that happens to scan nearly
// a member's range takes its place.
func TestRangesInACrowdOfRanges(t *testing.T) {
	for name, c := range map[string]struct {
		share   float64
		unequal bool
	}{
		"sampled":             {0.2, false},
		"sampled and unequal": {0.2, true},
		"whole":               {0.97, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRanging(7)
			ends := []uint32{0}
			for k := range uint32(80) {
				end := (k + 1) * 819
				if c.unequal {
					end -= r.Uint32N(500)
				}
				ends = append(ends, end)
			}
			truth := simulate.Truth{Name: "a", Decidable: true}
			for k := range 80 {
				truth.Sources = append(truth.Sources, r.scan(ends[k], ends[k+1], c.share))
			}
			for range 240 {
				k := r.IntN(80)
				n := ends[k+1] - ends[k]
				lo := r.Uint32N(rangingSize - n)
				r.scan(lo, lo+n, c.share)
			}
			res := run(t, &r.in, detect.Params{})
			s := simulate.Judge([]simulate.Truth{truth}, res.Campaigns)
			assert.Zero(t, s.False)
			assert.GreaterOrEqual(t, s.F1, 0.95)
			require.NotEmpty(t, res.Campaigns)
			assert.Equal(t, detect.CutRanges, res.Campaigns[0].Cut)
			if c.share < 0.5 {
				assert.False(t, math.IsNaN(res.Campaigns[0].Tests.Seams), "nothing else tells them")
			}
		})
	}
}
