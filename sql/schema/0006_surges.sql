-- Surges: leading indicators, versions kept by run. A run decides about the hours [window_from, window_to), and counts
-- once its row says done, which is written last. What it says about those hours replaces what earlier runs said.
CREATE TABLE IF NOT EXISTS surge_runs_log
(
    run         String COMMENT 'identifies the run; sorts by time',
    started     DateTime64(3, 'UTC'),
    finished    DateTime64(3, 'UTC') COMMENT '1970-01-01 while it runs',
    window_from DateTime('UTC') COMMENT 'first hour decided about',
    window_to   DateTime('UTC') COMMENT 'hour behind the last',
    parameters  String COMMENT 'JSON',
    series      UInt64 COMMENT 'series (protocol, port, method) that were busy enough to be looked at',
    surges      UInt64 COMMENT 'surges found or followed',
    status      LowCardinality(String) COMMENT 'running, done, failed',
    error       String,
    version     String COMMENT 'of the program',
    updated     DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(updated)
ORDER BY run
COMMENT 'Versions behind surge_runs.';

CREATE VIEW IF NOT EXISTS surge_runs
AS SELECT run, started, finished, window_from, window_to, parameters, series, surges, status, error, version
FROM surge_runs_log FINAL
COMMENT 'Runs of surge detection, latest state of each.';

CREATE TABLE IF NOT EXISTS surges_log
(
    run      String,
    proto    Enum8('other' = 0, 'icmp' = 1, 'igmp' = 2, 'tcp' = 6, 'udp' = 17, 'gre' = 47, 'esp' = 50, 'ah' = 51, 'icmpv6' = 58, 'sctp' = -124),
    dport    UInt16,
    method   LowCardinality(String) COMMENT 'HTTP method; empty: every probe and request to the port',
    start    DateTime('UTC') COMMENT 'estimated hour of the beginning',
    detected DateTime('UTC') COMMENT 'hour of the alarm',
    peak     DateTime('UTC') COMMENT 'hour of most sources',
    end      DateTime('UTC') COMMENT 'behind the last hour above the usual',
    closed   DateTime('UTC') COMMENT 'when it was known to be over; 1970-01-01 while it is open',
    state    LowCardinality(String) COMMENT 'open, ended, or settled: it became the new normal',
    sources  UInt32 COMMENT 'distinct sources in the hour of the peak',
    expected Float64 COMMENT 'sources that this hour would have had',
    strength Float64 COMMENT 'sources / expected',
    excess   Float64 COMMENT 'sources above expectation, summed over the hours',
    evidence Float64 COMMENT '-log10 of the smallest P, corrected for all tests of a month'
)
ENGINE = ReplacingMergeTree
ORDER BY (run, proto, dport, method, detected)
COMMENT 'Surges of every run, finished or not; surges shows what holds.';

CREATE VIEW IF NOT EXISTS surges
AS
WITH (SELECT groupArray((run, window_from, window_to)) FROM surge_runs WHERE status = 'done') AS runs
SELECT proto, dport, method, start, detected, peak, end, closed, state, sources, expected, strength, excess, evidence, run
FROM
(
    SELECT * FROM surges_log FINAL
    WHERE run IN (SELECT run FROM surge_runs WHERE status = 'done')
    ORDER BY run DESC
    LIMIT 1 BY proto, dport, method, detected
) AS s
WHERE NOT arrayExists(r -> r.1 > s.run AND r.2 <= s.detected AND s.detected < r.3, runs)
COMMENT 'Surges: hours in which far more distinct sources than usual asked for a port. One row per surge, as the latest finished run that decided about it saw it.';
