-- Who are the sources of a network?
--
-- Parameter network String: of the sources, such as '203.0.113.0/24', '203.0.113.7' or '2001:db8::/32'; '::/0' is all
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row per source: events, packets, distinct targets and ports, first and last seen, and what the files of `loader context` say: autonomous
-- system (asn, as_name), country, and the name of a scanner that is known to mean no harm (benign); busiest first. What is not known is 0 or
-- empty. Whole UTC days: the first and the last day that the time touches are complete.
-- Exactness: exact for IPv4 targets; IPv6 targets are counted by a 32-bit hash. The context is as good as its files.
-- Example: SELECT * FROM source_context(network = '::/0', hours = 24) LIMIT 20
WITH
    least(greatest(parseDateTime64BestEffort({at:String}, 6, 'UTC'), toDateTime64('1970-01-02', 6, 'UTC')), toDateTime64('2106-02-07', 6, 'UTC')) AS until,
    greatest(until - toIntervalHour(least({hours:UInt32}, 1200000)), toDateTime64('1970-01-02', 6, 'UTC')) AS since,
    splitByChar('/', {network:String}) AS cidr,
    position({network:String}, ':') = 0 AS is4,
    toUInt64(if(length(cidr) = 1, if(is4, '32', '128'), cidr[2])) + if(is4, 96, 0) AS bits,
    IPv6CIDRToRange(toIPv6(cidr[1]), toUInt8(bits + throwIf(bits > 128, 'a network is written such as 203.0.113.0/24 or 2001:db8::/32'))) AS range,
    arrayMap(a -> toUInt32(if(bitShiftRight(a, 32) = 0xFFFF, bitShiftRight(a, 16), bitShiftRight(a, 112))), [toUInt128(range.1), toUInt128(range.2)]) AS ends
SELECT
    s.source AS src,
    s.n AS events,
    s.p AS packets,
    s.t AS targets,
    s.d AS ports,
    s.since_first AS first_seen,
    s.until_last AS last_seen,
    c.asn AS asn,
    toString(c.as_name) AS as_name,
    toString(c.country) AS country,
    toString(c.benign) AS benign
FROM
(
    SELECT
        src AS source, toUInt128(source) AS number, toUInt32(if(bitShiftRight(number, 32) = 0xFFFF, bitShiftRight(number, 16), bitShiftRight(number, 112))) AS block,
        sum(x.events) AS n, sum(x.packets) AS p, groupBitmapMerge(x.targets) AS t, groupBitmapMerge(x.ports) AS d,
        min(x.first_seen) AS since_first, max(x.last_seen) AS until_last
    FROM source_days_state AS x
    WHERE kind IN ('scan', 'request') AND day >= toDate(since) AND day <= toDate(until - toIntervalMicrosecond(1))
        AND src >= range.1 AND src <= range.2
    GROUP BY src
) AS s
LEFT ASOF JOIN
(
    -- The blocks of the network only. One that reaches over both families has all of them.
    SELECT block, number, asn, as_name, country, benign FROM context_ranges
    WHERE block >= ends[1] AND (block <= ends[2] OR range.1 <= toIPv6('0.0.0.0') AND range.2 >= toIPv6('255.255.255.255'))
) AS c ON c.block = s.block AND s.number >= c.number
ORDER BY events DESC, src
