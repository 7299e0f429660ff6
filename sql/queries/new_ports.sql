-- Which ports are asked for on a day that nobody asked for in the days before?
--
-- Parameter days UInt32: length of the past that the day is held against, such as 28
-- Parameter at String: a time of the day asked for, such as '2026-06-01' (UTC); today if left out
--
-- One row per protocol and port: distinct sources and targets, events, what port_meanings says; most sources first. A port is new if the
-- past, days whole UTC days, holds no probe and no request for it; where the data is younger than that, what there is of it counts.
-- Exactness: events and targets exact; sources exact below 4,096, then with a standard error of 0.29 %.
-- Example: SELECT * FROM new_ports(days = 28) LIMIT 20
WITH
    toDate(least(greatest(parseDateTime64BestEffort({at:String}, 6, 'UTC'), toDateTime64('1970-01-02', 6, 'UTC')), toDateTime64('2106-02-07', 6, 'UTC'))) AS today,
    today - least({days:UInt32}, toUInt16(today) - 1) AS first_day,
    first_day - 1 AS day_before,
    multiIf(toDayOfMonth(day_before) <= 10, toStartOfMonth(day_before) + 10, toDayOfMonth(day_before) <= 20, toStartOfMonth(day_before) + 20, toStartOfMonth(day_before) + toIntervalMonth(1)) AS first_dekad,
    toStartOfMonth(today) + 10 * least(intDiv(toDayOfMonth(today) - 1, 10), 2) AS end_dekad
SELECT
    toString(d.proto) AS transport,
    d.dport AS port,
    uniqCombined64Merge(17)(d.sources) AS sources,
    groupBitmapMerge(d.targets) AS targets,
    sum(d.events) AS events,
    any(p.service) AS service,
    any(p.looking_for) AS looking_for
FROM demand_by_day_state AS d
LEFT JOIN port_meanings AS p ON p.proto = toString(d.proto) AND p.dport = d.dport
WHERE method = '' AND day = today
    AND (d.proto, d.dport) NOT IN
    (
        SELECT proto, dport
        FROM
        (
            SELECT proto, dport
            FROM ports_by_day_state
            WHERE (day >= first_day AND day < least(today, first_dekad)) OR (day >= greatest(first_day, end_dekad) AND day < today)
            UNION ALL
            SELECT proto, dport
            FROM ports_by_dekad_state
            WHERE dekad >= first_dekad AND dekad < end_dekad
        )
    )
GROUP BY transport, port
ORDER BY sources DESC, events DESC, transport, port
