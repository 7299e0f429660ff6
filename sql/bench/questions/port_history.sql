-- How did the sources of port 22 change from hour to hour?
-- Ask: port_history port=22 method=
SELECT toStartOfHour(ts) AS hour, uniqExact(src) AS sources, uniqExact(dst) AS targets, count() AS events, sum(e.packets) AS packets
FROM events AS e
WHERE dport = 22 AND kind IN ('scan', 'request') AND ts >= {since:DateTime64(6)} AND ts < {until:DateTime64(6)}
GROUP BY hour
ORDER BY hour
