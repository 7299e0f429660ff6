-- Roles of least privilege for a ClickHouse server of your own. Run this file once as an administrator, with the database of the
-- events (scan) as the connection's database: `ON *` means that database and no other. Then give users a role each:
--
--     CREATE USER sensor IDENTIFIED BY '…' DEFAULT ROLE murmuration_loader;
--
-- The embedded engine has users of its own (pkg/engine).

-- Asks questions: Grafana, analysts. Reads the database and nothing else, within limits.
CREATE ROLE IF NOT EXISTS murmuration_reader;
CREATE SETTINGS PROFILE IF NOT EXISTS murmuration_reader SETTINGS readonly = 2, max_execution_time = 60, max_memory_usage = 8000000000 TO murmuration_reader;
GRANT SELECT, SHOW ON * TO murmuration_reader;

-- Loads, detects, watches for surges. Besides rows it makes and drops tables for one reason: a rollup that a killed server left
-- incomplete is made anew beside the old one and swapped in, under a lock that is a table.
CREATE ROLE IF NOT EXISTS murmuration_loader;
GRANT SELECT, SHOW, INSERT, CREATE TABLE, DROP TABLE, ALTER DELETE, ALTER MODIFY COMMENT ON * TO murmuration_loader;
GRANT SELECT ON system.processes TO murmuration_loader;
GRANT SELECT ON system.clusters TO murmuration_loader; -- with --cluster
GRANT SYSTEM SYNC REPLICA ON * TO murmuration_loader; -- where Keeper replicates

-- Owns the schema: migrations and retention. Make the database first, or let it.
CREATE ROLE IF NOT EXISTS murmuration_owner;
GRANT SELECT, SHOW, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, CREATE DICTIONARY, DROP TABLE, DROP VIEW, DROP DICTIONARY, TRUNCATE, OPTIMIZE, dictGet ON * TO murmuration_owner;
GRANT SELECT ON system.processes TO murmuration_owner;
GRANT SELECT ON system.clusters TO murmuration_owner; -- with --cluster
GRANT SYSTEM SYNC REPLICA ON * TO murmuration_owner; -- where Keeper replicates
GRANT SELECT ON system.parts TO murmuration_owner; -- how large the tiers of `loader retention` are

-- `loader backup` and `loader restore`. To verify a backup (unless --no-verify) the user also needs to make and drop databases called NAME_verify_….
GRANT BACKUP, CHECK ON * TO murmuration_owner;
GRANT SELECT ON system.backups TO murmuration_owner;
