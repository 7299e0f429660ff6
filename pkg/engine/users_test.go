package engine_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/engine"
	"murmuration/pkg/engine/enginetest"
)

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

func readerPassword(t *testing.T, ep engine.Endpoint) string {
	t.Helper()
	b, err := os.ReadFile(ep.ReaderPasswordFile)
	require.NoError(t, err)
	return strings.TrimSpace(string(b))
}

func TestWhatUsersMay(t *testing.T) {
	ep, db := enginetest.Endpoint(t), enginetest.Database(t)
	userFiles := filepath.Join(enginetest.Engine(t).Dir(), "user_files")
	require.NoError(t, os.WriteFile(filepath.Join(userFiles, db+".csv"), []byte("\"10.0.0.0/8\",\"net ten\"\n"), 0o600))
	passwords := map[string]string{engine.OwnerUser: ep.Password, engine.ReaderUser: readerPassword(t, ep), "default": ""}
	const denied, readonly, constraint, path, backupPath, quota = "code: 497", "code: 164", "code: 452", "code: 481", "code: 36", "code: 201"
	for _, c := range []struct{ user, query, refused string }{
		// The owner does everything the project needs …
		{engine.OwnerUser, "CREATE TABLE DB.t (a UInt64, s String) ENGINE = MergeTree ORDER BY a", ""},
		{engine.OwnerUser, "CREATE TABLE DB.r (a UInt64, n AggregateFunction(uniq, UInt64)) ENGINE = AggregatingMergeTree ORDER BY a", ""},
		{engine.OwnerUser, "CREATE MATERIALIZED VIEW DB.feed TO DB.r AS SELECT a, uniqState(a) AS n FROM DB.t GROUP BY a", ""},
		{engine.OwnerUser, "CREATE VIEW DB.v AS SELECT a, uniqMerge(n) AS n FROM DB.r GROUP BY a", ""},
		{engine.OwnerUser, "CREATE VIEW DB.p AS SELECT count() AS n FROM DB.t WHERE a >= {least:UInt64}", ""},
		{engine.OwnerUser, "INSERT INTO DB.t SELECT number, 'x' FROM numbers(10)", ""},
		{engine.OwnerUser, "ALTER TABLE DB.t ADD COLUMN b UInt8 DEFAULT 7", ""},
		{engine.OwnerUser, "ALTER TABLE DB.t MODIFY TTL toDateTime(a) + INTERVAL 200 YEAR", ""},
		{engine.OwnerUser, "ALTER TABLE DB.t DELETE WHERE a = 9 SETTINGS mutations_sync = 2", ""},
		{engine.OwnerUser, "OPTIMIZE TABLE DB.t FINAL", ""},
		{engine.OwnerUser, "CREATE FUNCTION DB_f AS x -> x + 1", ""},
		{engine.OwnerUser, "SELECT DB_f(1)", ""},
		{engine.OwnerUser, "DROP FUNCTION DB_f", ""},
		{engine.OwnerUser, "CREATE DICTIONARY DB.d (prefix String, name String) PRIMARY KEY prefix SOURCE(FILE(path 'FILES/DB.csv' format 'CSV')) LAYOUT(IP_TRIE) LIFETIME(0)", ""},
		{engine.OwnerUser, "SYSTEM RELOAD DICTIONARY DB.d", ""},
		{engine.OwnerUser, "SELECT throwIf(dictGet('DB.d', 'name', tuple(toIPv4('10.1.2.3'))) != 'net ten')", ""},
		{engine.OwnerUser, "SYSTEM FLUSH LOGS", ""},
		{engine.OwnerUser, "KILL QUERY WHERE query_id = 'none'", ""},
		{engine.OwnerUser, "BACKUP TABLE DB.t TO File('DB')", ""},
		{engine.OwnerUser, "RESTORE TABLE DB.t AS DB.t2 FROM File('DB')", ""},
		{engine.OwnerUser, "SELECT count() FROM system.query_log", ""},
		{engine.OwnerUser, "SELECT count() FROM system.part_log", ""},
		// … and reads nothing outside.
		{engine.OwnerUser, "SELECT * FROM file('/etc/passwd', 'LineAsString')", denied},
		{engine.OwnerUser, "INSERT INTO FUNCTION file('FILES/out.csv', 'CSV', 'a UInt8') SELECT 1", denied},
		{engine.OwnerUser, "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')", denied},
		{engine.OwnerUser, "SELECT * FROM s3('http://127.0.0.1:1/bucket/key', 'LineAsString')", denied},
		{engine.OwnerUser, "SELECT * FROM remote('127.0.0.1:1', system.one)", denied},
		{engine.OwnerUser, "SELECT * FROM executable('id', 'TSV', 'a String')", "does not exist inside user scripts folder"},
		{engine.OwnerUser, "CREATE TABLE DB.f (l String) ENGINE = File(LineAsString, '/etc/passwd')", denied},
		{engine.OwnerUser, "CREATE TABLE DB.u (l String) ENGINE = URL('http://127.0.0.1:1/', 'LineAsString')", denied},
		{engine.OwnerUser, "CREATE TABLE DB.x (l String) ENGINE = Executable('id', 'TSV')", denied},
		{engine.OwnerUser, "CREATE USER u", denied},
		{engine.OwnerUser, "GRANT SELECT ON *.* TO reader", denied},
		{engine.OwnerUser, "SYSTEM SHUTDOWN", denied},
		{engine.OwnerUser, "CREATE DICTIONARY DB.o (k String, v String) PRIMARY KEY k SOURCE(FILE(path '/etc/passwd' format 'CSV')) LAYOUT(COMPLEX_KEY_HASHED) LIFETIME(0)", ""},
		{engine.OwnerUser, "SYSTEM RELOAD DICTIONARY DB.o", path},
		{engine.OwnerUser, "BACKUP TABLE DB.t TO File('/etc/murmuration-backup')", backupPath},
		// The reader reads.
		{engine.ReaderUser, "SELECT throwIf(sum(a) != 36) FROM DB.t", ""},
		{engine.ReaderUser, "SELECT * FROM DB.v", ""},
		{engine.ReaderUser, "SELECT throwIf(n != 4) FROM DB.p(least = 5)", ""},
		{engine.ReaderUser, "SELECT dictGet('DB.d', 'name', tuple(toIPv4('10.1.2.3')))", ""},
		{engine.ReaderUser, "SELECT count() FROM numbers(10)", ""},
		{engine.ReaderUser, "SHOW TABLES FROM DB", ""},
		{engine.ReaderUser, "SHOW CREATE TABLE DB.t", ""},
		{engine.ReaderUser, "SELECT 1 SETTINGS max_threads = 1", ""},
		{engine.ReaderUser, "INSERT INTO DB.t (a) VALUES (1)", denied},
		{engine.ReaderUser, "CREATE TABLE DB.n (a UInt64) ENGINE = Memory", denied},
		{engine.ReaderUser, "CREATE DICTIONARY DB.e (k UInt64) PRIMARY KEY k SOURCE(EXECUTABLE(command 'id' format 'TSV')) LAYOUT(FLAT) LIFETIME(0)", denied},
		{engine.ReaderUser, "ALTER TABLE DB.t DELETE WHERE 1", denied},
		{engine.ReaderUser, "TRUNCATE TABLE DB.t", denied},
		{engine.ReaderUser, "DROP TABLE DB.t", denied},
		{engine.ReaderUser, "SYSTEM FLUSH LOGS", denied},
		{engine.ReaderUser, "BACKUP TABLE DB.t TO File('reader')", denied},
		{engine.ReaderUser, "SELECT * FROM file('/etc/passwd', 'LineAsString')", denied},
		{engine.ReaderUser, "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')", denied},
		{engine.ReaderUser, "SELECT 1 SETTINGS readonly = 0", readonly},
		{engine.ReaderUser, "SELECT 1 SETTINGS max_memory_usage = 0", constraint},
		{engine.ReaderUser, "SELECT 1 SETTINGS max_execution_time = 0", constraint},
		{engine.ReaderUser, "SELECT 1 SETTINGS max_execution_time = 86400", constraint},
		// The library's own user can do nothing with the data; what changes anything is beyond its quota before its grants are asked.
		{"default", "SELECT * FROM DB.t", denied},
		{"default", "SELECT * FROM system.processes", denied},
		{"default", "SELECT * FROM file('/etc/passwd', 'LineAsString')", denied},
		{"default", "INSERT INTO DB.t (a) VALUES (1)", quota},
		{"default", "CREATE DATABASE DB_2", quota},
		{"default", "SYSTEM SHUTDOWN", quota},
		// Nor can it make the engine deaf, though the privilege to open listeners is that to close them.
		{"default", "SYSTEM STOP LISTEN HTTP", quota},
		{"default", "SYSTEM STOP LISTEN TCP", quota},
	} {
		query := strings.NewReplacer("DB", db, "FILES", userFiles).Replace(c.query)
		err := connect(t, ep, c.user, passwords[c.user]).Exec(t.Context(), query)
		if c.refused == "" {
			assert.NoErrorf(t, err, "%s: %s", c.user, query)
		} else {
			assert.ErrorContainsf(t, err, c.refused, "%s: %s", c.user, query)
		}
	}
}

func TestPasswordsAreAsked(t *testing.T) {
	ep := enginetest.Endpoint(t)
	for _, user := range []string{engine.OwnerUser, engine.ReaderUser} {
		for _, password := range []string{"", "wrong", ep.Password[1:]} {
			assert.ErrorContains(t, connect(t, ep, user, password).Ping(t.Context()), "code: 516", "%s with %q", user, password)
		}
	}
	assert.NotEqual(t, ep.Password, readerPassword(t, ep))
	assert.ErrorContains(t, connect(t, ep, engine.ReaderUser, ep.Password).Ping(t.Context()), "code: 516")
	assert.NoError(t, connect(t, ep, engine.ReaderUser, readerPassword(t, ep)).Ping(t.Context()))
}

// The engine may listen on 127.0.0.1 and nowhere else, on the two ports it tells and on no other.
func TestListensOnLoopbackOnly(t *testing.T) {
	e := enginetest.Engine(t)
	sockets := map[string]bool{}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", e.Pid()))
	require.NoError(t, err)
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && strings.HasPrefix(target, "socket:[") {
			sockets[strings.Trim(target, "socket:[]")] = true
		}
	}
	require.NotEmpty(t, sockets)
	var listening []string
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", e.Pid(), table))
		require.NoError(t, err)
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			col := strings.Fields(s.Text())
			const listen = "0A"
			if len(col) < 10 || !sockets[col[9]] || strings.HasPrefix(table, "tcp") && col[3] != listen {
				continue
			}
			addr, port, _ := strings.Cut(col[1], ":")
			n, err := strconv.ParseUint(port, 16, 16)
			require.NoError(t, err)
			assert.Equal(t, "tcp", table)
			assert.Equal(t, "0100007F", addr, "127.0.0.1 as the kernel writes it")
			listening = append(listening, fmt.Sprintf("127.0.0.1:%d", n))
		}
	}
	assert.ElementsMatch(t, []string{e.Endpoint().TCPAddr, e.Endpoint().HTTPAddr}, listening)
}
