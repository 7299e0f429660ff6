package capture

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"murmuration/pkg/event"
)

// choppy hands out its data in pieces of drawn sizes, some of them empty, and may give the end together with
// the last piece.
type choppy struct {
	t     *rapid.T
	data  []byte
	eager bool
}

func (c *choppy) Read(p []byte) (int, error) {
	n := min(len(p), len(c.data), rapid.SampledFrom([]int{0, 1, 7, 100, 4096, 1 << 20}).Draw(c.t, "piece"))
	copy(p, c.data[:n])
	c.data = c.data[n:]
	if len(c.data) == 0 && (n == 0 || c.eager) {
		return n, io.EOF
	}
	return n, nil
}

// small is the beginning of the base capture, so that a property can be tried often.
func small(t testing.TB, records int) []byte {
	raw := base(t)
	n := pcapHeader
	for range records {
		n += 16 + int(uint32(raw[n+8])|uint32(raw[n+9])<<8)
	}
	return raw[:n]
}

// trace is everything that comes out of an input: all marks, and the events before each.
type trace struct {
	marks  []Mark
	events []int
	batch  event.Batch
	err    error
}

func follow(r io.Reader) (*trace, error) {
	tr := new(trace)
	rd, err := NewReader(r, "input", Options{})
	if err != nil {
		return nil, err
	}
	defer rd.Close()
	for {
		tr.marks = append(tr.marks, rd.Mark())
		tr.events = append(tr.events, tr.batch.Len())
		if tr.err = rd.Next(&tr.batch); tr.err != nil {
			return tr, nil
		}
	}
}

// How the input arrives does not matter.
func TestAnySplitGivesTheSame(t *testing.T) {
	raw := small(t, 300)
	want, err := follow(bytes.NewReader(raw))
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		got, err := follow(&choppy{t: t, data: raw, eager: rapid.Bool().Draw(t, "eager")})
		if err != nil || !errors.Is(got.err, io.EOF) {
			t.Fatal(err, got.err)
		}
		if fmt.Sprint(got.marks, got.events) != fmt.Sprint(want.marks, want.events) {
			t.Fatal("marks differ")
		}
		requireSame(t, &want.batch, &got.batch)
	})
}

// A file that is cut anywhere gives the marks and events of the whole file up to there, and an error that
// names the place unless it is cut between records.
func TestCutIsAPrefix(t *testing.T) {
	for name, raw := range map[string][]byte{"pcap": small(t, 300), "pcapng": ngFile(t, nil, 6, 0)[:maxBlock+60000]} {
		whole, err := follow(bytes.NewReader(raw))
		require.NoError(t, err)
		for i, m := range whole.marks {
			require.Equal(t, sha256.Sum256(raw[:m.Offset]), m.Sum)
			if name == "pcap" {
				require.EqualValues(t, i, m.Records)
			}
		}
		rapid.Check(t, func(t *rapid.T) {
			n := rapid.IntRange(int(whole.marks[0].Offset), len(raw)).Draw(t, "length")
			got, err := follow(bytes.NewReader(raw[:n]))
			if err != nil {
				t.Fatal(err)
			}
			for i, m := range got.marks {
				if m != whole.marks[i] || got.events[i] != whole.events[i] {
					t.Fatalf("%s cut at %d: mark %d differs", name, n, i)
				}
			}
			last := got.marks[len(got.marks)-1]
			if errors.Is(got.err, io.EOF) {
				if name == "pcap" && last.Offset != int64(n) {
					t.Fatalf("a clean end at %d behind the mark %d", n, last.Offset)
				}
				return
			}
			var e *Error
			if !errors.As(got.err, &e) || !errors.Is(got.err, ErrTruncated) || e.Offset < last.Offset || e.Offset > int64(n) {
				t.Fatalf("%s cut at %d: %v", name, n, got.err)
			}
		})
	}
}

// Whoever flushes at cuts gets, part by part, the same events from a file that ends there and from one
// that goes on: nothing is lost or doubled when a file grows between two loads.
func TestGrowingFile(t *testing.T) {
	raw := plainHoneypot(t)
	rapid.Check(t, func(t *rapid.T) {
		cuts := rapid.SliceOfNDistinct(rapid.IntRange(1, len(packets(raw))-1), 1, 6, rapid.ID).Draw(t, "cuts")
		at := map[uint64]bool{}
		for _, c := range cuts {
			at[uint64(c)] = true
		}
		parts, ends := inParts(t, raw, at)
		for i, end := range ends {
			got, _ := inParts(t, raw[:end], at)
			for j := range i + 1 {
				requireSame(t, parts[j], got[j])
			}
		}
	})
}

func inParts(t *rapid.T, raw []byte, at map[uint64]bool) (parts []*event.Batch, ends []int64) {
	r, err := NewReader(bytes.NewReader(raw), "input", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b := new(event.Batch)
	for {
		err := r.Next(b)
		if err == nil && !at[r.Records()] {
			continue
		}
		r.Flush(b)
		if last := len(ends); last == 0 || ends[last-1] != r.Offset() {
			parts, ends = append(parts, b), append(ends, r.Offset())
		} else if b.Len() > 0 {
			t.Fatal("events behind the last cut without a record")
		}
		b = new(event.Batch)
		if errors.Is(err, io.EOF) {
			return parts, ends
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// plainHoneypot is a capture of requests whose heads come in pieces.
func plainHoneypot(t testing.TB) []byte {
	var raw bytes.Buffer
	raw.Write(base(t)[:20])
	raw.Write([]byte{byte(LinkRaw), 0, 0, 0})
	c := newConversation(t, Options{})
	var segments [][]byte
	for i := range 12 {
		c.sport = uint16(1000 + i)
		segments = append(segments, c.segment(false, event.SYN, 1000, ""))
	}
	for at := 0; at < len(headA+getB); at += 9 {
		for i := range 12 {
			c.sport = uint16(1000 + i)
			s := headA + getB
			segments = append(segments, c.segment(false, data, 1001+uint32(at), s[at:min(at+9, len(s))]))
		}
	}
	for i, s := range segments {
		put := func(v uint32) { raw.Write([]byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)}) }
		put(1_700_000_000 + uint32(i/100))
		put(uint32(i % 100))
		put(uint32(len(s)))
		put(uint32(len(s)))
		raw.Write(s)
	}
	return raw.Bytes()
}
