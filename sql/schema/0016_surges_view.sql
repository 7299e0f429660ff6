-- Which run decided last about an hour is found once, hour by hour. To look through all runs for each surge took the square of their number: with a year of hourly runs
-- and some thousand surges more memory than there is.
CREATE OR REPLACE VIEW surges
AS SELECT proto, dport, method, start, detected, peak, end, closed, state, sources, expected, strength, excess, evidence, run
FROM
(
    SELECT * FROM surges_log FINAL
    WHERE run IN (SELECT run FROM surge_runs WHERE status = 'done')
    ORDER BY run DESC
    LIMIT 1 BY proto, dport, method, detected
) AS s
LEFT JOIN
(
    SELECT hour, max(run) AS latest
    FROM
    (
        SELECT run, arrayJoin(arrayMap(i -> window_from + toIntervalHour(i), range(toUInt32(dateDiff('hour', window_from, window_to))))) AS hour
        FROM surge_runs
        WHERE status = 'done'
    )
    GROUP BY hour
) AS decided ON decided.hour = s.detected
WHERE decided.latest <= s.run
COMMENT 'Surges: hours in which far more distinct sources than usual asked for a port. One row per surge, as the latest finished run that decided about it saw it.';
