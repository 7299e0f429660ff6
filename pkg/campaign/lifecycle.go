package campaign

import (
	"cmp"
	"slices"
	"time"

	"murmuration/pkg/detect"
	"murmuration/pkg/store"
)

// The states of a campaign at a time. docs/design/lifecycle.md gives the rules with their reasons.
const (
	StateEmerging = "emerging" // active, and began within the last day or has still less than half of its space to show and goes on
	StateActive   = "active"   // silent for no longer than twice its own longest pause, or an hour
	StateDormant  = "dormant"  // silent for longer
	StateEnded    = "ended"    // silent for four of its pauses, for its life (a month at most), and for a day
)

const (
	hour  = 3600
	day   = 24 * hour
	month = 30 * day
)

// life is what decides the state of a campaign. Times are seconds; silences are watched time only.
type life struct {
	first, last int64 // since 1970-01-01 UTC, over all runs
	pause       int64 // the longest silence between first and last
	silent      int64 // the silence since last
	growing     bool  // found in this run with less than half of its space covered, and covering more
}

func (l life) state(now int64) string {
	switch {
	case l.silent > max(4*l.pause, min(l.last-l.first, month), day):
		return StateEnded
	case l.silent > max(2*l.pause, hour):
		return StateDormant
	case now-l.first <= day || l.growing:
		return StateEmerging
	}
	return StateActive
}

// growing reports whether a campaign has covered less than half of its space and went on in the last quarter of
// its time at half of its mean pace or more.
func growing(c *detect.Campaign) bool {
	n := len(c.Timeline)
	if n < 4 || c.Coverage >= 0.5 {
		return false
	}
	end, before := c.Timeline[n-1], c.Timeline[n-1-n/4]
	return end > 0 && (end-before)/end >= 0.125
}

// longestPause returns the longest silence of a campaign between touches of its members on its ports, blind times left out,
// in seconds.
func longestPause(in *detect.Input, c *detect.Campaign, blind []interval) int64 {
	var touches []uint32
	for _, m := range c.Members {
		for _, cell := range in.Sources[m.Source].Cells {
			if slices.ContainsFunc(c.Ports, func(p detect.Port) bool { return p.Port == cell.Port && int8(p.Proto) == cell.Proto }) {
				touches = append(touches, cell.First, cell.Last)
			}
		}
	}
	slices.Sort(touches)
	longest := int64(0)
	for i := 1; i < len(touches); i++ {
		a, b := in.Start+int64(touches[i-1]), in.Start+int64(touches[i])
		// Only a difference above the record can beat it, and few do.
		if b-a > longest {
			longest = max(longest, lived(blind, a, b))
		}
	}
	return longest
}

// judged is a campaign with its tempo and state.
type judged struct {
	state  string
	pause  int64
	silent int64
}

// judge finds the state of a campaign that this run found; k is what was known of it before, nil if it is new.
func judge(in *detect.Input, c *detect.Campaign, k *Known, w *watch, now int64) judged {
	blind := w.blind(w.watchers(c.Space))
	l := life{first: c.First, last: c.Last, pause: longestPause(in, c, blind), growing: c.Emerging || growing(c)}
	if k != nil {
		if k.Last < c.First {
			l.pause = max(l.pause, lived(blind, k.Last, c.First))
		}
		l.pause = max(l.pause, k.Pause)
		l.first, l.last = min(l.first, k.First), max(l.last, k.Last)
	}
	l.silent = lived(blind, l.last, now)
	return judged{l.state(now), l.pause, l.silent}
}

// age finds the state of a known campaign that this run did not find.
func age(k *Known, w *watch, now int64) judged {
	l := life{first: k.First, last: k.Last, pause: k.Pause, silent: lived(w.blind(w.watchers(k.Targets)), k.Last, now)}
	state := l.state(now)
	if state == StateEmerging {
		state = StateActive // What no run finds any more does not emerge.
	}
	if k.MergedInto != "" {
		state = StateEnded
	}
	return judged{state, l.pause, l.silent}
}

// states lists what the run thinks of every campaign: those it found, and those it did not. A campaign that began behind
// the end of the window does not exist for the run, and of one that had ended and stays so there is nothing to say: the table
// would grow by all campaigns there ever were with every run.
func states(rep *Report, known []Known, w *watch) []store.CampaignState {
	merged := map[string]string{}
	for _, l := range rep.Links {
		if l.Kind == store.LinkMerged {
			merged[l.Earlier] = l.Later
		}
	}
	var out []store.CampaignState
	found := map[string]bool{}
	for i := range rep.Found {
		f := &rep.Found[i]
		found[f.ID] = true
		out = append(out, store.CampaignState{Campaign: f.ID, Seen: true, State: f.State, AsOf: rep.To, Silent: f.Silent})
	}
	for i := range known {
		k := &known[i]
		if found[k.ID] || k.First >= rep.To.Unix() {
			continue
		}
		into := merged[k.ID]
		if into != "" {
			k.MergedInto = into
		}
		j := age(k, w, rep.To.Unix())
		if into == "" && j.state == StateEnded && k.State == StateEnded {
			continue
		}
		out = append(out, store.CampaignState{
			Campaign: k.ID, State: j.state, AsOf: rep.To, Silent: time.Duration(j.silent) * time.Second, MergedInto: k.MergedInto,
		})
	}
	slices.SortFunc(out, func(a, b store.CampaignState) int { return cmp.Compare(a.Campaign, b.Campaign) })
	return out
}
