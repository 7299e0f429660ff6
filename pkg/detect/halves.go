package detect

// maxHalf bounds the cells in either half of a held-out test: larger groups are tested on a sample of the addresses.
const maxHalf = 1 << 20

// halves splits the addresses of the arena into two by a hash over chunks of 1<<shift addresses and cuts
// every foot in two. It returns the number of addresses in each half, and for each address of the arena 1 where it is in that half. What it returns lasts
// until the next call on the same counters.
func (a *arena) halves(seed uint64, shift uint, chosen []int) (fold [2][]foot, addresses [2]float64, in [2][]uint8) {
	part := 0.5
	if n := float64(cellsOf(a.feet, chosen)); n > 2*maxHalf {
		part = maxHalf / n
	}
	table := a.split(sideKey{seed, shift, part})
	cells := cellsOf(a.feet, chosen)
	rooms := [2]*foldRoom{a.work.fold[0].empty(len(a.feet), cells), a.work.fold[1].empty(len(a.feet), cells)}
	for _, i := range chosen {
		a.foldFoot(i, table.of, rooms)
	}
	return [2][]foot{rooms[0].feet, rooms[1].feet}, table.addresses, table.in
}

// foldFoot cuts one foot in two.
func (a *arena) foldFoot(i int, side []uint8, rooms [2]*foldRoom) {
	left, right := rooms[0].cells, rooms[1].cells
	from := [2]int{len(left), len(right)}
	rest := a.feet[i].cells
	for _, k := range a.feet[i].keys {
		base := k.key * a.width
		for _, c := range rest[:int(k.n)] {
			switch side[c-base] {
			case 0:
				left = append(left, c)
			case 1:
				right = append(right, c)
			}
		}
		rest = rest[int(k.n):]
	}
	rooms[0].cells, rooms[1].cells = left, right
	for h, r := range rooms {
		cells := r.cells[from[h]:len(r.cells):len(r.cells)]
		at := len(r.keys)
		r.keys = a.tallyKeys(r.keys, cells)
		r.feet[i] = foot{cells, r.keys[at:len(r.keys):len(r.keys)]}
	}
}

// split deals out the addresses.
func (a *arena) split(k sideKey) *sideTable {
	a.sides.mu.Lock()
	defer a.sides.mu.Unlock()
	if t := a.sides.known[k]; t != nil {
		return t
	}
	t := &sideTable{of: make([]uint8, a.width), in: [2][]uint8{make([]uint8, a.width), make([]uint8, a.width)}}
	var h uint8
	for i := range t.of {
		if i&(1<<k.shift-1) == 0 {
			u := float64(hash(k.seed, uint64(i>>k.shift))) / (1 << 64)
			h = uint8(min(2, int(u/k.part)))
		}
		if t.of[i] = h; h < 2 {
			t.in[h][i] = 1
			t.addresses[h]++
		}
	}
	a.sides.known[k] = t
	return t
}
