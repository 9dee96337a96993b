//! The views that read a table or a view, and what becomes of them when it goes or changes.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::ControlFlow;

use sqlparser::ast::{self, VisitMut, Visitor, VisitorMut};
use txn::{LockMode, Mutation, ReadOp};

use super::set;
use crate::SqlError;
use crate::catalog::{self, Column, Table, View};
use crate::engine::Transaction;
use crate::parse::names::words;
use crate::parse::object_name;
use crate::plan;
use crate::short::Failure;
use crate::sink::Notice;

/// All views, read with locks.
async fn views<T: Transaction>(txn: &mut T) -> Result<BTreeMap<String, View>, Failure> {
    let mut views = BTreeMap::new();
    let mut span = catalog::view_span();
    loop {
        let op = ReadOp { span: span.clone(), reverse: false, limit: 0 };
        let result = txn.read(vec![op], LockMode::Exclusive).await?.into_iter().next().unwrap_or_default();
        for row in &result.rows {
            let view = View::from_bytes(&row.value)?;
            views.insert(view.name.clone(), view);
        }
        match result.resume {
            Some(rest) if rest != span => span = rest,
            _ => return Ok(views),
        }
    }
}

/// The views that read one of these relations, themselves or by another view, each with what says so.
fn above(views: &BTreeMap<String, View>, kind: &str, mut gone: BTreeSet<String>) -> (Vec<String>, Vec<String>) {
    let mut found = Vec::new();
    let mut why = Vec::new();
    loop {
        let next: Vec<(&View, String)> = views
            .values()
            .filter(|view| !gone.contains(&view.name))
            .filter_map(|view| Some((view, view.relations.iter().find(|name| gone.contains(*name))?.clone())))
            .collect();
        if next.is_empty() {
            return (found, why);
        }
        for (view, of) in next {
            let of_kind = if views.contains_key(&of) { "view" } else { kind };
            why.push(format!("view {} depends on {of_kind} {of}", view.name));
            gone.insert(view.name.clone());
            found.push(view.name.clone());
        }
    }
}

/// The views that must go with these relations. 2BP01 if there are some and nobody said CASCADE. `kind` is what the
/// relations are called.
pub(super) async fn must_go<T: Transaction>(
    txn: &mut T,
    kind: &str,
    names: &[String],
    cascade: bool,
) -> Result<Vec<String>, Failure> {
    let views = views(txn).await?;
    let (found, why) = above(&views, kind, names.iter().cloned().collect());
    if !found.is_empty() && !cascade {
        let message = match names {
            [name] => format!("cannot drop {kind} {name} because other objects depend on it"),
            _ => "cannot drop desired object(s) because other objects depend on them".to_string(),
        };
        return Err(SqlError::new("2BP01", message)
            .detail(why.join("\n"))
            .hint("Use DROP ... CASCADE to drop the dependent objects too.")
            .into());
    }
    Ok(found)
}

/// What is written of views when a table is altered. A view follows its table's new name. Whatever else changes a column
/// that a view may use is refused, but that DROP COLUMN .. CASCADE drops the view.
pub(super) async fn follow<T: Transaction>(
    txn: &mut T,
    before: &Table,
    after: &Table,
    cascade: bool,
    notices: &mut Vec<Notice>,
) -> Result<Vec<Mutation>, Failure> {
    let touched: Vec<(&Column, Option<&Column>)> = before
        .columns
        .iter()
        .map(|column| (column, after.column_by_id(column.id).map(|at| &after.columns[at])))
        .filter(|(old, new)| {
            new.is_none_or(|new| (&new.name, new.ty, new.modifier) != (&old.name, old.ty, old.modifier))
        })
        .collect();
    if touched.is_empty() && before.name == after.name {
        return Ok(Vec::new());
    }
    let views = views(txn).await?;
    let users: Vec<&View> = views.values().filter(|view| view.relations.contains(&before.name)).collect();
    let mut dropped: BTreeSet<String> = BTreeSet::new();
    for (old, new) in touched {
        for view in &users {
            if !may_name(view, &old.name)? {
                continue;
            }
            let (column, table, view) = (&old.name, &before.name, &view.name);
            let why = format!("view {view} depends on column {column} of table {table}");
            let err = match new {
                None if cascade => {
                    dropped.insert(view.clone());
                    continue;
                }
                None => {
                    let message =
                        format!("cannot drop column {column} of table {table} because other objects depend on it");
                    SqlError::new("2BP01", message).hint("Use DROP ... CASCADE to drop the dependent objects too.")
                }
                Some(new) if new.name != old.name => SqlError::unsupported("renaming a column that a view uses")
                    .hint("Drop the view, and create it again with the new name."),
                Some(_) => SqlError::new("0A000", "cannot alter type of a column used by a view or rule"),
            };
            return Err(err.detail(why).into());
        }
    }
    let (more, _) = above(&views, "table", dropped.clone());
    dropped.extend(more);
    let mut writes = Vec::new();
    for name in &dropped {
        notices.push(Notice::info("00000", format!("drop cascades to view {name}")));
        writes.push(Mutation { key: catalog::view_key(name), value: None });
    }
    if before.name != after.name {
        for view in users.into_iter().filter(|view| !dropped.contains(&view.name)) {
            let view = with_table_called(view, &before.name, &after.name)?;
            writes.push(set(catalog::view_key(&view.name), view.to_bytes()));
        }
    }
    Ok(writes)
}

/// Whether the query of a view has a word like the name of a column, or a `*` that stands for columns.
fn may_name(view: &View, column: &str) -> Result<bool, SqlError> {
    struct Stars;
    impl Visitor for Stars {
        type Break = ();

        fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<()> {
            let star = |item: &ast::SelectItem| {
                matches!(item, ast::SelectItem::Wildcard(_) | ast::SelectItem::QualifiedWildcard(..))
            };
            if select.projection.iter().any(star) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    let named = words(&view.query)?.iter().any(|word| word.name == column);
    Ok(named || ast::Visit::visit(&plan::view::query_of(view)?, &mut Stars).is_break())
}

/// The view once a table of it is called otherwise: within its query the table goes by its old name.
fn with_table_called(view: &View, old: &str, new: &str) -> Result<View, SqlError> {
    struct Rename<'a> {
        old: &'a str,
        new: &'a str,
    }
    impl VisitorMut for Rename<'_> {
        type Break = Infallible;

        fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<Infallible> {
            let ast::TableFactor::Table { name, alias, args: None, .. } = factor else {
                return ControlFlow::Continue(());
            };
            // A CTE of the old name has no schema before it.
            if name.0.len() == 2 && object_name(name).is_ok_and(|name| name == self.old) {
                let parts = ["public", self.new].map(|part| ast::Ident::with_quote('"', part));
                *name = ast::ObjectName::from(parts.to_vec());
                alias.get_or_insert_with(|| ast::TableAlias {
                    explicit: true,
                    name: ast::Ident::with_quote('"', self.old),
                    columns: Vec::new(),
                    at: None,
                });
            }
            ControlFlow::Continue(())
        }
    }
    let mut query = plan::view::query_of(view)?;
    let ControlFlow::Continue(()) = query.visit(&mut Rename { old, new });
    let relations = view.relations.iter().map(|name| if name == old { new.to_string() } else { name.clone() });
    Ok(View { query: query.to_string(), relations: relations.collect(), ..view.clone() })
}
