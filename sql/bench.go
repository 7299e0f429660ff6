package sql

import (
	"embed"
	"fmt"
	"regexp"
	"strings"
)

//go:embed bench/*.sql bench/questions/*.sql
var benchFiles embed.FS

// Standard is a standard question of the benchmark: a named question with its parameters, and the query on the events that says
// the same without any rollup.
type Standard struct {
	Name     string            // of the file without .sql
	Question string            // a named question
	Params   map[string]string // its parameters but those of the time: hours, days and at
	Raw      string            // on `events`, with the parameters since, until and those of the question
}

// BenchTraffic returns the statement that inserts a chunk of generated traffic; the comment of bench/traffic.sql says what it takes.
func BenchTraffic() (string, error) {
	text, err := read(benchFiles, "bench", "traffic.sql")
	if err != nil {
		return "", err
	}
	statements := Split(text)
	if len(statements) != 1 {
		return "", fmt.Errorf("bench/traffic.sql: %d statements, want one", len(statements))
	}
	return statements[0], nil
}

// askLine is the line of a standard question that says what it is held against: "-- Ask: sources port=80 method=".
var askLine = regexp.MustCompile(`(?m)^-- Ask: (\w+)((?: \w+=\S*)*)$`)

// Standards returns the standard questions of the benchmark, sorted by name.
func Standards() ([]Standard, error) {
	names, err := sqlFiles(benchFiles, "bench/questions")
	if err != nil {
		return nil, err
	}
	out := make([]Standard, 0, len(names))
	for _, name := range names {
		text, err := read(benchFiles, "bench/questions", name)
		if err != nil {
			return nil, err
		}
		ask, statements := askLine.FindStringSubmatch(text), Split(text)
		if ask == nil || len(statements) != 1 {
			return nil, fmt.Errorf("bench/questions/%s: want one statement and a line \"-- Ask: QUESTION PARAMETER=VALUE…\"", name)
		}
		s := Standard{Name: strings.TrimSuffix(name, ".sql"), Question: ask[1], Params: map[string]string{}, Raw: statements[0]}
		for _, pair := range strings.Fields(ask[2]) {
			k, v, _ := strings.Cut(pair, "=")
			s.Params[k] = v
		}
		out = append(out, s)
	}
	return out, nil
}
