package capture

import (
	"encoding/csv"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"murmuration/pkg/event"
)

// samples returns a path in the sample captures that lie beside the repository. Where they are missing
// the test is skipped, except in CI, which has them.
func samples(t testing.TB, parts ...string) string {
	t.Helper()
	dir, err := os.Getwd()
	require.NoError(t, err)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		up := filepath.Dir(dir)
		require.NotEqual(t, up, dir, "no go.mod above the test")
		dir = up
	}
	path := filepath.Join(append([]string{filepath.Dir(dir), "shared", "data", "real-scanners"}, parts...)...)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("the sample captures must be there in CI: %v", err)
		}
		t.Skipf("no sample captures beside the repository: %v", err)
	}
	return path
}

// row is one line of a CSV file by column names.
type row map[string]string

func (r row) int(t testing.TB, column string) int {
	t.Helper()
	n, err := strconv.Atoi(r[column])
	require.NoError(t, err, column)
	return n
}

func readCSV(t testing.TB, path string) []row {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	lines, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	rows := make([]row, 0, len(lines)-1)
	for _, line := range lines[1:] {
		r := row{}
		for i, name := range lines[0] {
			r[name] = line[i]
		}
		rows = append(rows, r)
	}
	return rows
}

// read decodes everything in r. The batch holds what was read before an error.
func read(r io.Reader, opt Options) (*event.Batch, *Reader, error) {
	b := new(event.Batch)
	rd, err := NewReader(r, "input", opt)
	if err != nil {
		return b, nil, err
	}
	defer rd.Close()
	for err == nil {
		err = rd.Next(b)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b, rd, err
}

func readFile(t testing.TB, path string, opt Options) (*event.Batch, *Reader) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	b, rd, err := read(f, opt)
	require.NoError(t, err)
	return b, rd
}
