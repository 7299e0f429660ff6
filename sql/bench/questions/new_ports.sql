-- Which ports are asked for today that nobody asked for in the days before?
-- Ask: new_ports
SELECT proto, dport, uniqExact(src) AS sources, uniqExact(dst) AS targets, count() AS events
FROM events
WHERE kind IN ('scan', 'request') AND ts >= toStartOfDay({since:DateTime64(6)}) AND ts < {until:DateTime64(6)}
GROUP BY proto, dport
HAVING min(ts) >= toStartOfDay({until:DateTime64(6)})
ORDER BY sources DESC, events DESC, proto, dport
SETTINGS max_bytes_before_external_group_by = 4000000000
