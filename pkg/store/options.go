package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The defaults of Options.
const (
	DefaultDatabase    = "scan"
	DefaultDialTimeout = 10 * time.Second
	DefaultRetryFor    = 2 * time.Minute

	plainPort  = "9000"
	securePort = "9440"
)

// Compression of the native protocol between client and server.
type Compression string

// The compressions. On loopback none is fastest; over a network lz4 pays.
const (
	CompressionNone Compression = "none"
	CompressionLZ4  Compression = "lz4"
	CompressionZSTD Compression = "zstd"
)

// Options say where ClickHouse is and how to speak to it.
type Options struct {
	Addr           []string // host:port of the native protocol; the first that answers is used
	HTTPAddr       string   // host:port of the HTTP interface, for exports; "" is the first host with port 8123 (8443 with TLS)
	User           string   // "" is ClickHouse's user default
	Password       string
	Database       string        // "" is DefaultDatabase
	CreateDatabase bool          // make the database where it is missing
	Cluster        string        // name in the server's remote_servers; "" is one server
	Secure         bool          // TLS with the system's authorities; TLS overrides it
	TLS            *tls.Config   // nil without Secure: no TLS
	Compression    Compression   // "" is none on loopback, else lz4
	DialTimeout    time.Duration // 0 is DefaultDialTimeout
	// RetryFor is how long a write is tried again while the server cannot be reached; 0 is DefaultRetryFor.
	RetryFor time.Duration
	// DialContext replaces net.Dialer, for a server whose address changes when it restarts.
	DialContext func(ctx context.Context, addr string) (net.Conn, error)
	Logger      *slog.Logger // nil is slog.Default

	// Progress, if set, is told how many rows of how many the server has read to fill a rollup: in Migrate and Repair. On a cluster, where every
	// node fills its own, it is not. It may be called until the call that it is about has returned.
	Progress func(stage string, done, total uint64)
}

// ErrDSN is returned for an address of a server that cannot be understood.
var ErrDSN = errors.New("bad address of ClickHouse")

// ParseDSN reads clickhouse://user:password@host:port,host2:port2/database?secure=true. Only the host
// is needed: port 9000 (9440 with TLS), database "scan". The scheme clickhouses:// means TLS too. Parameters: secure,
// skip_verify, server_name, compress (none, lz4, zstd), http (host:port of the HTTP interface), dial_timeout and retry_for (as "10s"). Errors
// wrap ErrDSN and never hold the password.
func ParseDSN(dsn string) (Options, error) {
	// The host list is taken out first: net/url refuses a comma behind a port.
	scheme, rest, ok := strings.Cut(dsn, "://")
	if !ok || (scheme != "clickhouse" && scheme != "clickhouses") {
		return Options{}, fmt.Errorf("%w: it should look like clickhouse://user:password@host:9000/scan", ErrDSN)
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	userinfo, hosts := "", authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		userinfo, hosts = authority[:i], authority[i+1:]
	}
	o := Options{Secure: scheme == "clickhouses"}
	if err := o.user(userinfo); err != nil {
		return Options{}, err
	}
	u, err := url.Parse("clickhouse://host" + tail)
	if err != nil {
		return Options{}, fmt.Errorf("%w: database or parameters behind the host cannot be read", ErrDSN)
	}
	if o.Database = strings.Trim(u.Path, "/"); o.Database == "" {
		o.Database = DefaultDatabase
	}
	if err := o.parameters(u.Query()); err != nil {
		return Options{}, err
	}
	return o, o.hosts(hosts)
}

func (o *Options) user(userinfo string) error {
	name, password, _ := strings.Cut(userinfo, ":")
	for _, f := range []struct {
		to   *string
		from string
		what string
	}{{&o.User, name, "user"}, {&o.Password, password, "password"}} {
		v, err := url.PathUnescape(f.from)
		if err != nil {
			return fmt.Errorf("%w: %% in the %s must be written %%25", ErrDSN, f.what)
		}
		*f.to = v
	}
	return nil
}

func (o *Options) hosts(list string) error {
	port := plainPort
	if o.TLS != nil || o.Secure {
		port = securePort
	}
	for _, h := range strings.Split(list, ",") {
		if h == "" {
			return fmt.Errorf("%w: a host is missing", ErrDSN)
		}
		host, p, err := net.SplitHostPort(h)
		if err != nil {
			host, p = strings.Trim(h, "[]"), port
			if strings.Contains(host, ":") && !strings.HasPrefix(h, "[") {
				return fmt.Errorf("%w: %q is neither host:port nor [IPv6 address]:port", ErrDSN, h)
			}
		}
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 || host == "" {
			return fmt.Errorf("%w: %q is not host:port", ErrDSN, h)
		}
		o.Addr = append(o.Addr, net.JoinHostPort(host, p))
	}
	return nil
}

func (o *Options) parameters(values url.Values) error {
	var verify = true
	var serverName string
	for name, v := range values {
		var err error
		switch value := v[len(v)-1]; name {
		case "secure":
			o.Secure, err = strconv.ParseBool(value)
		case "skip_verify":
			var skip bool
			skip, err = strconv.ParseBool(value)
			verify = !skip
		case "server_name":
			serverName = value
		case "http":
			o.HTTPAddr = value
			_, _, err = net.SplitHostPort(value)
		case "dial_timeout":
			o.DialTimeout, err = time.ParseDuration(value)
		case "retry_for":
			o.RetryFor, err = time.ParseDuration(value)
		case "compress":
			switch o.Compression = Compression(value); o.Compression {
			case CompressionNone, CompressionLZ4, CompressionZSTD:
			default:
				err = errors.New("none, lz4 or zstd are known")
			}
		default:
			return fmt.Errorf("%w: unknown parameter %q (known: secure, skip_verify, server_name, compress, http, dial_timeout, retry_for)", ErrDSN, name)
		}
		if err != nil {
			return fmt.Errorf("%w: parameter %s=%s: %w", ErrDSN, name, v[len(v)-1], err)
		}
	}
	if !verify || serverName != "" {
		if !o.Secure {
			return fmt.Errorf("%w: skip_verify and server_name need secure=true", ErrDSN)
		}
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: !verify, ServerName: serverName} //nolint:gosec // The user asked for it by skip_verify.
	}
	return nil
}

func (o *Options) fill() {
	if len(o.Addr) == 0 {
		o.Addr = []string{net.JoinHostPort("127.0.0.1", plainPort)}
	}
	if o.Database == "" {
		o.Database = DefaultDatabase
	}
	if o.TLS == nil && o.Secure {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = DefaultDialTimeout
	}
	if o.RetryFor <= 0 {
		o.RetryFor = DefaultRetryFor
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Compression == "" {
		o.Compression = CompressionLZ4
		if allLoopback(o.Addr) {
			o.Compression = CompressionNone
		}
	}
}

func allLoopback(addrs []string) bool {
	for _, a := range addrs {
		host, _, _ := net.SplitHostPort(a)
		ip := net.ParseIP(host)
		if host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}
