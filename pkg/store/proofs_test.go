package store

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
)

// A sample of a source is part of what it sent, in the order of time, the same every time, and all of it where that is little.
func TestProbes(t *testing.T) {
	s := open(t)
	g := newTraffic(77)
	type sent struct {
		at           int64
		dst          event.IP
		proto        event.Proto
		sport, dport uint16
		seq          uint32
		window       uint16
	}
	all := map[event.IP]map[sent]int{}
	from, to := g.start.Add(240*time.Hour), g.start.Add(900*time.Hour)
	b := g.batch(20_000)
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, "a"))
	for i := range b.Len() {
		e := b.Row(i)
		if e.Kind != event.KindScan || e.Time < from.UnixMicro() || e.Time >= to.UnixMicro() {
			continue
		}
		if all[e.Src] == nil {
			all[e.Src] = map[sent]int{}
		}
		all[e.Src][sent{e.Time, e.Dst, e.Proto, e.Sport, e.Dport, e.Seq, e.Window}]++
	}
	var wanted []event.IP
	for src := range all {
		wanted = append(wanted, src)
	}
	slices.SortFunc(wanted, func(a, b event.IP) int { return slices.Compare(a[:], b[:]) })
	left := wanted[len(wanted)-1]
	wanted = append(wanted[:len(wanted)-1], event.IP{15: 9}) // one left out, one that never sent anything

	read := func() map[event.IP][]sent {
		out := map[event.IP][]sent{}
		var last event.IP
		require.NoError(t, s.Probes(t.Context(), from, to, wanted, func(p *ProbeSample) error {
			require.Negative(t, slices.Compare(last[:], p.Src[:]), "in order, each once")
			last = p.Src
			for i := range p.Time {
				out[p.Src] = append(out[p.Src], sent{p.Time[i], p.Dst[i], p.Proto[i], p.Sport[i], p.Dport[i], p.Seq[i], p.Window[i]})
			}
			return nil
		}))
		return out
	}
	got := read()
	assert.Len(t, got, len(wanted)-1)
	assert.NotContains(t, got, left)
	full := 0
	for src, probes := range got {
		total := 0
		for _, n := range all[src] {
			total += n
		}
		assert.Len(t, probes, min(total, ProbesEach))
		assert.True(t, slices.IsSortedFunc(probes, func(a, b sent) int { return cmp.Compare(a.at, b.at) }))
		for _, p := range probes {
			assert.Positive(t, all[src][p], "%+v was not sent", p)
		}
		if total > ProbesEach {
			full++
		}
	}
	assert.Positive(t, full, "some sources sent more than a sample holds")
	assert.Equal(t, got, read())

	stop := errors.New("enough")
	require.ErrorIs(t, s.Probes(t.Context(), from, to, wanted, func(*ProbeSample) error { return stop }), stop)
	require.NoError(t, s.Probes(t.Context(), from, to, nil, func(*ProbeSample) error { return stop }))
}

// Many sources in one question.
func TestProbesOfMany(t *testing.T) {
	s := open(t)
	var wanted []event.IP
	b := new(event.Batch)
	for i := range 20_000 {
		src := event.IP{10: 0xff, 11: 0xff, 12: 100, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}
		wanted = append(wanted, src)
		b.Append(&event.Event{Time: 1e15 + int64(i), Src: src, Dst: src, Proto: event.ProtoTCP, Kind: event.KindScan, Technique: event.TechniqueSYN, Packets: 1})
	}
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, "a"))
	n := 0
	require.NoError(t, s.Probes(t.Context(), time.UnixMicro(1e15), time.UnixMicro(1e15+20_000), wanted, func(p *ProbeSample) error {
		n += len(p.Time)
		return nil
	}))
	assert.Equal(t, 20_000, n)
}

// Proofs and patterns are seen once their run is done, and as they were written.
func TestProofsAndPatterns(t *testing.T) {
	s := open(t)
	src := event.IP{10: 0xff, 11: 0xff, 12: 100, 13: 64, 15: 1}
	want := CampaignProof{
		ID: "p-1", Kind: "masscan-seed", Value: "seed 7", Evidence: 12.5, Coincidence: 9.25, Tries: 4e9, For: 60, Against: 2, Sources: 3, Campaigns: []string{"c-1", "c-2"}, Outside: 1, Summary: "they do",
	}
	pattern := CampaignPattern{
		Campaign: "c-1", Pattern: "relay", Spread: "farm", Tempo: "steady", Networks: 2, Largest: "100.64.0.0/24", InLargest: 9, Effective: 1.5, Together: 3.25, Handovers: 8,
		ByChance: 0.5, Stint: 90 * time.Minute, Pace: 12.75,
	}
	for i, status := range []string{RunRunning, RunDone, RunDone} {
		run := CampaignRun{Run: fmt.Sprintf("run-%d", i), Started: time.Unix(int64(1e9+i), 0), Status: status}
		require.NoError(t, s.PutRunDetail(t.Context(), run.Run, RunDetail{
			Proofs: []CampaignProof{want}, Proven: []ProofSource{{Proof: "p-1", Src: src, Campaign: "c-1", For: 20, Evidence: 190.5, Part: "half"}}, Patterns: []CampaignPattern{pattern},
		}))
		require.NoError(t, s.PutRun(t.Context(), run))
	}
	got, err := s.Proofs(t.Context(), "c-2")
	require.NoError(t, err)
	require.Len(t, got, 2, "that of the run that is not done is not there")
	for i := range got {
		w := want
		w.Run = fmt.Sprintf("run-%d", 2-i)
		assert.Equal(t, w, got[i])
	}
	none, err := s.Proofs(t.Context(), "c-3")
	require.NoError(t, err)
	assert.Empty(t, none)
	values, err := s.ProvenValues(t.Context(), "masscan-seed")
	require.NoError(t, err)
	assert.Equal(t, []string{"seed 7"}, values)
	p, ok, err := s.PatternOf(t.Context(), "c-1")
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, pattern, p)
	_, ok, err = s.PatternOf(t.Context(), "c-2")
	require.NoError(t, err)
	assert.False(t, ok)
}
