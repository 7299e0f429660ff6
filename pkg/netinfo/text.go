package netinfo

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// lookAhead is how many lines are looked at to tell what the columns mean.
const lookAhead = 200

// rows reads the lines of a text as fields. Empty lines and lines that begin with # are no rows.
type rows interface {
	// next returns the fields, good until the next call, and the number of the line. io.EOF ends the text.
	next() (fields []string, line int, err error)
}

// readText reads CSV, TSV and lists.
func (f *File) readText(in *bufio.Reader, path string, opt Options) error {
	r, err := f.split(in)
	if err != nil {
		return err
	}
	ahead, err := peek(r)
	if err != nil {
		return err
	}
	if len(ahead) == 0 {
		return errors.New("it holds nothing but comments")
	}
	cols, header, err := columnsOf(ahead, f.Format)
	if err != nil {
		return fmt.Errorf("line %d: %w", ahead[0].line, err)
	}
	if f.Kinds, err = wanted(cols.kinds(), opt.Kind); err != nil {
		return err
	}
	if opt.Kind == KindBenign || cols.benign() {
		cols.list()
	}
	p := parser{columns: cols, benign: opt.Benign, names: map[string]string{}}
	if !cols.benign() {
		// Lists are written by hand, with names here and there; a line of anything else that is short was cut off.
		p.width = len(ahead[0].fields)
	}
	if cols.geoname >= 0 && cols.country < 0 {
		if p.places, err = locations(path); err != nil {
			return err
		}
	}
	if header {
		ahead = ahead[1:]
	}
	return f.parse(r, ahead, &p)
}

// row is a row that was read ahead.
type row struct {
	fields []string
	line   int
}

func peek(r rows) ([]row, error) {
	var out []row
	for len(out) < lookAhead {
		fields, line, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		out = append(out, row{append([]string(nil), fields...), line})
	}
	return out, nil
}

// parse keeps the networks of the rows that were read ahead, then of the others.
func (f *File) parse(r rows, ahead []row, p *parser) error {
	one := func(fields []string, line int) error {
		n, err := p.network(fields)
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		f.keep(n)
		return nil
	}
	for _, x := range ahead {
		if err := one(x.fields, x.line); err != nil {
			return err
		}
	}
	for {
		fields, line, err := r.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = one(fields, line)
		}
		if err != nil {
			return err
		}
	}
}

// split chooses how lines are taken apart, by the first line that is no comment.
func (f *File) split(in *bufio.Reader) (rows, error) {
	head, err := in.Peek(4096)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	head = []byte(strings.TrimPrefix(string(head), bom))
	first := ""
	for line := range strings.Lines(string(head)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			first = line
			break
		}
	}
	switch {
	case strings.Contains(first, "\t"):
		f.Format = "tsv"
		return newLines(in, func(s string) []string { return strings.Split(s, "\t") }), nil
	case strings.ContainsAny(first, ",;"):
		f.Format = "csv"
		limited := &limitedLines{r: in}
		r := csv.NewReader(limited)
		r.Comment, r.ReuseRecord, r.FieldsPerRecord, r.LazyQuotes = '#', true, -1, true
		if !strings.Contains(first, ",") {
			r.Comma = ';'
		}
		return &commaRows{r: r, in: limited}, nil
	}
	f.Format = "list"
	return newLines(in, func(s string) []string {
		s, _, _ = strings.Cut(s, " #")
		prefix, name, _ := strings.Cut(strings.TrimSpace(s), " ")
		return []string{prefix, strings.TrimSpace(name)}
	}), nil
}

// bom is what some programs write before UTF-8.
const bom = "\ufeff"

// maxLine bounds a line, and so the memory of one.
const maxLine = 1 << 20

var errLong = fmt.Errorf("the line is longer than %d bytes, as none about a network is: was a quote left open, or the end of a line lost?", maxLine)

// limitedLines fails once more was read for a row than a line may have.
type limitedLines struct {
	r    io.Reader
	left int
}

func (l *limitedLines) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errLong
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err //nolint:wrapcheck // A reader passes io.EOF on.
}

type commaRows struct {
	r    *csv.Reader
	in   *limitedLines
	line int // of the latest row
}

func (c *commaRows) next() ([]string, int, error) {
	c.in.left = maxLine
	fields, err := c.r.Read()
	var bad *csv.ParseError
	switch {
	case errors.As(err, &bad):
		return nil, 0, fmt.Errorf("line %d: %w", bad.Line, bad.Err)
	case errors.Is(err, io.EOF):
		return nil, 0, io.EOF
	case err != nil:
		return nil, 0, fmt.Errorf("behind line %d: cannot be read on: %w", c.line, err)
	}
	c.line, _ = c.r.FieldPos(0)
	if c.line == 1 {
		fields[0] = strings.TrimPrefix(fields[0], bom)
	}
	return fields, c.line, nil
}

// lineRows takes lines apart by a function.
type lineRows struct {
	s    *bufio.Scanner
	line int
	cut  func(string) []string
}

func newLines(in io.Reader, cut func(string) []string) *lineRows {
	s := bufio.NewScanner(in)
	s.Buffer(nil, maxLine)
	return &lineRows{s: s, cut: cut}
}

func (l *lineRows) next() ([]string, int, error) {
	for l.s.Scan() {
		l.line++
		text := strings.TrimRight(l.s.Text(), "\r\n ")
		if l.line == 1 {
			text = strings.TrimPrefix(text, bom)
		}
		if text != "" && text[0] != '#' {
			return l.cut(text), l.line, nil
		}
	}
	err := l.s.Err()
	if errors.Is(err, bufio.ErrTooLong) {
		err = errLong
	}
	if err != nil {
		return nil, 0, fmt.Errorf("behind line %d: cannot be read on: %w", l.line, err)
	}
	return nil, 0, io.EOF
}
