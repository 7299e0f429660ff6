-- What was left out of the loads, and why?
--
-- One row per input, name and reason: how many records were no event for that reason, and how the load ended. An input that
-- could not be read to its end has a row also if nothing else was rejected.
-- Exactness: exact.
-- Example: SELECT * FROM rejects
SELECT
    input,
    name,
    rejection.1 AS reason,
    rejection.2 AS records,
    state,
    l.reason AS ended
FROM loads AS l
LEFT ARRAY JOIN CAST(rejected, 'Array(Tuple(String, UInt64))') AS rejection
WHERE rejection.1 != '' OR state != 'done'
ORDER BY input, records DESC, reason
