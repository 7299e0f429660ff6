-- Which HTTP paths are asked for, and by how many sources?
--
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row per method and path: distinct sources and targets, requests; most sources first. Whole UTC days: the first and the last day that the time touches are complete.
-- Exactness: requests exact; sources exact up to 512, then with a standard error of 0.8 %; targets exact for IPv4.
-- Example: SELECT * FROM http_paths(hours = 24) LIMIT 20
WITH
    least(greatest(parseDateTime64BestEffort({at:String}, 6, 'UTC'), toDateTime64('1970-01-02', 6, 'UTC')), toDateTime64('2106-02-07', 6, 'UTC')) AS until,
    greatest(until - toIntervalHour(least({hours:UInt32}, 1200000)), toDateTime64('1970-01-02', 6, 'UTC')) AS since
SELECT
    method,
    path,
    uniqCombined64Merge(14)(p.sources) AS sources,
    groupBitmapMerge(p.targets) AS targets,
    sum(p.events) AS requests
FROM path_days_state AS p
WHERE day >= toDate(since) AND day <= toDate(until - toIntervalMicrosecond(1))
GROUP BY method, path
ORDER BY sources DESC, requests DESC, method, path
