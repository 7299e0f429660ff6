-- Which countries do scans come from?
--
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row per country, by the files of `loader context`; empty is what they say nothing of: distinct sources, their networks (/24 for IPv4, /48 for
-- IPv6) and known autonomous systems, events, packets, and how many of the sources are scanners known to mean no harm; most sources first. Whole UTC
-- days: the first and the last day that the time touches are complete.
-- Exactness: exact. The context is as good as its files.
-- Example: SELECT * FROM top_countries(hours = 24) LIMIT 20
WITH
    least(greatest(parseDateTime64BestEffort({at:String}, 6, 'UTC'), toDateTime64('1970-01-02', 6, 'UTC')), toDateTime64('2106-02-07', 6, 'UTC')) AS until,
    greatest(until - toIntervalHour(least({hours:UInt32}, 1200000)), toDateTime64('1970-01-02', 6, 'UTC')) AS since
SELECT
    toString(c.country) AS country,
    count() AS sources,
    uniqExact(bitShiftRight(s.number, if(bitShiftRight(s.number, 32) = 0xFFFF, 8, 80))) AS networks,
    uniqExactIf(c.asn, c.asn != 0) AS asns,
    sum(s.n) AS events,
    sum(s.p) AS packets,
    countIf(c.benign != '') AS benign
FROM
(
    SELECT toUInt128(src) AS number, toUInt32(if(bitShiftRight(number, 32) = 0xFFFF, bitShiftRight(number, 16), bitShiftRight(number, 112))) AS block, sum(x.events) AS n, sum(x.packets) AS p
    FROM source_days_state AS x
    WHERE kind IN ('scan', 'request') AND day >= toDate(since) AND day <= toDate(until - toIntervalMicrosecond(1))
    GROUP BY src
) AS s
LEFT ASOF JOIN context_ranges AS c ON c.block = s.block AND s.number >= c.number
GROUP BY country
ORDER BY sources DESC, events DESC, country
