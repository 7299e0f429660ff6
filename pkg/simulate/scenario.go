package simulate

import (
	"fmt"
	"slices"

	"murmuration/pkg/detect"
	"murmuration/pkg/event"
)

// Scenario is one kind of world.
type Scenario struct {
	Name  string
	About string
	build func(b *builder)
	// days and telescope of its worlds.
	days     int
	prefixes []string
}

// Names returns the names of all scenarios, in their order in the documentation.
func Names() []string {
	var out []string
	for _, s := range scenarios() {
		out = append(out, s.Name)
	}
	return out
}

// Find returns the scenario with this name.
func Find(name string) (Scenario, error) {
	all := scenarios()
	i := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, fmt.Errorf("no scenario %q, there are %v", name, Names())
	}
	return all[i], nil
}

// Build makes the scenario's world for a seed. Scale multiplies the number of background sources; 1 is a few
// thousand. Campaigns keep their size.
func (s Scenario) Build(seed uint64, scale float64) *World {
	b := newBuilder(seed, scale, s.days, s.prefixes...)
	s.build(b)
	return b.done()
}

const (
	slash18 = "198.18.0.0/18"
	slash20 = "198.18.0.0/20"
	slash28 = "198.19.0.16/28"
	slash24 = "203.0.113.0/24"
)

var thirteen = []uint16{21, 22, 23, 25, 53, 80, 110, 111, 139, 443, 445, 1433, 3389}

func tools(b ...detect.Behaviour) []detect.Behaviour { return b }

func scenarios() []Scenario {
	s := func(name, about string, build func(b *builder)) Scenario {
		return Scenario{name, about, build, 90, []string{slash18, slash28}}
	}
	on := func(s Scenario, days int, prefixes ...string) Scenario {
		s.days, s.prefixes = days, prefixes
		return s
	}
	crowd := func(b *builder) { b.background(b.count(1500)) }
	// with is a campaign in the usual background.
	with := func(plans ...Plan) func(b *builder) {
		return func(b *builder) {
			crowd(b)
			for _, p := range plans {
				b.campaign(p)
			}
		}
	}
	plain80 := Plan{Name: "a", Members: 60, Ports: []uint16{80}, Tools: tools(zmap()), Hi: 16384}
	alter := func(f func(p *Plan)) Plan {
		p := plain80
		f(&p)
		return p
	}
	return []Scenario{
		s("founding", "200 range sources over 13 ports and 400 random shards on port 80", with(
			Plan{Name: "ranges", Members: 200, Ports: thirteen, Tools: tools(masscan()), Cut: detect.CutRanges, Hi: 16384, Short: true},
			Plan{Name: "shards", Members: 400, Ports: []uint16{80}, Tools: tools(zmap()), Hi: 16384})),
		s("none", "no campaign at all, and every decoy", func(b *builder) { crowd(b); b.decoys(); b.readers(b.count(60)) }),
		s("crowds", "no campaign, and independent sources in every shape that a careless test takes for one", func(b *builder) { crowd(b); b.crowds() }),
		s("plain", "60 random shards of one port", with(plain80)),
		s("decoys", "60 random shards among every decoy", func(b *builder) { crowd(b); b.decoys(); b.campaign(plain80) }),
		s("crowd", "100 members in a tenfold crowd with the same tool and port", func(b *builder) {
			crowd(b)
			for range 1000 {
				b.sampler(zmap(), event.ProtoTCP, []uint16{80}, 164)
			}
			b.campaign(alter(func(p *Plan) { p.Members = 100 }))
		}),
		s("twins", "two campaigns with one tool on one port at one time", with(plain80, alter(func(p *Plan) { p.Name = "b"; p.Members = 45 }))),
		s("short", "every member active for a small part of the campaign", with(alter(func(p *Plan) { p.Short = true }))),
		s("late", "members join one after the other", with(alter(func(p *Plan) { p.Late = true }))),
		s("unequal", "shares differ by a factor of ten", with(alter(func(p *Plan) { p.Unequal = true }))),
		s("loss30", "the telescope misses 30 % of the probes", with(alter(func(p *Plan) { p.Loss = 0.3 }))),
		s("overlap30", "30 % of the cells are done again by another member", with(alter(func(p *Plan) { p.Overlap = 0.3 }))),
		s("grid", "15 % loss, 15 % overlap, unequal shares, half of the space covered", with(alter(func(p *Plan) { p.Loss = 0.15; p.Overlap = 0.15; p.Unequal = true; p.Coverage = 0.5 }))),
		s("others", "members also do other things", with(alter(func(p *Plan) { p.Others = true }))),
		s("shards-twice", "ten shards are done twice", with(alter(func(p *Plan) { p.Twins = 10 }))),
		s("ranges", "contiguous ranges", with(alter(func(p *Plan) { p.Cut = detect.CutRanges; p.Short = true }))),
		s("residues", "every member has every 60th address", with(alter(func(p *Plan) { p.Cut = detect.CutResidues }))),
		s("part22", "30 random shards of one /22", with(alter(func(p *Plan) { p.Members = 30; p.Lo = 4096; p.Hi = 5120 }))),
		s("tiles22", "8 ranges of one /22 on five ports", with(alter(func(p *Plan) {
			p.Members = 8
			p.Lo = 8192
			p.Hi = 9216
			p.Cut = detect.CutRanges
			p.Ports = []uint16{21, 22, 23, 80, 8080}
			p.Tools = tools(nmap())
			p.Short = true
		}))),
		s("mixed", "three tools in one campaign", with(alter(func(p *Plan) { p.Members = 48; p.Tools = tools(masscan(), zmap(), plain()) }))),
		s("udp", "random shards on one UDP port", with(alter(func(p *Plan) { p.Proto = event.ProtoUDP; p.Ports = []uint16{5060}; p.Hi = 4096; p.Members = 30 }))),
		s("rotating", "one host whose address changes", with(alter(func(p *Plan) { p.Rotating = true }))),
		s("relay", "three chains in which one source takes over when another ends", with(alter(func(p *Plan) { p.Relay = 3 }))),
		s("farm", "60 random shards, all sources in one /24", with(alter(func(p *Plan) { p.Farm = true }))),
		s("drip", "20 members touch 25 cells each in 90 days", with(alter(func(p *Plan) { p.Members = 20; p.Lo = 4096; p.Hi = 4608; p.Share = 0.98 }))),
		s("sweeps", "the space is covered six times, each with a fresh assignment", with(alter(func(p *Plan) { p.Sweeps = 6; p.Share = 0.9 }))),
		on(s("many", "10,000 members with 6 to 7 cells each", func(b *builder) {
			crowd(b)
			b.campaign(Plan{Name: "a", Members: 10000, Ports: thirteen[:4], Tools: tools(mirai()), Hi: 16384})
		}), 30, slash18),
		on(s("tiny", "60 members on 16 addresses and 15 ports", func(b *builder) {
			b.background(b.count(200))
			b.campaign(Plan{Name: "a", Members: 60, Ports: popular[:15], Tools: tools(masscan())})
		}), 30, slash28),
		on(s("ports", "20 sources share out 72 ports of one /24, each with ports of its own", func(b *builder) {
			b.background(b.count(300))
			ports := make([]uint16, 72)
			for i := range ports {
				ports[i] = uint16(8000 + i)
			}
			b.campaign(Plan{Name: "a", Members: 20, Ports: ports, Tools: tools(masscan()), Cut: detect.CutPorts})
		}), 30, slash24),
		on(s("ports-shards", "20 sources share out 72 ports of one /24 at random", func(b *builder) {
			b.background(b.count(300))
			ports := make([]uint16, 72)
			for i := range ports {
				ports[i] = uint16(8000 + i)
			}
			b.campaign(Plan{Name: "a", Members: 20, Ports: ports, Tools: tools(masscan())})
		}), 30, slash24),
		on(s("ports-own", "20 sources share out 72 ports of one /24 at random, whole ports each, and 10 % of the probes are lost", func(b *builder) {
			b.background(b.count(300))
			ports := make([]uint16, 72)
			for i := range ports {
				ports[i] = uint16(8000 + i)
			}
			b.ownPorts("a", 20, ports, 0.1)
		}), 30, slash24),
		on(s("ports-all", "30 sources share out every port of one address at random, 40 others those of another by ranges", func(b *builder) {
			b.background(b.count(300))
			b.allPorts("random", 30, 77, detect.CutRandom)
			b.allPorts("ranges", 40, 99, detect.CutRanges)
		}), 30, slash24),
		on(s("tastes", "no campaign: sources with ports of their own in every shape that looks shared out", func(b *builder) {
			b.background(b.count(300))
			b.tastes()
		}), 30, slash24),
		on(s("paths", "60 paths of 16 addresses shared out", func(b *builder) {
			b.background(b.count(200))
			b.readers(b.count(60))
			b.campaign(Plan{Name: "a", Members: 40, Ports: []uint16{80}, Tools: tools(browser("curl/8.0.1")), Objects: 60})
		}), 60, slash28),
		on(s("ipv6", "random shards of an IPv6 hit list's /116", func(b *builder) {
			b.background(b.count(500))
			b.campaign(Plan{Name: "a", Members: 40, Ports: []uint16{443}, Tools: tools(zmap())})
		}), 30, "2001:db8::/116"),
		on(s("slash8", "200 members with 2,000 cells each on three ports of a /8, of which less than one in a hundred is ever touched", func(b *builder) {
			b.background(b.count(1500))
			b.sparse("a", 200, 2000, []uint16{22, 23, 2323})
		}), 30, "10.0.0.0/8"),
		on(s("slash12ranges", "60 members with a range of a /12 each, of which they touch 400 random addresses, among 60 others who do so anywhere", func(b *builder) {
			b.background(b.count(1000))
			b.ranged(60, 400, 1<<20/60, masscan(), 8291)
			b.sparseRanges("a", 60, 400, 8291)
		}), 30, "172.16.0.0/12"),
		s("bazaar", "eight campaigns of random make among every decoy and crowd", func(b *builder) {
			crowd(b)
			b.decoys()
			b.crowds()
			for i := range 8 {
				b.campaign(b.anyPlan(i))
			}
		}),
		s("missharded", "one operator, random overlaps: no partition", with(alter(func(p *Plan) { p.Crossed = true; p.Undecidable = true }))),
		s("month", "a clean month with all decoys, larger", func(b *builder) { b.background(b.count(5000)); b.decoys(); b.readers(b.count(60)) }),
	}
}
