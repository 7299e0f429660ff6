-- How did the distinct sources of a port change from hour to hour?
--
-- Parameter port UInt32: destination port, of any protocol
-- Parameter method String: HTTP method such as 'HEAD'; '' counts every probe and request to the port
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row per UTC hour that saw something, oldest first: distinct sources and targets, events, packets. Whole hours: the first and the
-- last hour that the time touches are complete.
-- Exactness: events, packets and targets exact; sources exact below 128, then with a standard error of 1.6 % (demand_by_hour: 0.29 %).
-- Example: SELECT * FROM port_history(port = 22, method = '', hours = 168)
WITH
    least(greatest(parseDateTime64BestEffort({at:String}, 6, 'UTC'), toDateTime64('1970-01-02', 6, 'UTC')), toDateTime64('2106-02-07', 6, 'UTC')) AS until,
    greatest(until - toIntervalHour(least({hours:UInt32}, 1200000)), toDateTime64('1970-01-02', 6, 'UTC')) AS since
SELECT
    hour,
    uniqCombined64Merge(12)(h.rough) AS sources,
    groupBitmapMerge(h.targets) AS targets,
    sum(h.events) AS events,
    sum(h.packets) AS packets
FROM demand_by_hour_state AS h
WHERE dport = {port:UInt32} AND method = upper({method:String})
    AND hour >= toStartOfHour(since) AND hour < until
GROUP BY hour
ORDER BY hour
-- Few rows, each with much to do: spread over all cores, which the server does by itself for many rows only.
SETTINGS merge_tree_min_rows_for_concurrent_read = 64, merge_tree_min_bytes_for_concurrent_read = 1
