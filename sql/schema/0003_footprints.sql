-- Footprints: what every source touched, which is what detection reads, in order of the source so that it can be
-- streamed. Probes and requests only: backscatter touches nothing on purpose.
CREATE TABLE IF NOT EXISTS footprints_state
(
    day        Date CODEC(T64, ZSTD(1)),
    src        IPv6 CODEC(ZSTD(1)),
    proto      Enum8('other' = 0, 'icmp' = 1, 'igmp' = 2, 'tcp' = 6, 'udp' = 17, 'gre' = 47, 'esp' = 50, 'ah' = 51, 'icmpv6' = 58, 'sctp' = -124),
    dport      UInt16,
    dst        IPv6 CODEC(ZSTD(1)),
    sensor     LowCardinality(String),
    object     String COMMENT 'of a request: method and path with a space between; empty for probes' CODEC(ZSTD(1)),
    events     SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1)),
    first_seen SimpleAggregateFunction(min, DateTime('UTC')) CODEC(T64, ZSTD(1)),
    last_seen  SimpleAggregateFunction(max, DateTime('UTC')) CODEC(T64, ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (src, proto, dport, dst, sensor, object, day)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'States behind footprints.';

CREATE MATERIALIZED VIEW IF NOT EXISTS footprints_feed TO footprints_state AS
SELECT
    toDate(ts) AS day, src, proto, dport, dst, sensor,
    if(kind = 'request' AND method != '', concat(method, ' ', path), '') AS object,
    toUInt64(1) AS events,
    toDateTime(ts, 'UTC') AS first_seen,
    toDateTime(ts, 'UTC') AS last_seen
FROM events
WHERE kind IN ('scan', 'request');

CREATE VIEW IF NOT EXISTS footprints
AS SELECT
    day, src, proto, dport, dst, sensor, object,
    sum(s.events) AS events,
    min(s.first_seen) AS first_seen,
    max(s.last_seen) AS last_seen
FROM footprints_state AS s
GROUP BY day, src, proto, dport, dst, sensor, object
COMMENT 'Per UTC day, source, protocol, port, target, sensor and object (method and path of a request): events, first and last touch. Probes and requests only.';
