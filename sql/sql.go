// Package sql holds every statement that murmuration keeps in ClickHouse: the numbered migrations
// of the schema, the named questions, the exports, and the roles for real servers. It embeds the files and takes
// them apart; running them is pkg/store's work.
//
// # Names
//
// What people query has the plain name; what holds the data of it has a suffix:
//
//	port_hours         view, what people query
//	port_hours_state   table with the aggregate states behind it
//	port_hours_feed    materialised view that fills the table
//	loads_log          table of versioned rows whose latest version is the view `loads`
//
// # Questions
//
// A file of queries/ is one question: a comment block (title, then lines "Parameter NAME TYPE: …",
// "Exactness: …", "Example: …") and one SELECT. A question without parameters becomes a plain view, one with
// parameters a parameterised view. A question about "now" says so by the parameter `at`, a String, which is the one
// parameter that may be left out: it becomes two views, NAME without it (at is now) and NAME_at with it.
package sql

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

//go:embed schema/*.sql queries/*.sql roles/*.sql exports/*.sql
var files embed.FS

// Migration is one numbered file of schema/.
type Migration struct {
	Number     int
	Name       string // file name, "0001_events.sql"
	Checksum   string // SHA-256 of the file with line ends as \n, in hexadecimal
	Statements []string
}

// Param is a parameter of a question.
type Param struct {
	Name     string
	Type     string // ClickHouse type
	Comment  string
	Optional bool
}

// Question is one file of queries/.
type Question struct {
	Name    string // of the view, and of the file without .sql
	Title   string // the question, in a sentence
	Comment string // the whole comment block, without the dashes; true of both its views
	Example string
	Params  []Param
	Body    string // the SELECT, with {name:Type} parameters
}

// Migrations returns the migrations of the schema in order. An error means that the files are numbered
// wrongly, which a test excludes for a released binary.
func Migrations() ([]Migration, error) { return MigrationsIn(files, "schema") }

// MigrationsIn returns the migrations of a folder in order: files NNNN_name.sql numbered from 1 without gaps.
func MigrationsIn(fsys fs.FS, dir string) ([]Migration, error) {
	names, err := sqlFiles(fsys, dir)
	if err != nil {
		return nil, err
	}
	var out []Migration
	for i, name := range names {
		digits, _, _ := strings.Cut(name, "_")
		n, err := strconv.Atoi(digits)
		if err != nil || n != i+1 || len(digits) != 4 {
			return nil, fmt.Errorf("migration %s should be numbered %04d", name, i+1)
		}
		text, err := read(fsys, dir, name)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256([]byte(text))
		out = append(out, Migration{Number: n, Name: name, Checksum: hex.EncodeToString(sum[:]), Statements: Split(text)})
	}
	return out, nil
}

// Questions returns the named questions, sorted by name.
func Questions() ([]Question, error) { return questionsIn("queries") }

// Exports returns what can be exported for other tools, sorted by name: questions that become no views.
func Exports() ([]Question, error) { return questionsIn("exports") }

func questionsIn(dir string) ([]Question, error) {
	names, err := sqlFiles(files, dir)
	if err != nil {
		return nil, err
	}
	out := make([]Question, 0, len(names))
	for _, name := range names {
		text, err := read(files, dir, name)
		if err != nil {
			return nil, err
		}
		q, err := parseQuestion(strings.TrimSuffix(name, ".sql"), text)
		if err != nil {
			return nil, fmt.Errorf("%s/%s: %w", dir, name, err)
		}
		out = append(out, q)
	}
	return out, nil
}

// Roles returns the statements of roles/, for the administrator of a real server.
func Roles() ([]string, error) {
	names, err := sqlFiles(files, "roles")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range names {
		text, err := read(files, "roles", name)
		if err != nil {
			return nil, err
		}
		out = append(out, Split(text)...)
	}
	return out, nil
}

// atExpression is how a question's body must write the time it is asked for, and atNow what it becomes
// in the view that leaves it out.
const (
	atExpression = "parseDateTime64BestEffort({at:String}, 6, 'UTC')"
	atNow        = "now64(6, 'UTC')"
	atSuffix     = "_at"
)

// View is a view that a question becomes.
type View struct {
	Name, Body string
	HasAt      bool
}

// Views returns the views of a question: one, or two where it has the optional parameter `at`.
func (q *Question) Views() []View {
	if !q.HasAt() {
		return []View{{Name: q.Name, Body: q.Body}}
	}
	return []View{
		{Name: q.Name, Body: strings.ReplaceAll(q.Body, atExpression, atNow)},
		{Name: q.Name + atSuffix, Body: q.Body, HasAt: true},
	}
}

// HasAt reports whether the question may be asked for another time than now.
func (q *Question) HasAt() bool { return strings.Contains(q.Body, atExpression) }

var (
	paramLine = regexp.MustCompile(`^Parameter (\w+) ([^:]+): (.+)$`)
	paramUse  = regexp.MustCompile(`\{(\w+):([^{}]+)\}`)
	atDefault = regexp.MustCompile(`; (\w+) if left out$`)
)

// atLine is what the comment of both views says of `at`. The short one must not claim to take it: ClickHouse ignores
// parameters that a view does not have, and the answer would be for now.
func atLine(name string, p Param) string {
	return fmt.Sprintf("Parameter of %s alone, not of %s: %s %s: %s", name+atSuffix, name, p.Name, p.Type, atDefault.ReplaceAllString(p.Comment, "; "+name+" is for $1"))
}

func parseQuestion(name, text string) (Question, error) {
	q := Question{Name: name}
	lines := strings.Split(text, "\n")
	var comment []string
	for len(lines) > 0 && strings.HasPrefix(lines[0], "--") {
		line := strings.TrimSpace(strings.TrimPrefix(lines[0], "--"))
		lines = lines[1:]
		if m := paramLine.FindStringSubmatch(line); m != nil {
			p := Param{Name: m[1], Type: m[2], Comment: m[3], Optional: m[1] == "at"}
			q.Params = append(q.Params, p)
			if p.Optional {
				line = atLine(name, p)
			}
		}
		comment = append(comment, line)
		if example, ok := strings.CutPrefix(line, "Example: "); ok {
			q.Example = example
		}
	}
	if len(comment) == 0 {
		return q, fmt.Errorf("no comment block")
	}
	q.Title, q.Comment = comment[0], strings.Join(comment, "\n")
	statements := Split(strings.Join(lines, "\n"))
	if len(statements) != 1 {
		return q, fmt.Errorf("%d statements, want one", len(statements))
	}
	q.Body = statements[0]
	return q, q.check()
}

// check holds the parameters that the comment declares against those that the body uses.
func (q *Question) check() error {
	used := map[string]string{}
	for _, m := range paramUse.FindAllStringSubmatch(q.Body, -1) {
		if t, ok := used[m[1]]; ok && t != m[2] {
			return fmt.Errorf("parameter %s is both %s and %s", m[1], t, m[2])
		}
		used[m[1]] = m[2]
	}
	for _, p := range q.Params {
		if used[p.Name] != p.Type {
			return fmt.Errorf("parameter %s is declared as %q and used as %q", p.Name, p.Type, used[p.Name])
		}
		delete(used, p.Name)
	}
	for name := range used {
		return fmt.Errorf("parameter %s is not declared", name)
	}
	if strings.Count(q.Body, "{at:") != strings.Count(q.Body, atExpression) {
		return fmt.Errorf("write the time as %s", atExpression)
	}
	return nil
}

func sqlFiles(fsys fs.FS, dir string) ([]string, error) {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".sql") {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names, nil
}

func read(fsys fs.FS, dir, name string) (string, error) {
	b, err := fs.ReadFile(fsys, path.Join(dir, name))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return string(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))), nil
}
