//! Recorded histories: their lines, the judge and the report on them.

use check::{Event, Key, Kind, Op, Process};
use shell::report;

/// Lines of JSON; whatever is an event is judged and reported.
pub fn lines(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut events = Vec::new();
    for line in text.lines() {
        let Ok(event) = Event::parse(line) else { continue };
        let written = event.to_line();
        assert_eq!(Event::parse(&written).expect("what was written is read"), event, "{written}");
        events.push(event);
    }
    if !events.is_empty() {
        report_on(&events);
    }
}

/// Four bytes an event, so that histories are rich: who and which phase, what, of which keys, when.
pub fn judge(data: &[u8]) {
    let mut events = Vec::new();
    let mut time_ns = 0u64;
    for (index, bytes) in data.chunks_exact(4).take(400).enumerate() {
        let [who, what, key, when] = bytes.try_into().expect("four bytes");
        let kind = [Kind::Invoke, Kind::Ok, Kind::Fail, Kind::Info][usize::from(who >> 6)];
        let process = match who & 7 {
            7 => Process::Named(["nemesis", "setup", "monitor", "workload"][usize::from(when & 3)].into()),
            process => Process::Client(u64::from(process)),
        };
        time_ns += u64::from(when >> 4);
        let mut event = Event::new(index as u64, process, kind, time_ns * 50_000_000);
        event.f = ["kill", "epsilon", "final", "heal"][usize::from(when >> 2 & 3)].into();
        event.txn = vec![op(what, key)];
        if who & 16 != 0 {
            event.txn.push(op(what.rotate_left(3), key.rotate_left(2)));
        }
        event.stale = who & 8 != 0 && kind == Kind::Invoke;
        event.commit_ts = (when & 1 != 0).then_some(i64::from(when >> 1));
        event.read_ts = (when & 2 != 0).then_some(i64::from(when >> 2));
        event.node = (who & 32 != 0).then_some(u64::from(key & 3));
        events.push(event);
    }
    if !events.is_empty() {
        report_on(&events);
    }
}

fn op(what: u8, byte: u8) -> Op {
    let key = || Key::Number(i64::from(byte & 3));
    let value = i64::from(byte >> 2 & 7);
    let more = i64::from(byte >> 5);
    match what % 12 {
        0 => Op::Append(key(), value),
        1 => Op::Read(key()),
        2 => Op::ReadList(key(), (0..more).map(|n| (value + n) % 8).collect()),
        3 => Op::ReadValue(key(), value),
        4 => Op::Write(key(), value),
        5 => Op::Delete(key()),
        6 => Op::Cas(key(), value, more),
        7 => Op::Add(key(), value),
        8 => Op::Scan(i64::from(byte & 3), more, Some((0..value).map(|n| (n % 4, more)).collect())),
        9 => Op::Transfer(value, more, i64::from(byte)),
        10 => Op::Total(3, Some(value)),
        _ => Op::Scan(0, 4, None),
    }
}

fn report_on(events: &[Event]) {
    let verdict = check::judge(events);
    let options = report::Options::default();
    assert!(report::text(events, Some(&verdict), &options).contains("verdict"));
    assert!(report::html(events, Some(&verdict), &options).ends_with("</html>\n"));
}
