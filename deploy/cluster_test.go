package deploy_test

import (
	"encoding/xml"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"murmuration/pkg/store"
)

// host is a server in a configuration file.
type host struct {
	Host string `xml:"host"`
	Port string `xml:"port"`
}

func (h host) String() string { return net.JoinHostPort(h.Host, h.Port) }

// fromEnv is an element whose text is a variable of the environment.
type fromEnv struct {
	Name string `xml:"from_env,attr"`
}

// serverConfig is deploy/cluster/clickhouse.xml.
type serverConfig struct {
	XMLName xml.Name `xml:"clickhouse"`
	Servers struct {
		Clusters []struct {
			XMLName xml.Name
			Secret  fromEnv `xml:"secret"`
			Shards  []struct {
				Internal bool   `xml:"internal_replication"`
				Replicas []host `xml:"replica"`
			} `xml:"shard"`
		} `xml:",any"`
	} `xml:"remote_servers"`
	Keepers []host  `xml:"zookeeper>node"`
	DDL     string  `xml:"distributed_ddl>path"`
	Shard   fromEnv `xml:"macros>shard"`
	Replica fromEnv `xml:"macros>replica"`
	Inter   fromEnv `xml:"interserver_http_host"`
}

// keeperConfig is deploy/cluster/keeper.xml.
type keeperConfig struct {
	XMLName xml.Name `xml:"clickhouse"`
	Port    string   `xml:"keeper_server>tcp_port"`
	ID      fromEnv  `xml:"keeper_server>server_id"`
	Raft    []struct {
		ID       string `xml:"id"`
		Hostname string `xml:"hostname"`
		Port     string `xml:"port"`
	} `xml:"keeper_server>raft_configuration>server"`
}

func readXML(t *testing.T, name string, to any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("cluster", name))
	require.NoError(t, err)
	require.NoError(t, xml.Unmarshal(text, to), name)
}

func clusterProject(t *testing.T, env ...string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join("..", "docker-compose.cluster.yml")}, cli.WithEnv(env), cli.WithProfiles([]string{"tools"}))
	require.NoError(t, err)
	return options.LoadProject(t.Context())
}

// There is no docker here to run the cluster either: compose's loader reads the file, and the files of the servers must speak of the
// same machines.
func TestClusterComposeFile(t *testing.T) {
	_, err := clusterProject(t, "CLUSTER_SECRET=x")
	require.ErrorContains(t, err, "put CLICKHOUSE_PASSWORD into .env")
	_, err = clusterProject(t, "CLICKHOUSE_PASSWORD=secret")
	require.ErrorContains(t, err, "put CLUSTER_SECRET into .env")
	project, err := clusterProject(t, "CLICKHOUSE_PASSWORD=secret", "CLUSTER_SECRET=x")
	require.NoError(t, err)

	var servers serverConfig
	readXML(t, "clickhouse.xml", &servers)
	require.Len(t, servers.Servers.Clusters, 1)
	cluster := servers.Servers.Clusters[0]
	require.Len(t, cluster.Shards, 2)
	assert.NotEmpty(t, servers.DDL)
	var nodes []string
	for i, shard := range cluster.Shards {
		require.Len(t, shard.Replicas, 2)
		assert.True(t, shard.Internal, "replicated tables are written to one replica")
		for j, replica := range shard.Replicas {
			nodes = append(nodes, replica.String())
			node(t, project, servers, replica, string(rune('1'+i)), string(rune('1'+j)))
			assert.NotEmpty(t, value(t, project, replica.Host, cluster.Secret.Name))
		}
	}
	keepers(t, project, servers)

	// The loader and detection know every node, and the cluster by its name.
	for _, name := range []string{"loader", "detect"} {
		o, err := store.ParseDSN(value(t, project, name, "MURMURATION_DSN"))
		require.NoError(t, err)
		assert.ElementsMatch(t, nodes, o.Addr)
		assert.Equal(t, cluster.XMLName.Local, value(t, project, name, "MURMURATION_CLUSTER"))
		assert.Len(t, project.Services[name].DependsOn, len(nodes))
	}
	assert.Len(t, project.Services, len(nodes)+len(servers.Keepers)+2, "nothing else runs")
	for name, s := range project.Services {
		for _, p := range s.Ports {
			assert.Equal(t, "127.0.0.1", p.HostIP, "service %s publishes port %s beyond loopback", name, p.Published)
		}
		for _, v := range s.Volumes {
			if v.Type == "bind" && strings.Contains(v.Source, "deploy") {
				_, err := os.Stat(v.Source)
				require.NoError(t, err, "service %s mounts a file that is not there", name)
			}
		}
	}
}

// node holds the service of a replica against what its configuration takes from the environment.
func node(t *testing.T, project *types.Project, servers serverConfig, replica host, shard, number string) {
	t.Helper()
	s, ok := project.Services[replica.Host]
	require.True(t, ok, "no service %s", replica.Host)
	assert.Equal(t, replica.Host, s.Hostname)
	assert.Equal(t, "9000", replica.Port)
	assert.Equal(t, shard, value(t, project, replica.Host, servers.Shard.Name))
	assert.Equal(t, number, value(t, project, replica.Host, servers.Replica.Name))
	assert.Equal(t, replica.Host, value(t, project, replica.Host, servers.Inter.Name))
	assert.True(t, slices.ContainsFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool {
		return strings.HasSuffix(v.Source, "deploy/cluster/clickhouse.xml") && strings.HasPrefix(v.Target, "/etc/clickhouse-server/config.d/")
	}), "%s does not mount the configuration", replica.Host)
	assert.True(t, slices.ContainsFunc(s.Volumes, func(v types.ServiceVolumeConfig) bool {
		return v.Source == replica.Host && v.Target == "/var/lib/clickhouse"
	}), "%s has no volume of its own", replica.Host)
}

func keepers(t *testing.T, project *types.Project, servers serverConfig) {
	t.Helper()
	var keeper keeperConfig
	readXML(t, "keeper.xml", &keeper)
	require.Len(t, keeper.Raft, 3)
	var addresses []string
	for _, r := range keeper.Raft {
		s, ok := project.Services[r.Hostname]
		require.True(t, ok, "no service %s", r.Hostname)
		assert.Equal(t, r.Hostname, s.Hostname)
		assert.Equal(t, r.ID, value(t, project, r.Hostname, keeper.ID.Name))
		addresses = append(addresses, net.JoinHostPort(r.Hostname, keeper.Port))
	}
	var known []string
	for _, k := range servers.Keepers {
		known = append(known, k.String())
	}
	assert.Equal(t, addresses, known)
}

// value is a variable of a service's environment.
func value(t *testing.T, project *types.Project, service, name string) string {
	t.Helper()
	v := project.Services[service].Environment[name]
	require.NotNil(t, v, "service %s has no %s", service, name)
	return *v
}
