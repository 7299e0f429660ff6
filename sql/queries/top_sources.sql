-- Which sources scan the most?
--
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row for each of the 1,000 busiest sources: events, packets, distinct targets and ports, first and last seen; busiest first. Whole UTC days: the first and
-- the last day that the time touches are complete. It reads a row per source and day.
-- Exactness: exact for IPv4 targets; IPv6 targets are counted by a 32-bit hash.
-- Example: SELECT * FROM top_sources(hours = 24) LIMIT 20
WITH
    least(greatest(parseDateTime64BestEffort({at:String}, 6, 'UTC'), toDateTime64('1970-01-02', 6, 'UTC')), toDateTime64('2106-02-07', 6, 'UTC')) AS until,
    greatest(until - toIntervalHour(least({hours:UInt32}, 1200000)), toDateTime64('1970-01-02', 6, 'UTC')) AS since
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
    AND src IN
    (
        -- Counting events is cheap, merging sets is not: the sets of the busiest only.
        SELECT src
        FROM source_days_state AS c
        WHERE kind IN ('scan', 'request') AND day >= toDate(since) AND day <= toDate(until - toIntervalMicrosecond(1))
        GROUP BY src
        ORDER BY sum(c.events) DESC, src
        LIMIT 1000
    )
GROUP BY src
ORDER BY events DESC, src
