-- Which ports are scanned by the most distinct sources?
-- Ask: top_ports
SELECT proto, dport, uniqExact(src) AS sources, uniqExact(dst) AS targets, count() AS events, sum(e.packets) AS packets
FROM events AS e
WHERE kind IN ('scan', 'request') AND ts >= {since:DateTime64(6)} AND ts < {until:DateTime64(6)}
GROUP BY proto, dport
ORDER BY sources DESC, events DESC, proto, dport
LIMIT 1000
SETTINGS max_bytes_before_external_group_by = 4000000000
