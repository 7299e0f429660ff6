package store

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"murmuration/pkg/event"
)

// The states of a run.
const (
	RunRunning = "running"
	RunDone    = "done"
	RunFailed  = "failed"
)

// CampaignRun is one detection run.
type CampaignRun struct {
	Run        string // identifies the run; must sort by time, like "20260801T120000.000Z-1f"
	Started    time.Time
	Finished   time.Time // zero while it runs
	From, To   time.Time // the time looked at, To exclusive
	Seed       uint64
	Parameters string // JSON
	Sources    uint64 // read
	Cells      uint64 // read
	Groups     uint64 // tested
	Campaigns  uint64 // found
	Status     string // RunRunning, RunDone, RunFailed
	Error      string
	Version    string // of the detector
}

// Campaign is one campaign as one run saw it.
type Campaign struct {
	Run             string
	ID              string // the same over all runs
	First, Last     time.Time
	Sources         uint64
	Ports           []uint16
	Protos          []event.Proto
	Tool            string
	Coverage        float64 // 0 to 1
	OverlapRatio    float64
	ExpectedOverlap float64
	ObservedOverlap float64
	Evidence        float64 // -log10 P, corrected for the groups tested
	Pattern         string  // "parallel" or "rotating"
	Universe        uint64  // cells
	Targets         []netip.Prefix
	Networks        uint64 // distinct /24 or /48 of the members
	Summary         string
	State           string // "emerging", "active", "dormant", "ended"
}

// CampaignSource is one member of a campaign.
type CampaignSource struct {
	Run         string
	Campaign    string // Campaign.ID
	Src         event.IP
	Probability float64
	Cells       uint64
	First, Last time.Time
}

// PutRun writes the row of a run, for one that begins or fails. SaveRun ends one that succeeded.
func (s *Store) PutRun(ctx context.Context, r CampaignRun) error {
	return s.retry(ctx, "write the run", func() error {
		return s.insertRow(ctx, `INSERT INTO campaign_runs_log (run, started, finished, window_from, window_to, seed, parameters, sources, cells, groups, campaigns, status, error, version, updated)`,
			r.Run, orEpoch(r.Started), orEpoch(r.Finished), orEpoch(r.From), orEpoch(r.To), r.Seed, r.Parameters, r.Sources, r.Cells, r.Groups, r.Campaigns,
			r.Status, r.Error, r.Version, time.Now())
	})
}

// SaveRun writes the results of a run, and its own row, as done, last: readers see all of it or nothing. It may be
// called again after an error. Run fields of campaigns and sources are set from run.
func (s *Store) SaveRun(ctx context.Context, run CampaignRun, campaigns []Campaign, sources []CampaignSource) error {
	if err := s.insertRows(ctx, "write campaigns", `INSERT INTO campaigns_log (run, campaign, first_seen, last_seen, sources, ports, protos, tool, coverage, overlap_ratio,
		expected_overlap, observed_overlap, evidence, pattern, universe, targets, networks, summary, state)`, len(campaigns), func(b driver.Batch, i int) error {
		c := &campaigns[i]
		return b.Append(run.Run, c.ID, c.First, c.Last, c.Sources, c.Ports, names(c.Protos), c.Tool, c.Coverage, c.OverlapRatio, c.ExpectedOverlap, c.ObservedOverlap,
			c.Evidence, c.Pattern, c.Universe, names(c.Targets), c.Networks, c.Summary, c.State)
	}); err != nil {
		return err
	}
	if err := s.insertRows(ctx, "write members", `INSERT INTO campaign_sources_log (run, campaign, src, probability, cells, first_seen, last_seen)`,
		len(sources), func(b driver.Batch, i int) error {
			m := &sources[i]
			return b.Append(run.Run, m.Campaign, m.Src, m.Probability, m.Cells, m.First, m.Last)
		}); err != nil {
		return err
	}
	run.Status = RunDone
	return s.PutRun(ctx, run)
}

func names[T fmt.Stringer](values []T) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = v.String()
	}
	return out
}

// insertRows inserts n rows, in pieces that bound memory.
func (s *Store) insertRows(ctx context.Context, what, statement string, n int, add func(driver.Batch, int) error) error {
	const piece = 100_000
	for start := 0; start < n; start += piece {
		err := s.retry(ctx, what, func() error {
			return s.insertBatch(ledgerSettings(ctx), statement, func(batch driver.Batch) error {
				for i := start; i < min(n, start+piece); i++ {
					if err := add(batch, i); err != nil {
						return err
					}
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Runs returns every run, latest first.
func (s *Store) Runs(ctx context.Context) ([]CampaignRun, error) {
	var runs []CampaignRun
	err := s.retry(ctx, "read runs", func() error {
		runs = nil
		rows, err := s.conn.Query(ctx, `SELECT run, started, finished, window_from, window_to, seed, parameters, sources, cells, groups, campaigns, status, error, version
			FROM campaign_runs ORDER BY run DESC`)
		if err != nil {
			return err //nolint:wrapcheck // retry wraps it.
		}
		defer rows.Close() //nolint:errcheck // rows.Err tells.
		for rows.Next() {
			var r CampaignRun
			if err := rows.Scan(&r.Run, &r.Started, &r.Finished, &r.From, &r.To, &r.Seed, &r.Parameters, &r.Sources, &r.Cells, &r.Groups, &r.Campaigns,
				&r.Status, &r.Error, &r.Version); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			r.Started, r.Finished, r.From, r.To = fromEpoch(r.Started), fromEpoch(r.Finished), fromEpoch(r.From), fromEpoch(r.To)
			runs = append(runs, r)
		}
		return rows.Err() //nolint:wrapcheck // retry wraps it.
	})
	return runs, err
}

// LastRun returns the latest finished run, false if there is none.
func (s *Store) LastRun(ctx context.Context) (CampaignRun, bool, error) {
	runs, err := s.Runs(ctx)
	for _, r := range runs {
		if r.Status == RunDone {
			return r, true, err
		}
	}
	return CampaignRun{}, false, err
}

const ofRun = "run = if({run:String} = '', (SELECT max(run) FROM campaign_runs WHERE status = 'done'), {run:String})"

// Campaigns returns the campaigns of a finished run, or of the latest one if run is "", strongest
// evidence first.
func (s *Store) Campaigns(ctx context.Context, run string) ([]Campaign, error) {
	return s.campaigns(ctx, "WHERE "+ofRun+" ORDER BY evidence DESC, campaign", clickhouse.Named("run", run))
}

// CampaignSources returns the members of the campaigns of a finished run, or of the latest one if run is "", by
// campaign and address.
func (s *Store) CampaignSources(ctx context.Context, run string) ([]CampaignSource, error) {
	return s.campaignSources(ctx, "WHERE "+ofRun+" ORDER BY campaign, src", clickhouse.Named("run", run))
}

// KnownCampaigns returns every campaign that a finished run ever found, each with its members as the latest run
// that saw it described it, by campaign.
func (s *Store) KnownCampaigns(ctx context.Context) ([]Campaign, []CampaignSource, error) {
	campaigns, err := s.campaigns(ctx, "ORDER BY campaign, run DESC LIMIT 1 BY campaign")
	if err != nil {
		return nil, nil, err
	}
	sources, err := s.campaignSources(ctx, "WHERE (run, campaign) IN (SELECT max(run), campaign FROM campaigns GROUP BY campaign) ORDER BY campaign, src")
	return campaigns, sources, err
}

func (s *Store) campaigns(ctx context.Context, which string, args ...any) ([]Campaign, error) {
	var out []Campaign
	err := s.retry(ctx, "read campaigns", func() error {
		out = nil
		rows, err := s.conn.Query(ctx, `SELECT run, campaign, first_seen, last_seen, sources, ports, protos, tool, coverage, overlap_ratio, expected_overlap,
			observed_overlap, evidence, pattern, universe, targets, networks, summary, state FROM campaigns `+which, args...)
		if err != nil {
			return err //nolint:wrapcheck // retry wraps it.
		}
		defer rows.Close() //nolint:errcheck // rows.Err tells.
		for rows.Next() {
			var c Campaign
			var protos, targets []string
			if err := rows.Scan(&c.Run, &c.ID, &c.First, &c.Last, &c.Sources, &c.Ports, &protos, &c.Tool, &c.Coverage, &c.OverlapRatio, &c.ExpectedOverlap,
				&c.ObservedOverlap, &c.Evidence, &c.Pattern, &c.Universe, &targets, &c.Networks, &c.Summary, &c.State); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			if err := c.parse(protos, targets); err != nil {
				return err
			}
			out = append(out, c)
		}
		return rows.Err() //nolint:wrapcheck // retry wraps it.
	})
	return out, err
}

func (c *Campaign) parse(protos, targets []string) error {
	c.First, c.Last = fromEpoch(c.First), fromEpoch(c.Last)
	for _, name := range protos {
		p, err := event.ParseProto(name)
		if err != nil {
			return fmt.Errorf("campaign %s of run %s: %w", c.ID, c.Run, err)
		}
		c.Protos = append(c.Protos, p)
	}
	for _, text := range targets {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("campaign %s of run %s: %w", c.ID, c.Run, err)
		}
		c.Targets = append(c.Targets, p)
	}
	return nil
}

func (s *Store) campaignSources(ctx context.Context, which string, args ...any) ([]CampaignSource, error) {
	var out []CampaignSource
	err := s.retry(ctx, "read members", func() error {
		out = nil
		rows, err := s.conn.Query(ctx, "SELECT run, campaign, src, probability, cells, first_seen, last_seen FROM campaign_sources "+which, args...)
		if err != nil {
			return err //nolint:wrapcheck // retry wraps it.
		}
		defer rows.Close() //nolint:errcheck // rows.Err tells.
		for rows.Next() {
			var m CampaignSource
			if err := rows.Scan(&m.Run, &m.Campaign, &m.Src, &m.Probability, &m.Cells, &m.First, &m.Last); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			m.First, m.Last = fromEpoch(m.First), fromEpoch(m.Last)
			out = append(out, m)
		}
		return rows.Err() //nolint:wrapcheck // retry wraps it.
	})
	return out, err
}
