// Package store is the only room that speaks to ClickHouse: it connects, migrates the schema, inserts
// events exactly once, keeps the ledger, streams footprints to detection, keeps its results and asks
// questions. The SQL itself is in the package murmuration/sql.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// The oldest ClickHouse that is known to do what the schema needs.
const (
	oldestMajor = 25
	oldestMinor = 3
)

// Store is a connection to ClickHouse. It is safe for concurrent use.
type Store struct {
	conn driver.Conn
	opt  Options
	log  *slog.Logger

	cluster *cluster // nil: one server
	suffix  string   // of the tables that hold rows, where the store is one node of a cluster
	peers   []*node  // that have the same rows by way of Keeper, where the store is such a node

	mu  sync.Mutex
	cut map[string]bool // tokens of batches that an earlier process may have sent in part
}

// noteCut remembers that a batch with this token may be in the tables in part.
func (s *Store) noteCut(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut == nil {
		s.cut = map[string]bool{}
	}
	s.cut[token] = true
}

func (s *Store) cutOff(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut[token]
}

func (s *Store) settled(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.cut, token)
}

// Open connects and asks for an answer. Errors are one of ErrUnavailable, ErrAuth, ErrTLS, ErrNoDatabase
// or ErrTooOld with a sentence that says what to do.
func Open(ctx context.Context, o Options) (*Store, error) {
	o.fill()
	if !identifier.MatchString(o.Database) {
		return nil, fmt.Errorf("%w: database name %q: two or more letters, digits and _ only", ErrDSN, o.Database)
	}
	s := &Store{opt: o, log: o.Logger}
	err := s.open(ctx, false)
	// Looked for first: an account that may use a database often may not make one.
	if errors.Is(err, ErrNoDatabase) && o.CreateDatabase {
		if err = s.Close(); err == nil {
			s.conn, s.cluster = nil, nil
			err = s.open(ctx, true)
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// open connects to the database, which it makes on the way if it is to, and asks for an answer.
func (s *Store) open(ctx context.Context, create bool) error {
	if create || s.opt.Cluster != "" {
		if err := s.prepare(ctx, create); err != nil {
			return err
		}
	}
	if err := s.connect(s.opt.Database); err != nil {
		return err
	}
	if err := s.check(ctx); err != nil {
		return err
	}
	return s.checkLayout(ctx)
}

// prepare does what comes before there is a database, over a connection to none: it finds the nodes of the cluster, and makes
// the database if it is to.
func (s *Store) prepare(ctx context.Context, create bool) error {
	if err := s.connect(""); err != nil {
		return err
	}
	defer func() {
		s.conn.Close() //nolint:errcheck,gosec // Nothing is lost with this connection.
		s.conn = nil
	}()
	if err := s.check(ctx); err != nil {
		return err
	}
	if s.opt.Cluster != "" {
		if err := s.joinCluster(ctx); err != nil {
			return err
		}
		if err := s.openNodes(""); err != nil {
			return err
		}
	}
	if create {
		if err := s.ddl(ctx, "CREATE DATABASE IF NOT EXISTS `"+s.opt.Database+"`"); err != nil {
			return fmt.Errorf("create database %s: %w", s.opt.Database, s.explain(err))
		}
	}
	if s.cluster == nil {
		return nil
	}
	if err := s.cluster.close(); err != nil {
		return fmt.Errorf("close the connections to the nodes: %w", err)
	}
	return s.openNodes(s.opt.Database)
}

// Close ends the connections.
func (s *Store) Close() error {
	var errs []error
	if s.cluster != nil {
		errs = append(errs, s.cluster.close())
	}
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close the connections to ClickHouse: %w", err)
	}
	return nil
}

// Database returns the name of the database.
func (s *Store) Database() string { return s.opt.Database }

// identifier: of two letters at least, since the views call tables by single ones, and ClickHouse takes such a name for the database where it can.
var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]+$`)

func (s *Store) connect(database string) error {
	method := map[Compression]clickhouse.CompressionMethod{
		CompressionNone: clickhouse.CompressionNone, CompressionLZ4: clickhouse.CompressionLZ4, CompressionZSTD: clickhouse.CompressionZSTD,
	}[s.opt.Compression]
	var settings clickhouse.Settings
	if s.opt.Cluster != "" {
		settings = clusterSettings()
	}
	conn, err := clickhouse.Open(&clickhouse.Options{
		Settings:         settings,
		Addr:             s.opt.Addr,
		Auth:             clickhouse.Auth{Database: database, Username: s.opt.User, Password: s.opt.Password},
		DialContext:      s.dial,
		DialTimeout:      s.opt.DialTimeout,
		ReadTimeout:      longestSilence,
		Compression:      &clickhouse.Compression{Method: method},
		ConnOpenStrategy: clickhouse.ConnOpenInOrder,
		ClientInfo:       clickhouse.ClientInfo{Products: []struct{ Name, Version string }{{Name: "murmuration"}}},
	})
	if err != nil {
		return s.explain(err)
	}
	s.conn = conn
	return nil
}

// check refuses a server that does not answer or is too old.
func (s *Store) check(ctx context.Context) error {
	var version string
	err := s.conn.QueryRow(ctx, "SELECT version()").Scan(&version)
	if err == nil {
		err = checkVersion(version)
	}
	if err != nil {
		return s.explain(err)
	}
	return nil
}

func checkVersion(version string) error {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) >= 2 {
		major, errMajor := strconv.Atoi(parts[0])
		minor, errMinor := strconv.Atoi(parts[1])
		if errMajor == nil && errMinor == nil {
			if major > oldestMajor || major == oldestMajor && minor >= oldestMinor {
				return nil
			}
			return fmt.Errorf("%w: this is ClickHouse %s, version %d.%d or later is needed", ErrTooOld, version, oldestMajor, oldestMinor)
		}
	}
	return fmt.Errorf("%w: its version %q cannot be understood, ClickHouse %d.%d or later is needed", ErrTooOld, version, oldestMajor, oldestMinor)
}

// ddl runs a statement that changes the schema, or rows in place. Every such statement passes here: on a cluster it becomes
// those that do the same to all nodes.
func (s *Store) ddl(ctx context.Context, statement string, args ...any) error {
	ctx, cancel := inSilence(clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{partitionsSetting: maxPartitions})))
	defer cancel()
	if s.cluster != nil {
		return s.cluster.ddl(ctx, s, statement, args...)
	}
	return s.conn.Exec(ctx, statement, args...) //nolint:wrapcheck // Callers say which statement it was.
}

// ServerDatabase says whether a name is that of a database which every server has.
func ServerDatabase(name string) bool {
	return slices.Contains([]string{"system", "information_schema", "default", "_temporary_and_external_tables"}, strings.ToLower(name))
}

// Databases returns the names of the databases that are not the server's own, sorted.
func (s *Store) Databases(ctx context.Context) ([]string, error) {
	var names []string
	err := s.retry(ctx, "list databases", func() error {
		return s.conn.QueryRow(ctx, "SELECT arraySort(groupArray(name)) FROM system.databases").Scan(&names)
	})
	return slices.DeleteFunc(names, ServerDatabase), err
}
