package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"murmuration/pkg/event"
	"murmuration/pkg/netinfo"
)

// ContextFile is a file that the context is made of.
type ContextFile struct {
	Name     string // without its directory; there is one of each name
	Kinds    string // what it tells: "asn", "asn country", "country" or "benign"
	Format   string
	Networks uint64
	Sum      [32]byte // SHA-256 of the file
	Loaded   time.Time

	load string // its rows in context_networks_state; "" is not stored yet
}

// ContextFiles returns the files in force, by name.
func (s *Store) ContextFiles(ctx context.Context) ([]ContextFile, error) {
	var files []ContextFile
	err := s.retry(ctx, "read context files", func() error {
		files = nil
		rows, err := s.conn.Query(ctx, "SELECT name, kinds, format, networks, sum, loaded, load FROM context_files ORDER BY name")
		if err != nil {
			return err //nolint:wrapcheck // retry wraps it.
		}
		defer rows.Close() //nolint:errcheck // rows.Err tells.
		for rows.Next() {
			var f ContextFile
			var sum string
			if err := rows.Scan(&f.Name, &f.Kinds, &f.Format, &f.Networks, &sum, &f.Loaded, &f.load); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			if b, err := hex.DecodeString(sum); err != nil || copy(f.Sum[:], b) != len(f.Sum) {
				return fmt.Errorf("table context_versions: %q is not a SHA-256", sum)
			}
			files = append(files, f)
		}
		return rows.Err() //nolint:wrapcheck // retry wraps it.
	})
	return files, err
}

// ContextChange is a context that is to come into force.
type ContextChange struct {
	Files []ContextFile // all that it is made of, in the order in which they count: of equal networks the later file's does
	// Networks holds those of the files that are new, by name; the others are stored already.
	Networks map[string][]netinfo.Network
	Ranges   []netinfo.Range // made of all files
	// Progress, if set, is told how many rows of how many are written.
	Progress func(done, total uint64)
}

// ChangeContext replaces the context: change gets the files in force and returns what is to be, or nil to leave all as it is. Nobody else
// changes it meanwhile. The new context comes into force at once, by one row written last; after an error the former one
// still is.
func (s *Store) ChangeContext(ctx context.Context, change func(context.Context, []ContextFile) (*ContextChange, error)) (err error) {
	ctx, l, err := s.lockSchema(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if releaseErr := l.release(ctx); err == nil {
			err = releaseErr
		}
	}()
	now, err := s.ContextFiles(ctx)
	if err != nil {
		return err
	}
	c, err := change(ctx, now)
	if err != nil || c == nil {
		return err
	}
	version, err := s.nextContextVersion(ctx)
	if err != nil {
		return err
	}
	if err := s.writeContext(ctx, c, version); err != nil {
		return err
	}
	if err := s.forgetContexts(ctx, version); err != nil {
		// The change is in force; what is left lying is removed by the next one.
		s.log.Warn("rows of former contexts could not be removed", "error", err)
	}
	return nil
}

// nextContextVersion is above every version there is, also above those that broke off.
func (s *Store) nextContextVersion(ctx context.Context) (uint64, error) {
	var version uint64
	err := s.retry(ctx, "read the version of the context", func() error {
		return s.conn.QueryRow(ctx, "SELECT greatest((SELECT max(version) FROM context_versions), (SELECT max(version) FROM context_ranges_state)) + 1").Scan(&version)
	})
	return version, err
}

// contextPiece is how many rows go into one insert.
const contextPiece = 100_000

// writeContext writes networks, ranges and then the version.
func (s *Store) writeContext(ctx context.Context, c *ContextChange, version uint64) error {
	total, written := len(c.Ranges), 0
	for _, n := range c.Networks {
		total += len(n)
	}
	report := func(n int) {
		written += n
		if c.Progress != nil {
			c.Progress(uint64(written), uint64(total)) //nolint:gosec // Counted by memory.
		}
	}
	for i := range c.Files {
		f := &c.Files[i]
		if f.load != "" {
			continue
		}
		f.load = rand.Text()
		if err := s.putNetworks(ctx, f.load, c.Networks[f.Name], report); err != nil {
			return err
		}
	}
	if err := s.putRanges(ctx, version, c.Ranges, report); err != nil {
		return err
	}
	return s.putContextVersion(ctx, c, version)
}

// putColumns inserts columns of n rows, in pieces that are there once however often they are sent.
func (s *Store) putColumns(ctx context.Context, statement, token string, n int, columns func(from, to int) []any, report func(int)) error {
	for from := 0; from < n; from += contextPiece {
		to := min(n, from+contextPiece)
		settings := clickhouse.Context(ctx, clickhouse.WithSettings(insertSettings(fmt.Sprintf("%s %d", token, from))))
		err := s.retry(ctx, "write context", func() error {
			return s.insertBatch(settings, statement, func(batch driver.Batch) error {
				for i, column := range columns(from, to) {
					if err := batch.Column(i).Append(column); err != nil {
						return fmt.Errorf("column %d: %w", i, err)
					}
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
		report(to - from)
	}
	return nil
}

func (s *Store) putNetworks(ctx context.Context, load string, networks []netinfo.Network, report func(int)) error {
	const statement = "INSERT INTO context_networks_state (load, line, first, last, asn, as_name, country, benign)"
	return s.putColumns(ctx, statement, load, len(networks), func(from, to int) []any {
		lines := make([]uint32, to-from)
		first, last := make([]event.IP, to-from), make([]event.IP, to-from)
		var facts factColumns
		for i := range lines {
			n := &networks[from+i]
			lines[i] = uint32(from + i) //nolint:gosec // A file has fewer than 2^32 lines.
			first[i], last[i] = n.First, n.Last
			facts.add(&n.Fact)
		}
		return append([]any{slices.Repeat([]string{load}, to-from), lines, first, last}, facts.columns()...)
	}, report)
}

func (s *Store) putRanges(ctx context.Context, version uint64, ranges []netinfo.Range, report func(int)) error {
	const statement = "INSERT INTO context_ranges_state (version, block, first, asn, as_name, country, benign)"
	// A version that broke off has its number once: the next one is higher, so the token stands for the rows.
	return s.putColumns(ctx, statement, fmt.Sprintf("ranges %d", version), len(ranges), func(from, to int) []any {
		first, blocks := make([]event.IP, to-from), make([]uint32, to-from)
		var facts factColumns
		for i := range first {
			first[i], blocks[i] = ranges[from+i].First, netinfo.Block(ranges[from+i].First)
			facts.add(&ranges[from+i].Fact)
		}
		return append([]any{slices.Repeat([]uint64{version}, to-from), blocks, first}, facts.columns()...)
	}, report)
}

// factColumns are facts by columns.
type factColumns struct {
	asn                   []uint32
	name, country, benign []string
}

func (c *factColumns) add(f *netinfo.Fact) {
	c.asn, c.name = append(c.asn, f.ASN), append(c.name, f.ASName)
	c.country, c.benign = append(c.country, f.Country), append(c.benign, f.Benign)
}

func (c *factColumns) columns() []any { return []any{c.asn, c.name, c.country, c.benign} }

// putContextVersion makes sure that all rows are in, and brings them into force.
func (s *Store) putContextVersion(ctx context.Context, c *ContextChange, version uint64) error {
	var names, kinds, formats, sums, loads []string
	var networks []uint64
	var loaded []time.Time
	for i := range c.Files {
		f := &c.Files[i]
		names, kinds, formats = append(names, f.Name), append(kinds, f.Kinds), append(formats, f.Format)
		networks, loaded = append(networks, f.Networks), append(loaded, f.Loaded)
		sums, loads = append(sums, hex.EncodeToString(f.Sum[:])), append(loads, f.load)
		if err := s.expectRows(ctx, "SELECT count() FROM context_networks_state WHERE load = {of:String}", f.load, f.Networks); err != nil {
			return err
		}
	}
	if err := s.expectRows(ctx, "SELECT count() FROM context_ranges_state WHERE version = {of:UInt64}", fmt.Sprint(version), uint64(len(c.Ranges))); err != nil {
		return err
	}
	return s.retry(ctx, "bring the context into force", func() error {
		return s.insertRow(ctx, "INSERT INTO context_versions (version, made, ranges, names, kinds, formats, networks, sums, loaded, loads)",
			version, time.Now(), uint64(len(c.Ranges)), names, kinds, formats, networks, sums, loaded, loads)
	})
}

// expectRows fails if a query does not count what was written.
func (s *Store) expectRows(ctx context.Context, query, of string, want uint64) error {
	var got uint64
	if err := s.retry(ctx, "count context", func() error {
		return s.conn.QueryRow(ctx, query, clickhouse.Named("of", of)).Scan(&got)
	}); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("context: %d rows are stored where %d were sent; the former context stays in force, try again", got, want)
	}
	return nil
}

// forgetContexts removes what no version but the two latest needs, of which one was just written. Replicated tables take no subquery in what is to be deleted.
func (s *Store) forgetContexts(ctx context.Context, written uint64) error {
	var versions []uint64
	var loads []string
	err := s.retry(ctx, "read the versions of the context", func() error {
		return s.conn.QueryRow(ctx, `SELECT groupArray(version), arrayDistinct(arrayFlatten(groupArray(loads)))
			FROM (SELECT version, loads FROM context_versions ORDER BY version DESC LIMIT 2)`).Scan(&versions, &loads)
	})
	if err != nil {
		return err
	}
	if !slices.Contains(versions, written) {
		return fmt.Errorf("version %d is not known yet to the replica that was asked", written)
	}
	kept := clickhouse.Named("versions", strings.ReplaceAll(fmt.Sprint(versions), " ", ","))
	for _, c := range []struct {
		statement string
		arg       any
	}{
		{"DELETE FROM context_networks_state WHERE load NOT IN {loads:Array(String)}", clickhouse.Named("loads", list(loads))},
		{"DELETE FROM context_ranges_state WHERE version NOT IN {versions:Array(UInt64)}", kept},
		{"DELETE FROM context_versions WHERE version NOT IN {versions:Array(UInt64)}", kept},
	} {
		if err := s.retry(ctx, "remove former contexts", func() error { return s.ddl(ctx, c.statement+" SETTINGS lightweight_deletes_sync = 2", c.arg) }); err != nil {
			return err
		}
	}
	return nil
}

// ContextNetworks returns the networks of a file in force, in the order of the file.
func (s *Store) ContextNetworks(ctx context.Context, f *ContextFile) ([]netinfo.Network, error) {
	networks := make([]netinfo.Network, 0, f.Networks)
	names := map[string]string{} // Every name once: they repeat by the ten thousand.
	once := func(v string) string {
		if known, ok := names[v]; ok {
			return known
		}
		names[v] = v
		return v
	}
	err := s.retry(ctx, "read context", func() error {
		networks = networks[:0]
		rows, err := s.conn.Query(ctx, "SELECT first, last, asn, as_name, country, benign FROM context_networks_state WHERE load = {load:String} ORDER BY line",
			clickhouse.Named("load", f.load))
		if err != nil {
			return err //nolint:wrapcheck // retry wraps it.
		}
		defer rows.Close() //nolint:errcheck // rows.Err tells.
		for rows.Next() {
			var n netinfo.Network
			if err := rows.Scan(&n.First, &n.Last, &n.ASN, &n.ASName, &n.Country, &n.Benign); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			n.ASName, n.Country, n.Benign = once(n.ASName), once(n.Country), once(n.Benign)
			networks = append(networks, n)
		}
		return rows.Err() //nolint:wrapcheck // retry wraps it.
	})
	if err == nil && uint64(len(networks)) != f.Networks {
		err = fmt.Errorf("context file %s: %d of its %d networks are stored: add the file again", f.Name, len(networks), f.Networks)
	}
	return networks, err
}
