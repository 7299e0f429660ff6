-- Which networks scan the most?
--
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row per /24 (IPv4) or /48 (IPv6) of the sources: network, distinct sources, events, packets; most sources first.
-- Whole UTC days: the first and the last day that the time touches are complete.
-- Exactness: exact.
-- Example: SELECT * FROM top_networks(hours = 24) LIMIT 20
WITH
    parseDateTime64BestEffort({at:String}, 6, 'UTC') AS until,
    until - toIntervalHour({hours:UInt32}) AS since,
    toUInt128(src) AS number
SELECT
    if(bitShiftRight(number, 32) = 0xFFFF,
        concat(IPv4NumToString(toUInt32(bitAnd(number, 0xFFFFFF00))), '/24'),
        concat(IPv6NumToString(tupleElement(IPv6CIDRToRange(src, 48), 1)), '/48')) AS network,
    uniqExact(src) AS sources,
    sum(s.events) AS events,
    sum(s.packets) AS packets
FROM source_days_state AS s
WHERE kind IN ('scan', 'request') AND day >= toDate(since) AND day <= toDate(until - toIntervalMicrosecond(1))
GROUP BY network
ORDER BY sources DESC, events DESC, network
