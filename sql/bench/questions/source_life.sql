-- What has one of the sources that come day after day done?
-- Ask: source_life source=98.41.132.71
SELECT toDate(ts) AS day, sensor, count() AS events, sum(e.packets) AS packets, uniqExact(dst) AS targets, uniqExact(dport) AS ports, min(ts) AS first_seen, max(ts) AS last_seen
FROM events AS e
WHERE src = toIPv6('98.41.132.71') AND ts >= {since:DateTime64(6)} AND ts < {until:DateTime64(6)}
GROUP BY day, sensor
ORDER BY day, sensor
