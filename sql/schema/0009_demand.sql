-- Demand: how much was asked for a port, whatever sensor, technique and tool: what questions over months read. port_hours and port_days have a row for
-- each combination of these, a dozen for a busy port, and each with a sketch of its own; a question over 90 days then merges a
-- thousand large sketches. Here it is one row an hour, or a day, so that a question reads rows in proportion to hours x ports asked.
--
-- method = '' counts every probe and request to the port; rows with a method count the requests with it, once more.
-- Rows do not add up over methods.
--
-- Hours and days stand in the order of the day: what a window has left over at its edges is one range for all ports. A port over 90
-- days is 90 short ranges. Dekads (days 1 to 10, 11 to 20, 21 to the end of a month; no shorter time than a month can be cut into
-- without crossing its end, which partitions and Repair need) are what questions about all ports read: a day has a row for nearly each
-- of the 65,536 ports as soon as somebody tries them at random.
CREATE TABLE IF NOT EXISTS demand_hours_state
(
    hour      DateTime('UTC'),
    proto     Enum8('other' = 0, 'icmp' = 1, 'igmp' = 2, 'tcp' = 6, 'udp' = 17, 'gre' = 47, 'esp' = 50, 'ah' = 51, 'icmpv6' = 58, 'sctp' = -124),
    dport     UInt16,
    method    LowCardinality(String) COMMENT 'HTTP method; empty: every probe and request to the port',
    events    SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    packets   SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    sources   AggregateFunction(uniqCombined64(12), IPv6) COMMENT 'exact up to 128, then +-1.6 % (one standard error)' CODEC(ZSTD(1)),
    targets   AggregateFunction(groupBitmap, UInt32) COMMENT 'exact for IPv4' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (toDate(hour), proto, dport, method, hour)
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 1024
COMMENT 'States behind demand_hours.';

CREATE MATERIALIZED VIEW IF NOT EXISTS demand_hours_feed TO demand_hours_state AS
WITH
    toUInt128(e.dst) AS number,
    toUInt32(if(bitShiftRight(number, 32) = 0xFFFF, bitAnd(number, 0xFFFFFFFF), cityHash64(e.dst))) AS target
SELECT
    toStartOfHour(e.ts) AS hour, e.proto AS proto, e.dport AS dport,
    arrayJoin(if(e.method = '', [''], ['', toString(e.method)])) AS method,
    count() AS events,
    sum(e.packets) AS packets,
    uniqCombined64State(12)(e.src) AS sources,
    groupBitmapState(target) AS targets
FROM events AS e
WHERE e.kind IN ('scan', 'request')
GROUP BY hour, proto, dport, method;

CREATE VIEW IF NOT EXISTS demand_hours
AS SELECT
    hour, proto, dport, method,
    sum(s.events) AS events,
    sum(s.packets) AS packets,
    uniqCombined64Merge(12)(s.sources) AS sources,
    groupBitmapMerge(s.targets) AS targets
FROM demand_hours_state AS s
GROUP BY hour, proto, dport, method
COMMENT 'Per hour, protocol, port and HTTP method (empty: everything): probes and requests, packets, distinct sources and targets. Distinct counts of several rows do not add up: use the questions.';

CREATE TABLE IF NOT EXISTS demand_days_state
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
ORDER BY (day, proto, dport, method)
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 1024
COMMENT 'States behind demand_days.';

CREATE MATERIALIZED VIEW IF NOT EXISTS demand_days_feed TO demand_days_state AS
WITH
    toUInt128(e.dst) AS number,
    toUInt32(if(bitShiftRight(number, 32) = 0xFFFF, bitAnd(number, 0xFFFFFFFF), cityHash64(e.dst))) AS target
SELECT
    toDate(e.ts) AS day, e.proto AS proto, e.dport AS dport,
    arrayJoin(if(e.method = '', [''], ['', toString(e.method)])) AS method,
    count() AS events,
    sum(e.packets) AS packets,
    uniqCombined64State(17)(e.src) AS sources,
    uniqCombined64State(12)(e.src) AS rough,
    groupBitmapState(target) AS targets
FROM events AS e
WHERE e.kind IN ('scan', 'request')
GROUP BY day, proto, dport, method;

CREATE VIEW IF NOT EXISTS demand_days
AS SELECT
    day, proto, dport, method,
    sum(s.events) AS events,
    sum(s.packets) AS packets,
    uniqCombined64Merge(17)(s.sources) AS sources,
    groupBitmapMerge(s.targets) AS targets
FROM demand_days_state AS s
GROUP BY day, proto, dport, method
COMMENT 'Per UTC day, protocol, port and HTTP method (empty: everything): probes and requests, packets, distinct sources and targets. Distinct counts of several rows do not add up: use the questions.';

CREATE TABLE IF NOT EXISTS demand_dekads_state
(
    dekad     Date COMMENT 'first day of it: the 1st, 11th or 21st',
    proto     Enum8('other' = 0, 'icmp' = 1, 'igmp' = 2, 'tcp' = 6, 'udp' = 17, 'gre' = 47, 'esp' = 50, 'ah' = 51, 'icmpv6' = 58, 'sctp' = -124),
    dport     UInt16,
    method    LowCardinality(String) COMMENT 'HTTP method; empty: every probe and request to the port',
    events    SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    packets   SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    sources   AggregateFunction(uniqCombined64(12), IPv6) COMMENT 'exact up to 128, then +-1.6 % (one standard error)' CODEC(ZSTD(1)),
    targets   AggregateFunction(groupBitmap, UInt32) COMMENT 'exact for IPv4' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(dekad)
ORDER BY (proto, dport, method, dekad)
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 512
COMMENT 'States behind demand_dekads.';

-- Fed from the days, whose blocks are already small, not from the events.
CREATE MATERIALIZED VIEW IF NOT EXISTS demand_dekads_feed TO demand_dekads_state AS
SELECT
    toStartOfMonth(d.day) + 10 * least(intDiv(toDayOfMonth(d.day) - 1, 10), 2) AS dekad, d.proto AS proto, d.dport AS dport, d.method AS method,
    sum(d.events) AS events,
    sum(d.packets) AS packets,
    uniqCombined64MergeState(12)(d.rough) AS sources,
    groupBitmapMergeState(d.targets) AS targets
FROM demand_days_state AS d
GROUP BY dekad, proto, dport, method;

CREATE VIEW IF NOT EXISTS demand_dekads
AS SELECT
    dekad, proto, dport, method,
    sum(s.events) AS events,
    sum(s.packets) AS packets,
    uniqCombined64Merge(12)(s.sources) AS sources,
    groupBitmapMerge(s.targets) AS targets
FROM demand_dekads_state AS s
GROUP BY dekad, proto, dport, method
COMMENT 'Per third of a month, protocol, port and HTTP method (empty: everything): probes and requests, packets, distinct sources and targets. Distinct counts of several rows do not add up: use the questions.';

CREATE TABLE IF NOT EXISTS sensor_days_state
(
    day        Date,
    sensor     LowCardinality(String),
    kind       Enum8('scan' = 1, 'request' = 2, 'backscatter' = 3, 'other' = 4),
    events     SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    packets    SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    first_seen SimpleAggregateFunction(min, DateTime('UTC')),
    targets    AggregateFunction(groupBitmap, UInt32) COMMENT 'exact for IPv4' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (sensor, day, kind)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'States behind sensor_days.';

CREATE MATERIALIZED VIEW IF NOT EXISTS sensor_days_feed TO sensor_days_state AS
WITH
    toUInt128(e.dst) AS number,
    toUInt32(if(bitShiftRight(number, 32) = 0xFFFF, bitAnd(number, 0xFFFFFFFF), cityHash64(e.dst))) AS target
SELECT
    toDate(e.ts) AS day, e.sensor AS sensor, e.kind AS kind,
    count() AS events,
    sum(e.packets) AS packets,
    toDateTime(min(e.ts), 'UTC') AS first_seen,
    groupBitmapState(target) AS targets
FROM events AS e
GROUP BY day, sensor, kind;

CREATE VIEW IF NOT EXISTS sensor_days
AS SELECT
    day, sensor, kind,
    sum(s.events) AS events,
    sum(s.packets) AS packets,
    min(s.first_seen) AS first_seen,
    groupBitmapMerge(s.targets) AS targets
FROM sensor_days_state AS s
GROUP BY day, sensor, kind
COMMENT 'Per UTC day, sensor and kind: events, packets, first event, distinct targets.';

-- How long the tiers are kept, every version of it: what was ever dropped cannot be told from the tables.
CREATE TABLE IF NOT EXISTS retention_log
(
    tier LowCardinality(String) COMMENT 'events, hours, days or footprints',
    days UInt32 COMMENT 'kept for so many days after their own time; 0: for ever',
    at   DateTime64(6, 'UTC') COMMENT 'when it was set'
)
ENGINE = ReplacingMergeTree
ORDER BY (tier, at)
COMMENT 'Versions behind retention.';

CREATE VIEW IF NOT EXISTS retention
AS SELECT tier, argMax(r.days, r.at) AS days, max(r.at) AS since
FROM retention_log AS r
GROUP BY tier
COMMENT 'How long each tier is kept after its own time, in days (0: for ever), and since when. A tier without a row was never limited.';
