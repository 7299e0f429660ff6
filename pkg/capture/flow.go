package capture

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"

	"murmuration/pkg/event"
)

// How long a connection may be silent, in microseconds, before packets with the same addresses and ports
// are a new one. TCP connections may idle for hours; an answer to a datagram that comes
// after minutes is none.
const (
	idleTCP   = 24 * 3600 * 1e6
	idleOther = 300 * 1e6
)

// flowKey is a conversation without its direction: both ends in ascending order, the protocol, and for ICMP
// what is asked.
type flowKey [2*16 + 2*2 + 1 + 1]byte

// keyOf returns the key of the conversation, and whether its source is the lower end.
func keyOf(src, dst *event.IP, sport, dport uint16, proto uint8) (k flowKey, low bool) {
	order := bytes.Compare(src[:], dst[:])
	low = order < 0 || order == 0 && sport <= dport
	if !low {
		src, dst, sport, dport = dst, src, dport, sport
	}
	copy(k[:16], src[:])
	copy(k[16:32], dst[:])
	binary.BigEndian.PutUint16(k[32:], sport)
	binary.BigEndian.PutUint16(k[34:], dport)
	k[36] = proto
	return k, low
}

// flowState is what is known of how a conversation began.
type flowState uint8

const (
	flowForgotten flowState = iota // nothing: it is idle, and only keeps its place
	flowProbed                     // with a probe that opens no connection
	flowOpened                     // with a SYN, or so that there must have been one
	flowStray                      // with a segment from the middle: who opened it is a guess
)

// flow is one remembered conversation.
type flow struct {
	key       flowKey
	state     flowState
	low       bool   // the initiator is the key's lower end
	seen      bool   // was used since the clock's hand passed
	begun     bool   // boundary is known
	requested bool   // its first payload was seen
	http      bool   // its last message was HTTP
	boundary  uint32 // the initiator's sequence number where the next request may begin
	syn       uint32 // of the SYN
	last      int64  // time of the last packet, µs
	head      *head  // the request whose head is incomplete
}

// flows is a bounded table. When it is full, the flow that the clock's hand finds unused since its last
// round makes room. What is remembered depends on the packets alone, not on the hash, whose seed is
// random so that nobody can make the search long.
//
// The index is an open table with linear probing that holds 32 bits of each hash: a packet of a new
// conversation, the usual case in a telescope, is told by one look into it without touching a flow.
type flows struct {
	pages [][]flow
	n     int
	max   int
	hand  int
	seed  maphash.Seed
	index []slot      // its length is a power of two, at least twice n
	evict func(*flow) // takes the incomplete request of a flow that goes
}

// slot is where a flow is: its hash, and its number plus one; 0 in a free slot.
type slot struct{ hash, ref uint32 }

// place is the answer to a search, by which a flow can be put where none was found.
type place struct {
	key  flowKey
	hash uint32
	old  *flow // the flow with this key, even if idle
}

const (
	flowPage = 1 << 12
	minIndex = 1 << 13
)

func newFlows(limit int, evict func(*flow)) *flows {
	return &flows{max: limit, seed: maphash.MakeSeed(), evict: evict, index: make([]slot, minIndex)}
}

func (t *flows) at(i int) *flow { return &t.pages[i/flowPage][i%flowPage] }

func (t *flows) hash(k *flowKey) uint32 { return uint32(maphash.Bytes(t.seed, k[:])) }

// get returns the flow with this key that is not idle at the time now, or nil, and the place for put.
func (t *flows) get(k *flowKey, now int64) (*flow, place) {
	at := place{key: *k, hash: t.hash(k)}
	f := t.find(at.hash, k)
	at.old = f
	if f == nil || f.state == flowForgotten {
		return nil, at
	}
	idle := int64(idleOther)
	if k[36] == protoTCP {
		idle = idleTCP
	}
	if gap := now - f.last; gap > idle || gap < -idle {
		t.forget(f)
		return nil, at
	}
	f.last, f.seen = now, true
	return f, at
}

func (t *flows) find(hash uint32, k *flowKey) *flow {
	mask := uint32(len(t.index) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := t.index[i]
		if s.ref == 0 {
			return nil
		}
		if s.hash == hash {
			if f := t.at(int(s.ref - 1)); f.key == *k {
				return f
			}
		}
	}
}

// forget empties a flow, which keeps its place in the table.
func (t *flows) forget(f *flow) {
	for f.head != nil { // What follows a message may begin to wait in its turn.
		t.evict(f)
	}
	*f = flow{key: f.key}
}

// put begins the flow anew that get has looked for: in the place of the old one with this key, in a free place,
// or in the place of one that is evicted.
func (t *flows) put(at *place, state flowState, low bool, now int64) *flow {
	f := at.old
	if f == nil {
		f = t.add(at)
	} else {
		t.forget(f)
	}
	f.state, f.low, f.last = state, low, now
	return f
}

func (t *flows) add(at *place) *flow {
	i := t.n
	if t.n < t.max {
		if t.n == len(t.pages)*flowPage {
			t.pages = append(t.pages, make([]flow, flowPage))
		}
		if t.n++; 2*t.n > len(t.index) {
			t.grow()
		}
	} else {
		i = t.victim()
	}
	f := t.at(i)
	*f = flow{key: at.key}
	t.insert(slot{at.hash, uint32(i + 1)})
	return f
}

func (t *flows) insert(s slot) {
	mask := uint32(len(t.index) - 1)
	i := s.hash & mask
	for t.index[i].ref != 0 {
		i = (i + 1) & mask
	}
	t.index[i] = s
}

func (t *flows) grow() {
	old := t.index
	t.index = make([]slot, 2*len(old))
	for _, s := range old {
		if s.ref != 0 {
			t.insert(s)
		}
	}
}

// victim frees one place by the clock algorithm and returns its number.
func (t *flows) victim() int {
	for {
		i := t.hand
		t.hand = (t.hand + 1) % t.n
		f := t.at(i)
		if f.seen {
			f.seen = false
			continue
		}
		t.forget(f)
		t.remove(slot{t.hash(&f.key), uint32(i + 1)})
		return i
	}
}

// remove takes s out of the index and moves up those behind it, so that every search still ends at the first
// free slot (Knuth, The Art of Computer Programming 6.4, algorithm R).
func (t *flows) remove(s slot) {
	mask := uint32(len(t.index) - 1)
	i := s.hash & mask
	for t.index[i] != s {
		i = (i + 1) & mask
	}
	for j := i; ; {
		j = (j + 1) & mask
		next := t.index[j]
		if next.ref == 0 {
			break
		}
		if (j-next.hash)&mask >= (j-i)&mask {
			t.index[i] = next
			i = j
		}
	}
	t.index[i] = slot{}
}
