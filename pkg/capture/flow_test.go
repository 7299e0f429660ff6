package capture

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"murmuration/pkg/event"
)

func testKey(i int) (k flowKey) {
	k[0], k[1], k[2] = byte(i), byte(i>>8), byte(i>>16)
	k[36] = protoUDP
	return k
}

// The table does what a map and a list gone through by a clock's hand do, with every seed.
func TestFlowsAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 40).Draw(t, "limit")
		var evicted []flowKey
		table := newFlows(limit, func(f *flow) { evicted = append(evicted, f.key); f.head = nil })
		type entry struct {
			key  flowKey
			seen bool
			live bool
		}
		var ring []*entry
		model := map[flowKey]*entry{}
		hand := 0
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			k := testKey(rapid.IntRange(0, 60).Draw(t, "key"))
			f, at := table.get(&k, 0)
			e := model[k]
			if (f != nil) != (e != nil && e.live) {
				t.Fatalf("key %v: found %v, the model says %v", k, f, e)
			}
			if f != nil {
				e.seen = true
				continue
			}
			f = table.put(&at, flowProbed, true, 0)
			f.head = new(head)
			if e != nil {
				e.live, e.seen = true, false
				continue
			}
			e = &entry{key: k, live: true}
			model[k] = e
			if len(ring) < limit {
				ring = append(ring, e)
				continue
			}
			for ring[hand].seen {
				ring[hand].seen = false
				hand = (hand + 1) % limit
			}
			if last := evicted[len(evicted)-1]; last != ring[hand].key {
				t.Fatalf("evicted %v, the model %v", last, ring[hand].key)
			}
			delete(model, ring[hand].key)
			ring[hand] = e
			hand = (hand + 1) % limit
		}
		if table.n != len(ring) {
			t.Fatalf("%d flows, the model has %d", table.n, len(ring))
		}
	})
}

// The table's memory stays below its bound however many conversations there are, and what it remembers is
// still found after many evictions.
func TestFlowsAreBounded(t *testing.T) {
	const limit = 1 << 16
	table := newFlows(limit, nil)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 5 * limit {
		k := testKey(i)
		_, at := table.get(&k, 0)
		table.put(&at, flowProbed, true, 0)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	assert.Less(t, after.HeapAlloc-before.HeapAlloc, uint64(limit*120))
	for i := range 5 * limit {
		k := testKey(i)
		f, _ := table.get(&k, 0)
		require.Equal(t, i >= 4*limit, f != nil, i)
	}
	runtime.KeepAlive(table)
}

// Two decoders with different hash seeds and the same small table give the same events.
func TestEvictionIsDeterministic(t *testing.T) {
	all := packets(base(t))
	var a, b event.Batch
	for _, batch := range []*event.Batch{&a, &b} {
		d := NewDecoder(Options{MaxFlows: 50})
		for _, p := range all {
			d.Decode(LinkEthernet, p.time, p.wire, p.data, batch)
		}
		d.Flush(batch)
	}
	require.NotEmpty(t, a.Len())
	requireSame(t, &a, &b)
}

func TestInternerIsBounded(t *testing.T) {
	var n interner
	text := make([]byte, 1<<10)
	for i := range 100_000 {
		text[0], text[1], text[2] = byte(i), byte(i>>8), byte(i>>16)
		require.Equal(t, string(text), n.get(text))
	}
	assert.LessOrEqual(t, n.bytes, internBytes)
	assert.LessOrEqual(t, len(n.strings)*len(text), internBytes)
}

// In the usual path nothing is allocated per packet.
func TestDecodingDoesNotAllocate(t *testing.T) {
	for name, all := range map[string][]packet{"many tools": packets(base(t)), "bare SYNs": bareSYNs(2000), "requests": packets(plainHoneypot(t))} {
		link := LinkEthernet
		if name == "requests" {
			link = LinkRaw
		}
		d := NewDecoder(Options{MaxFlows: 1000})
		var b event.Batch
		run := func() {
			for _, p := range all {
				d.Decode(link, p.time, p.wire, p.data, &b)
			}
			d.Flush(&b)
			b.Reset()
		}
		run()
		assert.Zero(t, testing.AllocsPerRun(3, run), name)
	}
}
