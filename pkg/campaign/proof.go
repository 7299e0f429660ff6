package campaign

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"murmuration/pkg/detect"
	"murmuration/pkg/event"
	"murmuration/pkg/fingerprint"
	"murmuration/pkg/proof"
	"murmuration/pkg/store"
)

// ProofEffort is how hard a run looks for proofs.
type ProofEffort string

// The efforts.
const (
	ProofOff   ProofEffort = "off"
	ProofQuick ProofEffort = "quick" // seconds: known and small seeds, ZMap's generators
	ProofDeep  ProofEffort = "deep"  // up to a minute a campaign: every seed of 32 bits
)

// options returns the bounds of the search.
func (e ProofEffort) options() proof.Options {
	if e == ProofDeep {
		return proof.Deep()
	}
	return proof.Quick()
}

// Proof is a proof with what it has to do with the campaigns of the run.
type Proof struct {
	ID string // of what is shared, the same over all runs
	proof.Proof
	Campaigns []string      // that have some of its sources, sorted
	Outside   int           // of its sources, those in no campaign
	Sources   []ProofSource // in the order of their addresses
}

// ProofSource is one source of a Proof.
type ProofSource struct {
	Addr     netip.Addr
	Campaign string // or ""
	proof.Member
}

// How many sources are looked at: a run over millions must not ask for the headers of all of them.
const (
	provenMembers   = 500  // of each campaign, the surest
	provenStrangers = 4000 // that use a tool with a secret, in no campaign
)

// prove reads samples of headers and looks for proofs.
func (opt *Options) prove(ctx context.Context, st *store.Store, run *store.CampaignRun, fp *footprints, res *detect.Result) ([]proof.Proof, error) {
	if opt.Proof == ProofOff {
		return nil, nil
	}
	opt.Progress("reading headers", 0)
	group := subjects(fp, res)
	wanted := make([]event.IP, 0, len(group))
	at := make(map[event.IP]int, len(group))
	for i := range group {
		ip := event.IPOf(fp.input.Sources[i].Addr)
		wanted = append(wanted, ip)
		at[ip] = i
	}
	slices.SortFunc(wanted, func(a, b event.IP) int { return slices.Compare(a[:], b[:]) })
	var sources []proof.Source
	var index []int
	if err := st.Probes(ctx, run.From, run.To, wanted, func(p *store.ProbeSample) error {
		i := at[p.Src]
		sources = append(sources, sourceOf(p, &fp.input.Sources[i], group[i]))
		index = append(index, i)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("look for proofs: %w", err)
	}
	known, err := st.ProvenValues(ctx, string(proof.MasscanSeed))
	if err != nil {
		return nil, fmt.Errorf("read proven seeds: %w", err)
	}
	o := opt.Proof.options()
	o.Workers = opt.Params.Workers
	for _, v := range known {
		if seed, ok := proof.ParseSeed(v); ok {
			o.Seeds = append(o.Seeds, seed)
		}
	}
	o.Progress = func(share float64) { opt.Progress("looking for proofs", share) }
	proofs, err := proof.Prove(ctx, sources, o)
	if err != nil {
		return nil, fmt.Errorf("look for proofs: %w", err)
	}
	for i := range proofs {
		for k := range proofs[i].Members {
			m := &proofs[i].Members[k]
			m.Source = index[m.Source]
		}
	}
	return proofs, nil
}

// subjects chooses the sources to look at, as indices of the input with the number of their campaign, or -1: the surest members of
// every campaign, and strangers that use a tool with a secret, those with most cells first.
func subjects(fp *footprints, res *detect.Result) map[int]int {
	group := map[int]int{}
	for c := range res.Campaigns {
		for k, m := range res.Campaigns[c].Members {
			if _, ok := group[m.Source]; !ok && k < provenMembers {
				group[m.Source] = c
			}
		}
	}
	var strangers []int
	for i := range fp.input.Sources {
		switch fp.input.Sources[i].Behaviour.Tool {
		case fingerprint.Masscan, fingerprint.ZMap, fingerprint.Mirai, fingerprint.Nmap:
			if _, ok := group[i]; !ok {
				strangers = append(strangers, i)
			}
		}
	}
	slices.SortStableFunc(strangers, func(a, b int) int { return cmp.Compare(len(fp.input.Sources[b].Cells), len(fp.input.Sources[a].Cells)) })
	for _, i := range strangers[:min(len(strangers), provenStrangers)] {
		group[i] = -1
	}
	return group
}

// sourceOf turns a sample into what proofs need. Where the store does not tell the tool, the rules that only need the sample do.
func sourceOf(p *store.ProbeSample, s *detect.Source, group int) proof.Source {
	out := proof.Source{Addr: s.Addr, Tool: s.Behaviour.Tool, Group: group, Probes: make([]proof.Probe, 0, len(p.Time))}
	var tally fingerprint.Tally
	for i := range p.Time {
		out.Probes = append(out.Probes, proof.Probe{
			Time: p.Time[i], Dst: event.Addr(p.Dst[i]), Proto: p.Proto[i], Sport: p.Sport[i], Dport: p.Dport[i], Seq: p.Seq[i], Window: p.Window[i],
		})
		tally.Add(&event.Event{
			Time: p.Time[i], Src: p.Src, Dst: p.Dst[i], Proto: p.Proto[i], Kind: event.KindScan, Flags: event.SYN, Sport: p.Sport[i], Dport: p.Dport[i],
			Seq: p.Seq[i], Window: p.Window[i], DF: true,
		}, nil)
	}
	if out.Tool == "" && tally.Tool() == fingerprint.Unicornscan {
		out.Tool = fingerprint.Unicornscan
	}
	return out
}

// proven is the proofs of a run beside its campaigns.
type proven struct {
	proofs    []proof.Proof
	campaigns []detect.Campaign
	of        map[int][]int // campaigns of a source
}

func newProven(res *detect.Result, proofs []proof.Proof) *proven {
	p := &proven{proofs: proofs, campaigns: res.Campaigns, of: map[int][]int{}}
	for c := range res.Campaigns {
		for _, m := range res.Campaigns[c].Members {
			p.of[m.Source] = append(p.of[m.Source], c)
		}
	}
	return p
}

// within counts the sources of a proof in each campaign.
func (p *proven) within(i int) map[int]int {
	n := map[int]int{}
	for _, m := range p.proofs[i].Members {
		for _, c := range p.of[m.Source] {
			n[c]++
		}
	}
	return n
}

// apart is how many digits a value must be worth before that two campaigns have it is called more than a coincidence: people choose
// small seeds, and ZMap's small groups have few generators.
const apart = 6

// identifies says whether a kind of proof is worth an identity: a seed or generator is chosen for a scan, a key belongs to a process that
// may take part in several.
func identifies(k proof.Kind) bool { return k == proof.MasscanSeed || k == proof.ZMapGenerator }

// identities lists, for each campaign, what at least half of its members share.
func (p *proven) identities() [][]string {
	out := make([][]string, len(p.campaigns))
	for i := range p.proofs {
		for c, n := range p.within(i) {
			if identifies(p.proofs[i].Kind) && p.proofs[i].Coincidence >= apart && 2*n >= min(len(p.campaigns[c].Members), provenMembers) {
				out[c] = append(out[c], proofID(&p.proofs[i]))
			}
		}
	}
	return out
}

// links joins campaigns that a proof ties to one operator: at least two sources of each, and each with the one before it.
func (p *proven) links(ids []string) []store.CampaignLink {
	var out []store.CampaignLink
	for i := range p.proofs {
		if p.proofs[i].Coincidence < apart {
			continue
		}
		n := p.within(i)
		var who []int
		for c := range n {
			if n[c] >= 2 {
				who = append(who, c)
			}
		}
		slices.SortFunc(who, func(a, b int) int { return cmp.Compare(ids[a], ids[b]) })
		for k := 1; k < len(who); k++ {
			a, b := who[k-1], who[k]
			out = append(out, store.CampaignLink{
				Kind: store.LinkOperator, Earlier: ids[a], Later: ids[b], Basis: string(p.proofs[i].Kind),
				Shared: uint64(n[a] + n[b]), EarlierSources: uint64(len(p.campaigns[a].Members)), LaterSources: uint64(len(p.campaigns[b].Members)),
			})
		}
	}
	// Two proofs may join the same two campaigns; the stronger one comes first.
	seen := map[[2]string]bool{}
	return slices.DeleteFunc(out, func(l store.CampaignLink) bool {
		k := [2]string{l.Earlier, l.Later}
		again := seen[k]
		seen[k] = true
		return again
	})
}

// named gives the proofs identities and the names of the campaigns.
func (p *proven) named(fp *footprints, ids []string) []Proof {
	var out []Proof
	for i := range p.proofs {
		x := Proof{ID: proofID(&p.proofs[i]), Proof: p.proofs[i]}
		for c := range p.within(i) {
			x.Campaigns = append(x.Campaigns, ids[c])
		}
		slices.Sort(x.Campaigns)
		for _, m := range x.Members {
			s := ProofSource{Addr: fp.input.Sources[m.Source].Addr, Member: m}
			if c := p.of[m.Source]; len(c) > 0 {
				s.Campaign = ids[c[0]]
			} else {
				x.Outside++
			}
			x.Sources = append(x.Sources, s)
		}
		slices.SortFunc(x.Sources, func(a, b ProofSource) int { return a.Addr.Compare(b.Addr) })
		out = append(out, x)
	}
	return out
}

// proofID names what is shared: the same seed has the same name in every run and database.
func proofID(p *proof.Proof) string {
	sum := sha256.Sum256([]byte(string(p.Kind) + "\n" + p.Value))
	return "p-" + hex.EncodeToString(sum[:])[:12]
}

// proofsOf returns the proofs that have to do with a campaign.
func proofsOf(all []Proof, id string) []Proof {
	var out []Proof
	for _, p := range all {
		if slices.Contains(p.Campaigns, id) {
			out = append(out, p)
		}
	}
	return out
}

// Operator says, in a sentence, what a proof adds to the campaigns; "" if they say the same.
func (p *Proof) Operator() string {
	var who []string
	who = append(who, p.Campaigns...)
	if p.Outside > 0 {
		who = append(who, sourceCount(p.Outside)+" in no campaign")
	}
	switch {
	case len(p.Campaigns) == 1 && p.Outside == 0:
		return ""
	case p.Coincidence < apart:
		return fmt.Sprintf("%s share %s, which two operators may have by chance (10^-%.1f)", and(who), p.Value, p.Coincidence)
	case len(p.Campaigns) == 0:
		return fmt.Sprintf("%s are one operator's (%s); they did not share a space out", and(who), p.Value)
	}
	return fmt.Sprintf("%s are one operator's (%s)", and(who), p.Value)
}

// and joins names as a sentence does.
func and(names []string) string {
	last := len(names) - 1
	if last == 0 {
		return names[0]
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

func sourceCount(n int) string {
	if n == 1 {
		return "1 source"
	}
	return fmt.Sprintf("%d sources", n)
}

func operatorNotes(proofs []Proof) []string {
	var out []string
	for i := range proofs {
		if s := proofs[i].Operator(); s != "" {
			out = append(out, s)
		}
	}
	return out
}

func proofRows(proofs []Proof) (rows []store.CampaignProof, sources []store.ProofSource) {
	for i := range proofs {
		p := &proofs[i]
		rows = append(rows, store.CampaignProof{
			ID: p.ID, Kind: string(p.Kind), Value: p.Value, Evidence: p.Evidence, Coincidence: p.Coincidence, Tries: p.Tries, For: uint64(p.For), Against: uint64(p.Against),
			Sources: uint64(len(p.Sources)), Campaigns: p.Campaigns, Outside: uint64(p.Outside), Summary: p.Why,
		})
		for _, s := range p.Sources {
			sources = append(sources, store.ProofSource{
				Proof: p.ID, Src: event.IPOf(s.Addr), Campaign: s.Campaign, For: uint64(s.For), Against: uint64(s.Against), Evidence: s.Evidence, Part: s.Part,
			})
		}
	}
	return rows, sources
}
