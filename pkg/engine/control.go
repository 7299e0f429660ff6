package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// What a client says over the control connection: one JSON object a line.
const (
	opStart = "start" // first line of the process that started the child; counts as a join
	opJoin  = "join"  // first line of a process that wants to use the engine
	opWho   = "who"   // first line of a process that only asks who runs it
	opLeave = "leave" // done; closing the connection, or dying, says the same
	opStop  = "stop"  // stop the engine, whoever else uses it
)

type request struct {
	Op    string        `json:"op"`
	Start *startRequest `json:"start,omitempty"`
}

// startRequest is what the child is to run. It holds no password: the child makes them.
type startRequest struct {
	Dir         string   `json:"dir"`
	Library     Library  `json:"library"`
	TCPPort     int      `json:"tcp_port"`
	HTTPPort    int      `json:"http_port"`
	Memory      int64    `json:"memory"`
	ExtraConfig string   `json:"extra_config"`
	ExtraGrants []string `json:"extra_grants"`
	Command     string   `json:"command"`
	ClientPid   int      `json:"client_pid"`
}

// phase is what the engine says it is in.
type phase string

const (
	phaseStarting phase = "starting"
	phaseReady    phase = "ready"
	phaseStopping phase = "stopping" // in good order; the end of the connection is the end of the process
	phaseFailed   phase = "failed"   // did not start, or ended by itself
	phaseHeld     phase = "held"     // another child has the lock; the process ends
	phaseLeft     phase = "left"     // answer to leave: others stay, the engine runs on
)

// status is what the engine says over the control connection, whenever it changes.
type status struct {
	Phase  phase  `json:"phase"`
	Reason string `json:"reason,omitempty"`
	State  state  `json:"state"`
}

// state is the content of the state file, and part of every status.
type state struct {
	Holder
	Phase    phase   `json:"phase"`
	Socket   string  `json:"socket"` // of the control connection
	TCPAddr  string  `json:"tcp_addr,omitempty"`
	HTTPAddr string  `json:"http_addr,omitempty"`
	Version  string  `json:"version,omitempty"` // of ClickHouse
	Library  Library `json:"library"`
}

func (s state) write(path string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(b, '\n'))
}

func readState(path string) (state, error) {
	var s state
	b, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// maxCommand bounds the command line kept in the state file, in bytes.
const maxCommand = 300

func commandLine() string {
	args := append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)
	return strings.ToValidUTF8(truncate(strings.Join(args, " "), maxCommand), "?")
}

func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}

// maxSocketPath is how long the path of a unix socket may be (sun_path without its terminating zero).
const maxSocketPath = 107

// socketDirPrefix begins the name of the private directory that holds the socket when the data directory's path is
// too long for one.
const socketDirPrefix = "murmuration-"

// listenControl opens the control socket: in the data directory, or in a private directory with a short path.
func listenControl(l layout) (net.Listener, string, error) {
	// Whoever holds the lock owns the name, so what is there was left behind.
	if err := os.Remove(l.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, "", err
	}
	path := l.Socket
	if len(path) > maxSocketPath {
		parent := os.Getenv("XDG_RUNTIME_DIR")
		if !filepath.IsAbs(parent) {
			parent = ""
		}
		dir, err := os.MkdirTemp(parent, socketDirPrefix) // mode 0700
		if err != nil && parent != "" {
			dir, err = os.MkdirTemp("", socketDirPrefix)
		}
		if err != nil {
			return nil, "", err
		}
		path = filepath.Join(dir, filepath.Base(l.Socket))
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		removeSocket(l, path)
		return nil, "", fmt.Errorf("control socket: %w", err)
	}
	return ln, path, nil
}

// removeSocket removes a control socket, and the private directory around it if there is one.
func removeSocket(l layout, path string) {
	if path == "" {
		return
	}
	if path == l.Socket {
		_ = os.Remove(path) // Its listener has mostly done it already.
		return
	}
	dir := filepath.Dir(path)
	if filepath.Base(path) == filepath.Base(l.Socket) && strings.HasPrefix(filepath.Base(dir), socketDirPrefix) {
		_ = os.Remove(path)
		_ = os.Remove(dir) // Only if it is empty, so never somebody else's.
	}
}

// link is one end of a control connection.
type link struct {
	conn net.Conn
	dec  *json.Decoder
	mu   sync.Mutex // around writes
}

func newLink(conn net.Conn) *link { return &link{conn: conn, dec: json.NewDecoder(conn)} }

// sendTimeout bounds a write: the messages are small, so only a peer that is stopped or stuck fills the buffer.
const sendTimeout = 5 * time.Second

func (l *link) send(v any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	return json.NewEncoder(l.conn).Encode(v)
}

func (l *link) close() { _ = l.conn.Close() }

// receive reads the next status, and gives up when the context does.
func (l *link) receive(ctx context.Context) (status, error) {
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetReadDeadline(time.Unix(1, 0)) })
	var s status
	err := l.dec.Decode(&s)
	if !stop() && ctx.Err() != nil {
		return s, ctx.Err()
	}
	return s, err
}
