package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"murmuration/pkg/nearest"
	"murmuration/sql"
)

// What is wrong with a question.
var (
	ErrUnknownQuestion = errors.New("unknown question")
	ErrParameter       = errors.New("wrong parameters")
)

// Column is a column of a result.
type Column struct {
	Name string
	Type string // ClickHouse type
}

// Result is the answer to a query, read row by row. It must be closed.
type Result struct {
	Columns []Column

	rows    driver.Rows
	dest    []any
	explain func(error) error
}

// Query runs any statement that returns rows. Parameters are bound by the server: the statement refers to
// them as {name:Type}, and values never become part of it.
func (s *Store) Query(ctx context.Context, query string, params map[string]string) (*Result, error) {
	bound := make([]any, 0, len(params))
	for name, value := range params {
		bound = append(bound, clickhouse.Named(name, value))
	}
	rows, err := s.conn.Query(ctx, query, bound...)
	if err != nil {
		return nil, fmt.Errorf("query: %w", s.explain(err))
	}
	r := &Result{rows: rows, explain: s.explain}
	for _, t := range rows.ColumnTypes() {
		r.Columns = append(r.Columns, Column{Name: t.Name(), Type: t.DatabaseTypeName()})
		r.dest = append(r.dest, reflect.New(t.ScanType()).Interface())
	}
	return r, nil
}

// ReadOnly makes the server refuse whatever changes something in the queries that are run with the context.
func (s *Store) ReadOnly(ctx context.Context) (context.Context, error) {
	var already uint64
	err := s.retry(ctx, "look for what the user may do", func() error {
		return s.conn.QueryRow(ctx, "SELECT toUInt64(getSetting('readonly'))").Scan(&already)
	})
	if err != nil || already > 0 { // Who may only read may not even say so.
		return ctx, err
	}
	return clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"readonly": 2})), nil
}

// Next goes to the next row; false means that there is none or an error, which Err tells.
func (r *Result) Next() bool { return r.rows.Next() }

// Values returns the row as Go values, one a column: numbers, string, bool, time.Time, net.IP,
// slices, maps, nil for NULL. They are good until the next call.
func (r *Result) Values() ([]any, error) {
	if err := r.rows.Scan(r.dest...); err != nil {
		return nil, fmt.Errorf("read a row: %w", err)
	}
	values := make([]any, len(r.dest))
	for i, d := range r.dest {
		v := reflect.ValueOf(d).Elem()
		for v.Kind() == reflect.Pointer && !v.IsNil() {
			v = v.Elem()
		}
		if v.Kind() != reflect.Pointer {
			values[i] = v.Interface()
		}
	}
	return values, nil
}

// Err returns what ended the rows before their end.
func (r *Result) Err() error {
	if err := r.rows.Err(); err != nil {
		return fmt.Errorf("read rows: %w", r.explain(err))
	}
	return nil
}

// Close frees the connection.
func (r *Result) Close() error {
	if err := r.rows.Close(); err != nil {
		return fmt.Errorf("close rows: %w", err)
	}
	return nil
}

// Question and Param describe the named questions.
type (
	Question = sql.Question
	Param    = sql.Param
)

// Questions returns the named questions, sorted by name.
func (s *Store) Questions() ([]Question, error) {
	questions, err := sql.Questions()
	if err != nil {
		return nil, fmt.Errorf("questions in this program: %w", err)
	}
	return questions, nil
}

// Ask answers a named question. Every parameter must be given but `at`. Errors are ErrUnknownQuestion or
// ErrParameter, with the nearest name that exists, or those of Query.
func (s *Store) Ask(ctx context.Context, name string, params map[string]string) (*Result, error) {
	q, err := s.question(name)
	if err != nil {
		return nil, err
	}
	params = maps.Clone(params)
	query, err := call(q, params)
	if err != nil {
		return nil, err
	}
	return s.Query(ctx, query, params)
}

// Takes returns those of the values that are parameters of the question. Errors are ErrUnknownQuestion.
func (s *Store) Takes(name string, values map[string]string) (map[string]string, error) {
	q, err := s.question(name)
	if err != nil {
		return nil, err
	}
	taken := map[string]string{}
	for _, p := range q.Params {
		if v, ok := values[p.Name]; ok {
			taken[p.Name] = v
		}
	}
	return taken, nil
}

func (s *Store) question(name string) (*Question, error) {
	questions, err := s.Questions()
	if err != nil {
		return nil, err
	}
	all := make([]string, len(questions))
	for i := range questions {
		if questions[i].Name == name {
			return &questions[i], nil
		}
		all[i] = questions[i].Name
	}
	return nil, fmt.Errorf("%w %q%s", ErrUnknownQuestion, name, nearest.Hint(name, all))
}

// call writes the SELECT of a question with its parameters bound, and puts the values into the form that the
// question takes.
func call(q *Question, params map[string]string) (string, error) {
	var known, args []string
	for _, p := range q.Params {
		known = append(known, p.Name)
	}
	// Unknown ones first: who mistyped a name misses the parameter, too.
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if !slices.Contains(known, name) {
			return "", fmt.Errorf("%w of %s: it has no %q%s", ErrParameter, q.Name, name, nearest.Hint(name, known))
		}
	}
	for _, p := range q.Params {
		switch value, given := params[p.Name]; {
		case given:
			v, err := parameter(p, value)
			if err != nil {
				return "", fmt.Errorf("%w of %s: %s is %q: %w", ErrParameter, q.Name, p.Name, value, err)
			}
			params[p.Name] = v
			args = append(args, fmt.Sprintf("%s = {%s:%s}", p.Name, p.Name, p.Type))
		case !p.Optional:
			return "", fmt.Errorf("%w of %s: %s is missing: %s", ErrParameter, q.Name, p.Name, p.Comment)
		}
	}
	_, hasAt := params["at"]
	for _, v := range q.Views() {
		if v.HasAt == hasAt {
			if len(args) == 0 && len(q.Params) == 0 {
				return "SELECT * FROM " + v.Name, nil
			}
			return "SELECT * FROM " + v.Name + "(" + strings.Join(args, ", ") + ")", nil
		}
	}
	return "", fmt.Errorf("%w of %s", ErrParameter, q.Name)
}
