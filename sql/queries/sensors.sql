-- What did each sensor see, and when?
--
-- One row per sensor: events by kind, packets, distinct addresses that were touched, first event, and the day of the last.
-- Exactness: exact for IPv4 targets; IPv6 targets are counted by a 32-bit hash.
-- Example: SELECT * FROM sensors
SELECT
    sensor,
    sum(t.events) AS events,
    sumIf(t.events, t.kind = 'scan') AS scans,
    sumIf(t.events, t.kind = 'request') AS requests,
    sumIf(t.events, t.kind = 'backscatter') AS backscatter,
    sumIf(t.events, t.kind = 'other') AS other,
    sum(t.packets) AS packets,
    groupBitmapMerge(t.targets) AS targets,
    min(t.first_seen) AS first_seen,
    max(t.day) AS last_day
FROM sensor_days_state AS t
GROUP BY sensor
ORDER BY sensor
