package sql

import (
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSplit(t *testing.T) {
	for text, want := range map[string][]string{
		"":                                 nil,
		" ; ;\n;":                          nil,
		"-- only a comment; and more":      nil,
		"a":                                {"a"},
		"a;b":                              {"a", "b"},
		"a;\n-- c; d\nb;":                  {"a", "b"},
		"a -- c; d\n, b;":                  {"a -- c; d\n, b"},
		"/* x; */ a /* ; */; b":            {"a /* ; */", "b"},
		"SELECT ';', \";\", `;`; b":        {"SELECT ';', \";\", `;`", "b"},
		`SELECT 'it''s;', 'a\';b'; c`:      {`SELECT 'it''s;', 'a\';b'`, "c"},
		"SELECT $$;'$$, $x$;$$;$x$; b":     {"SELECT $$;'$$, $x$;$$;$x$", "b"},
		"SELECT a$b$c; d$e":                {"SELECT a$b$c", "d$e"},
		"SELECT 1 - -1; # c; d\nx; #! ; y": {"SELECT 1 - -1", "x"},
		"SELECT '--', '/*'; b":             {"SELECT '--', '/*'", "b"},
		"SELECT 'open; end":                {"SELECT 'open; end"},
		"a /* open; end":                   {"a /* open; end"},
		"$ ; b":                            {"$", "b"},
	} {
		assert.Equal(t, want, Split(text), text)
	}
}

// Whatever the text, statements are pieces of it in order, none empty, and splitting them again changes nothing.
func FuzzSplit(f *testing.F) {
	f.Add("a; 'b;' -- c\n; /* d */ e $x$;$x$")
	f.Fuzz(func(t *testing.T, text string) {
		rest := text
		for _, s := range Split(text) {
			require.NotEmpty(t, s)
			i := strings.Index(rest, s)
			require.GreaterOrEqual(t, i, 0, "%q", s)
			rest = rest[i+len(s):]
			require.Equal(t, []string{s}, Split(s))
		}
	})
}

var fillToken = regexp.MustCompile(`insert_deduplication_token = '[^']*'`)

func TestMigrationsAreNumbered(t *testing.T) {
	migrations, err := Migrations()
	require.NoError(t, err)
	require.NotEmpty(t, migrations)
	seen := map[string]bool{}
	for i, m := range migrations {
		assert.Equal(t, i+1, m.Number)
		assert.Len(t, m.Checksum, 64)
		assert.False(t, seen[m.Checksum])
		seen[m.Checksum] = true
		for _, s := range m.Statements {
			// A fill carries a token, by which the server knows it again.
			assert.Regexp(t, `(?s)^(CREATE (TABLE|VIEW|MATERIALIZED VIEW) IF NOT EXISTS|ALTER TABLE|DROP (TABLE|VIEW) IF EXISTS|CREATE OR REPLACE VIEW|INSERT INTO \w+ \([\w, ]+\)\s+SETTINGS insert_deduplication_token = '\d{4} [^']+',) `, s, "%s can be run twice", m.Name)
			if token := fillToken.FindString(s); token != "" {
				assert.Contains(t, token, "'"+m.Name[:4]+" ", "%s: tokens bear the number", m.Name)
				assert.False(t, seen[token], "%s: %s is there twice", m.Name, token)
				seen[token] = true
			}
			assert.NotRegexp(t, `(?s)^CREATE (OR REPLACE )?VIEW [^(]*COMMENT '.*'\s+AS\s`, s, "%s: ClickHouse 25 takes no COMMENT before AS", m.Name)
			assert.NotRegexp(t, `Delta, T64`, s, "%s: ClickHouse 25 refuses the chain", m.Name)
			assert.NotRegexp(t, `(?i)on cluster|= Replicated`, s, "%s: what a cluster needs is added in one place", m.Name)
		}
	}
}

func TestMigrationsInRefusesWrongNumbers(t *testing.T) {
	file := &fstest.MapFile{Data: []byte("SELECT 1;\r\nSELECT 2")}
	for _, names := range [][]string{{"0002_a.sql"}, {"0001_a.sql", "0001_b.sql"}, {"0001_a.sql", "0003_b.sql"}, {"1_a.sql"}, {"first.sql"}} {
		fsys := fstest.MapFS{}
		for _, n := range names {
			fsys["s/"+n] = file
		}
		_, err := MigrationsIn(fsys, "s")
		assert.Error(t, err, "%v", names)
	}
	unix, err := MigrationsIn(fstest.MapFS{"s/0001_a.sql": {Data: []byte("SELECT 1;\nSELECT 2")}}, "s")
	require.NoError(t, err)
	dos, err := MigrationsIn(fstest.MapFS{"s/0001_a.sql": file, "s/README.md": file}, "s")
	require.NoError(t, err)
	assert.Equal(t, unix, dos, "line ends do not matter")
	_, err = MigrationsIn(fstest.MapFS{}, "s")
	require.Error(t, err)
}

func TestQuestions(t *testing.T) {
	questions, err := Questions()
	require.NoError(t, err)
	names := map[string]bool{}
	for _, q := range questions {
		for _, v := range q.Views() {
			assert.False(t, names[v.Name], "%s is there twice", v.Name)
			names[v.Name] = true
			assert.Equal(t, v.HasAt, strings.Contains(v.Body, "{at:"))
		}
		assert.NotContains(t, q.Comment, "Parameter at", "%s takes none", q.Name)
		assert.Equal(t, q.HasAt(), strings.Contains(q.Comment, "Parameter of "+q.Name+"_at alone, not of "+q.Name+": at String: "), q.Name)
		assert.NotContains(t, q.Comment, "if left out", "no parameter of a view can be")
	}
	assert.True(t, names["sources"] && names["sources_at"])
}

func TestParseQuestion(t *testing.T) {
	const good = "-- How many?\n-- Parameter n UInt32: how far\n-- Parameter at String: when; now if left out\n-- Exactness: exact.\n-- Example: SELECT * FROM q(n = 1)\nSELECT {n:UInt32} WHERE " + atExpression + " > 0;\n"
	q, err := parseQuestion("q", good)
	require.NoError(t, err)
	assert.Equal(t, "How many?", q.Title)
	assert.Equal(t, "SELECT * FROM q(n = 1)", q.Example)
	assert.Equal(t, "How many?\nParameter n UInt32: how far\nParameter of q_at alone, not of q: at String: when; q is for now\nExactness: exact.\nExample: SELECT * FROM q(n = 1)", q.Comment)
	assert.Equal(t, []Param{{Name: "n", Type: "UInt32", Comment: "how far"}, {Name: "at", Type: "String", Comment: "when; now if left out", Optional: true}}, q.Params)
	assert.Equal(t, []View{
		{Name: "q", Body: "SELECT {n:UInt32} WHERE " + atNow + " > 0"},
		{Name: "q_at", Body: "SELECT {n:UInt32} WHERE " + atExpression + " > 0", HasAt: true},
	}, q.Views())
	for what, bad := range map[string]string{
		"no comment":         "SELECT 1",
		"no statement":       "-- What?\n",
		"two statements":     "-- What?\nSELECT 1; SELECT 2",
		"undeclared":         "-- What?\nSELECT {n:UInt8}",
		"unused":             "-- What?\n-- Parameter n UInt8: x\nSELECT 1",
		"other type":         "-- What?\n-- Parameter n UInt8: x\nSELECT {n:UInt16}",
		"two types":          "-- What?\n-- Parameter n UInt8: x\nSELECT {n:UInt8} + {n:UInt16}",
		"time in other form": "-- What?\n-- Parameter at String: x\nSELECT toDateTime({at:String})",
	} {
		_, err := parseQuestion("q", bad)
		assert.Error(t, err, what)
	}
}

// Words are what the statement says, without space and comments, each where it stands.
func TestWords(t *testing.T) {
	text := "ALTER TABLE `a b` -- why\n ADD COLUMN x String DEFAULT 'it''s; (so)' /* , */, b.c"
	var got []string
	for _, w := range Words(text) {
		require.Equal(t, w.Text, text[w.Start:w.End])
		got = append(got, w.Text)
	}
	require.Equal(t, []string{"ALTER", "TABLE", "`a b`", "ADD", "COLUMN", "x", "String", "DEFAULT", "'it''s; (so)'", ",", "b", ".", "c"}, got)
	require.Empty(t, Words(" -- nothing"))
}
