package campaign

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine/enginetest"
	"murmuration/pkg/store"
)

// A window that reaches further back than footprints are kept says so, and the run's record, too; one that does not, or data that was never older, says nothing.
func TestAWindowLongerThanTheRetention(t *testing.T) {
	f := newField(t)
	f.watch("198.18.0.0/22", "")
	now := time.Now().UTC().Truncate(24 * time.Hour)
	ago := func(n int) time.Time { return now.AddDate(0, 0, -n) }
	f.sweep(sweep{members: sources("100.64.0.0", 32), prefix: "198.18.0.0/22", port: 80, from: ago(400), to: ago(398), tool: "zmap"})
	f.sweep(sweep{members: sources("100.65.0.0", 32), prefix: "198.18.0.0/22", port: 80, from: ago(20), to: ago(18), tool: "zmap"})
	f.hum("", "198.18.0.0/24", 5, ago(20), ago(18))
	f.hum("old", "198.18.1.0/24", 5, ago(400), ago(399))
	told := func(window time.Duration) []string {
		rep := f.run(ago(18), window)
		var out []string
		for _, n := range rep.Notes {
			if strings.Contains(n, "dropped") {
				out = append(out, n)
			}
		}
		recorded := enginetest.Exec(t, "SELECT count() FROM "+f.opt.Database+".campaign_notes WHERE position(note, 'dropped') > 0 AND run = '"+rep.Run+"'")
		require.Equal(t, len(out), int(strings.TrimSpace(recorded)[0]-'0'), "what is told is recorded with the run")
		return out
	}
	require.Empty(t, told(0), "nothing is dropped unless that is set")

	require.NoError(t, f.st.SetRetention(t.Context(), map[string]uint32{store.TierEvents: 100, store.TierFootprints: 200}))
	enginetest.Exec(t, "ALTER TABLE "+f.opt.Database+".footprints_state MATERIALIZE TTL SETTINGS mutations_sync = 2")
	enginetest.Exec(t, "OPTIMIZE TABLE "+f.opt.Database+".footprints_state FINAL")
	require.Len(t, f.run(ago(18), 0).Found, 1, "the older sweep is gone")
	notes := told(0)
	require.Len(t, notes, 1)
	require.Contains(t, notes[0], "the window reaches back to "+ago(400).Format(time.DateOnly))
	require.Contains(t, notes[0], "and footprints of before "+time.Now().UTC().AddDate(0, 0, -200).Format(time.DateOnly))
	require.Len(t, told(300*days), 1)
	require.Empty(t, told(100*days))

	require.NoError(t, f.st.SetRetention(t.Context(), map[string]uint32{store.TierHours: 150}))
	notes = told(180 * days)
	require.Len(t, notes, 1)
	require.Contains(t, notes[0], "whether sensors were dead until then is not known")
	enginetest.Exec(t, "ALTER TABLE "+f.opt.Database+".port_hours_state MATERIALIZE TTL SETTINGS mutations_sync = 2")
	enginetest.Exec(t, "OPTIMIZE TABLE "+f.opt.Database+".port_hours_state FINAL")
	for _, g := range f.run(ago(18), 180*days).Gaps {
		if g.Sensor == "old" {
			require.True(t, g.Since.After(ago(151)), "dead since %s, of which the hours are gone", g.Since)
			return
		}
	}
	require.Fail(t, "a sensor that saw nothing in the hours that are kept is dead in them")
}

func TestKept(t *testing.T) {
	k := kept{footprints: at(10, 0), first: at(20, 0)}
	require.Empty(t, k.notes(at(0, 0), false), "there never was anything older")
	k.days = at(5, 0)
	require.Len(t, k.notes(at(0, 0), false), 1, "what was there before the first day that is left is not known")
	k.days = at(15, 0)
	require.Len(t, k.notes(at(20, 0), true), 1)
	require.Contains(t, k.notes(at(20, 0), true)[0], "give a --window")
	require.Empty(t, k.notes(at(20, 0), false))
}
