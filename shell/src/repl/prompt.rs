//! The prompt: which node, and in which state.

use proto::v1::{Ready, TransactionState};

use crate::lexer::{Lexer, Mode};
use crate::units::timestamp;

/// `meridian@n1=> ` without a transaction, `=*>` in an open one, `=ro(TIMESTAMP)>` in a read-only
/// one, `=!>` in a failed one, `=asof(TIME)>` where the session's reads are past ones, and `->`
/// (or the open quote) in the middle of a statement.
pub fn prompt(node: Option<u64>, ready: &Ready, asof: Option<&str>, lexer: &Lexer) -> String {
    let node = node.map_or_else(|| "?".to_string(), |n| format!("n{n}"));
    if lexer.pending() {
        let mark = match lexer.mode() {
            Mode::Code | Mode::LineComment => "-",
            Mode::Single { .. } => "'",
            Mode::Double => "\"",
            Mode::BlockComment(_) => "*",
            Mode::Dollar(_) => "$",
        };
        return format!("meridian@{node}{mark}> ");
    }
    let state = match ready.state() {
        TransactionState::Idle => asof.map_or_else(String::new, |at| format!("asof({at})")),
        TransactionState::Open => "*".to_string(),
        TransactionState::ReadOnly if ready.read_ts_ns == 0 => "ro".to_string(),
        TransactionState::ReadOnly => format!("ro({})", timestamp(ready.read_ts_ns)),
        TransactionState::Failed => "!".to_string(),
    };
    format!("meridian@{node}={state}> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_prompt() {
        let ready =
            |state: TransactionState, read_ts_ns| Ready { state: state as i32, read_ts_ns, transaction: String::new() };
        let nothing = Lexer::default();
        let mut open = Lexer::default();
        open.push("select 'a\n");
        assert!(open.next_piece().is_none());
        let mut more = Lexer::default();
        more.push("select\n");
        assert!(more.next_piece().is_none());
        let idle = ready(TransactionState::Idle, 0);
        for (expected, actual) in [
            ("meridian@n1=> ", prompt(Some(1), &idle, None, &nothing)),
            ("meridian@?=> ", prompt(None, &idle, None, &nothing)),
            ("meridian@n1=asof(-5s)> ", prompt(Some(1), &idle, Some("-5s"), &nothing)),
            ("meridian@n2=*> ", prompt(Some(2), &ready(TransactionState::Open, 0), None, &nothing)),
            ("meridian@n1=ro> ", prompt(Some(1), &ready(TransactionState::ReadOnly, 0), None, &nothing)),
            (
                "meridian@n1=ro(1970-01-01T00:00:01Z)> ",
                prompt(Some(1), &ready(TransactionState::ReadOnly, 1_000_000_000), None, &nothing),
            ),
            ("meridian@n1=!> ", prompt(Some(1), &ready(TransactionState::Failed, 0), None, &nothing)),
            ("meridian@n1'> ", prompt(Some(1), &idle, None, &open)),
            ("meridian@n1-> ", prompt(Some(1), &idle, None, &more)),
        ] {
            assert_eq!(actual, expected);
        }
    }
}
