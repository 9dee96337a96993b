//! The judge of what SQL clients saw.
//!
//! Every committed transaction tells its timestamp, so the order in which everything must appear to
//! have happened is known. The model runs all of them in that order, and says of each statement what
//! it should have returned; a read without locks is asked of the model as of its read timestamp. Real
//! time is judged beside it (I7): what was acknowledged before a commit was asked for has a smaller
//! timestamp, and of the rows that a strong read looks at, none was written later than it reads by a
//! transaction that was acknowledged before.
//!
//! Errors are judged too: a key that was not there is no duplicate, a table that was there is not
//! unknown, and nothing of a transaction that failed is ever to be seen.

use std::collections::{BTreeMap, BTreeSet};

use paxos::NodeId;
use sql::SqlError;
use sql::types::Datum;
use truetime::Timestamp;
use txn::TxnId;

use super::host::Returned;
use super::model::{Expected, Fails, Model, comparable, looks_at};
use super::programs::{ACCOUNTS, BALANCE, BUDGET, Kind, Style, When};
use super::statement::{OnConflict, Rows, Set, Statement, Table, What};
use crate::clock::truth;
use crate::counters::Counters;
use crate::excuses::Lies;
use crate::trace::ms_of;

/// How a try of a program ended, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Then.
    Committed(Timestamp),
    /// Well, and without a commit timestamp: it wrote nothing.
    Nothing,
    /// It never had any effect.
    Aborted,
}

/// One statement and its answer.
#[derive(Clone, Debug)]
pub struct Done {
    /// What was asked.
    pub statement: Statement,
    /// When.
    pub invoked: i64,
    /// When it was answered.
    pub at: i64,
    /// The answer, if it ever came.
    pub result: Option<Result<Returned, SqlError>>,
}

/// One try of a program.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The client.
    pub client: u64,
    /// Its gateway.
    pub gateway: NodeId,
    /// What it was doing.
    pub kind: Kind,
    /// How.
    pub style: Style,
    /// When it began.
    pub invoked: i64,
    /// When its commit was asked for.
    pub commit_invoked: i64,
    /// When its client knew the ending.
    pub ended: i64,
    /// The ending.
    pub ending: Ending,
    /// The answer to its commit was lost.
    pub doubted: bool,
    /// Its name, if it was told.
    pub txn: Option<TxnId>,
    /// Its statements.
    pub done: Vec<Done>,
}

impl Attempt {
    /// What was done and not taken back to a savepoint.
    pub fn kept(&self) -> Vec<&Done> {
        let mut kept: Vec<&Done> = Vec::new();
        let mut set: Vec<(u8, usize)> = Vec::new();
        for done in &self.done {
            let place = |name: &u8| set.iter().rposition(|(known, _)| known == name);
            match (&done.statement, &done.result) {
                // Nothing came of it.
                (_, Some(Err(_))) => {}
                (Statement::Savepoint(name), _) => set.push((*name, kept.len())),
                (Statement::RollbackTo(name), _) => {
                    if let Some(at) = place(name) {
                        kept.truncate(set[at].1);
                        set.truncate(at + 1);
                    }
                }
                (Statement::Release(name), _) => set.truncate(place(name).unwrap_or(set.len())),
                _ => kept.push(done),
            }
        }
        kept
    }

    /// One that begins.
    pub fn new(client: u64, gateway: NodeId, kind: Kind, style: Style, now: i64) -> Attempt {
        Attempt {
            client,
            gateway,
            kind,
            style,
            invoked: now,
            commit_invoked: now,
            ended: now,
            ending: Ending::Aborted,
            doubted: false,
            txn: None,
            done: Vec::new(),
        }
    }

    fn committed(&self) -> Option<Timestamp> {
        if let Ending::Committed(at) = self.ending { Some(at) } else { None }
    }

    fn describe(&self) -> String {
        let Attempt { client, gateway, kind, style, .. } = self;
        let ms = |at: i64| format!("{:.6} ms", at as f64 / 1e6);
        let ending = self.committed().map_or(format!("{:?}", self.ending), |at| format!("committed at {}", ms_of(at)));
        let statements: Vec<String> = self.done.iter().map(|done| done.statement.text(true).0).collect();
        format!(
            "{kind:?} ({style:?}) of SQL client {client} through {gateway}, from {} to {}, {ending}: {}",
            ms(self.invoked),
            ms(self.ended),
            statements.join("; ")
        )
    }

    /// Numbers that it appended to lists.
    fn appended(&self) -> impl Iterator<Item = &str> {
        self.done.iter().filter_map(|done| match &done.statement {
            Statement::Update { set: (_, Set::Concat(text)), .. }
            | Statement::Insert { conflict: OnConflict::Update(_, Set::Concat(text)), .. } => Some(text.as_str()),
            _ => None,
        })
    }

    fn reads(&self) -> impl Iterator<Item = (&Done, &Returned, Timestamp)> {
        self.done.iter().filter_map(|done| match &done.result {
            Some(Ok(returned)) => returned.read_ts.map(|at| (done, returned, at)),
            _ => None,
        })
    }
}

/// What a replay asks of the model, in the order of timestamps.
enum Entry<'a> {
    /// Everything of a transaction, as one.
    Commit(&'a Attempt),
    /// A read without locks.
    Read(&'a Attempt, &'a Done, &'a Returned),
}

/// A row that a commit wrote.
struct Write<'a> {
    at: Timestamp,
    table: Table,
    key: Vec<i64>,
    attempt: &'a Attempt,
}

/// When a row came or went.
type Presence = BTreeMap<(Table, Vec<i64>), Vec<(Timestamp, bool)>>;

/// Everything that must hold; the error says what does not. `epsilon_ns` is the clocks' bound.
pub fn check(attempts: &[Attempt], epsilon_ns: i64) -> Result<(), String> {
    check_beyond(attempts, epsilon_ns, 0, &Lies::default(), &mut Counters::default())
}

/// The same, but for what lies excuse (`excuses`): `reach_ns` is by how much a timestamp may be wrong for them.
pub fn check_beyond(
    attempts: &[Attempt],
    epsilon_ns: i64,
    reach_ns: i64,
    lies: &Lies,
    lost: &mut Counters,
) -> Result<(), String> {
    let is_sober = |attempt: &&Attempt| !lies.touch_sql(attempt);
    let (all, sober) = (attempts.iter().collect::<Vec<_>>(), attempts.iter().filter(is_sober).collect::<Vec<_>>());
    real_time(&sober)?;
    if real_time(&all).is_err() {
        lost.hit("beyond the promise: I7 lost, SQL commits against real time");
    }
    let made = made(attempts);
    let mut entries: Vec<(Timestamp, u8, Entry)> = Vec::new();
    let mut dropped: BTreeMap<Table, i64> = BTreeMap::new();
    for attempt in attempts {
        if let Some(at) = attempt.committed() {
            match attempt.done.iter().filter_map(|done| made.get(&done.statement.table())).max() {
                // It was told of the table by somebody whose clock was ahead of its leader's.
                Some(made) if *made > at && lies.touch_sql(attempt) => {
                    lost.hit("beyond the promise: I7 lost, an SQL commit before its table was made");
                    entries.push((*made, 1, Entry::Commit(attempt)));
                }
                _ => entries.push((at, 0, Entry::Commit(attempt))),
            }
            for done in &attempt.done {
                if let Statement::Drop(table) = done.statement {
                    // Only the answer says that no gateway knows the table any more.
                    dropped.insert(table, if attempt.doubted { i64::MAX } else { attempt.ended });
                }
            }
        }
        for (done, returned, at) in attempt.reads().filter(|(done, ..)| !done.statement.is_about_schema()) {
            match bound(attempt, done, at, epsilon_ns) {
                Err(_) if lies.touch_sql(attempt) => lost.hit("beyond the promise: a read of another age than asked"),
                fits => fits?,
            }
            entries.push((at, 2, Entry::Read(attempt, done, returned)));
        }
    }
    entries.sort_by_key(|(at, class, _)| (*at, *class));
    let mut model = Model::default();
    let mut presence = Presence::new();
    let mut writes: Vec<Write> = Vec::new();
    let keys = foreign_keys(attempts);
    for (at, _, entry) in entries {
        match entry {
            Entry::Commit(attempt) => {
                replay(&mut model, attempt, &dropped)?;
                for (table, key) in std::mem::take(&mut model.written) {
                    let there = model.holds(table, &key);
                    let changes = presence.entry((table, key.clone())).or_default();
                    if changes.last().is_some_and(|(_, before)| *before) != there {
                        changes.push((at, there));
                    }
                    writes.push(Write { at, table, key, attempt });
                }
                invariants(&mut model, attempt)?;
                let surely = keys.iter().any(|(from, to)| *from <= at && at < *to);
                if lies.is_empty()
                    && surely
                    && let Some(key) = model.orphan()
                {
                    return Err(format!("I11: sql: child {key:?} has no parent: {}", attempt.describe()));
                }
            }
            Entry::Read(attempt, done, returned) => {
                let ghosts = dropped.get(&done.statement.table()).is_some_and(|at| attempt.invoked < *at);
                let expected = match model.run(&done.statement, ghosts) {
                    // It read at a time before the table was made: then the table is empty.
                    Err(Fails::NoTable) => empty(&done.statement),
                    other => other.map_err(|why| format!("I12: sql: {why:?} expected of {}", attempt.describe()))?,
                };
                let when = ms_of(at);
                compare(&expected, returned)
                    .map_err(|why| format!("I12: sql: snapshot: as of {when}: {why}\n  {}", attempt.describe()))?;
            }
        }
    }
    if strong_reads(&all, &writes).is_err() {
        writes.retain(|write| !lies.touch_sql(write.attempt));
        strong_reads(&sober, &writes)?;
        lost.hit("beyond the promise: I7 lost, an SQL strong read missed a commit");
    }
    errors(attempts, &presence, epsilon_ns, reach_ns)?;
    nothing_of_what_failed(attempts)
}

/// From when to when a foreign key was surely there: its making was answered, and nobody had asked to drop it.
fn foreign_keys(attempts: &[Attempt]) -> Vec<(Timestamp, Timestamp)> {
    let all = || attempts.iter().flat_map(|attempt| &attempt.done);
    let dropped = |number: u64| {
        let drops = all().filter(|done| done.statement == Statement::DropForeign(number));
        drops.map(|done| truth(done.invoked)).min().unwrap_or(Timestamp::MAX)
    };
    let added = all().filter_map(|done| match (&done.statement, &done.result) {
        (Statement::AddForeign(number), Some(Ok(_))) => Some((truth(done.at), dropped(*number))),
        _ => None,
    });
    added.collect()
}

/// When each table was made first.
fn made(attempts: &[Attempt]) -> BTreeMap<Table, Timestamp> {
    let mut made: BTreeMap<Table, Timestamp> = BTreeMap::new();
    for attempt in attempts {
        for table in attempt.done.iter().filter_map(|done| match (&done.statement, &done.result) {
            (Statement::Create(table, _), result) if !matches!(result, Some(Err(_))) => Some(*table),
            _ => None,
        }) {
            if let Some(at) = attempt.committed() {
                made.entry(table).and_modify(|first| *first = at.min(*first)).or_insert(at);
            }
        }
    }
    made
}

/// How many committed.
pub fn commits(attempts: &[Attempt]) -> u64 {
    attempts.iter().filter(|attempt| attempt.committed().is_some()).count() as u64
}

/// A strong read misses nothing that was acknowledged before.
fn strong_reads(attempts: &[&Attempt], writes: &[Write]) -> Result<(), String> {
    for attempt in attempts {
        if !matches!(attempt.style, Style::Alone(When::Strong) | Style::ReadOnly(When::Strong)) {
            continue;
        }
        for (done, _, at) in attempt.reads() {
            let Statement::Select { table, rows, .. } = &done.statement else { continue };
            let later = &writes[writes.partition_point(|write| write.at <= at)..];
            let missed = later.iter().take_while(|write| write.at < truth(attempt.invoked)).find(|write| {
                // Of an index, only the entries are looked at.
                let looks = rows.by.is_none() && looks_at(rows, &write.key);
                write.table == *table && write.attempt.ended < attempt.invoked && looks
            });
            if let Some(write) = missed {
                let (read, key) = (ms_of(at), &write.key);
                let (late, early) = (attempt.describe(), write.attempt.describe());
                return Err(format!("I7: sql: strong read: at {read}, and {key:?} was written: {late}\n  {early}"));
            }
        }
    }
    Ok(())
}

/// I7, and commit wait.
fn real_time(attempts: &[&Attempt]) -> Result<(), String> {
    let mut ended: Vec<(i64, Timestamp, &Attempt)> = Vec::new();
    for attempt in attempts {
        if let Some(at) = attempt.committed() {
            if at >= truth(attempt.ended) {
                return Err(format!("I7: sql: commit wait: answered before its time: {}", attempt.describe()));
            }
            ended.push((attempt.ended, at, attempt));
        }
    }
    ended.sort_by_key(|(ended, at, _)| (*ended, *at));
    let mut acknowledged: Vec<(i64, Timestamp)> = Vec::new();
    let mut newest: Vec<&Attempt> = Vec::new();
    for (ended, at, attempt) in ended {
        let known = acknowledged.last().filter(|(_, known)| *known > at);
        newest.push(if known.is_some() { newest[newest.len() - 1] } else { attempt });
        acknowledged.push((ended, known.map_or(at, |(_, known)| *known)));
    }
    for attempt in attempts {
        let before = acknowledged.partition_point(|(ended, _)| *ended < attempt.commit_invoked);
        if let (Some(at), Some(index)) = (attempt.committed(), before.checked_sub(1))
            && acknowledged[index].1 >= at
        {
            let (late, early) = (attempt.describe(), newest[index].describe());
            return Err(format!(
                "I7: sql: real time: its commit was asked for after the other's was answered: {late}\n  {early}"
            ));
        }
    }
    Ok(())
}

/// A read at a chosen time reads then.
fn bound(attempt: &Attempt, done: &Done, at: Timestamp, epsilon_ns: i64) -> Result<(), String> {
    let (Style::Alone(when) | Style::ReadOnly(when)) = attempt.style else { return Ok(()) };
    let fits = match when {
        // A new leader answers at what its predecessor had promised, which may not have come yet.
        When::Strong => true,
        When::Exactly(asked) => at == asked,
        When::AgoMs(ms) => {
            let ago = |now: i64| truth(now).minus_ns(ms * 1_000_000);
            at >= ago(attempt.invoked) && at <= ago(done.at).plus_ns(2 * epsilon_ns)
        }
    };
    if fits { Ok(()) } else { Err(format!("I12: sql: staleness: read at {}: {}", ms_of(at), attempt.describe())) }
}

fn empty(statement: &Statement) -> Expected {
    let rows = match statement {
        Statement::Select { what: What::Count, .. } => vec![vec![Datum::Int(0)]],
        Statement::Select { what: What::Sum(_) | What::Max(_), .. } => vec![vec![Datum::Null]],
        _ => Vec::new(),
    };
    Expected { tag: format!("SELECT {}", rows.len()), rows, ordered: false }
}

fn compare(expected: &Expected, returned: &Returned) -> Result<(), String> {
    let (want, have) = (comparable(&expected.rows, expected.ordered), comparable(&returned.rows, expected.ordered));
    if want != have {
        let missing: Vec<&String> = want.iter().filter(|row| !have.contains(row)).collect();
        let extra: Vec<&String> = have.iter().filter(|row| !want.contains(row)).collect();
        return Err(format!("{} rows, not {}; missing {missing:?}, not expected {extra:?}", have.len(), want.len()));
    }
    if expected.tag != returned.tag {
        return Err(format!("{:?}, not {:?}", returned.tag, expected.tag));
    }
    Ok(())
}

fn replay(model: &mut Model, attempt: &Attempt, dropped: &BTreeMap<Table, i64>) -> Result<(), String> {
    model.begin();
    for (index, done) in attempt.done.iter().enumerate() {
        if done.statement.is_about_schema() {
            continue;
        }
        let ghosts = dropped.get(&done.statement.table()).is_some_and(|at| attempt.commit_invoked < *at);
        // What failed and was taken back has had no effect, and must have had a reason.
        let taken_back = matches!(attempt.done.get(index + 1), Some(Done { statement: Statement::RollbackTo(_), .. }));
        let wrong = |why: String| {
            let text = done.statement.text(true).0;
            format!("I11: sql: serializability: {text}: {why}\n  {}", attempt.describe())
        };
        if taken_back
            && let Some(Err(err)) = &done.result
            && is_impatience(err)
        {
            continue;
        }
        let expected = match (model.run(&done.statement, ghosts), &done.result) {
            (Err(Fails::DuplicateKey), Some(Err(err))) if taken_back && err.sqlstate == "23505" => continue,
            (expected, _) => expected.map_err(|why| wrong(format!("{why:?} expected")))?,
        };
        match &done.result {
            Some(Ok(returned)) => compare(&expected, returned).map_err(wrong)?,
            Some(Err(err)) => return Err(wrong(format!("it failed with {err}, and its transaction committed"))),
            None => {}
        }
    }
    Ok(())
}

/// A statement that was cut off by a timeout.
pub fn is_impatience(err: &SqlError) -> bool {
    matches!(err.sqlstate, "57014" | "55P03")
}

/// What must hold after every commit: it guards the model as much as the database.
fn invariants(model: &mut Model, attempt: &Attempt) -> Result<(), String> {
    let mut number = |table, what, rows| match model.run(&Statement::select(table, what, rows), false) {
        Ok(Expected { rows, .. }) => match rows.first().and_then(|row| row.first()) {
            Some(Datum::Int(n)) => *n,
            _ => 0,
        },
        Err(_) => 0,
    };
    let mut broken = None;
    for done in &attempt.done {
        match &done.statement {
            Statement::Update { table: Table::Accounts, .. } => {
                let total = number(Table::Accounts, What::Sum("balance"), Rows::all());
                broken = (total != ACCOUNTS * BALANCE).then(|| format!("bank: {total}"));
            }
            Statement::Update { table: Table::Doctors, rows, .. } => {
                let rows = Rows { flag: Some("oncall"), ..Rows::of([rows.prefix[0]]) };
                let on_call = number(Table::Doctors, What::Count, rows);
                broken = (on_call == 0).then(|| "write skew: nobody is on call".into());
            }
            Statement::Insert { table: Table::Budget, rows, .. } => {
                let spent = number(Table::Budget, What::Sum("cost"), Rows::of([rows[0].0[0]]));
                broken = (spent > BUDGET).then(|| format!("phantom: {spent} spent"));
            }
            _ => {}
        }
    }
    broken.map_or(Ok(()), |why| Err(format!("I11: sql: {why}: {}", attempt.describe())))
}

/// Whether each error was due.
fn errors(attempts: &[Attempt], presence: &Presence, epsilon_ns: i64, reach_ns: i64) -> Result<(), String> {
    let mut born: BTreeMap<Table, i64> = BTreeMap::new();
    let mut dying: BTreeMap<Table, i64> = BTreeMap::new();
    for attempt in attempts {
        for done in &attempt.done {
            match done.statement {
                Statement::Create(table, _) if attempt.ending != Ending::Aborted => {
                    let at = born.entry(table).or_insert(attempt.ended);
                    *at = attempt.ended.min(*at);
                }
                Statement::Drop(table) => {
                    let at = dying.entry(table).or_insert(attempt.invoked);
                    *at = attempt.invoked.min(*at);
                }
                _ => {}
            }
        }
    }
    for attempt in attempts {
        for (index, done) in attempt.done.iter().enumerate() {
            let Some(Err(err)) = &done.result else { continue };
            let table = done.statement.table();
            let undue = match err.sqlstate {
                "42P01" => {
                    let there = born.get(&table).is_some_and(|at| *at < done.invoked);
                    let going = dying.get(&table).is_some_and(|at| *at < done.at);
                    there
                        && !going
                        && matches!(
                            attempt.style,
                            Style::Block | Style::Alone(When::Strong) | Style::ReadOnly(When::Strong)
                        )
                }
                "23503" => {
                    let asked = |done: &Done| matches!(done.statement, Statement::AddForeign(_));
                    let before =
                        |other: &Attempt| other.done.iter().any(|other| asked(other) && other.invoked < done.at);
                    !matches!(table, Table::Parents | Table::Children) || !attempts.iter().any(before)
                }
                // Its unique indexes are none of the model's business: CHECK TABLE tells whether they are right.
                "23505" if table == Table::Items => false,
                "23505" => {
                    let Statement::Insert { rows, .. } = &done.statement else {
                        return Err(format!("answer: sql: {err}: {}", attempt.describe()));
                    };
                    let own = |key: &Vec<i64>| {
                        attempt.done[..index].iter().any(
                            |done| matches!(&done.statement, Statement::Insert { table: t, rows, .. } if *t == table && rows.iter().any(|(k, _)| k == key)),
                        )
                    };
                    let from = truth(done.invoked).minus_ns(epsilon_ns + reach_ns);
                    let to = truth(done.at).plus_ns(reach_ns);
                    !rows.iter().any(|(key, _)| own(key) || was_there(presence, table, key, from, to))
                }
                _ => false,
            };
            if undue {
                return Err(format!("I11: sql: not due: {err}: {}", attempt.describe()));
            }
        }
    }
    Ok(())
}

fn was_there(presence: &Presence, table: Table, key: &[i64], from: Timestamp, to: Timestamp) -> bool {
    let Some(changes) = presence.get(&(table, key.to_vec())) else { return false };
    let before = changes.iter().rev().find(|(at, _)| *at <= from).is_some_and(|(_, there)| *there);
    before || changes.iter().any(|(at, there)| *there && *at > from && *at <= to)
}

/// G1a: no list anywhere holds what an aborted transaction appended.
fn nothing_of_what_failed(attempts: &[Attempt]) -> Result<(), String> {
    let aborted = attempts.iter().filter(|attempt| attempt.ending == Ending::Aborted);
    let failed: BTreeSet<&str> = aborted.flat_map(Attempt::appended).map(|text| text.trim_end_matches(',')).collect();
    for attempt in attempts {
        let own: BTreeSet<&str> = attempt.appended().map(|text| text.trim_end_matches(',')).collect();
        for done in &attempt.done {
            let Some(Ok(returned)) = &done.result else { continue };
            if !matches!(done.statement.table(), Table::Lists | Table::Pairs) {
                continue;
            }
            for datum in returned.rows.iter().flatten() {
                let Datum::Text(text) = datum else { continue };
                if let Some(number) = text.split(',').find(|number| failed.contains(number) && !own.contains(number)) {
                    return Err(format!("I9: sql: dirty read: {number} was aborted: {}", attempt.describe()));
                }
            }
        }
    }
    Ok(())
}
