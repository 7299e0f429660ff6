-- Which ports are scanned by the most distinct sources?
--
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row for each of the 100 protocols and ports (0 for protocols without ports) with the most events: distinct sources and targets, events, packets;
-- most sources first. A port that is left out has no more events, and so no more sources, than the least of them: whatever stands above
-- that number is in its true order. Whole hours: the first and the last hour that the time touches are complete.
-- Exactness: events, packets and targets exact; sources exact up to 128, then with a standard error of 1.6 %.
-- Example: SELECT * FROM top_ports(hours = 24) LIMIT 20
WITH
    parseDateTime64BestEffort({at:String}, 6, 'UTC') AS until,
    until - toIntervalHour({hours:UInt32}) AS since,
    toStartOfHour(since) AS first_hour,
    toDate(first_hour - toIntervalSecond(1)) AS day_before,
    day_before + 1 AS first_day,
    toDate(until) AS end_day,
    multiIf(toDayOfMonth(day_before) <= 10, toStartOfMonth(day_before) + 10, toDayOfMonth(day_before) <= 20, toStartOfMonth(day_before) + 20, toStartOfMonth(day_before) + toIntervalMonth(1)) AS first_dekad,
    toStartOfMonth(end_day) + 10 * least(intDiv(toDayOfMonth(end_day) - 1, 10), 2) AS end_dekad,
    -- Counting events is cheap, merging sets is not: the sets of the ports that may matter only. As one value they are found once; a subquery behind IN is
    -- asked by each of the three tables.
    (
        SELECT groupArray((proto, dport))
        FROM
        (
            SELECT proto, dport
            FROM
            (
                SELECT proto, dport, h.events AS n
                FROM ports_by_hour_state AS h
                WHERE (hour >= first_hour AND hour < least(until, toDateTime(first_day, 'UTC'))) OR (hour >= greatest(first_hour, toDateTime(end_day, 'UTC')) AND hour < until)
                UNION ALL
                SELECT proto, dport, d.events
                FROM ports_by_day_state AS d
                WHERE (day >= first_day AND day < least(end_day, first_dekad)) OR (day >= greatest(first_day, end_dekad) AND day < end_day)
                UNION ALL
                SELECT proto, dport, k.events
                FROM ports_by_dekad_state AS k
                WHERE k.dekad >= first_dekad AND k.dekad < end_dekad
            )
            GROUP BY proto, dport
            ORDER BY sum(n) DESC, proto, dport
            LIMIT 100
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
    WHERE method = '' AND (proto, dport) IN arrayDistinct(most)
        AND ((hour >= first_hour AND hour < least(until, toDateTime(first_day, 'UTC'))) OR (hour >= greatest(first_hour, toDateTime(end_day, 'UTC')) AND hour < until))
    UNION ALL
    SELECT proto, dport, d.rough, d.targets, d.events, d.packets
    FROM demand_by_day_state AS d
    WHERE method = '' AND (proto, dport) IN arrayDistinct(most)
        AND ((day >= first_day AND day < least(end_day, first_dekad)) OR (day >= greatest(first_day, end_dekad) AND day < end_day))
    UNION ALL
    SELECT proto, dport, k.rough, k.targets, k.events, k.packets
    FROM demand_by_dekad_state AS k
    WHERE method = '' AND (proto, dport) IN arrayDistinct(most) AND k.dekad >= first_dekad AND k.dekad < end_dekad
) AS x
GROUP BY proto, dport
ORDER BY sources DESC, events DESC, proto, dport
