package capture

import "murmuration/pkg/event"

// Reasons why a packet became no event. The names are stable: the ledger stores them.
const (
	ReasonSegment   = "segment"   // a further packet of a connection whose probe or request is an event
	ReasonReply     = "reply"     // the answer to a probe that the capture holds
	ReasonOutbound  = "outbound"  // from the telescope to outside
	ReasonForeign   = "foreign"   // neither from nor to the telescope
	ReasonInternal  = "internal"  // from the telescope to itself
	ReasonMulticast = "multicast" // to a multicast or broadcast address, which no remote scanner reaches
	ReasonNeighbour = "neighbour" // neighbour and router discovery, multicast listeners
	ReasonNotIP     = "not_ip"    // ARP, spanning tree and other frames without IP
	ReasonFragment  = "fragment"  // a fragment other than the first
	ReasonTruncated = "truncated" // the capture cut ports or flags away
	ReasonMalformed = "malformed" // header fields that contradict each other
	ReasonTime      = "time"      // no time stamp, or one outside 1970-01-01 to 2106-02-06
	ReasonLinkType  = "link_type" // on an interface of a pcapng file whose link type is not decoded
)

// reason is a Reason as an index, for counting without a map. The zero value says that the packet
// became an event.
type reason uint8

const (
	used reason = iota
	segment
	reply
	outbound
	foreign
	internal
	multicast
	neighbour
	notIP
	fragment
	truncated
	malformed
	badTime
	badLink
	reasons
)

func (r reason) String() string {
	return [...]string{
		"", ReasonSegment, ReasonReply, ReasonOutbound, ReasonForeign, ReasonInternal, ReasonMulticast,
		ReasonNeighbour, ReasonNotIP, ReasonFragment, ReasonTruncated, ReasonMalformed, ReasonTime, ReasonLinkType,
	}[r]
}

// Tally says what became of the packets. Packets is Used plus all of Dropped. Events may exceed Used
// (one packet can hold several requests), and while a request's head is still incomplete, its first packet
// counts as used before the event is there.
type Tally struct {
	Packets uint64                // packets read
	Used    uint64                // packets that became an event, or began one
	Events  map[event.Kind]uint64 // events by kind
	Dropped map[string]uint64     // packets that became none, by reason
}

// counts is a Tally under construction.
type counts struct {
	packets uint64
	events  [event.KindOther + 1]uint64
	reasons [reasons]uint64
}

func (c *counts) tally() Tally {
	t := Tally{
		Packets: c.packets, Used: c.reasons[used],
		Events: map[event.Kind]uint64{}, Dropped: map[string]uint64{},
	}
	for k, n := range c.events {
		if n > 0 {
			t.Events[event.Kind(k)] = n
		}
	}
	for r := segment; r < reasons; r++ {
		if n := c.reasons[r]; n > 0 {
			t.Dropped[r.String()] = n
		}
	}
	return t
}
