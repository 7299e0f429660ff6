-- Which sources hit a port, by HTTP method, in the last hours, and how?
--
-- Parameter port UInt32: destination port, of any protocol
-- Parameter method String: HTTP method such as 'HEAD'; '' counts every probe and request to the port
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row per source: events, packets, distinct targets, first and last touch, a tool that its packets show and a user agent (the last by name); busiest first.
-- It reads the events of the port, so its time grows with them.
-- Exactness: exact, in the time [at - hours, at).
-- Example: SELECT * FROM source_list(port = 80, method = 'HEAD', hours = 24) LIMIT 20
WITH
    least(greatest(parseDateTime64BestEffort({at:String}, 6, 'UTC'), toDateTime64('1970-01-02', 6, 'UTC')), toDateTime64('2106-02-07', 6, 'UTC')) AS until,
    greatest(until - toIntervalHour(least({hours:UInt32}, 1200000)), toDateTime64('1970-01-02', 6, 'UTC')) AS since
SELECT
    src,
    count() AS events,
    sum(e.packets) AS packets,
    uniqExact(e.dst) AS targets,
    min(e.ts) AS first_seen,
    max(e.ts) AS last_seen,
    max(e.tool) AS tool,
    max(e.user_agent) AS user_agent
FROM events AS e
WHERE dport = {port:UInt32} AND kind IN ('scan', 'request') AND ({method:String} = '' OR method = upper({method:String}))
    AND ts >= since AND ts < until
GROUP BY src
ORDER BY events DESC, src
