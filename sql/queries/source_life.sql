-- What has a source done, day by day?
--
-- Parameter source String: address, IPv4 or IPv6
--
-- One row per UTC day and sensor, oldest first: the columns of source_days.
-- Exactness: exact for IPv4 targets; IPv6 targets are counted by a 32-bit hash.
-- Example: SELECT * FROM source_life(source = '100.64.1.232')
SELECT *
FROM source_days
WHERE src = toIPv6({source:String})
ORDER BY day, sensor
