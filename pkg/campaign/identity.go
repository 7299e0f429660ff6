package campaign

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"

	"murmuration/pkg/detect"
	"murmuration/pkg/store"
)

// Known is a campaign of an earlier run, as far as recognising it and judging its state need.
type Known struct {
	ID          string
	Ports       []detect.Port
	Members     map[netip.Addr]bool // as the latest run that saw it described them
	Tool        string
	Signature   string
	Targets     []netip.Prefix
	Proofs      map[string]bool // identities of what its members were last proven to share
	First, Last int64           // of its life over all runs, seconds since 1970-01-01 UTC
	Pause       int64           // longest silence of its life, seconds
	State       string          // by the latest run
	MergedInto  string

	life store.KnownCampaign
}

// How much two descriptions must have in common to be of one campaign: half of the smaller one's members and a
// port. Where a campaign changed its addresses, half of the smaller one's networks, at least leastNetworks of them,
// and the same tool, SYN signature, port and targets do, too.
const leastNetworks = 3

// match is a campaign found and an earlier one that it may be.
type match struct {
	found, earlier int
	basis          string
	shared         int // members
	networks       int
}

// identify gives every campaign found its identity: that of an earlier campaign where the two have enough in common,
// else a new one. Each earlier identity is given once, to the campaign that shares most with it, so that a campaign
// that fell apart keeps its name in one piece and the other pieces get names of their own. The links say which earlier
// campaigns were continued, which fell apart, and which are part of others now.
//
// A new identity is made from the members and ports themselves: two runs over the same data with no
// memory of each other name a campaign alike.
//
// proven lists, for each campaign found, the identities of what most of its members share by proof. Where two descriptions have
// neither members nor networks in common, the same seed or generator on the same port makes them one.
func identify(found []detect.Campaign, proven [][]string, earlier []Known) (ids []string, links []store.CampaignLink) {
	matches := matchAll(found, earlier)
	matches = append(matches, matchProofs(found, proven, earlier, matches)...)
	ids = make([]string, len(found))
	given := make([]bool, len(earlier))
	for _, m := range matches {
		if ids[m.found] == "" && !given[m.earlier] {
			ids[m.found] = earlier[m.earlier].ID
			given[m.earlier] = true
		}
	}
	taken := map[string]bool{}
	for _, k := range earlier {
		taken[k.ID] = true
	}
	for i := range found {
		if ids[i] == "" {
			ids[i] = newID(&found[i], taken)
			taken[ids[i]] = true
		}
	}
	for _, m := range matches {
		k := &earlier[m.earlier]
		kind := store.LinkContinued
		switch {
		case ids[m.found] == k.ID:
		case given[m.earlier]:
			kind = store.LinkSplit
		case k.MergedInto == ids[m.found]:
			continue // An earlier run has said so.
		default:
			kind = store.LinkMerged
		}
		links = append(links, store.CampaignLink{
			Kind: kind, Earlier: k.ID, Later: ids[m.found], Basis: m.basis, Shared: uint64(m.shared), SharedNetworks: uint64(m.networks),
			EarlierSources: uint64(len(k.Members)), LaterSources: uint64(len(found[m.found].Members)),
		})
	}
	return ids, oneMerge(links)
}

// oneMerge keeps, of several campaigns that an earlier one may be part of now, the one that shares most, which is the
// first.
func oneMerge(links []store.CampaignLink) []store.CampaignLink {
	merged := map[string]bool{}
	return slices.DeleteFunc(links, func(l store.CampaignLink) bool {
		if l.Kind != store.LinkMerged {
			return false
		}
		again := merged[l.Earlier]
		merged[l.Earlier] = true
		return again
	})
}

// matchAll returns every pair that has enough in common, the closest first: by members before by networks, by how many they
// share, then by how much of both together that is.
func matchAll(found []detect.Campaign, earlier []Known) []match {
	member, network := index(earlier)
	var out []match
	for i := range found {
		c := &found[i]
		shared, networks := map[int]int{}, map[int]int{}
		for _, m := range c.Members {
			for _, j := range member[m.Addr] {
				shared[j]++
			}
		}
		own := networksOf(addresses(c))
		for p := range own {
			for _, j := range network[p] {
				networks[j]++
			}
		}
		for j, n := range networks { // Whoever shares a member shares its network.
			k := &earlier[j]
			if !sharesPort(c, k) {
				continue
			}
			switch {
			case shared[j] > 0 && 2*shared[j] >= min(len(c.Members), len(k.Members)):
				out = append(out, match{i, j, store.BasisMembers, shared[j], n})
			case n >= leastNetworks && 2*n >= min(len(own), len(networksOf(keys(k.Members)))) && behavesAlike(c, k):
				out = append(out, match{i, j, store.BasisNetworks, shared[j], n})
			}
		}
	}
	together := func(m match) int { return len(found[m.found].Members) + len(earlier[m.earlier].Members) - m.shared }
	slices.SortFunc(out, func(a, b match) int {
		return cmp.Or(cmp.Compare(a.basis, b.basis), cmp.Compare(b.shared, a.shared), cmp.Compare(b.networks, a.networks),
			cmp.Compare(together(a), together(b)), cmp.Compare(a.found, b.found), cmp.Compare(earlier[a.earlier].ID, earlier[b.earlier].ID))
	})
	return out
}

// matchProofs returns pairs that share a proof and a port, of campaigns that nothing else matches.
func matchProofs(found []detect.Campaign, proven [][]string, earlier []Known, matches []match) []match {
	foundBusy, earlierBusy := map[int]bool{}, map[int]bool{}
	for _, m := range matches {
		foundBusy[m.found], earlierBusy[m.earlier] = true, true
	}
	var out []match
	for i := range found {
		for j := range earlier {
			if foundBusy[i] || earlierBusy[j] || !sharesPort(&found[i], &earlier[j]) {
				continue
			}
			if slices.ContainsFunc(proven[i], func(p string) bool { return earlier[j].Proofs[p] }) {
				out = append(out, match{found: i, earlier: j, basis: store.BasisProof})
				foundBusy[i], earlierBusy[j] = true, true
			}
		}
	}
	return out
}

// index lists, for every address and network, the earlier campaigns that have it.
func index(earlier []Known) (member map[netip.Addr][]int, network map[netip.Prefix][]int) {
	member, network = map[netip.Addr][]int{}, map[netip.Prefix][]int{}
	for j := range earlier {
		for a := range earlier[j].Members {
			member[a] = append(member[a], j)
		}
		for p := range networksOf(keys(earlier[j].Members)) {
			network[p] = append(network[p], j)
		}
	}
	return member, network
}

func keys(m map[netip.Addr]bool) []netip.Addr {
	out := make([]netip.Addr, 0, len(m))
	for a := range m {
		out = append(out, a)
	}
	return out
}

func addresses(c *detect.Campaign) []netip.Addr {
	out := make([]netip.Addr, 0, len(c.Members))
	for _, m := range c.Members {
		out = append(out, m.Addr)
	}
	return out
}

// networksOf returns the distinct /24 (IPv4) and /48 (IPv6) of addresses.
func networksOf(addrs []netip.Addr) map[netip.Prefix]bool {
	out := map[netip.Prefix]bool{}
	for _, a := range addrs {
		bits := 48
		if a = a.Unmap(); a.Is4() {
			bits = 24
		}
		if p, err := a.Prefix(bits); err == nil {
			out[p] = true
		}
	}
	return out
}

func sharesPort(c *detect.Campaign, k *Known) bool {
	return slices.ContainsFunc(c.Ports, func(p detect.Port) bool { return slices.Contains(k.Ports, p) })
}

func behavesAlike(c *detect.Campaign, k *Known) bool {
	return toolName(c) == k.Tool && c.Signature == k.Signature && overlap(c.Space, k.Targets)
}

func overlap(a, b []netip.Prefix) bool {
	return slices.ContainsFunc(a, func(p netip.Prefix) bool { return slices.ContainsFunc(b, p.Overlaps) })
}

// newID is the beginning of a hash of the members and ports, long enough that no other campaign has it.
func newID(c *detect.Campaign, taken map[string]bool) string {
	addrs := addresses(c)
	slices.SortFunc(addrs, netip.Addr.Compare)
	h := sha256.New()
	for _, a := range addrs {
		fmt.Fprintln(h, a)
	}
	for _, p := range c.Ports {
		fmt.Fprintln(h, p.Proto, p.Port)
	}
	name := hex.EncodeToString(h.Sum(nil))
	for n := 8; n < len(name); n++ {
		if id := "c-" + name[:n]; !taken[id] {
			return id
		}
	}
	return "c-" + name
}
