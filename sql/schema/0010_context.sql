-- Context: what files of the user say of networks (autonomous system, country, known benign scanner). A change writes the networks of
-- new files, then the ranges made of all files, and last a version, which is one row: so it is seen whole or not at
-- all, and a change that broke off leaves the former version in force. The version before stays until the next change, for
-- questions that run meanwhile.
CREATE TABLE IF NOT EXISTS context_versions
(
    version  UInt64 COMMENT 'the highest is in force',
    made     DateTime64(3, 'UTC'),
    ranges   UInt64 COMMENT 'rows of context_ranges_state',
    names    Array(String) COMMENT 'one a file, as are the following: name without its directory',
    kinds    Array(String) COMMENT 'what it tells: asn, country, benign, with a space between',
    formats  Array(String) COMMENT 'csv, tsv, list, mmdb',
    networks Array(UInt64) COMMENT 'how many networks it tells something of',
    sums     Array(String) COMMENT 'SHA-256 of the file',
    loaded   Array(DateTime64(3, 'UTC')),
    loads    Array(String) COMMENT 'its rows in context_networks_state'
)
ENGINE = ReplacingMergeTree
ORDER BY version
COMMENT 'Versions of the context: which files were in force.';

CREATE TABLE IF NOT EXISTS context_networks_state
(
    load    String COMMENT 'of one file, as in context_versions.loads',
    line    UInt32 COMMENT 'order in the file',
    first   IPv6 COMMENT 'first address; IPv4 is mapped into ::ffff:0:0/96',
    last    IPv6 COMMENT 'last address',
    asn     UInt32 COMMENT 'autonomous system, 0 unknown',
    as_name LowCardinality(String),
    country LowCardinality(String) COMMENT 'two letters, empty unknown',
    benign  LowCardinality(String) COMMENT 'name of a scanner that is known to mean no harm'
)
ENGINE = MergeTree
ORDER BY (load, line)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Networks as the files have them, of every load that is or was in force.';

CREATE TABLE IF NOT EXISTS context_ranges_state
(
    version UInt64,
    block   UInt32 COMMENT 'part of the address space that first is in: 0xFFFF and the first 16 bits of an IPv4 address, the first 16 bits of an IPv6 address',
    first   IPv6 COMMENT 'what is known holds from here up to the next row, or to the end of the block',
    asn     UInt32 COMMENT 'autonomous system, 0 unknown',
    as_name LowCardinality(String),
    country LowCardinality(String) COMMENT 'two letters, empty unknown',
    benign  LowCardinality(String) COMMENT 'name of a scanner that is known to mean no harm'
)
ENGINE = MergeTree
ORDER BY (version, block, first)
SETTINGS non_replicated_deduplication_window = 10000, index_granularity = 1024
COMMENT 'Ranges of every version that is or was in force.';

CREATE VIEW IF NOT EXISTS context_files
AS SELECT name, kinds, format, networks, sum, loaded, load
FROM
(
    SELECT v.names AS n, v.kinds AS k, v.formats AS f, v.networks AS w, v.sums AS s, v.loaded AS d, v.loads AS l
    FROM context_versions AS v ORDER BY version DESC LIMIT 1
)
ARRAY JOIN n AS name, k AS kinds, f AS format, w AS networks, s AS sum, d AS loaded, l AS load
COMMENT 'Files that the context is made of (`loader context add`).';

CREATE VIEW IF NOT EXISTS context_networks
AS SELECT f.name AS file, n.first AS first, n.last AS last, n.asn AS asn, n.as_name AS as_name, n.country AS country, n.benign AS benign
FROM context_networks_state AS n INNER JOIN context_files AS f ON f.load = n.load
COMMENT 'Networks as the files in force have them, overlapping as they may.';

CREATE VIEW IF NOT EXISTS context_ranges
AS SELECT block, first, toUInt128(first) AS number, asn, as_name, country, benign
FROM context_ranges_state
WHERE version = (SELECT max(version) FROM context_versions)
COMMENT 'What is known of addresses: a row holds from its first address (number is the same as a number) up to the next row or the end of its block. Without overlaps: the smallest network counts. For ASOF JOIN ON block and number.';
