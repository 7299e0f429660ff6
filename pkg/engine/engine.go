package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"sync"
	"time"
)

// DefaultStartTimeout bounds Open and Start unless Options or the context say otherwise.
const DefaultStartTimeout = 60 * time.Second

// Options say which engine to run. What is beyond Dir counts only for the process that starts the engine: whoever
// joins takes it as it runs.
type Options struct {
	Dir      string // data directory; made if absent
	Library  string // path of libchdb.so or of a clickhouse binary; "" looks for one, see Locate
	TCPPort  int    // native protocol; 0 lets the system choose
	HTTPPort int    // 0 lets the system choose
	// MaxMemory bounds the engine's memory in bytes; 0 is 60 % of the machine's or of the control group's.
	MaxMemory int64
	// ExtraConfig is put into ClickHouse's configuration as it is: XML elements, for instance <macros> or
	// <remote_servers>.
	ExtraConfig string
	// ExtraGrants are GRANT statements without "TO user" that OwnerUser gets on top, for instance
	// "GRANT READ, WRITE ON REMOTE" for Distributed tables.
	ExtraGrants  []string
	StartTimeout time.Duration // 0 is DefaultStartTimeout
	Logger       *slog.Logger  // nil is silent
}

// Endpoint is what a client needs to use the engine.
type Endpoint struct {
	TCPAddr            string // native protocol, "127.0.0.1:port"
	HTTPAddr           string // "127.0.0.1:port"
	User, Password     string // owner of the data
	Database           string // "": the client's choice
	Version            string // of ClickHouse, for instance "26.7.2.1"
	ReaderUser         string // may only read
	ReaderPasswordFile string // absolute path
}

// PlayURL is the address of ClickHouse's built-in page to type SQL into. It holds no password.
func (e Endpoint) PlayURL() string {
	return (&url.URL{Scheme: "http", Host: e.HTTPAddr, Path: "/play", RawQuery: url.Values{"user": {e.ReaderUser}}.Encode()}).String()
}

// Engine is a running engine that this process uses. Its methods may be called by several goroutines.
type Engine struct {
	layout layout
	state  state
	link   *link
	proc   *process // nil if somebody else started it
	done   chan struct{}
	log    *slog.Logger

	mu       sync.Mutex
	leaving  bool   // Close or Stop was called
	left     bool   // the engine runs on without this process
	stopping string // reason, once the engine said that it stops
	err      error
	endpoint Endpoint
}

// Open joins the engine that runs on the directory, or starts one. Several processes may do it at the same moment: one
// starts the engine and the others join it. Errors: ErrNotFound, ErrStart, ErrHeld when the engine that holds the
// directory cannot be reached from here, and sentences about the directory.
func Open(ctx context.Context, o Options) (*Engine, error) { return open(ctx, o, true) }

// Start starts the engine and fails with ErrHeld, a *HeldError that says who it is, when one runs already. An engine
// that is just stopping is waited for.
func Start(ctx context.Context, o Options) (*Engine, error) { return open(ctx, o, false) }

func open(ctx context.Context, o Options, join bool) (*Engine, error) {
	if o.StartTimeout == 0 {
		o.StartTimeout = DefaultStartTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := errors.Join(checkFragment(o.ExtraConfig), checkPorts(o)); err != nil {
		return nil, err
	}
	l, err := openDir(o.Dir)
	if err != nil {
		return nil, err
	}
	limit, cancel := context.WithTimeoutCause(ctx, o.StartTimeout, fmt.Errorf("not ready after %s", o.StartTimeout))
	defer cancel()
	a := attempt{layout: l, options: o, join: join, began: time.Now()}
	for {
		e, err := a.once(limit)
		switch {
		case err == nil:
			o.Logger.DebugContext(ctx, "engine ready", "dir", l.Dir, "owned", e.Owned(), "pid", e.Pid(), "version", e.Version(), "tcp", e.state.TCPAddr)
			return e, nil
		case !errors.Is(err, errAgain):
			return nil, err
		}
		timer := time.NewTimer(pollInterval)
		select {
		case <-limit.Done():
			timer.Stop()
			return nil, a.gaveUp(ctx, limit)
		case <-timer.C:
		}
	}
}

func checkPorts(o Options) error {
	for _, p := range []int{o.TCPPort, o.HTTPPort} {
		if p < 0 || p > 65535 {
			return fmt.Errorf("port %d is not between 0 and 65535", p)
		}
	}
	if o.TCPPort != 0 && o.TCPPort == o.HTTPPort {
		return fmt.Errorf("port %d cannot serve both the native protocol and HTTP", o.TCPPort)
	}
	return nil
}

// errAgain means that the situation was passing: the holder is starting, stopping, or just died.
var errAgain = errors.New("try again")

// attempt is one try to get at the engine of a directory.
type attempt struct {
	layout  layout
	options Options
	join    bool
	began   time.Time
}

// once joins or starts. The control socket is asked first, since it answers for an engine that runs; whether none
// runs is decided by the lock, in the child.
func (a attempt) once(ctx context.Context) (*Engine, error) {
	l, err := a.dial(ctx)
	if err != nil {
		return a.start(ctx)
	}
	if !a.join {
		return nil, a.who(ctx, l)
	}
	e, err := a.await(ctx, l, nil)
	if err == nil {
		err = e.reachable(ctx)
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return e, nil
}

// dial connects to the control socket that the state file names, and says what it wants.
func (a attempt) dial(ctx context.Context) (*link, error) {
	path := a.layout.Socket
	if s, err := readState(a.layout.State); err == nil && s.Socket != "" {
		path = s.Socket
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	l := newLink(conn)
	op := opJoin
	if !a.join {
		op = opWho
	}
	if err := l.send(request{Op: op}); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// who asks a running engine who it is.
func (a attempt) who(ctx context.Context, l *link) error {
	defer l.close()
	s, err := l.receive(ctx)
	if err != nil || s.Phase == phaseStopping || s.Phase == phaseFailed {
		return errAgain
	}
	return &HeldError{Dir: a.layout.Dir, Holder: s.State.Holder}
}

// start starts a child. If another child was faster, it is asked in the next round.
func (a attempt) start(ctx context.Context) (*Engine, error) {
	if ctx.Err() != nil {
		return nil, errAgain
	}
	lib, err := Locate(a.options.Library)
	if err != nil {
		return nil, err
	}
	l, p, err := spawn(a.layout, startRequest{
		Dir: a.layout.Dir, Library: lib, TCPPort: a.options.TCPPort, HTTPPort: a.options.HTTPPort, Memory: a.options.MaxMemory,
		ExtraConfig: a.options.ExtraConfig, ExtraGrants: a.options.ExtraGrants, Command: commandLine(), ClientPid: os.Getpid(),
	})
	if err != nil {
		return nil, err
	}
	e, err := a.await(ctx, l, p)
	if err != nil {
		// For the child this is a client that left. It is not killed: others may have joined it by now.
		l.close()
		p.awaitEnd(abandonTimeout)
		return nil, err
	}
	return e, nil
}

// abandonTimeout is how long an attempt that failed waits for its child. A child that takes longer ends by itself.
const abandonTimeout = 5 * time.Second

// await reads statuses until the engine is ready. p is nil for an engine that somebody else started.
func (a attempt) await(ctx context.Context, l *link, p *process) (*Engine, error) {
	for {
		s, err := l.receive(ctx)
		switch {
		case ctx.Err() != nil:
			return nil, a.interrupted(ctx, p)
		case err != nil:
			if p == nil {
				return nil, errAgain // It died, or stopped: the next round finds out.
			}
			return nil, fmt.Errorf("%w: %s%s", ErrStart, p.outcome(), a.said())
		}
		switch s.Phase {
		case phaseReady:
			return a.newEngine(s.State, l, p)
		case phaseHeld:
			return nil, a.held()
		case phaseFailed:
			if p == nil {
				return nil, errAgain // It may work for us, and if not we are told why.
			}
			return nil, fmt.Errorf("%w: %s%s", ErrStart, s.Reason, a.said())
		case phaseStopping:
			if p != nil {
				return nil, fmt.Errorf("%w: %s", ErrStopped, s.Reason)
			}
		}
	}
}

// held is what to do when the lock is taken and the socket did not answer: mostly the other one is about to listen,
// or about to end. On another machine it never answers.
func (a attempt) held() error {
	s, err := readState(a.layout.State)
	if host, hostErr := os.Hostname(); err == nil && hostErr == nil && s.Host != "" && s.Host != host {
		return &HeldError{Dir: a.layout.Dir, Holder: s.Holder}
	}
	return errAgain
}

// interrupted explains a start that was given up.
func (a attempt) interrupted(ctx context.Context, p *process) error {
	cause := context.Cause(ctx)
	if p == nil {
		return fmt.Errorf("waiting for the engine of %s: %w", a.layout.Dir, cause)
	}
	return fmt.Errorf("%w: %w%s", ErrStart, cause, a.said())
}

// gaveUp explains why nobody answered in time although the directory is locked.
func (a attempt) gaveUp(ctx, limit context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s, err := readState(a.layout.State)
	if err != nil {
		s = state{}
	}
	return fmt.Errorf("%w (%w)", &HeldError{Dir: a.layout.Dir, Holder: s.Holder}, context.Cause(limit))
}

// logLines is how many lines of the engine's log an error quotes.
const logLines = 5

// said quotes what the engine wrote last, if that was since the attempt began: an earlier engine's errors explain nothing.
func (a attempt) said() string {
	if text := lastLines(logLines, a.began, a.layout.Stderr, a.layout.ErrorLog); text != "" {
		return "; its last lines: " + text
	}
	return ""
}

func (a attempt) newEngine(s state, l *link, p *process) (*Engine, error) {
	pw, err := readPassword(a.layout.Password)
	if err != nil {
		return nil, explain(a.layout.Dir, err)
	}
	e := &Engine{
		layout: a.layout, state: s, link: l, proc: p, done: make(chan struct{}), log: a.options.Logger,
		endpoint: Endpoint{
			TCPAddr: s.TCPAddr, HTTPAddr: s.HTTPAddr, User: OwnerUser, Password: pw, Version: s.Version,
			ReaderUser: ReaderUser, ReaderPasswordFile: a.layout.ReaderPassword,
		},
	}
	go e.watch()
	return e, nil
}

// reachable makes sure that the loopback of the engine is this process's own: in containers that share a directory it
// is not.
func (e *Engine) reachable(ctx context.Context) error {
	if _, err := queryHTTP(ctx, e.state.HTTPAddr, e.endpoint.User, e.endpoint.Password, "SELECT 1"); err != nil {
		select {
		case <-e.done:
			return errAgain // It ended in between.
		default:
		}
		return fmt.Errorf("%w: it does not answer on %s, perhaps because it runs in another container: %w",
			&HeldError{Dir: e.layout.Dir, Holder: e.state.Holder}, e.state.HTTPAddr, err)
	}
	return nil
}

// Endpoint returns the addresses and the owner's credentials.
func (e *Engine) Endpoint() Endpoint { return e.endpoint }

// Owned reports whether this process started the engine.
func (e *Engine) Owned() bool { return e.proc != nil }

// Pid is the process id of the engine.
func (e *Engine) Pid() int { return e.state.Pid }

// Version is ClickHouse's, for instance "26.7.2.1".
func (e *Engine) Version() string { return e.state.Version }

// Dir is the data directory, absolute and without links.
func (e *Engine) Dir() string { return e.layout.Dir }

// Backups is the directory in which BACKUP … TO File('name') writes; links in it lead the engine to other places.
func (e *Engine) Backups() string { return e.layout.Backups }

// Library says what runs, and where it was found.
func (e *Engine) Library() Library { return e.state.Library }

// Holder says who runs it.
func (e *Engine) Holder() Holder { return e.state.Holder }

// Done is closed when the engine has ended or this process has left it.
func (e *Engine) Done() <-chan struct{} { return e.done }

// Err is nil before Done is closed and after Close and Stop; otherwise it is ErrStopped or ErrDied with the reason.
func (e *Engine) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// watch reads what the engine says until the connection ends, which is when its process ends.
func (e *Engine) watch() {
	for {
		var s status
		if err := e.link.dec.Decode(&s); err != nil {
			break
		}
		e.mu.Lock()
		switch s.Phase {
		case phaseStopping:
			e.stopping = s.Reason
		case phaseLeft:
			e.left = true
		}
		e.mu.Unlock()
	}
	e.link.close()
	e.mu.Lock()
	left := e.left
	e.mu.Unlock()
	outcome := "its control connection broke"
	if e.proc != nil && !left {
		outcome = e.proc.outcome()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case left, e.leaving && e.stopping != "":
	case e.stopping != "":
		e.err = fmt.Errorf("%w: %s", ErrStopped, e.stopping)
	default:
		e.err = fmt.Errorf("%w: %s%s", ErrDied, outcome, attempt{layout: e.layout}.said())
	}
	close(e.done)
}

// Close leaves the engine. If nobody else uses it the engine stops, and Close returns when it has. Close the
// connections to ClickHouse first, or the stop takes seconds longer. Repeated calls, and calls after the end, do
// nothing; an engine that died is reported by Err.
func (e *Engine) Close(ctx context.Context) error { return e.end(ctx, opLeave) }

// Stop stops the engine even if others use it, and returns when it has ended.
func (e *Engine) Stop(ctx context.Context) error { return e.end(ctx, opStop) }

func (e *Engine) end(ctx context.Context, op string) error {
	e.mu.Lock()
	first := !e.leaving
	e.leaving = true
	e.mu.Unlock()
	if first || op == opStop {
		if err := e.link.send(request{Op: op}); err != nil {
			e.link.close() // It is gone, or about to be; closing says the same.
		}
	}
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the engine of %s is still stopping: %w", e.layout.Dir, context.Cause(ctx))
	}
}
