-- The life of campaigns over runs: what each run thought of every campaign known until then, what became
-- of them (continued, split, merged), how they behave, and what the sensors did not see. Rows of a run are
-- written before its row says done; the views show finished runs only.
CREATE TABLE IF NOT EXISTS campaign_behaviours_log
(
    run          String,
    campaign     String,
    signature    String COMMENT 'SYN signature that at least nine of ten members share, or empty',
    user_agent   String COMMENT 'HTTP user agent that they share, or empty',
    payload_hash UInt64 COMMENT 'payload of UDP probes that they share, or 0',
    cut          LowCardinality(String) COMMENT 'how the space is shared out: random, ranges, residues, ports, objects',
    pause        UInt64 COMMENT 'longest silence of its life, in watched seconds: its tempo'
)
ENGINE = ReplacingMergeTree
ORDER BY (run, campaign)
COMMENT 'Behaviour of the campaigns of every run, finished or not; campaign_behaviours shows the finished ones.';

CREATE TABLE IF NOT EXISTS campaign_states_log
(
    run         String,
    campaign    String,
    seen        Bool COMMENT 'found by this run; false: known from an earlier one',
    state       LowCardinality(String) COMMENT 'emerging, active, dormant, ended',
    as_of       DateTime('UTC') COMMENT 'end of the time that the run looked at',
    silent      UInt64 COMMENT 'watched seconds between its last touch and as_of; hours of dead sensors do not count',
    merged_into String COMMENT 'campaign that its members are part of now, or empty'
)
ENGINE = ReplacingMergeTree
ORDER BY (campaign, run)
COMMENT 'State of every known campaign after every run, finished or not; campaign_states shows the finished ones.';

CREATE TABLE IF NOT EXISTS campaign_links_log
(
    run             String,
    kind            LowCardinality(String) COMMENT 'continued, split (later is a piece of earlier), merged (earlier is part of later)',
    earlier         String COMMENT 'campaign as an earlier run described it',
    later           String COMMENT 'campaign as this run found it',
    basis           LowCardinality(String) COMMENT 'members, or networks where addresses changed',
    shared          UInt64 COMMENT 'members that both have',
    shared_networks UInt64 COMMENT '/24 (IPv4) and /48 (IPv6) that both have',
    earlier_sources UInt64 COMMENT 'members of earlier',
    later_sources   UInt64 COMMENT 'members of later'
)
ENGINE = ReplacingMergeTree
ORDER BY (run, kind, earlier, later)
COMMENT 'What became of campaigns from run to run, finished or not; campaign_links shows the finished ones.';

CREATE TABLE IF NOT EXISTS sensor_gaps_log
(
    run    String,
    sensor String,
    since  DateTime('UTC') COMMENT 'start of the first silent hour',
    until  DateTime('UTC') COMMENT 'end of the last silent hour, exclusive',
    usual  Float64 COMMENT 'events an hour that the sensor sees in the same hours of other days, on average'
)
ENGINE = ReplacingMergeTree
ORDER BY (run, sensor, since)
COMMENT 'Hours in the window of a run in which a sensor was dead by its own past; sensor_gaps shows those of finished runs.';

CREATE TABLE IF NOT EXISTS campaign_notes_log
(
    run      String,
    position UInt32,
    note     String COMMENT 'what a reader of the result should know, a sentence'
)
ENGINE = ReplacingMergeTree
ORDER BY (run, position)
COMMENT 'Notes of every run, finished or not; campaign_notes shows the finished ones.';

CREATE VIEW IF NOT EXISTS campaign_behaviours
AS SELECT * FROM campaign_behaviours_log FINAL WHERE run IN (SELECT run FROM campaign_runs WHERE status = 'done')
COMMENT 'Behaviour of the campaigns of every finished run.';

CREATE VIEW IF NOT EXISTS campaign_states
AS SELECT * FROM campaign_states_log FINAL WHERE run IN (SELECT run FROM campaign_runs WHERE status = 'done')
COMMENT 'State of every campaign known at every finished run.';

CREATE VIEW IF NOT EXISTS campaign_links
AS SELECT * FROM campaign_links_log FINAL WHERE run IN (SELECT run FROM campaign_runs WHERE status = 'done')
COMMENT 'What became of campaigns from one finished run to the next.';

CREATE VIEW IF NOT EXISTS sensor_gaps
AS SELECT * FROM sensor_gaps_log FINAL WHERE run IN (SELECT run FROM campaign_runs WHERE status = 'done')
COMMENT 'Dead hours of sensors, by finished run.';

CREATE VIEW IF NOT EXISTS campaign_notes
AS SELECT * FROM campaign_notes_log FINAL WHERE run IN (SELECT run FROM campaign_runs WHERE status = 'done')
COMMENT 'Notes of every finished run.';

CREATE VIEW IF NOT EXISTS campaigns_known
AS SELECT
    d.campaign AS campaign,
    if(s.state = '', d.state, s.state) AS state,
    s.merged_into AS merged_into,
    h.life_first AS first_seen,
    h.life_last AS last_seen,
    h.runs_seen AS runs,
    h.first_run AS first_run,
    d.run AS last_run,
    if(s.state = '', h.life_last, s.as_of) AS as_of,
    s.silent AS silent,
    b.pause AS pause,
    d.sources AS sources,
    m.sources_ever AS sources_ever,
    d.networks AS networks,
    d.ports AS ports,
    d.protos AS protos,
    d.tool AS tool,
    b.signature AS signature,
    b.user_agent AS user_agent,
    b.payload_hash AS payload_hash,
    b.cut AS cut,
    d.pattern AS pattern,
    d.coverage AS coverage,
    d.overlap_ratio AS overlap_ratio,
    d.evidence AS evidence,
    d.universe AS universe,
    d.targets AS targets,
    d.summary AS summary
FROM (SELECT * FROM campaigns ORDER BY campaign, run DESC LIMIT 1 BY campaign) AS d
INNER JOIN
(
    SELECT campaign, min(c.first_seen) AS life_first, max(c.last_seen) AS life_last, count() AS runs_seen, min(c.run) AS first_run
    FROM campaigns AS c GROUP BY campaign
) AS h ON h.campaign = d.campaign
LEFT JOIN (SELECT campaign, uniqExact(src) AS sources_ever FROM campaign_sources GROUP BY campaign) AS m ON m.campaign = d.campaign
LEFT JOIN (SELECT * FROM campaign_behaviours ORDER BY campaign, run DESC LIMIT 1 BY campaign) AS b ON b.campaign = d.campaign
LEFT JOIN (SELECT * FROM campaign_states ORDER BY campaign, as_of DESC, run DESC LIMIT 1 BY campaign) AS s ON s.campaign = d.campaign
COMMENT 'Every campaign that a finished run ever found, once: as the latest run that saw it described it, with its state after the latest run of all and its whole life.';
