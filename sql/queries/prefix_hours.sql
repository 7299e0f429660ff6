-- How were the addresses of a prefix touched from hour to hour?
--
-- Parameter prefix String: such as '198.19.0.16/28' or '2001:db8::/64'
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row per target and UTC hour that saw something: distinct sources and ports, events; by target and hour. It reads the events of
-- the time, so its time grows with them.
-- Exactness: exact, in the time [at - hours, at). Probes and requests only.
-- Example: SELECT * FROM prefix_hours(prefix = '198.19.0.16/28', hours = 24)
WITH
    parseDateTime64BestEffort({at:String}, 6, 'UTC') AS until,
    until - toIntervalHour({hours:UInt32}) AS since
SELECT
    dst AS target,
    toStartOfHour(ts) AS hour,
    uniqExact(e.src) AS sources,
    uniqExact(e.proto, e.dport) AS ports,
    count() AS events
FROM events AS e
WHERE kind IN ('scan', 'request') AND ts >= since AND ts < until
    AND isIPAddressInRange(if(bitShiftRight(toUInt128(dst), 32) = 0xFFFF, IPv4NumToString(toUInt32(bitAnd(toUInt128(dst), 0xFFFFFFFF))), IPv6NumToString(dst)), {prefix:String})
GROUP BY target, hour
ORDER BY target, hour
