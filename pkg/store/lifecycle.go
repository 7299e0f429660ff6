package store

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"murmuration/pkg/event"
)

// CampaignBehaviour is how a campaign behaves, as one run saw it; what is empty is not shared by its members.
type CampaignBehaviour struct {
	Campaign  string
	Signature string
	UserAgent string
	Payload   uint64
	Cut       string
	Pause     time.Duration // longest silence of its life, watched time only
}

// CampaignState is what a run thought of a campaign that it found or that was known before.
type CampaignState struct {
	Run        string // set when read
	Campaign   string
	Seen       bool // the run found it
	State      string
	AsOf       time.Time     // end of the window of the run
	Silent     time.Duration // watched time since its last touch
	MergedInto string        // campaign that its members are part of now, or ""
}

// The kinds of CampaignLink, and what they rest on.
const (
	LinkContinued = "continued"
	LinkSplit     = "split"
	LinkMerged    = "merged"
	// LinkOperator joins two campaigns of one run that a proof ties to one operator; its basis is the kind of the proof.
	LinkOperator = "operator"

	BasisMembers  = "members"
	BasisNetworks = "networks"
	BasisProof    = "proof"
)

// CampaignLink says what became of a campaign: Earlier as an earlier run described it, Later as this run
// found it. They are the same campaign if Kind is LinkContinued.
type CampaignLink struct {
	Run            string // set when read
	Kind           string
	Earlier, Later string
	Basis          string
	Shared         uint64 // members that both have
	SharedNetworks uint64 // /24 and /48 that both have
	EarlierSources uint64
	LaterSources   uint64
}

// SensorGap is a time of whole hours in which a sensor was dead.
type SensorGap struct {
	Sensor       string
	Since, Until time.Time // Until exclusive
	Usual        float64   // events an hour that it usually sees then
}

// RunDetail is what a run records beyond its campaigns and members.
type RunDetail struct {
	Behaviours []CampaignBehaviour
	States     []CampaignState
	Links      []CampaignLink
	Gaps       []SensorGap
	Notes      []string
	Patterns   []CampaignPattern
	Proofs     []CampaignProof
	Proven     []ProofSource // the sources of Proofs
}

// PutRunDetail writes the details of a run. It belongs before SaveRun, whose last row makes all of the run visible, and may
// be called again after an error.
func (s *Store) PutRunDetail(ctx context.Context, run string, d RunDetail) error {
	if err := s.insertRows(ctx, "write behaviours", "INSERT INTO campaign_behaviours_log (run, campaign, signature, user_agent, payload_hash, cut, pause)",
		len(d.Behaviours), func(b driver.Batch, i int) error {
			x := &d.Behaviours[i]
			return b.Append(run, x.Campaign, x.Signature, x.UserAgent, x.Payload, x.Cut, seconds(x.Pause))
		}); err != nil {
		return err
	}
	if err := s.insertRows(ctx, "write states", "INSERT INTO campaign_states_log (run, campaign, seen, state, as_of, silent, merged_into)",
		len(d.States), func(b driver.Batch, i int) error {
			x := &d.States[i]
			return b.Append(run, x.Campaign, x.Seen, x.State, x.AsOf, seconds(x.Silent), x.MergedInto)
		}); err != nil {
		return err
	}
	if err := s.insertRows(ctx, "write links", "INSERT INTO campaign_links_log (run, kind, earlier, later, basis, shared, shared_networks, earlier_sources, later_sources)",
		len(d.Links), func(b driver.Batch, i int) error {
			x := &d.Links[i]
			return b.Append(run, x.Kind, x.Earlier, x.Later, x.Basis, x.Shared, x.SharedNetworks, x.EarlierSources, x.LaterSources)
		}); err != nil {
		return err
	}
	if err := s.insertRows(ctx, "write gaps of sensors", "INSERT INTO sensor_gaps_log (run, sensor, since, until, usual)",
		len(d.Gaps), func(b driver.Batch, i int) error {
			x := &d.Gaps[i]
			return b.Append(run, x.Sensor, x.Since, x.Until, x.Usual)
		}); err != nil {
		return err
	}
	if err := s.putPatterns(ctx, run, d.Patterns); err != nil {
		return err
	}
	if err := s.putProofs(ctx, run, d.Proofs, d.Proven); err != nil {
		return err
	}
	return s.insertRows(ctx, "write notes", "INSERT INTO campaign_notes_log (run, position, note)", len(d.Notes), func(b driver.Batch, i int) error {
		return b.Append(run, uint32(i), d.Notes[i]) //nolint:gosec // Notes are few.
	})
}

func seconds(d time.Duration) uint64 { return uint64(max(d, 0) / time.Second) } //nolint:gosec // Not negative.

func duration(seconds uint64) time.Duration { return time.Duration(seconds) * time.Second } //nolint:gosec // Written by seconds.

// KnownCampaign is a campaign with its whole life: the description is that of the latest run that saw it, First and Last are
// those of all runs, State is what the latest run of all said.
type KnownCampaign struct {
	Campaign
	CampaignBehaviour

	FirstRun    string
	Runs        uint64 // finished runs that found it
	SourcesEver uint64 // distinct members over all runs
	MergedInto  string
	AsOf        time.Time
	Silent      time.Duration
}

// KnownLives returns every campaign that a finished run ever found, the one last seen first.
func (s *Store) KnownLives(ctx context.Context) ([]KnownCampaign, error) {
	var out []KnownCampaign
	err := s.retry(ctx, "read known campaigns", func() error {
		out = nil
		rows, err := s.conn.Query(ctx, `SELECT campaign, state, merged_into, first_seen, last_seen, runs, first_run, last_run, as_of, silent, pause, sources, sources_ever,
			networks, ports, protos, tool, signature, user_agent, payload_hash, cut, pattern, coverage, overlap_ratio, evidence, universe, targets, summary
			FROM campaigns_known ORDER BY last_seen DESC, campaign`)
		if err != nil {
			return err //nolint:wrapcheck // retry wraps it.
		}
		defer rows.Close() //nolint:errcheck // rows.Err tells.
		for rows.Next() {
			var k KnownCampaign
			var protos, targets []string
			var silent, pause uint64
			c, b := &k.Campaign, &k.CampaignBehaviour
			if err := rows.Scan(&c.ID, &c.State, &k.MergedInto, &c.First, &c.Last, &k.Runs, &k.FirstRun, &c.Run, &k.AsOf, &silent, &pause, &c.Sources, &k.SourcesEver,
				&c.Networks, &c.Ports, &protos, &c.Tool, &b.Signature, &b.UserAgent, &b.Payload, &b.Cut, &c.Pattern, &c.Coverage, &c.OverlapRatio, &c.Evidence,
				&c.Universe, &targets, &c.Summary); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			if err := c.parse(protos, targets); err != nil {
				return err
			}
			b.Campaign, k.Silent, b.Pause, k.AsOf = c.ID, duration(silent), duration(pause), k.AsOf.UTC()
			out = append(out, k)
		}
		return rows.Err() //nolint:wrapcheck // retry wraps it.
	})
	return out, err
}

// CampaignHistory returns what every finished run said about a campaign, oldest first, and every link that it has part in.
func (s *Store) CampaignHistory(ctx context.Context, id string) (states []CampaignState, links []CampaignLink, err error) {
	named := clickhouse.Named("id", id)
	err = s.retry(ctx, "read the history of a campaign", func() error {
		states = nil
		return s.each(ctx, "SELECT run, campaign, seen, state, as_of, silent, merged_into FROM campaign_states WHERE campaign = {id:String} ORDER BY run", func(rows driver.Rows) error {
			var x CampaignState
			var silent uint64
			if err := rows.Scan(&x.Run, &x.Campaign, &x.Seen, &x.State, &x.AsOf, &silent, &x.MergedInto); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			x.AsOf, x.Silent = x.AsOf.UTC(), duration(silent)
			states = append(states, x)
			return nil
		}, named)
	})
	if err != nil {
		return nil, nil, err
	}
	err = s.retry(ctx, "read the links of a campaign", func() error {
		links = nil
		return s.each(ctx, `SELECT run, kind, earlier, later, basis, shared, shared_networks, earlier_sources, later_sources FROM campaign_links
			WHERE earlier = {id:String} OR later = {id:String} ORDER BY run, kind, earlier, later`, func(rows driver.Rows) error {
			var x CampaignLink
			if err := rows.Scan(&x.Run, &x.Kind, &x.Earlier, &x.Later, &x.Basis, &x.Shared, &x.SharedNetworks, &x.EarlierSources, &x.LaterSources); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			links = append(links, x)
			return nil
		}, named)
	})
	return states, links, err
}

// MembersEver returns the distinct members of a campaign over all finished runs, in order.
func (s *Store) MembersEver(ctx context.Context, id string) ([]event.IP, error) {
	var out []event.IP
	err := s.retry(ctx, "read the members of a campaign", func() error {
		out = nil
		return s.each(ctx, "SELECT DISTINCT src FROM campaign_sources WHERE campaign = {id:String} ORDER BY src", func(rows driver.Rows) error {
			var ip event.IP
			if err := rows.Scan(&ip); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			out = append(out, ip)
			return nil
		}, clickhouse.Named("id", id))
	})
	return out, err
}

// GapsOf returns the dead hours of sensors that a finished run noted.
func (s *Store) GapsOf(ctx context.Context, run string) ([]SensorGap, error) {
	var out []SensorGap
	err := s.retry(ctx, "read gaps of sensors", func() error {
		out = nil
		return s.each(ctx, "SELECT sensor, since, until, usual FROM sensor_gaps WHERE run = {run:String} ORDER BY since, sensor", func(rows driver.Rows) error {
			var g SensorGap
			if err := rows.Scan(&g.Sensor, &g.Since, &g.Until, &g.Usual); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			g.Since, g.Until = g.Since.UTC(), g.Until.UTC()
			out = append(out, g)
			return nil
		}, clickhouse.Named("run", run))
	})
	return out, err
}

// SensorHour is what a sensor saw in one hour, of any kind.
type SensorHour struct {
	Sensor string
	Hour   time.Time
	Events uint64
}

// SensorHours returns the hours in [from, to) in which a sensor saw anything, by sensor and hour. Backscatter counts: it
// shows that the sensor lives.
func (s *Store) SensorHours(ctx context.Context, from, to time.Time) ([]SensorHour, error) {
	var out []SensorHour
	err := s.retry(ctx, "read the hours of sensors", func() error {
		out = nil
		return s.each(ctx, `SELECT sensor, hour, sum(s.events) FROM port_hours_state AS s WHERE hour >= fromUnixTimestamp({from:Int64}) AND hour < fromUnixTimestamp({to:Int64})
			GROUP BY sensor, hour ORDER BY sensor, hour`, func(rows driver.Rows) error {
			var h SensorHour
			if err := rows.Scan(&h.Sensor, &h.Hour, &h.Events); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			h.Hour = h.Hour.UTC()
			out = append(out, h)
			return nil
		}, clickhouse.Named("from", fmt.Sprint(from.Unix())), clickhouse.Named("to", fmt.Sprint(to.Unix())))
	})
	return out, err
}

// Sensors returns the names of all sensors that saw anything before a time, in the order of SensorHours. The day of the time
// counts as a whole.
func (s *Store) Sensors(ctx context.Context, before time.Time) ([]string, error) {
	var out []string
	err := s.retry(ctx, "read the sensors", func() error {
		out = nil
		return s.each(ctx, "SELECT DISTINCT sensor FROM target_days_state WHERE day <= {day:Date} ORDER BY sensor", func(rows driver.Rows) error {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			out = append(out, name)
			return nil
		}, clickhouse.Named("day", before.UTC().Format(time.DateOnly)))
	})
	return out, err
}

// each runs a query and calls fn for every row.
func (s *Store) each(ctx context.Context, query string, fn func(driver.Rows) error, args ...any) error {
	rows, err := s.conn.Query(ctx, query, args...)
	if err != nil {
		return err //nolint:wrapcheck // Callers run under retry, which wraps it.
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells.
	for rows.Next() {
		if err := fn(rows); err != nil {
			return err
		}
	}
	return rows.Err() //nolint:wrapcheck // See above.
}
