package detect_test

import (
	"cmp"
	"encoding/csv"
	"errors"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/capture"
	"murmuration/pkg/detect"
	"murmuration/pkg/event"
	"murmuration/pkg/fingerprint"
	"murmuration/pkg/simulate"
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

// watcher gathers the events of captures into the detector's input.
type watcher struct {
	blocks  []detect.Block
	sources map[event.IP]*watched
	objects map[string]uint32
	from    int64
	to      int64
}

type watched struct {
	cells  map[detect.Cell][2]int64 // First and Last of the key are 0
	tools  map[string]int
	signs  map[string]int
	ttls   map[uint8]int
	agents map[string]int
	loads  map[uint64]int
	events uint64
}

func (w *watcher) add(e *event.Event) {
	if e.Kind != event.KindScan && e.Kind != event.KindRequest {
		return
	}
	dst := event.Addr(e.Dst)
	i := slices.IndexFunc(w.blocks, func(b detect.Block) bool { return b.Prefix.Contains(dst) })
	if i < 0 {
		return
	}
	base, at := w.blocks[i].Prefix.Addr().As4(), dst.As4()
	rank := w.blocks[i].First
	for k := range at {
		rank += uint32(at[k]-base[k]) << (24 - 8*k)
	}
	s := w.sources[e.Src]
	if s == nil {
		s = &watched{cells: map[detect.Cell][2]int64{}, tools: map[string]int{}, signs: map[string]int{}, ttls: map[uint8]int{}, agents: map[string]int{}, loads: map[uint64]int{}}
		w.sources[e.Src] = s
	}
	c := detect.Cell{Target: rank, Port: e.Dport, Proto: int8(e.Proto)}
	if e.Kind == event.KindRequest {
		if e.Method == "" {
			return
		}
		name := e.Method + " " + e.Path
		if w.objects[name] == 0 {
			w.objects[name] = uint32(len(w.objects) + 1)
		}
		c.Object = w.objects[name]
		s.agents[e.UserAgent]++
	} else {
		s.tools[e.Tool]++
		s.signs[e.Signature]++
		s.ttls[fingerprint.TTLClass(e.TTL)]++
		if e.PayloadHash != 0 {
			s.loads[e.PayloadHash]++
		}
	}
	sec := e.Time / 1e6
	w.from, w.to = min(w.from, sec), max(w.to, sec)
	span, ok := s.cells[c]
	if !ok {
		span = [2]int64{sec, sec}
	}
	s.cells[c] = [2]int64{min(span[0], sec), max(span[1], sec)}
	s.events++
}

func most[K cmp.Ordered](counts map[K]int) K {
	var best K
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		if counts[k] > counts[best] {
			best = k
		}
	}
	return best
}

func (w *watcher) input() *detect.Input {
	in := &detect.Input{Universe: detect.Universe{Blocks: w.blocks}, Start: w.from, End: w.to + 1}
	for _, src := range slices.SortedFunc(maps.Keys(w.sources), func(a, b event.IP) int { return slices.Compare(a[:], b[:]) }) {
		s := w.sources[src]
		d := detect.Source{Addr: event.Addr(src), Behaviour: detect.Behaviour{
			Tool: most(s.tools), Signature: most(s.signs), TTLClass: most(s.ttls), UserAgent: most(s.agents), Payload: most(s.loads), Packets: s.events,
		}}
		for c, span := range s.cells {
			c.First, c.Last = uint32(span[0]-w.from), uint32(span[1]-w.from)
			d.Cells = append(d.Cells, c)
		}
		slices.SortFunc(d.Cells, func(a, b detect.Cell) int {
			return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Target, b.Target), cmp.Compare(a.Object, b.Object))
		})
		in.Sources = append(in.Sources, d)
	}
	return in
}

// TestRealScanners runs the detector over the packets of real tools with known sources.
func TestRealScanners(t *testing.T) {
	telescopes := []netip.Prefix{netip.MustParsePrefix("198.18.0.0/18"), netip.MustParsePrefix("198.19.0.16/28")}
	w := &watcher{
		blocks: []detect.Block{
			{Prefix: telescopes[0], Sensor: "telescope", First: 0, Size: 16384},
			{Prefix: telescopes[1], Sensor: "honeypot", First: 16384, Size: 16},
		},
		sources: map[event.IP]*watched{}, objects: map[string]uint32{}, from: 1 << 40,
	}
	for _, name := range []string{"telescope.pcap.zst", "honeypot.pcap.zst"} {
		f, err := os.Open(samples(t, name))
		require.NoError(t, err)
		r, err := capture.NewReader(f, name, capture.Options{Sensor: name, Telescopes: telescopes})
		require.NoError(t, err)
		var b event.Batch
		for {
			err = r.Next(&b)
			if b.Len() > 4096 || err != nil {
				for i := range b.Len() {
					e := b.Row(i)
					w.add(&e)
				}
				b.Reset()
			}
			if err != nil {
				break
			}
		}
		require.True(t, errors.Is(err, io.EOF), "%v", err)
		require.NoError(t, r.Close())
		require.NoError(t, f.Close())
	}
	in := w.input()

	f, err := os.Open(samples(t, "truth.csv"))
	require.NoError(t, err)
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	at := map[string]int{}
	for i, s := range in.Sources {
		at[s.Addr.String()] = i
	}
	byName := map[string]*simulate.Truth{}
	for _, row := range rows[1:] {
		name := row[1]
		i, ok := at[row[0]]
		if name == "background" || !ok {
			require.True(t, name == "background", "campaign source %s has no event", row[0])
			continue
		}
		if byName[name] == nil {
			byName[name] = &simulate.Truth{Name: name, Decidable: name != "I-missharded"}
		}
		byName[name].Sources = append(byName[name].Sources, i)
	}
	var truth []simulate.Truth
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		slices.Sort(byName[name].Sources)
		truth = append(truth, *byName[name])
	}
	for seed := range uint64(3) {
		res := run(t, in, detect.Params{Seed: seed})
		s := simulate.Judge(truth, res.Campaigns)
		assert.Zero(t, s.False)
		for _, c := range s.Campaigns {
			assert.GreaterOrEqual(t, c.Precision, 0.97, "%s, seed %d", c.Name, seed)
			assert.GreaterOrEqual(t, c.Recall, 0.97, "%s, seed %d", c.Name, seed)
			assert.Equal(t, 1, c.Pieces, "%s, seed %d", c.Name, seed)
			want := detect.PatternParallel
			if c.Name == "D-nmap" { // eight ranges of a minute each in six days
				want = detect.PatternBursts
			}
			assert.Equal(t, want, c.Pattern, "%s, seed %d", c.Name, seed)
		}
		for _, c := range res.Campaigns {
			t.Logf("%d sources, evidence %.1f, coverage %.3f, overlap %.3f, %v %v; %s %+v", len(c.Members), c.Evidence, c.Coverage, c.OverlapRatio, c.Space, c.Ports, c.Pattern, c.Arrangement)
		}
	}
}
