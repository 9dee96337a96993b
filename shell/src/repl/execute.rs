//! Runs one statement: prints its answer, and copes with errors, lost connections and Ctrl-C.

use std::time::{Duration, Instant};

use proto::v1::{Commit, Error, TransactionState};
use tokio::signal::unix::Signal;

use super::{Flow, Shell};
use crate::client::{Disconnected, Event, Failure};
use crate::format::Printer;
use crate::last;
use crate::lexer::{first_words, interpolate};
use crate::units::ms;
use crate::workload::bank::resolve::{Outcome, resolve};

/// How long a lost connection is looked for anew before the prompt comes back.
const RECONNECT_FOR: Duration = Duration::from_secs(10);

/// How long the outcome of a COMMIT in doubt is asked for.
const RESOLVE_FOR: Duration = Duration::from_secs(10);

/// How a statement ended, before anything is said about it.
enum Ended {
    Well,
    Failed(Failure),
    Interrupted,
}

/// Ends when Ctrl-C is pressed; never without a handler.
pub(super) async fn interrupted(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

impl Shell {
    /// Runs a statement that the user wrote.
    pub(super) async fn statement(&mut self, sql: &str) -> Flow {
        let sql = interpolate(sql, &self.variables);
        self.last_sql.clone_from(&sql);
        let began = Instant::now();
        let (flow, commit) = self.run(&sql).await;
        let elapsed = began.elapsed();
        if let Some(commit) = commit {
            if self.interactive {
                self.err.line(last::summary(&commit));
            }
            self.last_commit = Some(commit);
        }
        if self.timing {
            self.err.line(format!("time: {} ms", ms(i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX))));
        }
        if flow == Flow::Done {
            self.after(&sql);
        }
        flow
    }

    /// Runs a statement that a meta-command is made of.
    pub(super) async fn query(&mut self, sql: &str) -> Flow {
        let (flow, _) = self.run(sql).await;
        if flow == Flow::Done {
            self.after(sql);
        }
        flow
    }

    /// Follows what a statement changed in the session or the schema.
    fn after(&mut self, sql: &str) {
        let words = first_words(sql, 2);
        match (words.first().map(String::as_str), words.get(1).map(String::as_str)) {
            (Some("CREATE" | "DROP" | "ALTER"), _) => self.names.refresh(),
            (Some("SET"), Some("READ_TIMESTAMP")) => {
                let value = setting_value(sql);
                self.asof = value.filter(|value| !value.eq_ignore_ascii_case("default") && value != "now");
                let statements = self.asof.iter().map(|at| asof_statement(Some(at))).collect();
                self.client.set_session_statements(statements);
            }
            (Some("RESET"), Some("READ_TIMESTAMP" | "ALL")) | (Some("DISCARD"), Some("ALL")) => {
                self.asof = None;
                self.client.set_session_statements(Vec::new());
            }
            _ => {}
        }
    }

    async fn run(&mut self, sql: &str) -> (Flow, Option<Commit>) {
        if !self.connected().await {
            return (Flow::Failed, None);
        }
        let mut again = true;
        loop {
            let mut printer = Printer::new(self.form());
            let (mut commit, mut shown) = (None, false);
            let before = self.client.state();
            let ended = {
                let Shell { client, out, err, interrupt, .. } = self;
                let mut on = |event| match event {
                    Event::Columns(columns) => {
                        shown = true;
                        printer.columns(columns, out);
                    }
                    Event::Rows(rows) => printer.rows(rows, out),
                    Event::Complete(complete) => {
                        printer.end(&complete.tag, out);
                        commit = complete.commit.or(commit.take());
                    }
                    Event::Notice(notice) => err.line(notice),
                };
                tokio::select! {
                    result = client.stream(sql, Vec::new(), &mut on) => match result {
                        Ok(()) => Ended::Well,
                        Err(failure) => Ended::Failed(failure),
                    },
                    () = interrupted(interrupt) => Ended::Interrupted,
                }
            };
            if !matches!(ended, Ended::Well) {
                printer.abort(&mut self.out);
            }
            let _ = std::io::Write::flush(&mut self.out);
            match ended {
                Ended::Well => return (Flow::Done, commit),
                Ended::Interrupted => {
                    self.cancelled(before).await;
                    return (Flow::Failed, commit);
                }
                Ended::Failed(Failure::Server(error)) => {
                    self.show_error(&error, sql);
                    if error.sqlstate == "40003" && !error.transaction.is_empty() {
                        let good = self.settle(&error.transaction, error.coordinator).await;
                        return (Flow::of(good), commit);
                    }
                    return (Flow::Failed, commit);
                }
                Ended::Failed(Failure::Disconnected(lost)) => {
                    let idle = before == TransactionState::Idle;
                    match self.lost(&lost, before).await {
                        // A read outside a transaction that showed nothing yet can simply run again.
                        None if idle && !lost.in_doubt && !shown && again && self.client.node().is_some() => {
                            again = false
                        }
                        settled => return (Flow::of(settled == Some(true)), commit),
                    }
                }
            }
        }
    }

    /// Notices a session that died while nobody used it. False if the statement must not run.
    async fn connected(&mut self) -> bool {
        let before = self.client.ready();
        let node = self.client.node().unwrap_or(0);
        let address = self.client.address().unwrap_or("").to_string();
        let reason = self.client.probe();
        let said = self.client.take_notices();
        for notice in said {
            self.err.line(notice);
        }
        if let Some(reason) = reason {
            let lost = Disconnected { address, node, reason, in_doubt: false, transaction: before.transaction.clone() };
            let _ = self.lost(&lost, before.state()).await;
            return before.state() == TransactionState::Idle && self.client.node().is_some();
        }
        if self.client.node().is_none() {
            if let Err(e) = self.client.reconnect().await {
                self.complain(&e.to_string());
                return false;
            }
            self.say_where();
        }
        true
    }

    /// Says that the connection is gone, finds another node, and says what became of the
    /// transaction. Returns whether a COMMIT in doubt was found to have committed.
    async fn lost(&mut self, lost: &Disconnected, before: TransactionState) -> Option<bool> {
        let name = if lost.node == 0 { lost.address.clone() } else { format!("n{} ({})", lost.node, lost.address) };
        self.err.line(format!("connection to {name} lost: {}", lost.reason));
        let until = Instant::now() + RECONNECT_FOR;
        let mut found = self.client.reconnect().await;
        while found.is_err() && Instant::now() < until {
            let stop = tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(300)) => false,
                () = interrupted(&mut self.interrupt) => true,
            };
            if stop {
                break;
            }
            found = self.client.reconnect().await;
        }
        match found {
            Ok(()) => self.say_where(),
            Err(e) => {
                self.complain(&e.to_string());
            }
        }
        if before == TransactionState::Idle {
            if lost.in_doubt {
                self.err.line("WARNING:  it is not known whether the statement took effect; look before you repeat it");
                return Some(false);
            }
            return None;
        }
        if !lost.in_doubt {
            self.err.line("the open transaction was rolled back");
            return Some(false);
        }
        Some(self.settle(&lost.transaction, 0).await)
    }

    fn say_where(&mut self) {
        let node = self.client.node().unwrap_or(0);
        let address = self.client.address().unwrap_or("").to_string();
        self.err.line(format!("now on n{node} ({address})"));
        for notice in self.client.take_notices() {
            self.err.line(format!("WARNING:  {notice}"));
        }
        if let Some(at) = &self.asof {
            self.err.line(format!("reads are again as of {at}"));
        }
    }

    /// Asks how a COMMIT in doubt ended, and says it. True if it committed.
    async fn settle(&mut self, transaction: &str, coordinator: u64) -> bool {
        self.err.line("the COMMIT is in doubt; asking for its outcome");
        let addresses = self.client.addresses().to_vec();
        let outcome = tokio::select! {
            outcome = resolve(&addresses, transaction, coordinator, RESOLVE_FOR) => outcome,
            () = interrupted(&mut self.interrupt) => Outcome::Unresolved("interrupted".to_string()),
        };
        match outcome {
            Outcome::Committed(at) => {
                let at = at.map_or_else(String::new, |ns| format!(" at {}", crate::units::timestamp(ns)));
                self.err.line(format!("transaction {transaction} committed{at}"));
                true
            }
            Outcome::Aborted => {
                self.err.line(format!("transaction {transaction} was rolled back"));
                false
            }
            Outcome::Unresolved(why) => {
                self.err.line(format!("WARNING:  it is not known whether transaction {transaction} committed: {why}"));
                self.err.line(format!("HINT:  SHOW TRANSACTION STATUS '{transaction}' tells it later."));
                false
            }
        }
    }

    /// After Ctrl-C: the only way to stop a statement is to leave its session.
    async fn cancelled(&mut self, before: TransactionState) {
        let rest = match before {
            TransactionState::Idle => "",
            _ => "; the open transaction was rolled back",
        };
        self.err.line(format!("cancelled{rest}"));
        if let Err(e) = self.client.cancel().await {
            self.complain(&e.to_string());
        }
        let said = self.client.take_notices();
        for notice in said {
            self.err.line(format!("WARNING:  {notice}"));
        }
    }

    /// Shows a server's error in psql's form.
    pub(super) fn show_error(&mut self, error: &Error, sql: &str) {
        let label = self.error_label();
        for line in error_lines(error, sql, label) {
            self.err.line(line);
        }
    }
}

/// The statement behind `\asof`; `None` is the present.
pub(super) fn asof_statement(at: Option<&str>) -> String {
    match at {
        None => "SET read_timestamp = DEFAULT".to_string(),
        Some(at) => format!("SET read_timestamp = '{}'", at.replace('\'', "''")),
    }
}

/// What a `SET name = value` sets, without quotes.
fn setting_value(sql: &str) -> Option<String> {
    let rest = match sql.split_once('=') {
        Some((_, value)) => value.trim(),
        None => sql.split_whitespace().last()?,
    };
    let bare = rest.strip_prefix('\'').and_then(|r| r.strip_suffix('\'')).unwrap_or(rest);
    Some(bare.replace("''", "'"))
}

/// An error, the place in the statement, detail, hint and SQLSTATE.
pub(super) fn error_lines(error: &Error, sql: &str, label: &str) -> Vec<String> {
    let mut lines = vec![format!("{label}  {}", error.message)];
    if error.position > 0 {
        let before: String = sql.chars().take(error.position as usize - 1).collect();
        let number = before.matches('\n').count();
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count());
        if let Some(line) = sql.lines().nth(number) {
            let lead = format!("LINE {}: ", number + 1);
            lines.push(format!("{lead}{line}"));
            lines.push(format!("{:>1$}", "^", lead.len() + column + 1));
        }
    }
    for (name, text) in [("DETAIL", &error.detail), ("HINT", &error.hint)] {
        if !text.is_empty() {
            lines.push(format!("{name}:  {text}"));
        }
    }
    if !error.sqlstate.is_empty() {
        lines.push(format!("SQLSTATE: {}", error.sqlstate));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_as_psql_shows_them() {
        let error = Error {
            sqlstate: "42703".into(),
            message: "column \"b\" does not exist".into(),
            hint: "Look at \\d t.".into(),
            position: 17,
            ..Error::default()
        };
        let expected = [
            "ERROR:  column \"b\" does not exist",
            "LINE 2:   b",
            "          ^",
            "HINT:  Look at \\d t.",
            "SQLSTATE: 42703",
        ];
        assert_eq!(error_lines(&error, "select a,\n    1,\n  b", "ERROR:")[0], expected[0]);
        assert_eq!(error_lines(&error, "select a, 123\n  b\nfrom t", "ERROR:"), expected);
        let beyond = Error { position: 999, ..error };
        assert_eq!(error_lines(&beyond, "", "ERROR:").len(), 3);
    }

    #[test]
    fn the_setting_is_followed() {
        assert_eq!(setting_value("SET read_timestamp = '-5s'").as_deref(), Some("-5s"));
        assert_eq!(setting_value("set read_timestamp to DEFAULT").as_deref(), Some("DEFAULT"));
        assert_eq!(asof_statement(Some("it's")), "SET read_timestamp = 'it''s'");
    }
}
