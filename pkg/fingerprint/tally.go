package fingerprint

import "murmuration/pkg/event"

// enough is the share of a source's SYNs that must obey a rule. Below one, since a few packets of another
// program (the kernel's own connections, one browser) do not change what the source is.
const enough = 0.98

// minPackets is the least number of SYNs from which a source's tool is told.
const minPackets = 2

// Tally counts, over one source's TCP SYNs, how many obey each rule, and with Tool decides what the
// source runs. It is a small value: add packets in the order of their time, merge the tallies of two
// stretches of time in that order. The zero value is ready.
type Tally struct {
	SYNs      uint64 // SYNs seen
	Mirai     uint64 // obey MiraiRule
	ZMap      uint64 // obey ZMapRule
	Masscan   uint64 // obey MasscanRule
	Relation  uint64 // obey MasscanRelation, whatever window and options
	Signature uint64 // have nmap's signature, whatever the TTL
	Pairs     uint64 // pairs of successive SYNs
	NmapPairs uint64 // pairs that obey nmap's pair rule
	NextPairs uint64 // pairs whose sequence number rises by 1 to 255
	Changes   uint64 // SYNs whose sequence number is not that of the SYN before: no retransmissions
	Constant  [2]run // unicornscan's constant over Changes, for both byte orders of the destination

	first, last uint32 // sequence numbers, for pairs across a merge
}

// run is a candidate constant and how often it was met: a majority vote (Boyer and Moore 1981) keeps it in
// two words, and Met counts what agreed with the candidate since it became one.
type run struct {
	Value uint32
	Votes uint64
	Met   uint64
}

func (r *run) add(v uint32) {
	switch {
	case r.Votes == 0:
		*r = run{Value: v, Votes: 1, Met: 1}
	case r.Value == v:
		r.Votes++
		r.Met++
	default:
		r.Votes--
	}
}

func (r *run) merge(o run) {
	switch {
	case r.Value == o.Value:
		r.Votes += o.Votes
		r.Met += o.Met
	case o.Votes > r.Votes:
		r.Value, r.Votes, r.Met = o.Value, o.Votes-r.Votes, o.Met
	default:
		r.Votes -= o.Votes
	}
}

// Add counts e if it is a TCP SYN. Options as in Tool.
func (t *Tally) Add(e *event.Event, o *TCPOptions) {
	if !isSYN(e) {
		return
	}
	count(&t.Mirai, MiraiRule(e, o))
	count(&t.ZMap, ZMapRule(e, o))
	count(&t.Masscan, MasscanRule(e, o))
	count(&t.Relation, MasscanRelation(e))
	count(&t.Signature, nmapSignature(e, o))
	if t.SYNs == 0 || t.last != e.Seq {
		t.constant(e)
	}
	if t.SYNs == 0 {
		t.first = e.Seq
	} else {
		t.pair(t.last, e.Seq)
	}
	t.last = e.Seq
	t.SYNs++
}

func (t *Tally) constant(e *event.Event) {
	dst, ok := ipv4(e.Dst)
	if !ok {
		return
	}
	t.Changes++
	c := e.Seq ^ (uint32(e.Dport)<<16 + uint32(e.Sport))
	t.Constant[0].add(c ^ dst)
	t.Constant[1].add(c ^ reverse(dst))
}

func count(n *uint64, hit bool) {
	if hit {
		*n++
	}
}

func reverse(v uint32) uint32 {
	return v>>24 | v>>8&0xff00 | v<<8&0xff0000 | v<<24
}

func (t *Tally) pair(a, b uint32) {
	t.Pairs++
	count(&t.NmapPairs, NmapPair(a, b))
	count(&t.NextPairs, b-a-1 < 255)
}

// NmapPair holds for the sequence numbers of two SYNs of one nmap run: with d = a ^ b, d>>16 == d&0xFFFF.
// nmap writes a 16-bit value twice into the number and masks it with a number drawn once a run
// (nmap/nmap scan_engine_raw.cc, seq32_encode). By chance 1 in 65,536.
func NmapPair(a, b uint32) bool {
	d := a ^ b
	return d>>16 == d&0xffff
}

// Merge adds the packets of o, which came after those of t.
func (t *Tally) Merge(o *Tally) {
	if o.SYNs == 0 {
		return
	}
	if t.SYNs == 0 {
		*t = *o
		return
	}
	t.pair(t.last, o.first)
	t.last = o.last
	t.SYNs += o.SYNs
	t.Mirai += o.Mirai
	t.ZMap += o.ZMap
	t.Masscan += o.Masscan
	t.Relation += o.Relation
	t.Signature += o.Signature
	t.Pairs += o.Pairs
	t.NmapPairs += o.NmapPairs
	t.NextPairs += o.NextPairs
	t.Changes += o.Changes
	for i := range t.Constant {
		t.Constant[i].merge(o.Constant[i])
	}
}

// Tool returns what the source runs, or "" where nothing is proven: at least two SYNs, and at least 98 in
// a hundred of them obey one rule.
//
//   - mirai, zmap and masscan by their packet rules; masscan also by its bare relation, which by chance
//     holds for two packets once in 2^32.
//   - nmap by its signature and by the pair rule for at least half of the pairs (a pair that spans two runs
//     breaks it).
//   - naabu by the same signature with sequence numbers that count up by one, or nearly where another
//     target's probes came between (projectdiscovery/naabu pkg/scan/tcpsequencer.go).
//   - unicornscan by a constant seq ^ dst ^ ((dport<<16) + sport), for either byte order of dst, over at
//     least three SYNs that are no retransmissions. The weakest rule comes last.
func (t *Tally) Tool() string {
	if t.SYNs < minPackets {
		return ""
	}
	switch {
	case t.most(t.Mirai):
		return Mirai
	case t.most(t.ZMap):
		return ZMap
	case t.most(t.Masscan) || t.most(t.Relation):
		return Masscan
	case t.most(t.Signature) && 2*t.NmapPairs >= t.Pairs:
		return Nmap
	case t.most(t.Signature) && 2*t.NextPairs >= t.Pairs:
		return Naabu
	case t.Changes > minPackets && (share(t.Constant[0].Met, t.Changes) || share(t.Constant[1].Met, t.Changes)):
		return Unicornscan
	}
	return ""
}

func (t *Tally) most(n uint64) bool { return share(n, t.SYNs) }

func share(n, of uint64) bool { return float64(n) >= enough*float64(of) }
