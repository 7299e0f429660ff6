-- Which HTTP paths are asked for, with disguise and values taken away, and what is looked for there?
--
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row per method and form (path_forms): distinct paths of that form, distinct sources and targets, requests, and what path_meanings
-- says about it; most sources first. Whole UTC days: the first and the last day that the time touches are complete.
-- Exactness: requests exact; sources exact up to 512, then with a standard error of 0.8 %; targets exact for IPv4.
-- Example: SELECT * FROM normal_paths(hours = 24) LIMIT 20
WITH
    least(greatest(parseDateTime64BestEffort({at:String}, 6, 'UTC'), toDateTime64('1970-01-02', 6, 'UTC')), toDateTime64('2106-02-07', 6, 'UTC')) AS until,
    greatest(until - toIntervalHour(least({hours:UInt32}, 1200000)), toDateTime64('1970-01-02', 6, 'UTC')) AS since,
    (SELECT arraySort(groupArray((rank, pattern, software, looking_for))) FROM path_meanings) AS meanings
SELECT
    method,
    form,
    paths,
    sources,
    targets,
    requests,
    (arrayFirst(m -> match(form, m.2), meanings) AS meaning).3 AS software,
    meaning.4 AS looking_for
FROM
(
    SELECT
        p.method AS method,
        f.form AS form,
        uniqExact(p.path) AS paths,
        uniqCombined64Merge(14)(p.sources) AS sources,
        groupBitmapMerge(p.targets) AS targets,
        sum(p.events) AS requests
    FROM path_days_state AS p
    INNER JOIN
    (
        -- The forms of the paths that matter only: all that were ever asked for may be many.
        SELECT path, form FROM path_forms WHERE path IN
            (SELECT path FROM path_days_state WHERE day >= toDate(since) AND day <= toDate(until - toIntervalMicrosecond(1)))
    ) AS f ON f.path = p.path
    WHERE day >= toDate(since) AND day <= toDate(until - toIntervalMicrosecond(1))
    GROUP BY method, form
)
ORDER BY sources DESC, requests DESC, method, form
