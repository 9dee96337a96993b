//! `\?` and `\h`.

use super::super::{Flow, Shell};
use super::COMMANDS;

/// The syntax of each statement.
const STATEMENTS: &[(&str, &str)] = &[
    ("ALTER TABLE", "ALTER TABLE name SPLIT AT VALUES (key, ...) [, ...]"),
    (
        "BEGIN",
        "BEGIN [READ WRITE]\nBEGIN READ ONLY [AS OF SYSTEM TIME expr]\n\nexpr is a timestamp such as '2026-01-31T12:00:00Z', an age such as '-5s', or nanoseconds\nsince 1970",
    ),
    ("COMMIT", "COMMIT [AND [NO] CHAIN]"),
    (
        "CREATE TABLE",
        "CREATE TABLE [IF NOT EXISTS] name (\n    column type [NOT NULL] [DEFAULT expr] [PRIMARY KEY], ...\n    [, PRIMARY KEY (column, ...)]\n)\n\ntype: BOOLEAN, BIGINT, DOUBLE PRECISION, TEXT, BYTEA, TIMESTAMPTZ",
    ),
    ("DEALLOCATE", "DEALLOCATE [PREPARE] name | ALL"),
    ("DELETE", "DELETE FROM table [WHERE condition] [RETURNING expr, ...]"),
    ("DISCARD", "DISCARD ALL | PLANS | SEQUENCES | TEMP"),
    ("DROP TABLE", "DROP TABLE [IF EXISTS] name"),
    ("EXECUTE", "EXECUTE name [(expr, ...)]"),
    (
        "EXPLAIN",
        "EXPLAIN [ANALYZE] [VERBOSE] statement\nEXPLAIN (ANALYZE, VERBOSE, FORMAT TEXT | JSON, TIMING, SUMMARY, COSTS, BUFFERS) statement",
    ),
    (
        "INSERT",
        "INSERT INTO table [(column, ...)] VALUES (expr, ...) [, ...]\n    [ON CONFLICT [(column, ...)] DO NOTHING | DO UPDATE SET column = expr, ... [WHERE condition]]\n    [RETURNING expr, ...]",
    ),
    ("PREPARE", "PREPARE name [(type, ...)] AS statement"),
    ("RELEASE", "RELEASE [SAVEPOINT] name"),
    ("RESET", "RESET name | ALL"),
    ("ROLLBACK", "ROLLBACK [AND [NO] CHAIN]\nROLLBACK TO [SAVEPOINT] name"),
    ("SAVEPOINT", "SAVEPOINT name"),
    (
        "SELECT",
        "SELECT expr [AS name], ... [FROM table] [AS OF SYSTEM TIME expr]\n    [WHERE condition] [GROUP BY expr, ...] [ORDER BY expr [ASC|DESC], ...]\n    [LIMIT count] [OFFSET count]\n    [FOR UPDATE | NO KEY UPDATE | SHARE | KEY SHARE [OF table] [NOWAIT | SKIP LOCKED]]",
    ),
    (
        "SET",
        "SET CLUSTER CLOCK = 'source'\nSET NODE n CLOCK = 'source'\nSET read_timestamp = 'timestamp' | '-5s' | DEFAULT\nSET [LOCAL] lock_timeout | statement_timeout | idle_in_transaction_session_timeout = '5s'\n\nsource: fixed:EPSILON (such as fixed:1ms), kernel, sim:...",
    ),
    (
        "SHOW",
        "SHOW TABLES | RANGES | NODES | GROUPS | TRANSACTIONS | LOCKS | CLOCK\nSHOW COLUMNS FROM table\nSHOW CREATE TABLE table\nSHOW COMMIT TIMESTAMP\nSHOW TRANSACTION STATUS 'transaction' [COORDINATOR group]",
    ),
    ("UPDATE", "UPDATE table SET column = expr, ... [WHERE condition] [RETURNING expr, ...]"),
    ("UPSERT", "UPSERT INTO table [(column, ...)] VALUES (expr, ...) [, ...]"),
];

impl Shell {
    pub(super) fn list_commands(&mut self) -> Flow {
        for command in COMMANDS {
            let usage = format!("{} {}", command.name, command.arguments);
            self.out.line(format!("  {usage:<38}{}", command.help));
        }
        Flow::Done
    }

    pub(super) fn sql_help(&mut self, topic: &str) -> Flow {
        let topic = topic.to_uppercase();
        let found: Vec<_> =
            STATEMENTS.iter().filter(|(name, _)| !topic.is_empty() && name.starts_with(&topic)).collect();
        if topic.is_empty() {
            self.out.line("\\h STATEMENT shows the syntax of:");
            for (name, _) in STATEMENTS {
                self.out.line(format!("  {name}"));
            }
        } else if found.is_empty() {
            return self.complain(&format!("there is no help on {topic}; \\h lists what there is"));
        }
        for (name, syntax) in found {
            self.out.line(format!("{name}\n"));
            for line in syntax.lines() {
                self.out.line(format!("    {line}").trim_end());
            }
            self.out.line("");
        }
        Flow::Done
    }
}
