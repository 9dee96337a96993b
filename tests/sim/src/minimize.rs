//! Makes a failing run smaller: tries to leave things out, keeps what fails in the same way, and tells the
//! story of what is left.
//!
//! In this order, and again from the start as long as something could be left out: SQL clients, clients, all
//! faults but a few (halves, quarters, .. single kinds), disturbances of network and disk, the end of the faults,
//! transactions. It is greedy: what it ends with is small, and need not be the smallest.

use crate::canary::Canary;
use crate::overrides::Overrides;
use crate::{Outcome, run_under};

/// What is left of a failing run.
#[derive(Clone, Debug)]
pub struct Minimized {
    /// What was left out.
    pub overrides: Overrides,
    /// How it failed.
    pub outcome: Outcome,
    /// How many runs it took.
    pub runs: u64,
    /// What matters of it, a line each.
    pub story: Vec<String>,
}

/// The kind of a failure: the invariant and what is before the next colon, and of a panic all of it but numbers.
fn class(failure: &str) -> String {
    let (name, rest) = failure.split_once(':').unwrap_or((failure, ""));
    let head = if name == "panic" { rest } else { rest.split(':').next().unwrap_or_default() };
    head.chars().filter(|c| !c.is_ascii_digit()).take(60).fold(format!("{name}:"), |class, c| class + &c.to_string())
}

struct Search<'a> {
    seed: u64,
    canary: Option<Canary>,
    class: String,
    best: Overrides,
    outcome: Outcome,
    runs: u64,
    runs_max: u64,
    said: &'a mut dyn FnMut(&str),
}

impl Search<'_> {
    /// Tries a smaller run; true if it fails alike.
    fn smaller(&mut self, overrides: Overrides) -> bool {
        if self.runs >= self.runs_max || overrides == self.best {
            return false;
        }
        self.runs += 1;
        let outcome = run_under(self.seed, self.canary, false, &overrides, &[]);
        let alike = outcome.failure.as_deref().is_some_and(|failure| class(failure) == self.class);
        if alike {
            (self.said)(&format!("run {}: fails with{overrides}, after {} events", self.runs, outcome.events));
            (self.best, self.outcome) = (overrides, outcome);
        }
        alike
    }

    /// Leaves kinds of faults out: as many at once as may be.
    fn faults(&mut self, kinds: &[String]) -> bool {
        let mut any = false;
        let mut size = kinds.len().max(1);
        loop {
            let left: Vec<String> = kinds.iter().filter(|kind| !self.best.without.contains(kind)).cloned().collect();
            for some in left.chunks(size) {
                let mut next = self.best.clone();
                next.without.extend(some.iter().cloned());
                any |= self.smaller(next);
            }
            if size == 1 {
                return any;
            }
            size = size.div_ceil(2);
        }
    }

    /// Halves a number as often as that goes.
    fn halve(&mut self, from: u64, least: u64, set: impl Fn(&mut Overrides, u64)) -> bool {
        let (mut any, mut value) = (false, from);
        while value > least {
            let next = least.max(value / 2);
            let mut overrides = self.best.clone();
            set(&mut overrides, next);
            if !self.smaller(overrides) {
                break;
            }
            (any, value) = (true, next);
        }
        any
    }
}

/// Makes the failing run of a seed smaller, by at most so many runs. `None` if it does not fail. `said` is told of
/// each success.
///
/// `from` is what is left out from the start, and stays so.
pub fn minimize(
    seed: u64,
    canary: Option<Canary>,
    from: &Overrides,
    runs_max: u64,
    said: &mut dyn FnMut(&str),
) -> Option<Minimized> {
    let outcome = run_under(seed, canary, false, from, &[]);
    let class = class(outcome.failure.as_deref()?);
    let swarm = crate::swarm::Swarm::draw(seed, canary);
    let kinds: Vec<String> = swarm.faults.iter().map(|(fault, _)| format!("{fault:?}")).collect();
    let kinds: Vec<String> = kinds.into_iter().chain(swarm.aims.iter().map(|aim| format!("{aim:?}"))).collect();
    let best = from.clone();
    let mut search = Search { seed, canary, class, best, outcome, runs: 1, runs_max, said };
    loop {
        let mut any = false;
        let sql = search.best.sql_clients.unwrap_or(swarm.sql_clients);
        any |= search.halve(sql, 0, |o, n| o.sql_clients = Some(n));
        let clients = search.best.clients.unwrap_or(swarm.clients);
        any |= search.halve(clients, 1, |o, n| o.clients = Some(n));
        any |= search.faults(&kinds);
        any |= search.smaller(Overrides { even: true, ..search.best.clone() });
        let until = search.best.faults_until_ms.unwrap_or(swarm.faults_until / 1_000_000).unsigned_abs();
        any |= search.halve(until, 500, |o, ms| o.faults_until_ms = i64::try_from(ms).ok());
        let plans = search.best.plans.unwrap_or(swarm.plans_max);
        any |= search.halve(plans, 10, |o, n| o.plans = Some(n));
        if !any || search.runs >= search.runs_max {
            break;
        }
    }
    let focus = focus(search.outcome.failure.as_deref().unwrap_or_default());
    let told = run_under(seed, canary, false, &search.best, &focus);
    Some(Minimized { overrides: search.best, outcome: search.outcome, runs: search.runs, story: told.story })
}

/// The names of what a failure is about: transactions, as people and as messages write them.
fn focus(failure: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for word in failure.split(|c: char| !c.is_ascii_alphanumeric()) {
        if word.len() >= 24
            && let Ok(number) = u128::from_str_radix(word, 16)
        {
            found.extend([word.to_string(), format!("TxnId({number})")]);
        }
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_of_a_kind_whatever_their_numbers() {
        assert_eq!(class("I7: real time: a at 1.5 ms"), class("I7: real time: b at 7 ms"));
        assert_eq!(class("panic: g1: 17 is not above 18"), class("panic: g2: 5 is not above 6"));
        assert_ne!(class("I7: real time: x"), class("I12: snapshot: x"));
        let found = focus("Append 18fae277128aede8000200000000000e of client 3");
        assert!(found.contains(&"18fae277128aede8000200000000000e".to_string()) && found.len() == 2, "{found:?}");
    }
}
