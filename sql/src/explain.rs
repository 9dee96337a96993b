//! Plans as text, and as JSON.

mod places;
mod tree;

use serde_json::json;
use txn::LockPolicy;

use crate::catalog::Table;
use crate::engine::CommitInfo;
use crate::entry::Layout;
use crate::expr::Expr;
use crate::plan::access::{Access, Values};
use crate::plan::{Conflict, Plan, Scan, SelectPlan};
use crate::short::Counts;
use crate::types::Datum;
use crate::value;

pub(crate) use places::{Places, places, spans};
use tree::FILTER;
pub(crate) use tree::Tree;

/// The nodes of a plan.
pub(crate) fn tree(plan: &Plan) -> Tree {
    let mut tree = Tree::default();
    match plan {
        Plan::Select(plan) => select(plan, &mut tree),
        Plan::Query(_) => {}
        Plan::Insert(plan) => {
            let verb = if plan.upsert { "Upsert" } else { "Insert" };
            let conflict = match &plan.conflict {
                Conflict::Error => "",
                Conflict::Nothing => "  on conflict: do nothing",
                Conflict::Update { .. } => "  on conflict: update",
                Conflict::Replace(columns)
                    if columns.len() == plan.table.columns.len()
                        && plan.indexes.is_empty()
                        && plan.table.hidden.is_empty() =>
                {
                    "  without a read"
                }
                Conflict::Replace(_) => "  on conflict: replace the columns given",
            };
            let rows = match &plan.source {
                None => format!("rows: {}", plan.rows.len()),
                Some(_) => "rows of a query".into(),
            };
            tree.add(format!("{verb} on {}  {rows}{conflict}", plan.table.name), "ModifyTable");
            tree.set("Operation", verb);
            tree.set("Relation Name", plan.table.name.as_str());
            match &plan.conflict {
                Conflict::Error => {}
                Conflict::Nothing => tree.set("Conflict Resolution", "NOTHING"),
                Conflict::Update { .. } => tree.set("Conflict Resolution", "UPDATE"),
                Conflict::Replace(_) => tree.set("Conflict Resolution", "REPLACE"),
            }
            match plan.source.as_deref() {
                None => tree.set("Rows", plan.rows.len()),
                Some(Plan::Select(source)) => select(source, &mut tree),
                Some(_) => {}
            }
        }
        Plan::Update(plan) => {
            let names: Vec<&str> =
                plan.assignments.iter().map(|(column, _)| plan.scan.table.columns[*column].name.as_str()).collect();
            tree.add(format!("Update on {}  set: {}", plan.scan.table.name, names.join(", ")), "ModifyTable");
            tree.set("Operation", "Update");
            tree.set("Relation Name", plan.scan.table.name.as_str());
            tree.set("Set", json!(names));
            if plan.source.is_none() {
                scan(&plan.scan, "exclusive", &mut tree);
            }
        }
        Plan::Delete(plan) => {
            tree.add(format!("Delete on {}", plan.scan.table.name), "ModifyTable");
            tree.set("Operation", "Delete");
            tree.set("Relation Name", plan.scan.table.name.as_str());
            if plan.source.is_none() {
                scan(&plan.scan, "exclusive", &mut tree);
            }
        }
    }
    if plan.query().is_some() {
        // Its operators come from the plan of a run: see `session::explain`.
        tree.add("DataFusion".into(), "DataFusion");
    }
    tree
}

fn select(plan: &SelectPlan, tree: &mut Tree) {
    let no_names = |index: usize| format!("column {}", index + 1);
    let table = plan.scan.as_ref().map(|scan| scan.table.as_ref());
    let names = |index: usize| match table {
        Some(table) => table.columns[index].name.clone(),
        None => no_names(index),
    };
    let grouped_names = |index: usize| match &plan.grouping {
        Some(grouping) if index < grouping.keys.len() => show(&grouping.keys[index], &names),
        Some(grouping) => {
            let aggregate = &grouping.aggregates[index - grouping.keys.len()];
            let arg = if aggregate.arg.is_constant() { "*".to_string() } else { show(&aggregate.arg, &names) };
            format!("{:?}({arg})", aggregate.kind).to_lowercase().replace("countrows", "count")
        }
        None => names(index),
    };
    if plan.limit.is_some() || plan.offset.is_some() {
        let part =
            |word: &str, expr: &Option<Expr>| expr.as_ref().map(|expr| format!("{word} {}", show(expr, &no_names)));
        let parts: Vec<String> =
            [part("limit", &plan.limit), part("offset", &plan.offset)].into_iter().flatten().collect();
        tree.add(format!("Limit  {}", parts.join(" ")), "Limit");
    }
    if !plan.sort.is_empty() {
        let keys: Vec<String> = plan
            .sort
            .iter()
            .map(|key| {
                format!("{}{}", show(&plan.project[key.column], &grouped_names), if key.desc { " DESC" } else { "" })
            })
            .collect();
        tree.add(format!("Sort  by: {}", keys.join(", ")), "Sort");
        tree.set("Sort Key", json!(keys));
    }
    if plan.distinct {
        tree.add("Distinct".into(), "Unique");
    }
    if let Some(grouping) = &plan.grouping {
        if let Some(having) = &grouping.having {
            tree.add(format!("Filter  {}", show(having, &grouped_names)), FILTER);
            tree.set("Filter", show(having, &grouped_names));
        }
        let keys: Vec<String> = grouping.keys.iter().map(|key| show(key, &names)).collect();
        let text = if grouping.first {
            "Aggregate  of the first row".into()
        } else if keys.is_empty() {
            "Aggregate".into()
        } else {
            format!("Group  by: {}", keys.join(", "))
        };
        tree.add(text, "Aggregate");
        tree.set("Strategy", if keys.is_empty() { "Plain" } else { "Hashed" });
        if !keys.is_empty() {
            tree.set("Group Key", json!(keys));
        }
    }
    match &plan.scan {
        Some(found) => {
            let lock = match plan.lock {
                None => "",
                Some(txn::LockMode::Shared) => "shared",
                Some(txn::LockMode::Exclusive) => "exclusive",
            };
            scan(found, lock, tree);
            match plan.policy {
                LockPolicy::NoWait => tree.say("Lock Wait Policy", "nowait"),
                LockPolicy::Skip => tree.say("Lock Wait Policy", "skip locked"),
                _ => {}
            }
        }
        None => {
            if let Some(filter) = &plan.filter {
                tree.add(format!("Filter  {}", show(filter, &no_names)), FILTER);
                tree.set("Filter", show(filter, &no_names));
            }
            match &plan.values {
                Some(rows) => tree.add(format!("Values  rows: {}", rows.len()), "Values Scan"),
                None => tree.add("One row".into(), "Result"),
            }
        }
    }
}

fn scan(scan: &Scan, lock: &str, tree: &mut Tree) {
    let table = &scan.table;
    let names = |index: usize| table.columns[index].name.clone();
    if let Some(filter) = &scan.filter {
        tree.add(format!("Filter  {}", show(filter, &names)), FILTER);
        tree.set("Filter", show(filter, &names));
    }
    if let Some(system) = crate::system::of(table) {
        tree.add(format!("Scan on {}.{}", system.schema, system.name), "Function Scan");
        tree.set("Schema", system.schema);
        tree.set("Relation Name", system.name);
        return;
    }
    let mut line = match &scan.index {
        None => scan_line(table, &scan.layout, &scan.access, ""),
        Some(index) => {
            if !index.covering {
                let lock = if lock.is_empty() { String::new() } else { format!("  lock: {lock}") };
                tree.add(format!("Index join on {}{lock}", table.name), "Index Join");
                tree.set("Relation Name", table.name.as_str());
            }
            scan_line(table, &scan.layout, &scan.access, &format!("@{}", index.name))
        }
    };
    if scan.index.as_ref().is_some_and(|index| index.covering) {
        line.push_str("  covering");
    }
    if scan.reverse {
        line.push_str("  reverse");
    }
    if !lock.is_empty() {
        line.push_str(&format!("  lock: {lock}"));
    }
    let by_key = !matches!(scan.access, Access::Full) || scan.index.is_some();
    let node = match &scan.index {
        Some(index) if index.covering => "Index Only Scan",
        _ if by_key || scan.reverse => "Index Scan",
        _ => "Seq Scan",
    };
    tree.add(line, node);
    tree.set("Relation Name", table.name.as_str());
    tree.set("Access", access_kind(&scan.layout, &scan.access));
    if by_key || scan.reverse {
        let name = scan.index.as_ref().map_or_else(|| format!("{}_pkey", table.name), |index| index.name.clone());
        tree.set("Index Name", name);
        tree.set("Scan Direction", if scan.reverse { "Backward" } else { "Forward" });
    }
    if let Access::Keys { .. } = scan.access {
        tree.set("Index Cond", key_condition(table, &scan.layout, &scan.access));
    }
    if !lock.is_empty() {
        tree.set("Lock", lock);
    }
}

fn access_kind(layout: &Layout, access: &Access) -> &'static str {
    match access {
        Access::Full => "Full scan",
        access if access.is_points(layout) => "Point get",
        _ => "Range scan",
    }
}

/// How a table, or an index of it, is read.
pub(crate) fn scan_line(table: &Table, layout: &Layout, access: &Access, index: &str) -> String {
    let mut line = format!("{} on {}{index}", access_kind(layout, access), table.name);
    if let Access::Keys { .. } = access {
        line.push_str(&format!("  key: {}", key_condition(table, layout, access)));
    }
    line
}

fn key_condition(table: &Table, layout: &Layout, access: &Access) -> String {
    let Access::Keys { prefix, low, high } = access else { return String::new() };
    let no_names = |index: usize| format!("column {}", index + 1);
    let name = |position: usize| table.columns[layout.parts[position].column].name.clone();
    let list = |values: &Values| match values {
        Values::Elements(array) => format!("ANY ({})", show(array, &no_names)),
        Values::List(values) => {
            let shown: Vec<String> = values.iter().take(8).map(|value| show(value, &no_names)).collect();
            let more = if values.len() > 8 { format!(", .. {} more", values.len() - 8) } else { String::new() };
            if values.len() == 1 { shown.join("") } else { format!("({}{more})", shown.join(", ")) }
        }
    };
    let mut parts = Vec::new();
    if !prefix.is_empty() {
        if prefix.iter().all(Values::is_single) {
            let names: Vec<String> = (0..prefix.len()).map(name).collect();
            let values: Vec<String> = prefix.iter().map(list).collect();
            parts.push(format!("({}) = ({})", names.join(", "), values.join(", ")));
        } else {
            for (position, values) in prefix.iter().enumerate() {
                let (op, values) = match values {
                    Values::List(all) if all.len() != 1 => ("IN", list(values)),
                    Values::List(_) => ("=", format!("({})", list(values))),
                    Values::Elements(_) => ("=", list(values)),
                };
                parts.push(format!("({}) {op} {values}", name(position)));
            }
        }
    }
    for (bound, closed_op, open_op) in [(low, ">=", ">"), (high, "<=", "<")] {
        if let Some((value, closed)) = bound {
            let op = if *closed { closed_op } else { open_op };
            parts.push(format!("({}) {op} ({})", name(prefix.len()), show(value, &no_names)));
        }
    }
    parts.join(" AND ")
}

/// The lines that EXPLAIN ANALYZE adds.
pub(crate) fn analyze_lines(
    counts: &Counts,
    elapsed_ns: i64,
    lock_wait_ns: i64,
    commit: Option<&CommitInfo>,
) -> Vec<String> {
    let ms = |ns: i64| format!("{}.{:03} ms", ns / 1_000_000, (ns / 1_000).rem_euclid(1_000));
    let mut lines = vec![
        format!("Rows: {}  read: {}  bytes: {}", counts.rows, counts.scanned, counts.bytes),
        format!("Statement: {}", ms(elapsed_ns)),
        format!("  lock wait: {}", ms(lock_wait_ns)),
    ];
    if let Some(commit) = commit {
        let timing = &commit.timing;
        lines.push(match commit.commit_ts {
            Some(at) => format!("Commit at {at}: {}", ms(commit.total_ns)),
            None => format!("Commit of nothing: {}", ms(commit.total_ns)),
        });
        let groups: Vec<String> = commit.participants.iter().map(u64::to_string).collect();
        lines.push(format!("  participants: {}", groups.join(", ")));
        for (name, ns) in [
            ("lock wait", timing.lock_wait_ns),
            ("prepare", timing.prepare_ns),
            ("replication", timing.replicate_ns),
            ("commit wait", timing.commit_wait_ns),
            ("apply", timing.apply_ns),
            ("total at the coordinator", timing.total_ns),
        ] {
            lines.push(format!("  {name}: {}", ms(ns)));
        }
    }
    lines.push(format!("Total: {}", ms(elapsed_ns + commit.map_or(0, |commit| commit.total_ns))));
    lines
}

/// An expression, with the names of its columns.
fn show(expr: &Expr, names: &dyn Fn(usize) -> String) -> String {
    let list = |list: &[Expr]| list.iter().map(|expr| show(expr, names)).collect::<Vec<_>>().join(", ");
    match expr {
        Expr::Const(datum) => constant(datum),
        Expr::Column(index) => names(*index),
        Expr::Param(index) => format!("${}", index + 1),
        Expr::Now => "now()".into(),
        Expr::Aggregate(index) => format!("aggregate {index}"),
        Expr::Not(a) => match &**a {
            Expr::IsNull(a) => format!("({} IS NOT NULL)", show(a, names)),
            a => format!("(NOT {})", show(a, names)),
        },
        Expr::And(parts) => {
            format!("({})", parts.iter().map(|part| show(part, names)).collect::<Vec<_>>().join(" AND "))
        }
        Expr::Or(parts) => format!("({})", parts.iter().map(|part| show(part, names)).collect::<Vec<_>>().join(" OR ")),
        Expr::IsNull(a) => format!("({} IS NULL)", show(a, names)),
        Expr::IsBool(a, value) => format!("({} IS {})", show(a, names), if *value { "TRUE" } else { "FALSE" }),
        Expr::Neg(a) => format!("(- {})", show(a, names)),
        Expr::Binary(op, a, b) => format!("({} {} {})", show(a, names), op.symbol(), show(b, names)),
        Expr::Compare(op, a, b) => format!("({} {} {})", show(a, names), op.symbol(), show(b, names)),
        Expr::Distinct(a, b) => format!("({} IS DISTINCT FROM {})", show(a, names), show(b, names)),
        Expr::In(a, items) => format!("({} IN ({}))", show(a, names), list(items)),
        Expr::Like(a, pattern, _, ignore_case) => {
            format!("({} {} {})", show(a, names), if *ignore_case { "ILIKE" } else { "LIKE" }, show(pattern, names))
        }
        Expr::Case(branches, otherwise) => {
            let branches: Vec<String> = branches
                .iter()
                .map(|(when, then)| format!("WHEN {} THEN {}", show(when, names), show(then, names)))
                .collect();
            format!("CASE {} ELSE {} END", branches.join(" "), show(otherwise, names))
        }
        Expr::Coalesce(items) => format!("coalesce({})", list(items)),
        Expr::NullIf(a, b) => format!("nullif({}, {})", show(a, names), show(b, names)),
        // Small integers are computed as bigints and checked: nothing that the user wrote.
        Expr::Cast(a, ty) if ty.is_integer() && matches!(**a, Expr::Binary(..) | Expr::Neg(_)) => show(a, names),
        Expr::Cast(a, ty) => format!("{}::{}", show(a, names), ty.name()),
        Expr::Modify(a, ..) => show(a, names),
        Expr::Array(_, items) => format!("ARRAY[{}]", list(items)),
        Expr::Subscript(a, bounds, slice) => {
            let side = |bound: &Option<Expr>| bound.as_ref().map_or(String::new(), |bound| show(bound, names));
            let one = |(low, high): &(Option<Expr>, Option<Expr>)| match slice {
                true => format!("[{}:{}]", side(low), side(high)),
                false => format!("[{}]", side(low)),
            };
            format!("{}{}", show(a, names), bounds.iter().map(one).collect::<String>())
        }
        Expr::Quantified(op, a, array, any) => {
            let word = if *any { "ANY" } else { "ALL" };
            format!("({} {} {word} ({}))", show(a, names), op.symbol(), show(array, names))
        }
        Expr::Call(function, args) => match (function.is_operator(), args.as_slice()) {
            (true, [a, b]) => format!("({} {} {})", show(a, names), function.name(), show(b, names)),
            (true, [a]) => format!("({} {})", function.name(), show(a, names)),
            _ => format!("{}({})", function.name(), list(args)),
        },
    }
}

fn constant(datum: &Datum) -> String {
    match (datum, value::to_text(datum)) {
        (_, None) => "NULL".into(),
        (Datum::Bool(v), _) => v.to_string(),
        (Datum::Int(_) | Datum::Float(_) | Datum::Float4(_) | Datum::Numeric(_), Some(text)) => text,
        (_, Some(text)) => {
            let short: String = text.chars().take(60).collect();
            let dots = if short.len() < text.len() { ".." } else { "" };
            format!("'{}{dots}'", short.replace('\'', "''"))
        }
    }
}
