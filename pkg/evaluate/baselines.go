package evaluate

import (
	"cmp"
	"container/heap"
	"net/netip"
	"slices"

	"murmuration/pkg/detect"
	"murmuration/pkg/event"
)

// Baseline is a method that the detector is compared with.
type Baseline struct {
	Name string
	// About says what it does; Source where it is from.
	About, Source string
	// Find returns what it reports: lists of indices into Input.Sources. It is a pure function of the input.
	Find func(in *detect.Input) [][]int
}

// Baselines returns the methods of comparison, in the order of the documentation. Where a rule leaves a choice, it is
// made in the rule's favour.
func Baselines() []Baseline {
	return []Baseline{
		{"threshold", "25 targets on a port in 5 minutes, source by source", "Zeek, policy/misc/scan: addr_scan_threshold 25, addr_scan_interval 5 min", Thresholds},
		{"distributed", "few sources, many ports of one target in 10 minutes", "Snort, sfPortscan: distributed portscan at sense_level high", Distributed},
		{"hourly", "at least 5 sources an hour on a port", "a rule of thumb of dashboards, without a paper", Hourly},
		{"networks", "at least 3 sources of one /24 on a port", "spatial uncleanliness: Collins et al., IMC 2007", Networks},
		{"cover", "greedy set cover of the targets of a port", "Gates, Coordinated Scan Detection, NDSS 2009", Cover},
		{"density", "DBSCAN on behaviour alone", "Ester et al., KDD 1996", Density},
		{"naive", "peel for low overlap, test on the same cells", "coverage clustering without hold-out", Naive},
	}
}

// port is one destination port of a protocol.
type port struct {
	proto int8
	port  uint16
}

// touch is one probe as far as footprints remember it: the first and the last of every cell.
type touch struct {
	at     uint32 // seconds after the start of the window
	source int
	target uint32
	port
}

// touches lists the first and last probes of all cells of ports (those of objects repeat them), in no particular order.
func touches(in *detect.Input) []touch {
	var out []touch
	for i := range in.Sources {
		for _, c := range in.Sources[i].Cells {
			if c.Object != 0 {
				continue
			}
			t := touch{c.First, i, c.Target, port{c.Proto, c.Port}}
			out = append(out, t)
			if c.Last != c.First {
				t.at = c.Last
				out = append(out, t)
			}
		}
	}
	return out
}

func comparePorts(a, b port) int {
	return cmp.Or(cmp.Compare(a.proto, b.proto), cmp.Compare(a.port, b.port))
}

// Thresholds reports every source that touched 25 addresses on one port within 5 minutes, each as a list of its own: the
// rule knows no groups. The figures are the defaults of Zeek's policy/misc/scan (addr_scan_threshold 25.0,
// addr_scan_interval 5 min), which counts failed connections: on a telescope every one fails. Zeek counts in fixed
// intervals; here the 5 minutes may begin anywhere, and UDP and ICMP count as well.
func Thresholds(in *detect.Input) [][]int {
	const targets, seconds = 25, 300
	var out [][]int
	for i := range in.Sources {
		times := map[port][]uint32{}
		for _, c := range in.Sources[i].Cells {
			if c.Object == 0 {
				k := port{c.Proto, c.Port}
				times[k] = append(times[k], c.First)
			}
		}
		for _, at := range times {
			slices.Sort(at)
			if slices.ContainsFunc(windows(at, targets), func(length uint32) bool { return length < seconds }) {
				out = append(out, []int{i})
				break
			}
		}
	}
	return out
}

// windows returns the lengths of all stretches of n consecutive times.
func windows(at []uint32, n int) []uint32 {
	var out []uint32
	for i := n - 1; i < len(at); i++ {
		out = append(out, at[i]-at[i-n+1])
	}
	return out
}

// Distributed is the rule for distributed portscans of Snort's sfPortscan at its most sensitive level
// (g_tcp_hi_dist_ps = {200, 5, 200, 10}, g_udp_hi_dist_ps = {200, 3, 200, 10}, 600 s): on one address at least 5 (UDP: 3)
// refused connections, at most 200 changes of the source and at least 10 changes of the port. The counters start with
// the first probe and are cleared by the first one after 600 s. In favour of the rule, every probe counts as refused,
// although a telescope refuses nothing. A list holds the sources of such a stretch; one source alone is a plain portscan.
func Distributed(in *detect.Input) [][]int {
	const seconds, mostSources, leastPorts = 600, 200, 10
	refused := map[int8]int{int8(event.ProtoTCP): 5, int8(event.ProtoUDP): 3}
	all := slices.DeleteFunc(touches(in), func(t touch) bool { return refused[t.proto] == 0 })
	slices.SortFunc(all, func(a, b touch) int {
		return cmp.Or(cmp.Compare(a.proto, b.proto), cmp.Compare(a.target, b.target), cmp.Compare(a.at, b.at), cmp.Compare(a.source, b.source), cmp.Compare(a.port.port, b.port.port))
	})
	var out [][]int
	for from := 0; from < len(all); {
		first := all[from]
		to, ports, changes, alarm := from, 0, 0, false
		for ; to < len(all) && all[to].proto == first.proto && all[to].target == first.target && all[to].at-first.at <= seconds; to++ {
			if to == from || all[to].source != all[to-1].source {
				changes++
			}
			if to == from || all[to].port != all[to-1].port {
				ports++
			}
			alarm = alarm || to-from+1 >= refused[first.proto] && changes <= mostSources && ports >= leastPorts
		}
		if list := sourcesOf(all[from:to]); alarm && len(list) > 1 {
			out = append(out, list)
		}
		from = to
	}
	return out
}

// sourcesOf returns the distinct sources, ascending.
func sourcesOf(t []touch) []int {
	out := make([]int, len(t))
	for i := range t {
		out[i] = t[i].source
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Hourly reports, port by port, the sources of hours with at least 5 of them. Alarms of hours that follow one another
// are one list.
func Hourly(in *detect.Input) [][]int {
	const least, hour = 5, 3600
	all := touches(in)
	slices.SortFunc(all, func(a, b touch) int {
		return cmp.Or(comparePorts(a.port, b.port), cmp.Compare(a.at/hour, b.at/hour))
	})
	var out [][]int
	open := -1 // The end of the last alarm in all, if another hour may go on with it.
	var last touch
	for from := 0; from < len(all); {
		to := from
		for to < len(all) && all[to].port == all[from].port && all[to].at/hour == all[from].at/hour {
			to++
		}
		list := sourcesOf(all[from:to])
		if len(list) >= least {
			if open == from && last.port == all[from].port && last.at/hour+1 == all[from].at/hour {
				merged := append(out[len(out)-1], list...)
				slices.Sort(merged)
				out[len(out)-1] = slices.Compact(merged)
			} else {
				out = append(out, list)
			}
			open, last = to, all[from]
		}
		from = to
	}
	return out
}

// Networks reports, port by port, at least 3 sources of one /24 (IPv6: /48). That neighbours misbehave together is the
// spatial uncleanliness of Collins et al., "Using uncleanliness to predict future botnet addresses", IMC 2007.
func Networks(in *detect.Input) [][]int {
	const least = 3
	type key struct {
		port
		net netip.Prefix
	}
	lists := map[key][]int{}
	for i := range in.Sources {
		bits := 24
		if in.Sources[i].Addr.Is6() {
			bits = 48
		}
		net, err := in.Sources[i].Addr.Prefix(bits)
		if err != nil {
			continue // A source without an address has no neighbours.
		}
		for _, c := range in.Sources[i].Cells {
			k := key{port{c.Proto, c.Port}, net}
			if l := lists[k]; len(l) == 0 || l[len(l)-1] != i {
				lists[k] = append(l, i)
			}
		}
	}
	var out [][]int
	for _, l := range lists {
		if len(l) >= least {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, slices.Compare[[]int])
	return slices.CompactFunc(out, slices.Equal[[]int])
}

// Cover is the set-cover detector of Gates, "Coordinated Scan Detection", NDSS 2009, in its outline: port by port, take
// the source that adds the most cells less those that others have already (Grossman and Wool's greedy for covers with
// little overlap, EJOR 1997), passing over those that repeat more than a fifth of their cells. What was taken is a
// campaign if at least 5 sources cover at least a fifth of the space; it is set aside, and the rest is searched
// again. Sources that cover 40 % alone are left out, as in the detector.
func Cover(in *detect.Input) [][]int {
	const least, coverage, wide = 5, 0.2, 0.4
	var out [][]int
	for _, s := range surfaces(in) {
		s = s.narrow(wide)
		for len(s.sources) >= least {
			taken, covered := greedy(s)
			if len(taken) < least || float64(covered) < coverage*s.universe {
				break
			}
			drop := make([]bool, len(s.sources))
			list := make([]int, len(taken))
			for i, k := range taken {
				drop[k], list[i] = true, s.sources[k]
			}
			out = append(out, list)
			s = s.without(drop)
		}
	}
	return out
}

// candidate is a source with what it would add at most.
type candidate struct{ gain, at int }

type candidates []candidate

func (c candidates) Len() int      { return len(c) }
func (c candidates) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c candidates) Less(i, j int) bool {
	return c[i].gain > c[j].gain || c[i].gain == c[j].gain && c[i].at < c[j].at
}
func (c *candidates) Push(x any) { *c = append(*c, x.(candidate)) }
func (c *candidates) Pop() any {
	old := *c
	x := old[len(old)-1]
	*c = old[:len(old)-1]
	return x
}

// greedy takes sources of the surface by what they add. Gains only ever fall, so the heap may hold old ones and only
// its top is worked out again.
func greedy(s *surface) (taken []int, covered int) {
	const repeated = 0.2
	done := make([]bool, s.distinct)
	queue := make(candidates, len(s.sources))
	for k, cells := range s.cells {
		queue[k] = candidate{len(cells), k}
	}
	heap.Init(&queue)
	for len(queue) > 0 {
		k := queue[0].at
		fresh, all := 0, len(s.cells[k])
		for _, c := range s.cells[k] {
			if !done[c] {
				fresh++
			}
		}
		if float64(all-fresh) > repeated*float64(all) {
			heap.Pop(&queue)
			continue
		}
		if gain := 2*fresh - all; gain < queue[0].gain {
			queue[0].gain = gain
			heap.Fix(&queue, 0)
			continue
		}
		heap.Pop(&queue)
		for _, c := range s.cells[k] {
			done[c] = true
		}
		taken, covered = append(taken, k), covered+fresh
	}
	return taken, covered
}
