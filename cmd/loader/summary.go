package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"murmuration/pkg/capture"
	"murmuration/pkg/event"
	"murmuration/pkg/load"
)

// inputSummary is one line of `loader load --format json`.
type inputSummary struct {
	Input     string            `json:"input"`
	Sensor    string            `json:"sensor"`
	Packets   uint64            `json:"packets"`
	Events    uint64            `json:"events"`
	Inserted  uint64            `json:"inserted"`
	Known     uint64            `json:"known"`
	Kinds     map[string]uint64 `json:"kinds"`
	NotEvents map[string]uint64 `json:"not_events"`
	Seconds   float64           `json:"seconds"`
	Under     string            `json:"loaded_under,omitempty"`
	Error     string            `json:"error,omitempty"`
}

func (s *loadSummary) add(r *load.Report) {
	s.inputs++
	s.packets += r.Packets
	s.events += r.Events
	s.inserted += r.Inserted
	s.known += r.Known
	kinds := map[string]uint64{}
	for k, name := range event.Kinds() {
		if n := r.Tally.Events[k]; n > 0 {
			kinds[name] = n
		}
	}
	if s.json {
		sum := inputSummary{
			Input: r.Input, Sensor: r.Sensor, Packets: r.Packets, Events: r.Events, Inserted: r.Inserted, Known: r.Known,
			Kinds: kinds, NotEvents: r.Tally.Dropped, Seconds: r.Elapsed.Seconds(),
		}
		if r.Known > 0 {
			sum.Under = r.Under
		}
		if r.Err != nil {
			sum.Error = r.Err.Error()
		}
		line, err := json.Marshal(sum)
		if err != nil {
			// Only plain values are in it; a failure here would be a mistake in this function.
			line = []byte(strconv.Quote(err.Error()))
		}
		fmt.Fprintf(s.w, "%s\n", line)
		return
	}
	if r.Err != nil && r.Packets == 0 {
		// There is nothing to sum up; standard error says why.
		fmt.Fprintf(s.w, "%s: nothing could be read\n", r.Input)
		return
	}
	fmt.Fprintf(s.w, "%s: %s packets, %s events%s: %s new, %s already loaded (%s, %s packets/s)\n", r.Input,
		thousands(r.Packets), thousands(r.Events), listed(" (", kinds, ")"), thousands(r.Inserted), thousands(r.Known),
		r.Elapsed.Round(time.Millisecond), thousands(perSecond(r.Packets, r.Elapsed)))
	if len(r.Tally.Dropped) > 0 {
		fmt.Fprintf(s.w, "  not events%s\n", listed(": ", r.Tally.Dropped, ""))
	}
	if cut := r.Tally.Dropped[capture.ReasonTruncated]; r.Events == 0 && 2*cut > r.Packets {
		fmt.Fprintln(s.w, "  the capture keeps too little of each packet to tell ports and flags: capture at least 96 bytes (tcpdump -s 96)")
	}
	if r.Known > 0 && r.Under != "" {
		fmt.Fprintf(s.w, "  what is already loaded came in under other options and keeps them: %s\n", r.Under)
	}
	if r.Err != nil {
		fmt.Fprintln(s.w, "  something was left out, see the error")
	}
}

// total closes a list of more than one input.
func (s *loadSummary) total(leftAlone int) {
	if s.json {
		return
	}
	if s.inputs > 1 {
		fmt.Fprintf(s.w, "%s: %s packets, %s events new, %s already loaded\n", count(int(s.inputs), "input"), thousands(s.packets), thousands(s.inserted), thousands(s.known))
	}
	if leftAlone > 0 {
		fmt.Fprintf(s.w, "%s left alone, not named like a capture; name a file to load it whatever it is called\n", count(leftAlone, "file"))
	}
}

// listed is "name n, name n" in the order of the counts, between before and after; empty for no counts.
func listed(before string, counts map[string]uint64, after string) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		switch {
		case counts[a] > counts[b]:
			return -1
		case counts[a] < counts[b]:
			return 1
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for _, n := range names {
		if counts[n] > 0 {
			parts = append(parts, n+" "+thousands(counts[n]))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return before + strings.Join(parts, ", ") + after
}

func perSecond(n uint64, d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	return uint64(float64(n) / d.Seconds())
}

// count is "1 row" or "2 rows"; a plural that does not end in s is given.
func count(n int, one string, many ...string) string {
	switch {
	case n == 1:
		return "1 " + one
	case len(many) > 0:
		return thousands(uint64(n)) + " " + many[0]
	}
	return thousands(uint64(n)) + " " + one + "s"
}

// thousands writes 1234567 as 1,234,567.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
