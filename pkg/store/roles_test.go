package store

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/sql"
)

// The roles are statements that ClickHouse understands, and grant nothing beyond the database but a look at what runs. The
// embedded engine cannot make roles, so that is what can be said here.
func TestRolesAreUnderstood(t *testing.T) {
	s := open(t)
	roles, err := sql.Roles()
	require.NoError(t, err)
	require.NotEmpty(t, roles)
	on := regexp.MustCompile(` ON (\S+) TO `)
	for _, statement := range roles {
		assert.NotEmpty(t, table(t, s, "SELECT formatQuery({q:String})", "q", statement))
		if m := on.FindStringSubmatch(statement); m != nil {
			assert.Contains(t, []string{"*", "system.processes", "system.backups", "system.parts", "system.clusters"}, m[1])
		}
	}
}
