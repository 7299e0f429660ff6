-- Events: one row per probe, or per request of a connection. Every column of event.Event is here under
-- its SQL name, with full fidelity; what was measured for codecs and order is in docs/design/schema.md.
--
-- Statements run in the connection's default database and name no other: the database is a parameter.
-- Every table that is inserted into with a deduplication token has a deduplication window, and so has
-- every target of a view: a window on the base alone makes the views count a batch that was sent twice.
CREATE TABLE IF NOT EXISTS events
(
    ts           DateTime64(6, 'UTC')   COMMENT 'when the sensor saw it' CODEC(T64, ZSTD(1)),
    sensor       LowCardinality(String) COMMENT 'name of the sensor that saw it' CODEC(ZSTD(1)),
    src          IPv6                   COMMENT 'source address; IPv4 is mapped into ::ffff:0:0/96' CODEC(ZSTD(1)),
    dst          IPv6                   COMMENT 'target address; IPv4 is mapped into ::ffff:0:0/96' CODEC(ZSTD(1)),
    sport        UInt16                 COMMENT 'source port, 0 for protocols without ports' CODEC(ZSTD(1)),
    dport        UInt16                 COMMENT 'destination port, 0 for protocols without ports' CODEC(ZSTD(1)),
    proto        Enum8('other' = 0, 'icmp' = 1, 'igmp' = 2, 'tcp' = 6, 'udp' = 17, 'gre' = 47, 'esp' = 50, 'ah' = 51, 'icmpv6' = 58, 'sctp' = -124)
                                        COMMENT 'IP protocol; values are IANA numbers folded into a signed byte' CODEC(ZSTD(1)),
    kind         Enum8('scan' = 1, 'request' = 2, 'backscatter' = 3, 'other' = 4)
                                        COMMENT 'what it is: a probe, a request over a connection, backscatter (never a scan), something else' CODEC(ZSTD(1)),
    technique    Enum8('none' = 0, 'syn' = 1, 'fin' = 2, 'null' = 3, 'xmas' = 4, 'maimon' = 5, 'ack' = 6, 'udp' = 7, 'ping' = 8, 'timestamp' = 9, 'mask' = 10, 'init' = 11, 'synack' = 12, 'rst' = 13, 'unreachable' = 14, 'time_exceeded' = 15, 'reply' = 16, 'udp_reply' = 17, 'request' = 18)
                                        COMMENT 'how a probe asks, or what sort of answer a piece of backscatter is' CODEC(ZSTD(1)),
    packets      UInt32                 COMMENT 'packets this row stands for: 1 for captures, more for flow logs' CODEC(ZSTD(1)),
    tcp_flags    UInt8                  COMMENT 'FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128' CODEC(ZSTD(1)),
    window       UInt16                 COMMENT 'TCP window, unscaled' CODEC(ZSTD(1)),
    seq          UInt32                 COMMENT 'TCP sequence number' CODEC(ZSTD(1)),
    ip_id        UInt16                 COMMENT 'IPv4 identification' CODEC(ZSTD(1)),
    ttl          UInt8                  COMMENT 'TTL or hop limit as received' CODEC(ZSTD(1)),
    df           Bool                   COMMENT 'IPv4 do-not-fragment' CODEC(ZSTD(1)),
    signature    LowCardinality(String) COMMENT 'of a SYN: window:option kinds:mss:wscale' CODEC(ZSTD(1)),
    tool         LowCardinality(String) COMMENT 'tool whose exact rule this packet obeys, or empty; decide per source, not per packet' CODEC(ZSTD(1)),
    icmp_type    UInt8                  COMMENT 'ICMP or ICMPv6 type' CODEC(ZSTD(1)),
    icmp_code    UInt8                  COMMENT 'ICMP or ICMPv6 code' CODEC(ZSTD(1)),
    payload_len  UInt32                 COMMENT 'bytes of payload on the wire' CODEC(ZSTD(1)),
    payload_hash UInt64                 COMMENT 'xxHash64 of the captured payload, 0 without payload' CODEC(ZSTD(1)),
    method       LowCardinality(String) COMMENT 'HTTP request method' CODEC(ZSTD(1)),
    host         String                 COMMENT 'HTTP Host header' CODEC(ZSTD(1)),
    path         String                 COMMENT 'HTTP request target' CODEC(ZSTD(1)),
    user_agent   String                 COMMENT 'HTTP User-Agent header' CODEC(ZSTD(1)),
    input        UInt64                 COMMENT 'which input of the ledger (loads.input) it came from' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(ts)
ORDER BY (proto, dport, toStartOfHour(ts), src, ts)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'One row per probe, or per request of a connection.';
