//! Where a commit's milliseconds went, for `\last` and the line after each commit.
//!
//! The gateway's total is split without rest: the coordinator's phases, what the coordinator
//! spent outside them, and what passed between the gateway and the coordinator.

use proto::v1::Commit;

use crate::units::{ms, timestamp};

/// The width of a full bar, in characters.
const BAR_WIDTH: f64 = 30.0;

/// A part of a commit's time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// What for.
    pub name: &'static str,
    /// How long.
    pub ns: i64,
}

/// The parts of a commit, in order. They add up to the total, unless phases that overlapped are
/// longer together than it.
pub fn phases(commit: &Commit) -> Vec<Phase> {
    let mut phases = vec![
        Phase { name: "lock wait", ns: commit.lock_wait_ns },
        Phase { name: "prepare", ns: commit.prepare_ns },
        Phase { name: "replication", ns: commit.replicate_ns },
        Phase { name: "commit wait", ns: commit.commit_wait_ns },
        Phase { name: "apply", ns: commit.apply_ns },
    ];
    let named: i64 = phases.iter().map(|p| p.ns).sum();
    let total = commit.total_ns.max(commit.coordinator_ns);
    let outside = if commit.coordinator_ns > 0 { total - commit.coordinator_ns.max(named).min(total) } else { 0 };
    if outside > 0 {
        phases.push(Phase { name: "gateway and network", ns: outside });
    }
    phases.push(Phase { name: "other", ns: (total - named - outside).max(0) });
    phases
}

/// The lines that `\last` prints.
pub fn describe(commit: &Commit) -> Vec<String> {
    let total = commit.total_ns.max(commit.coordinator_ns);
    let when = match commit.commit_ts_ns {
        0 => "(it had touched nothing)".to_string(),
        ns => format!("{}  ({ns} ns)", timestamp(ns)),
    };
    let mut groups = commit.participants.iter().map(|g| format!("g{g}"));
    let groups = match (groups.next(), groups.collect::<Vec<_>>()) {
        (None, _) => "none".to_string(),
        (Some(only), rest) if rest.is_empty() => format!("{only} (one group)"),
        (Some(first), rest) => format!("{first} (coordinator), {} (two-phase commit)", rest.join(", ")),
    };
    let mut lines = vec![
        format!("transaction   {}", commit.transaction),
        format!("committed at  {when}"),
        format!("participants  {groups}"),
        format!("total         {} ms", ms(total)),
    ];
    let share = |ns: i64| if total > 0 { ns as f64 / total as f64 } else { 0.0 };
    let phases = phases(commit);
    for phase in &phases {
        let part = share(phase.ns);
        let bar = "█".repeat((part.min(1.0) * BAR_WIDTH).round() as usize);
        let line = format!("  {:<20}{:>10} ms {:>5.1} %  {bar}", phase.name, ms(phase.ns), part * 100.0);
        lines.push(line.trim_end().to_string());
    }
    let named: i64 = phases.iter().filter(|p| p.name != "other").map(|p| p.ns).sum();
    if named > total {
        lines.push("phases overlapped: together they are longer than the total".to_string());
    } else {
        lines.push(format!("accounted for: {:.1} %", if total > 0 { share(named) * 100.0 } else { 100.0 }));
    }
    lines
}

/// One line after a commit at the prompt: when, and the phases that mattered.
pub fn summary(commit: &Commit) -> String {
    if commit.commit_ts_ns == 0 {
        return format!("committed, having touched nothing ({} ms)", ms(commit.total_ns));
    }
    let total = commit.total_ns.max(1);
    // A phase below a twentieth of the whole is noise on a line this short.
    let mut parts = phases(commit);
    parts.retain(|p| p.ns * 20 >= total);
    parts.sort_by_key(|p| std::cmp::Reverse(p.ns));
    let parts: Vec<String> = parts.iter().map(|p| format!("{} {}", p.name, ms(p.ns))).collect();
    let detail = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    format!("committed at {} ({} ms{detail})", timestamp(commit.commit_ts_ns), ms(commit.total_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit() -> Commit {
        Commit {
            transaction: "00ff".into(),
            commit_ts_ns: 1_700_000_000_000_000_001,
            participants: vec![3, 1],
            lock_wait_ns: 0,
            prepare_ns: 1_000_000,
            replicate_ns: 2_000_000,
            commit_wait_ns: 6_000_000,
            apply_ns: 100_000,
            coordinator_ns: 9_500_000,
            total_ns: 10_000_000,
        }
    }

    #[test]
    fn the_phases_add_up_to_the_total() {
        let commit = commit();
        assert_eq!(phases(&commit).iter().map(|p| p.ns).sum::<i64>(), commit.total_ns);
        assert_eq!(phases(&Commit::default()).iter().map(|p| p.ns).sum::<i64>(), 0);
        let no_coordinator = Commit { coordinator_ns: 0, ..commit };
        assert_eq!(phases(&no_coordinator).iter().map(|p| p.ns).sum::<i64>(), no_coordinator.total_ns);
    }

    #[test]
    fn last_as_shown() {
        let expected = "\
transaction   00ff
committed at  2023-11-14T22:13:20.000000001Z  (1700000000000000001 ns)
participants  g3 (coordinator), g1 (two-phase commit)
total         10.0 ms
  lock wait                0.000 ms   0.0 %
  prepare                    1.0 ms  10.0 %  ███
  replication                2.0 ms  20.0 %  ██████
  commit wait                6.0 ms  60.0 %  ██████████████████
  apply                    0.100 ms   1.0 %
  gateway and network      0.500 ms   5.0 %  ██
  other                    0.400 ms   4.0 %  █
accounted for: 96.0 %";
        assert_eq!(describe(&commit()).join("\n"), expected);
        assert_eq!(
            summary(&commit()),
            "committed at 2023-11-14T22:13:20.000000001Z (10.0 ms: commit wait 6.0, replication 2.0, prepare 1.0, gateway and network 0.500)"
        );
    }
}
