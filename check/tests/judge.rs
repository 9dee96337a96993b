//! Hand-made histories with one anomaly each, generated ones with none, and generated ones spoilt.

mod generator;

use std::time::Instant;

use check::{Event, Kind, Op, Process, judge};
use generator::{Settings, generate};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Each file says in its first line which names the verdict must have, and whether the database owed it otherwise;
/// the rest is the history.
#[test]
fn hand_made_histories_are_judged_as_they_say() {
    let folder = "tests/histories";
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("histories").map(|f| f.expect("a file").path()).collect();
    files.sort();
    let mut wrong = Vec::new();
    assert!(files.len() >= 20, "only {} histories", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable");
        let mut lines = text.lines();
        let expected =
            lines.next().and_then(|line| line.strip_prefix("# ")).expect("the first line says what is wrong");
        let events: Vec<Event> = lines
            .filter(|line| !line.trim().is_empty())
            .map(|line| Event::parse(line).unwrap_or_else(|e| panic!("{}: {line}: {e}", file.display())))
            .collect();
        let verdict = judge(&events);
        let names = verdict.counts.keys().cloned().collect::<Vec<_>>().join(" ");
        let names = match verdict.is_valid() {
            true if names.is_empty() => "valid".to_string(),
            true => format!("{names} (not owed)"),
            false => names,
        };
        if names != expected {
            wrong.push(format!("{}: expected {expected}, found {names}: {:#?}", file.display(), verdict.anomalies));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn generated_histories_are_valid() {
    for seed in 0..60 {
        let events = generate(seed, &Settings::small());
        let verdict = judge(&events);
        assert!(verdict.is_valid(), "seed {seed}: {:#?}", verdict.anomalies);
    }
}

/// Changes one answer of a valid history; gives what was done, or nothing if there was no occasion.
fn spoil(events: &mut [Event], how: usize, rng: &mut ChaCha8Rng) -> Option<&'static str> {
    let reads: Vec<usize> = (0..events.len())
        .filter(|at| events[*at].kind == Kind::Ok)
        .filter(|at| events[*at].txn.iter().any(|op| matches!(op, Op::ReadList(_, list) if list.len() >= 2)))
        .collect();
    let pick = |rng: &mut ChaCha8Rng, list: &[usize]| (!list.is_empty()).then(|| list[rng.random_range(0..list.len())]);
    let list_of = |event: &mut Event, act: &mut dyn FnMut(&mut Vec<i64>)| {
        for op in &mut event.txn {
            if let Op::ReadList(_, list) = op
                && list.len() >= 2
            {
                act(list);
                return;
            }
        }
    };
    match how {
        0 => {
            // Own appends are not read from anybody, and a lone stale read may lack what is not acknowledged.
            let pure = |at: &&usize| events[**at].read_ts.is_some();
            let at = pick(rng, &reads.iter().filter(pure).copied().collect::<Vec<_>>())?;
            list_of(&mut events[at], &mut |list| list.truncate(list.len() - 1));
            Some("a snapshot misses the last element")
        }
        1 => {
            let at = pick(rng, &reads)?;
            list_of(&mut events[at], &mut |list| list.swap(0, 1));
            Some("a read has two elements in the wrong order")
        }
        2 => {
            let at = pick(rng, &reads)?;
            list_of(&mut events[at], &mut |list| list.push(-1));
            Some("a read has an element that nobody wrote")
        }
        3 => {
            let writers: Vec<usize> = (0..events.len()).filter(|at| events[*at].commit_ts.is_some()).collect();
            let at = pick(rng, &writers)?;
            let ts = events[at].commit_ts.as_mut()?;
            *ts -= 1_000_000;
            Some("a commit timestamp is too small")
        }
        4 => {
            let at = pick(rng, &reads)?;
            let mut first = None;
            list_of(&mut events[at], &mut |list| first = list.first().copied());
            let (value, process) = (first?, &events[at].process.clone());
            let writer = events.iter().position(|e| {
                e.kind == Kind::Ok
                    && e.process != *process
                    && e.txn.iter().any(|op| matches!(op, Op::Append(_, v) if *v == value))
            })?;
            events[writer].kind = Kind::Fail;
            Some("a read is of a transaction that failed")
        }
        _ => {
            let reads: Vec<usize> = (0..events.len())
                .filter(|at| events[*at].read_ts.is_some_and(|_| events[*at].kind == Kind::Ok))
                .collect();
            let at = pick(rng, &reads)?;
            *events[at].read_ts.as_mut()? += 40_000;
            Some("a snapshot is of an earlier time than it says")
        }
    }
}

#[test]
fn spoilt_histories_are_found() {
    let mut found = [0u32; 6];
    for seed in 0..240u64 {
        let how = (seed % 6) as usize;
        let mut events = generate(seed, &Settings::small());
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
        let Some(what) = spoil(&mut events, how, &mut rng) else { continue };
        let verdict = judge(&events);
        // By chance nothing may be wrong then: the later snapshot holds the same, or the element that is
        // missing was not acknowledged, and a writer in doubt keeps the timestamps from telling.
        if how == 0 || how == 5 {
            found[how] += u32::from(!verdict.is_valid());
            continue;
        }
        assert!(!verdict.is_valid(), "seed {seed}: {what}, and the judge saw nothing");
        found[how] += 1;
    }
    assert!(found.iter().all(|count| *count >= 5), "{found:?}");
}

#[test]
#[allow(clippy::disallowed_methods)] // a test may look at the clock
fn a_hundred_thousand_operations_take_seconds() {
    let events = generate(7, &Settings { transactions: 100_000, ..Settings::large() });
    let began = Instant::now();
    let verdict = judge(&events);
    assert!(verdict.is_valid(), "{:#?}", verdict.anomalies);
    in_time(began);
}

/// Many stale answers make one component of nearly everything: a story must still be found in time.
#[test]
#[allow(clippy::disallowed_methods)] // a test may look at the clock
fn a_hundred_thousand_operations_of_a_broken_database_too() {
    let mut events = generate(8, &Settings { transactions: 100_000, ..Settings::large() });
    for event in events.iter_mut().filter(|event| event.kind == Kind::Ok).step_by(97) {
        for op in &mut event.txn {
            if let Op::ReadList(_, list) = op {
                list.pop();
            }
        }
    }
    let began = Instant::now();
    let verdict = judge(&events);
    assert!(verdict.counts.keys().any(|name| name.starts_with("G")), "{:?}", verdict.counts);
    in_time(began);
}

/// The aim is 30 s in a release build; a debug build is allowed to be slower.
#[allow(clippy::disallowed_methods)] // a test may look at the clock
fn in_time(began: Instant) {
    let limit = if cfg!(debug_assertions) { 240 } else { 30 };
    assert!(began.elapsed().as_secs() < limit, "100,000 transactions took {:?}", began.elapsed());
}

#[test]
fn nonsense_is_judged_and_never_panics() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let kinds = [Kind::Invoke, Kind::Ok, Kind::Fail, Kind::Info];
    for _ in 0..300 {
        let count = rng.random_range(0..60);
        let events: Vec<Event> = (0..count).map(|_| nonsense(&mut rng, &kinds)).collect();
        let _ = judge(&events);
    }
}

fn nonsense(rng: &mut ChaCha8Rng, kinds: &[Kind]) -> Event {
    let kind = kinds[rng.random_range(0..kinds.len())];
    let mut event =
        Event::new(rng.random_range(0..100), Process::Client(rng.random_range(0..4)), kind, rng.next_u64() % 1000);
    let extreme = |rng: &mut ChaCha8Rng| match rng.random_range(0..8) {
        0 => i64::MIN,
        1 => i64::MAX,
        _ => rng.random_range(-3..6),
    };
    event.commit_ts = (rng.random_range(0..2) == 0).then(|| extreme(rng));
    event.read_ts = (rng.random_range(0..3) == 0).then(|| extreme(rng));
    event.stale = rng.random_range(0..4) == 0;
    for _ in 0..rng.random_range(0..5) {
        let key = check::Key::Number(rng.random_range(0..3));
        let (a, b) = (extreme(rng), extreme(rng));
        event.txn.push(match rng.random_range(0..11) {
            0 => Op::Append(key, a),
            1 => Op::Read(key),
            2 => Op::ReadList(key, vec![a, b, a]),
            3 => Op::ReadValue(key, a),
            4 => Op::Write(key, a),
            5 => Op::Delete(key),
            6 => Op::Cas(key, a, b),
            7 => Op::Add(key, a),
            8 => Op::Scan(a, b, Some(vec![(b, a), (a, b)])),
            9 => Op::Transfer(a, b, a),
            _ => Op::Total(a, Some(b)),
        });
    }
    event
}
