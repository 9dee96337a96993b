//! CREATE VIEW and DROP VIEW.
//!
//! A view is made by a transaction that locks the schema's version: if the catalog that its query was planned with
//! is not the one of that version, it is planned again. So a view never names a table that is gone, and no table
//! that a view reads is dropped without it. A gateway may go by an older catalog for a lease: it then reads by the
//! old query, of tables that are still there, at a timestamp within that lease. Whoever replaces or drops a
//! view waits for the lease before it answers.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{self, VisitMut, VisitorMut};
use txn::Mutation;

use super::table::Change;
use super::{ATTEMPTS_MAX, check_name, dependents, lock, set, stored_number};
use crate::SqlError;
use crate::catalog::{self, Catalog, FIRST_TABLE_ID, View, ViewColumn};
use crate::engine::{Engine, Transaction};
use crate::parse::{Statement, ident, object_name};
use crate::plan;
use crate::select::Queries;
use crate::short::Failure;

/// A CREATE VIEW.
#[derive(Debug)]
pub(crate) struct Described {
    name: String,
    or_replace: bool,
    if_not_exists: bool,
    columns: Vec<String>,
    query: ast::Query,
}

/// What a CREATE VIEW describes.
pub(crate) fn describe(create: &ast::CreateView) -> Result<Described, SqlError> {
    let ast::CreateView {
        or_alter: false,
        or_replace,
        materialized,
        secure: false,
        name,
        name_before_not_exists: _,
        columns,
        query,
        options,
        cluster_by,
        comment: None,
        with_no_schema_binding: false,
        if_not_exists,
        temporary: false,
        copy_grants: false,
        to: None,
        params: None,
    } = create
    else {
        return Err(SqlError::unsupported("a clause of this CREATE VIEW"));
    };
    if *materialized {
        return Err(SqlError::unsupported("MATERIALIZED VIEW").hint("A view is computed whenever it is read."));
    }
    if *options != ast::CreateTableOptions::None || !cluster_by.is_empty() {
        return Err(SqlError::unsupported("an option of this CREATE VIEW"));
    }
    let mut names: Vec<String> = Vec::with_capacity(columns.len());
    for column in columns {
        let ast::ViewColumnDef { name, data_type: None, options: None } = column else {
            return Err(SqlError::unsupported("a type or an option of a view's column"));
        };
        names.push(check_name(ident(name))?);
    }
    Ok(Described {
        name: check_name(object_name(name)?)?,
        or_replace: *or_replace,
        if_not_exists: *if_not_exists,
        columns: names,
        query: (**query).clone(),
    })
}

impl Described {
    /// The view, by a catalog; its id is 0.
    fn view(&self, catalog: &Catalog, queries: &Queries) -> Result<View, SqlError> {
        let mut query = self.query.clone();
        let mut fix = Fix { catalog, ctes: Vec::new(), relations: BTreeSet::new() };
        if let ControlFlow::Break(err) = query.visit(&mut fix) {
            return Err(err);
        }
        if fix.relations.contains(&self.name) {
            return Err(SqlError::new("42P17", format!("infinite recursion detected in view \"{}\"", self.name)));
        }
        let text = query.to_string();
        let mut view = View {
            id: 0,
            name: self.name.clone(),
            columns: Vec::new(),
            query: text,
            relations: fix.relations.into_iter().collect(),
        };
        // What is kept is the text: so what the text says is what is planned.
        let query = plan::view::query_of(&view)?;
        let statement = Statement::Select { query: Box::new(query), as_of: None };
        let planned = plan::plan(&statement, catalog, queries)?;
        if !planned.params.is_empty() {
            return Err(SqlError::new("42P02", "there is no parameter $1"));
        }
        if planned.plan.writes() {
            return Err(SqlError::unsupported("a locking clause in a view"));
        }
        if self.columns.len() > planned.columns.len() {
            return Err(SqlError::syntax("CREATE VIEW specifies more column names than columns"));
        }
        let mut seen = BTreeSet::new();
        for (index, column) in planned.columns.into_iter().enumerate() {
            let name = self.columns.get(index).cloned().unwrap_or(column.name);
            if !seen.insert(name.clone()) {
                return Err(SqlError::new("42701", format!("column \"{name}\" specified more than once")));
            }
            view.columns.push(ViewColumn { name, ty: column.ty });
        }
        Ok(view)
    }
}

/// 42P16 if a view that is there would lose a column, or change one.
fn check_replacement(old: &View, new: &View) -> Result<(), SqlError> {
    if new.columns.len() < old.columns.len() {
        return Err(SqlError::new("42P16", "cannot drop columns from view"));
    }
    for (old, new) in old.columns.iter().zip(&new.columns) {
        if old.name != new.name {
            let message = format!("cannot change name of view column \"{}\" to \"{}\"", old.name, new.name);
            return Err(SqlError::new("42P16", message));
        }
        if old.ty != new.ty {
            let (from, to) = (old.ty.name(), new.ty.name());
            let message = format!("cannot change data type of view column \"{}\" from {from} to {to}", old.name);
            return Err(SqlError::new("42P16", message));
        }
    }
    Ok(())
}

/// What came of one try.
enum Tried {
    Wrote,
    Nothing(Change),
    /// The catalog that it was planned with is not the present one.
    Stale,
}

/// CREATE VIEW, by a catalog; `None` if that is not the present one. Says whether it took another's place.
pub(crate) async fn create<E: Engine>(
    engine: &E,
    catalog: &Catalog,
    queries: &Queries,
    described: &Described,
) -> Result<Option<(Change, bool)>, SqlError> {
    let view = described.view(catalog, queries)?;
    let name = &described.name;
    let mut replaced = false;
    let mut priority = None;
    for attempt in 1.. {
        let mut txn = engine.begin(priority);
        priority = Some(txn.priority());
        let work = async {
            let keys = vec![
                catalog::version_key(),
                catalog::id_key(),
                catalog::table_key(name),
                catalog::index_key(name),
                catalog::view_key(name),
                catalog::sequence_key(name),
            ];
            let rows = lock(&mut txn, keys).await?;
            let version = stored_number(rows.first())?.unwrap_or(0);
            if version != catalog.version {
                return Ok::<_, Failure>(Tried::Stale);
            }
            if rows[2].is_some() || rows[3].is_some() || rows[5].is_some() {
                let what = if described.or_replace { "is not a view" } else { "already exists" };
                let code = if described.or_replace { "42809" } else { "42P07" };
                let relation =
                    if described.or_replace { format!("\"{name}\"") } else { format!("relation \"{name}\"") };
                return Err(SqlError::new(code, format!("{relation} {what}")).into());
            }
            let mut view = view.clone();
            let next = stored_number(rows.get(1))?.unwrap_or(u64::from(FIRST_TABLE_ID));
            let mut writes = vec![set(catalog::version_key(), (version + 1).to_string())];
            match &rows[4] {
                Some(_) if !described.or_replace => {
                    let message = format!("relation \"{name}\" already exists");
                    if described.if_not_exists {
                        let nothing = Change::Nothing("42P07", format!("{message}, skipping"));
                        return Ok(Tried::Nothing(nothing));
                    }
                    return Err(SqlError::new("42P07", message).into());
                }
                Some(old) => {
                    let old = View::from_bytes(old)?;
                    check_replacement(&old, &view)?;
                    view.id = old.id;
                    replaced = true;
                }
                None => {
                    let ids = || SqlError::new("54000", "all table ids are used up");
                    view.id = u32::try_from(next).map_err(|_| ids())?;
                    writes.push(set(catalog::id_key(), (next + 1).to_string()));
                }
            }
            writes.push(set(catalog::view_key(name), view.to_bytes()));
            txn.write(writes)?;
            Ok(Tried::Wrote)
        };
        match work.await {
            Ok(Tried::Wrote) => match txn.commit(None).await {
                Ok(info) => return Ok(Some((Change::Done(info, Vec::new()), replaced))),
                Err(txn::client::ClientError::Aborted { retryable: true, .. }) if attempt < ATTEMPTS_MAX => {}
                Err(err) => return Err(err.into()),
            },
            Ok(other) => {
                txn.rollback().await;
                return Ok(match other {
                    Tried::Nothing(change) => Some((change, false)),
                    _ => None,
                });
            }
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

/// DROP VIEW. Does not wait for other gateways.
pub(crate) async fn drop<E: Engine>(
    engine: &E,
    names: &[String],
    if_exists: bool,
    cascade: bool,
) -> Result<Change, SqlError> {
    let mut priority = None;
    for attempt in 1.. {
        let mut txn = engine.begin(priority);
        priority = Some(txn.priority());
        let work = async {
            let mut keys = vec![catalog::version_key()];
            keys.extend(names.iter().map(|name| catalog::view_key(name)));
            keys.extend(names.iter().map(|name| catalog::table_key(name)));
            let rows = lock(&mut txn, keys).await?;
            let version = stored_number(rows.first())?.unwrap_or(0);
            let mut writes = Vec::new();
            for (index, name) in names.iter().enumerate() {
                if rows[1 + index].is_some() {
                    writes.push(Mutation { key: catalog::view_key(name), value: None });
                } else if rows[1 + names.len() + index].is_some() {
                    return Err(SqlError::new("42809", format!("\"{name}\" is not a view"))
                        .hint("Use DROP TABLE to remove a table.")
                        .into());
                } else if !if_exists {
                    return Err(SqlError::new("42P01", format!("view \"{name}\" does not exist")).into());
                }
            }
            if writes.is_empty() {
                return Ok::<_, Failure>(None);
            }
            let more = dependents::must_go(&mut txn, "view", names, cascade).await?;
            writes.extend(more.iter().map(|name| Mutation { key: catalog::view_key(name), value: None }));
            writes.push(set(catalog::version_key(), (version + 1).to_string()));
            txn.write(writes)?;
            Ok(Some(more))
        };
        match work.await {
            Ok(Some(more)) => match txn.commit(None).await {
                Ok(info) => {
                    let said = more.into_iter().map(|view| format!("drop cascades to view {view}"));
                    return Ok(Change::Done(info, said.collect()));
                }
                Err(txn::client::ClientError::Aborted { retryable: true, .. }) if attempt < ATTEMPTS_MAX => {}
                Err(err) => return Err(err.into()),
            },
            Ok(None) => {
                txn.rollback().await;
                let message = format!("view \"{}\" does not exist, skipping", names.join(", "));
                return Ok(Change::Nothing("00000", message));
            }
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

/// Writes a view's query so that it keeps its meaning: tables with their schema, `*` as columns where these are known.
struct Fix<'a> {
    catalog: &'a Catalog,
    ctes: Vec<Vec<String>>,
    relations: BTreeSet<String>,
}

impl Fix<'_> {
    fn is_cte(&self, name: &ast::ObjectName) -> bool {
        match name.0.as_slice() {
            [ast::ObjectNamePart::Identifier(name)] => {
                let name = ident(name);
                self.ctes.iter().flatten().any(|cte| *cte == name)
            }
            _ => false,
        }
    }

    /// The columns of a table or view in FROM, and the name that it goes by.
    fn columns(&self, factor: &ast::TableFactor) -> Option<(String, Vec<String>)> {
        let ast::TableFactor::Table { name, alias, .. } = factor else { return None };
        if self.is_cte(name) {
            return None;
        }
        let plain = object_name(name).ok()?;
        let columns: Vec<String> = match (self.catalog.table(&plain), self.catalog.views.get(&plain)) {
            (Some(table), _) => table.visible_columns().map(|(_, column)| column.name.clone()).collect(),
            (None, Some(view)) => view.columns.iter().map(|column| column.name.clone()).collect(),
            (None, None) => return None,
        };
        match alias {
            None => Some((plain, columns)),
            Some(alias) if alias.columns.is_empty() => Some((ident(&alias.name), columns)),
            Some(_) => None,
        }
    }

    /// `*` and `t.*` as columns, unless something in FROM hides what they are.
    fn wildcards(&self, select: &mut ast::Select) {
        let merges = |join: &ast::Join| {
            use ast::JoinOperator as J;
            match &join.join_operator {
                J::Join(on)
                | J::Inner(on)
                | J::Left(on)
                | J::LeftOuter(on)
                | J::Right(on)
                | J::RightOuter(on)
                | J::FullOuter(on) => !matches!(on, ast::JoinConstraint::On(_)),
                J::CrossJoin(_) => false,
                _ => true,
            }
        };
        if select.from.iter().flat_map(|from| &from.joins).any(merges) {
            return;
        }
        let factors = select
            .from
            .iter()
            .flat_map(|from| std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)));
        let Some(known) = factors.map(|factor| self.columns(factor)).collect::<Option<Vec<_>>>() else { return };
        let items = std::mem::take(&mut select.projection);
        for item in items {
            let wanted = match &item {
                ast::SelectItem::Wildcard(options) if plain(options) && !known.is_empty() => None,
                ast::SelectItem::QualifiedWildcard(ast::SelectItemQualifiedWildcardKind::ObjectName(name), options)
                    if plain(options) =>
                {
                    match object_name(name) {
                        Ok(name) if known.iter().any(|(table, _)| *table == name) => Some(name),
                        _ => {
                            select.projection.push(item);
                            continue;
                        }
                    }
                }
                _ => {
                    select.projection.push(item);
                    continue;
                }
            };
            for (table, columns) in known.iter().filter(|(table, _)| wanted.as_ref().is_none_or(|name| name == table)) {
                select.projection.extend(columns.iter().map(|column| {
                    let parts = [table, column].map(|part| ast::Ident::with_quote('"', part));
                    ast::SelectItem::UnnamedExpr(ast::Expr::CompoundIdentifier(parts.to_vec()))
                }));
            }
        }
    }
}

fn plain(options: &ast::WildcardAdditionalOptions) -> bool {
    *options == ast::WildcardAdditionalOptions::default()
}

impl VisitorMut for Fix<'_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<SqlError> {
        let with = query.with.iter().flat_map(|with| &with.cte_tables);
        self.ctes.push(with.map(|cte| ident(&cte.alias.name)).collect());
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<SqlError> {
        self.ctes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<SqlError> {
        self.wildcards(select);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<SqlError> {
        let ast::TableFactor::Table { name, args: None, .. } = factor else { return ControlFlow::Continue(()) };
        if self.is_cte(name) {
            return ControlFlow::Continue(());
        }
        if let [ast::ObjectNamePart::Identifier(only)] = name.0.as_slice() {
            let only = ident(only);
            if self.catalog.table(&only).is_some() || self.catalog.views.contains_key(&only) {
                let parts = vec![ast::Ident::with_quote('"', "public"), ast::Ident::with_quote('"', &only)];
                *name = ast::ObjectName::from(parts);
            }
        }
        if let Ok(relation) = object_name(name) {
            self.relations.insert(relation);
        }
        ControlFlow::Continue(())
    }
}
