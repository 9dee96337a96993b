//! The simulator as a test: known seeds, new seeds, the same seed twice, and the canaries.

use std::collections::BTreeSet;
use std::time::SystemTime;

use sim::canary::Canary;
use sim::counters::Counters;
use sim::invariants::never_judged;
use sim::minimize::minimize;
use sim::overrides::Overrides;
use sim::rare::never_reached;
use sim::{Outcome, run, run_under, run_with};

/// New seeds in each run of the tests; many more are run by `sim --seeds`.
const FRESH: u64 = 12;
/// The same seeds in each run, enough to reach every rare state.
const FIXED: std::ops::Range<u64> = 1001..1065;
/// These are run twice each.
const TWICE: std::ops::Range<u64> = 1..17;

/// In these runs the clocks of a minority leave their bounds.
const BEYOND: std::ops::Range<u64> = 2001..2041;

/// Rare states that those must reach together.
const SOMETIMES_BEYOND: [&str; 11] = [
    "beyond the promise: I1 lost",
    "beyond the promise: I7 lost, a commit was answered before its time",
    "beyond the promise: I8 lost, a write was seen before its time",
    "beyond: a clock drifted away",
    "beyond: a clock stepped",
    "beyond: a clock was set back over a restart",
    "beyond: a fenced node came back",
    "beyond: a lie that was over before it was found",
    "beyond: a liar was fenced",
    "beyond: fenced within 0.4 s",
    "beyond: the others went on without a liar",
];

fn assert_good(outcome: &Outcome) {
    if let Some(why) = &outcome.failure {
        let Outcome { seed, settings, .. } = outcome;
        for event in &outcome.last_events {
            eprintln!("{event}");
        }
        let beyond = if settings.contains("beyond the promise") { " --beyond" } else { "" };
        panic!("SEED={seed} {settings}\n{why}\nagain: cargo run --release -p sim -- --seed {seed}{beyond} --verbose");
    }
}

#[test]
fn known_seeds_stay_good() {
    for line in include_str!("../seeds.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let seed = words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no seed in {line:?}"));
        let overrides = Overrides { beyond: words.next() == Some("--beyond"), ..Overrides::default() };
        assert_good(&run_under(seed, None, false, &overrides, &[]));
    }
}

#[test]
fn fresh_seeds_are_good() {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let drawn = since_epoch.as_micros() as u64 % 1_000_000_000_000;
    let base = std::env::var("SIM_BASE").ok().and_then(|base| base.parse().ok()).unwrap_or(drawn);
    eprintln!("SIM_BASE={base}");
    for seed in base..base + FRESH {
        assert_good(&run(seed));
    }
}

#[test]
fn rare_states_are_reached() {
    let mut counters = Counters::default();
    for seed in FIXED {
        let outcome = run(seed);
        assert_good(&outcome);
        counters.merge(&outcome.counters);
    }
    assert_eq!(never_judged(&counters), Vec::<&str>::new(), "{FIXED:?}\n{counters}");
    let never = never_reached(&counters, FIXED.count() as u64);
    assert!(never.is_empty(), "{FIXED:?} never reached {never:?}\n{counters}");
}

#[test]
fn clocks_beyond_their_bounds_are_fenced_and_cost_nothing_but_real_time() {
    let overrides = Overrides { beyond: true, ..Overrides::default() };
    let mut counters = Counters::default();
    for seed in BEYOND {
        let outcome = run_under(seed, None, false, &overrides, &[]);
        assert_good(&outcome);
        counters.merge(&outcome.counters);
    }
    let never: Vec<_> = SOMETIMES_BEYOND.iter().filter(|name| counters.get(name) == 0).collect();
    assert!(never.is_empty(), "{BEYOND:?} never reached {never:?}\n{counters}");
    // Whether a seed is such a run by itself or is told to be one is the same.
    let drawn =
        (0..200).find(|seed| run(*seed).counters.get("beyond the promise: I1 lost") > 0).expect("one in twelve");
    assert_eq!(run(drawn).hash, run_under(drawn, None, false, &overrides, &[]).hash);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let mut hashes = BTreeSet::new();
    let mut with_sql = 0;
    for seed in TWICE {
        let (one, two) = (run(seed), run(seed));
        assert_eq!((one.hash, one.events, one.commits), (two.hash, two.events, two.commits), "seed {seed}");
        assert_eq!(one.counters, two.counters, "seed {seed}");
        hashes.insert(one.hash);
        with_sql += u64::from(one.counters.get("sql: committed") > 0);
    }
    let seeds = TWICE.count();
    assert_eq!(hashes.len(), seeds, "each seed is a run of its own");
    assert!(with_sql >= 3, "only {with_sql} of {seeds} seeds had SQL in them");
}

#[test]
fn a_failing_run_is_made_smaller() {
    let canary = Canary::LyingDisk;
    let seed = (1..=canary.seeds_max()).find(|seed| run_with(*seed, Some(canary), false).failure.is_some());
    let seed = seed.expect("it is found soon");
    let whole = run_with(seed, Some(canary), false);
    let found = minimize(seed, Some(canary), &Overrides::default(), 25, &mut |_| {}).expect("it fails");
    assert!(found.runs <= 25 && found.overrides != Overrides::default(), "{}", found.overrides);
    assert!(found.outcome.events <= whole.events, "{} after {} events", found.overrides, found.outcome.events);
    // It can be run again from what it says.
    let again = run_under(seed, Some(canary), false, &found.overrides, &[]);
    assert_eq!((again.hash, again.failure), (found.outcome.hash, found.outcome.failure));
}

#[test]
fn canaries_are_found() {
    for canary in Canary::ALL.into_iter().filter(|canary| canary.is_here()) {
        let most = canary.seeds_max();
        let found = (1..=most).find(|seed| run_with(*seed, Some(canary), false).failure.is_some());
        let found = found.unwrap_or_else(|| panic!("{} is not found in {most} seeds", canary.name()));
        eprintln!("{} is found by seed {found}", canary.name());
    }
}
