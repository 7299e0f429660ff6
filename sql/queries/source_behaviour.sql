-- How does each source scan, judged over all that it sent on some days?
--
-- Parameter from Date: first UTC day
-- Parameter to Date: day behind the last
--
-- One row per source that probed or requested something: tool, signature (window:option kinds:mss:wscale of its SYNs),
-- ttl_class (32, 64, 128 or 255), user_agent, payload_hash (of UDP probes), each the commonest, and counts.
-- The tool is decided over all SYNs: at least two, and 98 in a hundred obey the tool's rule (docs: fingerprints); without any
-- SYN, over its other probes. nmap is told by its signature and a sequence number half of which is constant over a run.
-- Exactness: exact.
-- Example: SELECT tool, count() FROM source_behaviour(from = '2026-04-01', to = '2026-07-01') GROUP BY tool ORDER BY 2 DESC
SELECT
    src,
    sum(s.events) AS events,
    sum(s.packets) AS packets,
    min(s.first_seen) AS first_seen,
    max(s.last_seen) AS last_seen,
    sum(s.syns) AS syns,
    sumIf(s.events, s.kind = 'scan') AS probes,
    multiIf(
        syns >= 2 AND sumIf(s.syns, s.tool = 'mirai') >= 0.98 * syns, 'mirai',
        syns >= 2 AND sumIf(s.syns, s.tool = 'zmap') >= 0.98 * syns, 'zmap',
        syns >= 2 AND greatest(sumIf(s.syns, s.tool = 'masscan'), sum(s.masscan)) >= 0.98 * syns, 'masscan',
        syns >= 2 AND sumIf(s.syns, match(s.signature, '^(1024|2048|3072|4096):2:1460:$')) >= 0.98 * syns
            AND uniqUpToMerge(8)(s.nmap_keys) <= least(8, syns / 2), 'nmap',
        syns = 0 AND probes >= 2 AND sumIf(s.events, s.kind = 'scan' AND s.tool = 'zmap') >= 0.98 * probes, 'zmap',
        '') AS tool,
    (sumMapIf([toString(s.signature)], [s.syns], s.signature != '') AS signatures).1[indexOf(signatures.2, arrayMax(signatures.2))] AS signature,
    (sumMapIf([s.ttl_class], [s.events], s.ttl_class != 0) AS ttls).1[indexOf(ttls.2, arrayMax(ttls.2))] AS ttl_class,
    (sumMapIf([s.user_agent], [s.events], s.user_agent != '') AS agents).1[indexOf(agents.2, arrayMax(agents.2))] AS user_agent,
    (sumMapIf([s.payload_hash], [s.events], s.payload_hash != 0) AS payloads).1[indexOf(payloads.2, arrayMax(payloads.2))] AS payload_hash
FROM source_days_state AS s
WHERE day >= {from:Date} AND day < {to:Date} AND kind IN ('scan', 'request')
GROUP BY src
