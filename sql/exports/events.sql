-- Events as other tools take them: addresses as text (IPv4 without its mapping), enumerations by their names, times with their microseconds.
--
-- Parameter from DateTime64(6, 'UTC'): first moment
-- Parameter to DateTime64(6, 'UTC'): moment behind the last
-- Parameter sensor String: only of this sensor; '' is all
-- Parameter kind String: only of this kind; '' is all
-- Parameter port Int32: only to this port; -1 is all
-- Parameter source String: only from sources in this network; '::/0' is all
WITH
    splitByChar('/', {source:String}) AS cidr,
    position({source:String}, ':') = 0 AS is4,
    toUInt8(toUInt8(if(length(cidr) = 1, if(is4, '32', '128'), cidr[2])) + if(is4, 96, 0)) AS bits,
    IPv6CIDRToRange(toIPv6(cidr[1]), bits) AS range
SELECT
    e.ts AS ts,
    toString(e.sensor) AS sensor,
    if(bitShiftRight(toUInt128(e.src), 32) = 0xFFFF, IPv4NumToString(toUInt32(bitAnd(toUInt128(e.src), 0xFFFFFFFF))), IPv6NumToString(e.src)) AS src,
    if(bitShiftRight(toUInt128(e.dst), 32) = 0xFFFF, IPv4NumToString(toUInt32(bitAnd(toUInt128(e.dst), 0xFFFFFFFF))), IPv6NumToString(e.dst)) AS dst,
    e.sport AS sport,
    e.dport AS dport,
    toString(e.proto) AS proto,
    toString(e.kind) AS kind,
    toString(e.technique) AS technique,
    e.packets AS packets,
    e.tcp_flags AS tcp_flags,
    e.window AS window,
    e.seq AS seq,
    e.ip_id AS ip_id,
    e.ttl AS ttl,
    e.df AS df,
    toString(e.signature) AS signature,
    toString(e.tool) AS tool,
    e.icmp_type AS icmp_type,
    e.icmp_code AS icmp_code,
    e.payload_len AS payload_len,
    e.payload_hash AS payload_hash,
    toString(e.method) AS method,
    e.host AS host,
    e.path AS path,
    e.user_agent AS user_agent,
    e.input AS input
FROM events AS e
WHERE e.ts >= {from:DateTime64(6, 'UTC')} AND e.ts < {to:DateTime64(6, 'UTC')}
    AND ({sensor:String} = '' OR e.sensor = {sensor:String})
    AND ({kind:String} = '' OR toString(e.kind) = {kind:String})
    AND ({port:Int32} < 0 OR e.dport = {port:Int32})
    AND e.src >= range.1 AND e.src <= range.2
