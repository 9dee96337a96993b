//! CREATE, ALTER and DROP SEQUENCE, and the sequences of SERIAL and IDENTITY columns.
//!
//! A sequence's name is one of the names of tables and indexes, as in PostgreSQL. A change of how it counts reaches other
//! gateways with the catalog; what they have taken before, they give out.

use txn::client::ClientError;
use txn::{Key, Mutation};

use super::foreign::is_taken;
use super::index::auto_name;
use super::table::name_keys;
use super::{ATTEMPTS_MAX, check_name, lock, set, stored_number};
use crate::SqlError;
use crate::catalog::sequence::{CACHE_MAX, Owner, State, largest};
use crate::catalog::{self, Catalog, FIRST_TABLE_ID, Generated, Sequence, Table};
use crate::engine::{CommitInfo, Engine, Transaction};
use crate::parse::{SequenceOptions, parse_options};
use crate::sequence::quote_name;
use crate::short::Failure;
use crate::types::DataType;

/// What came of it: a commit and what else was done, or why there was nothing to do.
pub(crate) type Changed = Result<(CommitInfo, Vec<String>), (&'static str, String)>;

fn bad(message: String) -> SqlError {
    SqlError::new("22023", message)
}

/// A sequence with these options, as PostgreSQL understands them; `old`: as it is so far. Its id stays.
pub(super) fn build(
    name: &str,
    ty: DataType,
    old: Option<&Sequence>,
    options: &SequenceOptions,
) -> Result<Sequence, SqlError> {
    let ty = options.ty.unwrap_or(old.map_or(ty, |old| old.ty));
    let least = -largest(ty) - 1;
    let increment = options.increment.or(old.map(|old| old.increment)).unwrap_or(1);
    if increment == 0 {
        return Err(bad("INCREMENT must not be zero".into()));
    }
    let (low, high) = if increment > 0 { (1, largest(ty)) } else { (least, -1) };
    // What an old type allowed at most is not what was asked for.
    let kept = old.filter(|old| old.ty == ty || (old.max != largest(old.ty) && old.min != -largest(old.ty) - 1));
    let max = match options.max {
        Some(max) => max.unwrap_or(high),
        None => kept.map_or(high, |old| old.max),
    };
    let min = match options.min {
        Some(min) => min.unwrap_or(low),
        None => kept.map_or(low, |old| old.min),
    };
    for (what, value) in [("MAXVALUE", max), ("MINVALUE", min)] {
        if !(least..=largest(ty)).contains(&value) {
            return Err(bad(format!("{what} ({value}) is out of range for sequence data type {}", ty.name())));
        }
    }
    if min >= max {
        return Err(bad(format!("MINVALUE ({min}) must be less than MAXVALUE ({max})")));
    }
    let start = options.start.or(old.map(|old| old.start)).unwrap_or(if increment > 0 { min } else { max });
    let within = |what: &str, value: i64| {
        if value < min {
            return Err(bad(format!("{what} value ({value}) cannot be less than MINVALUE ({min})")));
        }
        if value > max {
            return Err(bad(format!("{what} value ({value}) cannot be greater than MAXVALUE ({max})")));
        }
        Ok(())
    };
    within("START", start)?;
    if let Some(Some(restart)) = options.restart {
        within("RESTART", restart)?;
    }
    let cache = options.cache.or(old.map(|old| old.cache)).unwrap_or(catalog::sequence::CACHE);
    if cache <= 0 {
        return Err(bad(format!("CACHE ({cache}) must be greater than zero")));
    }
    Ok(Sequence {
        id: old.map_or(0, |old| old.id),
        name: name.into(),
        ty,
        start,
        increment,
        min,
        max,
        cache: cache.min(CACHE_MAX),
        cycle: options.cycle.or(old.map(|old| old.cycle)).unwrap_or(false),
        reversed: old.is_some_and(|old| old.reversed),
        owner: old.and_then(|old| old.owner),
    })
}

/// The sequences of a new table's columns, each with its column's index, and the columns' defaults that draw from them.
pub(crate) fn of_columns(table: &mut Table, catalog: &Catalog) -> Result<Vec<(usize, Sequence)>, SqlError> {
    let mut sequences: Vec<(usize, Sequence)> = Vec::new();
    for at in 0..table.columns.len() {
        let column = &table.columns[at];
        let options = match &column.generated {
            Some(Generated::Serial) => None,
            Some(Generated::Identity { options, .. }) => options.as_deref(),
            _ => continue,
        };
        let free = |name: &String| {
            !is_taken(catalog, name)
                && *name != table.name
                && table.index(name).is_none()
                && sequences.iter().all(|(_, known)| known.name != *name)
        };
        let mut names = (0..).map(|number| auto_name(&table.name, &[&column.name], "seq", number));
        let name = names.find(free).expect("some number is free");
        let given = options.map(parse_options).transpose()?.unwrap_or_default();
        let mut sequence = build(&name, column.ty, None, &given)?;
        sequence.reversed = options.is_none() && table.key.first().is_some_and(|part| part.column == at);
        table.columns[at].default = Some(format!("nextval('{}')", quote_name(&name).replace('\'', "''")));
        sequences.push((at, sequence));
    }
    Ok(sequences)
}

/// Runs one transaction until it has committed; `None` of its work: why there was nothing to do.
macro_rules! transact {
    ($engine:expr, $txn:ident, $work:expr) => {{
        let mut priority = None;
        for attempt in 1.. {
            let mut $txn = $engine.begin(priority);
            priority = Some($txn.priority());
            let work = async { $work };
            let result: Result<Result<Vec<String>, (&'static str, String)>, Failure> = work.await;
            match result {
                Ok(Ok(said)) => match $txn.commit(None).await {
                    Ok(info) => return Ok(Ok((info, said))),
                    Err(ClientError::Aborted { retryable: true, .. }) if attempt < ATTEMPTS_MAX => {}
                    Err(err) => return Err(err.into()),
                },
                Ok(Err(nothing)) => {
                    $txn.rollback().await;
                    return Ok(Err(nothing));
                }
                Err(failure) => {
                    $txn.rollback().await;
                    if !failure.is_retryable() || attempt >= ATTEMPTS_MAX {
                        return Err(failure.into());
                    }
                }
            }
        }
        unreachable!("the last attempt returns")
    }};
}

/// The column that OWNED BY names.
fn owner(catalog: &Catalog, named: &(String, String)) -> Result<Owner, SqlError> {
    let (table, column) = named;
    let table = catalog.table(table).ok_or_else(|| catalog::undefined_table(table))?;
    let missing =
        || SqlError::new("42703", format!("column \"{column}\" of relation \"{}\" does not exist", table.name));
    let at = table.column_index(column).ok_or_else(missing)?;
    Ok(Owner { table: table.id, column: table.columns[at].id })
}

/// CREATE SEQUENCE.
pub(crate) async fn create<E: Engine>(
    engine: &E,
    catalog: &Catalog,
    name: &str,
    options: &SequenceOptions,
    if_not_exists: bool,
) -> Result<Changed, SqlError> {
    let name = check_name(name.to_string())?;
    let mut sequence = build(&name, DataType::Int, None, options)?;
    if let Some(Some(named)) = &options.owner {
        sequence.owner = Some(owner(catalog, named)?);
    }
    transact!(engine, txn, {
        let mut keys = vec![catalog::version_key(), catalog::id_key()];
        keys.extend(name_keys(&name).map(|(_, key)| key));
        let rows = lock(&mut txn, keys).await?;
        if rows.iter().skip(2).any(Option::is_some) {
            let message = format!("relation \"{name}\" already exists");
            if if_not_exists {
                return Ok(Err(("42P07", format!("{message}, skipping"))));
            }
            return Err(SqlError::new("42P07", message).into());
        }
        let version = stored_number(rows.first())?.unwrap_or(0);
        let id = stored_number(rows.get(1))?.unwrap_or(u64::from(FIRST_TABLE_ID));
        sequence.id = u32::try_from(id).map_err(|_| SqlError::new("54000", "all table ids are used up"))?;
        txn.write(vec![
            set(catalog::version_key(), (version + 1).to_string()),
            set(catalog::id_key(), (id + 1).to_string()),
            set(catalog::sequence_key(&name), sequence.to_bytes()),
        ])?;
        Ok(Ok(Vec::new()))
    })
}

/// ALTER SEQUENCE.
pub(crate) async fn alter<E: Engine>(
    engine: &E,
    catalog: &Catalog,
    name: &str,
    options: &SequenceOptions,
    if_exists: bool,
) -> Result<Changed, SqlError> {
    let owner = match &options.owner {
        Some(Some(named)) => Some(Some(owner(catalog, named)?)),
        Some(None) => Some(None),
        None => None,
    };
    transact!(engine, txn, {
        let rows = lock(&mut txn, vec![catalog::version_key(), catalog::sequence_key(name)]).await?;
        let Some(Some(bytes)) = rows.get(1) else {
            let message = format!("relation \"{name}\" does not exist");
            if if_exists {
                return Ok(Err(("00000", format!("{message}, skipping"))));
            }
            return Err(SqlError::new("42P01", message).into());
        };
        let old = Sequence::from_bytes(bytes)?;
        let mut new = build(name, old.ty, Some(&old), options)?;
        let counts = (new.increment, new.min, new.max, new.start, new.cycle);
        if old.reversed && counts != (old.increment, old.min, old.max, old.start, old.cycle) {
            return Err(SqlError::unsupported("changing how a bit-reversed sequence counts")
                .hint("Only CACHE, RESTART and OWNED BY of it can be changed.")
                .into());
        }
        if let Some(owner) = owner {
            new.owner = owner;
        }
        let version = stored_number(rows.first())?.unwrap_or(0);
        let mut writes = vec![
            set(catalog::version_key(), (version + 1).to_string()),
            set(catalog::sequence_key(name), new.to_bytes()),
        ];
        let state = lock(&mut txn, vec![new.state_key()]).await?;
        let state = state.first().and_then(Option::as_ref).map(|bytes| State::from_bytes(bytes)).transpose()?;
        let last = match options.restart {
            Some(restart) => {
                let state = State { last: restart.unwrap_or(new.start), called: false };
                writes.push(set(new.state_key(), state.to_bytes()));
                state.last
            }
            None => {
                let state = state.unwrap_or(old.initial());
                // It has begun, whatever its start is from now on.
                writes.push(set(new.state_key(), state.to_bytes()));
                state.last
            }
        };
        for (is, than, end) in
            [(last < new.min, "less than MINVALUE", new.min), (last > new.max, "greater than MAXVALUE", new.max)]
        {
            if is {
                return Err(bad(format!("RESTART value ({last}) cannot be {than} ({end})")).into());
            }
        }
        txn.write(writes)?;
        Ok(Ok(Vec::new()))
    })
}

/// The columns of all tables whose defaults draw from a sequence.
fn users<'c>(catalog: &'c Catalog, sequence: &'c Sequence) -> impl Iterator<Item = (&'c Table, usize)> {
    let text = format!("nextval('{}'", quote_name(&sequence.name).replace('\'', "''"));
    catalog.tables.values().chain(catalog.making.values()).flat_map(move |table| {
        let text = text.clone();
        let uses = move |at: &usize| {
            let column = &table.columns[*at];
            let owner = Owner { table: table.id, column: column.id };
            let draws = column.generated.as_ref().is_some_and(|generated| !matches!(generated, Generated::Stored(_)));
            (draws && sequence.owner == Some(owner))
                || column.default.as_ref().is_some_and(|default| default.to_lowercase().contains(&text))
        };
        (0..table.columns.len()).filter(uses).map(move |at| (&**table, at))
    })
}

/// DROP SEQUENCE.
pub(crate) async fn drop<E: Engine>(
    engine: &E,
    catalog: &Catalog,
    names: &[String],
    (if_exists, cascade): (bool, bool),
) -> Result<Changed, SqlError> {
    transact!(engine, txn, {
        let mut keys: Vec<Key> = vec![catalog::version_key()];
        keys.extend(names.iter().map(|name| catalog::sequence_key(name)));
        let rows = lock(&mut txn, keys).await?;
        let version = stored_number(rows.first())?.unwrap_or(0);
        let (mut writes, mut said) = (Vec::new(), Vec::new());
        for (name, row) in names.iter().zip(rows.iter().skip(1)) {
            let Some(bytes) = row else {
                if if_exists {
                    continue;
                }
                return Err(SqlError::new("42P01", format!("sequence \"{name}\" does not exist")).into());
            };
            let sequence = Sequence::from_bytes(bytes)?;
            let mut tables: Vec<Table> = Vec::new();
            for (table, at) in users(catalog, &sequence) {
                let column = &table.columns[at];
                if column.is_identity() {
                    let what = format!("column {} of table {}", column.name, table.name);
                    return Err(SqlError::new(
                        "2BP01",
                        format!("cannot drop sequence {name} because {what} requires it"),
                    )
                    .hint(format!("You can drop {what} instead."))
                    .into());
                }
                let what = format!("default value for column {} of table {}", column.name, table.name);
                if !cascade {
                    let message = format!("cannot drop sequence {name} because other objects depend on it");
                    return Err(SqlError::new("2BP01", message)
                        .detail(format!("{what} depends on sequence {name}"))
                        .hint("Use DROP ... CASCADE to drop the dependent objects too.")
                        .into());
                }
                said.push(format!("drop cascades to {what}"));
                if tables.iter().all(|known| known.id != table.id) {
                    let rows = lock(&mut txn, vec![catalog::table_key(&table.name)]).await?;
                    let stored = rows.first().and_then(Option::as_ref).map(|row| Table::from_bytes(row)).transpose()?;
                    if let Some(busy) = stored.as_ref().filter(|stored| stored.is_in_steps()) {
                        return Err(busy.in_steps().into());
                    }
                    tables.extend(stored.filter(|stored| stored.id == table.id));
                }
                if let Some(stored) = tables.iter_mut().find(|known| known.id == table.id)
                    && let Some(at) = stored.column_by_id(column.id)
                {
                    stored.columns[at].default = None;
                    stored.columns[at].generated = None;
                }
            }
            writes.extend(tables.iter().map(|table| set(catalog::table_key(&table.name), table.to_bytes())));
            writes.push(Mutation { key: catalog::sequence_key(name), value: None });
            writes.push(Mutation { key: sequence.state_key(), value: None });
        }
        if writes.is_empty() {
            return Ok(Err(("00000", format!("sequence \"{}\" does not exist, skipping", names.join(", ")))));
        }
        writes.push(set(catalog::version_key(), (version + 1).to_string()));
        txn.write(writes)?;
        Ok(Ok(said))
    })
}
