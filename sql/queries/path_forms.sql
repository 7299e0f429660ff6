-- What is each HTTP path once disguise, values and numbers are taken away?
--
-- One row per path ever asked for: the path as it came, and its form: scheme and host as {host} if the host is a name, taken away if it is
-- an address, decoded from percent-encoding (twice: scanners encode twice) and from overlong UTF-8, in lower case, \ as /, // and /./ as /, any
-- run of ../ as one, UUIDs as {uuid}, addresses as {ip} (IPv6 in brackets: [{ip}]), words of eight and more hexadecimal digits, not all of them
-- decimal, as {hex}, runs of four and more decimal digits as {n}; of the query only the names, sorted, "?a=&b=".
-- Exactness: exact.
-- Example: SELECT form, count() AS paths FROM path_forms GROUP BY form ORDER BY paths DESC
WITH
    replaceRegexpOne(path, '(?s)#.*$', '') AS whole,
    -- Scanners know their target by its address: with that, or with no host, the rest is asked of the target itself. A name is that of
    -- somebody else, whom only a proxy would ask. Who seeks proxies by the address of a site of his own is missed: better than to take
    -- scheme and address for a proxy, which would hide what all others look for.
    replaceRegexpOne(whole, '(?i)^[a-z][a-z0-9+.-]*://([^/?@]*@)?(([0-9]{1,3}([.][0-9]{1,3}){3}|\\[[0-9a-f:.]*\\])(:[0-9]*)?)?([/?]|$)', '\\6') AS own,
    replaceRegexpOne(own, '(?i)^[a-z][a-z0-9+.-]*://[^/?]*', '{host}') AS target,
    splitByChar('?', target, 2) AS parts,
    -- A % without two digits is itself, but decodeURLComponent leaves the escape behind it, too: %%32%65 is %2e, which is a dot.
    replaceRegexpAll(parts[1], '(?i)%([0-9a-f]?)%', '%25\\1%') AS percents,
    lower(decodeURLComponent(decodeURLComponent(percents))) AS decoded,
    -- / . and \ in two bytes, which no UTF-8 has and old servers take.
    replaceAll(replaceAll(replaceAll(decoded, unhex('C0AF'), '/'), unhex('C0AE'), '.'), unhex('C19C'), '/') AS short,
    replaceRegexpAll(replaceAll(short, '\\', '/'), '/(\\./|/)*', '/') AS slashes,
    replaceRegexpAll(slashes, '(\\.\\.;?/)+', '../') AS walked,
    replaceRegexpAll(walked, '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}', '{uuid}') AS uuids,
    replaceRegexpAll(uuids, '\\[[0-9a-f]*:[0-9a-f:.]*:[0-9a-f.]*(%[^/\\]]*)?\\]', '[{ip}]') AS literals,
    replaceRegexpAll(literals, '[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}', '{ip}') AS addresses,
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
