package netinfo

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Options say how a file is to be read.
type Options struct {
	// Kind limits what is taken from the file; "" takes all that its columns tell.
	Kind string
	// Benign names the scanner of a list of bare prefixes; "" is the name of the file without its endings.
	Benign string
	// Progress, if set, is told how much of the file was read, in bytes as stored.
	Progress func(read, size int64)
}

// File is what a file says.
type File struct {
	Name     string   // without its directory
	Kinds    []string // what it tells, in the order of Kinds
	Format   string   // "csv", "tsv", "list" or "mmdb"
	Sum      [sha256.Size]byte
	Networks []Network
}

// maxZstdWindow is the largest window that is decoded, which bounds the memory of a zstd stream.
const maxZstdWindow = 128 << 20

// ReadFile reads a file of networks: CSV and TSV with a prefix or two addresses a line, with or without names above the columns, lists of
// prefixes with a name behind them, and MaxMind databases (MMDB), each plain, in gzip or in zstd. Errors wrap ErrFile and
// name file, line and reason. Nothing of a file with an error is returned.
func ReadFile(ctx context.Context, path string, opt Options) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, openError(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, openError(path, err)
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%w %s: this is a directory: name the files in it", ErrFile, path)
	}
	sum := sha256.New()
	raw := &watchedReader{ctx: ctx, r: io.TeeReader(f, sum), size: info.Size(), progress: opt.Progress}
	out := &File{Name: filepath.Base(path)}
	if !utf8.ValidString(out.Name) {
		return nil, fmt.Errorf("%w %q: its name is not UTF-8, and it is known by that: rename it", ErrFile, path)
	}
	plain, err := decompress(bufio.NewReaderSize(raw, 64<<10))
	if err == nil {
		err = out.read(plain, path, opt)
	}
	if err == nil {
		// What a decompressor left unread belongs to the file, too.
		_, err = io.Copy(io.Discard, raw)
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, fmt.Errorf("read %s: %w", path, cause)
		}
		return nil, fmt.Errorf("%w %s: %w", ErrFile, path, err)
	}
	if len(out.Networks) == 0 {
		return nil, fmt.Errorf("%w %s: it says nothing of any network", ErrFile, path)
	}
	sum.Sum(out.Sum[:0])
	return out, nil
}

func openError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w %s: there is no such file", ErrFile, path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w %s: no permission to read it: run as a user who may, or change its mode", ErrFile, path)
	}
	return fmt.Errorf("%w %s: cannot be opened: %w", ErrFile, path, err)
}

// watchedReader tells how far it was read, and ends with its context.
type watchedReader struct {
	ctx        context.Context //nolint:containedctx // It is a reader for the time of one call.
	r          io.Reader
	read, size int64
	progress   func(read, size int64)
}

func (w *watchedReader) Read(p []byte) (int, error) {
	if cause := context.Cause(w.ctx); cause != nil {
		return 0, cause
	}
	n, err := w.r.Read(p)
	w.read += int64(n)
	if w.progress != nil {
		w.progress(w.read, w.size)
	}
	return n, err //nolint:wrapcheck // A reader passes io.EOF on.
}

// decompress opens gzip and zstd, told by content, and refuses archives.
func decompress(in *bufio.Reader) (*bufio.Reader, error) {
	magic, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	switch {
	case len(magic) == 0:
		return nil, errors.New("the file is empty")
	case bytes.HasPrefix(magic, []byte("PK\x03\x04")):
		return nil, errors.New("this is a zip archive: unpack it and name the files in it")
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("damaged gzip: %w", err)
		}
		return notTar(bufio.NewReaderSize(z, 64<<10))
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("damaged zstd: %w", err)
		}
		return notTar(bufio.NewReaderSize(z.IOReadCloser(), 64<<10))
	}
	return notTar(in)
}

func notTar(in *bufio.Reader) (*bufio.Reader, error) {
	const at = 257 // of the magic in a tar header
	if head, _ := in.Peek(at + 5); len(head) == at+5 && string(head[at:]) == "ustar" {
		return nil, errors.New("this is a tar archive: unpack it and name the files in it")
	}
	return in, nil
}

// read tells text from a database by the bytes that text never has.
func (f *File) read(in *bufio.Reader, path string, opt Options) error {
	head, err := in.Peek(4096)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("cannot be read: %w", err)
	}
	if len(head) == 0 {
		return errors.New("nothing is inside the compressed file")
	}
	if bytes.IndexByte(head, 0) >= 0 {
		return f.readMMDB(in, opt)
	}
	if utf16(head) {
		return errUTF16
	}
	if opt.Benign == "" {
		opt.Benign, _, _ = strings.Cut(f.Name, ".")
	}
	if err := CheckName(opt.Benign); err != nil {
		return err
	}
	return f.readText(in, path, opt)
}

// wanted checks the kind that was asked for against those that the file has, and returns what to take.
func wanted(has []string, kind string) ([]string, error) {
	if kind == "" {
		return has, nil
	}
	if !slices.Contains(has, kind) {
		return nil, fmt.Errorf("it tells %s of networks, not %s", strings.Join(has, " and "), kind)
	}
	return []string{kind}, nil
}

// keep adds a network, with what of its facts was asked for.
func (f *File) keep(n Network) {
	if !slices.Contains(f.Kinds, KindASN) || n.ASN == 0 {
		n.ASN, n.ASName = 0, ""
	}
	if !slices.Contains(f.Kinds, KindCountry) {
		n.Country = ""
	}
	if !slices.Contains(f.Kinds, KindBenign) {
		n.Benign = ""
	}
	if n.Fact == (Fact{}) {
		return // "Not routed" and the like: known to be unknown.
	}
	f.Networks = append(f.Networks, n)
}
