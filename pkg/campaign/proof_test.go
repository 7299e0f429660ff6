package campaign

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
	"murmuration/pkg/proof"
	"murmuration/pkg/store"
)

// masscan makes events as masscan sends them under a seed: cookies for sequence numbers, and the identification that follows.
func masscan(events []event.Event, seed uint64) []event.Event {
	for i := range events {
		e := &events[i]
		e.Tool = "masscan"
		dst := event.Addr(e.Dst)
		e.Seq = proof.MasscanCookie(seed, binary.BigEndian.Uint32(e.Src[12:]), &proof.Probe{Dst: dst, Proto: e.Proto, Sport: e.Sport, Dport: e.Dport})
		e.IPID = uint16(binary.BigEndian.Uint32(e.Dst[12:])) ^ e.Dport ^ uint16(e.Seq)
	}
	return events
}

// shares deals a prefix out among members.
func (f *field) shares(members []netip.Addr, prefix string, port uint16, from, to time.Time) []event.Event {
	var events []event.Event
	p := netip.MustParsePrefix(prefix)
	for a := p.Addr(); p.Contains(a); a = a.Next() {
		m := members[f.rng.IntN(len(members))]
		events = append(events, probe(m, a, port, "", from.Add(time.Duration(f.rng.Int64N(int64(to.Sub(from))))), ""))
	}
	slices.SortFunc(events, func(a, b event.Event) int { return int(a.Time - b.Time) })
	return events
}

// draws has every member draw n addresses of a prefix for itself: no partition.
func (f *field) draws(members []netip.Addr, prefix string, n int, port uint16, from, to time.Time) []event.Event {
	var events []event.Event
	base := netip.MustParsePrefix(prefix).Addr().As4()
	for _, m := range members {
		for range n {
			k := f.rng.IntN(1024)
			dst := netip.AddrFrom4([4]byte{base[0], base[1], base[2] + byte(k>>8), byte(k)})
			events = append(events, probe(m, dst, port, "", from.Add(time.Duration(f.rng.Int64N(int64(to.Sub(from))))), ""))
		}
	}
	return events
}

// TestOneOperator: two campaigns on different ports and sources that share nothing out, all under one seed, are one operator's; those
// under seeds of their own are nobody's. The evidence of the campaigns is what it is without.
func TestOneOperator(t *testing.T) {
	f := newField(t)
	f.watch("198.18.0.0/20", "")
	const seed = 7_712_345
	f.insert(masscan(f.shares(sources("100.64.0.0", 32), "198.18.0.0/22", 80, at(0, 0), at(2, 0)), seed))
	f.insert(masscan(f.shares(sources("100.65.0.0", 32), "198.18.8.0/22", 443, at(0, 0), at(2, 0)), seed))
	f.insert(masscan(f.draws(sources("100.66.0.0", 9), "198.18.4.0/22", 120, 8080, at(0, 0), at(2, 0)), seed))
	for k, s := range sources("100.67.0.0", 9) { // each its own seed, too large to be searched
		f.insert(masscan(f.draws([]netip.Addr{s}, "198.18.4.0/22", 120, 8080, at(0, 0), at(2, 0)), 1<<60+uint64(k)))
	}

	without := f.run(at(2, 0), 2*days)
	require.Len(t, without.Found, 2)
	require.Empty(t, without.Proofs)

	rep := f.prove(at(2, 0), 2*days)
	require.Len(t, rep.Found, 2)
	require.Len(t, rep.Proofs, 1)
	p := rep.Proofs[0]
	ids := []string{rep.Found[0].ID, rep.Found[1].ID}
	slices.Sort(ids)
	assert.Equal(t, fmt.Sprintf("seed %d", seed), p.Value)
	assert.Equal(t, ids, p.Campaigns)
	assert.Equal(t, 9, p.Outside)
	assert.Len(t, p.Sources, 32+32+9)
	assert.Zero(t, p.Against)
	for i := range rep.Found {
		assert.Equal(t, without.Found[i].Evidence, rep.Found[i].Evidence)
		assert.Len(t, rep.Found[i].Proofs, 1)
	}
	assert.Contains(t, kinds(rep), "operator "+ids[0]+">"+ids[1])
	assert.Contains(t, rep.Notes, fmt.Sprintf("%s, %s and 9 sources in no campaign are one operator's (seed %d)", ids[0], ids[1], seed))

	// What readers get.
	require.Equal(t, [][]any{{p.ID, "masscan-seed", uint64(73), uint64(9)}}, f.rows("SELECT operator, kind, sources, outside FROM operators"))
	require.Equal(t, [][]any{{"", uint64(9)}, {ids[0], uint64(32)}, {ids[1], uint64(32)}},
		f.rows("SELECT campaign, count() FROM campaign_proof_sources GROUP BY campaign ORDER BY campaign"))
	h, err := HistoryOf(t.Context(), f.st, ids[0])
	require.NoError(t, err)
	require.Len(t, h.Proofs, 1)
	assert.Equal(t, p.Why, h.Proofs[0].Summary)
	require.True(t, h.HasPattern)
	assert.Equal(t, "parallel", h.Pattern.Pattern)
	assert.Equal(t, "clustered", h.Pattern.Spread, "eight members a network")
}

// prove detects and looks for proofs in the window that ends at a time.
func (f *field) prove(end time.Time, window time.Duration) *Report {
	f.t.Helper()
	opt := f.options(end, window)
	opt.Proof = ProofQuick
	rep, err := Run(f.t.Context(), f.st, opt)
	require.NoError(f.t, err)
	return rep
}

// rows asks a question of the database.
func (f *field) rows(query string) [][]any {
	f.t.Helper()
	r, err := f.st.Query(f.t.Context(), query, nil)
	require.NoError(f.t, err)
	defer r.Close()
	var out [][]any
	for r.Next() {
		values, err := r.Values()
		require.NoError(f.t, err)
		out = append(out, values)
	}
	require.NoError(f.t, r.Err())
	return out
}

// TestProofSurvivesNewAddresses: a campaign whose sources and networks all changed keeps its name by its seed, which by then is known and is
// tried first; one under another seed gets a name of its own.
func TestProofSurvivesNewAddresses(t *testing.T) {
	f := newField(t)
	f.watch("198.18.0.0/22", "")
	const seed = 12_345_678
	f.insert(masscan(f.shares(sources("100.64.0.0", 32), "198.18.0.0/22", 80, at(0, 0), at(1, 0)), seed))
	f.insert(masscan(f.shares(sources("100.65.0.0", 32), "198.18.0.0/22", 80, at(3, 0), at(4, 0)), seed))
	f.insert(masscan(f.shares(sources("100.66.0.0", 32), "198.18.0.0/22", 80, at(6, 0), at(7, 0)), seed+1))

	first := only(t, f.prove(at(1, 0), days))
	rep := f.prove(at(4, 0), days)
	second := only(t, rep)
	require.Equal(t, first.ID, second.ID)
	require.Len(t, rep.Links, 1)
	assert.Equal(t, store.BasisProof, rep.Links[0].Basis)
	assert.Equal(t, store.LinkContinued, rep.Links[0].Kind)
	require.Len(t, rep.Proofs, 1)
	assert.Equal(t, 1.0, rep.Proofs[0].Tries, "the seed was known")
	third := only(t, f.prove(at(7, 0), days))
	require.NotEqual(t, first.ID, third.ID)
	require.Len(t, third.Proofs, 1)
	assert.Equal(t, fmt.Sprintf("seed %d", seed+1), third.Proofs[0].Value)
}
