package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"
)

var (
	// ErrNotFound means that neither the library nor a clickhouse binary was found; its text says how to get one.
	ErrNotFound = errors.New("no ClickHouse to run: `make build` (or `npm ci` beside the loader) installs the engine's " +
		"library; an installed `clickhouse` on PATH, --engine PATH or " + LibraryEnv + "=PATH serve as well")
	// ErrHeld means that another engine runs on the data directory. The error is a *HeldError.
	ErrHeld = errors.New("data directory is in use")
	// ErrStopped means that the engine was stopped in good order by somebody else while this process used it.
	ErrStopped = errors.New("the engine was stopped")
	// ErrDied means that the engine's process ended without being asked to.
	ErrDied = errors.New("the engine ended unexpectedly")
	// ErrStart means that the engine did not start; the text holds the reason or the last lines of its log.
	ErrStart = errors.New("the engine did not start")
)

// HeldError says who runs the engine of a data directory.
type HeldError struct {
	Dir    string
	Holder Holder
}

// Holder describes a running engine and the process that started it.
type Holder struct {
	Pid       int       `json:"pid"`        // of the engine
	Host      string    `json:"host"`       // where it runs
	Command   string    `json:"command"`    // command line that started it
	ClientPid int       `json:"client_pid"` // of that command
	Started   time.Time `json:"started"`
}

// Error says it in one sentence.
func (e *HeldError) Error() string {
	h := e.Holder
	if h.Pid == 0 {
		return fmt.Sprintf("data directory %s is locked by another process that did not leave its name; "+
			"stop it or choose another directory", e.Dir)
	}
	return fmt.Sprintf("data directory %s is in use by the engine with pid %d on host %s, started by `%s` (pid %d) at %s; "+
		"stop it with `kill %d` or choose another directory",
		e.Dir, h.Pid, h.Host, h.Command, h.ClientPid, h.Started.UTC().Format(time.RFC3339), h.Pid)
}

// Is makes errors.Is(err, ErrHeld) true.
func (e *HeldError) Is(target error) bool { return target == ErrHeld }

// explain turns an error of the file system into a sentence about the data directory.
func explain(dir string, err error) error {
	if err == nil {
		return nil
	}
	var why string
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		why = "there is no space left on its disk; free some or choose another directory"
	case errors.Is(err, syscall.EROFS):
		why = "its file system is read-only; choose another directory"
	case errors.Is(err, fs.ErrPermission):
		why = "this user may not use it; change its owner or choose another directory"
	case errors.Is(err, syscall.ENAMETOOLONG):
		why = "its path is longer than the system allows; choose a shorter one"
	case errors.Is(err, syscall.ENOTDIR):
		why = "a part of its path is a file; choose another directory"
	default:
		return fmt.Errorf("data directory %s: %w", dir, err)
	}
	return fmt.Errorf("data directory %s: %s (%w)", dir, why, err)
}
