package simulate

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"

	"murmuration/pkg/event"
)

// Events yields the world's traffic as events in the order of time: a probe for every touch of a cell without an
// object, a request for the others. A cell that was touched again comes twice. The world must fit into memory
// twice.
func (w *World) Events() iter.Seq[event.Event] {
	type touch struct {
		at     int64
		source int32
		cell   int32
	}
	var touches []touch
	for i := range w.Input.Sources {
		for k, c := range w.Input.Sources[i].Cells {
			touches = append(touches, touch{w.Input.Start + int64(c.First), int32(i), int32(k)})
			if c.Last != c.First {
				touches = append(touches, touch{w.Input.Start + int64(c.Last), int32(i), int32(k)})
			}
		}
	}
	slices.SortFunc(touches, func(a, b touch) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.source, b.source), cmp.Compare(a.cell, b.cell))
	})
	return func(yield func(event.Event) bool) {
		for _, t := range touches {
			s := &w.Input.Sources[t.source]
			c := s.Cells[t.cell]
			e := event.Event{
				Time: t.at * 1e6, Src: event.IPOf(s.Addr), Proto: event.Proto(c.Proto), Dport: c.Port, Packets: 1,
				Kind: event.KindScan, TTL: s.Behaviour.TTLClass, Sensor: w.sensor(c.Target), Dst: event.IPOf(w.Address(c.Target)),
				Sport: uint16(32768 + (int(t.source)*7919+int(t.cell))%28000),
			}
			switch {
			case c.Object != 0:
				o := w.Objects[c.Object]
				e.Kind, e.Technique, e.Method, e.Path, e.UserAgent = event.KindRequest, event.TechniqueRequest, o.Method, o.Path, s.Behaviour.UserAgent
			case e.Proto == event.ProtoTCP:
				e.Technique, e.Flags, e.Tool, e.Signature = event.TechniqueSYN, event.SYN, s.Behaviour.Tool, s.Behaviour.Signature
			case e.Proto == event.ProtoUDP:
				e.Technique, e.PayloadHash = event.TechniqueUDP, s.Behaviour.Payload
			default:
				e.Technique, e.ICMPType = event.TechniquePing, 8
			}
			if !yield(e) {
				return
			}
		}
	}
}

func (w *World) sensor(target uint32) string {
	for _, b := range w.Input.Universe.Blocks {
		if target >= b.First && target < b.First+b.Size {
			return b.Sensor
		}
	}
	return ""
}

// Address returns the monitored address of this rank.
func (w *World) Address(target uint32) netip.Addr {
	for _, b := range w.Input.Universe.Blocks {
		if target < b.First || target >= b.First+b.Size {
			continue
		}
		raw := b.Prefix.Masked().Addr().AsSlice()
		carry := uint64(target - b.First)
		for i := len(raw) - 1; i >= 0 && carry > 0; i-- {
			carry += uint64(raw[i])
			raw[i] = byte(carry)
			carry >>= 8
		}
		a, _ := netip.AddrFromSlice(raw)
		return a
	}
	return netip.Addr{}
}
