-- Campaigns: the results of detection, versions kept by run. A run counts once its row says done, which is
-- written last, so that readers never see half a run.
CREATE TABLE IF NOT EXISTS campaign_runs_log
(
    run         String COMMENT 'identifies the run; sorts by time',
    started     DateTime64(3, 'UTC'),
    finished    DateTime64(3, 'UTC') COMMENT '1970-01-01 while it runs',
    window_from DateTime('UTC') COMMENT 'start of the time looked at',
    window_to   DateTime('UTC') COMMENT 'its end, exclusive',
    seed        UInt64 COMMENT 'the run is reproducible for it',
    parameters  String COMMENT 'JSON',
    sources     UInt64 COMMENT 'sources read',
    cells       UInt64 COMMENT 'cells read',
    groups      UInt64 COMMENT 'groups tested, for which evidence is corrected',
    campaigns   UInt64 COMMENT 'campaigns found',
    status      LowCardinality(String) COMMENT 'running, done, failed',
    error       String,
    version     String COMMENT 'of the detector',
    updated     DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(updated)
ORDER BY run
COMMENT 'Versions behind campaign_runs.';

CREATE VIEW IF NOT EXISTS campaign_runs
AS SELECT run, started, finished, window_from, window_to, seed, parameters, sources, cells, groups, campaigns, status, error, version
FROM campaign_runs_log FINAL
COMMENT 'Detection runs, latest state of each.';

CREATE TABLE IF NOT EXISTS campaigns_log
(
    run              String,
    campaign         String COMMENT 'identifies the campaign over all runs',
    first_seen       DateTime('UTC'),
    last_seen        DateTime('UTC'),
    sources          UInt64 COMMENT 'members',
    ports            Array(UInt16),
    protos           Array(LowCardinality(String)),
    tool             LowCardinality(String),
    coverage         Float64 COMMENT 'share of the universe that the members touched, 0 to 1',
    overlap_ratio    Float64 COMMENT 'observed / expected overlap: 1 independent, 0 a perfect partition',
    expected_overlap Float64 COMMENT 'coincidences (pair of sources, cell) if sources were independent',
    observed_overlap Float64 COMMENT 'coincidences seen',
    evidence         Float64 COMMENT '-log10 P, corrected for the groups tested',
    pattern          LowCardinality(String) COMMENT 'parallel or rotating',
    universe         UInt64 COMMENT 'cells that the members could have touched',
    targets          Array(String) COMMENT 'prefixes aimed at',
    networks         UInt64 COMMENT 'distinct /24 (IPv4) and /48 (IPv6) of the members',
    summary          String COMMENT 'the finding in words',
    state            LowCardinality(String) COMMENT 'emerging, active, dormant, ended'
)
ENGINE = ReplacingMergeTree
ORDER BY (run, campaign)
COMMENT 'Campaigns of every run, finished or not; campaigns shows the finished ones.';

CREATE TABLE IF NOT EXISTS campaign_sources_log
(
    run         String,
    campaign    String,
    src         IPv6,
    probability Float64 COMMENT 'of being a member',
    cells       UInt64 COMMENT 'cells touched in the universe of the campaign',
    first_seen  DateTime('UTC'),
    last_seen   DateTime('UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (run, campaign, src)
COMMENT 'Members of every run, finished or not; campaign_sources shows the finished ones.';

CREATE VIEW IF NOT EXISTS campaigns
AS SELECT * FROM campaigns_log FINAL WHERE run IN (SELECT run FROM campaign_runs WHERE status = 'done')
COMMENT 'Campaigns of every finished run; campaigns_latest shows those of the latest.';

CREATE VIEW IF NOT EXISTS campaign_sources
AS SELECT * FROM campaign_sources_log FINAL WHERE run IN (SELECT run FROM campaign_runs WHERE status = 'done')
COMMENT 'Members of the campaigns of every finished run; campaign_sources_latest shows those of the latest.';

CREATE VIEW IF NOT EXISTS campaigns_latest
AS SELECT * FROM campaigns_log FINAL WHERE run = (SELECT max(run) FROM campaign_runs WHERE status = 'done')
COMMENT 'Campaigns of the latest finished run.';

CREATE VIEW IF NOT EXISTS campaign_sources_latest
AS SELECT * FROM campaign_sources_log FINAL WHERE run = (SELECT max(run) FROM campaign_runs WHERE status = 'done')
COMMENT 'Members of the campaigns of the latest finished run.';
