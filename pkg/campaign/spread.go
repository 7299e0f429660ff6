package campaign

import (
	"context"
	"fmt"
	"strings"

	"murmuration/pkg/store"
)

// SpreadOf says in a sentence how far a campaign's sources are spread over networks and, as far as context files tell, over
// autonomous systems and countries, and which of them are scanners known to mean no harm. It is empty for a campaign that no finished run saw.
func SpreadOf(ctx context.Context, st *store.Store, campaign string) (string, error) {
	s, found, err := st.CampaignSpread(ctx, campaign)
	if err != nil || !found {
		return "", err //nolint:wrapcheck // It says what it did.
	}
	return spreadText(&s), nil
}

func spreadText(s *store.Spread) string {
	parts := []string{fmt.Sprintf("Its %d sources are in %d networks (/24 or /48), median %d and at most %d in one", s.Sources, s.Networks, s.MedianNetwork, s.LargestNetwork)}
	if s.ASNKnown > 0 {
		parts = append(parts, fmt.Sprintf("%d of them in %d known autonomous systems, %d in AS%d %s", s.ASNKnown, s.ASNs, s.TopASNSources, s.TopASN, s.TopASName))
	}
	if s.CountryKnown > 0 {
		parts = append(parts, fmt.Sprintf("%d of them in %d known countries, %d in %s", s.CountryKnown, s.Countries, s.TopCountrySources, s.TopCountry))
	}
	if s.Benign > 0 {
		parts = append(parts, fmt.Sprintf("%d of them (%.0f %%) are known benign scanners: %s", s.Benign, 100*float64(s.Benign)/float64(s.Sources), strings.Join(s.Scanners, ", ")))
	}
	return strings.Join(parts, "; ") + "."
}

// LooksFor says in a sentence what most sources of a campaign look for: ports and, of those that made requests, forms of paths, with what
// these usually mean. It is empty for a campaign that no finished run saw.
func LooksFor(ctx context.Context, st *store.Store, campaign string) (string, error) {
	const most = 3 // ports, and paths
	targets, err := st.CampaignTargets(ctx, campaign, most)
	if err != nil || len(targets) == 0 {
		return "", err //nolint:wrapcheck // It says what it did.
	}
	var parts []string
	for _, t := range targets {
		part := strings.TrimSpace(t.Method + " " + t.Name)
		if t.Service != "" {
			part += " (" + t.Service + ": " + t.LookingFor + ")"
		}
		parts = append(parts, part)
	}
	return "It looks for " + strings.Join(parts, "; ") + ".", nil
}
