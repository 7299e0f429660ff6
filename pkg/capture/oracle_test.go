package capture

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
)

var monitored = netip.MustParsePrefix("198.18.0.0/15")

// cell is a group of packets or requests: how many, and from how many sources.
type cell struct {
	n       int
	sources map[event.IP]bool
}

type cells map[string]*cell

func (c cells) add(key string, src event.IP) {
	if c[key] == nil {
		c[key] = &cell{sources: map[event.IP]bool{}}
	}
	c[key].n++
	c[key].sources[src] = true
}

// flat is what is compared: "count/sources" by key.
func (c cells) flat() map[string]string {
	m := map[string]string{}
	for k, v := range c {
		m[k] = fmt.Sprintf("%d/%d", v.n, len(v.sources))
	}
	return m
}

// same compares row by row, and shows the rows that differ only.
func same(t *testing.T, want, got map[string]string) {
	t.Helper()
	for k, w := range want {
		if got[k] != w {
			t.Errorf("%s: got %q, want %q", k, got[k], w)
		}
	}
	for k, g := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s: got %q, want nothing", k, g)
		}
	}
}

func hour(us int64) string { return time.UnixMicro(us).UTC().Format("2006-01-02T15:00:00Z") }

// The oracle was computed with tshark and checked with tcpdump. It must come out of decoded events whether
// the telescope is given or not.
func TestOracle(t *testing.T) {
	for name, opt := range map[string]Options{
		"telescopes unknown": {Sensor: "s"},
		"telescopes given":   {Sensor: "s", Telescopes: []netip.Prefix{monitored}},
	} {
		t.Run(name, func(t *testing.T) {
			ports, http := cells{}, cells{}
			var requests []string
			kinds := map[string]map[string]int{}
			sources := map[event.IP]*[8]int{}
			for _, file := range []string{"telescope", "honeypot"} {
				b, r := readFile(t, samples(t, file+".pcap.zst"), opt)
				kinds[file] = map[string]int{}
				for i := range b.Len() {
					e := b.Row(i)
					if monitored.Contains(event.Addr(e.Src)) {
						require.Empty(t, opt.Telescopes, "an event of our own host: %+v", e)
						continue
					}
					kinds[file][e.Kind.String()+" "+e.Technique.String()]++
					count(sources, &e)
					switch {
					case e.Technique == event.TechniqueSYN && e.Flags&0x3f == event.SYN:
						ports.add(fmt.Sprintf("%s %s %d", file, hour(e.Time), e.Dport), e.Src)
					case e.Method != "":
						http.add(hour(e.Time)+" "+e.Method, e.Src)
						requests = append(requests, strings.Join([]string{
							hour(e.Time), event.Addr(e.Src).String(), event.Addr(e.Dst).String(),
							strconv.Itoa(int(e.Dport)), e.Method, e.Path, e.UserAgent,
						}, "|"))
					}
				}
				tally := r.Tally()
				whole := tally.Used
				for _, n := range tally.Dropped {
					whole += n
				}
				assert.Equal(t, tally.Packets, whole, "a packet got lost between the counts")
				assert.Equal(t, r.Records(), tally.Packets)
			}
			comparePorts(t, ports)
			compareHTTP(t, http, requests)
			compareSources(t, sources)
			compareKinds(t, kinds)
		})
	}
}

// count adds an event to its source's counts: syn, synack, rst, fin, null, xmas, udp, icmp errors.
func count(sources map[event.IP]*[8]int, e *event.Event) {
	if sources[e.Src] == nil {
		sources[e.Src] = new([8]int)
	}
	for i, techniques := range [8][]event.Technique{
		{event.TechniqueSYN}, {event.TechniqueSYNACK}, {event.TechniqueRST}, {event.TechniqueFIN}, {event.TechniqueNull},
		{event.TechniqueXmas}, {event.TechniqueUDP}, {event.TechniqueUnreachable, event.TechniqueTimeExceeded},
	} {
		for _, k := range techniques {
			if e.Technique == k {
				sources[e.Src][i]++
			}
		}
	}
}

func comparePorts(t *testing.T, got cells) {
	want, listed := map[string]string{}, map[string]bool{}
	for _, r := range readCSV(t, samples(t, "oracle", "port_hour.csv")) {
		want[r["file"]+" "+r["hour"]+" "+r["dst_port"]] = r["syn_packets"] + "/" + r["distinct_sources"]
		listed[r["dst_port"]] = true
	}
	require.NotEmpty(t, want)
	flat := got.flat()
	for k := range flat { // The oracle lists the most used ports only.
		if !listed[k[strings.LastIndexByte(k, ' ')+1:]] {
			delete(flat, k)
		}
	}
	same(t, want, flat)
}

func compareHTTP(t *testing.T, got cells, requests []string) {
	want := map[string]string{}
	for _, r := range readCSV(t, samples(t, "oracle", "http_hour.csv")) {
		want[r["hour"]+" "+r["method"]] = r["requests"] + "/" + r["distinct_sources"]
	}
	require.NotEmpty(t, want)
	same(t, want, got.flat())

	var all []string
	for _, r := range readCSV(t, samples(t, "oracle", "http_requests.csv")) {
		seconds, _, _ := strings.Cut(r["epoch"], ".")
		s, err := strconv.ParseInt(seconds, 10, 64)
		require.NoError(t, err)
		all = append(all, strings.Join([]string{
			hour(s * 1e6), r["src_ip"], r["dst_ip"], r["dst_port"], r["method"], r["uri"], r["user_agent"],
		}, "|"))
	}
	sort.Strings(all)
	sort.Strings(requests)
	assert.Equal(t, all, requests)
}

func compareSources(t *testing.T, got map[event.IP]*[8]int) {
	seen := 0
	for _, r := range readCSV(t, samples(t, "oracle", "sources.csv")) {
		src := event.IPOf(netip.MustParseAddr(r["src_ip"]))
		c := got[src]
		if !assert.NotNil(t, c, r["src_ip"]) {
			continue
		}
		seen++
		honeypot := strings.Contains(r["files"], "honeypot")
		for i, column := range []string{"syn", "synack", "", "fin", "null", "xmas", "udp", ""} {
			if column == "" || honeypot && column == "synack" {
				continue
			}
			assert.Equal(t, r.int(t, column), c[i], "%s %s", r["src_ip"], column)
		}
		if !honeypot {
			assert.Equal(t, r.int(t, "rst")+r.int(t, "rstack"), c[2], "%s rst", r["src_ip"])
			assert.Equal(t, r.int(t, "icmp3")+r.int(t, "icmp11"), c[7], "%s icmp errors", r["src_ip"])
		}
	}
	assert.Equal(t, seen, len(got))
}

// compareKinds holds the telescope's counts, where nothing answers, against tshark's.
func compareKinds(t *testing.T, got map[string]map[string]int) {
	raw, err := os.ReadFile(samples(t, "oracle", "oracle.json"))
	require.NoError(t, err)
	var oracle struct {
		Files map[string]map[string]int        `json:"files"`
		ICMP  map[string]struct{ Packets int } `json:"icmp_by_type_code"`
	}
	require.NoError(t, json.Unmarshal(raw, &oracle))
	f, k := oracle.Files["telescope"], got["telescope"]
	for kind, want := range map[string]int{
		"scan syn": f["tcp_syn"], "scan null": f["tcp_null"], "scan fin": f["tcp_fin"], "scan xmas": f["tcp_xmas"],
		"scan maimon": f["tcp_finack"], "scan ack": f["tcp_ack"], "scan udp": f["proto_17"],
		"backscatter synack": f["tcp_synack"], "backscatter rst": f["tcp_rstack"],
		"scan ping": oracle.ICMP["8/0"].Packets, "scan timestamp": oracle.ICMP["13/0"].Packets,
		"backscatter time_exceeded": oracle.ICMP["11/0"].Packets,
		"backscatter unreachable": oracle.ICMP["3/0"].Packets + oracle.ICMP["3/1"].Packets +
			oracle.ICMP["3/3"].Packets + oracle.ICMP["3/13"].Packets,
	} {
		assert.Equal(t, want, k[kind], kind)
	}
	assert.Equal(t, oracle.Files["honeypot"]["tcp_syn"], got["honeypot"]["scan syn"])
	t.Logf("kinds: %v", got)
}
