//! A deterministic simulator of a whole cluster.
//!
//! It runs the production nodes, gateways and protocols of 3 or 5 servers in one thread, on
//! simulated time, networks, disks and clocks, under load and under faults, and judges what the
//! clients saw. The seed decides everything: a failure is a number that anyone can run again.
//!
//! ```text
//!   cargo run --release -p sim -- --seconds 60       new seeds for a minute
//!   cargo run --release -p sim -- --seed 7 --verbose one run, event by event
//! ```
//!
//! | module | what it simulates |
//! | --- | --- |
//! | `world`, `processes`, `traffic` | the event loop and the acts of a run |
//! | `network`, `disk`, `clock` | what surrounds a node |
//! | `swarm`, `faults`, `nemesis` | what goes wrong |
//! | `disks`, `storms`, `aimed` | the same, of disks, of many processes, and at the worst moment |
//! | `plan`, `clients`, `desk` | who uses the cluster, and through what |
//! | `sql` | those who use it by SQL sessions, and a judge of their own |
//! | `observe`, `chosen`, `history`, `check`, `rest` | who watches, at every instant and at the end |
//! | [`invariants`] | what they judge, by name |
//! | [`rare`] | what a batch of runs must reach |
//! | `beyond`, `fencing`, `excuses` | clocks that leave their bounds, who stops them, and what may be lost until then |
//! | [`overrides`], [`minimize`] | what a failure needs |
//! | [`canary`] | the bugs that prove the above |
//!
//! What it leaves out: placement, RocksDB, the wire and the operating system; those
//! are tested by real processes. A message's bytes are the real ones.

use std::panic::{AssertUnwindSafe, catch_unwind};

mod aimed;
mod beyond;
pub mod canary;
mod check;
mod chosen;
mod clients;
mod clock;
pub mod counters;
mod desk;
mod disk;
mod disks;
mod events;
mod excuses;
mod faults;
mod fencing;
mod history;
pub mod invariants;
pub mod minimize;
mod nemesis;
mod network;
mod observe;
pub mod overrides;
mod partitions;
mod plan;
mod processes;
pub mod rare;
mod rest;
mod rng;
mod server;
mod sql;
mod storms;
mod swarm;
mod trace;
mod traffic;
mod world;

use canary::Canary;
use counters::Counters;
use overrides::Overrides;
use world::World;

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// The hash of everything that happened.
    pub hash: u64,
    /// What was wrong, if anything was.
    pub failure: Option<String>,
    /// The last events before its end, in words.
    pub last_events: Vec<String>,
    /// What the seed drew.
    pub settings: String,
    /// How often rare states were reached.
    pub counters: Counters,
    /// Committed transactions.
    pub commits: u64,
    /// Answered reads without locks.
    pub reads: u64,
    /// Events.
    pub events: u64,
    /// Simulated time.
    pub elapsed_ns: i64,
    /// What matters to those who asked for it, in words.
    pub story: Vec<String>,
}

/// Runs a seed.
pub fn run(seed: u64) -> Outcome {
    run_with(seed, None, false)
}

/// Runs a seed with a bug put in, or with every event printed.
pub fn run_with(seed: u64, canary: Option<Canary>, verbose: bool) -> Outcome {
    run_under(seed, canary, verbose, &Overrides::default(), &[])
}

/// Runs what overrides leave of a seed. With a `focus`, its outcome has a story: faults, starts, ends and leaders,
/// and whatever names one of these.
pub fn run_under(seed: u64, canary: Option<Canary>, verbose: bool, overrides: &Overrides, focus: &[String]) -> Outcome {
    let mut world = World::new(seed, canary, verbose, overrides);
    world.trace.focus(focus.to_vec());
    // A node that finds its own invariant broken panics: that is a finding, not the end of the batch.
    let result = catch_unwind(AssertUnwindSafe(|| world.run().and_then(|()| judge(&mut world))));
    let mut failure = match result {
        Ok(result) => result.err(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            Some(format!("panic: {}", text.unwrap_or_default()))
        }
    };
    let history = &world.shared.history;
    let sql_commits = sql::judge::commits(&world.shared.sql.attempts);
    let (commits, reads) = (history.commits() + sql_commits, history.snapshots.len() as u64);
    let doubts = world.shared.counters.get("commit in doubt") + world.shared.counters.get("connection lost");
    if failure.is_none() && world.swarm.is_calm() && doubts > 0 {
        failure = Some(format!("liveness: calm: {doubts} calls ended in doubt in a run without faults"));
    }
    if failure.is_none() && (commits < COMMITS_MIN || reads < COMMITS_MIN) {
        failure = Some(format!("liveness: idle: {commits} commits and {reads} reads prove nothing"));
    }
    if let Some(why) = &failure {
        assert!(invariants::name_of(why).is_some(), "a failure does not begin with what is broken: {why}");
    }
    Outcome {
        seed,
        hash: world.trace.hash(),
        last_events: if failure.is_some() { world.trace.last() } else { Vec::new() },
        failure,
        settings: world.swarm.describe(),
        commits,
        reads,
        events: world.trace.events,
        elapsed_ns: world.elapsed_ns(),
        counters: std::mem::take(&mut world.shared.counters),
        story: world.trace.story(),
    }
}

fn judge(world: &mut World) -> Result<(), String> {
    let (epsilon_ns, lease_ns) = (world.swarm.epsilon_ns, world.swarm.lease_ns);
    let shared = &mut world.shared;
    excuses::judge(shared, epsilon_ns, lease_ns)?;
    let committed = events::committed(&shared.history, &shared.sql.attempts);
    world.observer.deadlines_were_kept(committed, &mut shared.counters)
}

/// A run with fewer commits, or fewer reads, has tested nothing.
const COMMITS_MIN: u64 = 5;
