//! Runs the golden scripts in `testscripts/locks/`.
//!
//! Transactions are `t1`, `t2`, ...: a smaller number is older. A span is a key, `a..c`, or `a..` to the
//! end; a mode is `s` or `x`. Requests are numbered as they come.
//!
//! ```text
//! acquire TXN SPAN=MODE ...
//! try TXN SPAN=MODE ...   at once or not at all
//! cancel N                the request with that number waits no more
//! release TXN      protect TXN
//! locks            what is held and waited for
//! stops TXN        whether an older transaction waits for it
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use goldenscript::{ArgumentConsumer, Command};
use truetime::Timestamp;

use super::*;

#[derive(Default)]
struct World {
    table: LockTable,
    /// Whose each request is.
    requests: BTreeMap<u64, TxnId>,
}

fn parse_txn(name: &str) -> Result<TxnId, Box<dyn Error>> {
    Ok(TxnId(name.strip_prefix('t').ok_or("a transaction is t1, t2, ...")?.parse()?))
}

fn show_txn(txn: TxnId) -> String {
    format!("t{}", txn.0)
}

fn parse_span(text: &str) -> Span {
    let bytes = |s: &str| s.as_bytes().to_vec();
    match text.split_once("..") {
        Some((start, end)) => Span::new(bytes(start), bytes(end)),
        None => Span::point(bytes(text)),
    }
}

fn show_span(span: &Span) -> String {
    let start = String::from_utf8_lossy(&span.start).into_owned();
    if span.is_point() { start } else { format!("{start}..{}", String::from_utf8_lossy(&span.end)) }
}

fn parse_mode(text: &str) -> Result<LockMode, Box<dyn Error>> {
    match text {
        "s" => Ok(LockMode::Shared),
        "x" => Ok(LockMode::Exclusive),
        _ => Err(format!("{text} is no mode").into()),
    }
}

impl World {
    fn show(&self, effects: Effects, own: Option<u64>) -> String {
        let name = |token: &u64| format!("#{token} of {}", show_txn(self.requests[token]));
        let mut out = String::new();
        for txn in &effects.wounded {
            writeln!(out, "wounded {}", show_txn(*txn)).unwrap();
        }
        for token in &effects.cancelled {
            writeln!(out, "cancelled {}", name(token)).unwrap();
        }
        for token in &effects.granted {
            writeln!(out, "granted {}", name(token)).unwrap();
        }
        if let Some(token) = own.filter(|own| !effects.granted.contains(own)) {
            writeln!(out, "{} waits", name(&token)).unwrap();
        }
        out
    }
}

impl goldenscript::Runner for World {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let txn = |args: &mut ArgumentConsumer| parse_txn(args.next_pos().ok_or("which transaction?")?);
        let out = match command.name.as_str() {
            "acquire" => {
                let owner = txn(&mut args)?;
                let mut wants = Vec::new();
                while let Some((span, mode)) = args.next_key() {
                    wants.push((parse_span(span), parse_mode(mode)?));
                }
                let token = self.requests.len() as u64 + 1;
                self.requests.insert(token, owner);
                let priority = Priority { start: Timestamp::from_nanos(owner.0 as i64), id: owner };
                let effects = self.table.acquire(owner, priority, wants, token);
                self.show(effects, Some(token))
            }
            "try" => {
                let owner = txn(&mut args)?;
                let mut wants = Vec::new();
                while let Some((span, mode)) = args.next_key() {
                    wants.push((parse_span(span), parse_mode(mode)?));
                }
                let priority = Priority { start: Timestamp::from_nanos(owner.0 as i64), id: owner };
                let held = self.table.try_acquire(owner, priority, wants);
                format!("{}\n", if held { "granted" } else { "not to be had" })
            }
            "cancel" => {
                let token = args.next_pos().ok_or("which request?")?.parse()?;
                let effects = self.table.cancel(token);
                self.show(effects, None)
            }
            "release" => {
                let effects = self.table.release(txn(&mut args)?);
                self.show(effects, None)
            }
            "protect" => {
                self.table.protect(txn(&mut args)?);
                String::new()
            }
            "locks" => {
                let show = |row: LockRow| {
                    let mode = if row.mode == LockMode::Shared { "s" } else { "x" };
                    let held = if row.held { "holds" } else { "waits for" };
                    format!("{} {held} {mode} {}\n", show_txn(row.txn), show_span(&row.span))
                };
                self.table.rows().into_iter().map(show).collect()
            }
            "stops" => format!("{}\n", self.table.stops_an_older(txn(&mut args)?)),
            other => return Err(format!("unknown command {other}").into()),
        };
        args.reject_next()?;
        self.table.check();
        Ok(out)
    }
}

#[test]
fn golden_scripts() {
    let root = std::path::PathBuf::from("testscripts/locks");
    let mut scripts: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "no scripts under {}", root.display());
    for path in scripts {
        eprintln!("running {}", path.display());
        goldenscript::run(&mut World::default(), &path).unwrap();
    }
}
