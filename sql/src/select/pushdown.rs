//! Which conditions of a plan a scan settles by its choice of keys.

use std::sync::Arc;

use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr as PlanExpr, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr as PhysicalBinary, Column as PhysicalColumn, InListExpr, Literal,
};

use super::types;
use crate::catalog::Table;
use crate::expr::{CompareOp, Expr};

/// A condition as the short path's expression, if it only compares columns with constants.
pub(super) fn condition(table: &Table, expr: &PlanExpr) -> Option<Expr> {
    match expr {
        PlanExpr::Alias(alias) => condition(table, &alias.expr),
        PlanExpr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => either(table, left, right),
        PlanExpr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let op = compare_op(*op)?;
            if let (Some(column), Some(value)) = (column(table, left), constant(table, left, right)) {
                return Some(Expr::Compare(op, Box::new(column), Box::new(value)));
            }
            let (column, value) = (column(table, right)?, constant(table, right, left)?);
            Some(Expr::Compare(op.flipped(), Box::new(column), Box::new(value)))
        }
        PlanExpr::InList(InList { expr, list, negated: false }) => {
            let values = list.iter().map(|item| constant(table, expr, item)).collect::<Option<_>>()?;
            Some(Expr::In(Box::new(column(table, expr)?), values))
        }
        _ => None,
    }
}

/// `a = 1 OR a = 2`, as the optimiser writes a short IN, is an IN again.
fn either(table: &Table, left: &PlanExpr, right: &PlanExpr) -> Option<Expr> {
    let mut values = Vec::new();
    let mut of = None;
    for side in [left, right] {
        let (column, mut more) = match condition(table, side)? {
            Expr::Compare(CompareOp::Eq, column, value) => (*column, vec![*value]),
            Expr::In(column, list) => (*column, list),
            _ => return None,
        };
        if *of.get_or_insert_with(|| column.clone()) != column {
            return None;
        }
        values.append(&mut more);
    }
    Some(Expr::In(Box::new(of?), values))
}

fn compare_op(op: Operator) -> Option<CompareOp> {
    Some(match op {
        Operator::Eq => CompareOp::Eq,
        Operator::NotEq => CompareOp::Ne,
        Operator::Lt => CompareOp::Lt,
        Operator::LtEq => CompareOp::Le,
        Operator::Gt => CompareOp::Gt,
        Operator::GtEq => CompareOp::Ge,
        _ => return None,
    })
}

fn column(table: &Table, expr: &PlanExpr) -> Option<Expr> {
    match expr {
        PlanExpr::Column(column) => table.column_index(&column.name).map(Expr::Column),
        _ => None,
    }
}

/// A constant of the column's type.
fn constant(table: &Table, column_expr: &PlanExpr, value: &PlanExpr) -> Option<Expr> {
    let Some(Expr::Column(index)) = column(table, column_expr) else { return None };
    let PlanExpr::Literal(scalar, _) = value else { return None };
    types::datum_of(scalar, &table.columns[index]).map(Expr::Const)
}

/// What a join learned of its other side while the plan ran: those parts of the condition that compare
/// columns of the scan with constants. The join checks all of it again itself.
pub(super) fn learned(table: &Table, columns: &[usize], expr: &Arc<dyn PhysicalExpr>, found: &mut Vec<Expr>) {
    if let Some(binary) = expr.downcast_ref::<PhysicalBinary>() {
        if *binary.op() == Operator::And {
            learned(table, columns, binary.left(), found);
            learned(table, columns, binary.right(), found);
            return;
        }
        let both = scanned(columns, binary.left()).zip(compare_op(*binary.op()));
        if let Some((column, op)) = both
            && let Some(value) = fixed(table, column, binary.right())
        {
            found.push(Expr::Compare(op, Box::new(Expr::Column(column)), Box::new(value)));
        }
    } else if let Some(list) = expr.downcast_ref::<InListExpr>()
        && !list.negated()
        && let Some(column) = scanned(columns, list.expr())
        && let Some(values) = list.list().iter().map(|item| fixed(table, column, item)).collect()
    {
        found.push(Expr::In(Box::new(Expr::Column(column)), values));
    }
}

/// The table's column that a column of the scan is.
fn scanned(columns: &[usize], expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    columns.get(expr.downcast_ref::<PhysicalColumn>()?.index()).copied()
}

fn fixed(table: &Table, column: usize, expr: &Arc<dyn PhysicalExpr>) -> Option<Expr> {
    types::datum_of(expr.downcast_ref::<Literal>()?.value(), &table.columns[column]).map(Expr::Const)
}
