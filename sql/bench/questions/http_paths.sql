-- Which HTTP paths are asked for, and by how many sources?
-- Ask: http_paths
SELECT method, path, uniqExact(src) AS sources, uniqExact(dst) AS targets, count() AS requests
FROM events
WHERE kind = 'request' AND method != '' AND ts >= {since:DateTime64(6)} AND ts < {until:DateTime64(6)}
GROUP BY method, path
ORDER BY sources DESC, requests DESC, method, path
SETTINGS max_bytes_before_external_group_by = 4000000000
