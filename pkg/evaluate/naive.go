package evaluate

import (
	"cmp"
	"math"
	"slices"

	"murmuration/pkg/detect"
)

// suspicion is what the naive method takes for a campaign.
type suspicion struct {
	sources  []int
	evidence float64 // -log10 p, times the number of surfaces, as if nothing had been chosen
}

// Naive is coverage clustering with its central mistake left in: port by port, the sources that meet others most are
// dropped until hardly anybody meets (Charikar's peeling, APPROX 2000), and the rest is tested on the very cells it was
// chosen by. It has the detector's limits (5 sources, a fifth of the space covered, overlap at most 0.6 of what is
// expected, nobody with 40 % alone, evidence 3) and pays for the number of ports. What was found is set aside and
// the rest searched again.
func Naive(in *detect.Input) [][]int {
	var out [][]int
	for _, s := range suspicions(in, 3) {
		out = append(out, s.sources)
	}
	return out
}

// suspicions returns what the naive method finds with at least the given evidence.
func suspicions(in *detect.Input, least float64) []suspicion {
	const minSources, coverage, overlap, wide = 5, 0.2, 0.6, 0.4
	all := surfaces(in)
	paid := math.Log10(float64(max(1, len(all))))
	var out []suspicion
	for _, s := range all {
		s = s.narrow(wide)
		for len(s.sources) >= minSources {
			kept, p := peel(s)
			if len(kept) < minSources || p.covered < coverage*s.universe || p.observed > overlap*p.expected || p.evidence()-paid < least {
				break
			}
			drop := make([]bool, len(s.sources))
			found := suspicion{evidence: p.evidence() - paid}
			for _, k := range kept {
				drop[k] = true
				found.sources = append(found.sources, s.sources[k])
			}
			out = append(out, found)
			s = s.without(drop)
		}
	}
	return out
}

// meeting counts how often the sources of a set meet, and how often they would if each chose its cells by itself.
type meeting struct{ expected, observed, covered float64 }

func (m meeting) evidence() float64 { return lowerTail(m.expected, m.observed) }

// peel drops the sources that meet others most beyond expectation, a fiftieth (at least one) at a time, and returns the
// round with the greatest evidence.
func peel(s *surface) (kept []int, best meeting) {
	count := make([]int32, s.distinct)
	var m meeting
	var sum, squares float64
	alive := make([]int, len(s.sources))
	add := func(k int, by int32) {
		n := float64(len(s.cells[k]))
		sum, squares = sum+float64(by)*n, squares+float64(by)*n*n
		for _, c := range s.cells[k] {
			if by < 0 {
				count[c]--
			}
			m.observed += float64(by) * float64(count[c])
			if count[c] == 0 {
				m.covered += float64(by)
			}
			if by > 0 {
				count[c]++
			}
		}
		m.expected = (sum*sum - squares) / (2 * s.universe)
	}
	for k := range s.sources {
		alive[k] = k
		add(k, 1)
	}
	excess := make([]float64, len(s.sources))
	best, kept = m, slices.Clone(alive)
	for len(alive) > 2 {
		for _, k := range alive {
			n := float64(len(s.cells[k]))
			excess[k] = -n * (sum - n) / s.universe
			for _, c := range s.cells[k] {
				excess[k] += float64(count[c] - 1)
			}
		}
		slices.SortFunc(alive, func(a, b int) int { return cmp.Or(cmp.Compare(excess[a], excess[b]), cmp.Compare(a, b)) })
		last := len(alive) - max(1, len(alive)/50)
		for _, k := range alive[last:] {
			add(k, -1)
		}
		alive = alive[:last]
		if m.evidence() > best.evidence() {
			best, kept = m, slices.Clone(alive)
		}
	}
	slices.Sort(kept)
	return kept, best
}
