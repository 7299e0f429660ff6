package store

import (
	"slices"
	"strings"

	"murmuration/sql"
)

// clause is a statement taken apart as far as a cluster needs: what it does to which thing, and where that stands in the text.
type clause struct {
	text               string
	words              []sql.Word
	verb, kind         string // "CREATE", "MATERIALIZED VIEW"
	name               string // without quotes and database
	nameStart, nameEnd int    // the name in the text, with its database and quotes
	nameAt             int    // in words, of the last part of the name
}

// parse reads the head of a statement. What it does not know has no name.
func parse(text string) clause {
	c := clause{text: text, words: sql.Words(text)}
	i := 0
	next := func(words ...string) bool {
		for k, w := range words {
			if !isWord(c.word(i+k), w) {
				return false
			}
		}
		i += len(words)
		return true
	}
	c.verb = strings.ToUpper(c.word(0).Text)
	i++
	switch c.verb {
	case "CREATE":
		next("OR", "REPLACE")
	case "DELETE":
		next("FROM")
	case "INSERT":
		next("INTO")
	case "SYSTEM":
		next("RELOAD")
	}
	for _, kind := range []string{"MATERIALIZED VIEW", "TABLE", "VIEW", "DICTIONARY", "DATABASE", "FUNCTION"} {
		if next(strings.Fields(kind)...) {
			c.kind = kind
			break
		}
	}
	_ = next("IF", "NOT", "EXISTS") || next("IF", "EXISTS")
	needsKind := slices.Contains([]string{"CREATE", "DROP", "ALTER", "OPTIMIZE", "SYSTEM"}, c.verb)
	known := needsKind || slices.Contains([]string{"TRUNCATE", "DELETE", "INSERT"}, c.verb)
	if !known || needsKind && c.kind == "" || i >= len(c.words) {
		return c
	}
	c.nameStart = c.words[i].Start
	if c.word(i+1).Text == "." {
		i += 2
	}
	c.nameAt, c.nameEnd, c.name = i, c.word(i).End, strings.Trim(c.word(i).Text, "`\"")
	return c
}

func (c clause) is(verb string, kind ...string) bool {
	return c.verb == verb && (len(kind) == 0 || c.kind == kind[0])
}

// word returns the i-th word, or none.
func (c clause) word(i int) sql.Word {
	if i < 0 || i >= len(c.words) {
		return sql.Word{Start: len(c.text), End: len(c.text)}
	}
	return c.words[i]
}

func isWord(w sql.Word, text string) bool { return strings.EqualFold(w.Text, text) }

func depthOf(w sql.Word) int {
	switch w.Text {
	case "(":
		return 1
	case ")":
		return -1
	}
	return 0
}

// outside returns the position of the first of the words that stands outside brackets, from a position on; -1 for none.
func (c clause) outside(from int, words ...string) int {
	depth := 0
	for i := from; i < len(c.words); i++ {
		depth += depthOf(c.words[i])
		if depth == 0 && slices.ContainsFunc(words, func(w string) bool { return isWord(c.words[i], w) }) {
			return i
		}
	}
	return -1
}

// engineAt is the position of the name of the engine, -1 without one.
func (c clause) engineAt() int {
	i := c.outside(c.nameAt+1, "ENGINE")
	if i < 0 {
		return -1
	}
	if c.word(i+1).Text == "=" {
		i++
	}
	return i + 1
}

func (c clause) engine() string { return c.word(c.engineAt()).Text }

// comment is the literal behind COMMENT at the end of the statement, with its quotes, or "".
func (c clause) comment() string {
	if n := len(c.words); n >= 2 && isWord(c.words[n-2], "COMMENT") && strings.HasPrefix(c.words[n-1].Text, "'") {
		return c.words[n-1].Text
	}
	return ""
}

// columns are the names of the columns that a table is created with.
func (c clause) columns() []string {
	if c.word(c.nameAt+1).Text != "(" {
		return nil
	}
	var out []string
	depth, first := 0, false
	for _, w := range c.words[c.nameAt+1:] {
		depth += depthOf(w)
		switch {
		case depth == 0:
			return out
		case depth == 1 && (w.Text == "(" || w.Text == ","):
			first = true
		case first:
			out = append(out, strings.Trim(w.Text, "`\""))
			first = false
		}
	}
	return out
}

// target is the position of the table that a materialised view writes to, -1 if it has one of its own.
func (c clause) target() int {
	to := c.outside(c.nameAt+1, "TO", "AS")
	if to < 0 || !isWord(c.words[to], "TO") {
		return -1
	}
	return c.table(to)
}

// trigger is the position of the table whose inserts a materialised view follows: the first that its SELECT reads from, or that
// of the subquery in its place.
func (c clause) trigger() int {
	from := c.outside(c.nameAt+1, "FROM")
	for from >= 0 && c.word(from+1).Text == "(" {
		from = c.outside(from+2, "FROM")
	}
	if from < 0 {
		return -1
	}
	return c.table(from)
}

// table is the position of the name behind a word, behind its database if it has one.
func (c clause) table(i int) int {
	if c.word(i+2).Text == "." {
		return i + 3
	}
	return i + 1
}

// replaceName writes another name for the thing that the statement is about.
func (c clause) replaceName(name string) string {
	return c.text[:c.nameStart] + name + c.text[c.nameEnd:]
}

// columnActions returns those actions of an ALTER TABLE that change what columns there are or what they say, which the table of
// the plain name must follow; "" if there are none.
func (c clause) columnActions() string {
	starts := []int{c.nameAt + 1}
	for i := c.nameAt + 1; i >= 0; {
		if i = c.outside(i, ","); i >= 0 {
			i++
			if slices.Contains([]string{"ADD", "DROP", "MODIFY", "RENAME", "COMMENT", "CLEAR", "MATERIALIZE", "DELETE", "UPDATE"}, strings.ToUpper(c.word(i).Text)) {
				starts = append(starts, i)
			}
		}
	}
	var out []string
	for k, at := range starts {
		end := len(c.text)
		if k+1 < len(starts) {
			end = c.word(starts[k+1] - 1).Start
		}
		verb, what := strings.ToUpper(c.word(at).Text), c.word(at+1)
		shape := isWord(what, "COLUMN") && slices.Contains([]string{"ADD", "DROP", "MODIFY", "RENAME", "COMMENT"}, verb)
		if shape || verb == "MODIFY" && isWord(what, "COMMENT") {
			out = append(out, strings.TrimSpace(c.text[c.word(at).Start:end]))
		}
	}
	return strings.Join(out, ", ")
}
