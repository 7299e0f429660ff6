// Package proof finds what only one run of a scan tool can have left in the packets of several sources: the seed of a
// masscan, the generator of a ZMap, the key of a Mirai bot, of an nmap or of a unicornscan, and sequence numbers that
// are cookies under one secret. It is evidence of its own kind: it needs no coverage and no partition, so it also ties
// together what overlaps at random, and it tells who ran the tool, not what was covered.
//
// Everything is a pure function of the headers. What each relation rests on, what it cannot see and how chance is
// accounted for is in docs/design/proof.md.
package proof

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"murmuration/pkg/event"
)

// Probe is what the proofs need of one packet. Header values are in host order.
type Probe struct {
	Time   int64      // microseconds since 1970-01-01 UTC
	Dst    netip.Addr // IPv4, or no proof looks at it
	Proto  event.Proto
	Sport  uint16
	Dport  uint16
	Seq    uint32 // of a TCP SYN
	Window uint16
}

// Source is one address with a sample of its probes.
type Source struct {
	Addr netip.Addr
	Tool string // as package fingerprint names it, decided over all of the source's probes; "" is unknown
	// Group says which sources are believed to belong together, by any number from 0 on; below 0 is none. Groups decide
	// for whom a costly search is made, never what is found to be shared.
	Group  int
	Probes []Probe // in the order of their time; a sample keeps the order
}

// Kind is what was shared.
type Kind string

// The kinds of proof.
const (
	MasscanSeed     Kind = "masscan-seed"     // --seed, from the sequence numbers
	ZMapGenerator   Kind = "zmap-generator"   // generator of the cyclic group, from the targets
	MiraiKey        Kind = "mirai-key"        // source port and window, drawn once an infection
	NmapKey         Kind = "nmap-key"         // mask of the sequence numbers and source port, drawn once a run
	UnicornscanKey  Kind = "unicornscan-key"  // constant in the sequence numbers, drawn once a run
	SequenceCookies Kind = "sequence-cookies" // equal sequence numbers on equal targets, whatever the tool
)

// Proof says that some sources belong to one run of one tool, or to one operator who ran it several times alike.
type Proof struct {
	Kind  Kind
	Value string // what was shared, in the words of the tool
	// Evidence is -log10 of the chance that independent sources share it, corrected for Tries.
	Evidence float64
	// Coincidence is -log10 of the chance that one run of the tool has the value that another one has. However many sources
	// each of them has, that two operators chose one value is a single coincidence.
	Coincidence float64
	Tries       float64 // values tried, times the ways in which they were tried
	For         int     // probes that obey the shared value
	Against     int     // probes of the same sources and kind that do not
	Members     []Member
	Why         string // a sentence
}

// Member is one source of a proof.
type Member struct {
	Source   int // index into the sources given
	For      int
	Against  int
	Evidence float64 // -log10 of the chance that this source obeys the value, nothing corrected
	Part     string  // which share of the scan it did, where that shows; else ""
}

// Options bound the searches. The zero value searches nothing that costs more than a millisecond a source.
type Options struct {
	// Seeds are masscan seeds that earlier runs proved; they are tried on every source first.
	Seeds []uint64
	// SeedLimit: all masscan seeds below it are searched.
	SeedLimit uint64
	// SeedTime: seeds that are the time of up to so many seconds before a source's first probe are searched (--seed time).
	SeedTime uint64
	// Searches is how many sources one kind of search may be spent on, those in groups first.
	Searches int
	// Generators also searches the generators of ZMap's large groups, from 2^24+43 on, for one or two sources of every group,
	// by arcs. Strangers does so for other sources, too, and also by order, as those that do a whole scan leave no arc. Up to a second
	// a source, and a second or two for each large group.
	Generators, Strangers bool
	// MinEvidence is the least evidence that is reported; 0 is 6.
	MinEvidence float64
	Workers     int // goroutines; never changes the result
	// Progress, if set, is told the share of the searching that is done.
	Progress func(share float64)
}

// Quick returns the bounds of a search that costs seconds: seeds up to 2^24 and of the last 7 days, every ZMap group.
func Quick() Options {
	return Options{SeedLimit: 1 << 24, SeedTime: 7 * 86400, Searches: 16, Generators: true, Workers: 2}
}

// Deep returns the bounds of a search that costs up to a minute a source: all seeds of 32 bits, every ZMap group for every source.
func Deep() Options {
	o := Quick()
	o.SeedLimit, o.Strangers = 1<<32, true
	return o
}

// least is the number of probes below which nothing is said about a source.
const least = 2

// Prove returns the proofs among sources, strongest first. It fails only if ctx ends.
func Prove(ctx context.Context, sources []Source, opt Options) ([]Proof, error) {
	if opt.MinEvidence <= 0 {
		opt.MinEvidence = 6
	}
	opt.Workers = max(1, opt.Workers)
	if opt.Progress == nil {
		opt.Progress = func(float64) {}
	}
	out := keys(sources)
	seeds, err := masscanSeeds(ctx, sources, opt)
	if err != nil {
		return nil, err
	}
	generators, err := zmapGenerators(ctx, sources, opt)
	if err != nil {
		return nil, err
	}
	out = append(append(out, seeds...), generators...)
	out = slices.DeleteFunc(out, func(p Proof) bool {
		return !(p.Evidence >= opt.MinEvidence) || len(p.Members) < 2
	})
	for i := range out {
		out[i].finish()
	}
	slices.SortStableFunc(out, func(a, b Proof) int {
		return cmp.Or(cmp.Compare(b.Evidence, a.Evidence), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Value, b.Value))
	})
	return out, nil
}

// finish counts what the members say and writes the sentence.
func (p *Proof) finish() {
	slices.SortFunc(p.Members, func(a, b Member) int { return cmp.Compare(a.Source, b.Source) })
	p.For, p.Against = 0, 0
	for _, m := range p.Members {
		p.For += m.For
		p.Against += m.Against
	}
	what := map[Kind]string{
		MasscanSeed: "ran masscan with", ZMapGenerator: "walked ZMap's cyclic group with", MiraiKey: "are bots with",
		NmapKey: "sent nmap's probes under", UnicornscanKey: "sent unicornscan's probes under", SequenceCookies: "answered to one secret:",
	}[p.Kind]
	against := "none against"
	if p.Against > 0 {
		against = fmt.Sprintf("%d against", p.Against)
	}
	p.Why = fmt.Sprintf("%d sources %s %s: %d probes say so, %s; chance with probability below 10^-%.1f after paying for %.2g tries.",
		len(p.Members), what, p.Value, p.For, against, p.Evidence, p.Tries)
}

// ipv4 returns an IPv4 address as a number.
func ipv4(a netip.Addr) (uint32, bool) {
	a = a.Unmap()
	if !a.Is4() {
		return 0, false
	}
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]), true
}

// linked is the evidence that sources which each obey one value do so together. Two things must not be chance. The value
// itself, which all of them together prove against all values tried. And that the others have it, too: each of them is worth
// what its own probes say, but at most limit digits, because that two independent runs draw one value is no rarer than that; and
// it could have been any of the sources looked at.
func linked(members []Member, limit, tries float64, sources int) float64 {
	if len(members) < 2 {
		return 0
	}
	first := slices.MaxFunc(members, func(a, b Member) int { return cmp.Compare(a.Evidence, b.Evidence) })
	sum, total := -math.Min(first.Evidence, limit), 0.0
	for _, m := range members {
		sum += math.Min(m.Evidence, limit)
		total += m.Evidence
	}
	sum -= math.Log10(float64(sources)) + log10Choose(sources-1, len(members)-1)
	return math.Min(sum, total-math.Log10(math.Max(1, tries)))
}

// worklist orders sources for a costly search: the groups' first members, then their second, and so on up to each of a
// few, then those without a group; at most searches of them.
func worklist(sources []Source, of []int, searches int) []int {
	const each = 2
	taken := map[int]int{}
	var grouped, rest []int
	for _, i := range of {
		g := sources[i].Group
		switch {
		case g < 0:
			rest = append(rest, i)
		case taken[g] < each:
			taken[g]++
			grouped = append(grouped, i)
		}
	}
	all := append(grouped, rest...)
	return all[:min(len(all), searches)]
}
