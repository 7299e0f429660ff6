package capture

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"murmuration/pkg/event"
)

func TestParseRequest(t *testing.T) {
	for _, c := range []struct {
		in                          string
		v                           verdict
		method, target, host, agent string
		size                        int
		body                        int64
	}{
		{"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: b c\r\n\r\nrest", fullHTTP, "GET", "/", "a", "b c", 44, 0},
		{"HEAD /x HTTP/1.0\n\n", fullHTTP, "HEAD", "/x", "", "", 18, 0},
		{"GET /\r\n", fullHTTP, "GET", "/", "", "", 7, 0},
		{"POST /a b HTTP/1.1\r\ncontent-length: 12\r\nUSER-AGENT:x\r\nuser-agent: y\r\n\r\n", fullHTTP, "POST", "/a b", "", "x", 71, 12},
		{"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", fullHTTP, "POST", "/", "", "", 47, -1},
		{"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n", fullHTTP, "POST", "/", "", "", 41, -1},
		{"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", fullHTTP, "POST", "/", "", "", 60, -1},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", fullHTTP, "PRI", "*", "", "", 18, 0},
		{"CONNECT a:443 HTTP/1.1\r\n\r\n", fullHTTP, "CONNECT", "a:443", "", "", 26, 0},
		{"PROPFIND /dav HTTP/1.1\r\nno colon\r\n\r\n", fullHTTP, "PROPFIND", "/dav", "", "", 36, 0},
		{"OPTIONS sip:nm SIP/2.0\r\n\r\n", fullHTTP, "OPTIONS", "sip:nm", "", "", 26, 0},
		{"\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", fullHTTP, "GET", "/", "a", "", 30, 0},
		{"\r\n\r\n", notHTTP, "", "", "", "", 0, 0},
		{"\r\nGE", partHTTP, "", "", "", "", 0, 0},
		{"\r\nHELO x\r\n", notHTTP, "", "", "", "", 0, 0},
		{strings.Repeat("\r\n", 20), notHTTP, "", "", "", "", 0, 0},
		{"GET /abc", partHTTP, "GET", "/abc", "", "", 0, 0},
		{"GET /abc HTTP/1.1", partHTTP, "GET", "/abc", "", "", 0, 0},
		{"GET /abc HT", partHTTP, "GET", "/abc", "", "", 0, 0},
		{"GET /abc ", partHTTP, "GET", "/abc", "", "", 0, 0},
		{"GET /abc d", partHTTP, "GET", "/abc d", "", "", 0, 0},
		{"GET / HTTP/1.1\r\nHost: a\r\nUser", partHTTP, "GET", "/", "a", "", 0, 0},
		{"GE", partHTTP, "", "", "", "", 0, 0},
		{"VERSION-CONTROL", partHTTP, "", "", "", "", 0, 0},
		{"", notHTTP, "", "", "", "", 0, 0},
		{"get / HTTP/1.1\r\n\r\n", notHTTP, "", "", "", "", 0, 0},
		{"HELO x\r\n", notHTTP, "", "", "", "", 0, 0},
		{"GET nonsense\r\n\r\n", notHTTP, "GET", "", "", "", 0, 0},
		{"GET  HTTP/1.1\r\n\r\n", notHTTP, "GET", "", "", "", 0, 0},
		{"HEAD /\r\n", notHTTP, "HEAD", "", "", "", 0, 0},
		{"GET / FTP/1.0\r\n\r\n", notHTTP, "GET", "", "", "", 0, 0},
		{"\x16\x03\x01\x02\x00", notHTTP, "", "", "", "", 0, 0},
		{strings.Repeat("A", 40), notHTTP, "", "", "", "", 0, 0},
	} {
		r, v := parseRequest([]byte(c.in))
		assert.Equal(t, c.v, v, "%q", c.in)
		assert.Equal(t, []string{c.method, c.target, c.host, c.agent},
			[]string{string(r.method), string(r.target), string(r.host), string(r.agent)}, "%q", c.in)
		assert.Equal(t, c.size, r.size, "%q", c.in)
		assert.Equal(t, c.body, r.body, "%q", c.in)
	}
}

const (
	data   = event.PSH | event.ACK
	headA  = "HEAD /a HTTP/1.1\r\nHost: h\r\nUser-Agent: curl\r\n\r\n"
	getB   = "GET /b HTTP/1.1\r\nUser-Agent: curl\r\n\r\n"
	postC  = "POST /c HTTP/1.1\r\nUser-Agent: curl\r\nContent-Length: 20\r\n\r\n"
	bodyC  = "GET /no HTTP/1.1\r\n\r\n"
	server = "HTTP/1.1 200 OK\r\n\r\n"
)

// Empty lines in front of the first request do not hide it.
func TestEmptyLinesBeforeARequest(t *testing.T) {
	for _, segments := range [][]string{{"\r\n\r\n" + headA}, {"\r\n\r\nHE", headA[2:]}} {
		c := newConversation(t, Options{})
		c.open()
		next := uint32(1001)
		for _, s := range segments {
			c.tcp(false, data, next, s)
			next += uint32(len(s))
		}
		assert.Equal(t, []string{"HEAD /a curl"}, c.requests(), "%q", segments)
	}
}

// One connection, several requests: each is one event.
func TestKeepAlive(t *testing.T) {
	c := newConversation(t, Options{})
	c.open()
	require.Equal(t, "", c.tcp(false, data, 1001, headA))
	require.Equal(t, ReasonReply, c.tcp(true, data, 5001, server))
	next := uint32(1001 + len(headA))
	require.Equal(t, "", c.tcp(false, data, next, getB))
	require.Equal(t, ReasonSegment, c.tcp(false, data, next, getB), "sent again")
	require.Equal(t, ReasonSegment, c.tcp(false, data, 1001, headA), "sent again")
	require.Equal(t, ReasonSegment, c.tcp(false, event.ACK, next-1, "\x00"), "a keep-alive probe")
	next += uint32(len(getB))
	require.Equal(t, "", c.tcp(false, data, next, postC))
	next += uint32(len(postC))
	require.Equal(t, ReasonSegment, c.tcp(false, data, next, bodyC), "a body that reads like a request")
	next += uint32(len(bodyC))
	require.Equal(t, "", c.tcp(false, data, next, "\r\n"+getB+headA), "an empty line, and two in one segment")
	require.Equal(t, ReasonSegment, c.tcp(false, event.FIN|event.ACK, next+uint32(len(getB+headA))+2, ""))
	assert.Equal(t, []string{"HEAD /a curl", "GET /b curl", "POST /c curl", "GET /b curl", "HEAD /a curl"}, c.requests())
}

func TestRequestFields(t *testing.T) {
	c := newConversation(t, Options{Sensor: "s"})
	c.open()
	c.events()
	require.Equal(t, "", c.tcp(false, data, 1001, postC+bodyC))
	e := c.one()
	assert.Equal(t, event.KindRequest, e.Kind)
	assert.Equal(t, event.TechniqueRequest, e.Technique)
	assert.Equal(t, c.now, e.Time)
	assert.EqualValues(t, len(postC), e.PayloadLen, "the head without the body")
	assert.Equal(t, xxhash.Sum64String(postC), e.PayloadHash)
	assert.EqualValues(t, 1001, e.Seq)
	assert.EqualValues(t, 80, e.Dport)
	assert.Empty(t, e.Tool+e.Signature)

	c.sport++
	c.open()
	c.events()
	long := "GET /" + strings.Repeat("p", 3000) + " HTTP/1.1\r\nHost: " + strings.Repeat("h", 300) + "\r\nUser-Agent: " + strings.Repeat("u", 600) + "\r\n\r\n"
	require.Equal(t, "", c.tcp(false, data, 1001, long))
	e = c.one()
	assert.Len(t, e.Path, maxPath)
	assert.Len(t, e.Host, maxHost)
	assert.Len(t, e.UserAgent, maxAgent)
}

func TestOtherRequests(t *testing.T) {
	for _, p := range []string{"SSH-2.0-Go\r\n", "\x16\x03\x01\x00\x05hello", "\r\n\r\n", "get / http/1.0\r\n\r\n", "HELP\r\n", "GET nothing\r\n"} {
		c := newConversation(t, Options{})
		c.open()
		c.events()
		require.Equal(t, "", c.tcp(false, data, 1001, p), "%q", p)
		require.Equal(t, ReasonReply, c.tcp(true, data, 5001, "what?"))
		require.Equal(t, ReasonSegment, c.tcp(false, data, 1001+uint32(len(p)), "more"), "%q", p)
		e := c.one()
		assert.Equal(t, event.KindRequest, e.Kind)
		assert.Empty(t, e.Method, "%q", p)
		assert.Equal(t, xxhash.Sum64String(p), e.PayloadHash)
		require.Equal(t, "", c.tcp(false, data, 1005+uint32(len(p)), getB), "HTTP after all")
		assert.Equal(t, []string{"GET /b curl"}, c.requests())
	}
}

// The SYN was before the capture began.
func TestRequestWithoutSYN(t *testing.T) {
	c := newConversation(t, Options{})
	require.Equal(t, "", c.tcp(false, data, 77, getB))
	require.Equal(t, ReasonReply, c.tcp(true, data, 99, server))
	assert.Equal(t, []string{"GET /b curl"}, c.requests())

	// The server's answer is seen first, so that who is who becomes clear with the next request only.
	c.sport++
	require.Equal(t, "", c.tcp(true, data, 99, server))
	require.Equal(t, ReasonSegment, c.tcp(true, data, 99+uint32(len(server)), "page"))
	require.Equal(t, "", c.tcp(false, data, 77, getB))
	require.Equal(t, ReasonReply, c.tcp(true, data, 200, server))
	assert.Equal(t, []string{"GET /b curl"}, c.requests())
}

func TestNewConnectionOnTheSamePorts(t *testing.T) {
	c := newConversation(t, Options{})
	c.open()
	require.Equal(t, "", c.tcp(false, data, 1001, "GET /half HTTP"))
	require.Equal(t, "", c.tcp(false, event.SYN, 1000, ""), "a SYN sent again changes nothing")
	require.Empty(t, c.requests())
	require.Equal(t, "", c.tcp(false, event.SYN, 9000, ""))
	require.Equal(t, "", c.tcp(false, data, 9001, getB))
	assert.Equal(t, []string{"GET /half ", "GET /b curl"}, c.requests())
}

// What is never completed is an event nevertheless: at the connection's end, after a while, when room is
// needed, at the end of the input.
func TestIncompleteHeads(t *testing.T) {
	half := "GET /half HTTP/1.1\r\nUser-Agent: me\r\nAcc"
	want := []string{"GET /half me"}
	begin := func() *conversation {
		c := newConversation(t, Options{MaxFlows: 1 << 13})
		c.open()
		require.Equal(t, "", c.tcp(false, data, 1001, half))
		require.Empty(t, c.requests())
		return c
	}
	for _, end := range []uint8{event.FIN | event.ACK, event.RST} {
		for _, back := range []bool{false, true} {
			c := begin()
			c.tcp(back, end, 1001+uint32(len(half)), "")
			assert.Equal(t, want, c.requests())
		}
	}
	c := begin()
	c.now += headWait
	c.udp(false, 1, 69, "unrelated")
	assert.Equal(t, want, c.requests())
	assert.Equal(t, ReasonSegment, c.tcp(false, data, 1001+uint32(len(half)), "ept: x\r\n\r\n"), "its rest is late")
	assert.Empty(t, c.requests())

	c = begin()
	c.d.Flush(&c.b)
	c.d.Flush(&c.b)
	assert.Equal(t, want, c.requests())

	c = begin()
	for i := range 1 << 14 { // Other conversations push this one out of the table.
		c.now -= 1e6
		c.udp(false, uint16(i), 69+uint16(i>>15), "x")
	}
	assert.Equal(t, want, c.requests())

	c = begin()
	for i := range maxHeads {
		c.now -= 3e6
		c.sport = uint16(i)
		c.tcp(false, event.SYN, 1000, "")
		c.tcp(false, data, 1001, "GET /x")
	}
	assert.Equal(t, want, c.requests())
	assert.Equal(t, maxHeads, c.d.heads.n)

	c = begin() // More than is put together.
	c.tcp(false, data, 1001+uint32(len(half)), strings.Repeat("e", headBytes))
	assert.Equal(t, want, c.requests())
	assert.Equal(t, ReasonSegment, c.tcp(false, data, 1001+uint32(len(half))+headBytes, "\r\n\r\n"))
	assert.Zero(t, c.d.heads.n)
}

// A message that turns out to be something else is a request without a method, and no request if it is not the
// first.
func TestNotHTTPAfterAll(t *testing.T) {
	c := newConversation(t, Options{})
	c.open()
	c.events()
	require.Equal(t, "", c.tcp(false, data, 1001, "GET"))
	require.Equal(t, ReasonSegment, c.tcp(false, data, 1004, " lost\r\n"))
	e := c.one()
	assert.Empty(t, e.Method)
	assert.EqualValues(t, 10, e.PayloadLen)
	require.Equal(t, "", c.tcp(false, data, 1011, "GET "), "counted as used while it may become a request")
	require.Equal(t, ReasonSegment, c.tcp(false, data, 1015, "lost\r\n"))
	assert.Empty(t, c.events())
	tally := c.d.Tally()
	assert.EqualValues(t, 2, tally.Used, "the SYN and the first message")
	assert.EqualValues(t, 5, tally.Dropped[ReasonSegment]+tally.Dropped[ReasonReply])
}

// However a stream of requests is split into segments, sent twice, and put in another order, the same
// requests come out, each once.
func TestSegmentationDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var stream string
		var want []string
		var starts []int
		for i := range rapid.IntRange(1, 5).Draw(rt, "requests") {
			starts = append(starts, len(stream))
			method := rapid.SampledFrom([]string{"GET", "HEAD", "POST"}).Draw(rt, "method")
			body := rapid.StringN(0, 50, 50).Draw(rt, "body")
			stream += fmt.Sprintf("%s /%d HTTP/1.1\r\nUser-Agent: agent\r\nContent-Length: %d\r\n\r\n%s", method, i, len(body), body)
			want = append(want, fmt.Sprintf("%s /%d agent", method, i))
		}
		type part struct{ from, to int }
		var parts []part
		for at := 0; at < len(stream); {
			n := rapid.IntRange(1, 200).Draw(rt, "size")
			parts = append(parts, part{at, min(at+n, len(stream))})
			at += n
		}
		// Neighbours within the same head may change places.
		if rapid.Bool().Draw(rt, "swap") && len(starts) == 1 {
			for i := 0; i+1 < len(parts); i += 2 {
				parts[i], parts[i+1] = parts[i+1], parts[i]
			}
		}
		base := rapid.Uint32().Draw(rt, "sequence number")
		c := newConversation(t, Options{})
		c.tcp(false, event.SYN, base-1, "")
		for _, p := range parts {
			for range rapid.IntRange(1, 2).Draw(rt, "times") {
				c.now -= 1e6
				c.tcp(false, data, base+uint32(p.from), stream[p.from:p.to])
			}
		}
		c.d.Flush(&c.b)
		if got := c.requests(); !assert.ObjectsAreEqual(want, got) {
			rt.Fatalf("%q in parts %v: got %q, want %q", stream, parts, got, want)
		}
		tally := c.d.Tally()
		sum := tally.Used
		for _, n := range tally.Dropped {
			sum += n
		}
		if sum != tally.Packets {
			rt.Fatalf("%d packets, %d accounted for", tally.Packets, sum)
		}
	})
}
