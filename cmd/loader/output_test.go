package main

import (
	"bytes"
	"math"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"murmuration/pkg/capture"
	"murmuration/pkg/load"
)

func TestEveryFormatOfEveryValue(t *testing.T) {
	g := newTable("s", "t", "ip", "list", "map", "f", "nan", "null", "evil")
	g.add("a,b", time.Date(2026, 4, 1, 2, 3, 4, 500_000_000, time.UTC), net.ParseIP("::ffff:192.0.2.1"), []uint16{1, 2},
		map[string]uint64{"a": 1}, 0.1, math.NaN(), nil, "x\x1b[2Jy")
	for format, want := range map[string]string{
		formatCSV:  "s,t,ip,list,map,f,nan,null,evil\n\"a,b\",2026-04-01 02:03:04.5,192.0.2.1,\"[1,2]\",\"{\"\"a\"\":1}\",0.1,NaN,,x\x1b[2Jy\n",
		formatJSON: `{"s":"a,b","t":"2026-04-01T02:03:04.5Z","ip":"192.0.2.1","list":[1,2],"map":{"a":1},"f":0.1,"nan":null,"null":null,"evil":"x\u001b[2Jy"}` + "\n",
	} {
		var b bytes.Buffer
		require.NoError(t, g.write(&b, format))
		require.Equal(t, want, b.String())
	}
	var b bytes.Buffer
	require.NoError(t, g.write(&b, formatTable))
	require.Contains(t, b.String(), "192.0.2.1")
	require.NotContains(t, b.String(), "\x1b", "what scanners send must not reach the terminal as it is")
}

// A time has the digits of its column whatever they are, so that columns line up and answers of the same kind look the same.
func TestTimesHaveTheDigitsOfTheirColumn(t *testing.T) {
	at := time.Date(2026, 11, 26, 2, 25, 25, 631_440_000, time.UTC)
	for _, c := range []struct{ of, text, json string }{
		{"DateTime64(6, 'UTC')", "2026-11-26 02:25:25.631440", `"2026-11-26T02:25:25.63144Z"`},
		{"Nullable(DateTime64(3))", "2026-11-26 02:25:25.631", `"2026-11-26T02:25:25.63144Z"`},
		{"DateTime64(0)", "2026-11-26 02:25:25", `"2026-11-26T02:25:25.63144Z"`},
		{"LowCardinality(DateTime('UTC'))", "2026-11-26 02:25:25", `"2026-11-26T02:25:25.63144Z"`},
		{"Nullable(Date32)", "2026-11-26", `"2026-11-26"`},
		{"Dynamic", "2026-11-26 02:25:25.63144", `"2026-11-26T02:25:25.63144Z"`},
	} {
		m := moment{at, layoutOf(c.of)}
		require.Equal(t, c.text, cell(m), c.of)
		value, err := jsonValue(m)
		require.NoError(t, err)
		require.Equal(t, c.json, string(value), c.of)
	}
}

// Lists of bytes are lists of numbers, wherever they stand.
func TestListsOfSmallNumbers(t *testing.T) {
	g := newTable("list", "tuple", "map", "ip", "none")
	g.add([]uint8{1, 2}, []any{[]uint8{3}, net.ParseIP("192.0.2.1"), "x"}, map[string][]uint8{"a": {4}}, []net.IP{net.ParseIP("::1")}, []uint8{})
	var b bytes.Buffer
	require.NoError(t, g.write(&b, formatJSON))
	require.Equal(t, `{"list":[1,2],"tuple":[[3],"192.0.2.1","x"],"map":{"a":[4]},"ip":["::1"],"none":[]}`+"\n", b.String())
	b.Reset()
	require.NoError(t, g.write(&b, formatTable))
	require.Contains(t, b.String(), `[1,2]  [[3],"192.0.2.1","x"]`)
}

// CSV and JSON go out while rows still come: an answer may be larger than memory. Tables need all rows for their widths.
func TestRowsAreNotCollected(t *testing.T) {
	for _, format := range []string{formatCSV, formatJSON} {
		var b bytes.Buffer
		out := newRowWriter(&b, format, []string{"n"})
		const rows = 10_000
		for n := range rows {
			require.NoError(t, out.row([]any{n}))
		}
		require.Greater(t, b.Len(), rows, format)
		require.NoError(t, out.end())
		require.Contains(t, b.String(), "9999")
	}
	require.Nil(t, newRowWriter(&bytes.Buffer{}, formatTable, nil))
}

func TestCounts(t *testing.T) {
	require.Equal(t, "1 row", count(1, "row"))
	require.Equal(t, "1,234,567 rows", count(1234567, "row"))
	require.Equal(t, "0", thousands(0))
	require.Equal(t, "1,000", thousands(1000))
	require.Equal(t, "a 2, b 1", listed("", map[string]uint64{"b": 1, "a": 2, "c": 0}, ""))
}

// A capture that keeps too little of its packets is read to its end, and useless: that is said.
func TestSummaryOfACaptureThatWasCutTooShort(t *testing.T) {
	var out bytes.Buffer
	s := loadSummary{w: &out}
	s.add(&load.Report{Input: "a.pcap", Packets: 10, Tally: capture.Tally{Dropped: map[string]uint64{capture.ReasonTruncated: 9, capture.ReasonNotIP: 1}}})
	require.Contains(t, out.String(), "capture at least 96 bytes")
	out.Reset()
	s.add(&load.Report{Input: "a.pcap", Packets: 10, Events: 1, Tally: capture.Tally{Dropped: map[string]uint64{capture.ReasonTruncated: 9}}})
	require.NotContains(t, out.String(), "96 bytes")
}
