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
    parseDateTime64BestEffort({at:String}, 6, 'UTC') AS until,
    until - toIntervalHour({hours:UInt32}) AS since
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
                AND isIPAddressInRange(if(bitShiftRight(toUInt128(dst), 32) = 0xFFFF, IPv4NumToString(toUInt32(bitAnd(toUInt128(dst), 0xFFFFFFFF))), IPv6NumToString(dst)), {prefix:String})
            GROUP BY target
        )
    )
)
ORDER BY target, other
