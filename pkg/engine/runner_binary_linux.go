package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/gofrs/flock"
)

// MinVersion is the oldest ClickHouse that serves, as major and minor: the 25.3 LTS release.
const (
	MinMajor = 25
	MinMinor = 3
)

// binaryRunner runs `clickhouse server` below the child process, with the same configuration as the library plus the
// ports. Its process handling, arguments and configuration are tested with a stand-in program; no test of this
// package runs a real clickhouse binary.
type binaryRunner struct {
	layout            layout
	program           string
	tcpPort, httpPort int
}

func (r binaryRunner) run(stop <-chan struct{}, up func(tcpPort, httpPort int) error) error {
	if err := r.checkVersion(); err != nil {
		return err
	}
	if err := r.awaitRelease(stop); err != nil {
		return err
	}
	// The kernel sends the death signal when the *thread* that started the process ends, so this one must stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(r.program, "server", "--config-file="+r.layout.Config) //nolint:noctx // Ended by stop, in good order.
	cmd.Dir = r.layout.Dir
	cmd.Stderr = os.Stderr
	// A killed supervisor must not leave a server behind that nobody counts the clients of.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s cannot be started: %w", r.program, err)
	}
	ended := make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		err := up(r.tcpPort, r.httpPort)
		if err != nil {
			_ = cmd.Process.Kill()
		}
		failed <- err
	}()
	go func() {
		select {
		case <-stop:
			_ = cmd.Process.Signal(syscall.SIGTERM)
		case <-ended:
		}
	}()
	err := cmd.Wait()
	close(ended)
	select {
	case upErr := <-failed:
		err = errors.Join(upErr, err)
	default:
	}
	if err != nil {
		return fmt.Errorf("%s server: %w", r.program, err)
	}
	return nil
}

var versionPattern = regexp.MustCompile(`version (\d+)\.(\d+)`)

// checkVersion refuses a binary that is too old before it touches the data.
func (r binaryRunner) checkVersion() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, r.program, "server", "--version").CombinedOutput()
	m := versionPattern.FindStringSubmatch(string(out))
	if m == nil {
		if err == nil {
			err = errors.New("exit status 0")
		}
		return fmt.Errorf("%s does not tell a version when it is run as `server --version` (%w, it says %q); ClickHouse %d.%d or newer is needed",
			r.program, err, truncate(strings.TrimSpace(string(out)), maxCommand), MinMajor, MinMinor)
	}
	major, _ := strconv.Atoi(m[1]) // Digits by the pattern.
	minor, _ := strconv.Atoi(m[2])
	if major < MinMajor || major == MinMajor && minor < MinMinor {
		return fmt.Errorf("%s is ClickHouse %d.%d; %d.%d or newer is needed", r.program, major, minor, MinMajor, MinMinor)
	}
	return nil
}

// awaitRelease waits for a server that a killed supervisor left: the kernel kills it, and it may take a moment. Such a
// server holds ClickHouse's own lock.
func (r binaryRunner) awaitRelease(stop <-chan struct{}) error {
	if _, err := os.Stat(r.layout.statusOf); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	lock := flock.New(r.layout.statusOf)
	if _, err := lock.TryLockContext(ctx, pollInterval); err != nil {
		return explain(r.layout.Dir, err)
	}
	return lock.Close()
}

// pickPorts replaces ports that are 0 by free ones: a server wants to be told. Somebody else may take a port before
// the server does; then the server says so and the start fails.
func pickPorts(tcp, http int) (int, int, error) {
	ports := []int{tcp, http}
	for i, p := range ports {
		ln, err := net.Listen("tcp4", loopback(p)) //nolint:noctx // A local bind does not block.
		if err != nil {
			return 0, 0, fmt.Errorf("port %d cannot be listened on: %w", p, err)
		}
		defer func() { _ = ln.Close() }() // Not before both are chosen, or they could be the same.
		ports[i] = ln.Addr().(*net.TCPAddr).Port
	}
	return ports[0], ports[1], nil
}
