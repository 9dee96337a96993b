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
//! B is left out if no column comes or goes, or if it is `after`; all but `after` if `before` and `after` understand each other. The statement
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
//! *A column that goes.* The same way back. In A nobody relies on its being not NULL any more, though that is still kept: so
//! that in B, where it is hidden and rows are inserted without it, those who still see it find nothing that must not be. In B who rewrites a row keeps its value for those
//! of A. After B nobody sees it: values that rows still have are skipped when they are read, and gone when they are
//! rewritten. Neither its id nor its name's place is used again, so what is left behind is never taken for another
//! column's: a new column of the same name has another id.
//!
//! *A check.* Kept by writers in A, so that after the wait no row against it is written; then all rows are looked
//! at, at one timestamp. Old and A: a row against it may be written by the old one; the look comes later. A check that
//! goes: an old gateway refuses for a moment what a new one takes, which was right before.
//!
//! *A foreign key* is as a check that needs two tables: kept by the writers of both in A, then looked at. One that goes
//! is kept until the end, so that the way back finds it kept. See `catalog/foreign.rs`.
//!
//! *NOT NULL* is a check in A (kept) and a property of the column at the end (relied on, see `plan/access.rs`). On its way
//! out it is relied on no more in A, and still kept: nobody meets a NULL where it believes that there is none.
//!
//! What is still kept on its way out is not asked of a value that an UPDATE leaves as it is: somebody a step ahead may have
//! put it there.
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

use super::parents::more;
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
    /// The names of the foreign keys that they must be looked at for.
    pub(crate) keys: Vec<String>,
    /// There is no way back, though there should be: rows that were inserted without a column that goes lack it.
    pub(crate) one_way: bool,
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

    // Foreign keys on the way: those that come, and are kept from A on; and behind them those that go, kept to the end.
    let mut foreign = after.foreign.clone();
    let mut keys = Vec::new();
    for (key, wanted) in foreign.keys.iter_mut().zip(&mut after.foreign.keys) {
        if key.state == CheckState::Validating {
            keys.push(key.name.clone());
            wanted.state = CheckState::Public;
            // It is not taken back, whatever the rows are: what it does it goes on doing.
            if before.foreign.keys.iter().any(|known| known.state == CheckState::NotValid && known.is_same(key)) {
                key.state = CheckState::NotValid;
            }
        }
    }
    foreign.keys.extend(more(before, &after).cloned());

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
    // Those who still see a column that goes, and believe that it has no NULL, are right until it is hidden.
    let sure = gone.iter().filter(|column| column.not_null);
    let still: Vec<Check> = sure.map(|column| not_null(&mut after, column, CheckState::Leaving)).collect();
    let settled = new.is_empty() && gone.is_empty() && validate.is_empty() && keys.is_empty();
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
    let mut a = Table {
        hidden: new.iter().map(cautious).collect(),
        checks: on_the_way.clone(),
        foreign: foreign.clone(),
        ..after.clone()
    };
    if !gone.is_empty() {
        // The one that goes is still where it was; a new one of its name comes only when it is hidden.
        a = widened(a, before);
    }
    let first = before.columns.iter().map(|column| kept(column).unwrap_or_else(|| leaving(column))).collect();
    a = a.with_columns(first);
    a.checks.extend(still);
    let mut forth = vec![a.clone()];
    if !new.is_empty() || !gone.is_empty() {
        let mut b = after.clone();
        b.columns = after.columns.iter().map(cautious).collect();
        b.hidden = gone.iter().map(leaving).collect();
        b.checks = on_the_way.into_iter().chain(with_new).collect();
        b.foreign = foreign;
        // What only comes, and need not be looked at, has come.
        if b != after {
            forth.push(b);
        }
    }
    let looks = !validate.is_empty() || !keys.is_empty();
    let back = match (!looks, new.len() + gone.len()) {
        (true, _) => Vec::new(),
        (false, 0) => vec![Table { numbers: after.numbers, ..before.clone() }],
        (false, _) => {
            let mut near = a;
            let was = |id: u32| before.checks.iter().find(|known| known.id == id).cloned();
            let undone = |check: Check| if validate.contains(&check.id) { was(check.id) } else { Some(check) };
            near.checks = near.checks.into_iter().filter_map(undone).collect();
            near.foreign.keys.retain(|key| key.state != CheckState::Validating);
            vec![near, Table { numbers: after.numbers, ..before.clone() }]
        }
    };
    forth.push(after);
    let one_way = !gone.is_empty() && looks;
    Steps { forth, back, validate, keys, one_way }
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
    use crate::engine::NoRandom;
    use crate::expr::EvalContext;
    use crate::row;
    use crate::types::{DataType, Datum};
    use truetime::Timestamp;

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
        assert_eq!(
            shapes,
            ["gone id! a | gone! | t_gone_not_null leaving", "id! a gone! | gone | ", "id! a gone! |  | "]
        );
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

    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % n
        }

        /// A column that comes, goes, or stays and changes.
        fn column(&mut self, id: u32) -> Column {
            let ty = if self.below(2) == 0 { DataType::Int2 } else { DataType::Int4 };
            let missing = Missing::new(Datum::Int(100 + i64::from(id))).filter(|_| self.below(2) == 0);
            Column { not_null: self.below(2) == 0, missing, ..Column::new(id, format!("c{id}"), ty) }
        }

        /// A row as somebody who goes by this descriptor may write it.
        fn row(&mut self, table: &Table, key: i64) -> Vec<Datum> {
            let checks = crate::plan::check::Checks::of(table).unwrap();
            let context = EvalContext { params: &[], now: Timestamp::ZERO, random: &NoRandom };
            loop {
                let mut values: Vec<Datum> = Vec::new();
                for column in &table.columns {
                    let large = column.ty == DataType::Int4 && self.below(3) == 0;
                    values.push(match self.below(3) {
                        0 if !column.not_null => Datum::Null,
                        _ if column.id == 1 => Datum::Int(key),
                        _ => Datum::Int(self.below(if large { 1 << 20 } else { 1 << 10 }) as i64),
                    });
                }
                if checks.violation(None, &values, &context).unwrap().is_none() {
                    return values;
                }
            }
        }
    }

    /// Whatever one of two neighbours writes the other can read, believes, and keeps when it rewrites the row.
    #[test]
    fn neighbours_do_no_harm_to_each_other() {
        let mut random = Random(3);
        let mut pairs = 0;
        for _ in 0..3_000 {
            let mut before = Table { id: 16, name: "t".into(), ..Table::default() };
            before.key = vec![KeyColumn { column: 0, desc: false }];
            before.columns.push(Column { not_null: true, ..Column::new(1, "id", DataType::Int4) });
            before.columns.extend((2..5).map(|id| random.column(id)));
            let mut after = before.clone();
            after.columns.retain(|column| column.id == 1 || random.below(4) > 0);
            for column in after.columns.iter_mut().skip(1) {
                match random.below(4) {
                    0 => column.not_null = !column.not_null,
                    1 => column.ty = DataType::Int4,
                    _ => {}
                }
            }
            after.columns.extend((5..5 + random.below(3) as u32).map(|id| random.column(id)));
            let way = steps(&before, after);
            if way.one_way {
                continue;
            }
            let mut all = vec![before.clone()];
            all.extend(way.forth.iter().cloned());
            // From wherever it was given up.
            let mut ways = vec![all];
            for at in (0..way.forth.len().saturating_sub(1)).filter(|_| !way.back.is_empty()) {
                ways.push([&way.forth[at..=at], &way.back[..]].concat());
            }
            for steps in &ways {
                for pair in steps.windows(2) {
                    for (one, other) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
                        pairs += 1;
                        neighbours(&mut random, one, other);
                    }
                }
            }
        }
        assert!(pairs > 10_000, "{pairs}");
    }

    fn neighbours(random: &mut Random, one: &Table, other: &Table) {
        let values = random.row(one, 7);
        let key = row::encode_key(one, &values).unwrap();
        let stored = row::encode_value(one, &values).unwrap();
        let why = || format!("{} then {}: {values:?}", shape(one), shape(other));
        // Read by the other: nothing that it takes for impossible.
        let mut seen = row::decode_row(other, &key, &stored).unwrap_or_else(|err| panic!("{err}: {}", why()));
        for (column, datum) in other.columns.iter().zip(&seen) {
            // One that is being looked at may not hold yet, and nobody believes that it does.
            assert!(!column.not_null || !datum.is_null(), "{} is NULL: {}", column.name, why());
            if let Some(at) = one.column_by_id(column.id) {
                assert_eq!(&values[at], datum, "{}", why());
            }
        }
        // Rewritten by the other, with another value of one column: the rest is what it was.
        let rewritten = random.row(other, 7);
        let at = 1 + random.below(other.columns.len().max(2) as u64 - 1) as usize;
        if at < other.columns.len() {
            seen[at] = rewritten[at].clone();
        }
        let stored = row::encode_value(other, &seen).unwrap();
        let back = row::decode_row(one, &key, &stored).unwrap_or_else(|err| panic!("{err}: {}", why()));
        for (column, (old, new)) in one.columns.iter().zip(values.iter().zip(&back)) {
            if other.columns.get(at).is_none_or(|changed| changed.id != column.id) {
                assert_eq!(old, new, "{} was lost: {}", column.name, why());
            }
        }
    }
}
