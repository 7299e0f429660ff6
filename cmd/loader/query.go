package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"murmuration/pkg/store"
)

func queryCommand(env environment) *cli.Command {
	return &cli.Command{
		Name:      "query",
		Usage:     "ask a named question or run SQL; without arguments, list the questions",
		ArgsUsage: "[NAME [PARAMETER=VALUE…] | SQL]",
		Description: "Examples:\n" +
			"  loader query\n" +
			"  loader query sources port=80 method=HEAD hours=24\n" +
			"  loader query \"SELECT * FROM scan.sources(port = 80, method = 'HEAD', hours = 24)\"",
		OnUsageError: usageErrorOf,
		Flags:        withConnection(formatFlag()),
		Action:       func(c *cli.Context) error { return query(c, env) },
	}
}

func query(c *cli.Context, env environment) error {
	args := c.Args().Slice()
	return withStore(c, env, func(ctx context.Context, conn *connection, _ *slog.Logger) error {
		if len(args) == 0 {
			return listQuestions(conn.store, env, c.String("format"))
		}
		started := time.Now()
		notes, err := caveats(ctx, conn.store, args, started)
		if err != nil {
			return err
		}
		reading, err := conn.store.ReadOnly(ctx)
		if err != nil {
			return err
		}
		rows, err := ask(reading, conn.store, args)
		if err != nil {
			return err
		}
		for _, note := range notes {
			fmt.Fprintln(env.stderr, "note:", note)
		}
		if out := newRowWriter(env.stdout, c.String("format"), columnNames(rows)); out != nil {
			return stream(rows, out)
		}
		g, err := collect(rows)
		if err != nil {
			return err
		}
		if err := g.table(env.stdout); err != nil {
			return err
		}
		fmt.Fprintf(env.stdout, "%s in %s\n", count(len(g.rows), "row"), time.Since(started).Round(100*time.Microsecond))
		return nil
	})
}

// caveats are what to know of the answer to a question over some hours: that they hold none of the data, or that the retention dropped some of what
// it reads. What is wrong with the question and its parameters is not their concern.
func caveats(ctx context.Context, st *store.Store, args []string, now time.Time) ([]string, error) {
	since, until, ok := asked(args[1:], now)
	if !ok {
		return nil, nil
	}
	first, last, err := st.Span(ctx)
	if err != nil || first.IsZero() {
		return nil, err
	}
	// Probes and requests make the span; the rest may lie around it, and some questions count whole days.
	if !since.Before(last.Add(24*time.Hour)) || !until.After(first.Add(-24*time.Hour)) {
		return []string{fmt.Sprintf("the hours asked for are %s to %s, outside the data, which is of %s to %s; at=TIME says where they end",
			minute(since), minute(until), minute(first), minute(last))}, nil
	}
	lost, err := st.Lost(ctx, args[0], since)
	if errors.Is(err, store.ErrUnknownQuestion) {
		return nil, nil
	}
	var out []string
	for _, l := range lost {
		if l.Before.After(first) {
			out = append(out, fmt.Sprintf("%s of before %s are no longer kept (`loader retention`): what the question reads of them may be missing", l.Tier, l.Before.Format(time.DateOnly)))
		}
	}
	return out, err
}

// asked is the time that the parameters of a question ask for, if they do.
func asked(params []string, now time.Time) (since, until time.Time, ok bool) {
	var hours time.Duration
	end := timeValue{now.UTC()}
	for _, p := range params {
		name, value, _ := strings.Cut(p, "=")
		switch n, err := strconv.ParseUint(value, 10, 20); {
		case name == "hours" && err == nil:
			hours = time.Duration(n) * time.Hour //nolint:gosec // Of 20 bits.
		case name == "at" && end.Set(value) != nil:
			return since, until, false
		}
	}
	return end.Add(-hours), end.Time, hours != 0
}

// asks matches statements that return rows, behind comments and brackets. Statements that return none
// break the connection in the driver's Query. What passes and changes something all the same (WITH … INSERT) the server refuses.
var asks = regexp.MustCompile(`(?is)^(\s|\(|--[^\n]*\n|/\*.*?\*/)*(SELECT|WITH|SHOW|DESCRIBE|DESC|EXPLAIN|EXISTS)\b`)

// ask runs the arguments: a question by its name with parameters, or SQL as it is.
func ask(ctx context.Context, st *store.Store, args []string) (*store.Result, error) {
	if strings.ContainsAny(strings.TrimSpace(args[0]), " \t\n(") {
		if len(args) > 1 {
			return nil, usagef("query takes SQL as one argument: put it between quotes")
		}
		if !asks.MatchString(args[0]) {
			return nil, usagef("query asks and changes nothing: SQL must begin with SELECT, WITH, SHOW, DESCRIBE, EXPLAIN or EXISTS; for anything else use a ClickHouse client")
		}
		return st.Query(ctx, args[0], nil)
	}
	params := map[string]string{}
	for _, a := range args[1:] {
		name, value, ok := strings.Cut(a, "=")
		if !ok {
			return nil, usagef("%q is not PARAMETER=VALUE", a)
		}
		if _, twice := params[name]; twice {
			return nil, usagef("%s is given twice", name)
		}
		params[name] = value
	}
	rows, err := st.Ask(ctx, args[0], params)
	if errors.Is(err, store.ErrUnknownQuestion) || errors.Is(err, store.ErrParameter) {
		return nil, usageError{err}
	}
	return rows, err
}

func listQuestions(st *store.Store, env environment, format string) error {
	questions, err := st.Questions()
	if err != nil {
		return err
	}
	t := newTable("question", "parameters", "what it answers")
	for _, q := range questions {
		var params []string
		for _, p := range q.Params {
			name := p.Name + "=" + p.Type
			if p.Optional {
				name = "[" + name + "]"
			}
			params = append(params, name)
		}
		t.add(q.Name, strings.Join(params, " "), q.Title)
	}
	return t.write(env.stdout, format)
}

func columnNames(rows *store.Result) []string {
	names := make([]string, len(rows.Columns))
	for i, c := range rows.Columns {
		names[i] = c.Name
	}
	return names
}

// stream prints the rows of an answer as they come.
func stream(rows *store.Result, out rowWriter) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	if err := eachRow(rows, out.row); err != nil {
		return err
	}
	return out.end()
}

// collect reads the rows of an answer.
func collect(rows *store.Result) (g *grid, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	g = newTable(columnNames(rows)...)
	for _, c := range rows.Columns {
		g.numeric = append(g.numeric, isNumber(c.Type))
	}
	return g, eachRow(rows, func(values []any) error {
		g.add(values...)
		return nil
	})
}

// eachRow calls f with every row, its times with the digits that their column has.
func eachRow(rows *store.Result, f func(values []any) error) error {
	layouts := make([]string, len(rows.Columns))
	for i, c := range rows.Columns {
		layouts[i] = layoutOf(c.Type)
	}
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return err
		}
		for i, v := range values {
			if at, ok := v.(time.Time); ok {
				values[i] = moment{at.UTC(), layouts[i]}
			}
		}
		if err := f(values); err != nil {
			return err
		}
	}
	return rows.Err()
}

// moment is a time of a column: as text it has the digits of the column, no time of day where that has none, and no zero left out at the end.
type moment struct {
	time.Time
	layout string
}

func (m moment) String() string { return m.Format(m.layout) }

// MarshalJSON returns what time.Time does, and a day for a column of days.
func (m moment) MarshalJSON() ([]byte, error) {
	if m.layout == time.DateOnly {
		return json.Marshal(m.String())
	}
	return m.Time.MarshalJSON()
}

var subseconds = regexp.MustCompile(`DateTime64\((\d+)`)

// layoutOf returns how times of a ClickHouse type are written: "2026-05-01" for Date, "2026-05-01 12:00:00.000000" for DateTime64(6, 'UTC').
func layoutOf(clickhouseType string) string {
	digits := 0
	if m := subseconds.FindStringSubmatch(clickhouseType); m != nil {
		digits, _ = strconv.Atoi(m[1]) // ClickHouse has up to 9.
	}
	switch {
	case digits > 0:
		return time.DateTime + "." + strings.Repeat("0", digits)
	case strings.Contains(clickhouseType, "DateTime"):
		return time.DateTime
	case strings.Contains(clickhouseType, "Date"):
		return time.DateOnly
	}
	return time.DateTime + ".999999999" // Dynamic, of which a value has its own type.
}

// isNumber says whether values of a ClickHouse type are read best aligned to the right.
func isNumber(t string) bool {
	t = strings.TrimSuffix(strings.TrimPrefix(t, "Nullable("), ")")
	return strings.HasPrefix(t, "UInt") || strings.HasPrefix(t, "Int") || strings.HasPrefix(t, "Float") || strings.HasPrefix(t, "Decimal")
}
