-- How long did each monitored address wait for its first scan?
--
-- One row per telescope and address that was scanned: born (telescopes.since; where that is unbounded, the first probe or request at any address of
-- the telescope), first_scan (probe or request) at or after it, and the seconds between. Addresses that nobody has scanned yet have no row:
-- telescope_waits counts them.
-- Exactness: exact to the second. Of an address that was touched before its birth on that very day only the events know the first scan after it: once they
-- have expired, the first of a later day counts.
-- Example: SELECT * FROM first_scans ORDER BY seconds DESC LIMIT 20
SELECT
    prefix,
    sensor,
    target,
    if(toUnixTimestamp(since) = 0, min(min(touch)) OVER (PARTITION BY prefix, sensor, since), since) AS born,
    min(touch) AS first_scan,
    toUInt64(first_scan - born) AS seconds
FROM
(
    SELECT t.prefix AS prefix, t.sensor AS sensor, t.since AS since, d.dst AS target, min(d.first_seen) AS touch
    FROM target_days_state AS d CROSS JOIN telescopes AS t
    WHERE d.kind IN ('scan', 'request') AND d.first_seen >= t.since
        AND (toUnixTimestamp(t.until) = 0 OR d.first_seen < t.until) AND (t.sensor = '' OR t.sensor = d.sensor)
        AND isIPAddressInRange(if(bitShiftRight(toUInt128(dst), 32) = 0xFFFF, IPv4NumToString(toUInt32(bitAnd(toUInt128(dst), 0xFFFFFFFF))), IPv6NumToString(dst)), t.prefix)
    GROUP BY prefix, sensor, since, target
    UNION ALL
    -- The rollup knows the first touch of a day only: on the day of the birth it may be one before it, and others after it.
    SELECT t.prefix AS prefix, t.sensor AS sensor, t.since AS since, e.dst AS target, toDateTime(min(e.ts), 'UTC') AS touch
    FROM events AS e CROSS JOIN telescopes AS t
    WHERE e.kind IN ('scan', 'request') AND toDate(e.ts) IN (SELECT toDate(since) FROM telescopes) AND toDate(e.ts) = toDate(t.since) AND e.ts >= t.since
        AND (toUnixTimestamp(t.until) = 0 OR e.ts < t.until) AND (t.sensor = '' OR t.sensor = e.sensor)
        AND isIPAddressInRange(if(bitShiftRight(toUInt128(dst), 32) = 0xFFFF, IPv4NumToString(toUInt32(bitAnd(toUInt128(dst), 0xFFFFFFFF))), IPv6NumToString(dst)), t.prefix)
    GROUP BY prefix, sensor, since, target
)
GROUP BY prefix, sensor, since, target
ORDER BY prefix, sensor, born, target
