//! ALTER TABLE: the descriptor that it wants, and the transaction that begins the way to it.
//!
//! Each action changes a copy of the descriptor as if nobody else were there ([`apply`]); `steps.rs` finds out which
//! steps lead there, and why two gateways never disagree on the way. If there is only one, the statement is done with its
//! commit; else it leaves the rest to a job. All actions of one statement take effect together, or none does.
//!
//! What makes or drops an index (UNIQUE, and DROP COLUMN .. CASCADE of a column that has one) is done by the jobs of
//! indexes, as a statement of its own: see `session/alter.rs`.

use sqlparser::ast::{self, AlterColumnOperation as Of, AlterTableOperation as Op};
use txn::{Key, Mutation};

use super::constraint::{check, exists};
use super::foreign::{added, may_alter};
use super::index::{Described, finish, names, plain};
use super::parents::{self, Parents, more, sides};
use super::retype::retype;
use super::steps::{Steps, columns_of, steps};
use super::table::name_keys;
use super::{ATTEMPTS_MAX, add_column, check_name, dependents, lock, rename, set, stored_number};
use crate::SqlError;
use crate::catalog::constraint::{Commented, comment_key};
use crate::catalog::{self, Catalog, CheckState, Column, Generated, Missing, TABLE_COLUMNS_MAX, Table};
use crate::engine::{CommitInfo, Engine, Transaction};
use crate::expr::bind::type_of;
use crate::expr::{Binder, EvalContext, Expr, Params, Scope, eval};
use crate::jobs::{Job, JobKind};
use crate::parse::{self, ident, object_name};
use crate::plan::check::bind_check;
use crate::session::Database;
use crate::short::Failure;
use crate::sink::Notice;

/// What a statement came to.
pub(crate) enum Altered {
    /// A job does the rest, as this owner.
    Job(Box<Job>, CommitInfo),
    /// It is done.
    Done(CommitInfo),
    /// There was nothing to do.
    Nothing,
}

/// 42703.
pub(super) fn no_column(table: &Table, name: &str) -> SqlError {
    SqlError::new("42703", format!("column \"{name}\" of relation \"{}\" does not exist", table.name))
}

/// 42704.
fn no_constraint(table: &Table, name: &str) -> SqlError {
    SqlError::new("42704", format!("constraint \"{name}\" of relation \"{}\" does not exist", table.name))
}

/// A DEFAULT of a column; none for NULL.
fn default_of(column: &Column, expr: &ast::Expr) -> Result<Option<(String, Expr)>, SqlError> {
    let (scope, mut params) = (Scope::default(), Params::default());
    let mut binder = Binder { scope: &scope, params: &mut params, aggregates: None, clause: "DEFAULT expressions" };
    let bound = binder.bind(expr).map_err(|err| match err.sqlstate {
        "42703" => SqlError::new("0A000", "cannot use column reference in DEFAULT expression"),
        _ => err,
    })?;
    let bound = bound.assign(column, &mut params)?;
    if !params.types.is_empty() {
        return Err(SqlError::new("42P02", "there are no parameters in a DEFAULT expression"));
    }
    let null = matches!(&bound, Expr::Const(datum) if datum.is_null());
    Ok((!null).then(|| (expr.to_string(), bound)))
}

fn add(table: &mut Table, def: &ast::ColumnDef, context: &EvalContext<'_>) -> Result<(), SqlError> {
    let name = ident(&def.name);
    if table.columns.len() >= TABLE_COLUMNS_MAX {
        return Err(SqlError::new("54011", format!("tables can have at most {TABLE_COLUMNS_MAX} columns")));
    }
    let unique = |option: &ast::ColumnOptionDef| matches!(option.option, ast::ColumnOption::Unique(_));
    if def.options.iter().any(unique) {
        return Err(SqlError::unsupported("UNIQUE of a column that is added")
            .hint(format!("Add the column first, and then ADD UNIQUE ({}).", parse::names::quoted(&name))));
    }
    if def.options.iter().any(|option| matches!(option.option, ast::ColumnOption::ForeignKey(_))) {
        return Err(SqlError::unsupported("REFERENCES of a column that is added beside other actions")
            .hint("Give each an ALTER TABLE of its own."));
    }
    add_column(table, def)?;
    let at = table.columns.len() - 1;
    let column = table.columns[at].clone();
    if let Some(text) = &column.default
        && let Some((_, expr)) = default_of(&column, &parse::parse_expr(text)?)?
    {
        if !expr.is_constant() {
            let message = format!("adding column \"{name}\" with a volatile default is not supported");
            return Err(SqlError::new("0A000", message)
                .detail("Each row would need a value of its own, and rows are not rewritten.")
                .hint("Add the column without a default, SET DEFAULT, and fill the rows by UPDATE."));
        }
        table.columns[at].missing = Missing::new(eval(&expr, &[], context)?);
    }
    for option in &def.options {
        if let ast::ColumnOption::Check(of) = &option.option {
            let made = check(table, of, option.name.as_ref())?;
            table.checks.push(made);
        }
    }
    Ok(())
}

/// Whether the condition of an index names a column, or the index has it.
pub(crate) fn index_uses(table: &Table, index: &catalog::Index, at: usize) -> bool {
    let listed = index.columns.iter().map(|part| part.column).chain(index.storing.iter().copied());
    let named = index.predicate.as_ref().is_some_and(|text| columns_of(table, text).contains(&table.columns[at].id));
    named || listed.into_iter().any(|column| column == at)
}

fn drop_column(table: &mut Table, at: usize, cascade: bool, notices: &mut Vec<Notice>) -> Result<(), SqlError> {
    let (name, id) = (table.columns[at].name.clone(), table.columns[at].id);
    if table.key_position(at).is_some() {
        let message = format!("cannot drop column \"{name}\": it is part of the primary key of \"{}\"", table.name);
        return Err(SqlError::new("0A000", message)
            .hint("A table's primary key is the order of its rows: make another table, and copy them."));
    }
    let indexes =
        table.indexes.iter().filter(|index| index_uses(table, index, at)).map(|index| match index.constraint {
            true => format!("constraint {} on table {}", index.name, table.name),
            false => format!("index {}", index.name),
        });
    let indexes: Vec<String> = indexes.collect();
    let checks = table.named_checks().filter(|(_, text)| columns_of(table, text).contains(&id));
    let checks: Vec<(u32, String)> =
        checks.map(|(check, _)| (check.id, format!("constraint {} on table {}", check.name, table.name))).collect();
    let users: Vec<&String> = indexes.iter().chain(checks.iter().map(|(_, what)| what)).collect();
    // What CASCADE drops of indexes was dropped before this.
    if !indexes.is_empty() || (!users.is_empty() && !cascade) {
        let lines = users.iter().map(|what| format!("{what} depends on column {name} of table {}", table.name));
        let message = format!("cannot drop column {name} of table {} because other objects depend on it", table.name);
        return Err(SqlError::new("2BP01", message)
            .detail(lines.collect::<Vec<_>>().join("\n"))
            .hint("Use DROP ... CASCADE to drop the dependent objects too."));
    }
    for (check, what) in checks {
        notices.push(Notice::info("00000", format!("drop cascades to {what}")));
        forget_check(table, check);
    }
    table.comments.remove(&comment_key(Commented::Column(id)));
    let mut columns = table.columns.clone();
    columns.remove(at);
    *table = table.with_columns(columns);
    Ok(())
}

fn forget_check(table: &mut Table, id: u32) {
    table.checks.retain(|check| check.id != id);
    table.comments.remove(&comment_key(Commented::Check(id)));
}

fn alter_column(table: &mut Table, at: usize, of: &Of) -> Result<(), SqlError> {
    let name = table.columns[at].name.clone();
    let of_default = matches!(of, Of::SetDefault { .. } | Of::DropDefault);
    match &table.columns[at].generated {
        Some(Generated::Identity { .. }) if of_default || matches!(of, Of::DropNotNull) => {
            let message = format!("column \"{name}\" of relation \"{}\" is an identity column", table.name);
            return Err(SqlError::new("42601", message));
        }
        Some(Generated::Stored(_)) if of_default => {
            let message = format!("column \"{name}\" of relation \"{}\" is a generated column", table.name);
            return Err(SqlError::new("42601", message));
        }
        Some(Generated::Serial) if of_default => table.columns[at].generated = None,
        _ => {}
    }
    match of {
        Of::SetNotNull => table.columns[at].not_null = true,
        Of::DropNotNull if table.key_position(at).is_some() => {
            return Err(SqlError::new("42P16", format!("column \"{name}\" is in a primary key")));
        }
        Of::DropNotNull => table.columns[at].not_null = false,
        Of::SetDefault { value } => {
            table.columns[at].default = default_of(&table.columns[at], value)?.map(|(text, _)| text);
        }
        Of::DropDefault => table.columns[at].default = None,
        Of::SetDataType { using: Some(_), .. } => {
            return Err(
                SqlError::unsupported("ALTER COLUMN .. TYPE .. USING").detail("The rows would have to be rewritten.")
            );
        }
        Of::SetDataType { data_type, using: None, had_set: _ } => {
            let (ty, modifier) = type_of(data_type)?;
            retype(table, at, ty, modifier)?;
            let column = &table.columns[at];
            if let Some(text) = &column.default
                && default_of(column, &parse::parse_expr(text)?).is_err()
            {
                let message =
                    format!("default for column \"{name}\" cannot be cast automatically to type {}", ty.name());
                return Err(SqlError::new("42804", message));
            }
            // What is said of the column must still make sense of the wider type.
            let predicates = table.indexes.iter().filter_map(|index| index.predicate.as_deref());
            for text in table.named_checks().map(|(_, text)| text).chain(predicates) {
                bind_check(table, text)?;
            }
        }
        Of::AddGenerated { .. } => return Err(SqlError::unsupported("ADD GENERATED")),
    }
    Ok(())
}

fn rename_column(table: &mut Table, old: &str, new: String) -> Result<(), SqlError> {
    let missing = || SqlError::new("42703", format!("column \"{old}\" does not exist"));
    let at = table.column_index(old).ok_or_else(missing)?;
    let new = check_name(new)?;
    if table.column_index(&new).is_some() {
        let message = format!("column \"{new}\" of relation \"{}\" already exists", table.name);
        return Err(SqlError::new("42701", message));
    }
    let renamed = |text: &str| rename::column_in(text, table, at, &new);
    let mut after = table.clone();
    for check in &mut after.checks {
        if let catalog::CheckKind::Holds(text) = &mut check.kind {
            *text = renamed(text)?;
        }
    }
    for text in after.indexes.iter_mut().filter_map(|index| index.predicate.as_mut()) {
        *text = renamed(text)?;
    }
    after.columns[at].name = new;
    *table = after;
    Ok(())
}

fn rename_constraint(table: &mut Table, old: &str, new: String) -> Result<(), SqlError> {
    let new = check_name(new)?;
    if old == table.key_name() {
        return Err(SqlError::unsupported("renaming a primary key").detail("It is called after its table."));
    }
    if !table.has_constraint(old) {
        let message = format!("constraint \"{old}\" for table \"{}\" does not exist", table.name);
        return Err(SqlError::new("42704", message));
    }
    if table.has_constraint(&new) {
        return Err(exists(table, &new));
    }
    table.checks.iter_mut().filter(|check| check.text().is_some() && check.name == old).for_each(|check| {
        check.name.clone_from(&new);
    });
    table.indexes.iter_mut().filter(|index| index.constraint && index.name == old).for_each(|index| {
        index.name.clone_from(&new);
    });
    table.foreign.keys.iter_mut().filter(|key| key.name == old).for_each(|key| key.name.clone_from(&new));
    Ok(())
}

/// Whether it may drop what depends on what it drops.
fn cascades(op: &Op) -> bool {
    matches!(op, Op::DropColumn { drop_behavior: Some(ast::DropBehavior::Cascade), .. })
}

/// RENAME is a statement of its own: in PostgreSQL's grammar, too.
fn is_rename(op: &Op) -> bool {
    matches!(op, Op::RenameColumn { .. } | Op::RenameConstraint { .. } | Op::RenameTable { .. })
}

/// The descriptor after all actions. 55006 is for the caller to say.
fn apply(
    before: &Table,
    operations: &[Op],
    parents: &Parents,
    context: &EvalContext<'_>,
    notices: &mut Vec<Notice>,
) -> Result<Table, SqlError> {
    let mut table = before.clone();
    if operations.len() > 1 && operations.iter().any(is_rename) {
        return Err(SqlError::syntax("RENAME cannot be combined with other actions of ALTER TABLE"));
    }
    for op in operations {
        match op {
            Op::AddColumn { column_keyword: _, if_not_exists, column_def, column_position: None } => {
                let name = ident(&column_def.name);
                if table.column_index(&name).is_some() {
                    let message = format!("column \"{name}\" of relation \"{}\" already exists", table.name);
                    if !*if_not_exists {
                        return Err(SqlError::new("42701", message));
                    }
                    notices.push(Notice::info("42701", format!("{message}, skipping")));
                    continue;
                }
                add(&mut table, column_def, context)?;
            }
            Op::DropColumn { has_column_keyword: _, column_names, if_exists, drop_behavior } => {
                for name in column_names.iter().map(ident) {
                    let cascade = *drop_behavior == Some(ast::DropBehavior::Cascade);
                    match table.column_index(&name) {
                        Some(at) => drop_column(&mut table, at, cascade, notices)?,
                        None if *if_exists => {
                            let message = no_column(&table, &name).message;
                            notices.push(Notice::info("00000", format!("{message}, skipping")));
                        }
                        None => return Err(no_column(&table, &name)),
                    }
                }
            }
            Op::AlterColumn { column_name, op } => {
                let name = ident(column_name);
                let at = table.column_index(&name).ok_or_else(|| no_column(&table, &name))?;
                alter_column(&mut table, at, op)?;
            }
            Op::AddConstraint { constraint: ast::TableConstraint::Check(of), not_valid } => {
                let mut made = check(&mut table, of, None)?;
                if *not_valid {
                    made.state = CheckState::NotValid;
                }
                table.checks.push(made);
            }
            Op::AddConstraint { constraint: ast::TableConstraint::ForeignKey(of), not_valid } => {
                let key = added(before, &table, of, parents, *not_valid)?;
                table.foreign.keys.push(key);
            }
            Op::AddConstraint { constraint, .. } => return Err(unsupported_constraint(&table, constraint)),
            Op::ValidateConstraint { name } => {
                let name = ident(name);
                if let Some(key) = table.foreign.keys.iter_mut().find(|key| key.name == name) {
                    if key.state == CheckState::NotValid {
                        key.state = CheckState::Validating;
                    }
                    continue;
                }
                let is_other = table.check(&name).is_none() && table.has_constraint(&name);
                if is_other {
                    let message = format!(
                        "constraint \"{name}\" of relation \"{}\" is not a foreign key or check constraint",
                        table.name
                    );
                    return Err(SqlError::new("42809", message));
                }
                let missing = no_constraint(&table, &name);
                let known = table.checks.iter_mut().find(|check| check.text().is_some() && check.name == name);
                known.ok_or(missing)?.state = CheckState::Public;
            }
            Op::DropConstraint { if_exists, name, drop_behavior: _ } => {
                let name = ident(name);
                match table.check(&name).map(|check| check.id) {
                    Some(id) => forget_check(&mut table, id),
                    None if name == table.key_name() => {
                        return Err(SqlError::unsupported("dropping a primary key")
                            .detail("A table's primary key is the order of its rows."));
                    }
                    None if table.foreign.keys.iter().any(|key| key.name == name) => {
                        table.foreign.keys.retain(|key| key.name != name);
                    }
                    None if table.has_constraint(&name) => {
                        return Err(SqlError::unsupported("dropping a UNIQUE constraint beside other actions")
                            .hint("Give each an ALTER TABLE of its own."));
                    }
                    None if *if_exists => {
                        let message = no_constraint(&table, &name).message;
                        notices.push(Notice::info("00000", format!("{message}, skipping")));
                    }
                    None => return Err(no_constraint(&table, &name)),
                }
            }
            Op::RenameColumn { old_column_name, new_column_name } => {
                rename_column(&mut table, &ident(old_column_name), ident(new_column_name))?;
            }
            Op::RenameConstraint { old_name, new_name } => {
                rename_constraint(&mut table, &ident(old_name), ident(new_name))?;
            }
            Op::RenameTable { table_name: ast::RenameTableNameKind::To(name) } => {
                let name = check_name(object_name(name)?)?;
                for at in 0..table.indexes.len() {
                    if let Some(text) = &table.indexes[at].predicate {
                        table.indexes[at].predicate = Some(rename::unqualified(text, &table)?);
                    }
                }
                table.name = name;
            }
            other => {
                let words: Vec<String> = other.to_string().split_whitespace().take(2).map(str::to_string).collect();
                return Err(SqlError::unsupported(format!("ALTER TABLE .. {}", words.join(" "))));
            }
        }
    }
    Ok(table)
}

fn unsupported_constraint(table: &Table, constraint: &ast::TableConstraint) -> SqlError {
    match constraint {
        ast::TableConstraint::PrimaryKey(_) if table.has_hidden_key() => {
            SqlError::unsupported("ADD PRIMARY KEY of a table that was made without one")
                .detail("A table's primary key is the order of its rows: all of them would be written anew.")
                .hint("Make another table, and copy them; or ADD UNIQUE.")
        }
        ast::TableConstraint::PrimaryKey(_) => {
            let message = format!("multiple primary keys for table \"{}\" are not allowed", table.name);
            SqlError::new("42P16", message)
        }
        ast::TableConstraint::Unique(_) => SqlError::unsupported("adding a UNIQUE constraint beside other actions")
            .hint("Give each an ALTER TABLE of its own."),
        _ => SqlError::unsupported("a constraint of this ALTER TABLE"),
    }
}

/// The columns of new foreign keys by which no rows would be found, each with the key's name.
fn lacking(before: &Table, after: &Table) -> Result<Vec<(Vec<usize>, String)>, SqlError> {
    let mut found: Vec<(Vec<usize>, String)> = Vec::new();
    for key in more(after, before) {
        let columns = after.columns_by_id(&key.columns)?;
        if after.child_way(&columns, None).is_none() && !found.iter().any(|(known, _)| *known == columns) {
            found.push((columns, key.name.clone()));
        }
    }
    Ok(found)
}

/// The indexes that must be there before a statement can begin, each with the foreign key that wants it. What is wrong
/// with the statement is found before any of them is made.
pub(crate) fn indexes_first<E: Engine>(
    engine: &E,
    catalog: &Catalog,
    before: &Table,
    operations: &[Op],
) -> Result<Vec<(Described, String)>, SqlError> {
    let adds = |op: &Op| matches!(op, Op::AddConstraint { constraint: ast::TableConstraint::ForeignKey(_), .. });
    if !operations.iter().any(adds) {
        return Ok(Vec::new());
    }
    before.refuse_in_steps()?;
    let parents = parents::known(catalog, before, operations)?;
    parents.values().try_for_each(Table::refuse_in_steps)?;
    let context = EvalContext { params: &[], now: engine.now().latest, random: engine };
    let after = apply(before, operations, &parents, &context, &mut Vec::new())?;
    may_alter(before, &after)?;
    let described = lacking(before, &after)?.into_iter().map(|(columns, key)| {
        let names: Vec<&str> = columns.iter().map(|at| after.columns[*at].name.as_str()).collect();
        (plain(&before.name, &names), key)
    });
    Ok(described.collect())
}

/// Finds out whether a column can be added, and then the foreign keys of it. None: it is there, and IF NOT EXISTS was said.
pub(crate) fn may_refer<E: Engine>(
    engine: &E,
    catalog: &Catalog,
    before: &Table,
    column: &[Op],
    keys: &[Op],
) -> Result<Option<()>, SqlError> {
    before.refuse_in_steps()?;
    let context = EvalContext { params: &[], now: engine.now().latest, random: engine };
    let with = apply(before, column, &Parents::new(), &context, &mut Vec::new())?;
    may_alter(before, &with)?;
    if with == *before {
        return Ok(None);
    }
    indexes_first(engine, catalog, &with, keys).map(|_| Some(()))
}

/// The names that a table gets for itself and its indexes, and did not have before.
fn new_names(before: &Table, after: &Table) -> Vec<String> {
    let own = (after.name != before.name).then_some(&after.name);
    let indexes = after.indexes.iter().map(|index| &index.name).filter(|name| before.index(name).is_none());
    own.into_iter().chain(indexes).cloned().collect()
}

/// What is written of a changed table: its descriptor, and the rows of names.
fn writes(before: &Table, after: &Table) -> Vec<Mutation> {
    let mut writes = Vec::new();
    let named = |table: &Table| table.indexes.iter().map(|index| index.name.clone()).collect::<Vec<_>>();
    if before.name != after.name {
        writes.push(Mutation { key: catalog::table_key(&before.name), value: None });
    }
    if before.name != after.name || named(before) != named(after) {
        writes.extend(names(before, false));
        writes.extend(names(after, true));
    }
    writes.push(set(catalog::table_key(&after.name), after.to_bytes()));
    writes
}

/// ALTER TABLE, but for what is about indexes. 42P01, 55006, and what `apply` finds.
pub(crate) async fn begin<E: Engine>(
    db: &Database<E>,
    catalog: &Catalog,
    name: &str,
    alter: &ast::AlterTable,
) -> Result<(Altered, Vec<Notice>), SqlError> {
    let engine = db.engine();
    let mut priority = None;
    for attempt in 1..=ATTEMPTS_MAX {
        let mut txn = engine.begin(priority);
        priority = Some(txn.priority());
        let context = EvalContext { params: &[], now: engine.now().latest, random: engine };
        let mut notices = Vec::new();
        let work = async {
            let keys = vec![catalog::version_key(), catalog::id_key(), catalog::table_key(name)];
            let rows = lock(&mut txn, keys).await?;
            let bytes = rows.get(2).and_then(Option::as_ref).ok_or_else(|| catalog::undefined_table(name))?;
            let before = Table::from_bytes(bytes)?;
            before.refuse_in_steps()?;
            let parents = parents::locked(&mut txn, catalog, &before, &alter.operations).await?;
            let after = apply(&before, &alter.operations, &parents, &context, &mut notices)?;
            may_alter(&before, &after)?;
            if !lacking(&before, &after)?.is_empty() {
                return Err(Failure::Sql(parents::changed()));
            }
            if after == before {
                return Ok(None);
            }
            let taken = new_names(&before, &after);
            let (called, keys): (Vec<String>, Vec<Key>) = taken.iter().flat_map(|name| name_keys(name)).unzip();
            if !keys.is_empty() {
                let found = lock(&mut txn, keys).await?;
                if let Some(at) = found.iter().position(Option::is_some) {
                    let message = format!("relation \"{}\" already exists", called[at]);
                    return Err(Failure::Sql(SqlError::new("42P07", message)));
                }
            }
            let cascade = alter.operations.iter().any(cascades);
            let views = dependents::follow(&mut txn, &before, &after, cascade, &mut notices).await?;
            let id = stored_number(rows.get(1))?.unwrap_or(u64::from(catalog::FIRST_TABLE_ID));
            let steps = steps(&before, after);
            let sides = sides(&before, &steps, &parents, id)?;
            let Steps { mut forth, mut back, validate, keys, one_way } = steps;
            if one_way {
                let message = "DROP COLUMN beside a constraint that existing rows may be against is not supported";
                return Err(Failure::Sql(
                    SqlError::new("0A000", message)
                        .detail("If one is, the column could not be brought back.")
                        .hint("Give each an ALTER TABLE of its own."),
                ));
            }
            let version = stored_number(rows.first())?.unwrap_or(0);
            let mut all = vec![set(catalog::version_key(), (version + 1).to_string())];
            let count = forth.len();
            forth[..count - 1].iter_mut().for_each(|table| table.changing = id);
            let ways = back.len().saturating_sub(1);
            back[..ways].iter_mut().for_each(|table| table.changing = id);
            let first = forth.remove(0);
            all.extend(writes(&before, &first));
            all.extend(sides.first.iter().map(|parent| set(catalog::table_key(&parent.name), parent.to_bytes())));
            all.extend(views);
            // What only a column that goes drew from goes with it.
            let gone = |owner: &catalog::sequence::Owner| {
                owner.table == before.id && forth.last().unwrap_or(&first).column_by_id(owner.column).is_none()
            };
            let owned = catalog.sequences.values().filter(|sequence| sequence.owner.as_ref().is_some_and(gone));
            all.extend(owned.map(|sequence| Mutation { key: catalog::sequence_key(&sequence.name), value: None }));
            let mut job = None;
            if !forth.is_empty() {
                let statement = alter.to_string();
                let mut new = Job::new(db, id, JobKind::AlterTable, &first, None, &statement, txn.id());
                new.steps = forth.into_iter().map(|table| vec![table]).collect();
                new.back = back.into_iter().map(|table| vec![table]).collect();
                (new.checks, new.keys) = (validate, keys);
                new.others = sides.first.iter().map(|parent| (parent.name.clone(), parent.id)).collect();
                new.steps.last_mut().expect("there is one").extend(sides.last);
                new.back.last_mut().into_iter().for_each(|tables| tables.extend(sides.undone.iter().cloned()));
                all.push(set(catalog::id_key(), (id + 1).to_string()));
                all.push(set(catalog::job_key(id), new.to_bytes()));
                all.extend(Job::forgotten(catalog));
                job = Some(Box::new(new));
            }
            txn.write(all)?;
            Ok::<_, Failure>(Some(job))
        };
        let result = work.await;
        match finish::<E, _>(txn, result, attempt).await? {
            None => {}
            Some(Some((Some(job), info))) => return Ok((Altered::Job(job, info), notices)),
            Some(Some((None, info))) => return Ok((Altered::Done(info), notices)),
            Some(None) => return Ok((Altered::Nothing, notices)),
        }
    }
    unreachable!("the last attempt returns")
}
