-- Rows [first, first + rows) of generated traffic: what `loader bench data` inserts, a chunk at a time.
--
-- Every value of a row is a function of (seed, row number), so a chunk made again is the same chunk. Time grows with the row number, as it does
-- in captures, so a chunk is a stretch of time. What is modelled:
--
--   time        a daily rhythm: the rate swings by a third around its mean
--   sources     400,000 at work at any time, rank r sends in proportion to r^-0.75 (a power law; the loudest 2.6 %). A source lives for 1, 7, 30 or
--               all days and is then replaced; three in ten share 20,000 /24 networks
--   tools       a property of the source, visible in every packet of it by the rule of package fingerprint; TTL as the tool and the distance make it
--   ports       30 busy ones by a power law, of which a source has a favourite; a quarter of the sources try random ports four times in five: a fifth of all probes
--   sensors     a darknet of 65,536 addresses, one of 4,096, a honeypot of 256 whose port 80 and 8080 get HTTP requests: 300 paths by a power law, one in thirty like no other
--   campaigns   four at a time for a fortnight each, 300 members that share the darknet out among them: a thirtieth of all
--   backscatter one in twenty-five, from 2,000 victims
--
-- Parameters: seed, first, rows, total UInt64; begin, span Int64 (microseconds); input UInt64
INSERT INTO events (ts, sensor, src, dst, sport, dport, proto, kind, technique, packets, tcp_flags, window, seq, ip_id, ttl, df, signature, tool,
    icmp_type, icmp_code, payload_len, payload_hash, method, host, path, user_agent, input)
WITH
    86400e6 AS day_length,
    [23, 22, 80, 443, 8080, 3389, 445, 6379, 5555, 2323, 8443, 1433, 3306, 21, 25, 5900, 53, 123, 161, 1900, 5060, 81, 8888, 2375, 9200, 5432, 27017, 8081, 60023, 7547] AS busy,
    ['/', '/robots.txt', '/favicon.ico', '/.env', '/wp-login.php', '/phpmyadmin/index.php', '/manager/html', '/boaform/admin/formLogin', '/cgi-bin/luci', '/.git/config',
     '/actuator/health', '/HNAP1', '/shell?cd+/tmp', '/solr/admin/info/system', '/api/v1/pods', '/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php', '/GponForm/diag_Form?images/', '/login'] AS paths,
    ['Mozilla/5.0 zgrab/0.x', 'curl/7.68.0', 'python-requests/2.31.0', 'Go-http-client/1.1', 'Mozilla/5.0 (Windows NT 10.0; Win64; x64)', 'masscan/1.3', ''] AS agents,
    -- Four hashes a row; every choice takes bits of its own.
    cityHash64({seed:UInt64}, number, 1) AS a,
    cityHash64({seed:UInt64}, number, 2) AS b,
    cityHash64({seed:UInt64}, number, 3) AS c,
    toFloat64({span:Int64}) * (toFloat64(number) + bitAnd(a, 0xFFFF) / 65536) / {total:UInt64} AS even,
    even + day_length * 0.35 / (2 * pi()) * sin(2 * pi() * even / day_length) AS elapsed,
    toUInt32(elapsed / day_length) AS day,
    -- Who.
    bitAnd(bitShiftRight(a, 16), 0xFFF) AS part,
    part < 164 AS is_backscatter,
    part >= 164 AND part < 300 AS is_campaign,
    bitAnd(bitShiftRight(a, 28), 3) + 4 * intDiv(day, 14) AS campaign,
    bitAnd(bitShiftRight(a, 30), 0xFFFF) % 300 AS member,
    toUInt32(400000 * pow(bitShiftRight(b, 32) / 4294967296, 4)) AS rank,
    cityHash64({seed:UInt64}, rank, 4) AS place,
    [1, 1, 1, 1, 7, 7, 7, 30, 30, 1000000][place % 10 + 1] AS life,
    multiIf(is_backscatter, cityHash64({seed:UInt64}, rank % 2000, 5), is_campaign, cityHash64({seed:UInt64}, campaign, member, 6),
        cityHash64({seed:UInt64}, rank, intDiv(day + bitShiftRight(place, 8) % life, life), 7)) AS id,
    16777216 + bitShiftRight(id, 16) % 3720000000 AS loner,
    toUInt32(if(id % 10 < 3, bitAnd(16777216 + cityHash64({seed:UInt64}, bitShiftRight(id, 16) % 20000, 8) % 3720000000, 0xFFFFFF00) + bitAnd(bitShiftRight(id, 40), 0xFF), loner)) AS src4,
    -- What it is like: of the source, or of the campaign.
    if(is_campaign, cityHash64({seed:UInt64}, campaign, 9), cityHash64(id, 10)) AS trait,
    multiIf(is_backscatter, '', trait % 100 < 20, 'zmap', trait % 100 < 40, 'masscan', trait % 100 < 55, 'mirai', trait % 100 < 60, 'nmap', '') AS look,
    -- What it asks for.
    bitAnd(bitShiftRight(trait, 8), 3) = 0 AND NOT is_campaign AND bitAnd(bitShiftRight(b, 8), 0xFF) < 205 AS at_random,
    busy[toUInt32(30 * pow(if(is_campaign OR bitAnd(bitShiftRight(b, 16), 0xFF) < 180, bitAnd(bitShiftRight(trait, 16), 0xFFFF), bitAnd(c, 0xFFFF)) / 65536, 2)) + 1] AS wanted,
    if(at_random, 1 + bitAnd(bitShiftRight(c, 16), 0xFFFF) % 65535, wanted) AS port,
    NOT at_random AND wanted IN (53, 123, 161, 1900, 5060) AS is_udp,
    NOT is_backscatter AND NOT is_campaign AND NOT is_udp AND bitAnd(bitShiftRight(c, 32), 0xFF) < 5 AS is_ping,
    NOT is_backscatter AND NOT is_udp AND NOT is_ping AS is_tcp,
    -- Where it looks.
    bitAnd(bitShiftRight(b, 24), 0xFF) AS where_to,
    multiIf(is_campaign OR where_to < 228, 'darknet', where_to < 243, 'campus', 'honeypot') AS place_name,
    bitShiftRight(c, 40) AS spot,
    toUInt32(multiIf(is_campaign, 0xC6120000 + member + 300 * (spot % 218), place_name = 'darknet', 0xC6120000 + bitAnd(spot, 0xFFFF), place_name = 'campus', 0xC6130000 + bitAnd(spot, 0xFFF), 0xC613F000 + bitAnd(spot, 0xFF))) AS dst4,
    place_name = 'honeypot' AND is_tcp AND port IN (80, 8080) AND bitAnd(c, 1) = 1 AS is_request,
    is_tcp AND NOT is_request AS is_syn,
    cityHash64(b, 11) AS d,
    toUInt32(bitShiftRight(d, 32)) AS any_number,
    multiIf(NOT is_tcp, 0, look = 'mirai', dst4, look = 'nmap', bitAnd(any_number, 0xFFFF0000) + bitXor(bitShiftRight(any_number, 16), bitAnd(id, 0xFFFF)), any_number) AS tcp_seq,
    if(is_request, multiIf(bitAnd(d, 0xF) < 11, 'GET', bitAnd(d, 0xF) < 13, 'HEAD', bitAnd(d, 0xF) < 15, 'POST', 'OPTIONS'), '') AS verb,
    toUInt32(300 * pow(bitAnd(bitShiftRight(d, 4), 0xFFFF) / 65536, 3)) AS path_rank,
    multiIf(NOT is_request, '', bitAnd(bitShiftRight(d, 20), 0xFF) < 8, concat('/', hex(b)), path_rank < 18, paths[path_rank + 1], concat('/app', toString(path_rank), '/index.php')) AS asked,
    if(is_request, agents[bitShiftRight(trait, 32) % 7 + 1], '') AS agent
SELECT
    fromUnixTimestamp64Micro({begin:Int64} + toInt64(elapsed), 'UTC') AS ts,
    place_name AS sensor,
    toIPv6(toIPv4(src4)) AS src,
    toIPv6(toIPv4(dst4)) AS dst,
    toUInt16(multiIf(is_ping, 0, is_backscatter, [80, 443, 22, 53][id % 4 + 1], 32768 + bitAnd(bitShiftRight(d, 28), 0x7FFF))) AS sport,
    toUInt16(multiIf(is_ping, 0, is_backscatter, 1024 + bitAnd(spot, 0x7FFF), port)) AS dport,
    CAST(multiIf(is_ping, 'icmp', is_udp AND NOT is_backscatter, 'udp', 'tcp'), 'Enum8(\'icmp\' = 1, \'tcp\' = 6, \'udp\' = 17)') AS proto,
    CAST(multiIf(is_backscatter, 'backscatter', is_request, 'request', 'scan'), 'Enum8(\'scan\' = 1, \'request\' = 2, \'backscatter\' = 3)') AS kind,
    CAST(multiIf(is_backscatter, if(id % 5 = 0, 'rst', 'synack'), is_ping, 'ping', is_udp, 'udp', is_request, 'request', 'syn'), 'Enum8(\'syn\' = 1, \'udp\' = 7, \'ping\' = 8, \'synack\' = 12, \'rst\' = 13, \'request\' = 18)') AS technique,
    toUInt32(1) AS packets,
    toUInt8(multiIf(is_backscatter, if(id % 5 = 0, 4, 18), is_request, 24, is_syn, 2, 0)) AS tcp_flags,
    toUInt16(multiIf(NOT is_tcp, 0, is_request, 502, look = 'zmap', 65535, look = 'masscan', 1024, look = 'nmap', 1024, look = 'mirai', 5840 + id % 4096, 64240)) AS window,
    tcp_seq AS seq,
    toUInt16(multiIf(look = 'zmap' AND NOT is_request, 54321, look = 'masscan' AND is_syn, bitAnd(bitXor(bitXor(dst4, tcp_seq), port), 0xFFFF), bitAnd(bitShiftRight(d, 8), 0xFFFF))) AS ip_id,
    toUInt8(multiIf(look IN ('zmap', 'masscan'), 255, look = 'nmap', 56, 64) - 5 - bitShiftRight(id, 8) % 20) AS ttl,
    look = '' OR is_request AS df,
    if(is_syn, multiIf(look = 'zmap', '65535:::', look = 'masscan', '1024:::', look = 'nmap', '1024:2:1460:', look = 'mirai', concat(toString(5840 + id % 4096), ':::'), trait % 7 = 0, '8192:2,1,3,1,1,4:1460:8', '64240:2,4,8,1,3:1460:7'), '') AS signature,
    if(is_syn OR look = 'zmap' AND NOT is_request, look, '') AS tool,
    toUInt8(if(is_ping, 8, 0)) AS icmp_type,
    toUInt8(0) AS icmp_code,
    toUInt32(multiIf(is_request, 180, is_udp AND NOT is_backscatter, 48, 0)) AS payload_len,
    multiIf(is_request, cityHash64(verb, asked, agent), is_udp AND NOT is_backscatter, cityHash64(port, trait % 3), 0) AS payload_hash,
    verb AS method,
    '' AS host,
    asked AS path,
    agent AS user_agent,
    {input:UInt64} AS input
FROM numbers({first:UInt64}, {rows:UInt64})
SETTINGS short_circuit_function_evaluation = 'disable'
