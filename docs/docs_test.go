// Package docs_test holds the documents against the program: what the reference must name is taken from the source of the
// command line and from the schema on the real engine, and every relative link must lead somewhere.
package docs_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine"
	"murmuration/pkg/engine/enginetest"
	"murmuration/pkg/event"
	"murmuration/pkg/store"
)

func TestMain(m *testing.M) { os.Exit(enginetest.Main(m)) }

const root = ".."

// heading matches a heading of Markdown; fence a line that begins or ends a code block.
var (
	heading = regexp.MustCompile(`^(#{1,6}) +(.+?) *$`)
	fence   = regexp.MustCompile("^ *```")
)

// section is what stands below one heading, up to the next heading of any level.
type section struct{ title, text string }

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

// sections cuts a document at its headings; what looks like one inside a code block is none.
func sections(text string) []section {
	var out []section
	code := false
	for line := range strings.Lines(text) {
		if fence.MatchString(line) {
			code = !code
		}
		if m := heading.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil && !code {
			out = append(out, section{title: m[2]})
			continue
		}
		if len(out) > 0 {
			out[len(out)-1].text += line
		}
	}
	return out
}

func find(t *testing.T, all []section, title string) section {
	t.Helper()
	i := slices.IndexFunc(all, func(s section) bool { return s.title == title })
	require.GreaterOrEqual(t, i, 0, "reference.md has no section %q", title)
	return all[i]
}

// names says whether the text has the word as code: alone between backticks.
func names(text, word string) bool { return strings.Contains(text, "`"+word+"`") }

// declared is what one function of cmd/loader declares of the command line.
type declared struct {
	commands, flags, environment []string
	calls                        []string
}

// parse reads the Go files of a folder, without its tests.
func parse(t *testing.T, dir string) []*ast.File {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	var out []*ast.File
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		out = append(out, file)
	}
	return out
}

// commandLine reads the cli library's literals out of the functions of cmd/loader.
func commandLine(t *testing.T) map[string]*declared {
	t.Helper()
	out := map[string]*declared{}
	for _, file := range parse(t, filepath.Join(root, "cmd", "loader")) {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Body != nil {
				out[f.Name.Name] = declarations(f.Body)
			}
		}
	}
	return out
}

func declarations(body ast.Node) *declared {
	d := &declared{}
	ast.Inspect(body, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.CallExpr:
			if f, ok := x.Fun.(*ast.Ident); ok {
				d.calls = append(d.calls, f.Name)
			}
		case *ast.CompositeLit:
			if sel, ok := x.Type.(*ast.SelectorExpr); ok {
				d.literal(sel.Sel.Name, x)
			}
		}
		return true
	})
	return d
}

func (d *declared) literal(kind string, lit *ast.CompositeLit) {
	name := text(field(lit, "Name"))
	switch {
	case name == "":
	case kind == "Command":
		d.commands = append(d.commands, name)
	case strings.HasSuffix(kind, "Flag"):
		d.flags = append(d.flags, name)
		if vars, ok := field(lit, "EnvVars").(*ast.CompositeLit); ok {
			for _, v := range vars.Elts {
				d.environment = append(d.environment, text(v))
			}
		}
	}
}

func field(lit *ast.CompositeLit, name string) ast.Expr {
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if k, ok := kv.Key.(*ast.Ident); ok && k.Name == name {
				return kv.Value
			}
		}
	}
	return nil
}

func text(e ast.Expr) string {
	if sel, ok := e.(*ast.SelectorExpr); ok && sel.Sel.Name == "LibraryEnv" {
		return engine.LibraryEnv
	}
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		return ""
	}
	return s
}

// namesFlag says whether the text has the flag as code, with or without a placeholder behind it.
func namesFlag(text, flag string) bool {
	return names(text, "--"+flag) || strings.Contains(text, "`--"+flag+" ")
}

func TestReferenceHasEveryCommandAndFlag(t *testing.T) {
	all := sections(read(t, "reference.md"))
	functions := commandLine(t)
	require.Contains(t, functions, "connectionFlags")
	common := find(t, all, "Commands").text
	for _, flag := range functions["connectionFlags"].flags {
		assert.True(t, namesFlag(common, flag), "section Commands lacks --%s", flag)
	}
	checked := 0
	for name, f := range functions {
		if len(f.commands) == 0 {
			continue
		}
		top := f.commands[0]
		s := find(t, all, "loader "+top)
		for _, sub := range f.commands[1:] {
			assert.Contains(t, s.text, "`loader "+top+" "+sub, "%s: section %q", name, s.title)
		}
		flags := slices.Clone(f.flags)
		for _, call := range f.calls {
			if shared := functions[call]; shared != nil && strings.HasSuffix(call, "Flag") {
				flags = append(flags, shared.flags...)
			}
		}
		for _, flag := range flags {
			assert.True(t, namesFlag(s.text, flag), "section %q lacks --%s", s.title, flag)
			checked++
		}
	}
	require.Greater(t, checked, 15, "no flags were found in cmd/loader: has its layout changed?")
}

func TestReferenceHasEveryVariable(t *testing.T) {
	s := find(t, sections(read(t, "reference.md")), "Environment")
	variables := []string{engine.LibraryEnv}
	for _, f := range commandLine(t) {
		variables = append(variables, f.environment...)
	}
	require.GreaterOrEqual(t, len(variables), 3)
	for _, v := range variables {
		assert.True(t, names(s.text, v), "section Environment lacks %s", v)
	}
}

func TestReferenceHasEveryWord(t *testing.T) {
	all := sections(read(t, "reference.md"))
	words := find(t, all, "Kinds and techniques").text
	for _, w := range event.Kinds() {
		assert.True(t, names(words, w), "kind %s", w)
	}
	for _, w := range event.Techniques() {
		assert.True(t, names(words, w), "technique %s", w)
	}
	for _, w := range event.Protos() {
		assert.True(t, names(words, w), "protocol %s", w)
	}
	for _, c := range []struct{ room, prefix, section string }{
		{"capture", "Reason", "Packets that are no events"},
		{"load", "State", "The ledger"},
		{"campaign", "State", "Campaigns"},
		{"detect", "Pattern", "Campaigns"},
		{"detect", "Spread", "Campaigns"},
		{"detect", "Tempo", "Campaigns"},
		{"proof", "Masscan", "Campaigns"},
		{"proof", "ZMap", "Campaigns"},
		{"proof", "Mirai", "Campaigns"},
		{"proof", "Nmap", "Campaigns"},
		{"proof", "Unicornscan", "Campaigns"},
		{"proof", "Sequence", "Campaigns"},
		{"campaign", "Proof", "loader detect"},
	} {
		values := constants(t, filepath.Join(root, "pkg", c.room), c.prefix)
		require.NotEmpty(t, values, "pkg/%s has no constant %s…", c.room, c.prefix)
		for _, w := range values {
			assert.True(t, names(find(t, all, c.section).text, w), "section %q lacks %s", c.section, w)
		}
	}
}

// constants are the string constants of a package whose names begin with prefix.
func constants(t *testing.T, dir, prefix string) []string {
	t.Helper()
	var out []string
	for _, file := range parse(t, dir) {
		ast.Inspect(file, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if ok && len(v.Values) == 1 && strings.HasPrefix(v.Names[0].Name, prefix) {
				if s := text(v.Values[0]); s != "" {
					out = append(out, s)
				}
			}
			return true
		})
	}
	return out
}

func open(t *testing.T) (*store.Store, string) {
	t.Helper()
	ep, name := enginetest.Endpoint(t), enginetest.Name(t)
	st, err := store.Open(t.Context(), store.Options{
		Addr: []string{ep.TCPAddr}, User: ep.User, Password: ep.Password, Database: name, CreateDatabase: true,
		Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, st.Close()) })
	_, err = st.Migrate(context.WithoutCancel(t.Context()))
	require.NoError(t, err)
	return st, name
}

func TestReferenceHasEveryTableAndColumn(t *testing.T) {
	st, database := open(t)
	rows, err := st.Query(t.Context(), "SELECT table, groupArray(name) FROM system.columns WHERE database = {db:String} GROUP BY table ORDER BY table",
		map[string]string{"db": database})
	require.NoError(t, err)
	defer func() { assert.NoError(t, rows.Close()) }()
	whole := read(t, "reference.md")
	all := sections(whole)
	tables := 0
	for rows.Next() {
		values, err := rows.Values()
		require.NoError(t, err)
		table, columns := values[0].(string), values[1].([]string)
		tables++
		if strings.HasSuffix(table, "_feed") {
			// A materialised view has the columns of the table that it fills.
			assert.True(t, names(whole, table), "reference.md lacks %s", table)
			continue
		}
		assertDescribed(t, all, table, columns)
	}
	require.NoError(t, rows.Err())
	require.Greater(t, tables, 20)
}

// assertDescribed holds if some section names the table and all of its columns.
func assertDescribed(t *testing.T, all []section, table string, columns []string) {
	t.Helper()
	best, lacks := "no section", columns
	for _, s := range all {
		if !names(s.text, table) && !slices.Contains(strings.Split(s.title, ", "), table) {
			continue
		}
		missing := slices.DeleteFunc(slices.Clone(columns), func(c string) bool { return names(s.text, c) })
		if len(missing) == 0 {
			return
		}
		if best == "no section" || len(missing) < len(lacks) {
			best, lacks = s.title, missing
		}
	}
	assert.Fail(t, "not described", "table %s: %s lacks %s", table, best, strings.Join(lacks, ", "))
}

// updateEnv asks the test to write the section of the questions instead of comparing it.
const updateEnv = "UPDATE_REFERENCE"

// The questions say what they answer in the comments of their files, so their section of the reference is made of these.
func TestReferenceHasEveryQuestion(t *testing.T) {
	const begin = "<!-- From the comments of sql/queries, by `" + updateEnv + "=1 go test ./docs`: edit those. -->\n"
	st, _ := open(t)
	questions, err := st.Questions()
	require.NoError(t, err)
	require.NotEmpty(t, questions)
	var want strings.Builder
	for _, q := range questions {
		describe(t, st, &want, q)
	}
	head, have, found := strings.Cut(read(t, "reference.md"), begin)
	require.True(t, found, "reference.md lacks the line %s", begin)
	if os.Getenv(updateEnv) != "" {
		require.NoError(t, os.WriteFile("reference.md", []byte(head+begin+want.String()), 0o644)) //nolint:gosec // A document that everybody may read.
		return
	}
	assert.Equal(t, want.String(), have, "run `%s=1 go test ./docs`", updateEnv)
}

// describe writes the section of one question: title, parameters, what it says, columns, exactness, example.
func describe(t *testing.T, st *store.Store, w *strings.Builder, q store.Question) {
	t.Helper()
	fmt.Fprintf(w, "\n### %s\n\n%s\n", q.Name, q.Title)
	params := map[string]string{}
	for i, p := range q.Params {
		if i == 0 {
			w.WriteString("\n| parameter | type | meaning |\n|---|---|---|\n")
		}
		meaning := p.Comment
		if p.Optional {
			meaning = strings.TrimSuffix(meaning, "; now if left out") + "; only in `" + q.Name + "_at`"
		}
		fmt.Fprintf(w, "| `%s` | %s | %s |\n", p.Name, p.Type, strings.ReplaceAll(meaning, "|", "\\|"))
		params[p.Name] = sample(p)
	}
	w.WriteString("\n")
	for line := range strings.Lines(q.Comment) {
		switch line = strings.TrimSpace(line); {
		case line == q.Title, line == "", strings.HasPrefix(line, "Parameter "), strings.HasPrefix(line, "Example:"):
		case strings.HasPrefix(line, "Exactness:"):
			fmt.Fprintf(w, "\nColumns: %s.\n\n%s\n", strings.Join(columns(t, st, q.Name, params), ", "), line)
		default:
			fmt.Fprintln(w, line)
		}
	}
	fmt.Fprintf(w, "\n```sql\n%s\n```\n", strings.TrimSpace(q.Example))
}

// columns asks the question and returns the names of its columns as code.
func columns(t *testing.T, st *store.Store, name string, params map[string]string) []string {
	t.Helper()
	rows, err := st.Ask(t.Context(), name, params)
	require.NoError(t, err, name)
	defer func() { assert.NoError(t, rows.Close()) }()
	var out []string
	for _, c := range rows.Columns {
		out = append(out, "`"+c.Name+"`")
	}
	return out
}

// sample is a value that the parameter takes.
func sample(p store.Param) string {
	switch {
	case strings.HasPrefix(p.Type, "UInt"), strings.HasPrefix(p.Type, "Float"):
		return "1"
	case p.Name == "prefix", p.Name == "network":
		return "192.0.2.0/24"
	case p.Name == "source":
		return "192.0.2.1"
	case p.Name == "method":
		return "HEAD"
	}
	return "2026-04-01"
}

// link matches the target of a Markdown link.
var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	documents := []string{filepath.Join(root, "README.md")}
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			documents = append(documents, path)
		}
		return err
	}))
	links := 0
	for _, doc := range documents {
		for _, m := range link.FindAllStringSubmatch(read(t, doc), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, ":") {
				continue // To the world outside, which a test does not ask.
			}
			links++
			path := doc
			if target != "" {
				path = filepath.Join(filepath.Dir(doc), filepath.FromSlash(target))
			}
			if _, err := os.Stat(path); !assert.NoError(t, err, "%s links to %s", doc, m[1]) || anchor == "" {
				continue
			}
			assert.True(t, slices.ContainsFunc(sections(read(t, path)), func(s section) bool { return slug(s.title) == anchor }),
				"%s links to %s, and there is no such heading", doc, m[1])
		}
	}
	require.Greater(t, links, 10)
}

// notInSlug matches what a forge leaves out of a heading's anchor.
var notInSlug = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)

func slug(title string) string {
	return strings.ReplaceAll(notInSlug.ReplaceAllString(strings.ToLower(title), ""), " ", "-")
}
