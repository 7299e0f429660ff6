package engine

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"
)

// libraryRunner runs libchdb.so inside the child process, in the way of `clickhouse local` with listeners.
type libraryRunner struct {
	layout layout
	req    startRequest
}

// library holds the functions of libchdb.so that are needed.
type library struct {
	cmdline     func(argc int32, argv **byte) unsafe.Pointer
	resultError func(result unsafe.Pointer) string
	setHandlers func(enabled int32)
}

// opened is the pseudo-terminal and the pipe that a running library is held by.
type opened struct {
	master *os.File // ^D here ends the session
	ports  *os.File // the session writes its ports here
}

func (r libraryRunner) run(stop <-chan struct{}, up func(tcpPort, httpPort int) error) error {
	for _, port := range []int{r.req.TCPPort, r.req.HTTPPort} {
		if err := checkPort(port); err != nil {
			return err
		}
	}
	lib, err := loadLibrary(r.req.Library.Path)
	if err != nil {
		return err
	}
	o, portsPath, err := redirect()
	if err != nil {
		return err
	}
	defer o.master.Close()
	ended := make(chan struct{})
	failed := make(chan error, 1)
	go o.endOnStop(stop, ended)
	go func() { failed <- r.watchStart(o.ports, ended, up) }()
	result := make(chan error, 1)
	go func() {
		defer close(ended)
		runtime.LockOSThread() // Never unlocked: ClickHouse ties state to the thread that it was called on.
		result <- lib.call(r.args(portsPath))
	}()
	for {
		select {
		case err := <-result:
			return err
		case err := <-failed:
			select {
			case <-stop: // The session ends in good order; that it was never up is no failure.
				err = nil
			default:
			}
			if err != nil {
				return err // The process ends with it; the library cannot be stopped half-way through its start.
			}
		}
	}
}

// args is the command line of the library's main function. Passwords are in files only, though this one is never
// seen by `ps`.
func (r libraryRunner) args(portsPath string) []string {
	return []string{
		"clickhouse",
		"--path=" + r.layout.Data,
		// Without it ./config.xml and ~/.clickhouse-local/config.xml are read silently.
		"--config-file=" + r.layout.Config,
		"--log-level=information", // The level in the configuration is overruled by the mode's default, trace.
		"--listen_host=127.0.0.1",
		fmt.Sprintf("--tcp_port=%d", r.req.TCPPort),
		fmt.Sprintf("--http_port=%d", r.req.HTTPPort),
		"--interactive", "--disable_suggestion", "--history_file=/dev/null",
		"--query=SYSTEM START LISTEN TCP; SYSTEM START LISTEN HTTP; " +
			"SELECT getServerPort('tcp_port'), getServerPort('http_port') INTO OUTFILE '" + portsPath + "' TRUNCATE FORMAT TSV",
	}
}

// watchStart waits for the ports, or for the exception that comes instead of them: the session then stays at its
// prompt and would do so for ever.
func (r libraryRunner) watchStart(ports *os.File, ended <-chan struct{}, up func(tcpPort, httpPort int) error) error {
	line := make(chan string, 1)
	go func() {
		if s, err := bufio.NewReader(ports).ReadString('\n'); err == nil {
			line <- s
		}
	}()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return nil
		case s := <-line:
			var tcp, http int
			if _, err := fmt.Sscan(s, &tcp, &http); err != nil {
				return fmt.Errorf("the engine told its ports as %q: %w", s, err)
			}
			return up(tcp, http)
		case <-tick.C:
			if b, err := os.ReadFile(r.layout.Stderr); err == nil && strings.Contains(string(b), "DB::Exception") {
				return errors.New(firstException(string(b)))
			}
		}
	}
}

// firstException cuts one line with ClickHouse's message out of what it said, without its stack trace.
func firstException(text string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	for line := range strings.Lines(text) {
		if strings.Contains(line, "DB::Exception") {
			first = strings.TrimSpace(line)
			break
		}
	}
	first, _, _ = strings.Cut(first, ", Stack trace (")
	return first
}

// checkPort says in a sentence what ClickHouse says in a stack of them; port 0 is always free.
func checkPort(port int) error {
	if port == 0 {
		return nil
	}
	ln, err := net.Listen("tcp4", loopback(port)) //nolint:noctx // A local bind does not block.
	if err != nil {
		return fmt.Errorf("port %d cannot be listened on: %w", port, err)
	}
	return ln.Close()
}

// loadLibrary opens the library and its C functions.
func loadLibrary(path string) (l library, err error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return l, fmt.Errorf("%s cannot be loaded: %w", path, err)
	}
	libc, err := purego.Dlopen("", purego.RTLD_NOW)
	if err != nil {
		return l, fmt.Errorf("the C library cannot be opened: %w", err)
	}
	defer func() { // RegisterLibFunc panics on a missing symbol.
		if p := recover(); p != nil {
			err = fmt.Errorf("%s is not a library this program can run: %v", path, p)
		}
	}()
	purego.RegisterLibFunc(&l.cmdline, handle, "chdb_query_cmdline")
	purego.RegisterLibFunc(&l.resultError, handle, "chdb_result_error")
	purego.RegisterLibFunc(&l.setHandlers, handle, "chdb_set_signal_handlers_enabled")
	var sigaction func(sig int32, act, old unsafe.Pointer) int32
	purego.RegisterLibFunc(&sigaction, libc, "sigaction")
	keepHandlers(sigaction, func() { l.setHandlers(0) })
	return l, nil
}

// sigactionSize is more than struct sigaction has on any Linux (152 bytes on amd64 and arm64).
const sigactionSize = 256

// keepHandlers saves and restores the Go runtime's signal handlers around f: switching the library's handlers off
// resets them, too, and the first recovered nil dereference would end the engine.
func keepHandlers(sigaction func(sig int32, act, old unsafe.Pointer) int32, f func()) {
	signals := []syscall.Signal{syscall.SIGILL, syscall.SIGABRT, syscall.SIGFPE, syscall.SIGBUS, syscall.SIGSEGV,
		syscall.SIGURG, syscall.SIGTRAP, syscall.SIGSYS}
	saved := make([][sigactionSize]byte, len(signals))
	for i, s := range signals {
		sigaction(int32(s), nil, unsafe.Pointer(&saved[i]))
	}
	f()
	for i, s := range signals {
		sigaction(int32(s), unsafe.Pointer(&saved[i]), nil)
	}
}

// call runs the library's main function until the session ends.
func (l library) call(args []string) error {
	var pin runtime.Pinner
	defer pin.Unpin()
	argv := make([]*byte, len(args)+1)
	for i, a := range args {
		b := append([]byte(a), 0)
		argv[i] = &b[0]
		pin.Pin(argv[i])
	}
	pin.Pin(&argv[0])
	if r := l.cmdline(int32(len(args)), &argv[0]); r != nil {
		if text := l.resultError(r); text != "" {
			return errors.New(firstException(text))
		}
	}
	return nil
}

// redirect gives the library a terminal as standard input and nothing as standard output, and makes the pipe for its
// ports. Only with a terminal does it leave out the handler that ends the process when a client's connection breaks.
func redirect() (opened, string, error) {
	master, slave, err := openTerminal()
	if err != nil {
		return opened{}, "", fmt.Errorf("a pseudo-terminal, which the engine needs, cannot be opened: %w", err)
	}
	defer slave.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return opened{}, "", err
	}
	defer null.Close()
	if err := errors.Join(unix.Dup3(int(slave.Fd()), 0, 0), unix.Dup3(int(null.Fd()), 1, 0)); err != nil {
		return opened{}, "", fmt.Errorf("standard input and output: %w", err)
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		return opened{}, "", err
	}
	// The descriptor stays open for the life of the process: the library opens it by its name.
	fd, err := unix.FcntlInt(pw.Fd(), unix.F_DUPFD_CLOEXEC, controlFD+1)
	if err != nil {
		return opened{}, "", err
	}
	_ = pw.Close()
	return opened{master: master, ports: pr}, fmt.Sprintf("/dev/fd/%d", fd), nil
}

// endOnStop sends ^D until the session ends: what is typed before the prompt is there would be thrown away.
func (o opened) endOnStop(stop, ended <-chan struct{}) {
	go func() { // The prompt must be read, or it blocks the session.
		buf := make([]byte, 4096)
		for {
			if _, err := o.master.Read(buf); err != nil {
				return
			}
		}
	}()
	select {
	case <-stop:
	case <-ended:
		return
	}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		_, _ = o.master.Write([]byte{4})
		select {
		case <-ended:
			return
		case <-tick.C:
		}
	}
}

// openTerminal opens a pseudo-terminal that does not become the controlling one.
func openTerminal() (master, slave *os.File, err error) {
	m, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	if err = unix.IoctlSetPointerInt(int(m.Fd()), unix.TIOCSPTLCK, 0); err == nil {
		var n int
		if n, err = unix.IoctlGetInt(int(m.Fd()), unix.TIOCGPTN); err == nil {
			slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		}
	}
	if err != nil {
		_ = m.Close()
		return nil, nil, err
	}
	return m, slave, nil
}
