package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"murmuration/pkg/nearest"
	"murmuration/sql"
)

// ErrExport is wrapped by errors of an export that asks for what there is not.
var ErrExport = errors.New("export")

// Format of an export.
type Format string

// The formats, which ClickHouse writes itself.
const (
	FormatParquet Format = "parquet"
	FormatCSV     Format = "csv"
	FormatJSON    Format = "json" // one object a line
)

// Formats lists them.
func Formats() []Format { return []Format{FormatParquet, FormatCSV, FormatJSON} }

// server returns the name that ClickHouse has for the format, empty if it is none.
func (f Format) server() string {
	return map[Format]string{FormatParquet: "Parquet", FormatCSV: "CSVWithNames", FormatJSON: "JSONEachRow"}[f]
}

// Selection says what to export.
type Selection struct {
	What     string    // "events", "footprints", "campaigns"
	From, To time.Time // [From, To); zero is unbounded
	Sensor   string    // "" is all
	Kind     string    // of events; "" is all
	Port     int       // below 0 is all
	Source   netip.Prefix
}

// Exports lists what can be exported.
func Exports() ([]string, error) {
	exports, err := sql.Exports()
	if err != nil {
		return nil, fmt.Errorf("exports in this program: %w", err)
	}
	var names []string
	for _, e := range exports {
		names = append(names, e.Name)
	}
	return names, nil
}

// parameters of the export's statement, by name: the values of those that it has.
func (x *Selection) parameters(q *sql.Question) map[string]string {
	const layout = "2006-01-02 15:04:05.000000"
	from, to := "1970-01-01 00:00:00.000000", "2106-02-07 06:28:15.000000" // What the tables can hold.
	if !x.From.IsZero() {
		from = x.From.UTC().Format(layout)
	}
	if !x.To.IsZero() {
		to = x.To.UTC().Format(layout)
	}
	source := "::/0"
	if x.Source.IsValid() {
		source = x.Source.Masked().String()
	}
	all := map[string]string{"from": from, "to": to, "sensor": x.Sensor, "kind": x.Kind, "port": strconv.Itoa(x.Port), "source": source}
	out := map[string]string{}
	for _, p := range q.Params {
		out[p.Name] = all[p.Name]
	}
	return out
}

// Export streams rows to w in a format, as ClickHouse writes it, and returns how many rows there were to write before it began. Neither side holds more than
// a piece of them. It goes over ClickHouse's HTTP interface, whose place Options.HTTPAddr says. progress, if not nil, is told how many rows of how many were
// read. Where it fails, w may have got a part.
func (s *Store) Export(ctx context.Context, w io.Writer, x Selection, format Format, progress func(done, total uint64)) (rows uint64, err error) {
	exports, err := sql.Exports()
	if err != nil {
		return 0, fmt.Errorf("exports in this program: %w", err)
	}
	i := slices.IndexFunc(exports, func(q sql.Question) bool { return q.Name == x.What })
	if i < 0 {
		names, err := Exports()
		return 0, errors.Join(fmt.Errorf("%w: there is no %q to export%s", ErrExport, x.What, nearest.Hint(x.What, names)), err)
	}
	if format.server() == "" {
		return 0, fmt.Errorf("%w: %q is no format: parquet, csv and json are", ErrExport, format)
	}
	params := x.parameters(&exports[i])
	if rows, err = s.countExport(ctx, exports[i].Body, params); err != nil {
		return 0, err
	}
	id := "murmuration-export-" + rand.Text()
	stop := s.watchQuery(ctx, id, rows, progress)
	defer stop()
	return rows, s.stream(ctx, w, exports[i].Body+"\nFORMAT "+format.server(), id, params)
}

func (s *Store) countExport(ctx context.Context, body string, params map[string]string) (rows uint64, err error) {
	var bound []any
	for name, value := range params {
		bound = append(bound, clickhouse.Named(name, value))
	}
	err = s.retry(ctx, "count what is to be exported", func() error {
		return s.conn.QueryRow(ctx, "SELECT count() FROM ("+body+")", bound...).Scan(&rows)
	})
	return rows, err
}

// watchQuery tells the progress of a query until stop is called.
func (s *Store) watchQuery(ctx context.Context, id string, rows uint64, progress func(done, total uint64)) (stop func()) {
	if progress == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause(ctx, 500*time.Millisecond) == nil {
			var read uint64
			// What is asked in vain is asked again soon.
			if err := s.conn.QueryRow(ctx, "SELECT max(read_rows) FROM system.processes WHERE query_id = {id:String}", clickhouse.Named("id", id)).Scan(&read); err == nil && rows > 0 {
				progress(min(read, rows-1), rows)
			}
		}
	}()
	return func() {
		cancel()
		<-done
		progress(rows, rows)
	}
}

// httpPorts are where ClickHouse speaks HTTP unless told otherwise.
const (
	plainHTTPPort  = "8123"
	secureHTTPPort = "8443"
)

// httpBase is the address of the HTTP interface.
func (s *Store) httpBase() url.URL {
	u := url.URL{Scheme: "http", Host: s.opt.HTTPAddr, Path: "/"}
	port := plainHTTPPort
	if s.opt.TLS != nil {
		u.Scheme, port = "https", secureHTTPPort
	}
	if u.Host == "" {
		host, _, err := net.SplitHostPort(s.opt.Addr[0])
		if err != nil {
			host = s.opt.Addr[0]
		}
		u.Host = net.JoinHostPort(host, port)
	}
	return u
}

// stream runs a query over HTTP and copies what comes.
func (s *Store) stream(ctx context.Context, w io.Writer, query, id string, params map[string]string) error {
	u := s.httpBase()
	values := url.Values{
		"database": {s.opt.Database}, "query_id": {id},
		// Strings as text, not as bytes, and compressed as other tools take it; an error breaks the stream instead of
		// standing in it as if it were data.
		"output_format_parquet_string_as_string": {"1"}, "output_format_parquet_compression_method": {"zstd"},
		"http_write_exception_in_output_format": {"0"}, "date_time_output_format": {"simple"},
	}
	for name, value := range params {
		values.Set("param_"+name, value)
	}
	u.RawQuery = values.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(query))
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	req.Header.Set("X-Clickhouse-User", s.opt.User)
	req.Header.Set("X-Clickhouse-Key", s.opt.Password)
	transport := &http.Transport{TLSClientConfig: s.opt.TLS, DisableKeepAlives: true, DisableCompression: true, DialContext: (&net.Dialer{Timeout: s.opt.DialTimeout}).DialContext}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return s.explainHTTP(ctx, u.Host, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("export: ClickHouse at %s answered %s: %s", u.Host, resp.Status, firstLine(strings.TrimSpace(string(said))))
	}
	tail := &tail{}
	if _, err := io.Copy(io.MultiWriter(w, tail), resp.Body); err != nil {
		if said := tail.exception(); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return s.explainHTTP(ctx, u.Host, err)
	}
	return nil
}

// explainHTTP says what to do where the HTTP interface cannot be used.
func (s *Store) explainHTTP(ctx context.Context, host string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return fmt.Errorf("%w: an export goes over ClickHouse's HTTP interface, and nothing answers at %s: say where it is, by http=HOST:PORT behind the ? of --dsn: %w", ErrUnavailable, host, err)
	}
	return fmt.Errorf("export: the stream broke off: %w", err)
}

// tail keeps the end of what was written to it: where a query fails in its middle, that is what the server says of it.
type tail struct{ last []byte }

func (t *tail) Write(p []byte) (int, error) {
	const keep = 4096
	if len(p) >= keep {
		t.last = append(t.last[:0], p[len(p)-keep:]...)
		return len(p), nil
	}
	t.last = append(t.last, p...)
	if over := len(t.last) - keep; over > 0 {
		t.last = append(t.last[:0], t.last[over:]...)
	}
	return len(p), nil
}

// exception is the server's error in the tail, empty if there is none.
func (t *tail) exception() string {
	_, said, found := strings.Cut(string(t.last), "__exception__")
	if !found {
		return ""
	}
	if i := strings.Index(said, "Code: "); i >= 0 {
		return firstLine(said[i:])
	}
	return ""
}
