//! The workloads: what each does, and why.

pub mod chains;
pub mod defaults;
pub mod index;
pub mod lists;
pub mod monotonic;
pub mod registers;
pub mod sets;
pub mod skew;
pub mod snapshots;

use std::sync::Arc;

use super::plan::{Desk, Mode, Plan, Workload, reads};

/// The names of the workloads of this kind of harness, in the order in which `all` runs them. `bank` has
/// a module of its own.
pub const NAMES: [&str; 17] = [
    "append",
    "register",
    "write-skew",
    "long-fork",
    "sequential",
    "causal-reverse",
    "monotonic",
    "set",
    "multi-key",
    "internal",
    "dirty-read",
    "default-values",
    "paged-scan",
    "exact-snapshot",
    "unique",
    "index",
    "cas",
];

/// The workload of this name.
pub fn make(name: &str, desk: Arc<Desk>) -> Option<Arc<dyn Workload>> {
    Some(match name {
        "append" => Arc::new(lists::Append::new(desk)),
        "register" => Arc::new(registers::Registers::new(desk)),
        "cas" => Arc::new(registers::Cas::new(desk)),
        "multi-key" => Arc::new(registers::MultiKey::new(desk)),
        "internal" => Arc::new(registers::Internal::new(desk)),
        "dirty-read" => Arc::new(registers::DirtyRead::new(desk)),
        "write-skew" => Arc::new(skew::WriteSkew::new(desk)),
        "unique" => Arc::new(skew::Unique::new(desk)),
        "index" => Arc::new(index::Index::new(desk)),
        "long-fork" => Arc::new(chains::LongFork::new(desk)),
        "sequential" => Arc::new(chains::Sequential::new(desk)),
        "causal-reverse" => Arc::new(chains::CausalReverse::new(desk)),
        "monotonic" => Arc::new(monotonic::Monotonic::new(desk)),
        "set" => Arc::new(sets::Sets::new(desk)),
        "default-values" => Arc::new(defaults::Defaults::new(desk)),
        "paged-scan" => Arc::new(snapshots::PagedScan::new(desk)),
        "exact-snapshot" => Arc::new(snapshots::ExactSnapshot::new(desk)),
        _ => return None,
    })
}

/// Strong reads of all these keys, a few dozen a transaction.
fn read_all(keys: &[i64]) -> Vec<Plan> {
    keys.chunks(32).map(|chunk| Plan::ops(Mode::Strong, reads(chunk.iter().copied()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::plan::{Ended, Mode, Step};
    use check::{Kind, Op};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use std::collections::BTreeSet;
    use std::time::Instant;

    fn nothing(op: Op) -> Op {
        match op {
            Op::Scan(low, high, _) => Op::Scan(low, high, Some(Vec::new())),
            op => op,
        }
    }

    #[test]
    fn every_workload_writes_reads_and_knows_its_keys_at_the_end() {
        for name in NAMES {
            let desk = Arc::new(Desk::new(1_000_000_000_000_000_000, 4, Instant::now()));
            let workload = make(name, desk.clone()).expect(name);
            let mut rng = ChaCha8Rng::seed_from_u64(7);
            let mut planners: Vec<_> = (0..4).map(|client| workload.planner(client)).collect();
            let (mut writes, mut reads) = (0, 0);
            let mut written: BTreeSet<String> = BTreeSet::new();
            for turn in 0..2000i64 {
                let planner = &mut planners[(turn % 4) as usize];
                let plan = planner.next(&mut rng);
                let (mode, steps) = (plan.mode, plan.steps.len());
                // As if nothing were there.
                let mut txn: Vec<Op> = plan.steps.iter().flat_map(Step::invoked).map(nothing).collect();
                let then = plan.then.map(|then| then(&txn)).unwrap_or_default();
                txn.extend(then.iter().flat_map(Step::invoked).map(nothing));
                let writing = crate::workload::session::writes(&txn);
                assert!(
                    !writing || matches!(mode, Mode::ReadWrite | Mode::Single | Mode::RollBack | Mode::CutOff),
                    "{name}: writes under {mode:?}"
                );
                assert!(mode != Mode::Single || (steps == 1 && then.is_empty()), "{name}: one statement alone");
                for op in txn.iter().filter(|op| crate::workload::session::writes(std::slice::from_ref(op))) {
                    let once = matches!(op, Op::Delete(_)) || written.insert(format!("{op:?}"));
                    assert!(once, "{name}: {op:?} twice, so its reads prove nothing");
                }
                if writing {
                    writes += 1;
                } else if !txn.is_empty() {
                    reads += 1;
                }
                let ts = 1_000_000_000_000_000_000 + turn;
                planner.ended(&Ended { kind: Kind::Ok, txn: &txn, ts: Some(ts) });
                desk.acknowledged(ts);
            }
            assert!(writes > 100 && reads > 100, "{name}: {writes} writes, {reads} reads");
            let last = workload.last_reads();
            assert!(!last.is_empty(), "{name}");
            assert!(last.iter().all(|plan| plan.mode == Mode::Strong && !plan.steps.is_empty()), "{name}");
        }
        assert!(make("nonsense", Arc::new(Desk::new(0, 4, Instant::now()))).is_none());
    }
}
