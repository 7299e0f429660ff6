-- How many distinct sources hit port 80 with HEAD?
-- Ask: sources port=80 method=HEAD
SELECT uniqExact(src) AS sources, count() AS events, sum(e.packets) AS packets
FROM events AS e
WHERE dport = 80 AND method = 'HEAD' AND kind IN ('scan', 'request') AND ts >= {since:DateTime64(6)} AND ts < {until:DateTime64(6)}
