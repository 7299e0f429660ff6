package store

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/ext"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"murmuration/pkg/event"
)

// ProbeSample is a sample of one source's probes, in the order of their time. Element i of every slice belongs to probe i.
type ProbeSample struct {
	Src    event.IP
	Time   []int64 // microseconds since 1970-01-01 UTC
	Dst    []event.IP
	Proto  []event.Proto
	Sport  []uint16
	Dport  []uint16
	Seq    []uint32
	Window []uint16
}

func (p *ProbeSample) reset(src event.IP) {
	*p = ProbeSample{
		Src: src, Time: p.Time[:0], Dst: p.Dst[:0], Proto: p.Proto[:0], Sport: p.Sport[:0], Dport: p.Dport[:0], Seq: p.Seq[:0], Window: p.Window[:0],
	}
}

// ProbesEach is how many probes of a source a sample has at most.
const ProbesEach = 96

// A sample is chosen by a hash of target and port, so that it is the same in every run and that samples of different sources hold
// the same targets. groupArraySorted keeps no more than it returns.
const probesQuery = `SELECT src, p.2, p.3, p.4, p.5, p.6, p.7, p.8 FROM
	(
		SELECT src, arrayJoin(groupArraySorted(96)((cityHash64(dst, dport), toUnixTimestamp64Micro(ts), dst, toInt8(proto), sport, dport, seq, window))) AS p
		FROM events
		WHERE ts >= fromUnixTimestamp64Micro({from:Int64}) AND ts < fromUnixTimestamp64Micro({to:Int64}) AND kind = 'scan'
			AND technique IN ('syn', 'udp', 'ping') AND src GLOBAL IN (SELECT src FROM wanted)
		GROUP BY src
	)
	ORDER BY src, p.2, p.1`

// Probes calls fn with a sample of the SYN, UDP and ping probes that each of the sources sent in [from, to), in the order of the
// sources' addresses. The sample is reused after fn returns. Sources without such probes are passed over. The server's memory
// is bounded by the number of sources, whatever they sent.
func (s *Store) Probes(ctx context.Context, from, to time.Time, sources []event.IP, fn func(*ProbeSample) error) error {
	if len(sources) == 0 {
		return nil
	}
	wanted, err := ext.NewTable("wanted", ext.Column("src", "IPv6"))
	if err != nil {
		return fmt.Errorf("read probes: %w", err)
	}
	for _, src := range sources {
		if err := wanted.Append(event.Addr(src)); err != nil {
			return fmt.Errorf("read probes: %w", err)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	rows, err := s.conn.Query(clickhouse.Context(streamSettings(ctx), clickhouse.WithExternalTable(wanted)), probesQuery,
		clickhouse.Named("from", fmt.Sprint(from.UnixMicro())), clickhouse.Named("to", fmt.Sprint(to.UnixMicro())))
	if err != nil {
		cancel()
		return fmt.Errorf("read probes: %w", s.explain(err))
	}
	defer giveUp(cancel, rows)
	if err := eachSample(rows, fn); err != nil {
		return fmt.Errorf("read probes: %w", s.explain(err))
	}
	return nil
}

func eachSample(rows driver.Rows, fn func(*ProbeSample) error) error {
	var p ProbeSample
	for rows.Next() {
		var src, dst event.IP
		var at int64
		var proto int8
		var sport, dport, window uint16
		var seq uint32
		if err := rows.Scan(&src, &at, &dst, &proto, &sport, &dport, &seq, &window); err != nil {
			return err //nolint:wrapcheck // Probes wraps it.
		}
		if src != p.Src || len(p.Time) == 0 {
			if len(p.Time) > 0 {
				if err := fn(&p); err != nil {
					return err
				}
			}
			p.reset(src)
		}
		p.Time, p.Dst, p.Proto = append(p.Time, at), append(p.Dst, dst), append(p.Proto, event.Proto(proto))
		p.Sport, p.Dport, p.Seq, p.Window = append(p.Sport, sport), append(p.Dport, dport), append(p.Seq, seq), append(p.Window, window)
	}
	if err := rows.Err(); err != nil {
		return err //nolint:wrapcheck // Probes wraps it.
	}
	if len(p.Time) > 0 {
		return fn(&p)
	}
	return nil
}

// CampaignProof says what some sources share that only one run of a tool, or one operator, can have given them.
type CampaignProof struct {
	Run      string // set when read
	ID       string // of what is shared, the same over all runs
	Kind     string
	Value    string
	Evidence float64 // -log10 P, corrected for Tries
	// Coincidence is -log10 P that two runs of the tool have one such value.
	Coincidence float64
	Tries       float64
	For         uint64 // probes
	Against     uint64
	Sources     uint64
	Campaigns   []string // of the run that have some of the sources
	Outside     uint64   // sources that are in no campaign
	Summary     string
}

// ProofSource is one source of a CampaignProof.
type ProofSource struct {
	Proof    string // CampaignProof.ID
	Src      event.IP
	Campaign string // or ""
	For      uint64
	Against  uint64
	Evidence float64
	Part     string
}

// CampaignPattern is how the members of a campaign are arranged in time and over networks.
type CampaignPattern struct {
	Campaign  string
	Pattern   string // "parallel", "rotating", "relay", "bursts"
	Spread    string // "farm", "clustered", "wide"
	Tempo     string // "drip", "burst", "steady"
	Networks  uint64
	Largest   string // network with most members
	InLargest uint64
	Effective float64
	Together  float64
	Handovers uint64
	ByChance  float64
	Stint     time.Duration
	Pace      float64 // cells a day
}

// putProofs writes the proofs of a run and their sources.
func (s *Store) putProofs(ctx context.Context, run string, proofs []CampaignProof, sources []ProofSource) error {
	if err := s.insertRows(ctx, "write proofs", `INSERT INTO campaign_proofs_log (run, proof, kind, value, evidence, coincidence, tries, agree, against, sources, campaigns, outside, summary)`,
		len(proofs), func(b driver.Batch, i int) error {
			p := &proofs[i]
			return b.Append(run, p.ID, p.Kind, p.Value, p.Evidence, p.Coincidence, p.Tries, p.For, p.Against, p.Sources, append([]string{}, p.Campaigns...), p.Outside, p.Summary)
		}); err != nil {
		return err
	}
	return s.insertRows(ctx, "write sources of proofs", "INSERT INTO campaign_proof_sources_log (run, proof, src, campaign, agree, against, evidence, part)",
		len(sources), func(b driver.Batch, i int) error {
			p := &sources[i]
			return b.Append(run, p.Proof, p.Src, p.Campaign, p.For, p.Against, p.Evidence, p.Part)
		})
}

func (s *Store) putPatterns(ctx context.Context, run string, patterns []CampaignPattern) error {
	return s.insertRows(ctx, "write patterns", `INSERT INTO campaign_patterns_log (run, campaign, pattern, spread, tempo, networks, largest, in_largest, effective, together,
		handovers, by_chance, stint, pace)`, len(patterns), func(b driver.Batch, i int) error {
		p := &patterns[i]
		return b.Append(run, p.Campaign, p.Pattern, p.Spread, p.Tempo, p.Networks, p.Largest, p.InLargest, p.Effective, p.Together, p.Handovers, p.ByChance, seconds(p.Stint), p.Pace)
	})
}

// PatternOf returns the pattern of a campaign as the latest run that found it saw it; false if no run did that knew of patterns.
func (s *Store) PatternOf(ctx context.Context, campaign string) (CampaignPattern, bool, error) {
	var p CampaignPattern
	ok := false
	err := s.retry(ctx, "read the pattern of a campaign", func() error {
		return s.each(ctx, `SELECT campaign, pattern, spread, tempo, networks, largest, in_largest, effective, together, handovers, by_chance, stint, pace FROM campaign_patterns
			WHERE campaign = {campaign:String} ORDER BY run DESC LIMIT 1`, func(rows driver.Rows) error {
			var stint uint64
			if err := rows.Scan(&p.Campaign, &p.Pattern, &p.Spread, &p.Tempo, &p.Networks, &p.Largest, &p.InLargest, &p.Effective, &p.Together, &p.Handovers, &p.ByChance,
				&stint, &p.Pace); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			p.Stint, ok = duration(stint), true
			return nil
		}, clickhouse.Named("campaign", campaign))
	})
	return p, ok, err
}

// ProvenValues returns the distinct values that proofs of a kind had in all finished runs, in order.
func (s *Store) ProvenValues(ctx context.Context, kind string) ([]string, error) {
	var out []string
	err := s.retry(ctx, "read proven values", func() error {
		out = nil
		return s.each(ctx, "SELECT DISTINCT value FROM campaign_proofs WHERE kind = {kind:String} ORDER BY value", func(rows driver.Rows) error {
			var v string
			if err := rows.Scan(&v); err != nil {
				return err //nolint:wrapcheck // retry wraps it.
			}
			out = append(out, v)
			return nil
		}, clickhouse.Named("kind", kind))
	})
	return out, err
}

// Proofs returns the proofs that have to do with a campaign, or with "" all, of every finished run, the latest run first.
func (s *Store) Proofs(ctx context.Context, campaign string) ([]CampaignProof, error) {
	where := "ORDER BY run DESC, evidence DESC, proof"
	if campaign != "" {
		where = "WHERE has(campaigns, {campaign:String}) " + where
	}
	var out []CampaignProof
	err := s.retry(ctx, "read proofs", func() error {
		out = nil
		return s.each(ctx, "SELECT run, proof, kind, value, evidence, coincidence, tries, agree, against, sources, campaigns, outside, summary FROM campaign_proofs "+where,
			func(rows driver.Rows) error {
				var p CampaignProof
				if err := rows.Scan(&p.Run, &p.ID, &p.Kind, &p.Value, &p.Evidence, &p.Coincidence, &p.Tries, &p.For, &p.Against, &p.Sources, &p.Campaigns, &p.Outside, &p.Summary); err != nil {
					return err //nolint:wrapcheck // retry wraps it.
				}
				out = append(out, p)
				return nil
			}, clickhouse.Named("campaign", campaign))
	})
	return out, err
}
