-- The ledger and the telescopes: small tables of versioned rows. The view of the plain name is the latest version.
-- They are written outside the deduplication of events: their rows replace each other by key.
CREATE TABLE IF NOT EXISTS telescopes_log
(
    prefix  String COMMENT 'monitored prefix, masked, "192.0.2.0/24"',
    sensor  String COMMENT 'sensor that watches it; empty for all',
    since   DateTime('UTC') COMMENT '1970-01-01 is unbounded',
    until   DateTime('UTC') COMMENT '1970-01-01 is unbounded',
    updated DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(updated)
ORDER BY (prefix, sensor, since)
COMMENT 'Versions behind telescopes.';

CREATE VIEW IF NOT EXISTS telescopes
AS SELECT prefix, sensor, since, until FROM telescopes_log FINAL
COMMENT 'Monitored prefixes, who watches them and since when.';

CREATE TABLE IF NOT EXISTS loads_log
(
    input    UInt64 COMMENT 'number of the input, events.input',
    name     String COMMENT 'name that it was loaded under',
    sensor   String,
    size     UInt64 COMMENT 'bytes as stored, 0 if not known',
    offset   UInt64 COMMENT 'bytes of content read, through the last whole record',
    records  UInt64 COMMENT 'packets or lines read',
    rows     UInt64 COMMENT 'events found in them',
    inserted UInt64 COMMENT 'events that were new in the latest load',
    rejected Map(String, UInt64) COMMENT 'what was no event, by reason',
    state    LowCardinality(String) COMMENT 'done, partial, failed',
    reason   String COMMENT 'why it ended early, or empty',
    parser   UInt32 COMMENT 'version of the decoder',
    options  String COMMENT 'options that change what is read',
    started  DateTime64(3, 'UTC'),
    finished DateTime64(3, 'UTC'),
    updated  DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(updated)
ORDER BY (input, name)
COMMENT 'Versions behind loads.';

CREATE VIEW IF NOT EXISTS loads
AS SELECT input, name, sensor, size, offset, records, rows, inserted, rejected, state, reason, parser, options, started, finished
FROM loads_log FINAL
COMMENT 'The ledger: one row per content and name, as its latest load left it. A damaged copy is a row of its own.';

CREATE TABLE IF NOT EXISTS load_batches
(
    head    FixedString(32) COMMENT 'hash of the beginning of the input',
    start   Int64 COMMENT 'offset of the first byte',
    end     Int64 COMMENT 'offset behind the last byte',
    sum     FixedString(32) COMMENT 'hash of the bytes before end',
    token   String COMMENT 'deduplication token of the batch',
    options String COMMENT 'options that made the rows',
    input   UInt64,
    records UInt64,
    rows    UInt64,
    done    Bool COMMENT 'false: about to be sent, true: in',
    at      DateTime64(6, 'UTC'),
    version UInt64 DEFAULT bitOr(bitShiftLeft(toUInt64(done), 63), toUInt64(toUnixTimestamp64Micro(at))) COMMENT 'what is in stays in; among intents the latest counts'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (head, start, end, sum, options)
COMMENT 'Marks of the loader: which bytes of which input are in.';
