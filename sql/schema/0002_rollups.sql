-- Rollups: aggregate states filled by materialised views as events come in.
--
-- NAME_state holds the states, NAME_feed fills it, and the view NAME finishes the states, so that nobody types a
-- -Merge call. Distinct counts do not add up over rows: a question over several hours, ports or sensors must merge
-- the states, as the questions in queries/ do.
--
-- Distinct sources use uniqCombined64(K): exact up to 2^(K-5) elements (measured), beyond that with a standard error of
-- 1.04/sqrt(2^K). Distinct targets are bitmaps: a telescope's addresses lie close together, so an exact bitmap is
-- smaller than a sketch. An IPv4 address is its own number in it; an IPv6 address is hashed to 32 bits, which loses one
-- of n with probability n / 2^33. Each column says its own error in its comment.
--
-- Feeds without GROUP BY leave it to merges to put rows of one key together: where most keys are new that is cheaper than to
-- group them first, and where they are not the first merge does it.
CREATE TABLE IF NOT EXISTS port_hours_state
(
    hour      DateTime('UTC'),
    proto     Enum8('other' = 0, 'icmp' = 1, 'igmp' = 2, 'tcp' = 6, 'udp' = 17, 'gre' = 47, 'esp' = 50, 'ah' = 51, 'icmpv6' = 58, 'sctp' = -124),
    dport     UInt16,
    sensor    LowCardinality(String),
    kind      Enum8('scan' = 1, 'request' = 2, 'backscatter' = 3, 'other' = 4),
    technique Enum8('none' = 0, 'syn' = 1, 'fin' = 2, 'null' = 3, 'xmas' = 4, 'maimon' = 5, 'ack' = 6, 'udp' = 7, 'ping' = 8, 'timestamp' = 9, 'mask' = 10, 'init' = 11, 'synack' = 12, 'rst' = 13, 'unreachable' = 14, 'time_exceeded' = 15, 'reply' = 16, 'udp_reply' = 17, 'request' = 18),
    tool      LowCardinality(String),
    method    LowCardinality(String),
    events    SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    packets   SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    sources   AggregateFunction(uniqCombined64(17), IPv6) COMMENT 'exact up to 4,096, then +-0.29 % (one standard error)' CODEC(ZSTD(1)),
    targets   AggregateFunction(groupBitmap, UInt32) COMMENT 'exact for IPv4' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (proto, dport, hour, kind, technique, sensor, method, tool)
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 1024
COMMENT 'States behind port_hours.';

CREATE MATERIALIZED VIEW IF NOT EXISTS port_hours_feed TO port_hours_state AS
WITH
    toUInt128(dst) AS number,
    toUInt32(if(bitShiftRight(number, 32) = 0xFFFF, bitAnd(number, 0xFFFFFFFF), cityHash64(dst))) AS target
SELECT
    toStartOfHour(ts) AS hour, proto, dport, sensor, kind, technique, tool, method,
    count() AS events,
    sum(e.packets) AS packets,
    uniqCombined64State(17)(src) AS sources,
    groupBitmapState(target) AS targets
FROM events AS e
GROUP BY hour, proto, dport, sensor, kind, technique, tool, method;

CREATE VIEW IF NOT EXISTS port_hours
AS SELECT
    hour, proto, dport, sensor, kind, technique, tool, method,
    sum(s.events) AS events,
    sum(s.packets) AS packets,
    uniqCombined64Merge(17)(s.sources) AS sources,
    groupBitmapMerge(s.targets) AS targets
FROM port_hours_state AS s
GROUP BY hour, proto, dport, sensor, kind, technique, tool, method
COMMENT 'Per hour, protocol, port, sensor, kind, technique, tool and HTTP method: events, packets, distinct sources and targets. Distinct counts of several rows do not add up: use the questions.';

CREATE TABLE IF NOT EXISTS port_days_state
(
    day       Date,
    proto     Enum8('other' = 0, 'icmp' = 1, 'igmp' = 2, 'tcp' = 6, 'udp' = 17, 'gre' = 47, 'esp' = 50, 'ah' = 51, 'icmpv6' = 58, 'sctp' = -124),
    dport     UInt16,
    sensor    LowCardinality(String),
    kind      Enum8('scan' = 1, 'request' = 2, 'backscatter' = 3, 'other' = 4),
    technique Enum8('none' = 0, 'syn' = 1, 'fin' = 2, 'null' = 3, 'xmas' = 4, 'maimon' = 5, 'ack' = 6, 'udp' = 7, 'ping' = 8, 'timestamp' = 9, 'mask' = 10, 'init' = 11, 'synack' = 12, 'rst' = 13, 'unreachable' = 14, 'time_exceeded' = 15, 'reply' = 16, 'udp_reply' = 17, 'request' = 18),
    tool      LowCardinality(String),
    method    LowCardinality(String),
    events    SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    packets   SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    sources   AggregateFunction(uniqCombined64(17), IPv6) COMMENT 'exact up to 4,096, then +-0.29 % (one standard error)' CODEC(ZSTD(1)),
    targets   AggregateFunction(groupBitmap, UInt32) COMMENT 'exact for IPv4' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (proto, dport, day, kind, technique, sensor, method, tool)
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 1024
COMMENT 'States behind port_days.';

-- Fed from the hours, whose blocks are already small, not from the events.
CREATE MATERIALIZED VIEW IF NOT EXISTS port_days_feed TO port_days_state AS
SELECT
    toDate(hour) AS day, proto, dport, sensor, kind, technique, tool, method,
    sum(h.events) AS events,
    sum(h.packets) AS packets,
    uniqCombined64MergeState(17)(h.sources) AS sources,
    groupBitmapMergeState(h.targets) AS targets
FROM port_hours_state AS h
GROUP BY day, proto, dport, sensor, kind, technique, tool, method;

CREATE VIEW IF NOT EXISTS port_days
AS SELECT
    day, proto, dport, sensor, kind, technique, tool, method,
    sum(s.events) AS events,
    sum(s.packets) AS packets,
    uniqCombined64Merge(17)(s.sources) AS sources,
    groupBitmapMerge(s.targets) AS targets
FROM port_days_state AS s
GROUP BY day, proto, dport, sensor, kind, technique, tool, method
COMMENT 'Per UTC day, protocol, port, sensor, kind, technique, tool and HTTP method: events, packets, distinct sources and targets. Distinct counts of several rows do not add up: use the questions.';

-- What a source did in a day, split by what its packets look like: the rows are counts of looks (tool, signature,
-- TTL class, user agent, UDP payload), of which a scanner has one or two a day. Counts in rows stay
-- exact and do not depend on the order of merges, which sketches of the commonest value do.
CREATE TABLE IF NOT EXISTS source_days_state
(
    day          Date,
    src          IPv6 CODEC(ZSTD(1)),
    sensor       LowCardinality(String),
    kind         Enum8('scan' = 1, 'request' = 2, 'backscatter' = 3, 'other' = 4),
    tool         LowCardinality(String),
    signature    LowCardinality(String),
    ttl_class    UInt8 COMMENT 'initial TTL above the TTL seen: 32, 64, 128 or 255; 0 unknown',
    user_agent   String CODEC(ZSTD(1)),
    payload_hash UInt64 COMMENT 'of UDP probes, else 0' CODEC(ZSTD(1)),
    events       SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    packets      SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    first_seen   SimpleAggregateFunction(min, DateTime('UTC')) CODEC(T64, ZSTD(1)),
    last_seen    SimpleAggregateFunction(max, DateTime('UTC')) CODEC(T64, ZSTD(1)),
    syns         SimpleAggregateFunction(sum, UInt64) COMMENT 'TCP SYN probes' CODEC(T64, ZSTD(1)),
    masscan      SimpleAggregateFunction(sum, UInt64) COMMENT 'SYNs with ip_id = low 16 bits of dst ^ dport ^ seq' CODEC(T64, ZSTD(1)),
    zmap         SimpleAggregateFunction(sum, UInt64) COMMENT 'probes with ip_id 54321' CODEC(T64, ZSTD(1)),
    mirai        SimpleAggregateFunction(sum, UInt64) COMMENT 'SYNs with seq = dst as a number' CODEC(T64, ZSTD(1)),
    nmap_keys    AggregateFunction(uniqUpTo(8), UInt16) COMMENT 'distinct seq high ^ low halves of SYNs: constant over a run of nmap; exact up to 8' CODEC(ZSTD(1)),
    targets      AggregateFunction(groupBitmap, UInt32) COMMENT 'exact for IPv4' CODEC(ZSTD(1)),
    ports        AggregateFunction(groupBitmap, UInt16) COMMENT 'exact' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (src, day, sensor, kind, tool, signature, ttl_class, user_agent, payload_hash)
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 2048
COMMENT 'States behind source_days.';

CREATE MATERIALIZED VIEW IF NOT EXISTS source_days_feed TO source_days_state AS
WITH
    toUInt128(dst) AS number,
    toUInt32(bitAnd(number, 0xFFFFFFFF)) AS dst4,
    if(bitShiftRight(number, 32) = 0xFFFF, dst4, toUInt32(cityHash64(dst))) AS target,
    technique = 'syn' AS is_syn
SELECT
    toDate(ts) AS day, src, sensor, kind, tool, signature,
    toUInt8(multiIf(ttl = 0, 0, ttl <= 32, 32, ttl <= 64, 64, ttl <= 128, 128, 255)) AS ttl_class,
    user_agent,
    if(kind = 'scan' AND proto = 'udp', e.payload_hash, 0) AS payload_hash,
    count() AS events,
    sum(e.packets) AS packets,
    toDateTime(min(ts), 'UTC') AS first_seen,
    toDateTime(max(ts), 'UTC') AS last_seen,
    countIf(is_syn) AS syns,
    countIf(is_syn AND ip_id = bitAnd(bitXor(bitXor(dst4, seq), dport), 0xFFFF)) AS masscan,
    countIf(kind = 'scan' AND ip_id = 54321) AS zmap,
    countIf(is_syn AND seq = dst4) AS mirai,
    uniqUpToStateIf(8)(toUInt16(bitXor(bitShiftRight(seq, 16), bitAnd(seq, 0xFFFF))), is_syn) AS nmap_keys,
    groupBitmapState(target) AS targets,
    groupBitmapState(dport) AS ports
FROM events AS e
GROUP BY day, src, sensor, kind, tool, signature, ttl_class, user_agent, payload_hash;

CREATE VIEW IF NOT EXISTS source_days
AS SELECT
    day, sensor, src,
    sum(s.events) AS events,
    sum(s.packets) AS packets,
    sumIf(s.events, s.kind = 'request') AS requests,
    sumIf(s.events, s.kind = 'backscatter') AS backscatter,
    sumIf(s.events, s.kind = 'other') AS other,
    min(s.first_seen) AS first_seen,
    max(s.last_seen) AS last_seen,
    groupBitmapMergeIf(s.targets, s.kind IN ('scan', 'request')) AS targets,
    groupBitmapMergeIf(s.ports, s.kind IN ('scan', 'request')) AS ports,
    sum(s.syns) AS syns,
    sumIf(s.events, s.kind = 'scan') AS probes,
    multiIf(
        syns >= 2 AND sumIf(s.syns, s.tool = 'mirai') >= 0.98 * syns, 'mirai',
        syns >= 2 AND sumIf(s.syns, s.tool = 'zmap') >= 0.98 * syns, 'zmap',
        syns >= 2 AND greatest(sumIf(s.syns, s.tool = 'masscan'), sum(s.masscan)) >= 0.98 * syns, 'masscan',
        syns >= 2 AND sumIf(s.syns, match(s.signature, '^(1024|2048|3072|4096):2:1460:$')) >= 0.98 * syns
            AND uniqUpToMerge(8)(s.nmap_keys) <= least(8, syns / 2), 'nmap',
        syns = 0 AND probes >= 2 AND sumIf(s.events, s.kind = 'scan' AND s.tool = 'zmap') >= 0.98 * probes, 'zmap',
        '') AS tool,
    (sumMapIf([toString(s.signature)], [s.syns], s.signature != '') AS signatures).1[indexOf(signatures.2, arrayMax(signatures.2))] AS signature,
    (sumMapIf([s.ttl_class], [s.events], s.ttl_class != 0) AS ttls).1[indexOf(ttls.2, arrayMax(ttls.2))] AS ttl_class,
    (sumMapIf([s.user_agent], [s.events], s.user_agent != '') AS agents).1[indexOf(agents.2, arrayMax(agents.2))] AS user_agent,
    (sumMapIf([s.payload_hash], [s.events], s.payload_hash != 0) AS payloads).1[indexOf(payloads.2, arrayMax(payloads.2))] AS payload_hash
FROM source_days_state AS s
GROUP BY day, sensor, src
COMMENT 'Per UTC day, sensor and source: events by kind, packets, first and last seen, distinct targets and ports of probes and requests, and how it behaves: tool decided over all its probes, commonest SYN signature, TTL class, user agent and UDP payload.';

CREATE TABLE IF NOT EXISTS target_days_state
(
    day        Date CODEC(T64, ZSTD(1)),
    dst        IPv6 CODEC(ZSTD(1)),
    sensor     LowCardinality(String),
    kind       Enum8('scan' = 1, 'request' = 2, 'backscatter' = 3, 'other' = 4),
    events     SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    packets    SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    first_seen SimpleAggregateFunction(min, DateTime('UTC')) CODEC(T64, ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (dst, day, sensor, kind)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'States behind target_days.';

-- Distinct sources are left out on purpose: a darknet's target sees few sources a day, so their hashes would take as much
-- room as the events (docs/design/schema.md); the question target_sources counts them.
CREATE MATERIALIZED VIEW IF NOT EXISTS target_days_feed TO target_days_state AS
SELECT
    toDate(ts) AS day, dst, sensor, kind,
    toUInt64(1) AS events,
    toUInt64(e.packets) AS packets,
    toDateTime(ts, 'UTC') AS first_seen
FROM events AS e;

CREATE VIEW IF NOT EXISTS target_days
AS SELECT
    day, dst, sensor, kind,
    sum(s.events) AS events,
    sum(s.packets) AS packets,
    min(s.first_seen) AS first_seen
FROM target_days_state AS s
GROUP BY day, dst, sensor, kind
COMMENT 'Per UTC day, target address, sensor and kind: events, packets, first touch.';

CREATE TABLE IF NOT EXISTS path_days_state
(
    day     Date,
    method  LowCardinality(String),
    path    String CODEC(ZSTD(1)),
    events  SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    sources AggregateFunction(uniqCombined64(14), IPv6) COMMENT 'exact up to 512, then +-0.8 % (one standard error)' CODEC(ZSTD(1)),
    targets AggregateFunction(groupBitmap, UInt32) COMMENT 'exact for IPv4' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (path, method, day)
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 2048
COMMENT 'States behind path_days.';

CREATE MATERIALIZED VIEW IF NOT EXISTS path_days_feed TO path_days_state AS
WITH
    toUInt128(dst) AS number,
    toUInt32(if(bitShiftRight(number, 32) = 0xFFFF, bitAnd(number, 0xFFFFFFFF), cityHash64(dst))) AS target
SELECT
    toDate(ts) AS day, method, path,
    count() AS events,
    uniqCombined64State(14)(src) AS sources,
    groupBitmapState(target) AS targets
FROM events
WHERE kind = 'request' AND method != ''
GROUP BY day, method, path;

CREATE VIEW IF NOT EXISTS path_days
AS SELECT
    day, method, path,
    sum(s.events) AS events,
    uniqCombined64Merge(14)(s.sources) AS sources,
    groupBitmapMerge(s.targets) AS targets
FROM path_days_state AS s
GROUP BY day, method, path
COMMENT 'Per UTC day, HTTP method and path: requests, distinct sources and targets.';
