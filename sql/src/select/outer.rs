//! `customer.id` in a subquery that reads a table with a column `customer`.
//!
//! In PostgreSQL the name before the point is that of a table in FROM, of the subquery or of a query
//! around it. DataFusion takes it for the column, and what is behind the point for a field of it. No
//! column has fields here, so that reading is always wrong: the name is that of an outer table.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, FieldRef};
use datafusion::common::{Column, TableReference};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult};
use sqlparser::ast::{self, Visit, Visitor};

use super::types;
use crate::catalog::{Catalog, Table};
use crate::parse::{ident, object_name};

/// The names in FROM anywhere in a query, with their tables.
#[derive(Debug)]
pub(super) struct OuterNames {
    /// None for a name that is not of one table of the catalog.
    tables: BTreeMap<String, Option<Arc<Table>>>,
}

struct Walk<'a> {
    catalog: &'a Catalog,
    tables: BTreeMap<String, Option<Arc<Table>>>,
}

impl Walk<'_> {
    fn add(&mut self, alias: String, table: Option<Arc<Table>>) {
        let known = self.tables.entry(alias).or_insert_with(|| table.clone());
        if known.as_ref().map(|known| known.id) != table.map(|table| table.id) {
            *known = None;
        }
    }
}

impl Visitor for Walk<'_> {
    type Break = Infallible;

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<Infallible> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.add(ident(&cte.alias.name), None);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &ast::TableFactor) -> ControlFlow<Infallible> {
        match factor {
            ast::TableFactor::Table { name, alias, args: None, .. } => {
                if let Ok(name) = object_name(name) {
                    let renamed = alias.as_ref().is_some_and(|alias| !alias.columns.is_empty());
                    let table = self.catalog.table(&name).filter(|_| !renamed).cloned();
                    self.add(alias.as_ref().map_or(name, |alias| ident(&alias.name)), table);
                }
            }
            ast::TableFactor::Table { alias: Some(alias), .. }
            | ast::TableFactor::Derived { alias: Some(alias), .. }
            | ast::TableFactor::NestedJoin { alias: Some(alias), .. }
            | ast::TableFactor::Function { alias: Some(alias), .. }
            | ast::TableFactor::UNNEST { alias: Some(alias), .. } => self.add(ident(&alias.name), None),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl OuterNames {
    pub(super) fn of(query: &ast::Query, catalog: &Catalog) -> OuterNames {
        let mut walk = Walk { catalog, tables: BTreeMap::new() };
        let ControlFlow::Continue(()) = query.visit(&mut walk);
        OuterNames { tables: walk.tables }
    }

    /// A column of a table that is read around the subquery.
    fn column(&self, table: &str, column: &str) -> Option<(FieldRef, Column)> {
        let found = self.tables.get(table)?.as_ref()?;
        let column = found.columns.iter().find(|known| known.name == column)?;
        let field = Arc::new(types::field(column, true));
        Some((field, Column::new(Some(TableReference::bare(table)), column.name.clone())))
    }
}

impl ExprPlanner for OuterNames {
    fn plan_compound_identifier(
        &self,
        field: &Field,
        _: Option<&TableReference>,
        nested: &[String],
    ) -> Result<PlannerResult<Vec<Expr>>, DataFusionError> {
        let [name] = nested else { return Ok(PlannerResult::Original(Vec::new())) };
        Ok(PlannerResult::Planned(match self.column(field.name(), name) {
            Some((field, column)) => Expr::OuterReferenceColumn(field, column),
            // Names nothing, and is reported so.
            None => Expr::Column(Column::new(Some(TableReference::bare(field.name().as_str())), name)),
        }))
    }
}
