package event

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// Whatever is appended comes back by Row, and Reset leaves every column empty: a column that Append,
// Row or Reset forgot breaks one of the three.
func TestBatchKeepsEveryField(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.SliceOfN(rapid.Make[Event](), 1, 20).Draw(t, "events")
		var b Batch
		for round := 0; round < 2; round++ {
			for i := range events {
				b.Append(&events[i])
			}
			if b.Len() != len(events) {
				t.Fatalf("%d events, want %d", b.Len(), len(events))
			}
			for i := range events {
				if got := b.Row(i); got != events[i] {
					t.Fatalf("event %d: got %+v, want %+v", i, got, events[i])
				}
			}
			b.Reset()
			v := reflect.ValueOf(b)
			for i := 0; i < v.NumField(); i++ {
				if f := v.Field(i); f.Kind() == reflect.Slice && f.Len() != 0 {
					t.Fatalf("column %s has %d rows after Reset", v.Type().Field(i).Name, f.Len())
				}
			}
			if b.Bytes() != 0 {
				t.Fatalf("%d bytes after Reset", b.Bytes())
			}
		}
	})
}

func TestNamesAreDistinct(t *testing.T) {
	for p, n := range Protos() {
		got, err := ParseProto(n)
		if err != nil || got != p {
			t.Errorf("ParseProto(%q) = %v, %v; want %d", n, got, err, p)
		}
	}
	if ProtoFromNumber(132) != ProtoSCTP || ProtoFromNumber(6) != ProtoTCP || ProtoFromNumber(143) != ProtoOther {
		t.Error("protocol numbers do not fold as documented")
	}
	seen := map[string]bool{}
	for _, n := range Techniques() {
		if seen[n] {
			t.Errorf("technique %q twice", n)
		}
		seen[n] = true
	}
}
