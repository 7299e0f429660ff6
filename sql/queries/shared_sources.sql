-- How many sources do the addresses of a prefix share?
--
-- Parameter prefix String: such as '198.19.0.16/28'; of a /24 there are 32,640 pairs
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row per pair of targets that were both touched: distinct sources of the first, of the second, of both, and the share that both have
-- of either's (0: the sources shared the targets out; 1: all came to both). It reads the events of the time, so its time grows
-- with them.
-- Exactness: exact, in the time [at - hours, at). Probes and requests only.
-- Example: SELECT * FROM shared_sources(prefix = '198.19.0.16/28', hours = 24)
WITH
    least(greatest(parseDateTime64BestEffort({at:String}, 6, 'UTC'), toDateTime64('1970-01-02', 6, 'UTC')), toDateTime64('2106-02-07', 6, 'UTC')) AS until,
    greatest(until - toIntervalHour(least({hours:UInt32}, 1200000)), toDateTime64('1970-01-02', 6, 'UTC')) AS since,
    splitByChar('/', {prefix:String}) AS cidr,
    position({prefix:String}, ':') = 0 AS is4,
    toUInt64(if(length(cidr) = 1, if(is4, '32', '128'), cidr[2])) + if(is4, 96, 0) AS bits,
    IPv6CIDRToRange(toIPv6(cidr[1]), toUInt8(bits + throwIf(bits > 128, 'a network is written such as 203.0.113.0/24 or 2001:db8::/32'))) AS range
SELECT
    pair.1.1 AS target,
    pair.2.1 AS other,
    toUInt64(length(pair.1.2)) AS sources,
    toUInt64(length(pair.2.2)) AS other_sources,
    toUInt64(length(arrayIntersect(pair.1.2, pair.2.2))) AS shared,
    shared / (sources + other_sources - shared) AS share
FROM
(
    SELECT arrayJoin(arrayFlatten(arrayMap((a, i) -> arrayMap(b -> (a, b), arraySlice(sets, i + 1)), sets, arrayEnumerate(sets)))) AS pair
    FROM
    (
        SELECT arraySort(groupArray((target, them))) AS sets
        FROM
        (
            SELECT dst AS target, groupUniqArray(src) AS them
            FROM events
            WHERE kind IN ('scan', 'request') AND ts >= since AND ts < until
                AND dst >= range.1 AND dst <= range.2
            GROUP BY target
        )
    )
)
ORDER BY target, other
