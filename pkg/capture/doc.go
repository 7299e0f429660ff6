// Package capture turns packets into events: pcap and pcapng files, and whatever else hands over
// packets one by one.
//
// A Reader frames the records of a file and gives each to a Decoder, which strips link layers and
// tunnels, follows conversations in a bounded table, and appends events to a batch. Decoding is
// deterministic: the events of a record depend on the records up to it and on nothing else. In the usual
// path nothing is allocated per packet.
//
// What becomes an event: each probe (SYN, FIN, NULL, Xmas, Maimon, ACK, UDP, ICMP requests, SCTP INIT),
// the first payload of each connection and every further HTTP request on it, each piece of
// backscatter, and what is none of these. What becomes none is counted by reason; see Tally.
package capture
