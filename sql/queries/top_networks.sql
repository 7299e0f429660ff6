-- Which networks scan the most?
--
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row for each of the 1,000 networks, /24 (IPv4) or /48 (IPv6), with the most sources: network, distinct sources, events, packets; most sources first.
-- Whole UTC days: the first and the last day that the time touches are complete.
-- Exactness: exact.
-- Example: SELECT * FROM top_networks(hours = 24) LIMIT 20
WITH
    least(greatest(parseDateTime64BestEffort({at:String}, 6, 'UTC'), toDateTime64('1970-01-02', 6, 'UTC')), toDateTime64('2106-02-07', 6, 'UTC')) AS until,
    greatest(until - toIntervalHour(least({hours:UInt32}, 1200000)), toDateTime64('1970-01-02', 6, 'UTC')) AS since
SELECT
    if(bitShiftRight(toUInt128(one), 32) = 0xFFFF,
        concat(IPv4NumToString(toUInt32(bitAnd(toUInt128(one), 0xFFFFFF00))), '/24'),
        concat(IPv6NumToString(tupleElement(IPv6CIDRToRange(one, 48), 1)), '/48')) AS network,
    sources,
    events,
    packets
FROM
(
    -- Source by source first, then by numbers: a third of the time that distinct sources by the text of the network take.
    SELECT
        any(src) AS one,
        count() AS sources,
        sum(n) AS events,
        sum(p) AS packets
    FROM
    (
        SELECT src, sum(s.events) AS n, sum(s.packets) AS p
        FROM source_days_state AS s
        WHERE kind IN ('scan', 'request') AND day >= toDate(since) AND day <= toDate(until - toIntervalMicrosecond(1))
        GROUP BY src
    )
    GROUP BY if(bitShiftRight(toUInt128(src) AS number, 32) = 0xFFFF, bitShiftLeft(bitShiftRight(number, 8), 8), bitShiftLeft(bitShiftRight(number, 80), 80)) AS prefix
    ORDER BY sources DESC, events DESC, prefix
    LIMIT 1000
)
ORDER BY sources DESC, events DESC, network
