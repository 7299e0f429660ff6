-- Proofs: what only one run of a scan tool can have left in the packets of several sources, and the patterns
-- of campaigns. Rows of a run are written before its row says done; the views show finished runs only.
CREATE TABLE IF NOT EXISTS campaign_proofs_log
(
    run       String,
    proof     String COMMENT 'identifies what was shared over all runs',
    kind      LowCardinality(String) COMMENT 'masscan-seed, zmap-generator, mirai-key, nmap-key, unicornscan-key, sequence-cookies',
    value     String COMMENT 'what was shared, in the words of the tool',
    evidence  Float64 COMMENT '-log10 P that independent sources share it, corrected for tries',
    coincidence Float64 COMMENT '-log10 P that two runs of the tool have one such value, however many sources each has',
    tries     Float64 COMMENT 'values tried, times the ways in which they were',
    agree     UInt64 COMMENT 'probes looked at that obey it',
    against   UInt64 COMMENT 'probes looked at of the same sources that do not',
    sources   UInt64 COMMENT 'sources that share it',
    campaigns Array(String) COMMENT 'campaigns of the run that have some of them',
    outside   UInt64 COMMENT 'of the sources, those that are in no campaign',
    summary   String COMMENT 'the proof in words'
)
ENGINE = ReplacingMergeTree
ORDER BY (run, proof)
COMMENT 'Proofs of every run, finished or not; campaign_proofs shows the finished ones.';

CREATE TABLE IF NOT EXISTS campaign_proof_sources_log
(
    run      String,
    proof    String,
    src      IPv6,
    campaign String COMMENT 'campaign of the run that it is a member of, or empty',
    agree    UInt64 COMMENT 'probes looked at that obey what is shared',
    against  UInt64 COMMENT 'probes looked at that do not',
    evidence Float64 COMMENT '-log10 P that this source obeys it by chance, nothing corrected',
    part     String COMMENT 'which share of the scan it did, where that shows'
)
ENGINE = ReplacingMergeTree
ORDER BY (run, proof, src)
COMMENT 'Sources of the proofs of every run, finished or not; campaign_proof_sources shows the finished ones.';

CREATE TABLE IF NOT EXISTS campaign_patterns_log
(
    run        String,
    campaign   String,
    pattern    LowCardinality(String) COMMENT 'order of the members in time: parallel, rotating, relay, bursts',
    spread     LowCardinality(String) COMMENT 'of the members over networks: farm (in one or two), clustered, wide',
    tempo      LowCardinality(String) COMMENT 'drip (a touch or two a day and member), burst (nearly all at once), steady',
    networks   UInt64 COMMENT 'distinct /24 (IPv4) and /48 (IPv6) of the members',
    largest    String COMMENT 'network with most members',
    in_largest UInt64 COMMENT 'members in it',
    effective  Float64 COMMENT 'networks, each counted by its share: 1 / sum of squared shares',
    together   Float64 COMMENT 'members at work at one time, mean over the time in which any is',
    handovers  UInt64 COMMENT 'members that began about when another one ended, each end counted once',
    by_chance  Float64 COMMENT 'handovers expected if members began at random',
    stint      UInt64 COMMENT 'seconds from the first to the last touch of a member, median',
    pace       Float64 COMMENT 'cells that a member touches a day of its stint, median'
)
ENGINE = ReplacingMergeTree
ORDER BY (run, campaign)
COMMENT 'Patterns of the campaigns of every run, finished or not; campaign_patterns shows the finished ones.';

CREATE VIEW IF NOT EXISTS campaign_proofs
AS SELECT * FROM campaign_proofs_log FINAL WHERE run IN (SELECT run FROM campaign_runs WHERE status = 'done')
COMMENT 'Proofs of every finished run: what only one run of a tool can have left in the packets of several sources.';

CREATE VIEW IF NOT EXISTS campaign_proof_sources
AS SELECT * FROM campaign_proof_sources_log FINAL WHERE run IN (SELECT run FROM campaign_runs WHERE status = 'done')
COMMENT 'Sources of the proofs of every finished run.';

CREATE VIEW IF NOT EXISTS campaign_patterns
AS SELECT * FROM campaign_patterns_log FINAL WHERE run IN (SELECT run FROM campaign_runs WHERE status = 'done')
COMMENT 'Patterns of the campaigns of every finished run: order in time, spread over networks, tempo.';

CREATE VIEW IF NOT EXISTS operators
AS SELECT proof AS operator, kind, value, evidence, coincidence, sources, campaigns, outside, summary
FROM campaign_proofs
WHERE run = (SELECT max(run) FROM campaign_runs WHERE status = 'done') AND (length(campaigns) > 1 OR outside > 0) AND coincidence >= 6
COMMENT 'Of the latest finished run, the proofs that say more than its campaigns do: one operator behind several campaigns, or behind sources that are in none. Values that two operators may well choose alike are left out.';
