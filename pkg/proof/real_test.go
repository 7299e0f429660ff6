package proof_test

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/capture"
	"murmuration/pkg/event"
	"murmuration/pkg/fingerprint"
	"murmuration/pkg/proof"
)

// samples returns a path in the sample captures that lie beside the repository. Where they are missing the
// test is skipped, except in CI, which has them.
func samples(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "data", "real-scanners", name)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("the sample captures must be there in CI: %v", err)
		}
		t.Skipf("no sample captures beside the repository: %v", err)
	}
	return path
}

// truth is what the sample says of a source: its campaign, or "background" and the note, or both.
func truths(t testing.TB) map[string]string {
	t.Helper()
	f, err := os.Open(samples(t, "truth.csv"))
	require.NoError(t, err)
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	out := map[string]string{}
	for _, r := range rows[1:] {
		out[r[0]] = r[1]
		if r[1] == "background" {
			out[r[0]] = "background " + r[13]
		}
	}
	return out
}

// sample reads the probes of a capture by source, and gives the sources of each campaign a group.
func sample(t testing.TB, names ...string) []proof.Source {
	t.Helper()
	truth := truths(t)
	groups := map[string]int{}
	at := map[event.IP]int{}
	var out []proof.Source
	tallies := map[event.IP]*fingerprint.Tally{}
	plain := map[event.IP]map[string]int{}
	for _, name := range names {
		read(t, samples(t, name), func(e *event.Event) {
			if e.Kind != event.KindScan {
				return
			}
			i, ok := at[e.Src]
			if !ok {
				i = len(out)
				at[e.Src] = i
				addr := event.Addr(e.Src)
				group := -1
				if c := truth[addr.String()]; !strings.HasPrefix(c, "background") {
					if groups[c] == 0 {
						groups[c] = len(groups) + 1
					}
					group = groups[c] - 1
				}
				out = append(out, proof.Source{Addr: addr, Group: group})
				tallies[e.Src] = &fingerprint.Tally{}
				plain[e.Src] = map[string]int{}
			}
			plain[e.Src][e.Tool]++
			out[i].Probes = append(out[i].Probes, proof.Probe{
				Time: e.Time, Dst: event.Addr(e.Dst), Proto: e.Proto, Sport: e.Sport, Dport: e.Dport, Seq: e.Seq, Window: e.Window,
			})
		})
	}
	for src, i := range at {
		for tool, n := range plain[src] {
			if 100*n >= 98*len(out[i].Probes) {
				out[i].Tool = tool
			}
		}
		slices.SortStableFunc(out[i].Probes, func(a, b proof.Probe) int { return int(a.Time - b.Time) })
	}
	return out
}

func read(t testing.TB, path string, fn func(e *event.Event)) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	r, err := capture.NewReader(f, path, capture.Options{Sensor: "s", Telescopes: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/18"), netip.MustParsePrefix("198.19.0.16/28")}})
	require.NoError(t, err)
	defer r.Close()
	var b event.Batch
	for {
		err = r.Next(&b)
		for i := range b.Len() {
			e := b.Row(i)
			fn(&e)
		}
		b.Reset()
		if err != nil {
			break
		}
	}
	require.True(t, errors.Is(err, io.EOF), "%v", err)
}

// described is a proof as the tests compare it: how many of its sources are of which kind.
func described(p proof.Proof, sources []proof.Source, truth map[string]string) map[string]int {
	out := map[string]int{}
	for _, m := range p.Members {
		out[truth[sources[m.Source].Addr.String()]]++
	}
	return out
}

// seeds are those that a search of all 32-bit seeds finds in the sample (proof.Deep; two to seventy seconds each on one core).
func seeds() map[string]uint64 {
	return map[string]uint64{"A-masscan13": 373201944, "F-slow": 1430723950, "H-partial": 1884361666, "I-missharded": 1879787928}
}

// TestSample: masscan's campaigns are tied together by their seeds, I among them, which no partition shows; ZMap's sharded campaigns by their
// generators; and nothing else is tied together: not C, D and the background, whose runs are independent, nor `wormlike` and `sameblock`.
func TestSample(t *testing.T) {
	sources := sample(t, "telescope.pcap.zst", "honeypot.pcap.zst")
	truth := truths(t)
	opt := proof.Quick()
	opt.SeedLimit = 1 << 16
	for _, s := range seeds() {
		opt.Seeds = append(opt.Seeds, s)
	}
	proofs, err := proof.Prove(t.Context(), sources, opt)
	require.NoError(t, err)
	got := map[string]string{}
	for _, p := range proofs {
		t.Log(p.Why)
		d := described(p, sources, truth)
		require.Len(t, d, 1, p.Why)
		for name, n := range d {
			require.Empty(t, got[name], "twice")
			assert.Equal(t, n, count(truth, name), p.Why)
			got[name] = p.Value
		}
		assert.Zero(t, p.Against, p.Why)
	}
	want := map[string]string{
		"B-zmap80":  "every 4-th element, step 4771 (or its inverse) modulo 65537, targets counted from 198.18.0.0",
		"G-sip-udp": "every 2-th element, step 5755 (or its inverse) modulo 65537, targets counted from 198.18.0.0",
	}
	for name, s := range seeds() {
		want[name] = fmt.Sprintf("seed %d", s)
	}
	assert.Equal(t, want, got)
}

func count(truth map[string]string, name string) int {
	n := 0
	for _, c := range truth {
		if c == name {
			n++
		}
	}
	return n
}

// TestTimesDoNotMatter: the sets of targets of B and G are enough, in the original order, in that of the re-timed captures, or in none.
func TestTimesDoNotMatter(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, name := range []string{"B-zmap80", "G-sip-udp"} {
		sources := sample(t, "raw/"+name+".pcap.zst")
		var values []string
		for _, shuffled := range []bool{false, true} {
			if shuffled {
				for _, s := range sources {
					rng.Shuffle(len(s.Probes), func(i, j int) { s.Probes[i], s.Probes[j] = s.Probes[j], s.Probes[i] })
				}
			}
			proofs, err := proof.Prove(t.Context(), sources, proof.Options{Searches: 4, Workers: 2})
			require.NoError(t, err)
			require.Len(t, proofs, 1)
			assert.Len(t, proofs[0].Members, len(sources))
			values = append(values, proofs[0].Value)
		}
		assert.Equal(t, values[0], values[1], name)
	}
}

// captured reads packets of masscan 1.3.2 (Debian 12) with known seeds, captured between two network namespaces: 100.64.7.1-4 are shards
// under --seed 4242424 with a --rate each, 100.64.8.1-3 shards without a seed, 100.64.9.1-2 shards under --seed time.
func captured(t testing.TB) []proof.Source {
	t.Helper()
	at := map[netip.Addr]int{}
	var out []proof.Source
	read(t, filepath.Join("testdata", "masscan-1.3.2.pcap.zst"), func(e *event.Event) {
		a := event.Addr(e.Src)
		if _, ok := at[a]; !ok {
			at[a] = len(out)
			out = append(out, proof.Source{Addr: a, Tool: e.Tool, Group: -1})
		}
		s := &out[at[a]]
		s.Probes = append(s.Probes, proof.Probe{Time: e.Time, Dst: event.Addr(e.Dst), Proto: e.Proto, Sport: e.Sport, Dport: e.Dport, Seq: e.Seq, Window: e.Window})
	})
	require.Len(t, out, 9)
	return out
}

// TestSeedsAreFound: the search finds the seed that was typed and the one that was the time, and says what each is worth.
func TestSeedsAreFound(t *testing.T) {
	sources := captured(t)
	opt := proof.Options{SeedLimit: 1 << 23, SeedTime: 86400, Searches: 16, Workers: 2}
	one, err := proof.Prove(t.Context(), sources, opt)
	require.NoError(t, err)
	require.Len(t, one, 1, "the seeds that were the time are worth less than is reported")
	assert.Equal(t, "seed 4242424", one[0].Value)
	assert.Equal(t, []string{"100.64.7.1", "100.64.7.2", "100.64.7.3", "100.64.7.4"}, addresses(sources, one[0]))
	assert.Equal(t, 4*32, one[0].For)
	assert.Zero(t, one[0].Against)
	// Three more sources with a number of 6.6 digits, any of 9 sources the first, the others any of 8.
	assert.InDelta(t, 3*6.6276-math.Log10(9)-math.Log10(56), one[0].Evidence, 0.01)

	opt.Workers = 7
	again, err := proof.Prove(t.Context(), sources, opt)
	require.NoError(t, err)
	assert.Equal(t, one, again, "workers never change the result")

	opt.MinEvidence = 1
	both, err := proof.Prove(t.Context(), sources, opt)
	require.NoError(t, err)
	require.Len(t, both, 2)
	assert.Equal(t, []string{"100.64.9.1", "100.64.9.2"}, addresses(sources, both[1]))
	assert.InDelta(t, math.Log10(86400)-math.Log10(9)-math.Log10(8), both[1].Evidence, 0.01)
}

func addresses(sources []proof.Source, p proof.Proof) []string {
	var out []string
	for _, m := range p.Members {
		out = append(out, sources[m.Source].Addr.String())
	}
	slices.Sort(out)
	return out
}

// TestSeedsNeedTheRightAddress: behind address translation the cookies were made for another address, and nothing is found.
func TestSeedsNeedTheRightAddress(t *testing.T) {
	sources := captured(t)
	for i := range sources {
		sources[i].Addr = netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})
	}
	proofs, err := proof.Prove(t.Context(), sources, proof.Options{Seeds: []uint64{4242424}, SeedLimit: 1 << 12, Searches: 16})
	require.NoError(t, err)
	assert.Empty(t, proofs)
}

// TestCookiesSurviveAnAddressChange: one masscan whose packets come from two addresses in turn, because translation changed, sends the
// same sequence numbers to what it probes again.
func TestCookiesSurviveAnAddressChange(t *testing.T) {
	sources := captured(t)
	first := sources[0]
	second := first
	second.Addr = netip.MustParseAddr("203.0.113.9")
	second.Probes = slices.Clone(first.Probes[:8])
	for i := range second.Probes {
		second.Probes[i].Time += 3600e6
	}
	proofs, err := proof.Prove(t.Context(), append(sources, second), proof.Options{})
	require.NoError(t, err)
	require.Len(t, proofs, 1)
	assert.Equal(t, proof.SequenceCookies, proofs[0].Kind)
	assert.Equal(t, []string{first.Addr.String(), "203.0.113.9"}, addresses(append(sources, second), proofs[0]))
	assert.Equal(t, 16, proofs[0].For)
}
