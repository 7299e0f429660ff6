package track

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"murmuration/pkg/notify"
	"murmuration/pkg/store"
	"murmuration/pkg/surge"
)

// The kinds of events about surges.
const (
	EventBegan = "surge.began" // its alarm
	EventEnded = "surge.ended" // it is over, or it lasted so long that it became the usual (state "settled")
)

// newsFor is how long after its alarm a surge is news: twice as long as it takes to settle. A first run over months of data
// tells nobody of old ones.
const newsFor = 14 * 24 * time.Hour

// News is the data of an event about a surge.
type News struct {
	Proto    string    `json:"proto"`
	Port     uint16    `json:"port"`
	Method   string    `json:"method,omitempty"` // HTTP method; absent: every probe and request to the port
	State    string    `json:"state"`            // open, ended, settled
	Start    time.Time `json:"start"`            // estimated hour of the beginning
	Detected time.Time `json:"detected"`         // hour of the alarm
	Peak     time.Time `json:"peak"`
	End      time.Time `json:"end"`      // behind the last hour above the usual so far
	Sources  uint32    `json:"sources"`  // distinct, in the hour of the peak
	Expected float64   `json:"expected"` // that this hour would have had
	Strength float64   `json:"strength"` // sources / expected
	Evidence float64   `json:"evidence"` // -log10 p, corrected for all tests of a month
	Run      string    `json:"run"`
}

// News lists what there is to tell when the run is over: the alarm of every surge of late, and the end of those that are over, whichever run found them: one that was
// killed before it told anybody is made up for. An event is the same, by its ID, in every run that tells of it.
func (r *Report) News(ctx context.Context, st *store.Store) ([]notify.Event, error) {
	surges, err := st.Surges(ctx, r.To.Add(-newsFor), r.To)
	if err != nil {
		return nil, fmt.Errorf("look up what there is to tell: %w", err)
	}
	slices.Reverse(surges) // The store has the latest first.
	var out []notify.Event
	for i := range surges {
		x := &surges[i]
		if x.Detected.Before(r.To.Add(-newsFor)) {
			continue
		}
		out = append(out, r.event(EventBegan, x))
		if x.State != string(surge.Open) {
			out = append(out, r.event(EventEnded, x))
		}
	}
	return out, nil
}

func (r *Report) event(kind string, x *store.Surge) notify.Event {
	n := News{
		Proto: x.Proto.String(), Port: x.Port, Method: x.Method, State: x.State, Start: x.Start.UTC(), Detected: x.Detected.UTC(), Peak: x.Peak.UTC(), End: x.End.UTC(),
		Sources: x.Sources, Expected: x.Expected, Strength: x.Strength, Evidence: x.Evidence, Run: x.Run,
	}
	id := notify.ID(kind, n.Proto, strconv.Itoa(int(x.Port)), x.Method, n.Detected.Format(time.RFC3339))
	return notify.Event{ID: id, Type: kind, Time: r.Started, Data: n}
}
