package detect

import (
	"math"
	"sync"
)

// survey is a first look at a group, which decides what is worth a test. It decides nothing about evidence: every group
// that could be tested is paid for, whether the survey lets it through or not.
type survey struct {
	expected, observed float64
	// hopeful says that enough sources meet the rest less than chance has it that a search among them could find
	// members. A member meets the others of a campaign hardly at all and strangers as chance has it, whatever
	// these aim at; with n cells among λ sources per cell that puts it up to √(n/λ) standard deviations below
	// expectation. Where so many sources touch every cell that nobody stands out, no search could tell.
	hopeful bool
	// scaled is Chernoff's bound where the coincidences of run with run count as one, a guess at what the
	// rotation null will say.
	scaled float64
}

// apart tells whether the group meets so little that it could prove something as it stands. The margins allow for a
// survey of a sample, and for the guess at clumps to be wrong by a factor of three.
func (s survey) apart() bool {
	return s.observed <= 1.2*maxBlind*s.expected && (3*s.scaled >= minTiling || s.expected < minExpected)
}

// maxSurveyed bounds the cells that a survey counts: of larger groups it looks at one address in sixteen.
const maxSurveyed = 1 << 21

// thinned is an arena's feet on one address in sixteen, made when it is first asked for.
type thinned struct {
	once  sync.Once
	feet  []foot
	width float64 // addresses
}

const thinness = 16

// sample returns the feet cut to a fixed sixteenth of the addresses.
func (a *arena) sample() *thinned {
	a.thin.once.Do(func() {
		a.thin.feet = make([]foot, len(a.feet))
		in := make([]bool, a.width)
		for i := range in {
			if in[i] = hash(uint64(a.span.lo)+uint64(i))%thinness == 0; in[i] {
				a.thin.width++
			}
		}
		for i := range a.feet {
			var cells []uint32
			rest := a.feet[i].cells
			for _, k := range a.feet[i].keys {
				for _, c := range rest[:int(k.n)] {
					if in[c-k.key*a.width] {
						cells = append(cells, c)
					}
				}
				rest = rest[int(k.n):]
			}
			a.thin.feet[i] = foot{cells, a.tallyKeys(nil, cells)}
		}
	})
	return a.thin
}

// look surveys the chosen feet.
func (a *arena) look(chosen []int) survey {
	feet, n, scale := a.feet, float64(a.width), 1.0
	if cellsOf(feet, chosen) > maxSurveyed {
		if t := a.sample(); t.width > 0 {
			feet, n, scale = t.feet, t.width, float64(a.width)/t.width
		}
	}
	s := survey{observed: a.enter(feet, chosen)}
	clump := a.clumps(feet, chosen)
	var below [3]float64
	var clumped, able float64
	for _, i := range chosen {
		e := a.expects(&feet[i], 1, n)
		s.expected += e / 2
		phi := clump(i)
		clumped += e / 2 * phi
		cells := float64(len(feet[i].cells))
		if e > cells*cells {
			continue // With λ > n it could not stand out, member or not.
		}
		able++
		o := float64(a.met(feet[i].cells)) - cells
		z := (o - e) / math.Sqrt(phi*(e+phi))
		for d := range below {
			if z < -float64(d+1) {
				below[d]++
			}
		}
	}
	a.wipe(feet, chosen)
	for d, share := range [3]float64{0.159, 0.0228, 0.00135} {
		chance := share * able
		s.hopeful = s.hopeful || below[d] > chance+2*math.Sqrt(chance)+2
	}
	if s.expected > 0 {
		phi := clumped / s.expected
		s.scaled = chernoffBelow(s.expected/phi, s.observed/phi)
	}
	s.expected, s.observed = s.expected*scale, s.observed*scale
	return s
}

// clumps returns how many cells a foot of the group shares at once where it meets somebody: 1 for scattered cells, of runs the
// length of the shorter one.
func (a *arena) clumps(feet []foot, chosen []int) func(i int) float64 {
	var runs, cells, length float64
	for _, i := range chosen {
		n := float64(len(feet[i].cells))
		cells += n
		if a.runs[i] > 0 {
			runs += n
			length += n * float64(a.runs[i])
		}
	}
	mean := length / max(1, runs)
	return func(i int) float64 {
		if a.runs[i] == 0 {
			return 1
		}
		return 1 + runs/cells*(min(mean, float64(a.runs[i]))-1)
	}
}
