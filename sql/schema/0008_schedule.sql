-- The schedule of detection, and what is to be told to others. Small tables of versioned rows.
CREATE TABLE IF NOT EXISTS detect_slots_log
(
    schedule String COMMENT 'the same for all hosts that share a schedule: its interval and window',
    slot     DateTime('UTC') COMMENT 'start of the interval that the run is for',
    status   LowCardinality(String) COMMENT 'running, done, failed, stopped (will be done again), empty (there was no data)',
    run      String COMMENT 'of the latest attempt',
    holder   String COMMENT 'host and process of the latest attempt',
    attempts UInt32,
    error    String,
    started  DateTime64(3, 'UTC') COMMENT 'of the latest attempt',
    finished DateTime64(3, 'UTC') COMMENT '1970-01-01 while it runs',
    updated  DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(updated)
ORDER BY (schedule, slot)
COMMENT 'Versions behind detect_slots.';

CREATE VIEW IF NOT EXISTS detect_slots
AS SELECT schedule, slot, status, run, holder, attempts, error, started, finished FROM detect_slots_log FINAL
COMMENT 'Scheduled detection: what became of every interval that a run was begun for.';

CREATE TABLE IF NOT EXISTS notifications_log
(
    destination String COMMENT 'beginning of the SHA-256 of the URL, which may hold a secret',
    id          String COMMENT 'of the event: the same however often it is delivered',
    run         String COMMENT 'run that found it: it is delivered once that run is done; empty: at once',
    kind        LowCardinality(String) COMMENT 'campaign.new, campaign.growing, campaign.ended, or of a surge',
    subject     String COMMENT 'campaign, or whatever the event is about',
    sources     UInt64 COMMENT 'members of the campaign when this was told',
    coverage    Float64 COMMENT 'coverage of the campaign when this was told, 0 to 1',
    body        String COMMENT 'JSON, byte for byte as it is signed',
    created     DateTime64(3, 'UTC'),
    status      LowCardinality(String) COMMENT 'pending, delivered, dropped',
    attempts    UInt32,
    due         DateTime64(3, 'UTC') COMMENT 'not tried before',
    error       String COMMENT 'of the latest attempt',
    updated     DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(updated)
ORDER BY (destination, id)
COMMENT 'Versions behind notifications.';

CREATE VIEW IF NOT EXISTS notifications
AS SELECT destination, id, run, kind, subject, sources, coverage, body, created, status, attempts, due, error
FROM notifications_log FINAL
WHERE run = '' OR run IN (SELECT run FROM campaign_runs WHERE status = 'done')
COMMENT 'What was, or is to be, told to webhooks: events of finished runs and events without a run.';
