package capture

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"murmuration/pkg/event"
)

// Options of a Reader or a Decoder.
type Options struct {
	Sensor     string         // name of the sensor, written into every event
	Telescopes []netip.Prefix // the monitored prefixes; empty where they are not known, and who asks whom is then inferred per conversation
	MaxFlows   int            // most connections remembered at a time, 0 for DefaultMaxFlows
}

// DefaultMaxFlows is how many connections are remembered; each takes about 80 bytes.
const DefaultMaxFlows = 1 << 20

// Mark is a place between two records of an input, which knows the content before it.
type Mark struct {
	Offset  int64    // uncompressed bytes through the last whole record
	Records uint64   // packets among them
	Sum     [32]byte // SHA-256 of exactly those bytes
}

// format frames records: next finds one and hands it to the decoder, and returns io.EOF at a clean end.
type format interface {
	next(b *event.Batch) error
}

// Reader reads one capture. Only Consumed may be called from another goroutine.
type Reader struct {
	name    string
	raw     *counter
	stream  *stream
	format  format
	decoder *Decoder
	records uint64
	closers []func()
	failed  error // what ended the input, io.EOF at a clean end
}

// counter counts the raw bytes read, for progress, and remembers whether the input itself failed,
// which tells its errors from a decompressor's.
type counter struct {
	r      io.Reader
	n      atomic.Int64
	failed atomic.Bool
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	if err != nil && err != io.EOF {
		c.failed.Store(true)
	}
	return n, err
}

// maxZstdWindow is the largest window that is decoded, which bounds the memory of a zstd stream. It is what
// `zstd -d` takes without --long; so --long=27 works.
const maxZstdWindow = 128 << 20

// NewReader returns a Reader of the capture in r: pcap in all its variants or pcapng, plain or in gzip
// (also of several members) or zstd, all told by content. The name is used in errors. An input that is no
// capture gives an *Error of kind ErrEmpty, ErrNotCapture, ErrTruncated, ErrCorrupt, ErrLinkType or ErrRead.
func NewReader(r io.Reader, name string, opt Options) (*Reader, error) {
	c := &counter{r: r}
	rd := &Reader{name: name, raw: c, decoder: NewDecoder(opt)}
	plain, err := rd.decompress(bufio.NewReaderSize(c, 64<<10))
	if err != nil {
		rd.release()
		return nil, err
	}
	rd.stream = newStream(plain)
	if err := rd.open(); err != nil {
		rd.release()
		return nil, err
	}
	return rd, nil
}

func (r *Reader) decompress(in *bufio.Reader) (io.Reader, error) {
	magic, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, &Error{File: r.name, Kind: ErrRead, Reason: "cannot be read", Err: err}
	}
	switch {
	case len(magic) == 0:
		return nil, &Error{File: r.name, Kind: ErrEmpty, Reason: "the file is empty", Hint: "was the capture stopped before it wrote anything?"}
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, r.compressed(err)
		}
		r.closers = append(r.closers, func() { _ = z.Close() })
		return z, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}), len(magic) == 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:], []byte{0x2a, 0x4d, 0x18}):
		z, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, r.compressed(err)
		}
		r.closers = append(r.closers, z.Close)
		return z, nil
	}
	return in, nil
}

// open reads the file header and chooses the format.
func (r *Reader) open() error {
	head, err := r.stream.peek(4)
	if err != nil {
		if len(head) == 0 && errors.Is(err, io.EOF) {
			return r.fail(ErrEmpty, "nothing is inside the compressed file", "")
		}
		return r.short(err, len(head), 4, "the file header")
	}
	if binary.BigEndian.Uint32(head) == blockSection {
		return r.openPcapng()
	}
	if v, ok := pcapVariants(head); ok {
		return r.openPcap(v)
	}
	return r.fail(ErrNotCapture, fmt.Sprintf("neither pcap nor pcapng: it begins with % x", head), hintFor(r.stream))
}

// hintFor looks at an unknown input and says what it seems to be.
func hintFor(s *stream) string {
	head, _ := s.peek(16)
	for _, k := range []struct{ magic, hint string }{
		{"snoop\x00", "this is a snoop capture: convert it with `editcap -F pcap`"},
		{"BZh", "it is compressed with bzip2: decompress it first"},
		{"\xfd7zXZ", "it is compressed with xz: decompress it first"},
		{"\x04\x22\x4d\x18", "it is compressed with lz4: decompress it first"},
		{"\x1f\x8b", "it is compressed twice: decompress it once"},
		{"\x28\xb5\x2f\xfd", "it is compressed twice: decompress it once"},
		{"PK\x03\x04", "it is a zip archive: unpack it first"},
		{"GMBU", "this is a Microsoft Network Monitor capture: convert it with `editcap -F pcap`"},
		{"XCP\x00", "this is a NetXRay capture: convert it with `editcap -F pcap`"},
	} {
		if bytes.HasPrefix(head, []byte(k.magic)) {
			return k.hint
		}
	}
	text := bytes.ToLower(bytes.TrimLeft(head, " \t\r\n\xef\xbb\xbf"))
	if bytes.HasPrefix(text, []byte("<")) {
		return "it looks like a web page, perhaps an error page that was saved in the capture's place"
	}
	return "if it is a capture of another kind, convert it with `editcap -F pcap`"
}

// Next reads the next packet and appends its events to b: none, one or more. On the way it takes in what is
// no packet (pcapng's other blocks). It returns io.EOF at a clean end, and an *Error (kinds
// ErrTruncated, ErrCorrupt, ErrLinkType, ErrRead) at damage; nothing can be read after either. Also
// with an error, b may have got events: those of requests that were still incomplete.
func (r *Reader) Next(b *event.Batch) error {
	if r.failed != nil {
		return r.failed
	}
	err := r.format.next(b)
	if err == nil {
		return nil
	}
	r.Flush(b)
	if errors.Is(err, io.EOF) {
		err = r.unread()
	}
	r.failed = err
	return err
}

// unread turns a clean end into an error where not one packet could be decoded because of its link type.
func (r *Reader) unread() error {
	ng, ok := r.format.(*pcapng)
	if !ok || ng.unsupported == 0 || ng.unsupported < r.records {
		return io.EOF
	}
	return r.linkType(ng.badLink)
}

// Flush appends the events of requests that are still incomplete to b, with what is known of them, and
// gives up waiting for their rest. Whoever cuts an input into parts at marks calls it before each Mark:
// then the events before a mark depend on nothing but the bytes before it and where the earlier
// marks were, however far the input goes on. The end of the input flushes by itself.
func (r *Reader) Flush(b *event.Batch) { r.decoder.Flush(b) }

// Mark returns the place behind the last packet read. Cheap enough for the end of a batch, not for each
// packet.
func (r *Reader) Mark() Mark {
	return Mark{Offset: r.stream.offset, Records: r.records, Sum: r.stream.mark()}
}

// Offset returns Mark().Offset.
func (r *Reader) Offset() int64 { return r.stream.offset }

// Records returns Mark().Records.
func (r *Reader) Records() uint64 { return r.records }

// Consumed returns how many bytes of the input, as it is stored, were read so far. It may be called
// while another goroutine reads.
func (r *Reader) Consumed() int64 { return r.raw.n.Load() }

// Tally says what became of the packets read so far.
func (r *Reader) Tally() Tally { return r.decoder.Tally() }

// Close releases the decompressor. It does not close the reader given to NewReader.
func (r *Reader) Close() error {
	r.release()
	if r.failed == nil {
		r.failed = io.ErrClosedPipe
	}
	return nil
}

func (r *Reader) release() {
	for _, c := range r.closers {
		c()
	}
	r.closers = nil
}

func (r *Reader) fail(kind error, reason, hint string) *Error {
	e := &Error{File: r.name, Kind: kind, Reason: reason, Hint: hint}
	if r.stream != nil {
		e.Offset = r.stream.offset
	}
	return e
}

func (r *Reader) linkType(n uint32) error {
	return r.fail(ErrLinkType, fmt.Sprintf("packets of link type %d are not decoded", n),
		"Ethernet, Linux cooked, raw IP, loopback, PPP and PPPoE are")
}

// short says that the input ended after got of want bytes of something.
func (r *Reader) short(err error, got, want int, what string) error {
	if errors.Is(err, io.EOF) {
		return r.fail(ErrTruncated, fmt.Sprintf("the file ends after %d of %d bytes of %s", got, want, what),
			"it was cut, or is still being written; everything before was read")
	}
	return r.compressed(err)
}

// compressed explains an error that came from below: the decompressor or the input itself.
func (r *Reader) compressed(err error) error {
	e := r.fail(ErrRead, "cannot be read further", "")
	e.Err = err
	switch {
	case r.raw.failed.Load():
	case errors.Is(err, io.ErrUnexpectedEOF):
		e.Kind, e.Err = ErrTruncated, nil
		e.Reason, e.Hint = "the compressed data end too early", "the file was cut, or is still being written; everything before was read"
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		e.Kind, e.Reason = ErrCorrupt, "the zstd data need too much memory"
		e.Hint = "compress the capture again without --long above 27"
	case len(r.closers) > 0 || r.stream == nil:
		e.Kind, e.Reason = ErrCorrupt, "the compressed data are damaged"
		e.Hint = "everything before was read; get the file again if you can"
	}
	return e
}
