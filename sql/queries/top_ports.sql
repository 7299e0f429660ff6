-- Which ports are scanned by the most distinct sources?
--
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- Of the 32 port numbers (0 for protocols without ports) with the most events, one row per protocol: distinct sources and targets, events, packets;
-- most sources first. A port that is left out has no more events over all its protocols, and so no more sources, than the least of the 32: whatever stands above
-- that number is in its true order. Whole hours: the first and the last hour that the time touches are complete; beyond a week (168 hours),
-- whole UTC days.
-- Exactness: events, packets and targets exact; sources exact below 128, then with a standard error of 1.6 %.
-- Example: SELECT * FROM top_ports(hours = 24) LIMIT 20
WITH
    least(greatest(parseDateTime64BestEffort({at:String}, 6, 'UTC'), toDateTime64('1970-01-02', 6, 'UTC')), toDateTime64('2106-02-07', 6, 'UTC')) AS until,
    greatest(until - toIntervalHour(least({hours:UInt32}, 1200000)), toDateTime64('1970-01-02', 6, 'UTC')) AS since,
    -- Over months the hours at the edges change nothing, and cost a third of the answer.
    {hours:UInt32} <= 168 AS by_hour,
    toStartOfHour(since) AS first_hour,
    if(by_hour, toDate(first_hour - toIntervalSecond(1)) + 1, toDate(since)) AS first_day,
    if(by_hour, toDate(until), toDate(until - toIntervalMicrosecond(1)) + 1) AS end_day,
    first_day - 1 AS day_before,
    multiIf(toDayOfMonth(day_before) <= 10, toStartOfMonth(day_before) + 10, toDayOfMonth(day_before) <= 20, toStartOfMonth(day_before) + 20, toStartOfMonth(day_before) + toIntervalMonth(1)) AS first_dekad,
    toStartOfMonth(end_day) + 10 * least(intDiv(toDayOfMonth(end_day) - 1, 10), 2) AS end_dekad,
    -- Counting events is cheap, merging sets is not: the sets of the ports that may matter only. Ports, since numbers of 16 bits are grouped without
    -- hashing. As one value they are found once; a subquery behind IN is asked by each of the three tables.
    (
        SELECT groupArray(dport)
        FROM
        (
            SELECT dport
            FROM
            (
                SELECT dport, h.events AS n
                FROM ports_by_hour_state AS h
                WHERE by_hour AND ((hour >= first_hour AND hour < least(until, toDateTime(first_day, 'UTC'))) OR (hour >= greatest(first_hour, toDateTime(end_day, 'UTC')) AND hour < until))
                UNION ALL
                SELECT dport, d.events
                FROM ports_by_day_state AS d
                WHERE (day >= first_day AND day < least(end_day, first_dekad)) OR (day >= greatest(first_day, end_dekad) AND day < end_day)
                UNION ALL
                SELECT dport, k.events
                FROM ports_by_dekad_state AS k
                WHERE dekad >= first_dekad AND dekad < end_dekad
            )
            GROUP BY dport
            ORDER BY sum(n) DESC, dport
            LIMIT 32
        )
    ) AS most
SELECT
    proto,
    dport,
    uniqCombined64Merge(12)(x.sources) AS sources,
    groupBitmapMerge(x.targets) AS targets,
    sum(x.events) AS events,
    sum(x.packets) AS packets
FROM
(
    SELECT proto, dport, h.rough AS sources, h.targets AS targets, h.events AS events, h.packets AS packets
    FROM demand_by_hour_state AS h
    WHERE by_hour AND method = '' AND dport IN arrayDistinct(most)
        AND ((hour >= first_hour AND hour < least(until, toDateTime(first_day, 'UTC'))) OR (hour >= greatest(first_hour, toDateTime(end_day, 'UTC')) AND hour < until))
    UNION ALL
    SELECT proto, dport, d.rough, d.targets, d.events, d.packets
    FROM demand_by_day_state AS d
    WHERE method = '' AND dport IN arrayDistinct(most)
        AND ((day >= first_day AND day < least(end_day, first_dekad)) OR (day >= greatest(first_day, end_dekad) AND day < end_day))
    UNION ALL
    SELECT proto, dport, k.rough, k.targets, k.events, k.packets
    FROM demand_by_dekad_state AS k
    WHERE method = '' AND dport IN arrayDistinct(most) AND dekad >= first_dekad AND dekad < end_dekad
) AS x
GROUP BY proto, dport
ORDER BY sources DESC, events DESC, proto, dport
-- Few rows, each with much to do: spread over all cores, which the server does by itself for many rows only.
SETTINGS merge_tree_min_rows_for_concurrent_read = 64, merge_tree_min_bytes_for_concurrent_read = 1
