//! Plans: what a statement does, decided once from its text and the catalog.
//!
//! A statement of the short path touches one table. It reads it by the narrowest [`access::Access`] that its WHERE
//! allows, keeps what of the WHERE that did not settle as a filter, and does the rest row by row. What
//! that path does not serve goes to [`crate::select`].

pub mod access;
pub mod check;
mod dml;
pub mod foreign;
mod from_query;
pub mod generated;
pub mod index;
mod select;
mod values;
pub(crate) mod view;

use std::sync::Arc;

use sqlparser::ast;
use txn::{LockMode, LockPolicy};

use crate::SqlError;
use crate::catalog::{Catalog, HIDDEN_KEY, Table, undefined_table};
use crate::entry::Layout;
use crate::expr::aggregate::Aggregate;
use crate::expr::bind::ScopeColumn;
use crate::expr::{Binder, Expr, Params, Scope};
use crate::parse::{Statement, ident, object_name};
use crate::select::{Queries, Query};
use crate::sink::ColumnInfo;
use crate::system::{self, SystemTable};
use crate::types::{DataType, TypeModifier};
use access::Access;
use check::Checks;
use foreign::Graph;
use generated::Computed;
use index::{HINT, IndexUse, Maintained, Wishes};

/// A planned statement.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What to do.
    pub plan: Plan,
    /// The types of its parameters.
    pub params: Vec<DataType>,
    /// The columns of the rows that it returns; none if it returns no rows.
    pub columns: Vec<ColumnInfo>,
    /// The catalog's version that it was planned with.
    pub version: u64,
    /// The tables of the catalog that it reads or writes.
    pub tables: Vec<Arc<Table>>,
    /// The table whose rows are computed, if it reads one.
    pub system: Option<&'static SystemTable>,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Plan {
    /// SELECT.
    Select(Box<SelectPlan>),
    /// A query that the short path does not serve.
    Query(Box<Query>),
    /// INSERT, UPSERT.
    Insert(InsertPlan),
    /// UPDATE.
    Update(UpdatePlan),
    /// DELETE.
    Delete(DeletePlan),
}

/// Reading rows of a table.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Of which.
    pub table: Arc<Table>,
    /// By the keys of the table, or of an index.
    pub layout: Layout,
    /// Which index, if it is one.
    pub index: Option<IndexUse>,
    /// Which keys.
    pub access: Access,
    /// What else must hold.
    pub filter: Option<Expr>,
    /// Largest key first.
    pub reverse: bool,
}

/// GROUP BY and aggregates.
#[derive(Clone, Debug)]
pub struct Grouping {
    /// Over the input row. None: everything is one group, even if there is no row.
    pub keys: Vec<Expr>,
    /// Over the input row.
    pub aggregates: Vec<Aggregate>,
    /// Over the grouped row.
    pub having: Option<Expr>,
    /// The first row says it all: min or max of the column in whose order the scan reads.
    pub first: bool,
}

/// One ORDER BY item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// A column of the projected row.
    pub column: usize,
    /// Largest first.
    pub desc: bool,
    /// NULLs before all else.
    pub nulls_first: bool,
}

/// A SELECT.
#[derive(Clone, Debug)]
pub struct SelectPlan {
    /// Where the rows come from; without it, one row of no columns.
    pub scan: Option<Scan>,
    /// VALUES: rows of constants instead.
    pub values: Option<Vec<Vec<Expr>>>,
    /// WHERE, if there is no table.
    pub filter: Option<Expr>,
    /// GROUP BY and aggregates.
    pub grouping: Option<Grouping>,
    /// The projected row; after `visible` columns come those that are only sorted by.
    pub project: Vec<Expr>,
    /// How many columns the client sees.
    pub visible: usize,
    /// SELECT DISTINCT.
    pub distinct: bool,
    /// What to sort by; empty if nothing was asked, or if the scan gives that order.
    pub sort: Vec<SortKey>,
    /// LIMIT.
    pub limit: Option<Expr>,
    /// OFFSET.
    pub offset: Option<Expr>,
    /// FOR SHARE, FOR UPDATE.
    pub lock: Option<LockMode>,
    /// NOWAIT, SKIP LOCKED.
    pub policy: LockPolicy,
}

/// What INSERT does with a row whose key is there.
#[derive(Clone, Debug)]
pub enum Conflict {
    /// 23505.
    Error,
    /// Leaves it.
    Nothing,
    /// Changes it. Expressions see the row that is there, then the one that was to be inserted.
    Update {
        /// Column and new value.
        assignments: Vec<(usize, Expr)>,
        /// Only if this holds.
        filter: Option<Expr>,
    },
    /// UPSERT: replaces these columns. All of them: without a look at what is there.
    Replace(Vec<usize>),
}

/// What ON CONFLICT is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arbiter {
    /// Whatever is unique.
    Any,
    /// The primary key.
    Primary,
    /// That one of [`InsertPlan::indexes`].
    Index(usize),
}

/// An INSERT.
#[derive(Clone, Debug)]
pub struct InsertPlan {
    /// Into which.
    pub table: Arc<Table>,
    /// Whole rows, in the table's order. With a source there is one, over the source's row.
    pub rows: Vec<Vec<Expr>>,
    /// Where the rows come from if they are not in the statement: a SELECT of either path.
    pub source: Option<Box<Plan>>,
    /// What to do with duplicates.
    pub conflict: Conflict,
    /// Duplicates of what; of anything else they are errors.
    pub arbiter: Arbiter,
    /// What else is to be written.
    pub indexes: Vec<Maintained>,
    /// What its rows must be.
    pub checks: Checks,
    /// RETURNING.
    pub returning: Option<Vec<Expr>>,
    /// For the command's tag and EXPLAIN.
    pub upsert: bool,
    /// Columns that follow from the others.
    pub computed: Computed,
    /// Foreign keys.
    pub foreign: Option<Arc<Graph>>,
}

/// An UPDATE.
#[derive(Clone, Debug)]
pub struct UpdatePlan {
    /// Which rows; of which table, if there is a source.
    pub scan: Scan,
    /// A query that finds them: see `from_query`.
    pub source: Option<Box<Plan>>,
    /// Column and new value.
    pub assignments: Vec<(usize, Expr)>,
    /// RETURNING.
    pub returning: Option<Vec<Expr>>,
    /// What else is to be written.
    pub indexes: Vec<Maintained>,
    /// What its rows must be.
    pub checks: Checks,
    /// Columns that follow from the others.
    pub computed: Computed,
    /// Foreign keys.
    pub foreign: Option<Arc<Graph>>,
}

/// A DELETE.
#[derive(Clone, Debug)]
pub struct DeletePlan {
    /// Which rows; of which table, if there is a source.
    pub scan: Scan,
    /// A query that finds them: see `from_query`.
    pub source: Option<Box<Plan>>,
    /// RETURNING.
    pub returning: Option<Vec<Expr>>,
    /// What else is to be written.
    pub indexes: Vec<Maintained>,
    /// Foreign keys.
    pub foreign: Option<Arc<Graph>>,
}

impl Plan {
    /// The tables that it reads or writes beside its own, because of foreign keys.
    pub fn also(&self) -> impl Iterator<Item = &Arc<Table>> {
        let graph = match self {
            Plan::Select(_) | Plan::Query(_) => None,
            Plan::Insert(plan) => plan.foreign.as_deref(),
            Plan::Update(plan) => plan.foreign.as_deref(),
            Plan::Delete(plan) => plan.foreign.as_deref(),
        };
        graph.into_iter().flat_map(Graph::tables)
    }

    /// Whether it needs a read-write transaction.
    pub fn writes(&self) -> bool {
        match self {
            Plan::Select(plan) => plan.lock.is_some(),
            Plan::Query(query) => query.takes_locks(),
            Plan::Insert(_) | Plan::Update(_) | Plan::Delete(_) => true,
        }
    }

    /// The query in it that DataFusion runs, if any.
    pub(crate) fn query(&self) -> Option<&Query> {
        match self {
            Plan::Select(_) => None,
            Plan::Query(query) => Some(query),
            Plan::Insert(InsertPlan { source, .. })
            | Plan::Update(UpdatePlan { source, .. })
            | Plan::Delete(DeletePlan { source, .. }) => source.as_ref().and_then(|source| source.query()),
        }
    }
}

impl Plan {
    /// The same, to change.
    pub(crate) fn query_mut(&mut self) -> Option<&mut Query> {
        match self {
            Plan::Select(_) => None,
            Plan::Query(query) => Some(query),
            Plan::Insert(InsertPlan { source, .. })
            | Plan::Update(UpdatePlan { source, .. })
            | Plan::Delete(DeletePlan { source, .. }) => source.as_mut().and_then(|source| source.query_mut()),
        }
    }
}

/// Plans a SELECT, INSERT, UPDATE or DELETE. Panics for any other statement.
pub fn plan(statement: &Statement, catalog: &Catalog, queries: &Queries) -> Result<Planned, SqlError> {
    plan_with(statement, catalog, queries, Params::default())
}

/// As [`plan()`], with parameters of which some have a type already.
pub fn plan_with(
    statement: &Statement,
    catalog: &Catalog,
    queries: &Queries,
    params: Params,
) -> Result<Planned, SqlError> {
    let expanded = view::expand(statement, catalog)?;
    let statement = expanded.as_ref().unwrap_or(statement);
    match short(statement, catalog, params.clone()) {
        Err(refused) if refused.is_beyond_short_path() => match long(statement, catalog, queries, params) {
            // Neither path knows the function or the operator: the short path says it as PostgreSQL does.
            Err(err) if refused.sqlstate == "42883" && err.sqlstate != "53200" => Err(refused),
            #[cfg(not(feature = "datafusion"))]
            Err(_) => Err(refused),
            result => result,
        },
        result => result,
    }
}

/// Plans for DataFusion, or a statement that writes what a query finds.
fn long(statement: &Statement, catalog: &Catalog, queries: &Queries, mut params: Params) -> Result<Planned, SqlError> {
    let query = match statement {
        Statement::Select { query, .. } => query,
        Statement::Insert { insert, upsert, overriding } => {
            return from_query::insert(insert, (*upsert, *overriding), catalog, queries, params);
        }
        Statement::Update(update) => return from_query::update(update, catalog, queries, params),
        Statement::Delete(delete) => return from_query::delete(delete, catalog, queries, params),
        other => panic!("planned {other:?}"),
    };
    let query = Query::plan(query, catalog, queries, None, &mut params)?;
    let (columns, tables) = (query.columns().to_vec(), query.tables().to_vec());
    let plan = Plan::Query(Box::new(query));
    Ok(Planned { plan, params: params.finish(), columns, version: catalog.version, tables, system: None })
}

/// Plans for the short path.
fn short(statement: &Statement, catalog: &Catalog, mut params: Params) -> Result<Planned, SqlError> {
    let (plan, columns, table) = match statement {
        Statement::Select { query, .. } => select::plan(query, catalog, &mut params)?,
        Statement::Insert { insert, upsert, overriding } => {
            dml::insert(insert, (*upsert, *overriding), catalog, &mut params)?
        }
        Statement::Update(update) => dml::update(update, catalog, &mut params)?,
        Statement::Delete(delete) => dml::delete(delete, catalog, &mut params)?,
        other => panic!("planned {other:?}"),
    };
    let system = table.as_deref().and_then(system::of);
    if let Some(system) = system.filter(|_| plan.writes()) {
        return Err(system.refuse());
    }
    // A system table can be neither dropped nor made.
    let tables = table.filter(|_| system.is_none()).into_iter().collect();
    Ok(Planned { plan, params: params.finish(), columns, version: catalog.version, tables, system })
}

/// The columns of a table, as an expression sees them.
pub fn table_scope(table: &Table, alias: &str) -> Scope {
    let column = |column: &crate::catalog::Column| ScopeColumn {
        table: alias.to_string(),
        name: column.name.clone(),
        ty: column.ty,
    };
    Scope { columns: table.columns.iter().map(column).collect() }
}

/// A table and the name it goes by, from FROM, UPDATE or DELETE. Anything more is refused.
fn single_table(from: &ast::TableWithJoins, catalog: &Catalog) -> Result<(Arc<Table>, String), SqlError> {
    if !from.joins.is_empty() {
        return Err(SqlError::unsupported("a join"));
    }
    let ast::TableFactor::Table {
        name,
        alias,
        args: None,
        with_hints,
        version,
        with_ordinality: false,
        partitions,
        json_path: None,
        sample,
        index_hints,
    } = &from.relation
    else {
        return Err(match &from.relation {
            ast::TableFactor::Derived { .. } => SqlError::unsupported("a subquery in FROM"),
            ast::TableFactor::NestedJoin { .. } => SqlError::unsupported("a join"),
            _ => SqlError::unsupported("a function or another source of rows in FROM"),
        });
    };
    if version.is_some() {
        return Err(SqlError::unsupported("FOR SYSTEM_TIME").hint("Use AS OF SYSTEM TIME after the FROM clause."));
    }
    if sample.is_some() {
        return Err(SqlError::unsupported("TABLESAMPLE"));
    }
    if !with_hints.is_empty() || !partitions.is_empty() || !index_hints.is_empty() {
        return Err(SqlError::unsupported("a hint on a table"));
    }
    let table = find_table(name, catalog)?;
    let alias = match alias {
        None => table.name.clone(),
        Some(ast::TableAlias { explicit: _, name, columns, at: None }) if columns.is_empty() => ident(name),
        Some(_) => return Err(SqlError::unsupported("a list of columns in a table's alias")),
    };
    Ok((table, alias))
}

/// The index that a name in FROM, UPDATE or DELETE asks for.
fn index_hint(from: &ast::TableWithJoins) -> Option<String> {
    let ast::TableFactor::Table { name, .. } = &from.relation else { return None };
    Some(object_name(name).ok()?.split_once(HINT)?.1.to_string())
}

fn find_table(name: &ast::ObjectName, catalog: &Catalog) -> Result<Arc<Table>, SqlError> {
    if let [ast::ObjectNamePart::Identifier(schema), ast::ObjectNamePart::Identifier(name)] = name.0.as_slice()
        && system::SCHEMAS.contains(&ident(schema).as_str())
    {
        let (schema, name) = (ident(schema), ident(name));
        let found = system::find(&schema, &name).map(SystemTable::table);
        return found.ok_or_else(|| undefined_table(&format!("{schema}.{name}")));
    }
    let mut name = object_name(name)?;
    if let Some(at) = name.find(HINT) {
        name.truncate(at);
    }
    catalog.table(&name).cloned().ok_or_else(|| undefined_table(&name))
}

/// Splits a condition at its ANDs.
fn conjuncts(expr: Expr, out: &mut Vec<Expr>) {
    match expr {
        Expr::And(list) => list.into_iter().for_each(|part| conjuncts(part, out)),
        part => out.push(part),
    }
}

/// Binds WHERE and chooses the access path for whole rows.
fn scan(
    table: &Arc<Table>,
    scope: &Scope,
    selection: Option<&ast::Expr>,
    hint: Option<&str>,
    params: &mut Params,
) -> Result<Scan, SqlError> {
    let parts = condition(scope, selection, params)?;
    Ok(index::choose(table, parts, &Wishes { hint, ..Wishes::default() })?.scan)
}

/// Binds WHERE, and cuts it at its ANDs.
fn condition(scope: &Scope, selection: Option<&ast::Expr>, params: &mut Params) -> Result<Vec<Expr>, SqlError> {
    let mut parts = Vec::new();
    if let Some(selection) = selection {
        let mut binder = Binder { scope, params, aggregates: None, clause: "WHERE" };
        conjuncts(binder.boolean(selection, "WHERE")?, &mut parts);
    }
    Ok(parts)
}

/// What a list of select items or RETURNING names.
fn projection(
    items: &[ast::SelectItem],
    alias: Option<&str>,
    binder: &mut Binder<'_>,
) -> Result<(Vec<Expr>, Vec<ColumnInfo>), SqlError> {
    let mut exprs = Vec::new();
    let mut columns = Vec::new();
    for item in items {
        let (expr, name) = match item {
            ast::SelectItem::UnnamedExpr(expr) => (expr, output_name(expr)),
            ast::SelectItem::ExprWithAlias { expr, alias } => (expr, ident(alias)),
            ast::SelectItem::Wildcard(options) | ast::SelectItem::QualifiedWildcard(_, options) => {
                if *options != ast::WildcardAdditionalOptions::default() {
                    return Err(SqlError::unsupported("an option after *"));
                }
                if let ast::SelectItem::QualifiedWildcard(kind, _) = item {
                    let ast::SelectItemQualifiedWildcardKind::ObjectName(name) = kind else {
                        return Err(SqlError::unsupported("an expression before .*"));
                    };
                    let name = object_name(name)?;
                    if alias != Some(name.as_str()) {
                        return Err(SqlError::new("42P01", format!("missing FROM-clause entry for table \"{name}\"")));
                    }
                }
                let Some(alias) = alias else {
                    return Err(SqlError::syntax("SELECT * with no tables specified is not valid"));
                };
                for (index, column) in binder.scope.columns.iter().enumerate() {
                    if column.table == alias && column.name != HIDDEN_KEY {
                        exprs.push(Expr::Column(index));
                        columns.push(ColumnInfo { name: column.name.clone(), ty: column.ty });
                    }
                }
                continue;
            }
            ast::SelectItem::ExprWithAliases { .. } => {
                return Err(SqlError::unsupported("several aliases of one expression"));
            }
        };
        let (expr, ty) = binder.bind(expr)?.resolve(binder.params)?;
        exprs.push(expr);
        columns.push(ColumnInfo { name, ty });
    }
    Ok((exprs, columns))
}

/// The name that PostgreSQL gives a column without an alias.
pub(crate) fn output_name(expr: &ast::Expr) -> String {
    named(expr).map_or_else(|| "?column?".into(), |(name, _)| name)
}

/// A name, and whether it is only that of a type or a CASE, which a cast around it replaces.
fn named(expr: &ast::Expr) -> Option<(String, bool)> {
    use ast::Expr as E;
    let sure = |name: &str| Some((name.to_string(), false));
    match expr {
        E::Identifier(name) => Some((ident(name), false)),
        E::CompoundIdentifier(parts) => parts.last().map(|name| (ident(name), false)),
        E::Nested(inner) => named(inner),
        E::TypedString(typed) => Some((type_name(&typed.data_type), true)),
        E::Interval(_) => Some(("interval".into(), true)),
        E::Cast { expr, data_type, .. } => match named(expr) {
            Some((name, false)) => Some((name, false)),
            _ => Some((type_name(data_type), true)),
        },
        E::Function(function) => match function.name.0.last() {
            Some(ast::ObjectNamePart::Identifier(name)) => Some((ident(name), false)),
            _ => None,
        },
        E::Case { else_result, .. } => match else_result.as_deref().and_then(named) {
            Some((name, false)) => Some((name, false)),
            _ => Some(("case".into(), true)),
        },
        E::Array(_) => sure("array"),
        E::CompoundFieldAccess { root, .. } => named(root),
        E::Extract { .. } => sure("extract"),
        E::AtTimeZone { .. } => sure("timezone"),
        E::Overlay { .. } => sure("overlay"),
        E::Ceil { .. } => sure("ceil"),
        E::Floor { .. } => sure("floor"),
        E::Substring { shorthand: true, .. } => sure("substr"),
        E::Substring { .. } => sure("substring"),
        E::Position { .. } => sure("position"),
        E::Trim { trim_where: Some(ast::TrimWhereField::Leading), .. } => sure("ltrim"),
        E::Trim { trim_where: Some(ast::TrimWhereField::Trailing), .. } => sure("rtrim"),
        E::Trim { .. } => sure("btrim"),
        _ => None,
    }
}

/// What a cast to a type is called.
fn type_name(ty: &ast::DataType) -> String {
    match crate::expr::bind::type_of(ty) {
        Ok((DataType::Text, Some(TypeModifier::Varchar(_)))) => "varchar".into(),
        Ok((ty, _)) => ty.internal_name().into(),
        Err(_) => "?column?".into(),
    }
}
