-- How many distinct sources touched each address of a prefix?
--
-- Parameter prefix String: such as '198.19.0.16/28' or '2001:db8::/64'
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row per target: distinct sources and ports, events, first and last touch; by address. It reads the events of the time, so
-- its time grows with them.
-- Exactness: exact, in the time [at - hours, at). Probes and requests only.
-- Example: SELECT * FROM target_sources(prefix = '198.19.0.16/28', hours = 24)
WITH
    parseDateTime64BestEffort({at:String}, 6, 'UTC') AS until,
    until - toIntervalHour({hours:UInt32}) AS since
SELECT
    dst AS target,
    uniqExact(e.src) AS sources,
    uniqExact(e.proto, e.dport) AS ports,
    count() AS events,
    min(e.ts) AS first_seen,
    max(e.ts) AS last_seen
FROM events AS e
WHERE kind IN ('scan', 'request') AND ts >= since AND ts < until
    AND isIPAddressInRange(if(bitShiftRight(toUInt128(dst), 32) = 0xFFFF, IPv4NumToString(toUInt32(bitAnd(toUInt128(dst), 0xFFFFFFFF))), IPv6NumToString(dst)), {prefix:String})
GROUP BY target
ORDER BY target
