-- What was loaded, and how much of it was no event?
--
-- One row per input, latest first: name, sensor, bytes, records read, events, records that were no event (rejects says why), how the load
-- ended, when it began, and how long it took.
-- Exactness: exact.
-- Example: SELECT * FROM load_history LIMIT 20
SELECT
    input,
    name,
    sensor,
    size AS bytes,
    records,
    rows AS events,
    arraySum(mapValues(rejected)) AS rejects,
    state,
    reason,
    started,
    greatest(0, dateDiff('millisecond', started, finished)) / 1000 AS seconds
FROM loads
ORDER BY started DESC, input
