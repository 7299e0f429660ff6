package main

import (
	"bufio"
	"encoding"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/urfave/cli/v2"
)

// The output formats of every command that prints rows.
const (
	formatTable = "table"
	formatCSV   = "csv"
	formatJSON  = "json"
)

func formatFlag() cli.Flag {
	return &cli.StringFlag{Name: "format", Value: formatTable, Usage: "table, csv or json (one object a line)",
		Action: func(_ *cli.Context, v string) error {
			if !slices.Contains([]string{formatTable, formatCSV, formatJSON}, v) {
				return usagef("--format takes table, csv or json, not %q", v)
			}
			return nil
		}}
}

// grid is rows to print in any of the formats.
type grid struct {
	columns []string
	rows    [][]any
	numeric []bool // columns that are aligned to the right
}

func newTable(columns ...string) *grid { return &grid{columns: columns} }

func (g *grid) add(values ...any) { g.rows = append(g.rows, values) }

func (g *grid) write(w io.Writer, format string) error {
	switch format {
	case formatCSV:
		return g.csv(w)
	case formatJSON:
		return g.json(w)
	}
	return g.table(w)
}

func (g *grid) table(w io.Writer) error {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Options.DrawBorder = false
	t.Style().Options.SeparateColumns = false
	t.Style().Format.Header = text.FormatDefault
	header := make(table.Row, len(g.columns))
	for i, c := range g.columns {
		header[i] = c
	}
	t.AppendHeader(header)
	var configs []table.ColumnConfig
	for i := range g.columns {
		if i < len(g.numeric) && g.numeric[i] {
			configs = append(configs, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	t.SetColumnConfigs(configs)
	for _, r := range g.rows {
		row := make(table.Row, len(r))
		for i, v := range r {
			row[i] = printable(cell(v))
		}
		t.AppendRow(row)
	}
	_, err := fmt.Fprintln(w, t.Render())
	return err
}

// printable keeps what scanners sent (paths, user agents) from moving the terminal's cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return '·'
		}
		return r
	}, s)
}

func (g *grid) csv(w io.Writer) error { return g.each(newCSV(w, g.columns)) }

func (g *grid) json(w io.Writer) error { return g.each(newJSON(w, g.columns)) }

func (g *grid) each(out rowWriter) error {
	for _, r := range g.rows {
		if err := out.row(r); err != nil {
			return err
		}
	}
	return out.end()
}

// rowWriter prints rows one by one, for answers that are larger than memory.
type rowWriter interface {
	row(values []any) error
	end() error
}

// newRowWriter returns nil for tables: they need the widths of all rows.
func newRowWriter(w io.Writer, format string, columns []string) rowWriter {
	switch format {
	case formatCSV:
		return newCSV(w, columns)
	case formatJSON:
		return newJSON(w, columns)
	}
	return nil
}

type csvWriter struct {
	out    *csv.Writer
	record []string
}

func newCSV(w io.Writer, columns []string) *csvWriter {
	c := &csvWriter{out: csv.NewWriter(w), record: make([]string, len(columns))}
	_ = c.out.Write(columns) // Its error comes again at the end.
	return c
}

func (c *csvWriter) row(values []any) error {
	for i, v := range values {
		c.record[i] = cell(v)
	}
	return c.out.Write(c.record)
}

func (c *csvWriter) end() error {
	c.out.Flush()
	return c.out.Error()
}

// jsonWriter writes one object a line with the columns in their order.
type jsonWriter struct {
	out     *bufio.Writer
	columns []string
}

func newJSON(w io.Writer, columns []string) *jsonWriter {
	return &jsonWriter{out: bufio.NewWriter(w), columns: columns}
}

func (j *jsonWriter) row(values []any) error {
	line := []byte{'{'}
	for i, v := range values {
		if i > 0 {
			line = append(line, ',')
		}
		name, err := json.Marshal(j.columns[i])
		if err != nil {
			return err
		}
		value, err := jsonValue(v)
		if err != nil {
			return fmt.Errorf("column %s: %w", j.columns[i], err)
		}
		line = append(append(append(line, name...), ':'), value...)
	}
	_, err := j.out.Write(append(line, '}', '\n'))
	return err
}

func (j *jsonWriter) end() error { return j.out.Flush() }

// cell is a value as text.
func cell(v any) string {
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return x
	case []string:
		return strings.Join(x, " ")
	case time.Time:
		return x.UTC().Format("2006-01-02 15:04:05.999999")
	case net.IP:
		return x.String()
	case fmt.Stringer:
		return x.String()
	}
	switch k := reflect.ValueOf(v).Kind(); k {
	case reflect.Slice, reflect.Array, reflect.Map, reflect.Struct:
		// Lists and maps read best, and can be read back, as JSON.
		if b, err := json.Marshal(plain(v)); err == nil {
			return string(b)
		}
	case reflect.Float32, reflect.Float64:
		return strconv.FormatFloat(reflect.ValueOf(v).Float(), 'g', -1, map[reflect.Kind]int{reflect.Float32: 32, reflect.Float64: 64}[k])
	}
	return fmt.Sprint(v)
}

// jsonValue is v as JSON. JSON has no NaN and no infinities; they become null, as in ClickHouse's own JSON.
func jsonValue(v any) ([]byte, error) {
	if f := reflect.ValueOf(v); f.IsValid() && f.CanFloat() && (math.IsNaN(f.Float()) || math.IsInf(f.Float(), 0)) {
		return []byte("null"), nil
	}
	return json.Marshal(plain(v))
}

// plain turns lists of small numbers, which JSON takes for bytes and writes as base64, into lists of numbers, at any depth.
func plain(v any) any {
	r := reflect.ValueOf(v)
	if _, text := v.(encoding.TextMarshaler); text || !r.IsValid() {
		return v
	}
	switch r.Kind() {
	case reflect.Slice, reflect.Array:
		list := make([]any, r.Len())
		for i := range list {
			list[i] = plain(r.Index(i).Interface())
		}
		return list
	case reflect.Map:
		if r.Type().Key().Kind() != reflect.String {
			return v
		}
		object := make(map[string]any, r.Len())
		for it := r.MapRange(); it.Next(); {
			object[it.Key().String()] = plain(it.Value().Interface())
		}
		return object
	}
	return v
}
