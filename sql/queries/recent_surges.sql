-- Which ports did suddenly far more sources ask for than usual, and what do they look for there?
--
-- Parameter hours UInt32: length of the time asked for
-- Parameter at String: end of the time asked for, such as '2026-06-01 00:00:00' (UTC); now if left out
--
-- One row per surge (`loader surges` finds them) that went on in the time, or whose alarm came in it, as it is known today: protocol, port, method ('' is all that came to the
-- port), estimated start, alarm, peak, end (of one that is open: so far), state, distinct sources in the hour of the peak, what this hour would have had,
-- strength (sources / expected), evidence, and what port_meanings says; latest alarm first.
-- Exactness: that of the surges; sources exact below 4,096, then with a standard error of 0.29 %.
-- Example: SELECT * FROM recent_surges(hours = 168)
WITH
    least(greatest(parseDateTime64BestEffort({at:String}, 6, 'UTC'), toDateTime64('1970-01-02', 6, 'UTC')), toDateTime64('2106-02-07', 6, 'UTC')) AS until,
    greatest(until - toIntervalHour(least({hours:UInt32}, 1200000)), toDateTime64('1970-01-02', 6, 'UTC')) AS since
SELECT
    toString(s.proto) AS transport,
    s.dport AS port,
    s.method AS method,
    s.start AS start,
    s.detected AS detected,
    s.peak AS peak,
    s.end AS end,
    s.state AS state,
    s.sources AS sources,
    s.expected AS expected,
    s.strength AS strength,
    s.evidence AS evidence,
    p.service AS service,
    p.looking_for AS looking_for
FROM surges AS s
LEFT JOIN port_meanings AS p ON p.proto = toString(s.proto) AND p.dport = s.dport
WHERE s.start < until AND (s.end > since OR s.detected >= since OR s.state = 'open')
ORDER BY detected DESC, evidence DESC, transport, port, method
