package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// childEnv marks the process that is to become the engine. It is unset at once, so that nothing inherits it.
const childEnv = "MURMURATION_ENGINE_CHILD"

// controlFD is the descriptor of the control connection that the child inherits.
const controlFD = 3

// stopTimeout is how long the engine may take to stop before it is killed. ClickHouse loses nothing acknowledged by it.
const stopTimeout = 60 * time.Second

// MaybeChild must be the first call of main and of TestMain. In the process that Start made it runs the engine and
// exits; everywhere else it returns at once.
func MaybeChild() {
	if os.Getenv(childEnv) == "" {
		return
	}
	_ = os.Unsetenv(childEnv)
	if err := runChild(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runner is an engine that the child can run.
type runner interface {
	// run runs the engine until stop is closed, and returns when it has ended. It calls up once, with the ports, as
	// soon as the engine listens; up waits until it answers.
	run(stop <-chan struct{}, up func(tcpPort, httpPort int) error) error
}

// supervisor is the child's main part: it holds the lock, counts the clients, and decides when to stop.
type supervisor struct {
	layout layout
	req    startRequest
	lock   *flock.Flock

	mu      sync.Mutex
	clients map[*link]struct{}
	state   state
	ln      net.Listener
	reason  string        // why it stops
	stop    chan struct{} // closed when it shall stop
}

func runChild() error {
	starter, req, err := takeRequest()
	if err != nil {
		return err
	}
	unix.Umask(0o077)
	_ = os.WriteFile("/proc/self/comm", []byte("murmuration-eng"), 0) // For top and ps; 15 characters are what the kernel keeps.
	s := &supervisor{layout: newLayout(req.Dir), req: req, clients: map[*link]struct{}{starter: {}}, stop: make(chan struct{})}
	s.lock = flock.New(s.layout.Lock, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	switch held, err := s.lock.TryLock(); {
	case err != nil:
		return s.fail(explain(req.Dir, err))
	case !held:
		return starter.send(status{Phase: phaseHeld})
	}
	if err := s.prepare(); err != nil {
		return s.fail(explain(req.Dir, err))
	}
	go s.serve(starter)
	go s.accept()
	go s.watchSignals()
	r, err := newRunner(s.layout, req)
	if err != nil {
		return s.fail(err)
	}
	return s.finish(r.run(s.stop, s.up))
}

// takeRequest reads the first line of the inherited control connection.
func takeRequest() (*link, startRequest, error) {
	f := os.NewFile(controlFD, "control")
	if f == nil {
		return nil, startRequest{}, errors.New("the engine's child was not started by the loader")
	}
	conn, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		return nil, startRequest{}, fmt.Errorf("control connection: %w", err)
	}
	l := newLink(conn)
	var r request
	if err := l.dec.Decode(&r); err != nil {
		return nil, startRequest{}, fmt.Errorf("control connection: %w", err)
	}
	if r.Op != opStart || r.Start == nil {
		return nil, startRequest{}, fmt.Errorf("control connection: unexpected %q", r.Op)
	}
	return l, *r.Start, nil
}

// prepare makes the directory ready: what a crash left is cleared, the state is written, the socket listens.
func (s *supervisor) prepare() error {
	if old, err := readState(s.layout.State); err == nil {
		removeSocket(s.layout, old.Socket)
	}
	if err := s.layout.makeDirs(); err != nil {
		return err
	}
	stderr, err := os.OpenFile(s.layout.Stderr, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer stderr.Close()
	if err := unix.Dup3(int(stderr.Fd()), 2, 0); err != nil {
		return fmt.Errorf("standard error: %w", err)
	}
	ln, path, err := listenControl(s.layout)
	if err != nil {
		return err
	}
	s.ln = ln
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	s.state = state{
		Holder: Holder{Pid: os.Getpid(), Host: host, Command: s.req.Command, ClientPid: s.req.ClientPid, Started: time.Now().UTC()},
		Phase:  phaseStarting, Socket: path, Library: s.req.Library,
	}
	return s.state.write(s.layout.State)
}

// up is called when the engine listens: it waits until the engine answers, and tells the clients.
func (s *supervisor) up(tcpPort, httpPort int) error {
	pw, err := readPassword(s.layout.Password)
	if err != nil {
		return explain(s.layout.Dir, err)
	}
	tcp, http := loopback(tcpPort), loopback(httpPort)
	version, err := awaitVersion(s.stop, http, OwnerUser, pw)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Phase != phaseStarting {
		return nil // Already stopping.
	}
	s.state.Phase, s.state.TCPAddr, s.state.HTTPAddr, s.state.Version = phaseReady, tcp, http, version
	if err := s.state.write(s.layout.State); err != nil {
		return explain(s.layout.Dir, err)
	}
	s.broadcast()
	return nil
}

// broadcast tells every client the present phase. The caller holds the mutex.
func (s *supervisor) broadcast() {
	for c := range s.clients {
		if err := c.send(status{Phase: s.state.Phase, Reason: s.reason, State: s.state}); err != nil {
			c.close() // Its reader sees the end and lets it leave.
		}
	}
}

func (s *supervisor) accept() {
	for {
		conn, err := s.ln.Accept()
		if err != nil {
			return // Closed by beginStop.
		}
		go s.greet(newLink(conn))
	}
}

// greet reads the first line of a connection.
func (s *supervisor) greet(l *link) {
	var r request
	if err := l.dec.Decode(&r); err != nil {
		l.close()
		return
	}
	s.mu.Lock()
	err := l.send(status{Phase: s.state.Phase, Reason: s.reason, State: s.state})
	joined := err == nil && r.Op == opJoin && s.state.Phase != phaseStopping
	if joined {
		s.clients[l] = struct{}{}
	}
	s.mu.Unlock()
	if joined {
		s.serve(l)
		return
	}
	if r.Op == opJoin && err == nil {
		_ = l.dec.Decode(&r) // Too late: it waits for the end of this process, or gives up.
	}
	l.close()
}

// serve reads what a client says until it leaves.
func (s *supervisor) serve(l *link) {
	for {
		var r request
		if err := l.dec.Decode(&r); err != nil {
			s.leave(l)
			l.close()
			return
		}
		switch r.Op {
		case opLeave:
			if s.leave(l) {
				// The engine ends with this client, which waits for the end of the connection.
				continue
			}
			_ = l.send(status{Phase: phaseLeft})
			l.close()
			return
		case opStop:
			s.beginStop("a client asked for it")
		}
	}
}

// leave takes a client off the list, and stops the engine if it was the last. It reports whether the engine stops.
func (s *supervisor) leave(l *link) bool {
	s.mu.Lock()
	if s.state.Phase != phaseStopping {
		delete(s.clients, l)
	}
	last := len(s.clients) == 0
	if last {
		s.clients[l] = struct{}{} // It shall hear that the engine stops.
	}
	stopping := last || s.state.Phase == phaseStopping
	s.mu.Unlock()
	if last {
		s.beginStop("no client is left")
	}
	return stopping
}

// beginStop asks the runner to end. Only the first call counts.
func (s *supervisor) beginStop(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Phase == phaseStopping {
		return
	}
	ready := s.state.Phase == phaseReady
	s.state.Phase, s.reason = phaseStopping, reason
	_ = s.state.write(s.layout.State) // Only helps others to say what happens; the lock decides.
	_ = s.ln.Close()
	s.broadcast()
	go func() {
		if ready {
			s.quiesce()
		}
		close(s.stop)
	}()
	time.AfterFunc(stopTimeout, func() { _ = unix.Kill(os.Getpid(), unix.SIGKILL) })
}

// quiesceTimeout is how long a stop waits for the queries that run before it cancels them.
const quiesceTimeout = 2 * time.Second

// quiesce lets running queries finish, inserts above all, and cancels those that take longer. ClickHouse itself waits
// for connections, and breaks off instead of ending in good order when one still runs a query.
func (s *supervisor) quiesce() {
	pw, err := readPassword(s.layout.Password)
	if err != nil {
		return // Then it ends as ClickHouse ends it.
	}
	ctx, cancel := context.WithTimeout(context.Background(), quiesceTimeout)
	defer cancel()
	const others = "FROM system.processes WHERE query_id != queryID()"
	tick := time.NewTicker(5 * pollInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		n, err := queryHTTP(ctx, s.state.HTTPAddr, OwnerUser, pw, "SELECT count() "+others)
		if err == nil && n == "0" {
			return
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	_, _ = queryHTTP(context.Background(), s.state.HTTPAddr, OwnerUser, pw, "KILL QUERY WHERE query_id IN (SELECT query_id "+others+") ASYNC")
}

func (s *supervisor) watchSignals() {
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	c := make(chan os.Signal, 4)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT)
	for sig := range c {
		s.beginStop("it received the signal " + unix.SignalName(sig.(syscall.Signal)))
	}
}

// finish ends the child after its engine ended.
func (s *supervisor) finish(err error) error {
	s.mu.Lock()
	stopping := s.state.Phase == phaseStopping
	s.mu.Unlock()
	if stopping {
		s.clean()
		// The engine has let go of the data. By hand, because of what the kernel closes at the end of a process the
		// connections may come first, and a client that was told of the end shall find the directory free.
		return s.lock.Close()
	}
	if err == nil {
		err = errors.New("it ended by itself")
	}
	return s.fail(err)
}

// fail tells the clients why there is no engine. It leaves the lock to the end of the process: what failed may still
// have threads that work on the data.
func (s *supervisor) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Phase, s.reason = phaseFailed, err.Error()
	s.broadcast()
	if s.ln != nil {
		s.clean()
	}
	return err
}

// clean removes what only a running engine has. The lock is still held.
func (s *supervisor) clean() {
	_ = s.ln.Close()
	removeSocket(s.layout, s.state.Socket)
	_ = os.Remove(s.layout.State)
}
