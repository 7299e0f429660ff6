package capture

import (
	"errors"
	"fmt"
	"strings"
)

// The kinds of Error, for errors.Is.
var (
	// ErrEmpty: not one byte.
	ErrEmpty = errors.New("empty file")
	// ErrNotCapture: the input is no pcap or pcapng file.
	ErrNotCapture = errors.New("not a capture")
	// ErrTruncated: the input ends inside a record, a block or a compressed frame. What stood before was read.
	ErrTruncated = errors.New("truncated")
	// ErrCorrupt: a length or a checksum that cannot be. What stood before was read.
	ErrCorrupt = errors.New("corrupt")
	// ErrLinkType: packets of a link type that is not decoded.
	ErrLinkType = errors.New("unsupported link type")
	// ErrRead: the input could not be read further, for a reason outside of the file's content.
	ErrRead = errors.New("read error")
)

// Error says where and why an input could not be read (further), and what to do.
type Error struct {
	File   string // name given to NewReader
	Offset int64  // uncompressed bytes from the start of the input to the record or block at fault
	Kind   error  // one of the sentinels above
	Reason string
	Hint   string // what to do, or ""
	Err    error  // the cause below, or nil
}

// Error returns one sentence: file, offset, reason, and what to do.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: byte %d: %s", e.File, e.Offset, e.Reason)
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if e.Hint != "" {
		b.WriteString("; ")
		b.WriteString(e.Hint)
	}
	return b.String()
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}
