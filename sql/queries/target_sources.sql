-- How many distinct sources touched each address of a prefix?
--
-- Parameter prefix String: such as '198.19.0.16/28' or '2001:db8::/64'; '::/0' is all
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row per target: distinct sources and ports, events, first and last touch; by address. It reads the events of the time, so
-- its time grows with them.
-- Exactness: exact, in the time [at - hours, at). Probes and requests only.
-- Example: SELECT * FROM target_sources(prefix = '198.19.0.16/28', hours = 24)
WITH
    least(greatest(parseDateTime64BestEffort({at:String}, 6, 'UTC'), toDateTime64('1970-01-02', 6, 'UTC')), toDateTime64('2106-02-07', 6, 'UTC')) AS until,
    greatest(until - toIntervalHour(least({hours:UInt32}, 1200000)), toDateTime64('1970-01-02', 6, 'UTC')) AS since,
    splitByChar('/', {prefix:String}) AS cidr,
    position({prefix:String}, ':') = 0 AS is4,
    toUInt64(if(length(cidr) = 1, if(is4, '32', '128'), cidr[2])) + if(is4, 96, 0) AS bits,
    IPv6CIDRToRange(toIPv6(cidr[1]), toUInt8(bits + throwIf(bits > 128, 'a network is written such as 203.0.113.0/24 or 2001:db8::/32'))) AS range
SELECT
    dst AS target,
    uniqExact(e.src) AS sources,
    uniqExact(e.proto, e.dport) AS ports,
    count() AS events,
    min(e.ts) AS first_seen,
    max(e.ts) AS last_seen
FROM events AS e
WHERE kind IN ('scan', 'request') AND ts >= since AND ts < until
    AND dst >= range.1 AND dst <= range.2
GROUP BY target
ORDER BY target
