package capture

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
	"murmuration/pkg/fingerprint"
)

// The fingerprints of every source in the sample captures against the tool that truly ran there, which
// its makers wrote down, and against counts made with tshark.
func TestToolsAgainstTruth(t *testing.T) {
	raw, err := os.ReadFile(samples(t, "oracle", "oracle.json"))
	require.NoError(t, err)
	var oracle struct {
		Tools map[string]map[string]int `json:"fingerprints_by_true_tool"`
	}
	require.NoError(t, json.Unmarshal(raw, &oracle))
	truth := map[string]row{}
	for _, r := range readCSV(t, samples(t, "truth.csv")) {
		truth[r["src_ip"]] = r
	}
	tallies := map[string]*fingerprint.Tally{}
	named := map[string]map[string]int{} // SYNs by true tool and packet rule
	relation := map[string]int{}
	for _, file := range []string{"telescope", "honeypot"} {
		eachSYN(t, samples(t, file+".pcap.zst"), func(e *event.Event, o *fingerprint.TCPOptions) {
			source := event.Addr(e.Src).String()
			tool := truth[source]["tool"]
			if tallies[source] == nil {
				tallies[source] = new(fingerprint.Tally)
			}
			tallies[source].Add(e, o)
			if named[tool] == nil {
				named[tool] = map[string]int{}
			}
			named[tool][fingerprint.Tool(e, o)]++
			if fingerprint.MasscanRelation(e) && e.Window == 1024 {
				relation[tool]++
			}
		})
	}
	assert.Equal(t, oracle.Tools["masscan"]["masscan_fp"], relation["masscan"], "the relation on masscan's SYNs")
	assert.Equal(t, oracle.Tools["masscan"]["syn"], named["masscan"][fingerprint.Masscan])
	assert.Equal(t, oracle.Tools["zmap"]["syn"], named["zmap"][fingerprint.ZMap])
	assert.Equal(t, oracle.Tools["nmap"]["syn_win1024_hl24"], named["nmap"][fingerprint.Nmap])
	for _, tool := range []string{"curl", "wget", "hping3"} {
		assert.Equal(t, map[string]int{"": oracle.Tools[tool]["syn"]}, named[tool])
	}

	right := map[string]int{}
	for source, tally := range tallies {
		want := truth[source]["tool"]
		// These options let the operating system connect, for all or for most of the SYNs.
		notes := truth[source]["notes"]
		connect := strings.Contains(notes, "-sT") || strings.Contains(notes, "-sV") || strings.Contains(notes, "NSE")
		if want != "zmap" && want != "masscan" && want != "nmap" || connect || tally.SYNs < 2 {
			want = "" // The system's own connections, whoever asked for them.
		}
		assert.Equal(t, want, tally.Tool(), "%s (%s): %+v", source, truth[source]["notes"], tally)
		right[want]++
	}
	assert.Greater(t, right["zmap"], 200)
	assert.Greater(t, right["masscan"], 200)
	assert.Greater(t, right["nmap"], 20)
	t.Logf("sources by verdict: %v", right)
}

// eachSYN decodes the sample capture at path and calls do for each inbound SYN, with its options.
func eachSYN(t *testing.T, path string, do func(e *event.Event, o *fingerprint.TCPOptions)) {
	d := NewDecoder(Options{Telescopes: prefixes(monitored)})
	var b event.Batch
	var options fingerprint.TCPOptions
	for _, p := range packets(plain(t, path)) {
		d.Decode(LinkEthernet, p.time, p.wire, p.data, &b)
		for i := range b.Len() {
			e := b.Row(i)
			if e.Technique != event.TechniqueSYN {
				continue
			}
			raw := tcpOptions(p.data)
			options.Parse(raw)
			require.Equal(t, e.Signature, fingerprint.Signature(e.Window, &options))
			require.Equal(t, e.Tool, fingerprint.Tool(&e, &options))
			do(&e, &options)
		}
		b.Reset()
	}
}

func tcpOptions(frame []byte) []byte {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Lazy)
	tcp, ok := p.TransportLayer().(*layers.TCP)
	if !ok {
		return nil
	}
	return tcp.Contents[tcpHeader:]
}
