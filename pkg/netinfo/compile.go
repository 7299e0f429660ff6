package netinfo

import (
	"container/heap"
	"slices"
	"strings"

	"murmuration/pkg/event"
)

// Compile makes of the networks of several files one list of ranges, in order of their addresses, without overlaps. For each
// kind by itself the smallest network that covers an address counts (the longest prefix, where they are prefixes); of
// equally large ones that of the later file, and in one file the one that begins later, or stands later. Neighbours that say
// the same are one range as far as their Block reaches.
//
// It is a sweep over the ends of all networks with a heap a kind, O(n log n). The networks are put in order where they
// stand.
func Compile(files [][]Network) []Range {
	files = slices.Clone(files)
	for i, f := range files {
		files[i] = withoutIPv4(f)
	}
	for _, f := range files {
		// Stable, so that of equal networks the later line stays the later one.
		slices.SortStableFunc(f, func(a, b Network) int { return compare(a.First, b.First) })
	}
	s := sweep{files: files, at: make([]int, len(files))}
	var out []Range
	var now Range // what holds since the last end
	for _, end := range ends(files) {
		out = goOn(out, now, end)
		s.advance(end)
		now = Range{First: end, Fact: s.fact()}
		out = put(out, now)
	}
	return goOn(out, now, event.IP{})
}

// withoutIPv4 cuts the networks that reach around the IPv4 addresses into what is before and behind these.
func withoutIPv4(networks []Network) []Network {
	around := func(n Network) bool { return compare(n.First, firstIPv4) < 0 && compare(n.Last, lastIPv4) >= 0 }
	if !slices.ContainsFunc(networks, around) {
		return networks
	}
	out := make([]Network, 0, len(networks)+1)
	for _, n := range networks {
		if !around(n) {
			out = append(out, n)
			continue
		}
		low, high := n, n
		low.Last = before(firstIPv4)
		out = append(out, low)
		if compare(n.Last, lastIPv4) > 0 {
			high.First, _ = next(lastIPv4)
			out = append(out, high)
		}
	}
	return out
}

// put adds a range where it says something new of its block.
func put(out []Range, r Range) []Range {
	before := Fact{}
	if len(out) > 0 && Block(out[len(out)-1].First) == Block(r.First) {
		before = out[len(out)-1].Fact
	}
	if before == r.Fact {
		return out
	}
	return append(out, r)
}

// goOn says again what holds in every block that begins before end; the zero address is the end of all.
func goOn(out []Range, now Range, end event.IP) []Range {
	if now.Fact == (Fact{}) {
		return out
	}
	for {
		var ok bool
		if now.First, ok = nextBlock(now.First); !ok || end != (event.IP{}) && compare(now.First, end) >= 0 {
			return out
		}
		out = append(out, now)
	}
}

// ends returns the addresses where what is known may change.
func ends(files [][]Network) []event.IP {
	n := 0
	for _, f := range files {
		n += len(f)
	}
	out := make([]event.IP, 0, 2*n)
	for _, f := range files {
		for i := range f {
			out = append(out, f[i].First)
			if behind, ok := next(f[i].Last); ok {
				out = append(out, behind)
			}
		}
	}
	slices.SortFunc(out, compare)
	return slices.Compact(out)
}

// sweep walks up the address space.
type sweep struct {
	files                [][]Network
	at                   []int // how far each file was walked
	asn, country, benign nearest
}

// advance moves to an address: networks that begin come in, those that ended go.
func (s *sweep) advance(to event.IP) {
	for f, networks := range s.files {
		for ; s.at[f] < len(networks) && compare(networks[s.at[f]].First, to) <= 0; s.at[f]++ {
			n := &networks[s.at[f]]
			c := covering{Network: n, size: n.size(), file: f, line: s.at[f]}
			if n.ASN != 0 {
				heap.Push(&s.asn, c)
			}
			if n.Country != "" {
				heap.Push(&s.country, c)
			}
			if n.Benign != "" {
				heap.Push(&s.benign, c)
			}
		}
	}
	for _, h := range []*nearest{&s.asn, &s.country, &s.benign} {
		for len(*h) > 0 && compare((*h)[0].Last, to) < 0 {
			heap.Pop(h)
		}
	}
}

// fact is what is known at the address.
func (s *sweep) fact() (f Fact) {
	if len(s.asn) > 0 {
		f.ASN, f.ASName = s.asn[0].ASN, s.asn[0].ASName
	}
	if len(s.country) > 0 {
		f.Country = s.country[0].Country
	}
	if len(s.benign) > 0 {
		f.Benign = s.benign[0].Benign
	}
	return f
}

// covering is a network that the sweep is inside of, or was: what ended is taken out when it comes to the top.
type covering struct {
	*Network
	size       event.IP
	file, line int
}

// nearest is a heap whose top is the network that counts.
type nearest []covering

func (h nearest) Len() int      { return len(h) }
func (h nearest) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *nearest) Push(x any)   { *h = append(*h, x.(covering)) } //nolint:forcetypeassert // Nothing else is pushed.
func (h nearest) Less(i, j int) bool {
	a, b := &h[i], &h[j]
	if c := compare(a.size, b.size); c != 0 {
		return c < 0
	}
	if a.file != b.file {
		return a.file > b.file
	}
	return a.line > b.line
}

func (h *nearest) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

// JoinKinds writes the kinds of a file as one text, "asn country".
func JoinKinds(kinds []string) string { return strings.Join(kinds, " ") }
