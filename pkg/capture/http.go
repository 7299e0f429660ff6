package capture

import (
	"bytes"
	"strconv"
)

// Bounds of what is kept of a request; longer text is cut.
const (
	maxMethod = 32
	maxPath   = 2048
	maxAgent  = 512
	maxHost   = 255
)

// isMethod reports whether m is in IANA's HTTP Method Registry, which includes those of WebDAV.
func isMethod(m []byte) bool {
	switch string(m) {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PATCH", "PRI", "PROPFIND", "PROPPATCH",
		"MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "SEARCH", "ACL", "BASELINE-CONTROL", "BIND", "CHECKIN",
		"CHECKOUT", "LABEL", "LINK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKREDIRECTREF", "MKWORKSPACE",
		"ORDERPATCH", "QUERY", "REBIND", "REPORT", "UNBIND", "UNCHECKOUT", "UNLINK", "UPDATE", "UPDATEREDIRECTREF",
		"VERSION-CONTROL":
		return true
	}
	return false
}

// httpRequest is the head of an HTTP request. The slices point into the bytes that were parsed.
type httpRequest struct {
	method, target, host, agent []byte

	size int   // bytes of the head with the empty line that ends it
	body int64 // bytes of the body, -1 if it ends in a way that is not followed (chunked)
}

// verdict says what the bytes at the beginning of a message are.
type verdict uint8

const (
	notHTTP  verdict = iota // something else
	partHTTP                // a head that goes on, or may become one
	fullHTTP                // a whole head
)

// parseRequest reads the head of an HTTP request at the start of p (RFC 9112, and HTTP/0.9's simple GET).
// Empty lines in front of it are part of it, as servers take them (RFC 9112 2.2); alone they are something else. Where it
// returns partHTTP, r holds what could be read so far.
func parseRequest(p []byte) (r httpRequest, v verdict) {
	text := bytes.TrimLeft(p[:min(len(p), maxMethod)], "\r\n")
	empty := min(len(p), maxMethod) - len(text)
	r, v = parseHead(p[empty:])
	if v == fullHTTP {
		r.size += empty
	}
	return r, v
}

// parseHead reads a head without empty lines in front.
func parseHead(p []byte) (r httpRequest, v verdict) {
	space := bytes.IndexByte(p[:min(len(p), maxMethod)], ' ')
	if space < 0 {
		return r, mayBeMethod(p)
	}
	if !isMethod(p[:space]) {
		return r, notHTTP
	}
	r.method = p[:space]
	line, rest, whole := bytes.Cut(p[space+1:], []byte{'\n'})
	line = bytes.TrimSuffix(line, []byte{'\r'})
	if !whole {
		r.target = withoutVersion(line)
		return r, partHTTP
	}
	target, ok := cutVersion(line)
	if !ok {
		if string(r.method) == "GET" && bytes.HasPrefix(line, []byte{'/'}) && bytes.IndexByte(line, ' ') < 0 {
			r.target, r.size = line, len(p)-len(rest)
			return r, fullHTTP
		}
		return r, notHTTP
	}
	r.target = target
	return r.headers(p, rest)
}

// cutVersion splits "target HTTP/1.1". RTSP and SIP took over HTTP's request line (RFC 2326 6.1, RFC 3261 7.1),
// and scanners send theirs to web ports to see what answers: with a method that HTTP has too, it is
// a request to an HTTP server, as Wireshark counts it.
func cutVersion(line []byte) (target []byte, ok bool) {
	line = bytes.TrimRight(line, " ")
	i := bytes.LastIndexByte(line, ' ')
	if i <= 0 {
		return nil, false
	}
	target, version := bytes.Trim(line[:i], " "), line[i+1:]
	name, digits, found := bytes.Cut(version, []byte{'/'})
	if !found || len(target) == 0 || len(digits) == 0 || digits[0] < '0' || digits[0] > '9' {
		return nil, false
	}
	switch string(name) {
	case "HTTP", "RTSP", "SIP":
		return target, true
	}
	return nil, false
}

// withoutVersion takes the beginning of a version off the end of a line that is cut there.
func withoutVersion(line []byte) []byte {
	i := bytes.LastIndexByte(line, ' ')
	if i < 0 {
		return line
	}
	const longest = "HTTP/1.1"
	word := line[i+1:]
	if len(word) <= len(longest) && (bytes.HasPrefix([]byte(longest), word) || bytes.HasPrefix(word, []byte("HTTP/"))) {
		line = line[:i]
	}
	return bytes.TrimRight(line, " ")
}

// mayBeMethod: before the first space has arrived, capital letters may still become a method.
func mayBeMethod(p []byte) verdict {
	if len(p) == 0 || len(p) >= maxMethod {
		return notHTTP
	}
	for _, c := range p {
		if (c < 'A' || c > 'Z') && c != '-' {
			return notHTTP
		}
	}
	return partHTTP
}

// headers reads the header lines of p that begin at rest.
func (r httpRequest) headers(p, rest []byte) (httpRequest, verdict) {
	for {
		line, after, whole := bytes.Cut(rest, []byte{'\n'})
		if !whole {
			return r, partHTTP
		}
		rest = after
		line = bytes.TrimSuffix(line, []byte{'\r'})
		if len(line) == 0 {
			r.size = len(p) - len(rest)
			return r, fullHTTP
		}
		r.header(line)
	}
}

func (r *httpRequest) header(line []byte) {
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok {
		return
	}
	value = bytes.TrimSpace(value)
	switch {
	case is(name, "host") && r.host == nil:
		r.host = value
	case is(name, "user-agent") && r.agent == nil:
		r.agent = value
	case is(name, "content-length") && r.body == 0:
		n, err := strconv.ParseUint(string(value[:min(len(value), 20)]), 10, 63)
		if err != nil {
			r.body = -1
			return
		}
		r.body = int64(n)
	case is(name, "transfer-encoding"):
		r.body = -1
	}
}

// is compares a header's name with one in lower case.
func is(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// isRequest reports whether p begins with the method and target of an HTTP request.
func isRequest(p []byte) bool {
	i := bytes.IndexByte(p[:min(len(p), maxMethod)], ' ')
	if i <= 0 || !isMethod(p[:i]) {
		return false
	}
	_, v := parseRequest(p)
	return v != notHTTP
}
