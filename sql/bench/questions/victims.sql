-- Who is being attacked with our addresses as forged sources?
-- Ask: victims
SELECT src AS victim, sum(e.packets) AS packets, count() AS events, uniqExact(dst) AS targets, min(ts) AS first_seen, max(ts) AS last_seen
FROM events AS e
WHERE kind = 'backscatter' AND ts >= {since:DateTime64(6)} AND ts < {until:DateTime64(6)}
GROUP BY victim
ORDER BY packets DESC, victim
LIMIT 1000
