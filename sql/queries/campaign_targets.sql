-- What does a campaign look for?
--
-- Parameter campaign String: its identity, as `campaigns` has it
--
-- One row per port (what = 'port': "80", "5060/udp", "icmp") and one per HTTP method and form of a path (what = 'path', forms as in path_forms):
-- distinct sources and targets, events, and what port_meanings and path_meanings say about it, with their source; ports first, most
-- sources first. Members and times are those of the latest run that saw the campaign; whole UTC days. A request counts for its port too.
-- Exactness: exact.
-- Example: SELECT * FROM campaign_targets(campaign = 'c-0a1b2c3d')
WITH
    (SELECT max((run, toDate(first_seen), toDate(last_seen))) FROM campaigns WHERE campaign = {campaign:String}) AS latest,
    (SELECT arraySort(groupArray((rank, pattern, software, looking_for, source))) FROM path_meanings) AS meanings
SELECT
    what,
    name,
    method,
    uniqExact(src) AS sources,
    uniqExact(dst) AS targets,
    sum(n) AS events,
    if(what = 'port', any(p.service), (arrayFirst(m -> match(name, m.2), meanings) AS meaning).3) AS service,
    if(what = 'port', any(p.looking_for), meaning.4) AS looking_for,
    if(what = 'port', any(p.source), meaning.5) AS source
FROM
(
    SELECT
        src, dst, events AS n,
        arrayJoin(if(object = '', [('port', '', '')], [('port', '', ''), ('path', splitByChar(' ', object, 2)[1], substring(object, position(object, ' ') + 1))])) AS thing,
        thing.1 AS what,
        thing.2 AS method,
        if(what = 'path', paths.form, multiIf(proto = 'tcp', toString(dport), dport = 0, toString(proto), concat(toString(dport), '/', toString(proto)))) AS name,
        toString(proto) AS transport,
        dport
    FROM footprints_state AS s
    LEFT JOIN
    (
        -- The forms of the paths that matter only: all that were ever asked for may be many.
        SELECT path, form FROM path_forms WHERE path IN
        (
            SELECT substring(object, position(object, ' ') + 1) FROM footprints_state
            WHERE object != '' AND day >= latest.2 AND day <= latest.3
                AND src IN (SELECT src FROM campaign_sources WHERE campaign = {campaign:String} AND run = latest.1)
        )
    ) AS paths ON paths.path = if(s.object = '', '', substring(s.object, position(s.object, ' ') + 1))
    WHERE day >= latest.2 AND day <= latest.3
        AND src IN (SELECT src FROM campaign_sources WHERE campaign = {campaign:String} AND run = latest.1)
) AS x
LEFT JOIN port_meanings AS p ON p.proto = x.transport AND p.dport = x.dport
GROUP BY what, name, method
ORDER BY what DESC, sources DESC, events DESC, name, method
