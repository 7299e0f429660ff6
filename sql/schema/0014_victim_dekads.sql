-- Victims over months: a victim of a long attack has a row each day, and to merge their sets of targets is nearly all that the question costs (0.3 s at 3e8 events,
-- 2,000 victims). Dekads are a ninth of the rows.
CREATE TABLE IF NOT EXISTS victim_dekads_state
(
    dekad      Date COMMENT 'first day of it: the 1st, 11th or 21st',
    src        IPv6 COMMENT 'the victim, which answers' CODEC(ZSTD(1)),
    events     SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    packets    SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    first_seen SimpleAggregateFunction(min, DateTime('UTC')) CODEC(T64, ZSTD(1)),
    last_seen  SimpleAggregateFunction(max, DateTime('UTC')) CODEC(T64, ZSTD(1)),
    targets    AggregateFunction(groupBitmap, UInt32) COMMENT 'exact for IPv4' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(dekad)
ORDER BY (dekad, src)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'States behind victim_dekads.';

-- As in 0012: what days hold whose events are gone, in the same blocks whenever it is made.
INSERT INTO victim_dekads_state (dekad, src, events, packets, first_seen, last_seen, targets)
SETTINGS insert_deduplication_token = '0014 victims', max_threads = 1, max_insert_threads = 1, min_insert_block_size_rows = 1000000, min_insert_block_size_bytes = 0,
    max_bytes_before_external_group_by = 2000000000, max_bytes_before_external_sort = 2000000000
SELECT toStartOfMonth(v.day) + 10 * least(intDiv(toDayOfMonth(v.day) - 1, 10), 2) AS dekad, v.src AS src, sum(v.events), sum(v.packets), min(v.first_seen), max(v.last_seen),
    groupBitmapMergeState(v.targets)
FROM victim_days_state AS v
GROUP BY dekad, src
ORDER BY dekad, src;

CREATE MATERIALIZED VIEW IF NOT EXISTS victim_dekads_feed TO victim_dekads_state AS
SELECT
    toStartOfMonth(v.day) + 10 * least(intDiv(toDayOfMonth(v.day) - 1, 10), 2) AS dekad, v.src AS src,
    sum(v.events) AS events,
    sum(v.packets) AS packets,
    min(v.first_seen) AS first_seen,
    max(v.last_seen) AS last_seen,
    groupBitmapMergeState(v.targets) AS targets
FROM victim_days_state AS v
GROUP BY dekad, src;

CREATE VIEW IF NOT EXISTS victim_dekads
AS SELECT
    dekad, src,
    sum(s.events) AS events,
    sum(s.packets) AS packets,
    min(s.first_seen) AS first_seen,
    max(s.last_seen) AS last_seen,
    groupBitmapMerge(s.targets) AS targets
FROM victim_dekads_state AS s
GROUP BY dekad, src
COMMENT 'Per third of a month and victim: answers to what others sent in the name of monitored addresses (backscatter), packets, first and last seen, distinct targets.';
