package simulate

import (
	"murmuration/pkg/detect"
	"murmuration/pkg/event"
)

// Plan is how a campaign shares out its space.
type Plan struct {
	Name    string
	Members int
	Proto   event.Proto // 0 is TCP
	Ports   []uint16
	Lo, Hi  uint32 // ranks aimed at; both 0: the whole telescope
	Cut     detect.Cut
	Tools   []detect.Behaviour // members take turns
	Share   float64            // of the window that it lasts; 0 is half
	// Coverage is the share of the space that is shared out at all; 0 is all of it.
	Coverage float64
	Loss     float64 // share of touches that the telescope misses
	Overlap  float64 // share of cells that another member touches again
	Unequal  bool    // members' shares differ by up to a factor of ten
	Late     bool    // members join one after the other; the space is shared out among those who come
	Rotating bool    // one host: members follow one another without a break
	Relay    int     // members form so many chains, and in each one takes over when another ends
	Farm     bool    // members are addresses of one /24
	Short    bool    // each member is active for a small part of the campaign only
	Sweeps   int     // times that the whole space is covered, each with a fresh assignment; 0 is 1
	Twins    int     // members that repeat another member's share
	Others   bool    // members also do things of their own
	Objects  int     // paths shared out on every address
	// Crossed shares out at random and not as a partition: every member draws for itself.
	Crossed bool
	// Undecidable marks a campaign that nobody can prove.
	Undecidable bool
}

// campaign adds the plan's members and traffic.
func (b *builder) campaign(p Plan) {
	if p.Hi == 0 {
		p.Hi = b.total
	}
	if p.Proto == 0 {
		p.Proto = event.ProtoTCP
	}
	if p.Share == 0 {
		p.Share = 0.5
	}
	from, to := b.span(p.Share)
	t := Truth{Name: p.Name, Decidable: !p.Undecidable}
	for i := range p.Members + p.Twins {
		t.Sources = append(t.Sources, b.source(p.Tools[i%len(p.Tools)]))
	}
	if p.Farm {
		b.neighbours(t.Sources)
	}
	objects := []uint32{0}
	if p.Objects > 0 {
		objects = b.objects(p.Objects)
	}
	sweeps := max(1, p.Sweeps)
	for k := range sweeps {
		a := from + (to-from)*float64(k)/float64(sweeps)
		z := from + (to-from)*float64(k+1)/float64(sweeps)
		b.round(p, t.Sources, objects, a, z)
	}
	if p.Others {
		for _, s := range t.Sources {
			b.sample(s, event.ProtoTCP, []uint16{b.port()}, 0, b.total, b.heavy(float64(b.total)/64), from, to)
		}
	}
	b.w.Truth = append(b.w.Truth, t)
}

// objects makes sure that n paths exist and returns their numbers.
func (b *builder) objects(n int) []uint32 {
	for len(b.w.Objects) <= n {
		k := len(b.w.Objects)
		method := "GET"
		if k%3 == 0 {
			method = "HEAD"
		}
		b.w.Objects = append(b.w.Objects, Object{method, "/p" + string(rune('a'+k%26)) + string(rune('a'+k/26%26))})
	}
	out := make([]uint32, n)
	for i := range out {
		out[i] = uint32(i + 1)
	}
	return out
}

// place is one cell to be shared out.
type place struct {
	target, object uint32
	port           uint16
}

// round shares the space out once.
func (b *builder) round(p Plan, members []int, objects []uint32, from, to float64) {
	var places []place
	for _, port := range p.Ports {
		for t := p.Lo; t < p.Hi; t++ {
			for _, o := range objects {
				places = append(places, place{t, o, port})
			}
		}
	}
	n := p.Members
	start, end := b.schedule(p, len(members), from, to)
	hit := func(i int, c place) {
		if b.rng.Float64() >= p.Loss {
			at := b.within(start[i], end[i])
			b.touch(members[i], p.Proto, c.port, c.target, c.object, at)
			if c.object != 0 {
				b.touch(members[i], p.Proto, c.port, c.target, 0, at)
			}
		}
	}
	if p.Crossed {
		for i := range members {
			for range len(places) / n {
				hit(i, places[b.rng.IntN(len(places))])
			}
		}
		return
	}
	owner := b.assign(p, places, n)
	for k, c := range places {
		i := owner[k]
		if i < 0 {
			continue
		}
		hit(i, c)
		if i < p.Twins {
			hit(n+i, c)
		}
		if b.rng.Float64() < p.Overlap {
			// Whoever works more also repeats more.
			if again := owner[b.rng.IntN(len(owner))]; again >= 0 {
				hit(again, c)
			}
		}
	}
}

// assign says which member takes each place; -1 is nobody.
func (b *builder) assign(p Plan, places []place, n int) []int {
	weight := make([]float64, n)
	var sum float64
	for i := range weight {
		weight[i] = 1
		if p.Unequal {
			weight[i] = 1 + 9*b.rng.Float64()*b.rng.Float64()
		}
		sum += weight[i]
	}
	covered := len(places)
	if p.Coverage > 0 {
		covered = int(p.Coverage * float64(covered))
	}
	slots := make([]int, len(places))
	at, acc := 0, weight[0]
	for k := range slots {
		for float64(k) >= acc/sum*float64(covered) && at < n-1 {
			at++
			acc += weight[at]
		}
		slots[k] = at
		if k >= covered {
			slots[k] = -1
		}
	}
	owner := make([]int, len(places))
	perPort := len(places) / len(p.Ports)
	switch p.Cut {
	case detect.CutRanges:
		// Ranges of addresses, the same on every port.
		size := perPort
		for k := range places {
			owner[k] = slots[min(len(slots)-1, (k%size)*len(p.Ports))]
		}
	case detect.CutResidues:
		for k := range places {
			owner[k] = k % perPort % n
		}
	case detect.CutPorts:
		copy(owner, slots)
	default:
		for k, at := range b.rng.Perm(len(places)) {
			owner[at] = slots[k]
		}
	}
	return owner
}

// schedule draws when each member is active.
func (b *builder) schedule(p Plan, n int, from, to float64) (start, end []float64) {
	start, end = make([]float64, n), make([]float64, n)
	order := b.rng.Perm(n)
	for i := range n {
		start[i], end[i] = from, to
		k := float64(order[i])
		switch {
		case p.Rotating:
			step := (to - from) / float64(n)
			start[i], end[i] = from+k*step, from+(k+0.98)*step
		case p.Relay > 0:
			// Chains do not change hands at the same time.
			chain, at := order[i]%p.Relay, order[i]/p.Relay
			length := (n - chain + p.Relay - 1) / p.Relay
			step := (to - from) / (float64(length) + 0.5)
			first := from + step*0.5*float64(chain)/float64(p.Relay)
			start[i], end[i] = first+float64(at)*step, first+float64(at+1)*step
		case p.Late:
			start[i] = from + (to-from)*0.8*k/float64(n)
		case p.Short:
			length := (to - from) * (0.01 + 0.1*b.rng.Float64())
			start[i] = from + b.rng.Float64()*(to-from-length)
			end[i] = start[i] + length
		}
	}
	return start, end
}

// anyPlan draws a campaign: which part of the telescope, how many members, how it is cut, how clean it is. Its ports differ
// from those of the other numbers, so that one campaign does not hide in another's crowd.
func (b *builder) anyPlan(number int) Plan {
	p := Plan{Name: string(rune('a' + number)), Share: 0.05 + 0.9*b.rng.Float64()}
	bits := 9 + b.rng.IntN(6) // a /23 to the whole /18
	size := uint32(1) << bits
	block := b.w.Input.Universe.Blocks[0]
	size = min(size, block.Size)
	p.Lo = block.First + b.rng.Uint32N(block.Size/size)*size
	p.Hi = p.Lo + size
	p.Ports = popular[number : number+1]
	if b.rng.IntN(3) == 0 {
		p.Ports = []uint16{popular[number], popular[number+8], uint16(10000 + number)}
	}
	switch b.rng.IntN(4) {
	case 0:
		p.Cut = detect.CutRanges
		p.Members = 20 + b.rng.IntN(40)
		p.Short = true
	default:
		p.Cut = detect.CutRandom
		p.Members = 8 + b.rng.IntN(60)
		p.Short = b.rng.IntN(2) == 0
		p.Unequal = b.rng.IntN(2) == 0
		p.Late = !p.Short && b.rng.IntN(3) == 0
		p.Loss = 0.3 * b.rng.Float64() * float64(b.rng.IntN(2))
		p.Overlap = 0.2 * b.rng.Float64() * float64(b.rng.IntN(2))
	}
	all := []detect.Behaviour{masscan(), zmap(), plain(), mirai(), nmap()}
	p.Tools = tools(all[b.rng.IntN(len(all))])
	if b.rng.IntN(4) == 0 {
		p.Tools = append(p.Tools, all[b.rng.IntN(len(all))])
	}
	return p
}
