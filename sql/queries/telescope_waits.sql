-- How long does a monitored address wait for its first scan?
--
-- One row per telescope: its addresses (IPv4; 0 for IPv6, which are too many), how many were scanned at all, and of these the seconds from
-- birth to first scan: median, 90th percentile, longest. A mean would say little: a few addresses wait for weeks.
-- Exactness: exact to the second.
-- Example: SELECT * FROM telescope_waits
SELECT
    prefix,
    sensor,
    born,
    if(position(prefix, ':') > 0, 0, bitShiftLeft(toUInt64(1), 32 - toUInt8(splitByChar('/', prefix)[2]))) AS addresses,
    count() AS scanned,
    quantileExact(0.5)(seconds) AS median,
    quantileExact(0.9)(seconds) AS percentile90,
    max(seconds) AS longest
FROM first_scans
GROUP BY prefix, sensor, born
ORDER BY prefix, sensor, born
