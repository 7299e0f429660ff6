// Package export writes data out for other tools: it decides about the time and about the file, and has the store stream into it.
package export

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"murmuration/pkg/nearest"
	"murmuration/pkg/store"
)

// ErrNothing is returned where there is nothing to export.
var ErrNothing = errors.New("nothing to export")

// Options of an export.
type Options struct {
	store.Selection
	Format store.Format
	// Window is how far back from To, or from the newest event, to go; 0 is all.
	Window   time.Duration
	Progress func(done, total uint64) // rows
}

// Report is what came of it.
type Report struct {
	Rows  uint64
	Bytes int64
}

// ToFile exports into a file, which takes its name, in the place of one that has it, when it is whole and on disk. An export that
// fails or is interrupted leaves what was there. A link stays, and leads to the new file; into a pipe or a device it goes as it comes.
func ToFile(ctx context.Context, st *store.Store, path string, o Options) (Report, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		err = checkDangling(path) // Other than by a link nothing is there, or the attempt to make it says why not.
	case info.IsDir():
		err = fmt.Errorf("%s: this is a directory: name a file in it", path)
	case info.Mode().IsRegular():
		return behindLinks(ctx, st, path, o)
	case info.Mode()&(fs.ModeNamedPipe|fs.ModeCharDevice) != 0:
		return into(ctx, st, path, o)
	default:
		err = fmt.Errorf("%s: this is a disk or a socket, and no place for an export: name a file, a pipe or a character device", path)
	}
	if err != nil {
		return Report{}, err
	}
	return replace(ctx, st, path, o)
}

// checkDangling refuses a link that leads to nothing: whether it or what it should lead to is wanted is not known.
func checkDangling(path string) error {
	to, err := os.Readlink(path)
	if err != nil {
		return nil //nolint:nilerr // It is no link.
	}
	return fmt.Errorf("%s: this is a link to %s, which is not there: remove the link, or name another file", path, to)
}

func behindLinks(ctx context.Context, st *store.Store, path string, o Options) (Report, error) {
	file, err := filepath.EvalSymlinks(path)
	if err != nil {
		return Report{}, explain(path, err)
	}
	return replace(ctx, st, file, o)
}

// replace exports into a new file, which then takes the name.
func replace(ctx context.Context, st *store.Store, path string, o Options) (r Report, err error) {
	part := fmt.Sprintf("%s.part-%s", path, strings.ToLower(rand.Text()))
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // For other people's tools, as the umask allows.
	if err != nil {
		return r, explain(path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(part)
		}
	}()
	r, err = To(ctx, st, f, o)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return r, explain(path, err)
	}
	return r, explain(path, os.Rename(part, path))
}

// into exports into what is there and stays there: a pipe or a device.
func into(ctx context.Context, st *store.Store, path string, o Options) (Report, error) {
	f, err := openInto(ctx, path)
	if err != nil {
		return Report{}, explain(path, err)
	}
	r, err := To(ctx, st, f, o)
	return r, explain(path, errors.Join(err, f.Close()))
}

// openInto opens for writing, which takes until somebody reads where it is a pipe: the context ends the waiting, and the
// process then ends what waits.
func openInto(ctx context.Context, path string) (*os.File, error) {
	type opened struct {
		f   *os.File
		err error
	}
	done := make(chan opened, 1)
	go func() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		done <- opened{f, err}
	}()
	select {
	case o := <-done:
		return o.f, o.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func explain(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%s: no room is left there: %w", path, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s: the file system there is read-only: name a file elsewhere: %w", path, err)
	case errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("%s: who read from it left before the end: %w", path, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: there is no directory %s", path, filepath.Dir(path))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: no permission to write there: %w", path, err)
	}
	return err
}

// To exports to a writer.
func To(ctx context.Context, st *store.Store, w io.Writer, o Options) (Report, error) {
	if o.Window > 0 {
		if err := o.window(ctx, st); err != nil {
			return Report{}, err
		}
	}
	if err := o.checkSensor(ctx, st); err != nil {
		return Report{}, err
	}
	c := &counter{w: w}
	buffered := bufio.NewWriterSize(c, 1<<20)
	rows, err := st.Export(ctx, buffered, o.Selection, o.Format, o.Progress)
	if err == nil {
		err = buffered.Flush()
	}
	return Report{Rows: rows, Bytes: c.n}, err //nolint:wrapcheck // It says what it did.
}

// checkSensor refuses a sensor that never saw anything.
func (o *Options) checkSensor(ctx context.Context, st *store.Store) error {
	if o.Sensor == "" {
		return nil
	}
	sensors, err := st.Sensors(ctx, time.Date(2106, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil || slices.Contains(sensors, o.Sensor) {
		return err //nolint:wrapcheck // It says what it did.
	}
	return fmt.Errorf("%w: there is no sensor %q%s", ErrNothing, o.Sensor, nearest.Hint(o.Sensor, sensors))
}

// window sets the time from its length.
func (o *Options) window(ctx context.Context, st *store.Store) error {
	if o.To.IsZero() {
		span := st.Span
		if o.What == "events" { // Backscatter and the rest are of them.
			span = st.EventSpan
		}
		first, last, err := span(ctx)
		if err != nil {
			return err //nolint:wrapcheck // It says what it did.
		}
		if first.IsZero() {
			return fmt.Errorf("%w: nothing is loaded yet; load a capture first (loader load FILE)", ErrNothing)
		}
		// The span is known to the second, and the second of the newest event belongs to the window.
		o.To = last.Truncate(time.Second).Add(time.Second)
	}
	o.From = o.To.Add(-o.Window)
	return nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err //nolint:wrapcheck // A writer passes errors on.
}
