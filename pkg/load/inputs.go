package load

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Input is something to load: a file, or standard input.
type Input struct {
	Name string // as the user gave it; "-" is standard input
	Size int64  // bytes, 0 when unknown
	Open func() (io.ReadCloser, error)
}

// Stdin is the input called "-".
func Stdin(r io.Reader) Input {
	return Input{Name: "-", Open: func() (io.ReadCloser, error) { return io.NopCloser(r), nil }}
}

// captureName matches the names that captures usually have, rotated and compressed ones included.
var captureName = regexp.MustCompile(`(?i)\.(pcap|pcapng|cap|dmp|ntar)[0-9]*(\.[0-9]+)?(\.(gz|zst))?$`)

// Inputs turns the command's arguments into inputs, in a stable order. A file that is named is always
// an input, whatever it is called; of a directory's files (its subdirectories included) only those
// that are named like captures are, and the others come back in leftOut.
func Inputs(args []string, stdin io.Reader) (inputs []Input, leftOut []string, err error) {
	for _, a := range args {
		if a == "-" {
			inputs = append(inputs, Stdin(stdin))
			continue
		}
		info, err := os.Stat(a)
		if err != nil {
			// Reported when its turn comes, so that one missing file does not stop the others.
			inputs = append(inputs, file(a, 0))
			continue
		}
		if !info.IsDir() {
			inputs = append(inputs, file(a, info.Size()))
			continue
		}
		in, out, err := directory(a)
		if err != nil {
			return nil, nil, err
		}
		if len(in) == 0 {
			// An input that fails by name: it does not stop the others either.
			in = []Input{{Name: a, Open: func() (io.ReadCloser, error) {
				return nil, fmt.Errorf("%s: no capture in this directory: names must end in .pcap, .pcapng, .cap, .dmp or .ntar, with .gz or .zst behind it if compressed; name a file to load it whatever it is called", a)
			}}}
		}
		inputs, leftOut = append(inputs, in...), append(leftOut, out...)
	}
	return inputs, leftOut, nil
}

func file(path string, size int64) Input {
	return Input{Name: path, Size: size, Open: func() (io.ReadCloser, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, openError(path, err)
		}
		return f, nil
	}}
}

func openError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &unopened{path + ": there is no such file", err}
	case errors.Is(err, fs.ErrPermission):
		return &unopened{path + ": no permission to read it: run as a user who may, or change its mode", err}
	}
	return fmt.Errorf("%s: cannot be opened: %w", path, err)
}

// unopened is a sentence in the place of what the system said, which would only say it again.
type unopened struct {
	sentence string
	cause    error
}

func (e *unopened) Error() string { return e.sentence }
func (e *unopened) Unwrap() error { return e.cause }

func directory(root string) (inputs []Input, leftOut []string, err error) {
	// With a separator behind it a link to a directory is followed, as it was when it was found to be one.
	err = filepath.WalkDir(filepath.Clean(root)+string(filepath.Separator), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			// An unreadable subdirectory is an input that fails by name, not the end of the walk.
			inputs = append(inputs, Input{Name: path, Open: func() (io.ReadCloser, error) { return nil, openError(path, err) }})
			if d != nil && d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		info, err := os.Stat(path) // follows links, which rotated captures often are
		if err != nil || !info.Mode().IsRegular() || !captureName.MatchString(d.Name()) {
			leftOut = append(leftOut, path)
			return nil
		}
		inputs = append(inputs, file(path, info.Size()))
		return nil
	})
	slices.SortFunc(inputs, func(a, b Input) int { return strings.Compare(a.Name, b.Name) })
	return inputs, leftOut, err
}
