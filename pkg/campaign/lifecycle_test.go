package campaign

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"murmuration/pkg/store"
)

const days = 24 * time.Hour

// only returns the one campaign of a report.
func only(t *testing.T, rep *Report) *Found {
	t.Helper()
	require.Len(t, rep.Found, 1, "%v", rep.Notes)
	return &rep.Found[0]
}

// kinds lists the links of a report as "kind earlier>later".
func kinds(rep *Report) []string {
	var out []string
	for _, l := range rep.Links {
		out = append(out, l.Kind+" "+l.Earlier+">"+l.Later)
	}
	return out
}

func TestACampaignIsRecognisedAndExtended(t *testing.T) {
	f := newField(t)
	f.watch("198.18.0.0/22", "")
	a := sources("100.64.0.0", 48)
	f.sweep(sweep{members: a[:32], prefix: "198.18.0.0/22", port: 80, from: at(0, 0), to: at(2, 0), tool: "zmap"})
	f.sweep(sweep{members: a, prefix: "198.18.0.0/22", port: 80, from: at(3, 0), to: at(5, 0), tool: "zmap"})

	f.hum("", "198.18.0.0/24", 5, at(0, 0), at(5, 0))

	first := only(t, f.run(at(2, 0), 2*days))
	require.True(t, first.New)
	rep := f.run(at(5, 0), 2*days)
	second := only(t, rep)
	require.False(t, second.New)
	require.Equal(t, first.ID, second.ID)
	require.Equal(t, []string{"continued " + first.ID + ">" + first.ID}, kinds(rep))
	require.EqualValues(t, 32, rep.Links[0].Shared)
	require.EqualValues(t, 4, rep.Links[0].SharedNetworks)
	require.EqualValues(t, 48, rep.Links[0].LaterSources)

	k := f.known()[first.ID]
	require.EqualValues(t, 2, k.Runs)
	require.EqualValues(t, 48, k.SourcesEver)
	require.Equal(t, first.First, k.First.Unix(), "its life began in the window of the first run")
	require.Equal(t, second.Last, k.Last.Unix())
	require.GreaterOrEqual(t, k.Pause, 23*time.Hour, "the pause between the sweeps is part of its tempo")
}

func TestACampaignThatARunDoesNotReachIsKept(t *testing.T) {
	f := newField(t)
	f.watch("198.18.0.0/22", "")
	f.sweep(sweep{members: sources("100.64.0.0", 32), prefix: "198.18.0.0/22", port: 80, from: at(0, 0), to: at(2, 0), tool: "zmap"})
	f.hum("", "198.18.0.0/24", 5, at(0, 0), at(40, 0))

	id := only(t, f.run(at(2, 0), 2*days)).ID
	require.Equal(t, StateActive, f.known()[id].State)
	for _, x := range []struct {
		at    float64
		state string
	}{{2.1, StateDormant}, {3, StateDormant}, {5, StateEnded}, {40, StateEnded}} {
		rep := f.run(at(x.at, 1), 12*time.Hour)
		if x.at > 3 {
			require.Empty(t, rep.Found)
		}
		require.Equal(t, x.state, f.known()[id].State, "on day %v", x.at)
		require.Equal(t, at(min(x.at, 5), 1), f.known()[id].AsOf, "its end is said once")
	}
	states, _, err := f.st.CampaignHistory(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, states, 4)
	require.False(t, states[3].Seen)

	// A look back at an earlier time changes nothing of what is known now.
	f.run(at(2, 0), 2*days)
	require.Equal(t, StateEnded, f.known()[id].State)
}

func TestCampaignsSplitAndMerge(t *testing.T) {
	f := newField(t)
	f.watch("198.18.0.0/21", "")
	all := sources("100.64.0.0", 64)
	left, right := all[:40], all[40:]
	both := func(from, to time.Time) {
		f.sweep(sweep{members: all, prefix: "198.18.0.0/21", port: 80, from: from, to: to, tool: "zmap"})
		f.sweep(sweep{members: all, prefix: "198.18.0.0/21", port: 443, from: from, to: to, tool: "zmap"})
	}
	both(at(0, 0), at(1, 0))
	whole := only(t, f.run(at(1, 0), days))
	require.Len(t, whole.Ports, 2)

	// Day 3: each part has a port of its own.
	f.sweep(sweep{members: left, prefix: "198.18.0.0/21", port: 80, from: at(3, 0), to: at(4, 0), tool: "zmap"})
	f.sweep(sweep{members: right, prefix: "198.18.0.0/21", port: 443, from: at(3, 0), to: at(4, 0), tool: "masscan"})
	rep := f.run(at(4, 0), days)
	require.Len(t, rep.Found, 2)
	pieces := map[int]string{len(rep.Found[0].Members): rep.Found[0].ID, len(rep.Found[1].Members): rep.Found[1].ID}
	require.Equal(t, whole.ID, pieces[40], "the larger piece keeps the name")
	piece := pieces[24]
	require.NotEqual(t, whole.ID, piece)
	require.ElementsMatch(t, []string{"continued " + whole.ID + ">" + whole.ID, "split " + whole.ID + ">" + piece}, kinds(rep))

	// Day 6: one again.
	both(at(6, 0), at(7, 0))
	rep = f.run(at(7, 0), days)
	require.Equal(t, whole.ID, only(t, rep).ID)
	require.ElementsMatch(t, []string{"continued " + whole.ID + ">" + whole.ID, "merged " + piece + ">" + whole.ID}, kinds(rep))
	require.Equal(t, whole.ID, f.known()[piece].MergedInto)
	require.Equal(t, StateEnded, f.known()[piece].State)

	// The next run does not say so again, and still knows it.
	rep = f.run(at(7, 1), days+time.Hour)
	require.Equal(t, []string{"continued " + whole.ID + ">" + whole.ID}, kinds(rep))
	require.Equal(t, whole.ID, f.known()[piece].MergedInto)
	_, links, err := f.st.CampaignHistory(t.Context(), piece)
	require.NoError(t, err)
	require.Len(t, links, 2, "split, then merged")
}

func TestNewAddressesInTheSameNetworks(t *testing.T) {
	f := newField(t)
	f.watch("198.18.0.0/22", "")
	old := sources("100.64.0.0", 40)
	var moved []netip.Addr
	for _, a := range old {
		b := a.As4()
		b[3] += 100
		moved = append(moved, netip.AddrFrom4(b))
	}
	f.sweep(sweep{members: old, prefix: "198.18.0.0/22", port: 80, from: at(0, 0), to: at(1, 0), tool: "zmap"})
	id := only(t, f.run(at(1, 0), days)).ID
	f.sweep(sweep{members: moved, prefix: "198.18.0.0/22", port: 80, from: at(2, 0), to: at(3, 0), tool: "zmap"})
	rep := f.run(at(3, 0), days)
	require.Equal(t, id, only(t, rep).ID)
	require.Equal(t, store.BasisNetworks, rep.Links[0].Basis)
	require.Zero(t, rep.Links[0].Shared)

	// The same networks at another port are another campaign.
	f.sweep(sweep{members: old, prefix: "198.18.0.0/22", port: 443, from: at(5, 0), to: at(6, 0), tool: "zmap"})
	require.NotEqual(t, id, only(t, f.run(at(6, 0), days)).ID)
}

// A dead sensor is neither a quiet campaign nor one that ended.
func TestADeadSensorEndsNothing(t *testing.T) {
	f := newField(t)
	f.watch("198.18.0.0/22", "north")
	f.watch("198.18.16.0/22", "south")
	f.hum("south", "198.18.16.0/24", 30, at(-20, 0), at(14, 0))
	f.hum("north", "198.18.0.0/24", 30, at(-20, 0), at(3, 0))
	f.sweep(sweep{members: sources("100.64.0.0", 32), prefix: "198.18.0.0/22", port: 80, sensor: "north", from: at(1, 0), to: at(3, 0), tool: "zmap"})
	f.sweep(sweep{members: sources("100.80.0.0", 32), prefix: "198.18.16.0/22", port: 22, sensor: "south", from: at(1, 0), to: at(3, 0), tool: "masscan"})

	rep := f.run(at(3, 0), 3*days)
	require.Len(t, rep.Found, 2)
	require.Empty(t, rep.Gaps)
	ids := map[uint16]string{}
	for _, x := range rep.Found {
		ids[x.Ports[0].Port] = x.ID
	}

	rep = f.run(at(13, 0), 2*days)
	require.Empty(t, rep.Found)
	require.Equal(t, StateEnded, f.known()[ids[22]].State)
	require.Equal(t, StateActive, f.known()[ids[80]].State, "nobody has looked since")
	require.Less(t, f.known()[ids[80]].Silent, time.Hour)
	gaps, err := f.st.GapsOf(t.Context(), rep.Run)
	require.NoError(t, err)
	require.Len(t, gaps, 1)
	require.Equal(t, "north", gaps[0].Sensor)
	require.Equal(t, at(11, 0), gaps[0].Since, "as far as it lies in the window")
	require.Equal(t, at(13, 0), gaps[0].Until)
	require.Contains(t, rep.Notes[0], "sensor north saw nothing for 48 hours")

	// It comes back to life and sees no campaign: from now on silence counts.
	f.hum("north", "198.18.0.0/24", 30, at(13, 0), at(17, 0))
	f.hum("south", "198.18.16.0/24", 30, at(14, 0), at(17, 0))
	f.run(at(17, 0), 2*days)
	require.Equal(t, StateEnded, f.known()[ids[80]].State)
}

func TestStates(t *testing.T) {
	for _, x := range []struct {
		name string
		life life
		want string
	}{
		{"began today", life{first: 0, last: 3600, pause: 60, silent: 60}, StateEmerging},
		{"a burst an hour ago", life{first: 0, last: 600, pause: 10, silent: hour + 1}, StateDormant},
		{"a burst yesterday", life{first: 0, last: 600, pause: 10, silent: day + 1}, StateEnded},
		{"weeks of steady work", life{first: -20 * day, last: 0, pause: 600, silent: 0}, StateActive},
		{"weeks of steady work, half of it to come", life{first: -20 * day, last: 0, pause: 600, growing: true}, StateEmerging},
		{"silent for a day after weeks", life{first: -20 * day, last: 0, pause: 600, silent: day}, StateDormant},
		{"silent for as long as it lived", life{first: -20 * day, last: 0, pause: 600, silent: 20*day + 1}, StateEnded},
		{"one sweep a week, in the pause", life{first: -60 * day, last: 0, pause: 6 * day, silent: 11 * day}, StateActive},
		{"one sweep a week, one left out", life{first: -60 * day, last: 0, pause: 6 * day, silent: 13 * day}, StateDormant},
		{"one sweep a month, silent for a quarter", life{first: -300 * day, last: 0, pause: 29 * day, silent: 90 * day}, StateDormant},
		{"a year of work, silent for a month", life{first: -365 * day, last: 0, pause: day, silent: 31 * day}, StateEnded},
	} {
		require.Equal(t, x.want, x.life.state(x.life.last+x.life.silent), x.name)
	}
}
