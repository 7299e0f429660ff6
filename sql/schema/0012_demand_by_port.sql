-- Demand, port by port. 0009 keeps hours and days in the order of the day, so that a port over 90 days is 90 short ranges of granules of
-- 1,024 rows, nearly all of other ports: 150,000 rows read for an answer of 90. Here a port is one range, whatever the time, and
-- a granule holds 64 rows, or fewer where their sets are large.
--
-- demand_by_hour, demand_by_day and demand_by_dekad hold the same in ever longer steps, each made from the one before, so that a question takes the
-- longest that fit: whole dekads (days 1 to 10, 11 to 20, 21 to the end of a month; no shorter time than a month can be cut into
-- without crossing its end, which partitions and Repair need), the days left over, the hours left over.
--
-- method = '' counts every probe and request to the port; rows with a method count the requests with it, once more.
-- Rows do not add up over methods.
CREATE TABLE IF NOT EXISTS demand_by_hour_state
(
    hour      DateTime('UTC'),
    proto     Enum8('other' = 0, 'icmp' = 1, 'igmp' = 2, 'tcp' = 6, 'udp' = 17, 'gre' = 47, 'esp' = 50, 'ah' = 51, 'icmpv6' = 58, 'sctp' = -124),
    dport     UInt16,
    method    LowCardinality(String) COMMENT 'HTTP method; empty: every probe and request to the port',
    events    SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    packets   SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    sources   AggregateFunction(uniqCombined64(17), IPv6) COMMENT 'exact up to 4,096, then +-0.29 % (one standard error)' CODEC(ZSTD(1)),
    rough     AggregateFunction(uniqCombined64(12), IPv6) COMMENT 'the sources once more, exact up to 128, then +-1.6 %: merges thirty times as fast' CODEC(ZSTD(1)),
    targets   AggregateFunction(groupBitmap, UInt32) COMMENT 'exact for IPv4' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (dport, method, hour, proto)
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 64, index_granularity_bytes = 1048576
COMMENT 'States behind demand_by_hour.';

CREATE TABLE IF NOT EXISTS demand_by_day_state
(
    day       Date,
    proto     Enum8('other' = 0, 'icmp' = 1, 'igmp' = 2, 'tcp' = 6, 'udp' = 17, 'gre' = 47, 'esp' = 50, 'ah' = 51, 'icmpv6' = 58, 'sctp' = -124),
    dport     UInt16,
    method    LowCardinality(String) COMMENT 'HTTP method; empty: every probe and request to the port',
    events    SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    packets   SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    sources   AggregateFunction(uniqCombined64(17), IPv6) COMMENT 'exact up to 4,096, then +-0.29 % (one standard error)' CODEC(ZSTD(1)),
    rough     AggregateFunction(uniqCombined64(12), IPv6) COMMENT 'the sources once more, exact up to 128, then +-1.6 %: merges thirty times as fast' CODEC(ZSTD(1)),
    targets   AggregateFunction(groupBitmap, UInt32) COMMENT 'exact for IPv4' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (dport, method, day, proto)
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 64, index_granularity_bytes = 1048576
COMMENT 'States behind demand_by_day.';

CREATE TABLE IF NOT EXISTS demand_by_dekad_state
(
    dekad     Date COMMENT 'first day of it: the 1st, 11th or 21st',
    proto     Enum8('other' = 0, 'icmp' = 1, 'igmp' = 2, 'tcp' = 6, 'udp' = 17, 'gre' = 47, 'esp' = 50, 'ah' = 51, 'icmpv6' = 58, 'sctp' = -124),
    dport     UInt16,
    method    LowCardinality(String) COMMENT 'HTTP method; empty: every probe and request to the port',
    events    SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    packets   SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    sources   AggregateFunction(uniqCombined64(17), IPv6) COMMENT 'exact up to 4,096, then +-0.29 % (one standard error)' CODEC(ZSTD(1)),
    rough     AggregateFunction(uniqCombined64(12), IPv6) COMMENT 'the sources once more, exact up to 128, then +-1.6 %: merges thirty times as fast' CODEC(ZSTD(1)),
    targets   AggregateFunction(groupBitmap, UInt32) COMMENT 'exact for IPv4' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(dekad)
ORDER BY (dport, method, dekad, proto)
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 64, index_granularity_bytes = 1048576
COMMENT 'States behind demand_by_dekad.';

-- Questions about all ports first ask which of them matter, and for that only counts, in the order of time: a day has a row for nearly each of
-- the 65,536 ports as soon as somebody tries them at random.
CREATE TABLE IF NOT EXISTS ports_by_hour_state
(
    hour   DateTime('UTC'),
    proto  Enum8('other' = 0, 'icmp' = 1, 'igmp' = 2, 'tcp' = 6, 'udp' = 17, 'gre' = 47, 'esp' = 50, 'ah' = 51, 'icmpv6' = 58, 'sctp' = -124),
    dport  UInt16,
    events SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, proto, dport)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'States behind ports_by_hour.';

CREATE TABLE IF NOT EXISTS ports_by_day_state
(
    day    Date,
    proto  Enum8('other' = 0, 'icmp' = 1, 'igmp' = 2, 'tcp' = 6, 'udp' = 17, 'gre' = 47, 'esp' = 50, 'ah' = 51, 'icmpv6' = 58, 'sctp' = -124),
    dport  UInt16,
    events SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (day, proto, dport)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'States behind ports_by_day.';

CREATE TABLE IF NOT EXISTS ports_by_dekad_state
(
    dekad  Date COMMENT 'first day of it: the 1st, 11th or 21st',
    proto  Enum8('other' = 0, 'icmp' = 1, 'igmp' = 2, 'tcp' = 6, 'udp' = 17, 'gre' = 47, 'esp' = 50, 'ah' = 51, 'icmpv6' = 58, 'sctp' = -124),
    dport  UInt16,
    events SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(dekad)
ORDER BY (dekad, proto, dport)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'States behind ports_by_dekad.';

-- Victims are few, sources are many: a table of their own, instead of a look at every source and day.
CREATE TABLE IF NOT EXISTS victim_days_state
(
    day        Date,
    src        IPv6 COMMENT 'the victim, which answers' CODEC(ZSTD(1)),
    events     SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    packets    SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    first_seen SimpleAggregateFunction(min, DateTime('UTC')) CODEC(T64, ZSTD(1)),
    last_seen  SimpleAggregateFunction(max, DateTime('UTC')) CODEC(T64, ZSTD(1)),
    targets    AggregateFunction(groupBitmap, UInt32) COMMENT 'exact for IPv4' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (day, src)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'States behind victim_days.';

-- What the old tables hold of times whose events are gone is taken over before the new feeds begin. Feeds from hour to day and on do the rest.
-- Each insert comes in the same blocks whenever it is made, with a token, so that a migration that was cut off can be run again.
DROP VIEW IF EXISTS demand_dekads_feed;

DROP VIEW IF EXISTS demand_days_feed;

DROP VIEW IF EXISTS demand_hours_feed;

INSERT INTO demand_by_hour_state (hour, proto, dport, method, events, packets, rough, targets)
SETTINGS insert_deduplication_token = '0012 hours', max_threads = 1, max_insert_threads = 1, min_insert_block_size_rows = 1000000, min_insert_block_size_bytes = 0,
    max_bytes_before_external_group_by = 2000000000, max_bytes_before_external_sort = 2000000000
SELECT h.hour AS hour, h.proto AS proto, h.dport AS dport, h.method AS method, sum(h.events), sum(h.packets), uniqCombined64MergeState(12)(h.sources), groupBitmapMergeState(h.targets)
FROM demand_hours_state AS h
GROUP BY hour, proto, dport, method
ORDER BY hour, proto, dport, method;

-- demand_hours had the rough count only.
INSERT INTO demand_by_hour_state (hour, proto, dport, method, sources)
SETTINGS insert_deduplication_token = '0012 hours, sources', max_threads = 1, max_insert_threads = 1, min_insert_block_size_rows = 1000000, min_insert_block_size_bytes = 0,
    max_bytes_before_external_group_by = 2000000000, max_bytes_before_external_sort = 2000000000
SELECT h.hour AS hour, h.proto AS proto, h.dport AS dport, arrayJoin(if(h.method = '', [''], ['', toString(h.method)])) AS asked, uniqCombined64MergeState(17)(h.sources)
FROM port_hours_state AS h
WHERE h.kind IN ('scan', 'request')
GROUP BY hour, proto, dport, asked
ORDER BY hour, proto, dport, asked;

INSERT INTO demand_by_day_state (day, proto, dport, method, events, packets, sources, rough, targets)
SETTINGS insert_deduplication_token = '0012 days', max_threads = 1, max_insert_threads = 1, min_insert_block_size_rows = 1000000, min_insert_block_size_bytes = 0,
    max_bytes_before_external_group_by = 2000000000, max_bytes_before_external_sort = 2000000000
SELECT d.day AS day, d.proto AS proto, d.dport AS dport, d.method AS method, sum(d.events), sum(d.packets), uniqCombined64MergeState(17)(d.sources), uniqCombined64MergeState(12)(d.rough), groupBitmapMergeState(d.targets)
FROM demand_days_state AS d
GROUP BY day, proto, dport, method
ORDER BY day, proto, dport, method;

INSERT INTO demand_by_dekad_state (dekad, proto, dport, method, events, packets, sources, rough, targets)
SETTINGS insert_deduplication_token = '0012 dekads', max_threads = 1, max_insert_threads = 1, min_insert_block_size_rows = 1000000, min_insert_block_size_bytes = 0,
    max_bytes_before_external_group_by = 2000000000, max_bytes_before_external_sort = 2000000000
SELECT toStartOfMonth(d.day) + 10 * least(intDiv(toDayOfMonth(d.day) - 1, 10), 2) AS dekad, d.proto AS proto, d.dport AS dport, d.method AS method, sum(d.events), sum(d.packets), uniqCombined64MergeState(17)(d.sources), uniqCombined64MergeState(12)(d.rough), groupBitmapMergeState(d.targets)
FROM demand_days_state AS d
GROUP BY dekad, proto, dport, method
ORDER BY dekad, proto, dport, method;

INSERT INTO ports_by_hour_state (hour, proto, dport, events)
SETTINGS insert_deduplication_token = '0012 hours, ports', max_threads = 1, max_insert_threads = 1, min_insert_block_size_rows = 1000000, min_insert_block_size_bytes = 0,
    max_bytes_before_external_group_by = 2000000000, max_bytes_before_external_sort = 2000000000
SELECT h.hour AS hour, h.proto AS proto, h.dport AS dport, sum(h.events)
FROM demand_hours_state AS h
WHERE h.method = ''
GROUP BY hour, proto, dport
ORDER BY hour, proto, dport;

INSERT INTO ports_by_day_state (day, proto, dport, events)
SETTINGS insert_deduplication_token = '0012 days, ports', max_threads = 1, max_insert_threads = 1, min_insert_block_size_rows = 1000000, min_insert_block_size_bytes = 0,
    max_bytes_before_external_group_by = 2000000000, max_bytes_before_external_sort = 2000000000
SELECT d.day AS day, d.proto AS proto, d.dport AS dport, sum(d.events)
FROM demand_days_state AS d
WHERE d.method = ''
GROUP BY day, proto, dport
ORDER BY day, proto, dport;

INSERT INTO ports_by_dekad_state (dekad, proto, dport, events)
SETTINGS insert_deduplication_token = '0012 dekads, ports', max_threads = 1, max_insert_threads = 1, min_insert_block_size_rows = 1000000, min_insert_block_size_bytes = 0,
    max_bytes_before_external_group_by = 2000000000, max_bytes_before_external_sort = 2000000000
SELECT toStartOfMonth(d.day) + 10 * least(intDiv(toDayOfMonth(d.day) - 1, 10), 2) AS dekad, d.proto AS proto, d.dport AS dport, sum(d.events)
FROM demand_days_state AS d
WHERE d.method = ''
GROUP BY dekad, proto, dport
ORDER BY dekad, proto, dport;

INSERT INTO victim_days_state (day, src, events, packets, first_seen, last_seen, targets)
SETTINGS insert_deduplication_token = '0012 victims', max_threads = 1, max_insert_threads = 1, min_insert_block_size_rows = 1000000, min_insert_block_size_bytes = 0,
    max_bytes_before_external_group_by = 2000000000, max_bytes_before_external_sort = 2000000000
SELECT s.day AS day, s.src AS src, sum(s.events), sum(s.packets), min(s.first_seen), max(s.last_seen), groupBitmapMergeState(s.targets)
FROM source_days_state AS s
WHERE s.kind = 'backscatter'
GROUP BY day, src
ORDER BY day, src;

-- The feeds, those at the end of a chain first: what comes in from now on takes the whole way.
CREATE MATERIALIZED VIEW IF NOT EXISTS ports_by_dekad_feed TO ports_by_dekad_state AS
SELECT
    toStartOfMonth(d.day) + 10 * least(intDiv(toDayOfMonth(d.day) - 1, 10), 2) AS dekad, d.proto AS proto, d.dport AS dport,
    sum(d.events) AS events
FROM ports_by_day_state AS d
GROUP BY dekad, proto, dport;

CREATE MATERIALIZED VIEW IF NOT EXISTS ports_by_day_feed TO ports_by_day_state AS
SELECT
    toDate(h.hour) AS day, h.proto AS proto, h.dport AS dport,
    sum(h.events) AS events
FROM ports_by_hour_state AS h
GROUP BY day, proto, dport;

CREATE MATERIALIZED VIEW IF NOT EXISTS ports_by_hour_feed TO ports_by_hour_state AS
SELECT
    h.hour AS hour, h.proto AS proto, h.dport AS dport,
    sum(h.events) AS events
FROM demand_by_hour_state AS h
WHERE h.method = ''
GROUP BY hour, proto, dport;

CREATE MATERIALIZED VIEW IF NOT EXISTS demand_by_dekad_feed TO demand_by_dekad_state AS
SELECT
    toStartOfMonth(d.day) + 10 * least(intDiv(toDayOfMonth(d.day) - 1, 10), 2) AS dekad, d.proto AS proto, d.dport AS dport, d.method AS method,
    sum(d.events) AS events,
    sum(d.packets) AS packets,
    uniqCombined64MergeState(17)(d.sources) AS sources,
    uniqCombined64MergeState(12)(d.rough) AS rough,
    groupBitmapMergeState(d.targets) AS targets
FROM demand_by_day_state AS d
GROUP BY dekad, proto, dport, method;

CREATE MATERIALIZED VIEW IF NOT EXISTS demand_by_day_feed TO demand_by_day_state AS
SELECT
    toDate(h.hour) AS day, h.proto AS proto, h.dport AS dport, h.method AS method,
    sum(h.events) AS events,
    sum(h.packets) AS packets,
    uniqCombined64MergeState(17)(h.sources) AS sources,
    uniqCombined64MergeState(12)(h.rough) AS rough,
    groupBitmapMergeState(h.targets) AS targets
FROM demand_by_hour_state AS h
GROUP BY day, proto, dport, method;

CREATE MATERIALIZED VIEW IF NOT EXISTS demand_by_hour_feed TO demand_by_hour_state AS
WITH
    toUInt128(e.dst) AS number,
    toUInt32(if(bitShiftRight(number, 32) = 0xFFFF, bitAnd(number, 0xFFFFFFFF), cityHash64(e.dst))) AS target
SELECT
    toStartOfHour(e.ts) AS hour, e.proto AS proto, e.dport AS dport,
    arrayJoin(if(e.method = '', [''], ['', toString(e.method)])) AS method,
    count() AS events,
    sum(e.packets) AS packets,
    uniqCombined64State(17)(e.src) AS sources,
    uniqCombined64State(12)(e.src) AS rough,
    groupBitmapState(target) AS targets
FROM events AS e
WHERE e.kind IN ('scan', 'request')
GROUP BY hour, proto, dport, method;

CREATE MATERIALIZED VIEW IF NOT EXISTS victim_days_feed TO victim_days_state AS
WITH
    toUInt128(e.dst) AS number,
    toUInt32(if(bitShiftRight(number, 32) = 0xFFFF, bitAnd(number, 0xFFFFFFFF), cityHash64(e.dst))) AS target
SELECT
    toDate(e.ts) AS day, e.src AS src,
    count() AS events,
    sum(e.packets) AS packets,
    toDateTime(min(e.ts), 'UTC') AS first_seen,
    toDateTime(max(e.ts), 'UTC') AS last_seen,
    groupBitmapState(target) AS targets
FROM events AS e
WHERE e.kind = 'backscatter'
GROUP BY day, src;

CREATE VIEW IF NOT EXISTS demand_by_hour
AS SELECT
    hour, proto, dport, method,
    sum(s.events) AS events,
    sum(s.packets) AS packets,
    uniqCombined64Merge(17)(s.sources) AS sources,
    groupBitmapMerge(s.targets) AS targets
FROM demand_by_hour_state AS s
GROUP BY hour, proto, dport, method
COMMENT 'Per hour, protocol, port and HTTP method (empty: everything): probes and requests, packets, distinct sources and targets. Distinct counts of several rows do not add up: use the questions.';

CREATE VIEW IF NOT EXISTS demand_by_day
AS SELECT
    day, proto, dport, method,
    sum(s.events) AS events,
    sum(s.packets) AS packets,
    uniqCombined64Merge(17)(s.sources) AS sources,
    groupBitmapMerge(s.targets) AS targets
FROM demand_by_day_state AS s
GROUP BY day, proto, dport, method
COMMENT 'Per UTC day, protocol, port and HTTP method (empty: everything): probes and requests, packets, distinct sources and targets. Distinct counts of several rows do not add up: use the questions.';

CREATE VIEW IF NOT EXISTS demand_by_dekad
AS SELECT
    dekad, proto, dport, method,
    sum(s.events) AS events,
    sum(s.packets) AS packets,
    uniqCombined64Merge(17)(s.sources) AS sources,
    groupBitmapMerge(s.targets) AS targets
FROM demand_by_dekad_state AS s
GROUP BY dekad, proto, dport, method
COMMENT 'Per third of a month, protocol, port and HTTP method (empty: everything): probes and requests, packets, distinct sources and targets. Distinct counts of several rows do not add up: use the questions.';

CREATE VIEW IF NOT EXISTS ports_by_hour
AS SELECT hour, proto, dport, sum(s.events) AS events
FROM ports_by_hour_state AS s
GROUP BY hour, proto, dport
COMMENT 'Per hour, protocol and port: probes and requests. Tells quickly which ports matter; demand_by_hour has the rest.';

CREATE VIEW IF NOT EXISTS ports_by_day
AS SELECT day, proto, dport, sum(s.events) AS events
FROM ports_by_day_state AS s
GROUP BY day, proto, dport
COMMENT 'Per UTC day, protocol and port: probes and requests. Tells quickly which ports matter; demand_by_day has the rest.';

CREATE VIEW IF NOT EXISTS ports_by_dekad
AS SELECT dekad, proto, dport, sum(s.events) AS events
FROM ports_by_dekad_state AS s
GROUP BY dekad, proto, dport
COMMENT 'Per third of a month, protocol and port: probes and requests. Tells quickly which ports matter; demand_by_dekad has the rest.';

CREATE VIEW IF NOT EXISTS victim_days
AS SELECT
    day, src,
    sum(s.events) AS events,
    sum(s.packets) AS packets,
    min(s.first_seen) AS first_seen,
    max(s.last_seen) AS last_seen,
    groupBitmapMerge(s.targets) AS targets
FROM victim_days_state AS s
GROUP BY day, src
COMMENT 'Per UTC day and victim: answers to what others sent in the name of monitored addresses (backscatter), packets, first and last seen, distinct targets.';
