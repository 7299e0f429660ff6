-- Which ports are scanned by the most distinct sources?
--
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row per protocol and port (0 for protocols without ports): distinct sources and targets, events, packets; most sources first.
-- Whole hours: the first and the last hour that the time touches are complete.
-- Exactness: events, packets and targets exact; sources exact up to 4,096, then with a standard error of 0.29 %.
-- Example: SELECT * FROM top_ports(hours = 24) LIMIT 20
WITH
    parseDateTime64BestEffort({at:String}, 6, 'UTC') AS until,
    until - toIntervalHour({hours:UInt32}) AS since,
    toStartOfHour(since) AS first_hour,
    toDate(first_hour - toIntervalSecond(1)) + 1 AS first_day,
    toDate(until) AS end_day
SELECT
    proto,
    dport,
    uniqCombined64Merge(17)(s) AS sources,
    groupBitmapMerge(t) AS targets,
    sum(n) AS events,
    sum(p) AS packets
FROM
(
    SELECT proto, dport, uniqCombined64MergeState(17)(h.sources) AS s, groupBitmapMergeState(h.targets) AS t, sum(h.events) AS n, sum(h.packets) AS p
    FROM port_hours_state AS h
    WHERE kind IN ('scan', 'request')
        AND ((hour >= first_hour AND hour < least(until, toDateTime(first_day, 'UTC'))) OR (hour >= greatest(first_hour, toDateTime(end_day, 'UTC')) AND hour < until))
    GROUP BY proto, dport
    UNION ALL
    SELECT proto, dport, uniqCombined64MergeState(17)(d.sources), groupBitmapMergeState(d.targets), sum(d.events), sum(d.packets)
    FROM port_days_state AS d
    WHERE kind IN ('scan', 'request') AND day >= first_day AND day < end_day
    GROUP BY proto, dport
)
GROUP BY proto, dport
ORDER BY sources DESC, events DESC, proto, dport
