-- How long does a monitored address wait for its first scan?
--
-- One row per telescope: its addresses (IPv4; 0 for IPv6, which are too many), how many were scanned at all, and of these the seconds from
-- birth to first scan: median, 90th percentile, longest; 0 where none was. A mean would say little: a few addresses wait for weeks. A percentile is the
-- least value that so many do not exceed. born is 1970-01-01 of an unbounded telescope that nobody has touched.
-- Exactness: that of first_scans.
-- Example: SELECT * FROM telescope_waits
SELECT
    prefix,
    sensor,
    born,
    if(position(prefix, ':') > 0, 0, bitShiftLeft(toUInt64(1), 32 - toUInt8(splitByChar('/', prefix)[2]))) AS addresses,
    scanned,
    median,
    percentile90,
    longest
FROM
(
    SELECT
        prefix,
        sensor,
        born,
        countIf(hit) AS scanned,
        -- A hair below: quantileExact takes the next higher value where the level meets one exactly.
        quantileExactIf(0.499999999999)(seconds, hit) AS median,
        quantileExactIf(0.899999999999)(seconds, hit) AS percentile90,
        maxIf(seconds, hit) AS longest,
        sum(scanned) OVER (PARTITION BY prefix, sensor) AS scanned_ever
    FROM
    (
        SELECT prefix, sensor, born, seconds, true AS hit FROM first_scans
        UNION ALL
        SELECT prefix, sensor, since, 0, false FROM telescopes
    )
    GROUP BY prefix, sensor, born
)
-- One without bounds is born at its first scan: it has a row of 1970 only while there is none.
WHERE toUnixTimestamp(born) != 0 OR scanned_ever = 0
ORDER BY prefix, sensor, born
