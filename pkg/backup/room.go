package backup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// room is a directory in the engine's directory for backups that an archive is unpacked in, and the lock that says that it is in use.
// The system ends the lock with its process, so that the next one can tell what a killed one left.
type room struct {
	dir  string
	lock *flock.Flock
}

const (
	roomPattern = "unpacked-*"
	roomLock    = "in-use"
)

// newRoom makes a room. It takes a name by which sweep knows it only when it is locked.
func newRoom(engine string) (*room, error) {
	made, err := os.MkdirTemp(engine, "new-"+roomPattern)
	if err != nil {
		return nil, err //nolint:wrapcheck // The caller says where.
	}
	r := &room{dir: made, lock: flock.New(filepath.Join(made, roomLock), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))}
	_, err = r.lock.TryLock() // Nobody else knows it.
	if err == nil {
		r.dir = filepath.Join(engine, filepath.Base(made)[len("new-"):])
		err = os.Rename(made, r.dir)
	}
	if err != nil {
		_ = os.RemoveAll(made)
		return nil, errors.Join(err, r.lock.Close())
	}
	return r, nil
}

// path is where in the room the archive goes.
func (r *room) path() string { return filepath.Join(r.dir, "backup") }

func (r *room) remove() {
	_ = os.RemoveAll(r.dir) // What stays is swept.
	_ = r.lock.Close()
}

// sweep removes the rooms of processes that were killed. What cannot be removed now is left to the next one.
func sweep(engine string) {
	left, _ := filepath.Glob(filepath.Join(engine, roomPattern)) // The pattern is good.
	for _, dir := range left {
		lock := flock.New(filepath.Join(dir, roomLock), flock.SetFlag(os.O_RDWR))
		free, err := lock.TryLock()
		// Without a file to lock it is half removed, or of a loader that made none.
		if free || errors.Is(err, fs.ErrNotExist) {
			_ = os.RemoveAll(dir)
		}
		_ = lock.Close()
	}
}
