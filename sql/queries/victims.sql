-- Who is being attacked with our addresses as forged sources (backscatter)?
--
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row for each of the 100 victims, the addresses that answer, with the most packets: packets and distinct addresses of ours that it answered to,
-- first and last seen; most packets first. victim_days and victim_dekads have them all. Whole UTC days: the first and the last day that the time touches are complete.
-- Exactness: exact for IPv4 targets; IPv6 targets are counted by a 32-bit hash.
-- Example: SELECT * FROM victims(hours = 24) LIMIT 20
WITH
    least(greatest(parseDateTime64BestEffort({at:String}, 6, 'UTC'), toDateTime64('1970-01-02', 6, 'UTC')), toDateTime64('2106-02-07', 6, 'UTC')) AS until,
    greatest(until - toIntervalHour(least({hours:UInt32}, 1200000)), toDateTime64('1970-01-02', 6, 'UTC')) AS since,
    toDate(since) AS first_day,
    toDate(until - toIntervalMicrosecond(1)) + 1 AS end_day,
    first_day - 1 AS day_before,
    multiIf(toDayOfMonth(day_before) <= 10, toStartOfMonth(day_before) + 10, toDayOfMonth(day_before) <= 20, toStartOfMonth(day_before) + 20, toStartOfMonth(day_before) + toIntervalMonth(1)) AS first_dekad,
    toStartOfMonth(end_day) + 10 * least(intDiv(toDayOfMonth(end_day) - 1, 10), 2) AS end_dekad,
    -- Counting packets is cheap, merging sets is not: the sets of those that are shown only.
    (
        SELECT groupArray(src)
        FROM
        (
            SELECT src
            FROM
            (
                SELECT src, d.packets AS n
                FROM victim_days_state AS d
                WHERE (day >= first_day AND day < least(end_day, first_dekad)) OR (day >= greatest(first_day, end_dekad) AND day < end_day)
                UNION ALL
                SELECT src, k.packets
                FROM victim_dekads_state AS k
                WHERE dekad >= first_dekad AND dekad < end_dekad
            )
            GROUP BY src
            ORDER BY sum(n) DESC, src
            LIMIT 100
        )
    ) AS most
SELECT
    src AS victim,
    sum(s.packets) AS packets,
    sum(s.events) AS events,
    groupBitmapMerge(s.targets) AS targets,
    min(s.first_seen) AS first_seen,
    max(s.last_seen) AS last_seen
FROM
(
    SELECT src, d.packets AS packets, d.events AS events, d.targets AS targets, d.first_seen AS first_seen, d.last_seen AS last_seen
    FROM victim_days_state AS d
    WHERE src IN arrayDistinct(most)
        AND ((day >= first_day AND day < least(end_day, first_dekad)) OR (day >= greatest(first_day, end_dekad) AND day < end_day))
    UNION ALL
    SELECT src, k.packets, k.events, k.targets, k.first_seen, k.last_seen
    FROM victim_dekads_state AS k
    WHERE src IN arrayDistinct(most) AND dekad >= first_dekad AND dekad < end_dekad
) AS s
GROUP BY victim
ORDER BY packets DESC, victim
