-- What did each sensor see, and when?
-- Ask: sensors
SELECT sensor, count() AS events, countIf(kind = 'scan') AS scans, countIf(kind = 'request') AS requests, countIf(kind = 'backscatter') AS backscatter, countIf(kind = 'other') AS other, sum(e.packets) AS packets, uniqExact(dst) AS targets, min(ts) AS first_seen, max(ts) AS last_seen
FROM events AS e
WHERE ts >= {since:DateTime64(6)} AND ts < {until:DateTime64(6)}
GROUP BY sensor
ORDER BY sensor
