package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func readCSV(t testing.TB, path string) []map[string]string {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	return parseCSV(t, csv.NewReader(f))
}

func parseCSV(t testing.TB, r *csv.Reader) []map[string]string {
	t.Helper()
	records, err := r.ReadAll()
	require.NoError(t, err)
	var out []map[string]string
	for _, rec := range records[1:] {
		row := map[string]string{}
		for i, name := range records[0] {
			row[name] = rec[i]
		}
		out = append(out, row)
	}
	return out
}

// sameRows wants the same rows in any order, and names the first that differ.
func sameRows(t testing.TB, want, got []map[string]string) {
	t.Helper()
	lines := func(rows []map[string]string) []string {
		var out []string
		for _, r := range rows {
			out = append(out, fmt.Sprint(r)) // fmt prints maps in the order of their keys
		}
		slices.Sort(out)
		return out
	}
	w, g := lines(want), lines(got)
	for i := range min(len(w), len(g)) {
		require.Equal(t, w[i], g[i], "row %d of %d", i, len(w))
	}
	require.Len(t, g, len(w))
}

// demoTruth is the campaign of every source of the demo's capture, "" for background.
func demoTruth(t testing.TB) map[string]string {
	t.Helper()
	truth := map[string]string{}
	for _, r := range readCSV(t, filepath.Join("..", "..", "demo", "truth.csv")) {
		truth[r["source"]] = r["campaign"]
	}
	return truth
}

// checkMembers scores the CSV of `detect --members`: each campaign of least must be found with at least
// that recall by one group of at least the given precision, and no group may hold more than a fifth of
// sources that are in no campaign.
func checkMembers(t testing.TB, members string, truth map[string]string, least map[string]float64, precision float64) {
	t.Helper()
	groups, size := map[string]map[string]int{}, map[string]int{}
	for _, campaign := range truth {
		size[campaign]++
	}
	for _, r := range parseCSV(t, csv.NewReader(strings.NewReader(members))) {
		if groups[r["campaign"]] == nil {
			groups[r["campaign"]] = map[string]int{}
		}
		campaign, ok := truth[r["source"]]
		require.True(t, ok, "%s is not a source of the capture", r["source"])
		groups[r["campaign"]][campaign]++
	}
	for id, g := range groups {
		all := 0
		for _, n := range g {
			all += n
		}
		require.LessOrEqual(t, 5*g[""], all, "campaign %s is made of background: %v", id, g)
	}
	for campaign, recall := range least {
		found := false
		for _, g := range groups {
			all := 0
			for _, n := range g {
				all += n
			}
			found = found || float64(g[campaign]) >= recall*float64(size[campaign]) && float64(g[campaign]) >= precision*float64(all)
		}
		require.True(t, found, "campaign %s was not found with precision and recall %.2f: %v", campaign, recall, groups)
	}
}

// The public sample, from the files to the answers, held against what tshark and tcpdump said.
func TestPublicSample(t *testing.T) {
	dsn := newDSN(t)
	for _, sensor := range []string{"telescope", "honeypot"} {
		works(t, "load", sample(t, sensor+".pcap.zst"), "--sensor", sensor, "--dsn", dsn)
	}
	ask := func(sql string) []map[string]string {
		return parseCSV(t, csv.NewReader(strings.NewReader(works(t, "query", "--format", "csv", "--dsn", dsn, sql))))
	}
	hour := `formatDateTime(hour, '%Y-%m-%dT%H:00:00Z')`
	t.Run("sources and SYNs per hour and port", func(t *testing.T) {
		for _, sql := range []string{
			"SELECT sensor AS file, " + hour + " AS hour, dport AS dst_port, sum(packets) AS syn_packets, uniqCombined64Merge(17)(sources) AS distinct_sources FROM port_hours_state WHERE technique = 'syn' GROUP BY ALL",
			"SELECT sensor AS file, " + strings.ReplaceAll(hour, "hour", "toStartOfHour(ts)") + " AS hour, dport AS dst_port, sum(packets) AS syn_packets, uniqExact(src) AS distinct_sources FROM events WHERE technique = 'syn' GROUP BY ALL",
		} {
			want := readCSV(t, sample(t, "oracle/port_hour.csv"))
			asked := map[string]bool{} // the oracle was asked about some ports only
			for _, r := range want {
				asked[r["dst_port"]] = true
			}
			got := slices.DeleteFunc(ask(sql), func(r map[string]string) bool { return !asked[r["dst_port"]] })
			sameRows(t, want, got)
		}
	})
	t.Run("requests per hour and method", func(t *testing.T) {
		got := ask("SELECT " + hour + " AS hour, method, sum(events) AS requests, uniqCombined64Merge(17)(sources) AS distinct_sources FROM port_hours_state WHERE kind = 'request' AND method != '' GROUP BY ALL")
		sameRows(t, readCSV(t, sample(t, "oracle/http_hour.csv")), got)
	})
	t.Run("loading again", func(t *testing.T) {
		out := works(t, "load", sample(t, "telescope.pcap.zst"), sample(t, "honeypot.pcap.zst"), "--dsn", dsn)
		require.Contains(t, out, "0 events new")
	})
	t.Run("campaigns", func(t *testing.T) {
		truth := map[string]string{}
		for _, r := range readCSV(t, sample(t, "truth.csv")) {
			campaign := r["campaign_id"]
			if campaign == "background" {
				campaign = ""
			}
			truth[r["src_ip"]] = campaign
		}
		least := map[string]float64{"A-masscan13": 0.95, "B-zmap80": 0.95, "C-zmap-contig": 0.95, "D-nmap": 0.95, "F-slow": 0.95, "G-sip-udp": 0.95}
		checkMembers(t, works(t, "detect", "--members", "--proof", "off", "--dsn", dsn), truth, least, 0.95)
	})
	t.Run("proofs", func(t *testing.T) {
		explained := works(t, "detect", "--explain", "--dsn", dsn)
		for _, want := range []string{
			"Proof: 60 sources walked ZMap's cyclic group with every 4-th element, step 4771 (or its inverse) modulo 65537, targets counted from 198.18.0.0",
			"Proof: 30 sources walked ZMap's cyclic group with every 2-th element, step 5755 (or its inverse) modulo 65537, targets counted from 198.18.0.0",
			"Spread wide", "(drip)", "Pattern bursts",
		} {
			require.Contains(t, explained, want)
		}
		require.Equal(t, 2, strings.Count(explained, "Proof: "), explained)
		rows := ask("SELECT campaigns[1] AS campaign, sources, outside FROM campaign_proofs ORDER BY sources DESC")
		require.Len(t, rows, 2)
		require.Equal(t, "60", rows[0]["sources"])
		require.Equal(t, "0", rows[0]["outside"])
		history := works(t, "campaigns", rows[0]["campaign"], "--dsn", dsn)
		require.Contains(t, history, "Proof: 60 sources walked")
		require.Contains(t, history, "Pattern parallel, spread wide")
		require.Contains(t, works(t, "campaigns", rows[0]["campaign"], "--format", "json", "--dsn", dsn), `"proofs":["zmap-generator: every 4-th element`)
		require.Contains(t, works(t, "detect", "--format", "json", "--dsn", dsn), `"spread":"wide","tempo":"steady","proofs":["zmap-generator: every 4-th element`)
		r := loader(t, "", "detect", "--proof", "hard", "--dsn", dsn)
		require.Equal(t, exitUsage, r.code)
		require.Contains(t, r.stderr, "--proof takes off, quick or deep")
	})
}

// Every file of the sample's formats gives its count of packets, or an error that names file and place.
func TestFormats(t *testing.T) {
	for _, v := range readCSV(t, sample(t, "formats/variants.csv")) {
		t.Run(v["file"], func(t *testing.T) {
			path := sample(t, "formats/"+v["file"])
			r := loader(t, "", "load", path, "--format", "json", "--dsn", newDSN(t))
			var sum inputSummary
			require.NoError(t, json.Unmarshal([]byte(r.stdout), &sum), r.stdout)
			want, err := strconv.Atoi(v["expected_packets"])
			require.NoError(t, err)
			switch v["file"] {
			case "eth.snoop":
				want = 0 // refused: it is no pcap
			case "cut_gzip.pcap.gz":
				want, err = strconv.Atoi(v["tshark_packets"])
				require.NoError(t, err)
			case "concat_two_pcaps.pcap":
				want = 2500 // the second file header is no packet
			}
			require.EqualValues(t, want, sum.Packets)
			damaged := v["tshark_rc"] == "2" || v["tcpdump_packets"] == "0" && v["expected_packets"] == "0" && v["tcpdump_message"] != "" || v["file"] == "eth.snoop"
			if damaged {
				require.Equal(t, exitFailed, r.code, r.stdout)
				require.Contains(t, r.stderr, path+": byte ")
				return
			}
			require.Zero(t, r.code, r.stderr)
			require.Empty(t, sum.Error)
		})
	}
}
