-- How much does a source do, typically and at most?
--
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row each for events, targets and ports of a source: median, 90th and 99th percentile, most, and the mean, which the few largest decide. A percentile is the least
-- value that so many do not exceed: of an even number the median is the lower of the two in the middle.
-- Whole UTC days: the first and the last day that the time touches are complete.
-- Exactness: exact for IPv4 targets; IPv6 targets are counted by a 32-bit hash.
-- Example: SELECT * FROM source_sizes(hours = 168)
WITH
    least(greatest(parseDateTime64BestEffort({at:String}, 6, 'UTC'), toDateTime64('1970-01-02', 6, 'UTC')), toDateTime64('2106-02-07', 6, 'UTC')) AS until,
    greatest(until - toIntervalHour(least({hours:UInt32}, 1200000)), toDateTime64('1970-01-02', 6, 'UTC')) AS since
SELECT
    (arrayJoin([('events', n), ('targets', t), ('ports', p)]) AS pair).1 AS what,
    count() AS sources,
    -- A hair below: quantileExact takes the next higher value where the level meets one exactly.
    quantileExact(0.499999999999)(pair.2) AS median,
    quantileExact(0.899999999999)(pair.2) AS percentile90,
    quantileExact(0.989999999999)(pair.2) AS percentile99,
    max(pair.2) AS most,
    avg(pair.2) AS mean
FROM
(
    SELECT sum(s.events) AS n, groupBitmapMerge(s.targets) AS t, groupBitmapMerge(s.ports) AS p
    FROM source_days_state AS s
    WHERE kind IN ('scan', 'request') AND day >= toDate(since) AND day <= toDate(until - toIntervalMicrosecond(1))
    GROUP BY src
)
GROUP BY what
ORDER BY what
