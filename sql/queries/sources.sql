-- How many distinct sources hit a port, by HTTP method, in the last hours?
--
-- Parameter port UInt32: destination port, of any protocol
-- Parameter method String: HTTP method such as 'HEAD'; '' counts every probe and request to the port
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row: sources (distinct addresses), events, packets, and the time [from, to) that was asked for, to the microsecond: whole
-- dekads, days and hours come from the rollups, the rest from the events. For another end than now ask sources_at(…, at = '…'):
-- ClickHouse ignores an argument that a view does not know, so sources(…, at = '…') would answer for now.
-- Exactness: events and packets exact; sources exact below 4,096, then with a standard error of 0.29 %.
-- Example: SELECT * FROM sources(port = 80, method = 'HEAD', hours = 24)
WITH
    least(greatest(parseDateTime64BestEffort({at:String}, 6, 'UTC'), toDateTime64('1970-01-02', 6, 'UTC')), toDateTime64('2106-02-07', 6, 'UTC')) AS until,
    greatest(until - toIntervalHour(least({hours:UInt32}, 1200000)), toDateTime64('1970-01-02', 6, 'UTC')) AS since,
    toStartOfHour(since - toIntervalMicrosecond(1)) + toIntervalHour(1) AS first_hour,
    toStartOfHour(until) AS end_hour,
    toDate(since - toIntervalMicrosecond(1)) AS day_before,
    day_before + 1 AS first_day,
    toDate(until) AS end_day,
    multiIf(toDayOfMonth(day_before) <= 10, toStartOfMonth(day_before) + 10, toDayOfMonth(day_before) <= 20, toStartOfMonth(day_before) + 20, toStartOfMonth(day_before) + toIntervalMonth(1)) AS first_dekad,
    toStartOfMonth(end_day) + 10 * least(intDiv(toDayOfMonth(end_day) - 1, 10), 2) AS end_dekad
SELECT
    uniqCombined64Merge(17)(state) AS sources,
    sum(n) AS events,
    sum(p) AS packets,
    since AS from,
    until AS to
FROM
(
    SELECT uniqCombined64State(17)(src) AS state, count() AS n, sum(packets) AS p
    FROM events
    WHERE dport = {port:UInt32} AND kind IN ('scan', 'request') AND ({method:String} = '' OR method = upper({method:String}))
        AND ts >= since AND ts < until AND (ts < first_hour OR ts >= end_hour)
    UNION ALL
    SELECT uniqCombined64MergeState(17)(h.sources), sum(h.events), sum(h.packets)
    FROM demand_by_hour_state AS h
    WHERE dport = {port:UInt32} AND method = upper({method:String})
        AND ((hour >= first_hour AND hour < least(end_hour, toDateTime(first_day, 'UTC'))) OR (hour >= greatest(first_hour, toDateTime(end_day, 'UTC')) AND hour < end_hour))
    UNION ALL
    SELECT uniqCombined64MergeState(17)(d.sources), sum(d.events), sum(d.packets)
    FROM demand_by_day_state AS d
    WHERE dport = {port:UInt32} AND method = upper({method:String})
        AND ((day >= first_day AND day < least(end_day, first_dekad)) OR (day >= greatest(first_day, end_dekad) AND day < end_day))
    UNION ALL
    SELECT uniqCombined64MergeState(17)(k.sources), sum(k.events), sum(k.packets)
    FROM demand_by_dekad_state AS k
    WHERE dport = {port:UInt32} AND method = upper({method:String}) AND dekad >= first_dekad AND dekad < end_dekad
)
