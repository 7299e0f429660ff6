package store

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The spread of a campaign is that of its members in the latest run that saw it, and of nobody else.
func TestSpreadOfACampaign(t *testing.T) {
	s := open(t)
	for _, statement := range []string{
		"INSERT INTO campaign_runs_log (run, status) VALUES ('r1', 'done'), ('r2', 'done'), ('r3', 'failed')",
		"INSERT INTO campaigns_log (run, campaign) VALUES ('r1', 'c-1'), ('r2', 'c-1'), ('r3', 'c-1'), ('r2', 'c-2')",
		`INSERT INTO campaign_sources_log (run, campaign, src) VALUES
			('r1', 'c-1', '::ffff:203.0.113.9'), ('r3', 'c-1', '::ffff:203.0.113.10'), ('r2', 'c-2', '::ffff:198.51.100.200'),
			('r2', 'c-1', '::ffff:198.51.100.1'), ('r2', 'c-1', '::ffff:198.51.100.255'), ('r2', 'c-1', '::ffff:198.51.101.0'),
			('r2', 'c-1', '2001:db8:1::1'), ('r2', 'c-1', '2001:db8:1:ffff::2'), ('r2', 'c-1', '2001:db8:1::3'), ('r2', 'c-1', '2001:db8:2::1')`,
	} {
		require.NoError(t, s.ddl(t.Context(), statement))
	}
	assert.Equal(t, "2001:db8:1::/48\t3\n198.51.100.0/24\t2\n198.51.101.0/24\t1\n2001:db8:2::/48\t1\n",
		table(t, s, "SELECT network, sources FROM campaign_networks(campaign = 'c-1')"))
	assert.Equal(t, "1\n", table(t, s, "SELECT round(sum(share), 9) FROM campaign_networks(campaign = 'c-1')"))
	spread, found, err := s.CampaignSpread(t.Context(), "c-1")
	require.NoError(t, err)
	require.True(t, found)
	assert.Equal(t, Spread{Sources: 7, Networks: 4, MedianNetwork: 1, LargestNetwork: 3}, Spread{
		Sources: spread.Sources, Networks: spread.Networks, MedianNetwork: spread.MedianNetwork, LargestNetwork: spread.LargestNetwork,
	})
	_, found, err = s.CampaignSpread(t.Context(), "c-3")
	require.NoError(t, err)
	assert.False(t, found)
}
