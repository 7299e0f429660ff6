package capture

import (
	"crypto/sha256"
	"hash"
	"io"
)

// bufferSize is what is read ahead; a record or block that is larger makes the buffer grow to hold it.
const bufferSize = 256 << 10

// stream is an uncompressed input as a window of bytes that begins where the last whole record ended.
// Taking a record moves the window, and adds its bytes to a running SHA-256.
type stream struct {
	r      io.Reader
	buf    []byte
	start  int   // the window is buf[start:end]
	end    int   // what is read
	hashed int   // buf[:hashed] is in sum
	offset int64 // of buf[start] in the input
	sum    hash.Hash
	err    error // why nothing can be read behind buf[end:]
	broken *[32]byte
}

func newStream(r io.Reader) *stream {
	return &stream{r: r, buf: make([]byte, bufferSize), sum: sha256.New()}
}

// peek returns the n bytes at the window's start, or what is left of them and why there is no more
// (io.EOF at the input's end). The bytes are valid until the next peek.
func (s *stream) peek(n int) ([]byte, error) {
	if s.end-s.start < n {
		if err := s.fill(n); err != nil {
			return s.buf[s.start:s.end], err
		}
	}
	return s.buf[s.start : s.start+n], nil
}

func (s *stream) fill(n int) error {
	if s.err != nil {
		return s.err
	}
	s.compact(n)
	for empty := 0; s.end-s.start < n; {
		m, err := s.r.Read(s.buf[s.end:])
		s.end += m
		if err != nil {
			s.err = err
			break
		}
		if m > 0 {
			empty = 0
		} else if empty++; empty == 100 {
			s.err = io.ErrNoProgress
			break
		}
	}
	if s.end-s.start < n {
		return s.err
	}
	return nil
}

// compact moves the window to the buffer's front, and makes the buffer large enough for n bytes.
func (s *stream) compact(n int) {
	s.digest()
	old := s.buf
	if n > len(s.buf) {
		s.buf = make([]byte, n)
	}
	s.end = copy(s.buf, old[s.start:s.end])
	s.start, s.hashed = 0, 0
}

// digest brings the sum up to the window's start. Hashing many records at once is much faster than
// hashing each.
func (s *stream) digest() {
	if s.hashed < s.start {
		s.sum.Write(s.buf[s.hashed:s.start])
		s.hashed = s.start
	}
}

// take ends a record of n bytes, which were peeked.
func (s *stream) take(n int) {
	s.start += n
	s.offset += int64(n)
}

// skip takes a block of n bytes without holding it. Where the input ends before, the error is
// returned, and the sum stays at the block's start.
func (s *stream) skip(n int64) error {
	whole, offset := s.mark(), s.offset
	for n > 0 {
		step := int(min(n, bufferSize))
		got, err := s.peek(step)
		if err != nil {
			s.take(len(got))
			s.offset, s.broken = offset, &whole
			return err
		}
		s.take(step)
		n -= int64(step)
	}
	return nil
}

// mark returns the sum of everything before the window.
func (s *stream) mark() (sum [32]byte) {
	if s.broken != nil {
		return *s.broken
	}
	s.digest()
	s.sum.Sum(sum[:0])
	return sum
}
