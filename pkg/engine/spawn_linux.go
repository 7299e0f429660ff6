package engine

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is the child, seen from the process that started it.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it was waited for
	err   error         // of Wait; read after ended
}

// selfPath is this program even when its file was replaced or removed since.
const selfPath = "/proc/self/exe"

// keptEnv are the variables the child inherits. Everything else stays out: ClickHouse reads users, passwords and
// configuration from some of them.
var keptEnv = []string{"PATH", "LD_LIBRARY_PATH", "TMPDIR", "XDG_RUNTIME_DIR", "GOTRACEBACK"}

// spawn starts the child and sends it what to run.
func spawn(l layout, req startRequest) (*link, *process, error) {
	if os.Getenv(childEnv) != "" {
		return nil, nil, fmt.Errorf("%w: engine.MaybeChild must be the first call of main and of TestMain", ErrStart)
	}
	conn, theirs, err := socketPair()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: control connection: %w", ErrStart, err)
	}
	defer theirs.Close()
	// The name and the argument are for people who look at the list of processes.
	cmd := &exec.Cmd{Path: selfPath, Args: []string{"murmuration-engine", l.Dir}, Dir: l.Dir, ExtraFiles: []*os.File{theirs}}
	cmd.Env = []string{childEnv + "=1", "HOME=" + l.Dir, "TZ=UTC", "LC_ALL=C.UTF-8"}
	for _, name := range keptEnv {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	// A session of its own: Ctrl-C and a closed terminal reach this process first, which then says what shall happen.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		_ = conn.Close()
		return nil, nil, fmt.Errorf("%w: %w", ErrStart, err)
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	c := newLink(conn)
	if err := c.send(request{Op: opStart, Start: &req}); err != nil {
		c.close()
		<-p.ended
		return nil, nil, fmt.Errorf("%w: %s: %w", ErrStart, p.outcome(), err)
	}
	return c, p, nil
}

// outcome says how the process ended; it has ended.
func (p *process) outcome() string {
	<-p.ended
	return p.cmd.ProcessState.String()
}

// awaitEnd waits for the end of the process, up to a limit.
func (p *process) awaitEnd(limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
	}
}

func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control")
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		_ = theirs.Close()
		return nil, nil, err
	}
	return conn, theirs, nil
}

// stackFrame is a line of one of ClickHouse's stack traces, which would push the reason out of the last lines.
var stackFrame = regexp.MustCompile(`^\d+\. .*@ 0x[0-9a-f]+|^\(version [\d.]+|^r[a-z0-9]+ +0x`)

// lastLines returns the last n lines of the first of these files that holds any and was written to since, on one line. Where ClickHouse says
// that it logs, and the stack below an error, are not worth quoting.
func lastLines(n int, since time.Time, paths ...string) string {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || info.ModTime().Before(since) {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var lines []string
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "Logging ") && !stackFrame.MatchString(line) {
				lines = append(lines, line)
			}
		}
		if len(lines) > 0 {
			return strings.Join(lines[max(0, len(lines)-n):], " | ")
		}
	}
	return ""
}
