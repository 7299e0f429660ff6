package store

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
)

// probes stores a SYN each: time, source and target by their last byte.
func probes(t *testing.T, s *Store, token string, at map[string][2]string) {
	t.Helper()
	b := new(event.Batch)
	for when, ends := range at {
		ts, err := time.Parse(time.DateTime, when)
		require.NoError(t, err)
		b.Append(&event.Event{
			Time: ts.UnixMicro(), Src: event.IPOf(netip.MustParseAddr(ends[0])), Dst: event.IPOf(netip.MustParseAddr(ends[1])),
			Dport: 80, Proto: event.ProtoTCP, Kind: event.KindScan, Technique: event.TechniqueSYN, Packets: 1,
		})
	}
	require.NoError(t, s.InsertEvents(t.Context(), b, 1, token))
}

// How long an address waited is known when the events have expired, as far as the days know it; a telescope that nobody touched has a row.
func TestWaitsWithoutEvents(t *testing.T) {
	s := open(t)
	born := time.Date(2026, 3, 5, 12, 0, 0, 0, time.UTC)
	for _, x := range []Telescope{
		{Prefix: netip.MustParsePrefix("198.51.100.0/30"), Sensor: "", Since: born},
		{Prefix: netip.MustParsePrefix("198.51.100.64/30"), Since: born},
		{Prefix: netip.MustParsePrefix("198.51.100.128/30")},
		{Prefix: netip.MustParsePrefix("198.51.100.192/30")},
		{Prefix: netip.MustParsePrefix("2001:db8::/64"), Since: born},
	} {
		require.NoError(t, s.AddTelescope(t.Context(), x))
	}
	probes(t, s, "a", map[string][2]string{
		"2026-03-05 08:00:00": {"192.0.2.1", "198.51.100.0"}, "2026-03-05 13:00:00": {"192.0.2.1", "198.51.100.0"}, "2026-03-07 12:00:00": {"192.0.2.1", "198.51.100.0"},
		"2026-03-05 14:00:00": {"192.0.2.1", "198.51.100.1"}, "2026-03-20 14:00:00": {"192.0.2.1", "198.51.100.1"},
		"2026-03-06 12:00:00": {"192.0.2.1", "198.51.100.2"},
		"2026-03-09 00:00:00": {"192.0.2.1", "198.51.100.129"}, "2026-03-09 00:01:00": {"192.0.2.1", "198.51.100.130"},
	})
	scans := func() string {
		return table(t, s, "SELECT target, seconds FROM first_scans WHERE prefix = '198.51.100.0/30' ORDER BY target")
	}
	waits := "SELECT prefix, toUnixTimestamp(born), addresses, scanned, median, percentile90, longest FROM telescope_waits ORDER BY prefix"
	assert.Equal(t, "198.51.100.0\t3600\n198.51.100.1\t7200\n198.51.100.2\t86400\n", scans())
	others := fmt.Sprintf("198.51.100.128/30\t%d\t4\t2\t0\t60\t60\n198.51.100.192/30\t0\t4\t0\t0\t0\t0\n198.51.100.64/30\t%d\t4\t0\t0\t0\t0\n2001:db8::/64\t%d\t0\t0\t0\t0\t0\n",
		time.Date(2026, 3, 9, 0, 0, 0, 0, time.UTC).Unix(), born.Unix(), born.Unix())
	assert.Equal(t, fmt.Sprintf("198.51.100.0/30\t%d\t4\t3\t7200\t86400\t86400\n", born.Unix())+others, table(t, s, waits))

	require.NoError(t, s.ddl(t.Context(), "TRUNCATE TABLE events"))
	require.NoError(t, s.ddl(t.Context(), "OPTIMIZE TABLE target_days_state FINAL"))
	assert.Equal(t, "198.51.100.0\t172800\n198.51.100.1\t7200\n198.51.100.2\t86400\n", scans(), "only the first address was touched before its birth on that day")
	assert.Equal(t, fmt.Sprintf("198.51.100.0/30\t%d\t4\t3\t86400\t172800\t172800\n", born.Unix())+others, table(t, s, waits))
}

// Times of DateTime and Date end in 1970 and 2106 without a word: however long the time, and whenever it ends, it is the time asked for or what of it there can be.
func TestLongestTimes(t *testing.T) {
	s := open(t)
	probes(t, s, "a", map[string][2]string{"2026-02-10 08:00:00": {"192.0.2.1", "198.51.100.0"}, "1995-01-01 00:00:00": {"192.0.2.2", "198.51.100.1"}})
	params := map[string]map[string]string{}
	questions, err := s.Questions()
	require.NoError(t, err)
	for _, q := range questions {
		p := map[string]string{"port": "80", "method": "", "prefix": "198.51.100.0/24", "network": "192.0.2.0/24"}
		if takes, err := s.Takes(q.Name, map[string]string{"hours": "", "at": ""}); err == nil && len(takes) == 2 {
			if p, err = s.Takes(q.Name, p); assert.NoError(t, err) {
				params[q.Name] = p
			}
		}
	}
	assert.Greater(t, len(params), 15)
	answer := func(name, hours, at string) string {
		p := params[name]
		p["hours"], p["at"] = hours, at
		r, err := s.Ask(t.Context(), name, p)
		require.NoError(t, err)
		var rows []string
		for _, line := range strings.Split(lines(t, r), "\n") {
			if name == "sources" && line != "" { // It says how long the time was.
				line = strings.Join(strings.Split(line, "\t")[:3], "\t")
			}
			rows = append(rows, line)
		}
		return strings.Join(rows, "\n")
	}
	for name := range params {
		want := answer(name, "300000", "2026-03-01")
		for _, hours := range []string{"490000", "500000", "1000000", "5000000", "4294967295"} {
			assert.Equal(t, want, answer(name, hours, "2026-03-01"), "%s(%s)", name, hours)
		}
		assert.Equal(t, want, answer(name, "4294967295", "2150-01-01"), name)
		assert.Equal(t, answer(name, "24", "1980-01-01"), answer(name, "24", "1960-01-01"), "%s: nothing is older than 1970", name)
	}
	for _, days := range []string{"28", "11391", "20000", "21000", "4294967295"} {
		r, err := s.Ask(t.Context(), "new_ports", map[string]string{"days": days, "at": "2026-02-10"})
		require.NoError(t, err)
		assert.Equal(t, days == "28", lines(t, r) != "", "the port of 1995 is not new in %s days", days)
	}
}

// A prefix of targets is the same however it is written, and ::/0 is all.
func TestPrefixesOfBothFamilies(t *testing.T) {
	s := open(t)
	probes(t, s, "a", map[string][2]string{"2026-02-10 08:00:00": {"192.0.2.1", "198.51.100.7"}, "2026-02-10 08:00:01": {"2001:db8::1", "2001:db8:1::7"}})
	for prefix, want := range map[string]string{
		"198.51.100.0/29": "198.51.100.7\n", "::ffff:198.51.100.0/125": "198.51.100.7\n", "198.51.100.8/29": "", "198.51.100.7": "198.51.100.7\n", "0.0.0.0/0": "198.51.100.7\n",
		"2001:db8:1::/64": "2001:db8:1::7\n", "::/0": "198.51.100.7\n2001:db8:1::7\n",
	} {
		for _, question := range []string{"target_sources_at", "prefix_hours_at"} {
			assert.Equal(t, want, table(t, s, "SELECT DISTINCT target FROM "+question+"(prefix = {p:String}, hours = 24, at = '2026-02-11') ORDER BY target", "p", prefix), prefix)
		}
	}
	for _, question := range []string{"what_for_at(network", "source_context_at(network", "target_sources_at(prefix"} {
		for _, wrong := range []string{"198.51.100.0/33", "198.51.100.0/200", "::/129", "::/1000"} {
			r, err := s.Query(t.Context(), "SELECT * FROM "+question+" = '"+wrong+"', hours = 24, at = '2026-02-11')", nil)
			if err == nil {
				assert.False(t, r.Next())
				err = r.Err()
				_ = r.Close() // It says the same again.
			}
			assert.ErrorContains(t, err, "a network is written such as", "%s %s", question, wrong)
		}
	}
}

// A question names the tiers that it reads and that have lost what it asks for.
func TestLostOfAQuestion(t *testing.T) {
	s := open(t)
	require.NoError(t, s.SetRetention(t.Context(), map[string]uint32{TierEvents: 10, TierFootprints: 20, TierHours: 30}))
	of := func(question string, daysAgo int) (tiers []string) {
		lost, err := s.Lost(t.Context(), question, time.Now().AddDate(0, 0, -daysAgo))
		require.NoError(t, err)
		for _, l := range lost {
			tiers = append(tiers, l.Tier)
		}
		return tiers
	}
	assert.Empty(t, of("sources", 9))
	assert.Equal(t, []string{TierEvents}, of("sources", 29))
	assert.Equal(t, []string{TierEvents, TierHours}, of("sources", 31))
	assert.Equal(t, []string{TierEvents}, of("target_sources", 1000))
	assert.Equal(t, []string{TierHours}, of("port_history", 1000))
	assert.Equal(t, []string{TierFootprints}, of("what_for", 1000))
	assert.Empty(t, of("top_sources", 1000), "days are kept for ever")
	_, err := s.Lost(t.Context(), "sorces", time.Now())
	require.ErrorIs(t, err, ErrUnknownQuestion)
}
