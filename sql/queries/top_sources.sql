-- Which sources scan the most?
--
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row per source: events, packets, distinct targets and ports, first and last seen; busiest first. Whole UTC days: the first and the last day that the time touches are complete.
-- Exactness: exact for IPv4 targets; IPv6 targets are counted by a 32-bit hash.
-- Example: SELECT * FROM top_sources(hours = 24) LIMIT 20
WITH
    parseDateTime64BestEffort({at:String}, 6, 'UTC') AS until,
    until - toIntervalHour({hours:UInt32}) AS since
SELECT
    src,
    sum(s.events) AS events,
    sum(s.packets) AS packets,
    groupBitmapMerge(s.targets) AS targets,
    groupBitmapMerge(s.ports) AS ports,
    min(s.first_seen) AS first_seen,
    max(s.last_seen) AS last_seen
FROM source_days_state AS s
WHERE kind IN ('scan', 'request') AND day >= toDate(since) AND day <= toDate(until - toIntervalMicrosecond(1))
GROUP BY src
ORDER BY events DESC, src
