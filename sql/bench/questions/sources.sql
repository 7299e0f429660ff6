-- How many distinct sources hit port 80?
-- Ask: sources port=80 method=
SELECT uniqExact(src) AS sources, count() AS events, sum(e.packets) AS packets
FROM events AS e
WHERE dport = 80 AND kind IN ('scan', 'request') AND ts >= {since:DateTime64(6)} AND ts < {until:DateTime64(6)}
