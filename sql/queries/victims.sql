-- Who is being attacked with our addresses as forged sources (backscatter)?
--
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row per victim, the address that answers: packets and distinct addresses of ours that it answered to,
-- first and last seen; most packets first. Whole UTC days: the first and the last day that the time touches are complete.
-- Exactness: exact for IPv4 targets; IPv6 targets are counted by a 32-bit hash.
-- Example: SELECT * FROM victims(hours = 24) LIMIT 20
WITH
    parseDateTime64BestEffort({at:String}, 6, 'UTC') AS until,
    until - toIntervalHour({hours:UInt32}) AS since
SELECT
    src AS victim,
    sum(s.packets) AS packets,
    sum(s.events) AS events,
    groupBitmapMerge(s.targets) AS targets,
    min(s.first_seen) AS first_seen,
    max(s.last_seen) AS last_seen
FROM victim_days_state AS s
WHERE day >= toDate(since) AND day <= toDate(until - toIntervalMicrosecond(1))
GROUP BY victim
ORDER BY packets DESC, victim
