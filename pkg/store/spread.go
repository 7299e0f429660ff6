package store

import (
	"context"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Spread is how far the sources of a campaign are spread over networks, autonomous systems and countries: the question
// campaign_spread. What no context file tells is 0 or empty.
type Spread struct {
	Sources, Networks             uint64 // networks are /24 for IPv4 and /48 for IPv6
	MedianNetwork, LargestNetwork uint64 // sources in one network
	ASNKnown, ASNs                uint64 // sources whose system is known, and how many systems these are
	TopASN                        uint32
	TopASName                     string
	TopASNSources                 uint64
	CountryKnown, Countries       uint64
	TopCountry                    string
	TopCountrySources             uint64
	Benign                        uint64   // sources that are scanners known to mean no harm
	Scanners                      []string // names of these
}

// CampaignSpread returns the spread of a campaign's members, as the latest run that saw it has them; false if there is no
// such campaign.
func (s *Store) CampaignSpread(ctx context.Context, campaign string) (x Spread, found bool, err error) {
	err = s.retry(ctx, "ask for the spread of a campaign", func() error {
		found = false
		rows, err := s.conn.Query(ctx, `SELECT sources, networks, median_network, largest_network, asn_known, asns, top_asn, top_as_name, top_asn_sources,
				country_known, countries, top_country, top_country_sources, benign, scanners
			FROM campaign_spread(campaign = {campaign:String})`, clickhouse.Named("campaign", campaign))
		if err != nil {
			return err //nolint:wrapcheck // retry wraps it.
		}
		defer rows.Close() //nolint:errcheck // rows.Err tells.
		for rows.Next() {
			found = true
			if err := rows.Scan(&x.Sources, &x.Networks, &x.MedianNetwork, &x.LargestNetwork, &x.ASNKnown, &x.ASNs, &x.TopASN, &x.TopASName, &x.TopASNSources,
				&x.CountryKnown, &x.Countries, &x.TopCountry, &x.TopCountrySources, &x.Benign, &x.Scanners); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
		}
		return rows.Err() //nolint:wrapcheck // retry wraps it.
	})
	return x, found, err
}

// CampaignTarget is something that a campaign looks for: a row of the question campaign_targets.
type CampaignTarget struct {
	What       string // "port" or "path"
	Name       string // "80", "5060/udp"; form of a path
	Method     string // HTTP method of a path
	Sources    uint64
	Service    string // what it is usually asked for; empty is not known
	LookingFor string
}

// CampaignTargets returns what most sources of a campaign look for: at most n ports and n paths, in this order, most sources first.
func (s *Store) CampaignTargets(ctx context.Context, campaign string, n int) (out []CampaignTarget, err error) {
	err = s.retry(ctx, "ask for the targets of a campaign", func() error {
		out = nil
		rows, err := s.conn.Query(ctx, `SELECT what, name, method, sources, service, looking_for FROM campaign_targets(campaign = {campaign:String})
			ORDER BY what DESC, sources DESC, events DESC, name, method LIMIT {n:UInt32} BY what`, clickhouse.Named("campaign", campaign), clickhouse.Named("n", fmt.Sprint(n)))
		if err != nil {
			return err //nolint:wrapcheck // retry wraps it.
		}
		defer rows.Close() //nolint:errcheck // rows.Err tells.
		for rows.Next() {
			var t CampaignTarget
			if err := rows.Scan(&t.What, &t.Name, &t.Method, &t.Sources, &t.Service, &t.LookingFor); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			out = append(out, t)
		}
		return rows.Err() //nolint:wrapcheck // retry wraps it.
	})
	return out, err
}
