-- What do the sources of a network look for?
--
-- Parameter network String: of the sources, such as '203.0.113.0/24', '203.0.113.7' or '2001:db8::/32'; '::/0' is all
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row per port (what = 'port': "80", "5060/udp", "icmp") and one per HTTP method and form of a path (what = 'path', forms as in path_forms):
-- distinct sources and targets, events, and what port_meanings and path_meanings say about it, with their source; ports first, most
-- sources first. Whole UTC days: the first and the last day that the time touches are complete. A request counts for its port too.
-- Exactness: exact.
-- Example: SELECT * FROM what_for(network = '100.64.0.0/10', hours = 24) LIMIT 20
WITH
    least(greatest(parseDateTime64BestEffort({at:String}, 6, 'UTC'), toDateTime64('1970-01-02', 6, 'UTC')), toDateTime64('2106-02-07', 6, 'UTC')) AS until,
    greatest(until - toIntervalHour(least({hours:UInt32}, 1200000)), toDateTime64('1970-01-02', 6, 'UTC')) AS since,
    splitByChar('/', {network:String}) AS cidr,
    position({network:String}, ':') = 0 AS is4,
    toUInt64(if(length(cidr) = 1, if(is4, '32', '128'), cidr[2])) + if(is4, 96, 0) AS bits,
    IPv6CIDRToRange(toIPv6(cidr[1]), toUInt8(bits + throwIf(bits > 128, 'a network is written such as 203.0.113.0/24 or 2001:db8::/32'))) AS range,
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
            WHERE object != '' AND day >= toDate(since) AND day <= toDate(until - toIntervalMicrosecond(1))
                AND src >= range.1 AND src <= range.2
        )
    ) AS paths ON paths.path = if(s.object = '', '', substring(s.object, position(s.object, ' ') + 1))
    WHERE day >= toDate(since) AND day <= toDate(until - toIntervalMicrosecond(1))
        AND src >= range.1 AND src <= range.2
) AS x
LEFT JOIN port_meanings AS p ON p.proto = x.transport AND p.dport = x.dport
GROUP BY what, name, method
ORDER BY what DESC, sources DESC, events DESC, name, method
