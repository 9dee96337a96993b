//! From a table's descriptor to the one that ALTER TABLE wants: the steps between.
//!
//! # Problem
//!
//! Gateways go by catalogs of which the oldest is one step behind the newest (`catalog/index.rs` says why no more). So
//! wherever a change is not understood by both at once, it is cut into steps that are. Each step is a whole descriptor:
//! while a table is in steps nothing else may change it, so that they are known from the start, and so is the way back.
//! [`steps`] derives them from the two ends:
//!
//! ```text
//!   before --> A --wait--> B --wait--> (look at all rows) --> after
//!              |           |                  |
//!              |  CANCEL JOB, or a row is against it
//!              v           v                  v
//!   before <--wait------- A without what was to be looked at
//! ```
//!
//! B is left out if no column comes or goes; all but `after` if `before` and `after` understand each other. The statement
//! itself commits A, a job the rest. Any ALTER TABLE answers once nobody goes by what was before the last step.
//!
//! # Two gateways, one step apart
//!
//! *A new column.* An old gateway that rewrote a row would lose what a new one had put there. So the column is hidden
//! first (A): nobody sees or sets it, but who rewrites a row keeps what it has of it (`row.rs`). Old and A: there is
//! nothing yet that could be lost. A and B: who does not see the column keeps it; a row that it inserts does
//! not have it, and is read with the missing value, the same as all rows from before. So a DEFAULT needs no rewriting, and
//! NOT NULL beside a DEFAULT no look at the rows: no row is ever read with a NULL. NOT NULL without one does.
//!
//! *A column that goes.* The same way back. In A it may be NULL, so that in B, where it is hidden and rows are inserted
//! without it, those who still see it find nothing that must not be. In B who rewrites a row keeps its value for those
//! of A. After B nobody sees it: values that rows still have are skipped when they are read, and gone when they are
//! rewritten. Neither its id nor its name's place is used again, so what is left behind is never taken for another
//! column's: a new column of the same name has another id.
//!
//! *A check.* Kept by writers in A, so that after the wait no row against it is written; then all rows are looked
//! at, at one timestamp. Old and A: a row against it may be written by the old one; the look comes later. A check that
//! goes: an old gateway refuses for a moment what a new one takes, which was right before.
//!
//! *NOT NULL* is a check in A (kept) and a property of the column at the end (relied on, see `plan/access.rs`). On its way
//! out it is relied on no more in A, and still kept: nobody meets a NULL where it believes that there is none.
//!
//! *A wider type* has the same bytes (`retype.rs`), but an old gateway that met a number beyond its type would
//! take the row for damaged. In A all can read the wider type, and write what fits the old one.
//!
//! *Names, defaults, comments* are not in rows: two gateways that call a column by two names, or give it two defaults, do
//! no harm to each other. Texts that name it (checks, conditions of indexes) are rewritten with it, so that each gateway's catalog
//! agrees with itself. A table's old name leads to the same rows as its new one.
//!
//! *TRUNCATE* gives the table and its indexes new ids, and no two gateways may go by different ones: in A the table is
//! closed, statements wait, and after the wait nobody reads or writes under the old ids any more (`truncate.rs`).
//!
//! Plans, cached and prepared ones too, are of one version of the catalog, which each step raises; a transaction
//! block that has used a table before it changed can only commit as long as the catalog that it went by holds.

use std::collections::BTreeSet;

use crate::catalog::{Check, CheckKind, CheckState, Column, Table};
use crate::expr::Expr;
use crate::plan::check::bind_check;

/// The way from one descriptor to another.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    /// The first one is the statement's own, the last one what was wanted.
    pub(crate) forth: Vec<Table>,
    /// From any of them but the last, back to the beginning.
    pub(crate) back: Vec<Table>,
    /// The ids of the checks that all rows must be looked at for, before the last step.
    pub(crate) validate: Vec<u32>,
}

/// The columns of a CHECK, by their ids.
pub(crate) fn columns_of(table: &Table, text: &str) -> BTreeSet<u32> {
    let mut ids = BTreeSet::new();
    if let Ok(expr) = bind_check(table, text) {
        expr.walk(&mut |expr| {
            if let Expr::Column(at) = expr {
                ids.insert(table.columns[*at].id);
            }
        });
    }
    ids
}

/// The check that a column is not NULL.
fn not_null(after: &mut Table, column: &Column, state: CheckState) -> Check {
    let (id, name) = (after.next_number(), format!("{}_{}_not_null", after.name, column.name));
    Check { id, name, kind: CheckKind::NotNull(column.id), state }
}

/// Derives the steps. What is kept of both ends must not be contradicted by them: no dropped column is in use.
pub(crate) fn steps(before: &Table, mut after: Table) -> Steps {
    let old = |id: u32| before.columns.iter().find(|column| column.id == id);
    let new: Vec<Column> = after.columns.iter().filter(|column| old(column.id).is_none()).cloned().collect();
    let new_ids: BTreeSet<u32> = new.iter().map(|column| column.id).collect();
    let gone: Vec<Column> =
        before.columns.iter().filter(|column| after.column_by_id(column.id).is_none()).cloned().collect();

    // Checks on the way: those of A, those that come with the new columns, and those that must be looked at.
    let (mut on_the_way, mut with_new, mut validate) = (Vec::new(), Vec::new(), Vec::new());
    for check in &after.checks {
        let known = before.checks.iter().find(|known| known.id == check.id).map(|known| known.state);
        let looked_at = check.state != CheckState::Public || known == Some(CheckState::Public);
        let mut check = check.clone();
        if !looked_at {
            check.state = CheckState::Validating;
            validate.push(check.id);
        }
        let about_new = check.text().is_some_and(|text| !columns_of(&after, text).is_disjoint(&new_ids));
        if about_new { with_new.push(check) } else { on_the_way.push(check) }
    }
    let columns = after.columns.clone();
    for column in &columns {
        match old(column.id) {
            None if column.not_null && column.missing.is_none() => {
                let check = not_null(&mut after, column, CheckState::Validating);
                validate.push(check.id);
                with_new.push(check);
            }
            Some(old) if column.not_null && !old.not_null => {
                let check = not_null(&mut after, column, CheckState::Validating);
                validate.push(check.id);
                on_the_way.push(check);
            }
            Some(old) if !column.not_null && old.not_null => {
                let check = not_null(&mut after, column, CheckState::Leaving);
                on_the_way.push(check);
            }
            _ => {}
        }
        if let Some(old) = old(column.id).filter(|old| old.ty != column.ty) {
            let (id, name) = (after.next_number(), format!("{}_{}_type", after.name, column.name));
            let kind = CheckKind::Fits(column.id, old.ty);
            on_the_way.push(Check { id, name, kind, state: CheckState::Leaving });
        }
    }
    let settled = new.is_empty() && gone.is_empty() && validate.is_empty();
    if settled && on_the_way.iter().all(|check| check.state != CheckState::Leaving) {
        return Steps { forth: vec![after], ..Steps::default() };
    }

    // A column as it is in all steps but the last.
    let cautious = |column: &Column| {
        let sure = match old(column.id) {
            Some(old) => old.not_null,
            None => column.missing.is_some(),
        };
        Column { not_null: column.not_null && sure, ..column.clone() }
    };
    let kept = |column: &Column| after.column_by_id(column.id).map(|at| cautious(&after.columns[at]));
    let leaving = |column: &Column| Column { not_null: false, ..column.clone() };
    let mut a = Table { hidden: new.iter().map(cautious).collect(), checks: on_the_way.clone(), ..after.clone() };
    if !gone.is_empty() {
        // The one that goes is still where it was; a new one of its name comes only when it is hidden.
        a = widened(a, before);
    }
    let first = before.columns.iter().map(|column| kept(column).unwrap_or_else(|| leaving(column))).collect();
    a = a.with_columns(first);
    let mut forth = vec![a.clone()];
    if !new.is_empty() || !gone.is_empty() {
        let mut b = after.clone();
        b.columns = after.columns.iter().map(cautious).collect();
        b.hidden = gone.iter().map(leaving).collect();
        b.checks = on_the_way.into_iter().chain(with_new).collect();
        forth.push(b);
    }
    let back = match (validate.is_empty(), forth.len()) {
        (true, _) => Vec::new(),
        (false, 1) => vec![Table { numbers: after.numbers, ..before.clone() }],
        (false, _) => {
            let mut near = a;
            let was = |id: u32| before.checks.iter().find(|known| known.id == id).cloned();
            let undone = |check: Check| if validate.contains(&check.id) { was(check.id) } else { Some(check) };
            near.checks = near.checks.into_iter().filter_map(undone).collect();
            vec![near, Table { numbers: after.numbers, ..before.clone() }]
        }
    };
    forth.push(after);
    Steps { forth, back, validate }
}

/// With all the columns of both, so that [`Table::with_columns`] finds those that it is asked for.
fn widened(mut table: Table, before: &Table) -> Table {
    let missing = before.columns.iter().filter(|column| table.column_by_id(column.id).is_none());
    let missing: Vec<Column> = missing.cloned().collect();
    table.columns.extend(missing);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::KeyColumn;
    use crate::catalog::{Index, IndexColumn, IndexState, Missing};
    use crate::types::{DataType, Datum};

    /// t (gone INT NOT NULL, id INT PRIMARY KEY, a INT), with an index on a.
    fn table() -> Table {
        let column = |id, name: &str, not_null| Column { not_null, ..Column::new(id, name, DataType::Int4) };
        Table {
            id: 16,
            name: "t".into(),
            columns: vec![column(1, "gone", true), column(2, "id", true), column(3, "a", false)],
            key: vec![KeyColumn { column: 1, desc: false }],
            indexes: vec![Index {
                id: 17,
                name: "i".into(),
                unique: false,
                constraint: false,
                columns: vec![IndexColumn { column: 2, desc: false, nulls_first: false }],
                storing: vec![],
                predicate: None,
                state: IndexState::Public,
            }],
            ..Table::default()
        }
    }

    fn shape(table: &Table) -> String {
        let names = |columns: &[Column]| {
            let name = |c: &Column| format!("{}{}", c.name, if c.not_null { "!" } else { "" });
            columns.iter().map(name).collect::<Vec<_>>().join(" ")
        };
        let checks: Vec<String> = table.checks.iter().map(|c| format!("{} {}", c.name, c.state.name())).collect();
        format!("{} | {} | {}", names(&table.columns), names(&table.hidden), checks.join(", "))
    }

    #[test]
    fn columns_come_and_go_hidden() {
        let before = table();
        let mut after = before.with_columns(before.columns[1..].to_vec());
        let missing = Missing::new(Datum::Int(5));
        after.columns.push(Column { not_null: true, missing, ..Column::new(4, "gone", DataType::Int4) });
        let steps = steps(&before, after);
        let shapes: Vec<String> = steps.forth.iter().map(shape).collect();
        assert_eq!(shapes, ["gone id! a | gone! | ", "id! a gone! | gone | ", "id! a gone! |  | "]);
        assert!(steps.back.is_empty() && steps.validate.is_empty());
        for step in &steps.forth {
            assert_eq!(step.key_names(), "id");
            assert_eq!(step.indexes[0].column_names(step), "a");
            assert!(Table::from_bytes(&step.to_bytes()).unwrap() == *step);
        }
    }

    #[test]
    fn what_is_promised_is_kept_before_and_after() {
        let before = table();
        let mut after = before.clone();
        after.columns[2].not_null = true;
        let forth = steps(&before, after.clone());
        let shapes: Vec<String> = forth.forth.iter().map(shape).collect();
        assert_eq!(shapes, ["gone! id! a |  | t_a_not_null validating", "gone! id! a! |  | "]);
        assert_eq!(forth.back.iter().map(shape).collect::<Vec<_>>(), ["gone! id! a |  | "]);
        let away = steps(&after, before);
        let shapes: Vec<String> = away.forth.iter().map(shape).collect();
        assert_eq!(shapes, ["gone! id! a |  | t_a_not_null leaving", "gone! id! a |  | "]);
        assert!(away.back.is_empty());
    }

    #[test]
    fn a_wider_column_takes_what_is_narrow_first() {
        let before = table();
        let mut after = before.clone();
        after.columns[2].ty = DataType::Int;
        let forth = steps(&before, after);
        assert_eq!(forth.forth.len(), 2);
        assert_eq!(forth.forth[0].checks[0].kind, CheckKind::Fits(3, DataType::Int4));
        assert!(forth.forth[1].checks.is_empty());
    }

    #[test]
    fn a_name_needs_no_steps() {
        let before = table();
        let mut after = before.clone();
        after.columns[2].name = "b".into();
        after.columns[2].default = Some("7".into());
        let steps = steps(&before, after.clone());
        assert_eq!(steps.forth, [after]);
    }

    #[test]
    fn a_new_column_that_must_not_be_null_is_looked_at() {
        let before = table();
        let mut after = before.clone();
        after.columns.push(Column { not_null: true, ..Column::new(4, "b", DataType::Int4) });
        let text = CheckKind::Holds("b > 0".into());
        after.checks.push(Check { id: 5, name: "t_b_check".into(), kind: text, state: CheckState::Public });
        let steps = steps(&before, after);
        let shapes: Vec<String> = steps.forth.iter().map(shape).collect();
        assert_eq!(
            shapes,
            [
                "gone! id! a | b | ",
                "gone! id! a b |  | t_b_check validating, t_b_not_null validating",
                "gone! id! a b! |  | t_b_check public"
            ]
        );
        let back: Vec<String> = steps.back.iter().map(shape).collect();
        assert_eq!(back, ["gone! id! a | b | ", "gone! id! a |  | "]);
    }
}
