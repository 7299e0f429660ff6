package detect

import (
	"encoding/json"
	"errors"
	"math"
	"net/netip"

	"murmuration/pkg/event"
)

// ErrInput marks an Input that contradicts itself.
var ErrInput = errors.New("detection input")

// Params tune a run. DefaultParams documents the defaults; the zero value of a field means its default,
// except for Seed.
type Params struct {
	// Seed decides surrogates and the halves of held-out tests. Same input and seed, same result.
	Seed uint64
	// MinEvidence is the least evidence that is reported: -log10 p after correction for every group
	// tested. 3 lets one false campaign through in a thousand runs over traffic that has none.
	MinEvidence float64
	// MinSources is the least number of sources that share a space out.
	MinSources int
	// MinCoverage is the least share of its space that a campaign must have covered.
	MinCoverage float64
	// EarlyCoverage is the least share of its space that a campaign must have covered which goes on at the end of the
	// window: it is reported early (Campaign.Emerging). No less than MinCoverage: none is.
	EarlyCoverage float64
	// MaxShare is the largest share of a space that one member may have covered by itself; a source
	// beyond it is a wide scanner.
	MaxShare float64
	// MaxOverlap is the largest ratio of observed to expected overlap that is reported.
	MaxOverlap float64
	// Surrogates is the number of random rotations behind the rotation null.
	Surrogates int
	// Workers is the number of goroutines; it never changes the result.
	Workers int
}

// DefaultParams returns the parameters of a run that asks nothing special.
func DefaultParams() Params {
	return Params{MinEvidence: 3, MinSources: 5, MinCoverage: 0.2, EarlyCoverage: 0.02, MaxShare: 0.4, MaxOverlap: 0.6, Surrogates: 64, Workers: 2}
}

func (p Params) withDefaults() Params {
	d := DefaultParams()
	set := func(v *float64, d float64) {
		if *v <= 0 {
			*v = d
		}
	}
	count := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&p.MinEvidence, d.MinEvidence)
	set(&p.MinCoverage, d.MinCoverage)
	set(&p.EarlyCoverage, d.EarlyCoverage)
	set(&p.MaxShare, d.MaxShare)
	set(&p.MaxOverlap, d.MaxOverlap)
	count(&p.MinSources, d.MinSources)
	count(&p.Surrogates, d.Surrogates)
	count(&p.Workers, d.Workers)
	p.MinSources = max(p.MinSources, 3)
	return p
}

// Result is what one run found.
type Result struct {
	Campaigns []Campaign // strongest evidence first
	Undecided []Group    // groups that look shared out but are too small to tell, most promising first
	Tests     int        // groups that were tested
	Sources   int        // sources of the input with at least one cell inside the universe
	Cells     int        // cells of the input inside the universe
	Outside   int        // cells of the input outside of the universe, which were left out
}

// Pattern says how the members of a campaign relate in time.
type Pattern string

// The patterns.
const (
	PatternParallel Pattern = "parallel" // several members at work at any time
	PatternRotating Pattern = "rotating" // one after the other without a break: one source whose address changes
	PatternRelay    Pattern = "relay"    // parallel chains in which one member takes over when another ends
	PatternBursts   Pattern = "bursts"   // each member worked for a moment only, moments apart
)

// Cut says how the space is shared out among the members.
type Cut string

// The cuts.
const (
	CutRandom   Cut = "random"   // every member has a random share of the cells
	CutRanges   Cut = "ranges"   // every member has runs of consecutive addresses
	CutResidues Cut = "residues" // every member has every k-th address
	CutPorts    Cut = "ports"    // every member has ports of its own
	CutObjects  Cut = "objects"  // members share out paths of the same addresses
)

// Member is one source of a campaign.
type Member struct {
	Source      int // index into Input.Sources
	Addr        netip.Addr
	Probability float64 // of being a member, by its overlaps and its behaviour
	Cells       int     // cells it touched in the campaign's space
	Expected    float64 // coincidences with other members if it were independent
	Observed    int     // coincidences with other members
	First, Last int64   // of its cells in the space, seconds since 1970-01-01 UTC
	Twin        bool    // it did the very same share as another member
}

// Port is one destination port of a protocol.
type Port struct {
	Proto event.Proto
	Port  uint16
}

// Tests holds what every single test of a campaign said, as -log10 p before correction. NaN is "not applicable".
type Tests struct {
	// Blind is the Chernoff bound for the group as behaviour alone selected it, overlaps unseen.
	Blind float64
	// HeldOut is the Chernoff bound on cells that had no part in choosing the members; the weaker of two folds.
	HeldOut float64
	// Rotation is the tail of the rotation null; RotationZ the observed overlap in its standard deviations.
	Rotation  float64
	RotationZ float64
	// Searched is the tail of the best subset's evidence among surrogates that were searched alike.
	Searched float64
	// Stevens is the law of disjoint arcs, where every member scanned one run of addresses.
	Stevens float64
	// Seams is the tail of the number of places where one source's range ends and another's begins, beside that of ranges shifted a little.
	Seams float64
	// Focus is the tail of the number of alike sources that aim at this part of the telescope.
	Focus float64
}

// Campaign is a set of sources that share out a space, with the evidence for it.
type Campaign struct {
	Members []Member // strongest membership first
	Weakest int      // index into Members of the least certain one
	Ports   []Port
	Objects int // number of distinct (method, path) that are part of the cells, 0 where cells are addresses and ports
	Tools   []string
	// Signature, UserAgent and Payload are what at least nine of ten members share, or "" and 0.
	Signature string
	UserAgent string
	Payload   uint64

	Space     []netip.Prefix // what the members aim at
	Addresses int            // addresses in Space
	Universe  int            // cells in Space: addresses × ports (or objects)
	Covered   int            // cells that at least one member touched
	Coverage  float64        // Covered / Universe
	// Expected and Observed count coincidences (pair of members, cell); Observed/Expected is OverlapRatio.
	Expected     float64
	Observed     float64
	OverlapRatio float64

	Evidence float64 // -log10 p, the weaker of the tests that apply, corrected for multiple testing
	Trials   float64 // what the p-value was multiplied by in that correction
	Tests    Tests
	Pattern  Pattern
	Cut      Cut
	// Arrangement is what Pattern rests on, and how the members are spread over networks and time.
	Arrangement Arrangement
	First       int64 // seconds since 1970-01-01 UTC
	Last        int64
	Networks    int // distinct /24 (IPv6: /48) of the members
	// Timeline is the coverage reached after each twentieth of the time from First to Last.
	Timeline []float64
	// Emerging marks an early report: less than Params.MinCoverage of the space is covered, and the campaign goes on. Its members
	// are those that are sure, not all.
	Emerging bool
	Why      []string // sentences that explain the campaign to a reader

	spans []span // of the universe that make up Space
}

// Group is a set of alike sources for which the traffic cannot tell.
type Group struct {
	Sources  []int // indices into Input.Sources
	Ports    []Port
	Tool     string
	Space    []netip.Prefix
	Coverage float64
	Expected float64 // coincidences expected of independent sources
	Observed float64
	// Meetings is how many independent meetings Expected amounts to: two blocks that meet share many cells at
	// once. Needed is the number from which on an absence of overlap would be proof.
	Meetings float64
	Needed   float64
	Why      string
}

// MarshalJSON writes tests that do not apply as null, because JSON has no NaN.
func (t Tests) MarshalJSON() ([]byte, error) {
	said := func(v float64) *float64 {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil
		}
		return &v
	}
	return json.Marshal(map[string]*float64{
		"blind": said(t.Blind), "held_out": said(t.HeldOut), "rotation": said(t.Rotation), "rotation_z": said(t.RotationZ),
		"searched": said(t.Searched), "stevens": said(t.Stevens), "focus": said(t.Focus), "seams": said(t.Seams),
	})
}
