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
	"syscall"

	"github.com/klauspost/compress/zstd"
)

// pack makes one file of a directory: it takes the name target when it is whole and on disk.
func pack(ctx context.Context, dir string, target place, progress func(done, total uint64)) (err error) {
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
	if strings.HasSuffix(target.path, ".zst") {
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
	err = os.Link(part, target.path)
	if errors.Is(err, fs.ErrExist) {
		return target.takenMeanwhile()
	}
	if err != nil {
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

// unpack takes an archive apart into a directory that it makes. What is wrong with the archive wraps ErrDamaged; what else goes wrong does so where
// it is unpacked to.
func unpack(ctx context.Context, archive, dir string, progress func(done, total uint64)) error {
	f, err := os.Open(archive)
	if err != nil {
		return explain(archive, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return explain(archive, err)
	}
	raw := &counter{ctx: ctx, r: f, progress: func(n int64) { progress(uint64(n), uint64(max(info.Size(), n, 1))) }} //nolint:gosec // Sizes of files.
	var in io.Reader = raw
	if strings.HasSuffix(archive, ".zst") {
		z, err := zstd.NewReader(raw)
		if err != nil {
			return explain(archive, err)
		}
		defer z.Close()
		in = z
	}
	err = extractAll(in, dir)
	var toDisk *fs.PathError
	switch cause := context.Cause(ctx); {
	case err == nil:
		return nil
	case cause != nil:
		return cause
	case errors.As(err, &toDisk) && toDisk.Path != archive:
		return noRoom(archive, dir, err)
	}
	guess := ""
	if errors.Is(err, io.ErrUnexpectedEOF) {
		guess = " (was it cut off?)"
	}
	return fmt.Errorf("%w %s: %w: it cannot be unpacked to its end%s: %w", ErrPlace, archive, ErrDamaged, guess, err)
}

// noRoom says that an archive could not be unpacked for want of something where it is unpacked to.
func noRoom(archive, dir string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w %s: there is no room to unpack it in %s: free some there: %w", ErrPlace, archive, dir, err)
	}
	return fmt.Errorf("%w %s: it cannot be unpacked in %s: %w", ErrPlace, archive, dir, err)
}

// extractAll writes the files of an archive below dir.
func extractAll(in io.Reader, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err //nolint:wrapcheck // The caller says where.
	}
	t := tar.NewReader(in)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			// Behind the last file of a tar stands the checksum of its compression, and nobody else reads as far.
			_, err = io.Copy(io.Discard, in)
			return err //nolint:wrapcheck // The caller says where.
		}
		if err == nil {
			err = extract(t, h, dir)
		}
		if err != nil {
			return err
		}
	}
}

// counter reads on for as long as the context lasts and tells how far it is.
type counter struct {
	ctx      context.Context
	r        io.Reader
	n        int64
	progress func(n int64)
}

func (c *counter) Read(p []byte) (int, error) {
	if cause := context.Cause(c.ctx); cause != nil {
		return 0, cause
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.progress(c.n)
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
