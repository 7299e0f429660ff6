-- What every source touched, per day, as other tools take it: addresses as text, enumerations by their names.
--
-- Parameter from DateTime64(6, 'UTC'): first moment; its whole UTC day is in
-- Parameter to DateTime64(6, 'UTC'): moment behind the last; its whole UTC day is in
-- Parameter sensor String: only of this sensor; '' is all
-- Parameter port Int32: only to this port; -1 is all
-- Parameter source String: only from sources in this network; '::/0' is all
WITH
    splitByChar('/', {source:String}) AS cidr,
    position({source:String}, ':') = 0 AS is4,
    toUInt8(toUInt8(if(length(cidr) = 1, if(is4, '32', '128'), cidr[2])) + if(is4, 96, 0)) AS bits,
    IPv6CIDRToRange(toIPv6(cidr[1]), bits) AS range
SELECT
    f.day AS day,
    if(bitShiftRight(toUInt128(f.src), 32) = 0xFFFF, IPv4NumToString(toUInt32(bitAnd(toUInt128(f.src), 0xFFFFFFFF))), IPv6NumToString(f.src)) AS src,
    toString(f.proto) AS proto,
    f.dport AS dport,
    if(bitShiftRight(toUInt128(f.dst), 32) = 0xFFFF, IPv4NumToString(toUInt32(bitAnd(toUInt128(f.dst), 0xFFFFFFFF))), IPv6NumToString(f.dst)) AS dst,
    toString(f.sensor) AS sensor,
    f.object AS object,
    f.events AS events,
    f.first_seen AS first_seen,
    f.last_seen AS last_seen
FROM footprints AS f
WHERE f.day >= toDate({from:DateTime64(6, 'UTC')}) AND f.day <= toDate({to:DateTime64(6, 'UTC')} - toIntervalMicrosecond(1))
    AND ({sensor:String} = '' OR f.sensor = {sensor:String})
    AND ({port:Int32} < 0 OR f.dport = {port:Int32})
    AND f.src >= range.1 AND f.src <= range.2
