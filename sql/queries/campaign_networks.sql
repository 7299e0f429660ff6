-- Which networks are the sources of a campaign in?
--
-- Parameter campaign String: its identity, as `campaigns` has it
--
-- One row per network (/24 for IPv4, /48 for IPv6) and what the files of `loader context` say of it: distinct sources, their share of the campaign's,
-- autonomous system (asn, as_name), country, and the name of a scanner that is known to mean no harm (benign); most sources first. What is not known is 0
-- or empty; a network of several systems or countries has a row for each. Members are those of the latest run that saw the campaign.
-- Exactness: exact. The context is as good as its files.
-- Example: SELECT * FROM campaign_networks(campaign = 'c-0a1b2c3d')
SELECT
    if(bitShiftRight(s.number, 32) = 0xFFFF,
        concat(IPv4NumToString(toUInt32(bitAnd(s.number, 0xFFFFFF00))), '/24'),
        concat(IPv6NumToString(tupleElement(IPv6CIDRToRange(s.source, 48), 1)), '/48')) AS network,
    count() AS sources,
    sources / any(s.members) AS share,
    c.asn AS asn,
    toString(any(c.as_name)) AS as_name,
    toString(c.country) AS country,
    toString(c.benign) AS benign
FROM
(
    SELECT DISTINCT src AS source, toUInt128(source) AS number, toUInt32(if(bitShiftRight(number, 32) = 0xFFFF, bitShiftRight(number, 16), bitShiftRight(number, 112))) AS block, count() OVER () AS members
    FROM campaign_sources
    WHERE campaign = {campaign:String} AND run = (SELECT max(run) FROM campaigns WHERE campaign = {campaign:String})
) AS s
LEFT ASOF JOIN
(
    SELECT block, number, asn, as_name, country, benign FROM context_ranges WHERE block IN
    (
        SELECT toUInt32(if(bitShiftRight(toUInt128(src), 32) = 0xFFFF, bitShiftRight(toUInt128(src), 16), bitShiftRight(toUInt128(src), 112)))
        FROM campaign_sources WHERE campaign = {campaign:String} AND run = (SELECT max(run) FROM campaigns WHERE campaign = {campaign:String})
    )
) AS c ON c.block = s.block AND s.number >= c.number
GROUP BY network, asn, country, benign
ORDER BY sources DESC, network, asn, country, benign
