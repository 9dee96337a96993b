//! Views in a statement: each is put in the place of its name, as a subquery.
//!
//! A name means a view unless a CTE in whose scope it stands has it. What a view's own text names is never a
//! CTE of the statement around it: its tables are written with their schema.

use std::ops::ControlFlow;
use std::sync::Arc;

use sqlparser::ast::{self, VisitMut, VisitorMut};

use crate::SqlError;
use crate::catalog::{Catalog, View};
use crate::parse::{self, Statement, ident, object_name};

/// Views within views, at most.
const DEPTH_MAX: usize = 32;
/// Views in one statement, at most, those within others too.
const VIEWS_MAX: usize = 1000;

/// The statement without views, or `None` if it has none. 55000 if it writes to one.
pub(super) fn expand(statement: &Statement, catalog: &Catalog) -> Result<Option<Statement>, SqlError> {
    if catalog.views.is_empty() {
        return Ok(None);
    }
    refuse_target(statement, catalog)?;
    let mut count = 0;
    let mut walk = Expand { catalog, ctes: Vec::new(), depth: 0, count: &mut count };
    let mut expanded = statement.clone();
    let result = match &mut expanded {
        Statement::Select { query, .. } => query.visit(&mut walk),
        Statement::Insert { insert, .. } => insert.visit(&mut walk),
        Statement::Update(update) => update.visit(&mut walk),
        Statement::Delete(delete) => delete.visit(&mut walk),
        other => panic!("planned {other:?}"),
    };
    match result {
        ControlFlow::Break(err) => Err(err),
        ControlFlow::Continue(()) => Ok((count > 0).then_some(expanded)),
    }
}

/// The query of a view, parsed.
pub(crate) fn query_of(view: &View) -> Result<ast::Query, SqlError> {
    match parse::parse(&view.query)?.pop() {
        Some(Statement::Select { query, as_of: None }) => Ok(*query),
        _ => Err(SqlError::new("XX001", format!("the query of view \"{}\" is damaged", view.name))),
    }
}

fn refuse_target(statement: &Statement, catalog: &Catalog) -> Result<(), SqlError> {
    let of_table = |from: &ast::TableWithJoins| match &from.relation {
        ast::TableFactor::Table { name, .. } => object_name(name).ok(),
        _ => None,
    };
    let (verb, name) = match statement {
        Statement::Insert { insert, .. } => match &insert.table {
            ast::TableObject::TableName(name) => ("insert into", object_name(name).ok()),
            _ => return Ok(()),
        },
        Statement::Update(update) => ("update", of_table(&update.table)),
        Statement::Delete(delete) => {
            let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = &delete.from;
            ("delete from", from.first().and_then(of_table))
        }
        _ => return Ok(()),
    };
    match name.and_then(|name| catalog.views.get(&name)) {
        Some(view) => Err(SqlError::new("55000", format!("cannot {verb} view \"{}\"", view.name))
            .detail("Views are not updatable.")
            .hint("Write to the tables that the view reads.")),
        None => Ok(()),
    }
}

struct Expand<'a> {
    catalog: &'a Catalog,
    /// The names of the CTEs in scope, by query.
    ctes: Vec<Vec<String>>,
    depth: usize,
    count: &'a mut usize,
}

impl Expand<'_> {
    /// The view that a name in FROM means.
    fn view(&self, name: &ast::ObjectName) -> Option<Arc<View>> {
        let plain = object_name(name).ok()?;
        let bare = name.0.len() == 1;
        if bare && self.ctes.iter().flatten().any(|cte| *cte == plain) {
            return None;
        }
        self.catalog.views.get(&plain).cloned()
    }

    fn subquery(&mut self, view: &View) -> Result<ast::Query, SqlError> {
        *self.count += 1;
        if self.depth >= DEPTH_MAX || *self.count > VIEWS_MAX {
            return Err(SqlError::new("54001", "statement too complex")
                .detail(format!("It has more than {VIEWS_MAX} views, or views in {DEPTH_MAX} levels.")));
        }
        let mut query = query_of(view)?;
        let mut inner =
            Expand { catalog: self.catalog, ctes: Vec::new(), depth: self.depth + 1, count: &mut *self.count };
        match query.visit(&mut inner) {
            ControlFlow::Break(err) => Err(err),
            ControlFlow::Continue(()) => Ok(query),
        }
    }

    fn factor(&mut self, factor: &mut ast::TableFactor) -> Result<(), SqlError> {
        let ast::TableFactor::Table { name, alias, version, sample, args, .. } = factor else { return Ok(()) };
        let Some(view) = self.view(name) else { return Ok(()) };
        if version.is_some() {
            return Err(SqlError::unsupported("FOR SYSTEM_TIME").hint("Use AS OF SYSTEM TIME after the query."));
        }
        if sample.is_some() || args.is_some() {
            return Err(SqlError::unsupported("TABLESAMPLE or arguments of a view"));
        }
        let given = alias.take();
        let mut alias = ast::TableAlias {
            explicit: true,
            name: ast::Ident::with_quote('"', &view.name),
            columns: view.columns.iter().map(|column| alias_column(&column.name)).collect(),
            at: None,
        };
        if let Some(given) = given {
            if given.columns.len() > alias.columns.len() {
                let (has, wants) = (alias.columns.len(), given.columns.len());
                let message =
                    format!("table \"{}\" has {has} columns available but {wants} columns specified", given.name);
                return Err(SqlError::new("42P10", message));
            }
            alias.name = given.name;
            for (column, given) in alias.columns.iter_mut().zip(given.columns) {
                *column = given;
            }
        }
        let subquery = Box::new(self.subquery(&view)?);
        *factor = ast::TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None };
        Ok(())
    }
}

fn alias_column(name: &str) -> ast::TableAliasColumnDef {
    ast::TableAliasColumnDef { name: ast::Ident::with_quote('"', name), data_type: None }
}

fn flow(result: Result<(), SqlError>) -> ControlFlow<SqlError> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(err) => ControlFlow::Break(err),
    }
}

impl VisitorMut for Expand<'_> {
    type Break = SqlError;

    /// Without RECURSIVE, a CTE sees those before it and not itself: so they are expanded one by one here, and what
    /// the walk finds in them later is no view any more.
    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<SqlError> {
        self.ctes.push(Vec::new());
        let Some(with) = &mut query.with else { return ControlFlow::Continue(()) };
        let names: Vec<String> = with.cte_tables.iter().map(|cte| ident(&cte.alias.name)).collect();
        if with.recursive {
            self.ctes.pop();
            self.ctes.push(names);
            return ControlFlow::Continue(());
        }
        for (cte, name) in with.cte_tables.iter_mut().zip(names) {
            cte.query.visit(self)?;
            self.ctes.last_mut().expect("pushed above").push(name);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut ast::Query) -> ControlFlow<SqlError> {
        self.ctes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> ControlFlow<SqlError> {
        flow(self.factor(factor))
    }
}
