-- Which sources scan the most?
-- Ask: top_sources
SELECT src, count() AS events, sum(e.packets) AS packets, uniqExact(dst) AS targets, uniqExact(dport) AS ports, min(ts) AS first_seen, max(ts) AS last_seen
FROM events AS e
WHERE kind IN ('scan', 'request') AND ts >= {since:DateTime64(6)} AND ts < {until:DateTime64(6)}
GROUP BY src
ORDER BY events DESC, src
LIMIT 1000
SETTINGS max_bytes_before_external_group_by = 4000000000
