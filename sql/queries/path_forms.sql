-- What is each HTTP path once disguise, values and numbers are taken away?
--
-- One row per path ever asked for: the path as it came, and its form: without scheme and host, decoded from percent-encoding (twice: scanners
-- encode twice), in lower case, \ as /, // and /./ as /, any run of ../ as one, UUIDs as {uuid}, addresses as {ip}, words of eight
-- and more hexadecimal digits, not all of them decimal, as {hex}, runs of four and more decimal digits as {n}; of the query only the names, sorted, "?a=&b=".
-- Exactness: exact.
-- Example: SELECT form, count() AS paths FROM path_forms GROUP BY form ORDER BY paths DESC
WITH
    replaceRegexpOne(replaceRegexpOne(path, '(?s)#.*$', ''), '^[A-Za-z][A-Za-z0-9+.-]*://[^/?]*', '') AS target,
    splitByChar('?', target, 2) AS parts,
    lower(decodeURLComponent(decodeURLComponent(parts[1]))) AS decoded,
    replaceRegexpAll(replaceAll(decoded, '\\', '/'), '/(\\./|/)*', '/') AS slashes,
    replaceRegexpAll(slashes, '(\\.\\.;?/)+', '../') AS walked,
    replaceRegexpAll(walked, '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}', '{uuid}') AS uuids,
    replaceRegexpAll(uuids, '[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}', '{ip}') AS addresses,
    -- Word by word, each between capitals, of which there are none left: page12345678 is no hexadecimal number, though e12345678 would be one.
    replaceRegexpAll(addresses, '[0-9a-z]+', 'A\\0Z') AS words,
    replaceRegexpAll(replaceRegexpAll(words, 'A[0-9]{4,}Z', '{n}'), 'A(0x)?[0-9a-f]{8,}Z', '{hex}') AS numbers,
    replaceRegexpAll(replaceRegexpAll(numbers, '[0-9]{4,}', '{n}'), '[AZ]', '') AS runs,
    arrayMap(x -> lower(decodeURLComponent(decodeURLComponent(splitByChar('=', x)[1]))), splitByChar('&', parts[2])) AS names,
    arraySort(arrayDistinct(arrayFilter(x -> x != '', arrayMap(x -> extract(x, '^[a-z0-9_.\\[\\]-]{1,40}'), names)))) AS fields
SELECT
    path,
    concat(runs, if(empty(fields), '', concat('?', arrayStringConcat(arrayMap(x -> concat(x, '='), fields), '&')))) AS form
FROM (SELECT DISTINCT path FROM path_days_state)
