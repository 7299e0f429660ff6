package detect

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
)

// Arrangement is how the members of a campaign lie in time and over networks, with the numbers that its three words rest on. The
// rules are in docs/design/detection.md.
type Arrangement struct {
	Spread Spread
	Tempo  Tempo
	// Largest is the network (/24, /48) with most members, InLargest how many. Effective counts networks by their shares:
	// 1/Σ share², which is 1 if all members are in one and the number of networks if all have as many.
	Largest   netip.Prefix
	InLargest int
	Effective float64
	// Together is the number of members at work at one time, the mean over the time in which any is.
	Together float64
	// Handovers is the number of members that began near the end of another one, every end counted once: within a tenth, a
	// thirtieth or a hundredth of a usual stint, whichever is least like chance. ByChance is how many do if members begin at random.
	Handovers int
	ByChance  float64
	Stint     int64   // seconds from the first to the last touch of a member, median
	Pace      float64 // cells that a member touches a day of its stint, median; stints count an hour at least
}

// Spread says how the members are spread over networks.
type Spread string

// The spreads.
const (
	SpreadFarm      Spread = "farm"      // in one network, or two: one operator's machines side by side
	SpreadClustered Spread = "clustered" // in a few networks with several each
	SpreadWide      Spread = "wide"      // most members are alone in their network
)

// Tempo says how a campaign spends its time.
type Tempo string

// The tempos.
const (
	TempoDrip   Tempo = "drip"   // members touch a cell or two a day for a week or longer
	TempoBurst  Tempo = "burst"  // nine tenths of what was covered were within a twentieth of the life
	TempoSteady Tempo = "steady" // neither
)

// SpreadOver tells the spread of members from how many of them each network has. It serves networks of any kind: /24s, or autonomous
// systems where they are known. Effective is as in Arrangement.
func SpreadOver(sizes []int) (s Spread, effective float64) {
	var n, squares, most float64
	for _, k := range sizes {
		n += float64(k)
		squares += float64(k) * float64(k)
		most = math.Max(most, float64(k))
	}
	if n == 0 {
		return SpreadWide, 0
	}
	effective = n * n / squares
	switch {
	case n >= 3 && (most >= 0.8*n || effective <= 2):
		return SpreadFarm, effective
	case effective <= n/3:
		return SpreadClustered, effective
	}
	return SpreadWide, effective
}

// arrange fills the campaign's Pattern and Arrangement from its members and its timeline.
func (c *Campaign) arrange() {
	a := &c.Arrangement
	sizes := map[netip.Prefix]int{}
	for i := range c.Members {
		sizes[networkOf(c.Members[i].Addr)]++
	}
	var counts []int
	for p, n := range sizes {
		counts = append(counts, n)
		if n > a.InLargest || n == a.InLargest && p.Addr().Less(a.Largest.Addr()) {
			a.Largest, a.InLargest = p, n
		}
	}
	a.Spread, a.Effective = SpreadOver(counts)
	c.Pattern, a.Together = pattern(c.Members)
	a.Stint, a.Pace = paces(c.Members)
	a.Handovers, a.ByChance = handovers(c.Members, a.Stint)
	if c.Pattern == PatternParallel && a.relay(len(c.Members)) {
		c.Pattern = PatternRelay
	}
	a.Tempo = tempo(a, c.Timeline)
}

// networkOf is the /24 or /48 of an address.
func networkOf(a netip.Addr) netip.Prefix {
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.PrefixFrom(a, a.BitLen())
	}
	return p
}

// pattern tells the members' order in time from their activity intervals, and how many are at work at one time.
func pattern(members []Member) (Pattern, float64) {
	type edge struct {
		at int64
		d  int
	}
	var edges []edge
	var busy, start, end int64 = 0, math.MaxInt64, math.MinInt64
	for _, m := range members {
		edges = append(edges, edge{m.First, 1}, edge{m.Last + 1, -1})
		busy += m.Last + 1 - m.First
		start, end = min(start, m.First), max(end, m.Last+1)
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.d, b.d)) })
	var shared, any int64
	n := 0
	for i, e := range edges {
		if i > 0 {
			d := e.at - edges[i-1].at
			if n > 0 {
				any += d
			}
			if n > 1 {
				shared += d
			}
		}
		n += e.d
	}
	together := float64(busy) / math.Max(1, float64(any))
	switch {
	// One at a time although together they fill the time: an address change, not a crowd.
	case 20*shared <= any && 2*busy >= end-start:
		return PatternRotating, together
	case 20*shared <= any:
		return PatternBursts, together
	}
	return PatternParallel, together
}

// paces returns the median stint in seconds and the median of cells a day.
func paces(members []Member) (stint int64, pace float64) {
	const hour, day = 3600, 86400
	stints := make([]int64, 0, len(members))
	rates := make([]float64, 0, len(members))
	for _, m := range members {
		d := max(0, m.Last-m.First)
		stints = append(stints, d)
		rates = append(rates, float64(m.Cells)*day/float64(max(d, hour)))
	}
	if len(stints) == 0 {
		return 0, 0
	}
	slices.Sort(stints)
	slices.Sort(rates)
	return stints[len(stints)/2], rates[len(rates)/2]
}

// nearness are the shares of a usual stint within which a beginning is a handover; the one that says most counts.
func nearness() []int64 { return []int64{10, 30, 100} }

// handovers counts the members that began about when another one ended, and how many would by chance: if members began at random in
// the campaign's life.
func handovers(members []Member, stint int64) (seen int, byChance float64) {
	var begins, ends []int64
	for _, m := range members {
		begins, ends = append(begins, m.First), append(ends, m.Last)
	}
	slices.Sort(begins)
	slices.Sort(ends)
	best := -1.0
	for _, share := range nearness() {
		near := stint / share
		if near == 0 {
			break
		}
		n := taken(begins, ends, near)
		life := float64(ends[len(ends)-1] - begins[0])
		m := float64(len(members))
		chance := m * -math.Expm1(-m*2*float64(near)/math.Max(1, life))
		if e := poissonAbove(chance, float64(n)); e > best {
			best, seen, byChance = e, n, chance
		}
	}
	return seen, byChance
}

// taken counts the beginnings that are near an end, every end taken once.
func taken(begins, ends []int64, near int64) int {
	n, e := 0, 0
	for _, b := range begins {
		for e < len(ends) && ends[e] < b-near {
			e++
		}
		if e < len(ends) && ends[e] <= b+near {
			n++
			e++
		}
	}
	return n
}

// relay: nearly everyone who could take over from somebody did, at least twice as many as by chance, and by a Poisson law never by
// chance. Who began first in each chain took over from nobody.
func (a *Arrangement) relay(members int) bool {
	const never = 4 // digits
	could := float64(members) - math.Max(1, math.Round(a.Together))
	seen := float64(a.Handovers)
	return could >= 4 && seen >= 0.7*could && seen >= 2*a.ByChance && poissonAbove(a.ByChance, seen)-math.Log10(float64(len(nearness()))) >= never
}

// poissonAbove is -log10 of Chernoff's bound of P(X ≥ seen) for a Poisson variable.
func poissonAbove(mean, seen float64) float64 {
	if seen <= mean {
		return 0
	}
	if mean <= 0 {
		return math.Inf(1)
	}
	return (mean - seen + seen*math.Log(seen/mean)) / math.Ln10
}

// tempo tells how a campaign spends its time.
func tempo(a *Arrangement, timeline []float64) Tempo {
	const week, few = 7 * 86400, 2.0
	if a.Stint >= week && a.Pace <= few {
		return TempoDrip
	}
	if len(timeline) == 0 {
		return TempoSteady
	}
	last, jump := 0.0, 0.0
	for _, c := range timeline {
		jump = math.Max(jump, c-last)
		last = c
	}
	if jump >= 0.9*last {
		return TempoBurst
	}
	return TempoSteady
}
