//! Drawing numbers from sequences: `nextval`, `currval`, `lastval`, `setval`.
//!
//! # Problem
//!
//! A number that was drawn stays drawn, whatever becomes of the transaction: else all who insert would wait for each
//! other. And an expression is computed in one go, while numbers come from the database.
//!
//! # Blocks
//!
//! A gateway takes `CACHE` numbers at a time, by a small transaction of its own on the row of the sequence's state, and
//! keeps them for all its sessions ([`Numbers`]). Gateways never hold the same number; their numbers are not
//! in order among each other, and what a gateway holds when it ends is lost, as PostgreSQL says of CACHE.
//!
//! # A statement
//!
//! draws from its [`Draw`], which takes what the gateway has. If that is not enough, the expression fails, the
//! session fetches more ([`Draw::fetch`]) and runs the statement again, with the numbers that it had drawn already, in the
//! same order. What it had written is taken back, and the rows of such a SELECT are kept until it is done, so nothing is
//! done twice. The number of tries grows with the logarithm of the numbers drawn.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use txn::LockMode;
use txn::client::ClientError;

use crate::SqlError;
use crate::catalog::sequence::State;
use crate::catalog::{Catalog, Generated, Sequence};
use crate::ddl::{point, set};
use crate::engine::{Engine, Random, Transaction};
use crate::session::Database;
use crate::short::Failure;

/// How often a block is asked for before the conflict is the client's.
const ATTEMPTS_MAX: u32 = 50;
/// The most numbers of one statement.
const NUMBERS_MAX: usize = 1 << 20;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is half-done while these are held, so a panic elsewhere did no harm.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an expression may ask of sequences.
pub trait Sequences: Sync {
    /// `nextval`.
    fn next(&self, name: &str) -> Result<i64, SqlError>;
    /// `currval`: 55000 if this session has drawn none.
    fn current(&self, name: &str) -> Result<i64, SqlError>;
    /// `lastval`: the same of any sequence.
    fn last(&self) -> Result<i64, SqlError>;
    /// `setval`.
    fn set(&self, name: &str, value: i64, called: bool) -> Result<i64, SqlError>;
    /// `pg_get_serial_sequence`: the sequence of a table's column.
    fn of_column(&self, table: &str, column: &str) -> Result<Option<String>, SqlError>;
}

/// The numbers that a gateway holds, by the ids of their sequences.
#[derive(Debug, Default)]
pub(crate) struct Numbers(Mutex<BTreeMap<u32, VecDeque<i64>>>);

impl Numbers {
    fn pop(&self, id: u32) -> Option<i64> {
        lock(&self.0).get_mut(&id)?.pop_front()
    }

    fn add(&self, id: u32, numbers: Vec<i64>) {
        lock(&self.0).entry(id).or_default().extend(numbers);
    }

    /// Back to the front.
    fn give_back(&self, id: u32, numbers: &[i64]) {
        let mut all = lock(&self.0);
        let held = all.entry(id).or_default();
        numbers.iter().rev().for_each(|number| held.push_front(*number));
    }

    /// What is left of a sequence is not given out any more.
    pub(crate) fn forget(&self, id: u32) {
        lock(&self.0).remove(&id);
    }
}

/// What a session has drawn.
#[derive(Debug, Default)]
pub(crate) struct Drawn(Mutex<(BTreeMap<u32, i64>, Option<u32>)>);

impl Drawn {
    /// DISCARD SEQUENCES.
    pub(crate) fn forget(&self) {
        *lock(&self.0) = Default::default();
    }
}

/// A name as `nextval` takes it: `s`, `public.s`, `"S"`. Folded to lower case unless quoted.
pub(crate) fn parse_name(text: &str) -> Result<String, SqlError> {
    let invalid = || SqlError::new("42602", "invalid name syntax");
    let mut parts: Vec<String> = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.trim().chars().peekable();
    while let Some(c) = chars.next() {
        let part = parts.last_mut().expect("never empty");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c if quoted => part.push(c),
            c => part.extend(c.to_lowercase()),
        }
    }
    if quoted || parts.iter().any(String::is_empty) {
        return Err(invalid());
    }
    match parts.as_slice() {
        [name] => Ok(name.clone()),
        [schema, name] if schema == "public" => Ok(name.clone()),
        [schema, _] => Err(SqlError::new("3F000", format!("schema \"{schema}\" does not exist"))),
        _ => Err(invalid()),
    }
}

/// A name as [`parse_name`] reads it.
pub(crate) fn quote_name(name: &str) -> String {
    let plain =
        name.chars().enumerate().all(|(at, c)| c.is_ascii_lowercase() || c == '_' || (at > 0 && c.is_ascii_digit()));
    if plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// What a statement lacks.
#[derive(Clone, Debug, PartialEq)]
enum Lack {
    /// To know a name, or that there is none.
    Catalog,
    /// Numbers.
    Numbers(Arc<Sequence>),
}

#[derive(Debug, Default)]
struct Inner {
    catalog: Option<Arc<Catalog>>,
    /// The catalog is as new as it can be.
    strong: bool,
    /// All that was drawn for the statement, by the sequence's id, and how many of them this try has used.
    drawn: BTreeMap<u32, (Vec<i64>, usize)>,
    current: BTreeMap<u32, i64>,
    last: Option<u32>,
    sets: Vec<(Arc<Sequence>, State)>,
    lack: Option<Lack>,
}

/// The numbers of one statement.
pub(crate) struct Draw<'a, E: Engine> {
    db: &'a Database<E>,
    session: &'a Drawn,
    read_only: bool,
    inner: Mutex<Inner>,
}

impl<'a, E: Engine> Draw<'a, E> {
    pub(crate) fn new(db: &'a Database<E>, session: &'a Drawn, read_only: bool) -> Draw<'a, E> {
        Draw { db, session, read_only, inner: Mutex::new(Inner::default()) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Whether the statement failed only because something has to be fetched.
    pub(crate) fn lacks(&self) -> bool {
        self.inner().lack.is_some()
    }

    /// The statement is run again: it draws what it drew before.
    pub(crate) fn again(&self) {
        let mut inner = self.inner();
        inner.drawn.values_mut().for_each(|(_, used)| *used = 0);
        inner.current.clear();
        inner.last = None;
        inner.sets.clear();
        inner.lack = None;
    }

    /// Fetches what was missing. Then the statement is to be run again.
    pub(crate) async fn fetch(&self) -> Result<(), SqlError> {
        let lack = self.inner().lack.clone();
        match lack {
            None => {}
            Some(Lack::Catalog) => {
                let first = self.inner().catalog.is_none();
                let catalog = if first { self.db.catalog().await? } else { self.db.load_strong().await? };
                let mut inner = self.inner();
                inner.catalog = Some(catalog);
                inner.strong = !first;
            }
            Some(Lack::Numbers(sequence)) => {
                let had = self.inner().drawn.get(&sequence.id).map_or(0, |(numbers, _)| numbers.len());
                if had >= NUMBERS_MAX {
                    let message = format!("a statement draws at most {NUMBERS_MAX} numbers from a sequence");
                    return Err(SqlError::new("54000", message));
                }
                let count = had.max(usize::try_from(sequence.cache).unwrap_or(1)).max(1);
                let numbers = take_block(self.db.engine(), &sequence, count).await?;
                self.db.numbers().add(sequence.id, numbers);
            }
        }
        self.again();
        Ok(())
    }

    /// The statement has ended: what it drew, and did not use, is there for others. `setval` is done, if it was asked
    /// for by a statement that did not fail.
    pub(crate) async fn finish(&self, failed: bool) -> Result<(), SqlError> {
        let sets = {
            let mut inner = self.inner();
            for (id, (numbers, used)) in &inner.drawn {
                self.db.numbers().give_back(*id, &numbers[*used..]);
            }
            inner.drawn.clear();
            let mut session = lock(&self.session.0);
            session.0.extend(inner.current.iter().map(|(id, value)| (*id, *value)));
            session.1 = inner.last.or(session.1);
            std::mem::take(&mut inner.sets)
        };
        for (sequence, state) in sets.into_iter().filter(|_| !failed) {
            write_state(self.db.engine(), &sequence, state).await?;
            self.db.numbers().forget(sequence.id);
        }
        Ok(())
    }

    fn sequence(&self, name: &str) -> Result<Arc<Sequence>, SqlError> {
        let name = parse_name(name)?;
        let mut inner = self.inner();
        if inner.catalog.is_none() {
            inner.catalog = self.db.known_catalog();
        }
        match inner.catalog.as_ref().map(|catalog| catalog.sequences.get(&name).cloned()) {
            Some(Some(sequence)) => Ok(sequence),
            Some(None) if inner.strong => {
                let table = inner.catalog.as_ref().is_some_and(|catalog| catalog.table(&name).is_some());
                Err(match table {
                    true => SqlError::new("42809", format!("\"{name}\" is not a sequence")),
                    false => SqlError::new("42P01", format!("relation \"{name}\" does not exist")),
                })
            }
            _ => {
                inner.lack = Some(Lack::Catalog);
                Err(lacking())
            }
        }
    }

    fn may_write(&self, function: &str) -> Result<(), SqlError> {
        match self.read_only {
            true => Err(SqlError::new("25006", format!("cannot execute {function}() in a read-only transaction"))),
            false => Ok(()),
        }
    }
}

/// Nobody sees this: the statement is run again.
fn lacking() -> SqlError {
    SqlError::new("XX000", "numbers of a sequence are to be fetched")
}

impl<E: Engine> Sequences for Draw<'_, E> {
    fn next(&self, name: &str) -> Result<i64, SqlError> {
        self.may_write("nextval")?;
        let sequence = self.sequence(name)?;
        let mut inner = self.inner();
        // After a setval of the same statement, which is done at its end.
        if let Some((_, state)) = inner.sets.iter_mut().rev().find(|(known, _)| known.id == sequence.id) {
            let (counts, next) = sequence.take(*state, 1)?;
            *state = next;
            let number = sequence.number(counts[0]);
            inner.current.insert(sequence.id, number);
            inner.last = Some(sequence.id);
            return Ok(number);
        }
        let (numbers, used) = inner.drawn.entry(sequence.id).or_default();
        let number = match numbers.get(*used) {
            Some(number) => *number,
            None => match self.db.numbers().pop(sequence.id) {
                Some(number) => {
                    numbers.push(number);
                    number
                }
                None => {
                    inner.lack = Some(Lack::Numbers(sequence));
                    return Err(lacking());
                }
            },
        };
        *used += 1;
        inner.current.insert(sequence.id, number);
        inner.last = Some(sequence.id);
        Ok(number)
    }

    fn current(&self, name: &str) -> Result<i64, SqlError> {
        let sequence = self.sequence(name)?;
        let here = self.inner().current.get(&sequence.id).copied();
        here.or_else(|| lock(&self.session.0).0.get(&sequence.id).copied()).ok_or_else(|| {
            let message = format!("currval of sequence \"{}\" is not yet defined in this session", sequence.name);
            SqlError::new("55000", message)
        })
    }

    fn last(&self) -> Result<i64, SqlError> {
        let inner = self.inner();
        let session = lock(&self.session.0);
        let id = inner.last.or(session.1);
        let value = id.and_then(|id| inner.current.get(&id).or_else(|| session.0.get(&id)).copied());
        value.ok_or_else(|| SqlError::new("55000", "lastval is not yet defined in this session"))
    }

    fn set(&self, name: &str, value: i64, called: bool) -> Result<i64, SqlError> {
        self.may_write("setval")?;
        let sequence = self.sequence(name)?;
        if sequence.reversed {
            return Err(SqlError::unsupported(format!("setval of the bit-reversed sequence \"{}\"", sequence.name))
                .hint("Its numbers are spread out: small ones of another origin do not come soon."));
        }
        if !(sequence.min..=sequence.max).contains(&value) {
            let Sequence { name, min, max, .. } = &*sequence;
            let message = format!("setval: value {value} is out of bounds for sequence \"{name}\" ({min}..{max})");
            return Err(SqlError::new("22003", message));
        }
        let mut inner = self.inner();
        if called {
            inner.current.insert(sequence.id, value);
        }
        inner.sets.push((sequence, State { last: value, called }));
        Ok(value)
    }

    fn of_column(&self, table: &str, column: &str) -> Result<Option<String>, SqlError> {
        let name = parse_name(table)?;
        let mut inner = self.inner();
        let Some(catalog) = inner.catalog.clone() else {
            inner.lack = Some(Lack::Catalog);
            return Err(lacking());
        };
        let Some(table) = catalog.table(&name) else {
            if inner.strong {
                return Err(SqlError::new("42P01", format!("relation \"{name}\" does not exist")));
            }
            inner.lack = Some(Lack::Catalog);
            return Err(lacking());
        };
        let missing = || SqlError::new("42703", format!("column \"{column}\" of relation \"{name}\" does not exist"));
        let column = &table.columns[table.column_index(column).ok_or_else(missing)?];
        let owned = |sequence: &&Arc<Sequence>| {
            sequence.owner.is_some_and(|owner| owner.table == table.id && owner.column == column.id)
        };
        let found = catalog.sequences.values().find(owned);
        Ok(found.map(|sequence| format!("public.{}", quote_name(&sequence.name))))
    }
}

/// What a statement's expressions draw from, beside the engine's random numbers.
pub(crate) struct Sources<'a, E: Engine> {
    pub(crate) engine: &'a E,
    pub(crate) draw: &'a Draw<'a, E>,
}

impl<E: Engine> Random for Sources<'_, E> {
    fn random_u64(&self) -> u64 {
        Engine::random_u64(self.engine)
    }

    fn sequences(&self) -> Option<&dyn Sequences> {
        Some(self.draw)
    }
}

/// Takes up to so many numbers from the database, for good.
async fn take_block<E: Engine>(engine: &E, sequence: &Sequence, count: usize) -> Result<Vec<i64>, SqlError> {
    let mut priority = None;
    for attempt in 1.. {
        let mut txn = engine.begin(priority);
        priority = Some(txn.priority());
        let work = async {
            let results = txn.read(vec![point(sequence.state_key())], LockMode::Exclusive).await?;
            let row = results.first().and_then(|result| result.rows.first());
            let state = row.map(|row| State::from_bytes(&row.value)).transpose()?.unwrap_or(sequence.initial());
            let (counts, state) = sequence.take(state, count)?;
            txn.write(vec![set(sequence.state_key(), state.to_bytes())])?;
            Ok::<_, Failure>(counts)
        };
        match work.await {
            Ok(counts) => match txn.commit(None).await {
                Ok(_) => return Ok(counts.into_iter().map(|count| sequence.number(count)).collect()),
                Err(ClientError::Aborted { retryable: true, .. }) if attempt < ATTEMPTS_MAX => {}
                // Whether they were taken or not, nobody has them: others are.
                Err(ClientError::Ambiguous { .. }) if attempt < ATTEMPTS_MAX => priority = None,
                Err(err) => return Err(err.into()),
            },
            Err(failure) => {
                txn.rollback().await;
                if !failure.is_retryable() || attempt >= ATTEMPTS_MAX {
                    return Err(failure.into());
                }
            }
        }
    }
    unreachable!("the last attempt returns")
}

/// Sets how far a sequence has come.
async fn write_state<E: Engine>(engine: &E, sequence: &Sequence, state: State) -> Result<(), SqlError> {
    let mut priority = None;
    for attempt in 1.. {
        let mut txn = engine.begin(priority);
        priority = Some(txn.priority());
        let work = async {
            // Under its lock: of two who set it, the later one's value stays.
            txn.read(vec![point(sequence.state_key())], LockMode::Exclusive).await?;
            txn.write(vec![set(sequence.state_key(), state.to_bytes())])
        };
        match work.await {
            Ok(()) => match txn.commit(None).await {
                Ok(_) => return Ok(()),
                Err(ClientError::Aborted { retryable: true, .. }) if attempt < ATTEMPTS_MAX => {}
                Err(err) => return Err(err.into()),
            },
            Err(err) => {
                txn.rollback().await;
                if !matches!(err, ClientError::Aborted { retryable: true, .. }) || attempt >= ATTEMPTS_MAX {
                    return Err(err.into());
                }
            }
        }
    }
    unreachable!("the last attempt returns")
}

/// Whether a column draws its numbers from a sequence of its own.
pub(crate) fn is_numbered(generated: Option<&Generated>) -> bool {
    matches!(generated, Some(Generated::Serial | Generated::Identity { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in ["s", "t_id_seq", "Mixed", "with \"quotes\"", "a.b", "ÄÖ", "1x"] {
            assert_eq!(parse_name(&quote_name(name)).unwrap(), name);
            assert_eq!(parse_name(&format!("public.{}", quote_name(name))).unwrap(), name);
        }
        assert_eq!(parse_name("  T_Seq ").unwrap(), "t_seq");
        for wrong in ["", "\"", "a.", ".a", "a.b.c", "a..b"] {
            assert_eq!(parse_name(wrong).unwrap_err().sqlstate, "42602", "{wrong}");
        }
        assert_eq!(parse_name("other.s").unwrap_err().sqlstate, "3F000");
    }
}
