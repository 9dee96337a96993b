//! A client that talks SQL: it runs its programs, begins again after 40001 as a client should, asks for
//! the status of a transaction whose commit it is in doubt of, and writes everything down.

use std::collections::VecDeque;

use paxos::NodeId;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use sql::types::Datum;
use txn::TxnId;

use super::host::{Returned, SqlAnswer, SqlCall};
use super::judge::{Attempt, Done, Ending, is_impatience};
use super::programs::{self, Kind, Program, Style, When};
use super::statement::Statement;
use crate::clients::{Act, Actor, Answer, Call, Shared};
use crate::rng::chance;

#[derive(Clone, Debug, PartialEq)]
enum State {
    Idle,
    Retrying,
    Beginning,
    /// Between two statements.
    Thinking,
    Running(Statement),
    Committing,
    RollingBack,
    Doubting,
    Asking,
    Left,
}

/// One SQL client.
#[derive(Debug)]
pub struct SqlClient {
    id: u64,
    gateway: NodeId,
    /// To be done before anything is drawn.
    agenda: VecDeque<Program>,
    draws: bool,
    rng: ChaCha8Rng,
    state: State,
    connected: bool,
    /// As it was drawn.
    program: Option<Program>,
    /// As it runs.
    running: Option<Program>,
    attempt: Option<Attempt>,
    open: Option<TxnId>,
    tries: u32,
    /// The failed statement may be tried again.
    retryable: bool,
}

const TRIES_MAX: u32 = 30;

impl SqlClient {
    /// A client with an agenda, which then draws programs or leaves.
    pub fn new(id: u64, gateway: NodeId, agenda: VecDeque<Program>, draws: bool, rng: ChaCha8Rng) -> SqlClient {
        SqlClient {
            id,
            gateway,
            agenda,
            draws,
            rng,
            state: State::Idle,
            connected: false,
            program: None,
            running: None,
            attempt: None,
            open: None,
            tries: 0,
            retryable: true,
        }
    }

    fn think(&mut self, shared: &Shared) -> Act {
        Act::Wait(match self.rng.random_range(0..3) {
            0 => 0,
            1 => self.rng.random_range(0..=shared.think_max_ns / 10),
            _ => self.rng.random_range(0..=shared.think_max_ns),
        })
    }

    fn reconnect(&mut self, shared: &Shared) {
        self.connected = false;
        if self.draws {
            self.gateway = shared.nodes[self.rng.random_range(0..shared.nodes.len())];
        }
    }

    fn call(&mut self, text: impl Into<String>, params: Vec<Datum>) -> Act {
        let connect = !std::mem::replace(&mut self.connected, true);
        let prepared = self.rng.random_range(0..4) == 0;
        Act::Call(Call::Sql(SqlCall { connect, prepared, text: text.into(), params }))
    }

    fn next_program(&mut self, now: i64, shared: &mut Shared) -> Act {
        self.tries = 0;
        if self.agenda.is_empty() && self.draws && !shared.closing && shared.plans_left > 0 {
            if !shared.sql.ready {
                return Act::Wait(30_000_000);
            }
            shared.plans_left -= 1;
            if chance(&mut self.rng, 50_000) {
                self.reconnect(shared);
            }
            self.agenda = shared.sql.draw(&mut self.rng);
        }
        self.program = self.agenda.pop_front();
        if self.program.is_none() {
            self.state = State::Left;
            return Act::Leave;
        }
        self.start(now, shared)
    }

    fn start(&mut self, now: i64, shared: &mut Shared) -> Act {
        self.tries += 1;
        let program = self.program.as_ref().expect("only a client with a program starts it");
        let program = program.renewed(&mut shared.sql);
        let (kind, style) = (program.kind, program.style);
        self.attempt = Some(Attempt::new(self.id, self.gateway, kind, style, now));
        self.running = Some(program);
        self.open = None;
        match style {
            Style::Block => {
                self.state = State::Beginning;
                self.call("BEGIN", Vec::new())
            }
            Style::ReadOnly(when) => {
                self.state = State::Beginning;
                self.call(format!("BEGIN READ ONLY{}", as_of(when)), Vec::new())
            }
            Style::Alone(_) => self.next_statement(now, shared),
        }
    }

    fn attempt(&mut self) -> &mut Attempt {
        self.attempt.as_mut().expect("a program that runs is written down")
    }

    fn next_statement(&mut self, now: i64, shared: &Shared) -> Act {
        let program = self.running.as_mut().expect("only a client with a program runs it");
        let (style, rollback) = (program.style, program.rollback);
        if let Some(statement) = program.queue.pop_front() {
            let inline = self.rng.random_range(0..3) == 0;
            let (mut text, params) = statement.text(inline);
            if let Style::Alone(when) = style {
                text += &as_of(when);
                self.attempt().commit_invoked = now;
            }
            self.attempt().done.push(Done { statement: statement.clone(), invoked: now, at: now, result: None });
            self.state = State::Running(statement);
            return self.call(text, params);
        }
        let setup = self.attempt().kind == Kind::Setup;
        if rollback || (style == Style::Block && !setup && !shared.closing && chance(&mut self.rng, 20_000)) {
            self.state = State::RollingBack;
            return self.call("ROLLBACK", Vec::new());
        }
        self.attempt().commit_invoked = now;
        self.state = State::Committing;
        self.call("COMMIT", Vec::new())
    }

    fn end(&mut self, now: i64, ending: Ending, shared: &mut Shared) {
        let mut attempt = self.attempt.take().expect("a program that runs is written down");
        attempt.ended = now;
        attempt.ending = ending;
        if attempt.ending != Ending::Aborted {
            self.remember(&attempt, shared);
        }
        shared.sql.attempts.push(attempt);
    }

    fn remember(&self, attempt: &Attempt, shared: &mut Shared) {
        for done in &attempt.done {
            if let (Statement::Create(super::statement::Table::Made(n), _), Ending::Committed(_)) =
                (&done.statement, &attempt.ending)
            {
                shared.sql.made.push(*n);
            }
            if let (Statement::Insert { table: super::statement::Table::Mono, rows, .. }, Ending::Committed(_)) =
                (&done.statement, &attempt.ending)
            {
                shared.sql.mono = rows.iter().map(|(key, _)| key[0]).fold(shared.sql.mono, i64::max);
            }
            if let Some(Ok(Returned { read_ts: Some(at), .. })) = &done.result
                && shared.sql.answered.len() < 500
                && !matches!(done.statement.table(), super::statement::Table::Made(_))
            {
                shared.sql.answered.push((done.statement.clone(), *at));
            }
        }
        if attempt.kind == Kind::Setup && self.agenda.is_empty() {
            shared.sql.ready = true;
        }
    }

    fn done(&mut self, shared: &Shared) -> Act {
        self.program = None;
        self.state = State::Idle;
        self.think(shared)
    }

    fn retry(&mut self, shared: &Shared) -> Act {
        let setup = self.program.as_ref().is_some_and(|program| program.kind == Kind::Setup);
        if self.draws && !setup && (self.tries >= TRIES_MAX || shared.closing) {
            self.agenda.clear();
            return self.done(shared);
        }
        self.state = State::Retrying;
        let most = shared.think_max_ns.max(1_000_000) << self.tries.min(5);
        Act::Wait(self.rng.random_range(0..=most.min(300_000_000)))
    }

    fn aborted(&mut self, now: i64, shared: &mut Shared) -> Act {
        let again = self.retryable;
        self.end(now, Ending::Aborted, shared);
        if again { self.retry(shared) } else { self.done(shared) }
    }

    fn doubt(&mut self, shared: &mut Shared) -> Act {
        shared.counters.hit("sql: commit in doubt");
        self.attempt().doubted = true;
        self.state = State::Doubting;
        self.think(shared)
    }

    /// Whether anything may have come of the call under way.
    fn may_have_committed(&self) -> bool {
        match &self.state {
            State::Committing => self.open.is_some(),
            State::Running(statement) => {
                let alone = matches!(&self.running, Some(Program { style: Style::Alone(_), .. }));
                alone && !matches!(statement, Statement::Select { .. } | Statement::CheckIndexes)
            }
            _ => false,
        }
    }

    fn answered(&mut self, now: i64, answer: SqlAnswer, shared: &mut Shared) -> Act {
        let SqlAnswer { mut returned, error, open, failed } = answer;
        if let Some(err) = &error {
            shared.counters.hit(counter(err.sqlstate));
            let expected = ["40001", "40003", "57P03", "72000", "23503", "23505", "42P01", "25P02", "57014", "55P03"];
            let about_schema = matches!(&self.state, State::Running(statement) if statement.is_about_schema());
            let of_indexes = ["42P07", "42704", "42710", "55006"].contains(&err.sqlstate) && about_schema;
            if about_schema && err.sqlstate == "23505" {
                shared.counters.hit("sql: index not unique");
            }
            if !expected.contains(&err.sqlstate) && !of_indexes {
                shared
                    .failure
                    .get_or_insert(format!("answer: sql: client {} in {:?} is told {err}", self.id, self.state));
            }
            self.retryable = matches!(err.sqlstate, "40001" | "57P03") || is_impatience(err);
        }
        match (self.state.clone(), error) {
            (State::Beginning, None) => {
                self.open = open;
                self.attempt().txn = open;
                self.state = State::Thinking;
                self.think(shared)
            }
            (State::Running(_) | State::Committing, Some(err)) if err.sqlstate == "40003" => {
                let named = err.ambiguous.as_ref().map(|ambiguous| ambiguous.txn);
                if self.open.is_some_and(|open| named != Some(open)) {
                    shared.failure.get_or_insert(format!("I10: sql: {err} names another transaction"));
                }
                self.open = named;
                self.doubt(shared)
            }
            (State::Running(statement), result) => {
                let alone = matches!(self.attempt().style, Style::Alone(_));
                let result = match result {
                    Some(err) => Err(err),
                    None => Ok(returned.pop().unwrap_or_default()),
                };
                let done = self.attempt().done.last_mut().expect("written down as it was called");
                (done.at, done.result) = (now, Some(result.clone()));
                if let Ok(returned) = &result {
                    self.look_at_schema(&statement, returned, shared);
                }
                match result {
                    Ok(returned) if alone => {
                        self.retryable = true;
                        self.finish(now, returned, shared);
                        self.done(shared)
                    }
                    Ok(returned) => {
                        if failed {
                            shared.failure.get_or_insert("answer: sql: a block failed without an error".into());
                        }
                        self.running.as_mut().expect("it runs").react(&statement, &returned);
                        self.state = State::Thinking;
                        self.think(shared)
                    }
                    Err(_) if alone => self.aborted(now, shared),
                    // The program knew that it would fail, and has a savepoint to go back to.
                    Err(err) if err.sqlstate == "23505" && self.goes_back() => {
                        if !failed {
                            shared.failure.get_or_insert(format!("answer: sql: after {err} the block has not failed"));
                        }
                        shared.counters.hit("sql: a savepoint brought a block back");
                        self.state = State::Thinking;
                        self.think(shared)
                    }
                    Err(err) if is_impatience(&err) && self.last_savepoint().is_some() => {
                        if !failed {
                            shared.failure.get_or_insert(format!("answer: sql: after {err} the block has not failed"));
                        }
                        let name = self.last_savepoint().expect("looked at above");
                        let program = self.running.as_mut().expect("it runs");
                        if program.queue.front() != Some(&Statement::RollbackTo(name)) {
                            program.queue.push_front(Statement::RollbackTo(name));
                        }
                        shared.counters.hit("sql: a savepoint after a timeout");
                        self.state = State::Thinking;
                        self.think(shared)
                    }
                    Err(err) => {
                        if !failed || open.is_some() {
                            shared.failure.get_or_insert(format!("I9: sql: after {err} the block goes on"));
                        }
                        self.state = State::RollingBack;
                        // COMMIT of a failed block rolls back too.
                        let text = if self.rng.random() { "ROLLBACK" } else { "COMMIT" };
                        self.call(text, Vec::new())
                    }
                }
            }
            (State::Committing, None) => {
                let returned = returned.pop().unwrap_or_default();
                if returned.tag != "COMMIT" {
                    shared.failure.get_or_insert(format!("answer: sql: COMMIT is answered with {}", returned.tag));
                }
                self.finish(now, returned, shared);
                self.done(shared)
            }
            (State::RollingBack, None) => {
                if returned.pop().is_none_or(|returned| returned.tag != "ROLLBACK") {
                    shared.failure.get_or_insert("answer: sql: a failed block ended otherwise than by ROLLBACK".into());
                }
                if self.running.as_ref().is_some_and(|program| program.rollback) {
                    self.retryable = false;
                }
                self.aborted(now, shared)
            }
            (State::Asking, None) => self.resolved(now, returned.pop().unwrap_or_default(), shared),
            (State::Asking, Some(_)) => {
                self.state = State::Doubting;
                Act::Wait(self.rng.random_range(1_000_000..100_000_000))
            }
            (State::Committing | State::Beginning, Some(_)) => self.aborted(now, shared),
            (State::RollingBack, Some(err)) => {
                shared.failure.get_or_insert(format!("answer: sql: ROLLBACK is answered with {err}"));
                self.aborted(now, shared)
            }
            (state, _) => unreachable!("SQL client {} in {state:?} got an answer", self.id),
        }
    }

    /// What is to be known of a statement about indexes: an index equals its table.
    fn look_at_schema(&mut self, statement: &Statement, returned: &Returned, shared: &mut Shared) {
        match statement {
            Statement::CreateIndex { number, .. } => {
                shared.counters.hit("sql: index made");
                shared.sql.indexes.push(*number);
            }
            Statement::DropIndex(_) => shared.counters.hit("sql: index dropped"),
            Statement::AddForeign(number) => {
                shared.counters.hit("sql: foreign key added");
                shared.sql.foreign = Some(*number);
            }
            Statement::DropForeign(_) => shared.counters.hit("sql: foreign key dropped"),
            Statement::CheckIndexes => {
                for row in &returned.rows {
                    let [_, Datum::Text(name), _, _, Datum::Int(missing), Datum::Int(extra), problem] = &row[..] else {
                        continue;
                    };
                    shared.counters.hit("sql: index compared with its table");
                    if *missing > 0 || *extra > 0 {
                        let at = returned.read_ts.map_or("some time".into(), crate::trace::ms_of);
                        shared.failure.get_or_insert(format!(
                            "index: {name} is not its table's as of {at}: {missing} missing, {extra} extra, {problem:?}"
                        ));
                    }
                }
            }
            Statement::ShowJobs => {
                let taken =
                    returned.rows.iter().filter(|row| matches!(row.get(7), Some(Datum::Int(owners)) if *owners > 1));
                shared.counters.add("sql: schema change taken over", taken.count() as u64);
            }
            _ => {}
        }
    }

    /// The innermost savepoint of the block.
    fn last_savepoint(&self) -> Option<u8> {
        let mut set: Vec<u8> = Vec::new();
        for done in self.attempt.iter().flat_map(|attempt| &attempt.done) {
            let place = |name: &u8| set.iter().rposition(|known| known == name);
            match &done.statement {
                Statement::Savepoint(name) => set.push(*name),
                Statement::RollbackTo(name) => set.truncate(place(name).map_or(0, |at| at + 1)),
                Statement::Release(name) => set.truncate(place(name).unwrap_or(0)),
                _ => {}
            }
        }
        set.pop()
    }

    fn goes_back(&self) -> bool {
        let next = self.running.as_ref().and_then(|program| program.queue.front());
        matches!(next, Some(Statement::RollbackTo(_)))
    }

    fn finish(&mut self, now: i64, returned: Returned, shared: &mut Shared) {
        let ending = match returned.commit {
            Some((txn, Some(at))) => {
                shared.counters.hit("sql: committed");
                self.attempt().txn = Some(txn);
                Ending::Committed(at)
            }
            _ => Ending::Nothing,
        };
        self.end(now, ending, shared);
    }

    fn resolved(&mut self, now: i64, returned: Returned, shared: &mut Shared) -> Act {
        let row = returned.rows.first().map(Vec::as_slice);
        match row {
            Some([Datum::Text(status), Datum::Timestamp(at)]) if status == "committed" => {
                shared.counters.hit("sql: in doubt, had committed");
                self.end(now, Ending::Committed(*at), shared);
                self.done(shared)
            }
            Some([Datum::Text(status), Datum::Null]) if status == "aborted" => {
                shared.counters.hit("sql: in doubt, had aborted");
                self.retryable = true;
                self.aborted(now, shared)
            }
            _ => {
                shared.failure.get_or_insert(format!("I10: SHOW TRANSACTION STATUS answers {row:?}"));
                self.state = State::Left;
                Act::Leave
            }
        }
    }
}

fn counter(sqlstate: &str) -> &'static str {
    match sqlstate {
        "40001" => "sql: could not serialize (40001)",
        "40003" => "sql: outcome not known (40003)",
        "57P03" => "sql: not available (57P03)",
        "72000" => "sql: snapshot too old (72000)",
        "23503" => "sql: foreign key violated (23503)",
        "23505" => "sql: duplicate key (23505)",
        "42P01" => "sql: no such table (42P01)",
        "57014" => "sql: statement timeout (57014)",
        "55P03" => "sql: lock timeout (55P03)",
        _ => "sql: another error",
    }
}

fn as_of(when: When) -> String {
    match when {
        When::Strong => String::new(),
        When::AgoMs(ms) => format!(" AS OF SYSTEM TIME '-{ms}ms'"),
        When::Exactly(at) => format!(" AS OF SYSTEM TIME '{}'", at.as_nanos()),
    }
}

/// The agenda of the client that reads everything once the load has ended.
pub fn final_audit(schema: bool) -> VecDeque<Program> {
    let mut agenda = VecDeque::from([programs::audit(When::Strong)]);
    if schema {
        agenda.extend(super::items::audit_of_indexes());
    }
    agenda
}

impl Actor for SqlClient {
    fn gateway(&self) -> NodeId {
        self.gateway
    }

    fn has_left(&self) -> bool {
        self.state == State::Left
    }

    fn describe(&self) -> String {
        let kind = self.program.as_ref().map(|program| program.kind);
        format!("SQL client {} at {}: {:?} of {kind:?}, try {}", self.id, self.gateway, self.state, self.tries)
    }

    fn wake(&mut self, now: i64, shared: &mut Shared) -> Act {
        match &self.state {
            State::Idle => self.next_program(now, shared),
            State::Retrying => self.start(now, shared),
            State::Thinking => self.next_statement(now, shared),
            State::Doubting => {
                self.state = State::Asking;
                self.connected = true;
                Act::Call(Call::SqlStatus(self.open))
            }
            other => unreachable!("an SQL client waits in no such state: {other:?}"),
        }
    }

    fn answer(&mut self, now: i64, answer: Answer, shared: &mut Shared) -> Act {
        match answer {
            Answer::Sql(answer) => self.answered(now, *answer, shared),
            Answer::Broken => {
                shared.counters.hit("sql: connection lost");
                self.retryable = true;
                self.reconnect(shared);
                if self.state == State::Asking {
                    self.state = State::Doubting;
                    return Act::Wait(self.rng.random_range(1_000_000..100_000_000));
                }
                if self.may_have_committed() { self.doubt(shared) } else { self.aborted(now, shared) }
            }
            // The world says so of a commit that it has seen never to leave.
            Answer::Status(txn::TxnStatus::Aborted) if self.state == State::Asking => {
                shared.counters.hit("sql: in doubt, had aborted");
                self.retryable = true;
                self.connected = false;
                self.aborted(now, shared)
            }
            other => unreachable!("SQL client {} got {other:?}", self.id),
        }
    }
}
