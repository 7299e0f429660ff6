package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// place is where a backup is to be written.
type place struct {
	name    string // as the user gave it, for messages
	path    string // absolute, with no link at its end
	archive bool   // one file instead of a directory
}

// findPlace finds what a name stands for and refuses one that is taken. An empty directory is not, also behind a link: the backup is written
// to where it leads.
func findPlace(target string) (place, error) {
	target = filepath.Clean(target)
	p := place{name: target, archive: isArchive(target)}
	if err := checkEnding(target); err != nil {
		return p, err
	}
	var err error
	if p.path, err = filepath.Abs(target); err != nil {
		return p, explain(target, err)
	}
	info, err := os.Lstat(p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return p, checkParent(filepath.Dir(p.path))
	case err != nil:
		return p, explain(target, err)
	case info.Mode()&fs.ModeSymlink != 0:
		if p.path, err = filepath.EvalSymlinks(p.path); errors.Is(err, fs.ErrNotExist) {
			return p, fmt.Errorf("%w %s: this is a link that leads to nothing, and a backup replaces nothing: give another name", ErrPlace, target)
		}
		if err != nil {
			return p, explain(target, err)
		}
	}
	return p, p.checkFree()
}

// checkParent refuses a name in what is not there, or is no directory.
func checkParent(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = syscall.ENOTDIR
	}
	return explain(dir, err)
}

// checkFree refuses what is there, unless it is an empty directory that can make way.
func (p *place) checkFree() error {
	info, err := os.Stat(p.path)
	if err != nil {
		return explain(p.name, err)
	}
	if !info.IsDir() || p.archive {
		return p.taken()
	}
	entries, err := os.ReadDir(p.path)
	if err != nil {
		return explain(p.name, err)
	}
	if len(entries) > 0 {
		return p.taken()
	}
	if isMount(p.path, info) {
		return p.mounted()
	}
	return nil
}

func (p *place) taken() error {
	return fmt.Errorf("%w %s: there is something of that name, and a backup replaces nothing: give another name", ErrPlace, p.name)
}

func (p *place) takenMeanwhile() error {
	return fmt.Errorf("%w %s: there is something called %s by now, and a backup replaces nothing: nothing was kept of this one, give another name", ErrPlace, p.name, filepath.Base(p.path))
}

func (p *place) mounted() error {
	return fmt.Errorf("%w %s: a file system is mounted there, and a backup is a directory of its own: give a name in it, such as %s", ErrPlace, p.name, filepath.Join(p.name, "backup"))
}

// isMount says whether a directory is on another file system than the one that it is in.
func isMount(dir string, info fs.FileInfo) bool {
	parent, err := os.Stat(filepath.Dir(dir))
	if err != nil {
		return false
	}
	here, ok := info.Sys().(*syscall.Stat_t)
	above, okAbove := parent.Sys().(*syscall.Stat_t)
	return ok && okAbove && here.Dev != above.Dev
}

// take gives a whole backup its name, which something else may have by now.
func (p *place) take(part string) error {
	// Of rename(2), not os.Rename, which refuses directories: an empty directory makes way, in one step, and nothing else does.
	err := syscall.Rename(part, p.path)
	switch {
	case errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, syscall.EEXIST), errors.Is(err, syscall.ENOTDIR):
		return p.takenMeanwhile()
	case errors.Is(err, syscall.EBUSY):
		return p.mounted()
	}
	return explain(p.name, err)
}

// isArchive says whether a name asks for one file instead of a directory.
func isArchive(name string) bool {
	return strings.HasSuffix(name, ".tar") || strings.HasSuffix(name, ".tar.zst")
}

// checkEnding refuses a name that asks for an archive of a kind that is not written: a directory of that name is not what is meant.
func checkEnding(name string) error {
	other := []string{".tar", ".gz", ".tgz", ".bz2", ".tbz", ".tbz2", ".xz", ".txz", ".lzma", ".zst", ".tzst", ".zip", ".zipx", ".7z", ".rar"}
	if ending := filepath.Ext(name); !isArchive(name) && slices.Contains(other, strings.ToLower(ending)) {
		return fmt.Errorf("%w %s: the archives that are written are called .tar or .tar.zst, not %s: give such a name, or one without it for a directory", ErrPlace, name, ending)
	}
	return nil
}

// explain says what went wrong with a place.
func explain(path string, err error) error {
	switch {
	case err == nil, errors.Is(err, ErrPlace): // It says so already.
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w %s: no room is left there: free some, or choose another place: %w", ErrPlace, path, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w %s: the file system there is read-only: choose a place that can be written to: %w", ErrPlace, path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w %s: no permission: choose a place that this user may write to: %w", ErrPlace, path, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w %s: there is no such directory or file", ErrPlace, path)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w %s: this, or a part of its path, is a file and no directory: %w", ErrPlace, path, err)
	}
	return fmt.Errorf("%w %s: %w", ErrPlace, path, err)
}
