package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A claim is the comment of a lock's table: until when it stands, who made it, and where that process lives. One whose
// process is seen to be dead has run out before its time, so that a command that was killed can be repeated at once.

// claimText is the comment of a claim of this process, by the server's clock.
func claimText(until time.Time) string {
	host, _ := os.Hostname()
	host = strings.Map(func(r rune) rune {
		if r == '\'' || r == '\\' || r == '(' || r < ' ' {
			return '_'
		}
		return r
	}, host)
	return fmt.Sprintf("until %d held by process %d on %s (%s)", until.UnixMilli(), os.Getpid(), host, processSpace())
}

// readClaim returns who made a claim, and whether it stands at a time in milliseconds.
func readClaim(comment string, now int64) (who string, stands bool) {
	untilText, who, _ := strings.Cut(strings.TrimPrefix(comment, "until "), " held by ")
	who, space, _ := strings.Cut(who, " (")
	until, err := strconv.ParseInt(untilText, 10, 64)
	if err != nil || until <= now {
		return who, false
	}
	pidText, _, _ := strings.Cut(strings.TrimPrefix(who, "process "), " ")
	pid, err := strconv.Atoi(pidText)
	return who, err != nil || !isDead(pid, strings.TrimSuffix(space, ")"))
}

// processSpace says within what process numbers are unique: one boot of one machine, and one namespace. It is empty
// where that cannot be told, which is nobody's space.
func processSpace() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	namespace, linkErr := os.Readlink("/proc/self/ns/pid")
	if err != nil || linkErr != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + " " + namespace
}

// isDead reports whether a process of a space is known to have ended. Of another space nothing is known.
func isDead(pid int, space string) bool {
	if space == "" || space != processSpace() || pid <= 0 {
		return false
	}
	p, err := os.FindProcess(pid)
	if err == nil && errors.Is(p.Signal(syscall.Signal(0)), os.ErrProcessDone) {
		return true
	}
	// One that nobody has waited for yet keeps its number. The state stands behind the name, which may hold anything.
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" Z"))
}
