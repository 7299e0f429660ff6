package campaign

import (
	"context"
	"fmt"
	"time"

	"murmuration/pkg/store"
)

// kept is from when on the data of a run is whole: what is older may have been dropped by the retention. Zero is for ever.
type kept struct {
	footprints time.Time // what is clustered
	hours      time.Time // by which dead sensors are told
	days       time.Time // by which the beginning of the data is told
	first      time.Time // the oldest event that the days know of
}

// readKept looks up how far back the tiers that a run reads are whole.
func readKept(ctx context.Context, st *store.Store) (k kept, err error) {
	for tier, at := range map[string]*time.Time{store.TierFootprints: &k.footprints, store.TierHours: &k.hours, store.TierDays: &k.days} {
		if *at, err = st.Horizon(ctx, tier); err != nil {
			return k, fmt.Errorf("look up how long %s are kept: %w", tier, err)
		}
	}
	if k.first, _, err = st.Span(ctx); err != nil {
		return k, fmt.Errorf("look up the time span of the data: %w", err)
	}
	return k, nil
}

// notes says, for a window that begins at from, what the run could not see because it was dropped. all says that the window is all there is.
func (k *kept) notes(from time.Time, all bool) []string {
	// Where days are kept for ever, nothing can have been dropped from before their first.
	if k.days.IsZero() {
		from = later(from, k.first)
	}
	var out []string
	if k.footprints.After(from) {
		out = append(out, fmt.Sprintf("the window reaches back to %s, and footprints of before %s may have been dropped: until then coverage, members and first touches are of what is left; `loader retention` shows how long footprints are kept",
			minute(from), minute(k.footprints)))
	}
	if k.hours.After(from) {
		out = append(out, fmt.Sprintf("the window reaches back to %s, and hours of before %s may have been dropped: whether sensors were dead until then is not known; `loader retention` shows how long hours are kept",
			minute(from), minute(k.hours)))
	}
	if all && k.days.After(k.footprints) {
		out = append(out, fmt.Sprintf("all is what the days know of, of which those of before %s may have been dropped: give a --window to look at older footprints", minute(k.days)))
	}
	return out
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }
