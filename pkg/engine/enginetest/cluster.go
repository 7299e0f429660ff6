package enginetest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"murmuration/pkg/engine"
)

// Cluster is several engines that know each other as the shards and replicas of one cluster, as remote_servers of a real one
// does. They share the owner's password and a place for backups, and keep their ports when they are killed and started again.
type Cluster struct {
	Name           string
	User, Password string
	Nodes          []*Node // shard by shard
	Backups        string  // the directory in which BACKUP … TO File('name') of any node writes
}

// Node is one engine of a cluster.
type Node struct {
	Shard, Replica int    // from 1
	Addr           string // native protocol
	HTTPAddr       string

	options engine.Options
	engine  *engine.Engine
}

// StartCluster starts shards x replicas engines, which stop at the end of the test. TestMain must be Main's.
func StartCluster(t testing.TB, name string, shards, replicas int) *Cluster {
	t.Helper()
	Need(t)
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // Never fails: crypto/rand ends the program instead.
	c := &Cluster{Name: name, User: engine.OwnerUser, Password: hex.EncodeToString(secret), Backups: t.TempDir()}
	ports := freePorts(t, 2*shards*replicas)
	for i := range shards * replicas {
		n := &Node{Shard: i/replicas + 1, Replica: i%replicas + 1, Addr: loopback(ports[2*i]), HTTPAddr: loopback(ports[2*i+1])}
		n.options = engine.Options{
			Dir: t.TempDir(), TCPPort: ports[2*i], HTTPPort: ports[2*i+1], MaxMemory: 2 << 30,
			ExtraGrants: []string{"GRANT READ, WRITE ON REMOTE", "GRANT CLUSTER ON *.*"},
		}
		c.Nodes = append(c.Nodes, n)
	}
	servers := c.remoteServers()
	for _, n := range c.Nodes {
		n.options.ExtraConfig = servers + fmt.Sprintf("<macros><shard>%d</shard><replica>%d</replica></macros>", n.Shard, n.Replica)
		givePassword(t, n.options.Dir, c.Password)
		if err := os.Symlink(c.Backups, filepath.Join(n.options.Dir, "backups")); err != nil {
			t.Fatalf("enginetest: %v", err)
		}
	}
	t.Cleanup(func() { c.stop(t) })
	for _, n := range c.Nodes {
		n.Start(t)
	}
	return c
}

// remoteServers is the piece of configuration that names every node. Plain tables are not replicated by themselves, hence
// internal_replication is false; the secret lets a query go on under the user that asked it.
func (c *Cluster) remoteServers() string {
	var b strings.Builder
	fmt.Fprintf(&b, "<remote_servers><%s><secret>%s</secret>", c.Name, c.Password)
	shard := 0
	for _, n := range c.Nodes {
		if n.Shard != shard {
			if shard > 0 {
				b.WriteString("</shard>")
			}
			b.WriteString("<shard><internal_replication>false</internal_replication>")
			shard = n.Shard
		}
		host, port, _ := net.SplitHostPort(n.Addr)
		fmt.Fprintf(&b, "<replica><host>%s</host><port>%s</port></replica>", host, port)
	}
	fmt.Fprintf(&b, "</shard></%s></remote_servers>", c.Name)
	return b.String()
}

// Addrs are the native addresses of all nodes.
func (c *Cluster) Addrs() []string {
	out := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		out[i] = n.Addr
	}
	return out
}

// Start starts the node, again if it was killed.
func (n *Node) Start(t testing.TB) {
	t.Helper()
	e, err := engine.Start(context.Background(), n.options)
	if err != nil {
		t.Fatalf("enginetest: shard %d, replica %d: %v", n.Shard, n.Replica, err)
	}
	n.engine = e
}

// Kill ends the node without warning, as a loss of power does, and returns when it is gone.
func (n *Node) Kill(t testing.TB) {
	t.Helper()
	if err := syscall.Kill(n.engine.Pid(), syscall.SIGKILL); err != nil {
		t.Fatalf("enginetest: kill: %v", err)
	}
	<-n.engine.Done()
}

func (c *Cluster) stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var all sync.WaitGroup
	for _, n := range c.Nodes {
		if n.engine == nil {
			continue
		}
		all.Go(func() {
			select {
			case <-n.engine.Done(): // Killed by the test.
			default:
				if err := n.engine.Stop(ctx); err != nil {
					t.Errorf("enginetest: stop: %v", err)
				}
			}
		})
	}
	all.Wait()
}

// givePassword makes a directory an engine's, with a password that is there before the engine: engines make their own, which
// nodes that one user is to log in to cannot.
func givePassword(t testing.TB, dir, password string) {
	t.Helper()
	for name, text := range map[string]string{"engine.lock": "", "password": password + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatalf("enginetest: %v", err)
		}
	}
}

// freePorts returns ports of loopback that nobody listens on. All are held until all are found, so that none comes twice. They lie below those that the system
// gives to whoever connects: an engine that is killed must find its port free when it comes back.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	const first, last = 10000, 32767
	var ports []int
	for tries := 0; len(ports) < n; tries++ {
		l, err := net.Listen("tcp", loopback(first+mathrand.IntN(last-first+1))) //nolint:noctx,gosec // It listens at once; any port will do.
		if err != nil {
			if tries < 1000 {
				continue
			}
			t.Fatalf("enginetest: %v", err)
		}
		defer l.Close() //nolint:errcheck // Nothing was sent.
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
