package backup

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// isArchive says whether a name asks for one file instead of a directory.
func isArchive(name string) bool {
	return strings.HasSuffix(name, ".tar") || strings.HasSuffix(name, ".tar.zst")
}

// pack makes one file of a directory: it takes the name target when it is whole and on disk.
func pack(ctx context.Context, dir, target string, progress func(done, total uint64)) (err error) {
	part := dir + ".file"
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err //nolint:wrapcheck // The caller says where.
	}
	defer func() {
		if err != nil {
			_ = os.Remove(part)
		}
	}()
	var out io.WriteCloser = nopCloser{f}
	if strings.HasSuffix(target, ".zst") {
		// The data is compressed already: what is left to gain are headers and the small files.
		if out, err = zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedFastest)); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	t := tar.NewWriter(out)
	err = addAll(ctx, t, dir, progress)
	err = errors.Join(err, t.Close(), out.Close(), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	// A link, not a rename: it fails where the name was taken meanwhile.
	if err := os.Link(part, target); err != nil {
		return err //nolint:wrapcheck // The caller says where.
	}
	return os.Remove(part) //nolint:wrapcheck // The caller says where.
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// addAll adds the files below a directory, and tells how many bytes of them are in.
func addAll(ctx context.Context, t *tar.Writer, dir string, progress func(done, total uint64)) error {
	total, done := int64(1), int64(0)
	if err := eachFile(dir, func(_ string, info fs.FileInfo) error { total += info.Size(); return nil }); err != nil {
		return err
	}
	return eachFile(dir, func(path string, info fs.FileInfo) error {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err //nolint:wrapcheck // The caller says where.
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: filepath.ToSlash(name), Size: info.Size(), Mode: 0o600, ModTime: info.ModTime()}); err != nil {
			return err //nolint:wrapcheck // The caller says where.
		}
		f, err := os.Open(path)
		if err != nil {
			return err //nolint:wrapcheck // The caller says where.
		}
		defer f.Close()
		n, err := io.Copy(t, f)
		done += n
		progress(uint64(done), uint64(total)) //nolint:gosec // Sizes of files.
		return err                            //nolint:wrapcheck // The caller says where.
	})
}

func eachFile(dir string, visit func(path string, info fs.FileInfo) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { //nolint:wrapcheck // The caller says where.
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err //nolint:wrapcheck // The caller says where.
		}
		return visit(path, info)
	})
}

// unpack takes an archive apart into a new directory below parent, which the caller removes.
func unpack(ctx context.Context, archive, parent string, progress func(done, total uint64)) (dir string, err error) {
	f, err := os.Open(archive)
	if err != nil {
		return "", err //nolint:wrapcheck // The caller says where.
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err //nolint:wrapcheck // The caller says where.
	}
	if dir, err = os.MkdirTemp(parent, "unpacked-"); err != nil {
		return "", err //nolint:wrapcheck // The caller says where.
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(dir)
		}
	}()
	raw := &counter{r: f}
	var in io.Reader = raw
	if strings.HasSuffix(archive, ".zst") {
		z, err := zstd.NewReader(raw)
		if err != nil {
			return "", err //nolint:wrapcheck // The caller says where.
		}
		defer z.Close()
		in = z
	}
	t := tar.NewReader(in)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return dir, nil
		}
		if err == nil {
			err = context.Cause(ctx)
		}
		if err == nil {
			err = extract(t, h, dir)
		}
		if err != nil {
			return "", fmt.Errorf("it cannot be unpacked (was it cut off?): %w", err)
		}
		progress(uint64(raw.n), uint64(max(info.Size(), 1))) //nolint:gosec // Sizes of files.
	}
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err //nolint:wrapcheck // A reader passes io.EOF on.
}

// extract writes one file of an archive, which must lie below dir.
func extract(t *tar.Reader, h *tar.Header, dir string) error {
	if h.Typeflag == tar.TypeDir {
		return nil
	}
	name := filepath.FromSlash(h.Name)
	if h.Typeflag != tar.TypeReg || !filepath.IsLocal(name) {
		return fmt.Errorf("%q has no place in a backup", h.Name)
	}
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err //nolint:wrapcheck // The caller says where.
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err //nolint:wrapcheck // The caller says where.
	}
	n, err := io.Copy(f, t)
	if err == nil && n != h.Size {
		err = io.ErrUnexpectedEOF
	}
	return errors.Join(err, f.Close())
}
