package evaluate

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/detect"
	"murmuration/pkg/event"
)

const tcp, udp, icmp = int8(event.ProtoTCP), int8(event.ProtoUDP), int8(event.ProtoICMP)

// telescope is a hand-made input over a /24 and a day.
type telescope struct{ detect.Input }

func newTelescope() *telescope {
	t := &telescope{}
	t.Universe.Blocks = []detect.Block{{Prefix: netip.MustParsePrefix("198.18.0.0/24"), Size: 256}}
	t.End = 86400
	return t
}

// add adds a source and returns its number.
func (t *telescope) add(addr string, b detect.Behaviour, cells ...detect.Cell) int {
	t.Sources = append(t.Sources, detect.Source{Addr: netip.MustParseAddr(addr), Behaviour: b, Cells: cells})
	return len(t.Sources) - 1
}

// sweep is n cells on a port from a target on, one every so many seconds.
func sweep(proto int8, port uint16, target uint32, n int, from, every uint32) []detect.Cell {
	var out []detect.Cell
	for i := range uint32(n) {
		out = append(out, detect.Cell{Proto: proto, Port: port, Target: target + i, First: from + i*every, Last: from + i*every})
	}
	return out
}

func address(i int) string { return netip.AddrFrom4([4]byte{byte(i + 1), 7, 7, 7}).String() }

func TestThresholds(t *testing.T) {
	in := newTelescope()
	in.add(address(0), detect.Behaviour{}, sweep(tcp, 80, 0, 24, 0, 1)...) // One target short.
	in.add(address(1), detect.Behaviour{}, sweep(tcp, 80, 0, 25, 100, 12)...)
	in.add(address(2), detect.Behaviour{}, sweep(tcp, 80, 0, 25, 100, 13)...)                                      // 312 seconds.
	in.add(address(3), detect.Behaviour{}, append(sweep(tcp, 80, 0, 20, 0, 1), sweep(tcp, 81, 0, 20, 0, 1)...)...) // Two ports.
	in.add(address(4), detect.Behaviour{}, append(sweep(udp, 53, 0, 10, 0, 100), sweep(udp, 53, 100, 25, 5000, 1)...)...)
	objects := sweep(tcp, 80, 0, 30, 0, 1)
	for i := range objects {
		objects[i].Object = 1
	}
	in.add(address(5), detect.Behaviour{}, objects...)
	assert.Equal(t, [][]int{{1}, {4}}, Thresholds(&in.Input))
}

func TestDistributed(t *testing.T) {
	// Two sources take turns on ten ports of one address.
	probe := func(in *telescope, ports int, every uint32, proto int8) {
		a, b := in.add(address(0), detect.Behaviour{}), in.add(address(1), detect.Behaviour{})
		for i := range ports {
			s := []int{a, b}[i%2]
			in.Sources[s].Cells = append(in.Sources[s].Cells, detect.Cell{Proto: proto, Port: uint16(1 + i), Target: 9, First: uint32(i) * every, Last: uint32(i) * every})
		}
	}
	for name, tc := range map[string]struct {
		ports int
		every uint32
		proto int8
		want  [][]int
	}{
		"alarm":          {10, 60, tcp, [][]int{{0, 1}}},
		"nine ports":     {9, 60, tcp, nil},
		"too slow":       {10, 70, tcp, nil},
		"udp":            {10, 60, udp, [][]int{{0, 1}}},
		"icmp":           {10, 60, icmp, nil},
		"window restart": {30, 60, tcp, [][]int{{0, 1}, {0, 1}}}, // Ports 1 to 11, 12 to 22, and eight more.
	} {
		in := newTelescope()
		probe(in, tc.ports, tc.every, tc.proto)
		assert.Equal(t, tc.want, Distributed(&in.Input), name)
	}
	alone := newTelescope()
	s := alone.add(address(0), detect.Behaviour{})
	for i := range 20 {
		alone.Sources[s].Cells = append(alone.Sources[s].Cells, detect.Cell{Proto: tcp, Port: uint16(1 + i), Target: 9})
	}
	assert.Empty(t, Distributed(&alone.Input), "one source alone is a plain portscan")
	crowd := newTelescope()
	for i := range 210 {
		crowd.add(address(i), detect.Behaviour{}, detect.Cell{Proto: tcp, Port: uint16(1 + i/25), Target: 9, First: uint32(i), Last: uint32(i)})
	}
	assert.Empty(t, Distributed(&crowd.Input), "the tenth port comes with more than 200 sources")
}

func TestHourly(t *testing.T) {
	in := newTelescope()
	at := func(source string, port uint16, times ...uint32) {
		var cells []detect.Cell
		for i, s := range times {
			cells = append(cells, detect.Cell{Proto: tcp, Port: port, Target: uint32(i), First: s, Last: s})
		}
		in.add(source, detect.Behaviour{}, cells...)
	}
	for i := range 4 {
		at(address(i), 80, 0, 3600, 4*3600) // Alarms in the hours 0, 1 and 4 with the fifth source.
	}
	at(address(4), 80, 3599, 7199, 4*3600)
	at(address(5), 80, 3700)        // Joins in hour 1.
	at(address(6), 80, 2*3600)      // Alone in hour 2.
	at(address(7), 443, 0, 1, 2, 3) // One source, four times.
	assert.Equal(t, [][]int{{0, 1, 2, 3, 4, 5}, {0, 1, 2, 3, 4}}, Hourly(&in.Input))
}

func TestNetworks(t *testing.T) {
	in := newTelescope()
	for _, a := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.200", "192.0.3.1", "192.0.3.2", "2001:db8:1::1", "2001:db8:1:ffff::1", "2001:db8:1:2::3", "2001:db8:2::1"} {
		in.add(a, detect.Behaviour{}, sweep(tcp, 80, 0, 2, 0, 1)...)
	}
	in.add("192.0.3.3", detect.Behaviour{}, sweep(tcp, 443, 0, 1, 0, 1)...)
	in.Sources = append(in.Sources, detect.Source{Cells: sweep(tcp, 80, 0, 1, 0, 1)})
	assert.Equal(t, [][]int{{0, 1, 2}, {5, 6, 7}}, Networks(&in.Input))
}

// shares is eight sources that share out a /24, and four that repeat what others did.
func shares() *telescope {
	in := newTelescope()
	for i := range 8 {
		in.add(address(i), detect.Behaviour{Tool: "zmap"}, sweep(tcp, 80, uint32(32*i), 32, uint32(i), 1)...)
	}
	for i := range 4 {
		in.add(address(8+i), detect.Behaviour{Tool: "masscan"}, sweep(tcp, 80, uint32(60*i), 40, 40000, 1)...)
	}
	return in
}

func TestCover(t *testing.T) {
	in := shares()
	// A source of everything covers best, and is left out for that.
	in.add(address(20), detect.Behaviour{}, sweep(tcp, 80, 0, 256, 0, 1)...)
	found := Cover(&in.Input)
	require.NotEmpty(t, found)
	assert.NotContains(t, found[0], 12)
	few := newTelescope()
	for i := range 4 {
		few.add(address(i), detect.Behaviour{}, sweep(tcp, 80, uint32(64*i), 64, 0, 1)...)
	}
	assert.Empty(t, Cover(&few.Input), "four are too few")
	same := newTelescope()
	for i := range 8 {
		same.add(address(i), detect.Behaviour{}, sweep(tcp, 80, 0, 64, 0, 1)...)
	}
	assert.Empty(t, Cover(&same.Input), "a list of targets that all have")
	clean := shares()
	clean.Sources = clean.Sources[:8]
	assert.Equal(t, [][]int{{0, 1, 2, 3, 4, 5, 6, 7}}, Cover(&clean.Input))
}

func TestCoverOfObjects(t *testing.T) {
	in := newTelescope()
	for i := range 6 {
		var cells []detect.Cell
		for o := range uint32(10) {
			for target := range uint32(8) {
				if int(o*8+target)%6 == i {
					cells = append(cells, detect.Cell{Proto: tcp, Port: 80, Target: target, Object: o + 1})
				}
			}
		}
		in.add(address(i), detect.Behaviour{}, cells...)
	}
	in.Universe.Blocks[0].Size = 8
	assert.Equal(t, [][]int{{0, 1, 2, 3, 4, 5}}, Cover(&in.Input))
}

func TestDensity(t *testing.T) {
	in := shares()
	// Alike but for the time, alike but for the tool, alike but for the port.
	in.add(address(30), detect.Behaviour{Tool: "zmap"}, sweep(tcp, 80, 0, 32, 80000, 1)...)
	in.add(address(31), detect.Behaviour{Tool: "nmap"}, sweep(tcp, 80, 0, 32, 0, 1)...)
	in.add(address(32), detect.Behaviour{Tool: "zmap"}, sweep(tcp, 81, 0, 32, 0, 1)...)
	in.add(address(33), detect.Behaviour{Tool: "zmap"})
	assert.Equal(t, [][]int{{0, 1, 2, 3, 4, 5, 6, 7}}, Density(&in.Input))
}

// A chain of points is one cluster, its ends included although they have few neighbours; the point afar is noise.
func TestDensityChains(t *testing.T) {
	var points []conduct
	for i := range 20 {
		points = append(points, conduct{source: i, at: [4]float64{0.04 * float64(i)}})
	}
	points = append(points, conduct{source: 20, at: [4]float64{2}})
	clusters := dbscan(points, 0.1, 5)
	require.Len(t, clusters, 1)
	assert.Len(t, clusters[0], 20)
	assert.NotContains(t, clusters[0], 20)
}

func TestNaive(t *testing.T) {
	clean := shares()
	clean.Sources = clean.Sources[:8]
	found := suspicions(&clean.Input, 3)
	require.Len(t, found, 1)
	assert.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7}, found[0].sources)
	// 28 pairs of 32 cells each on 256 addresses would meet 112 times: e^-112 if nobody does, and one port was looked at.
	assert.InDelta(t, 112/2.302585093, found[0].evidence, 1e-6)
}

func TestPeelCounts(t *testing.T) {
	in := shares()
	s := surfaces(&in.Input)
	require.Len(t, s, 1)
	assert.Equal(t, 256.0, s[0].universe)
	assert.Equal(t, 256, s[0].distinct)
	assert.Len(t, s[0].sources, 12)
	_, best := peel(&surface{universe: 256, distinct: 2, sources: []int{0, 1}, cells: [][]int32{{0, 1}, {1}}})
	assert.Equal(t, meeting{expected: 2.0 / 256, observed: 1, covered: 2}, best)
}

func TestNothing(t *testing.T) {
	for _, b := range Baselines() {
		assert.Empty(t, b.Find(&detect.Input{}), b.Name)
		assert.NotEmpty(t, b.About, b.Name)
		assert.NotEmpty(t, b.Source, b.Name)
	}
}
