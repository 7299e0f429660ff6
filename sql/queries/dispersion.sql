-- Did the sources of a port share the telescope out among them?
--
-- Parameter port UInt32: destination port, of any protocol
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row: distinct sources, addresses (IPv4 addresses of the telescopes, overlapping ones once; without telescopes, the addresses touched, which makes
-- the index too small), how many of them were touched, distinct sources per address as mean, median and 90th percentile, and the dispersion
-- index, variance / mean: 1 if sources chose addresses independently, below if they shared them out, above if some
-- addresses draw more. Requests and probes; it reads the events of the port.
-- Exactness: exact, in the time [at - hours, at).
-- Example: SELECT * FROM dispersion(port = 80, hours = 168)
WITH
    least(greatest(parseDateTime64BestEffort({at:String}, 6, 'UTC'), toDateTime64('1970-01-02', 6, 'UTC')), toDateTime64('2106-02-07', 6, 'UTC')) AS window_end,
    greatest(window_end - toIntervalHour(least({hours:UInt32}, 1200000)), toDateTime64('1970-01-02', 6, 'UTC')) AS window_start,
    (
        SELECT arrayDistinct(groupArray((tupleElement(IPv4CIDRToRange(toIPv4(splitByChar('/', prefix)[1]), toUInt8(splitByChar('/', prefix)[2])) AS r, 1), r.2)))
        FROM telescopes
        WHERE position(prefix, ':') = 0 AND since < window_end AND (toUnixTimestamp(until) = 0 OR until > window_start)
    ) AS prefixes,
    arrayFilter(a -> NOT arrayExists(b -> b != a AND b.1 <= a.1 AND b.2 >= a.2, prefixes), prefixes) AS ranges,
    toUInt64(arraySum(a -> toUInt64(toUInt32(a.2)) - toUInt32(a.1) + 1, ranges)) AS monitored
SELECT
    uniqExactArray(them) AS sources,
    if(monitored > 0, monitored, count()) AS addresses,
    count() AS touched,
    sum(length(them)) / addresses AS mean,
    if(addresses - touched >= addresses / 2, 0, arraySort(groupArray(length(them)))[toUInt64(ceil(addresses / 2)) - (addresses - touched)]) AS median,
    if(addresses - touched >= 0.9 * addresses, 0, arraySort(groupArray(length(them)))[toUInt64(ceil(0.9 * addresses)) - (addresses - touched)]) AS percentile90,
    sum(length(them) * length(them)) / addresses - mean * mean AS variance,
    variance / mean AS dispersion
FROM
(
    SELECT groupUniqArray(src) AS them
    FROM events
    WHERE dport = {port:UInt32} AND kind IN ('scan', 'request') AND ts >= window_start AND ts < window_end
        AND bitShiftRight(toUInt128(dst), 32) = 0xFFFF
        AND (monitored = 0 OR arrayExists(a -> toUInt32(bitAnd(toUInt128(dst), 0xFFFFFFFF)) BETWEEN toUInt32(a.1) AND toUInt32(a.2), ranges))
    GROUP BY dst
)
