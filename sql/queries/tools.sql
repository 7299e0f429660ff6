-- Which tools are used, and by how many sources?
--
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row per tool ('' is not known): distinct sources, events, packets. A source's tool is decided over all that it sent in the
-- time, as in source_behaviour; most sources first. Whole UTC days: the first and the last day that the time touches are complete.
-- Exactness: exact.
-- Example: SELECT * FROM tools(hours = 168)
WITH
    least(greatest(parseDateTime64BestEffort({at:String}, 6, 'UTC'), toDateTime64('1970-01-02', 6, 'UTC')), toDateTime64('2106-02-07', 6, 'UTC')) AS until,
    greatest(until - toIntervalHour(least({hours:UInt32}, 1200000)), toDateTime64('1970-01-02', 6, 'UTC')) AS since
SELECT
    tool,
    count() AS sources,
    sum(n) AS events,
    sum(p) AS packets
FROM
(
    SELECT
        src,
        sum(s.events) AS n,
        sum(s.packets) AS p,
        sum(s.syns) AS syns,
        sumIf(s.events, s.kind = 'scan') AS probes,
        multiIf(
            syns >= 2 AND sumIf(s.syns, s.tool = 'mirai') >= 0.98 * syns, 'mirai',
            syns >= 2 AND sumIf(s.syns, s.tool = 'zmap') >= 0.98 * syns, 'zmap',
            syns >= 2 AND greatest(sumIf(s.syns, s.tool = 'masscan'), sum(s.masscan)) >= 0.98 * syns, 'masscan',
            syns >= 2 AND sumIf(s.syns, match(s.signature, '^(1024|2048|3072|4096):2:1460:$')) >= 0.98 * syns
                AND uniqUpToMerge(8)(s.nmap_keys) <= least(8, syns / 2), 'nmap',
            syns = 0 AND probes >= 2 AND sumIf(s.events, s.kind = 'scan' AND s.tool = 'zmap') >= 0.98 * probes, 'zmap',
            '') AS tool
    FROM source_days_state AS s
    WHERE kind IN ('scan', 'request') AND day >= toDate(since) AND day <= toDate(until - toIntervalMicrosecond(1))
    GROUP BY src
)
GROUP BY tool
ORDER BY sources DESC, tool
