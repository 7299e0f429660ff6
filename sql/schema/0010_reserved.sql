-- Reserved: another branch brings this migration.
SELECT 1;
