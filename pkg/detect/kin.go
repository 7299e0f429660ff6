package detect

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"murmuration/pkg/event"
)

// Two campaigns of one bucket that use one tool with one signature on the same ports of the same space at the same time and
// yet meet each other as independent sources do are not one partition. They may be one operator's all the same: a tool whose
// shards were started with different seeds or rates shares out within each part and overlaps at random between them.
// Targets cannot tell that from two operators, so each stays as the partition that it is, and says so.

const (
	// kinIndependent is the least ratio of observed to expected overlap between two campaigns from which on they meet
	// as independent sources do, and kinExpected the least expectation that can tell.
	kinIndependent = 0.6
	kinExpected    = 12
	// kinWhole is the coverage from which on a campaign has no need of another to be complete.
	kinWhole = 0.9
)

// kin adds a sentence to every campaign that has such relatives.
func (r *run) kin(cs []Campaign) {
	kin := make([][]*Campaign, len(cs))
	for i := range cs {
		for j := range i {
			a, b := &cs[i], &cs[j]
			if !alikeInKind(a, b) || !sameTime(a, b) {
				continue
			}
			if e, o := r.between(a, b); e >= kinExpected && o >= kinIndependent*e {
				kin[i], kin[j] = append(kin[i], b), append(kin[j], a)
			}
		}
	}
	for i := range cs {
		if len(kin[i]) > 0 {
			cs[i].Why = append(cs[i].Why, cs[i].kinWhy(kin[i]))
		}
	}
}

func (c *Campaign) kinWhy(others []*Campaign) string {
	whole := c.Coverage >= kinWhole
	var names []string
	for _, o := range others {
		whole = whole && o.Coverage >= kinWhole
		names = append(names, fmt.Sprintf("%d sources from %s on (%v and others)", len(o.Members), time.Unix(o.First, 0).UTC().Format(time.DateTime), o.Members[0].Addr))
	}
	guess := "This is either a part of one operator's work whose tool was sharded wrongly, or several operators; targets cannot tell, a common seed of the tool would."
	if whole {
		guess = "Each is complete by itself: one operator's second round, or two operators."
	}
	return fmt.Sprintf("Campaigns with the same tool, ports, space and time overlap it as independent sources do: %s. %s", strings.Join(names, "; "), guess)
}

// alikeInKind tells whether two campaigns share all that packets show, their ports and their space.
func alikeInKind(a, b *Campaign) bool {
	return a.Cut == b.Cut && a.Objects == b.Objects && a.Signature == b.Signature && a.UserAgent == b.UserAgent && a.Payload == b.Payload &&
		slices.Equal(a.Tools, b.Tools) && slices.Equal(a.Ports, b.Ports) && slices.Equal(a.spans, b.spans)
}

// sameTime tells whether two campaigns share most of the time of the shorter one.
func sameTime(a, b *Campaign) bool {
	both := min(a.Last, b.Last) - max(a.First, b.First)
	return 2*both >= min(a.Last-a.First, b.Last-b.First) && both >= 0
}

// between counts the coincidences of members of a with members of b, and how many independent ones would have. Both have the
// same ports and space.
func (r *run) between(a, b *Campaign) (expected, observed float64) {
	touched := map[Cell]float64{}
	perPort := map[uint32]float64{}
	r.cellsOfCampaign(a, func(c Cell) {
		touched[c]++
		perPort[portKey(c)]++
	})
	n := math.Max(1, float64(a.Addresses))
	r.cellsOfCampaign(b, func(c Cell) {
		observed += touched[c]
		expected += perPort[portKey(c)] / n
	})
	return expected, observed
}

// portKey is what a cell shares with the cells that it is compared with, its target left out.
func portKey(c Cell) uint32 { return c.Object<<16 | uint32(c.Port) }

// cellsOfCampaign calls f with the place of every cell of the members in the campaign's space, times left out.
func (r *run) cellsOfCampaign(c *Campaign, f func(Cell)) {
	for _, m := range c.Members {
		for _, cell := range r.in.Sources[m.Source].Cells {
			if cell.Target >= r.sp.total || c.Objects > 0 && cell.Object == 0 {
				continue
			}
			port := Port{event.Proto(cell.Proto), cell.Port}
			if _, ok := slices.BinarySearchFunc(c.Ports, port, comparePorts); !ok || !slices.ContainsFunc(c.spans, func(s span) bool { return cell.Target >= s.lo && cell.Target < s.hi }) {
				continue
			}
			cell.First, cell.Last = 0, 0
			f(cell)
		}
	}
}
