package deploy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/stretchr/testify/require"
)

// There is no docker here to run the file, so compose's own loader reads it: it checks the schema, the
// references and the variables, and every file that is mounted must be in the repository.
func TestComposeFileLoads(t *testing.T) {
	for _, tc := range []struct {
		name, password, wants string
	}{
		{"with a password", "secret", ""},
		{"without", "", "put CLICKHOUSE_PASSWORD into .env"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			options, err := cli.NewProjectOptions([]string{filepath.Join("..", "docker-compose.yml")},
				cli.WithEnv([]string{"CLICKHOUSE_PASSWORD=" + tc.password}), cli.WithProfiles([]string{"tools"}))
			require.NoError(t, err)
			project, err := options.LoadProject(t.Context())
			if tc.wants != "" {
				require.ErrorContains(t, err, tc.wants)
				return
			}
			require.NoError(t, err)
			for _, name := range []string{"clickhouse", "loader", "detect"} {
				s, err := project.GetService(name)
				require.NoError(t, err)
				for _, v := range s.Volumes {
					if v.Type == "bind" && strings.Contains(v.Source, "deploy") {
						_, err := os.Stat(v.Source)
						require.NoError(t, err, "service %s mounts a file that is not there", name)
					}
				}
				if s.Build != nil {
					_, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile))
					require.NoError(t, err)
				}
				for _, p := range s.Ports {
					require.Equal(t, "127.0.0.1", p.HostIP, "service %s publishes port %s beyond loopback", name, p.Published)
				}
			}
			detect, err := project.GetService("detect")
			require.NoError(t, err)
			require.Equal(t, []string{"detect", "--every", "1h", "--window", "90d", "--metrics", "0.0.0.0:9187"}, []string(detect.Command))
			require.Len(t, detect.Ports, 1)
			require.EqualValues(t, 9187, detect.Ports[0].Target)
			require.Empty(t, *detect.Environment["MURMURATION_NOTIFY"], "no webhook unless .env names one")
			require.Empty(t, detect.Profiles, "it starts with the server")
			require.Contains(t, detect.DependsOn, "clickhouse")
		})
	}
}
