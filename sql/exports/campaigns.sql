-- Every campaign that a run ever found, as `campaigns_known` has it, with its spread left out: that is the question campaign_spread.
SELECT
    c.campaign AS campaign,
    toString(c.state) AS state,
    c.merged_into AS merged_into,
    c.first_seen AS first_seen,
    c.last_seen AS last_seen,
    c.runs AS runs,
    c.sources AS sources,
    c.sources_ever AS sources_ever,
    c.networks AS networks,
    c.ports AS ports,
    arrayMap(p -> toString(p), c.protos) AS protos,
    toString(c.tool) AS tool,
    c.signature AS signature,
    c.user_agent AS user_agent,
    c.payload_hash AS payload_hash,
    toString(c.cut) AS cut,
    toString(c.pattern) AS pattern,
    c.coverage AS coverage,
    c.overlap_ratio AS overlap_ratio,
    c.evidence AS evidence,
    c.universe AS universe,
    c.targets AS targets,
    c.summary AS summary
FROM campaigns_known AS c
ORDER BY campaign
