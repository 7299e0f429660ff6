-- How far are the sources of a campaign spread over networks, autonomous systems and countries?
--
-- Parameter campaign String: its identity, as `campaigns` has it
--
-- One row, none for a campaign that is not known: sources, networks (/24 for IPv4, /48 for IPv6), median and largest number of sources in one of them; of the files of `loader
-- context`: sources whose autonomous system is known, systems, the one with most sources and how many these are; the same for countries; sources that are scanners
-- known to mean no harm, and their names. Members are those of the latest run that saw the campaign.
-- Exactness: exact. The context is as good as its files.
-- Example: SELECT * FROM campaign_spread(campaign = 'c-0a1b2c3d')
SELECT
    toUInt64(arraySum(sizes)) AS sources,
    toUInt64(length(sizes)) AS networks,
    arraySort(sizes)[intDiv(length(sizes) + 1, 2)] AS median_network,
    arrayMax(sizes) AS largest_network,
    toUInt64(arraySum(mapValues(by_asn))) AS asn_known,
    toUInt64(length(by_asn)) AS asns,
    (arrayReverseSort(x -> (x.2, x.1), arrayZip(mapKeys(by_asn), mapValues(by_asn)))[1] AS first_asn).1 AS top_asn,
    by_name[top_asn] AS top_as_name,
    first_asn.2 AS top_asn_sources,
    toUInt64(arraySum(mapValues(by_country))) AS country_known,
    toUInt64(length(by_country)) AS countries,
    (arrayReverseSort(x -> (x.2, x.1), arrayZip(mapKeys(by_country), mapValues(by_country)))[1] AS first_country).1 AS top_country,
    first_country.2 AS top_country_sources,
    known AS benign,
    names AS scanners
FROM
(
    SELECT
        mapValues(sumMap(map(n.network, n.sources))) AS sizes,
        mapFilter((k, v) -> k != 0, sumMap(map(n.asn, n.sources))) AS by_asn,
        maxMap(map(n.asn, n.as_name)) AS by_name,
        mapFilter((k, v) -> k != '', sumMap(map(n.country, n.sources))) AS by_country,
        sumIf(n.sources, n.benign != '') AS known,
        arraySort(groupUniqArrayIf(n.benign, n.benign != '')) AS names
    FROM campaign_networks(campaign = {campaign:String}) AS n
)
WHERE notEmpty(sizes)
