//! FOREIGN KEY and REFERENCES: what they describe, and what they do to both tables' descriptors in CREATE TABLE.
//!
//! Why the new table is not usable at once, and what has to wait for what: see `catalog/foreign.rs`.

use sqlparser::ast::{self, AlterTableOperation as Op};

use super::check_name;
use super::index::{INDEXES_MAX, auto_name};
use super::parents::{Parents, find};
use crate::SqlError;
use crate::catalog::{Action, Catalog, CheckState, ForeignKey, Index, IndexColumn, IndexState, Table, undefined_table};
use crate::expr::Expr;
use crate::parse::{ident, object_name};
use crate::plan::generated::computed;
use crate::types::DataType;

/// A foreign key as a statement describes it.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    name: Option<String>,
    columns: Vec<String>,
    pub(crate) parent: String,
    /// None: its primary key.
    parent_columns: Vec<String>,
    on_delete: Action,
    on_update: Action,
}

fn action(action: Option<ast::ReferentialAction>) -> Action {
    match action {
        None | Some(ast::ReferentialAction::NoAction) => Action::NoAction,
        Some(ast::ReferentialAction::Restrict) => Action::Restrict,
        Some(ast::ReferentialAction::Cascade) => Action::Cascade,
        Some(ast::ReferentialAction::SetNull) => Action::SetNull,
        Some(ast::ReferentialAction::SetDefault) => Action::SetDefault,
    }
}

fn wanted(
    key: &ast::ForeignKeyConstraint,
    own: Option<(&ast::Ident, Option<&ast::Ident>)>,
) -> Result<Wanted, SqlError> {
    let deferred = key.characteristics.as_ref().is_some_and(|asked| {
        asked.deferrable == Some(true)
            || asked.initially == Some(ast::DeferrableInitial::Deferred)
            || asked.enforced == Some(false)
    });
    if deferred {
        return Err(SqlError::unsupported("a foreign key that is DEFERRABLE or NOT ENFORCED"));
    }
    match key.match_kind {
        None | Some(ast::ConstraintReferenceMatchKind::Simple) => {}
        Some(ast::ConstraintReferenceMatchKind::Full) => return Err(SqlError::unsupported("MATCH FULL")),
        Some(ast::ConstraintReferenceMatchKind::Partial) => {
            return Err(SqlError::new("0A000", "MATCH PARTIAL not yet implemented"));
        }
    }
    if key.index_name.is_some() {
        return Err(SqlError::unsupported("an index name in FOREIGN KEY"));
    }
    let (columns, name) = match own {
        Some((column, name)) => (vec![ident(column)], name),
        None => (key.columns.iter().map(ident).collect(), key.name.as_ref()),
    };
    Ok(Wanted {
        name: name.map(|name| check_name(ident(name))).transpose()?,
        columns,
        parent: object_name(&key.foreign_table)?,
        parent_columns: key.referred_columns.iter().map(ident).collect(),
        on_delete: action(key.on_delete),
        on_update: action(key.on_update),
    })
}

/// The foreign keys of a CREATE TABLE.
pub(crate) fn described(create: &ast::CreateTable) -> Result<Vec<Wanted>, SqlError> {
    let mut all = Vec::new();
    for column in &create.columns {
        for option in &column.options {
            if let ast::ColumnOption::ForeignKey(key) = &option.option {
                let name = option.name.as_ref().or(key.name.as_ref());
                all.push(wanted(key, Some((&column.name, name)))?);
            }
        }
    }
    for constraint in &create.constraints {
        if let ast::TableConstraint::ForeignKey(key) = constraint {
            all.push(wanted(key, None)?);
        }
    }
    Ok(all)
}

/// What ADD COLUMN .. REFERENCES is done as: the column without it, and its foreign keys. None if there is none.
pub(crate) fn apart(op: &Op) -> Option<(Op, Vec<Op>)> {
    let mut column = op.clone();
    let Op::AddColumn { column_def, .. } = &mut column else { return None };
    let (referring, others): (Vec<_>, Vec<_>) = std::mem::take(&mut column_def.options)
        .into_iter()
        .partition(|option| matches!(option.option, ast::ColumnOption::ForeignKey(_)));
    column_def.options = others;
    let keys = referring.into_iter().filter_map(|option| {
        let ast::ColumnOption::ForeignKey(mut key) = option.option else { return None };
        key.name = option.name.or(key.name);
        key.columns = vec![column_def.name.clone()];
        Some(Op::AddConstraint { constraint: ast::TableConstraint::ForeignKey(key), not_valid: false })
    });
    let keys: Vec<Op> = keys.collect();
    (!keys.is_empty()).then_some((column, keys))
}

/// The columns of these names; 42703, 42830.
fn columns(table: &Table, names: &[String], parent: bool) -> Result<Vec<usize>, SqlError> {
    let mut columns = Vec::with_capacity(names.len());
    for name in names {
        let missing =
            || SqlError::new("42703", format!("column \"{name}\" referenced in foreign key constraint does not exist"));
        let column = table.column_index(name).ok_or_else(missing)?;
        if columns.contains(&column) {
            if parent {
                let message = "foreign key referenced-columns list must not contain duplicates";
                return Err(SqlError::new("42830", message));
            }
            return Err(SqlError::new("42701", format!("column \"{name}\" appears twice in foreign key constraint")));
        }
        columns.push(column);
    }
    Ok(columns)
}

/// Whether a value of one type may equal one of the other.
fn comparable(a: DataType, b: DataType) -> bool {
    let whole = |ty| matches!(ty, DataType::Int2 | DataType::Int4 | DataType::Int | DataType::Numeric);
    a == b || (whole(a) && whole(b))
}

/// Adds these foreign keys to a new table that has its id, and the indexes that they need; `parents` are the tables
/// that they refer to, by name, as they are stored. Says what it did that was not asked for.
pub(super) fn attach(
    table: &mut Table,
    wanted: &[Wanted],
    parents: &mut Parents,
    catalog: &Catalog,
) -> Result<Vec<String>, SqlError> {
    let mut said = Vec::new();
    for wanted in wanted {
        let key = resolve(table, wanted, parents)?;
        let own = table.columns_by_id(&key.columns)?;
        if table.child_way(&own, None).is_none() {
            let index = index(table, &own, catalog)?;
            said.push(format!(
                "CREATE TABLE will create implicit index \"{}\" for foreign key constraint \"{}\"",
                index.name, key.name
            ));
            table.indexes.push(index);
        }
        if key.parent != table.id {
            let parent = parents.get_mut(&wanted.parent).ok_or_else(|| undefined_table(&wanted.parent))?;
            if !parent.foreign.referenced_by.contains(&table.id) {
                parent.foreign.referenced_by.push(table.id);
            }
            table.foreign.making = true;
        }
        table.foreign.keys.push(key);
    }
    Ok(said)
}

fn resolve(table: &Table, wanted: &Wanted, parents: &Parents) -> Result<ForeignKey, SqlError> {
    let parent = find(table, &wanted.parent, parents)?;
    let own = columns(table, &wanted.columns, false)?;
    let theirs = if wanted.parent_columns.is_empty() {
        if parent.has_hidden_key() {
            let message = format!("there is no primary key for referenced table \"{}\"", parent.name);
            return Err(SqlError::new("42704", message));
        }
        parent.key.iter().map(|part| part.column).collect()
    } else {
        columns(parent, &wanted.parent_columns, true)?
    };
    if own.len() != theirs.len() {
        let message = "number of referencing and referenced columns for foreign key disagree";
        return Err(SqlError::new("42830", message));
    }
    if parent.parent_way(&theirs, None).is_none() {
        let message =
            format!("there is no unique constraint matching given keys for referenced table \"{}\"", parent.name);
        return Err(SqlError::new("42830", message));
    }
    let names: Vec<&str> = wanted.columns.iter().map(String::as_str).collect();
    let taken = |name: &str| table.has_constraint(name);
    let name = match &wanted.name {
        Some(name) if taken(name) => {
            let message = format!("constraint \"{name}\" for relation \"{}\" already exists", table.name);
            return Err(SqlError::new("42710", message));
        }
        Some(name) => name.clone(),
        None => {
            let mut names = (0..).map(|number| auto_name(&table.name, &names, "fkey", number));
            names.find(|name| !taken(name)).expect("some number is free")
        }
    };
    for (a, b) in own.iter().zip(&theirs) {
        let (a, b) = (&table.columns[*a], &parent.columns[*b]);
        if !comparable(a.ty, b.ty) {
            let message = format!("foreign key constraint \"{name}\" cannot be implemented");
            return Err(SqlError::new("42804", message).detail(format!(
                "Key columns \"{}\" and \"{}\" are of incompatible types: {} and {}.",
                a.name,
                b.name,
                a.ty.name(),
                b.ty.name()
            )));
        }
        let writes = [(wanted.on_delete, "DELETE"), (wanted.on_update, "UPDATE")];
        for (action, when) in writes.into_iter().filter(|_| a.is_stored()) {
            let sets = matches!(action, Action::SetNull | Action::SetDefault);
            if sets || (when == "UPDATE" && action == Action::Cascade) {
                return Err(SqlError::syntax(format!(
                    "invalid ON {when} action for foreign key constraint containing generated column"
                )));
            }
        }
    }
    let ids = |table: &Table, columns: &[usize]| columns.iter().map(|at| table.columns[*at].id).collect();
    Ok(ForeignKey {
        name,
        columns: ids(table, &own),
        parent: parent.id,
        parent_columns: ids(parent, &theirs),
        on_delete: wanted.on_delete,
        on_update: wanted.on_update,
        state: CheckState::Public,
    })
}

/// The key that ALTER TABLE .. ADD FOREIGN KEY wants of a table, which was another one `before` the statement.
pub(super) fn added(
    before: &Table,
    table: &Table,
    of: &ast::ForeignKeyConstraint,
    parents: &Parents,
    not_valid: bool,
) -> Result<ForeignKey, SqlError> {
    let mut key = resolve(table, &wanted(of, None)?, parents)?;
    if key.columns.iter().any(|id| before.column_by_id(*id).is_none()) {
        return Err(SqlError::unsupported("a foreign key of a column that is added beside it")
            .hint("Give each an ALTER TABLE of its own."));
    }
    key.state = if not_valid { CheckState::NotValid } else { CheckState::Validating };
    Ok(key)
}

/// The index by which the rows of a new table are found that refer to a key; its id is 0.
fn index(table: &Table, columns: &[usize], catalog: &Catalog) -> Result<Index, SqlError> {
    if table.indexes.len() >= INDEXES_MAX {
        return Err(SqlError::new("54011", format!("tables can have at most {INDEXES_MAX} indexes")));
    }
    let names: Vec<&str> = columns.iter().map(|at| table.columns[*at].name.as_str()).collect();
    for column in columns {
        super::check_key_type(table, *column)?;
    }
    let free = |name: &String| *name != table.name && table.index(name).is_none() && !is_taken(catalog, name);
    let mut names = (0..).map(|number| auto_name(&table.name, &names, "idx", number));
    Ok(Index {
        id: 0,
        name: names.find(free).expect("some number is free"),
        unique: false,
        constraint: false,
        columns: columns
            .iter()
            .map(|column| IndexColumn { column: *column, desc: false, nulls_first: false })
            .collect(),
        storing: Vec::new(),
        predicate: None,
        state: IndexState::Public,
    })
}

/// Whether ALTER TABLE may make this of a table, as far as its columns' sources and its foreign keys are concerned.
pub(super) fn may_alter(before: &Table, after: &Table) -> Result<(), SqlError> {
    if before.foreign.making {
        return Err(undefined_table(&before.name));
    }
    for column in after.columns.iter().filter(|column| before.column_by_id(column.id).is_none()) {
        if column.generated.is_some() {
            return Err(SqlError::unsupported(format!("adding column \"{}\", which fills itself,", column.name))
                .detail("Each row would need a value of its own, and rows are not rewritten."));
        }
    }
    for column in before.columns.iter().filter(|column| after.column_by_id(column.id).is_none()) {
        let (name, table) = (&column.name, &before.name);
        if before.foreign.keys.iter().any(|key| key.columns.contains(&column.id)) {
            return Err(SqlError::unsupported(format!("dropping column \"{name}\", which is of a foreign key,"))
                .hint("DROP CONSTRAINT first."));
        }
        for (at, expr) in computed(before)? {
            let user = &before.columns[at];
            let mut uses = false;
            expr.walk(&mut |expr| uses |= *expr == Expr::Column(before.column_by_id(column.id).unwrap_or(usize::MAX)));
            if uses && after.column_by_id(user.id).is_some() {
                let message = format!("cannot drop column {name} of table {table} because other objects depend on it");
                return Err(SqlError::new("2BP01", message)
                    .detail(format!("column {} of table {table} depends on column {name} of table {table}", user.name))
                    .hint("Drop the generated column first."));
            }
        }
    }
    computed(after).map(|_| ()).map_err(|err| match err.sqlstate {
        "42703" => SqlError::unsupported("renaming a column that a generated column is computed from"),
        _ => err,
    })
}

/// Whether a table, an index or a sequence has this name.
pub(super) fn is_taken(catalog: &Catalog, name: &str) -> bool {
    catalog.any_table(name).is_some()
        || catalog.sequences.contains_key(name)
        || catalog.making.values().chain(catalog.tables.values()).any(|table| table.index(name).is_some())
}

/// 2BP01 if a foreign key would not be kept without an index.
pub(super) fn may_drop_index(table: &Table, name: &str, catalog: &Catalog) -> Result<(), SqlError> {
    for key in &table.foreign.keys {
        if table.child_way(&table.columns_by_id(&key.columns)?, Some(name)).is_none() {
            let constraint = &key.name;
            let message =
                format!("cannot drop index {name} because constraint {constraint} on table {} requires it", table.name);
            return Err(SqlError::new("2BP01", message).hint("Create another index on the same columns first."));
        }
    }
    let known = |id: &u32| catalog.any_table_by_id(*id).is_some();
    if !table.foreign.referenced_by.iter().all(known) {
        return Err(SqlError::new("40001", "could not serialize access: the schema has changed").hint("Try again."));
    }
    let mut said = Vec::new();
    let own = table.foreign.keys.iter().filter(|key| key.parent == table.id).map(|key| (table, key));
    let others = catalog.referring(table).filter(|(child, _)| child.id != table.id);
    for (child, key) in own.chain(others.map(|(child, key)| (&**child, key))) {
        let columns = table.columns_by_id(&key.parent_columns)?;
        if table.parent_way(&columns, Some(name)).is_none() {
            said.push(format!("constraint {} on table {} depends on index {name}", key.name, child.name));
        }
    }
    if said.is_empty() {
        return Ok(());
    }
    Err(SqlError::new("2BP01", format!("cannot drop index {name} because other objects depend on it"))
        .detail(said.join("\n"))
        .hint("Drop the tables that refer by it first."))
}
