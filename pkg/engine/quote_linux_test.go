package engine

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is quoted of a log is its reasons, not the stack below them.
func TestLastLinesLeaveStacksOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "engine.err.log")
	require.NoError(t, os.WriteFile(path, []byte(`Logging errors to somewhere
2026.11.25 02:16:10 [ 1 ] {} <Warning> Pool: something harmless
2026.11.25 02:16:14 [ 1 ] {} <Error> TCPHandler: Code: 243. DB::Exception: Cannot reserve 1.00 MiB, Stack trace:

20. ? @ 0x000000001c92c63f
21. DB::TCPHandler::run() @ 0x000000001c92ab0f
22. start_thread @ 0x00000000000891f5
 (version 26.7.2.1)
rip    0x7f501a597932 | rflags 0x10206 | cs     0x33
`), 0o600))
	assert.Equal(t, "2026.11.25 02:16:10 [ 1 ] {} <Warning> Pool: something harmless | "+
		"2026.11.25 02:16:14 [ 1 ] {} <Error> TCPHandler: Code: 243. DB::Exception: Cannot reserve 1.00 MiB, Stack trace:", lastLines(5, time.Time{}, path))
	require.Empty(t, lastLines(5, time.Now().Add(time.Hour), path), "an engine of before wrote it")
}
