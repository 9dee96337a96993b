//! Reports of hand-made histories.

use check::{Anomaly, Event, Key, Kind, Op, Process, Verdict};
use serde_json::json;

use super::fixtures::{History, MS, S, stormy};
use super::ops::Work;
use super::*;

fn append(value: i64) -> Op {
    Op::Append(Key::Number(0), value)
}

/// One write each 10 ms for 20 s, but none where `dead` says so.
fn steady(dead: &[(u64, u64)], notes: impl FnOnce(&mut History)) -> Summary {
    let mut h = History::default();
    notes(&mut h);
    for n in 1..2000 {
        let at = n * 10 * MS;
        if !dead.iter().any(|(from, to)| (*from..*to).contains(&at)) {
            h.op(0, 1, (at - 2 * MS, at), append(n as i64), Kind::Ok, |_| {});
        }
    }
    Summary::of(&h.events())
}

#[test]
fn nothing_at_all_is_reported_as_such() {
    let options = Options::default();
    let report = text(&[], Some(&Verdict::default()), &options);
    assert!(report.ends_with("verdict    PROVES NOTHING: no operation took effect\n"), "{report}");
    let page = html(&[], None, &options);
    assert!(page.contains("PROVES NOTHING") && !page.contains("<svg"), "{page}");
}

#[test]
fn a_single_event_of_each_sort_is_no_trouble() {
    for kind in [Kind::Invoke, Kind::Ok, Kind::Fail, Kind::Info] {
        for process in [Process::Client(1), Process::Named("nemesis".into()), Process::Named("setup".into())] {
            for time_ns in [0, 5, u64::MAX] {
                let mut event = Event::new(0, process.clone(), kind, time_ns);
                event.f = "kill".into();
                event.value = Some(json!({"node": [], "phase": "begin", "duration_s": 1e300, "shards": i64::MIN}));
                let events = [event];
                assert!(!text(&events, None, &Options::default()).is_empty());
                assert!(html(&events, None, &Options::default()).ends_with("</html>\n"));
            }
        }
    }
}

#[test]
fn an_outage_is_found_with_its_cost() {
    let summary = steady(&[(5 * S + 20 * MS, 7 * S)], |h| {
        h.note(5 * S, "nemesis", "kill", json!({"node": 2, "phase": "begin"}));
        h.note(9 * S, "nemesis", "kill", json!({"node": 2, "phase": "end"}));
        h.note(15 * S, "nemesis", "skew", json!({"node": 1, "by": "+3ms"}));
    });
    let [kill, skew] = &summary.faults[..] else { panic!("{:?}", summary.faults) };
    assert_eq!((kill.kind.as_str(), kill.target.as_str(), kill.ended_ns), ("kill", "n2", Some(9 * S)));
    assert_eq!(kill.cost.gap, (5 * S + 10 * MS, 1990 * MS));
    assert!(kill.cost.disturbed);
    assert_eq!(kill.cost.recovered_ns, Some(2 * S));
    assert_eq!(kill.cost.by_node, [(1, 1990 * MS)]);
    assert_eq!((skew.cost.disturbed, skew.cost.gap.1, skew.detail.as_str()), (false, 10 * MS, "by +3ms"));
    assert_eq!(summary.worst_gap, (5 * S + 10 * MS, 1990 * MS));
    assert_eq!(summary.service.usual_per_s, 100.0);
}

#[test]
fn an_outage_to_the_end_is_never_recovered_from() {
    let summary = steady(&[(5 * S, 100 * S)], |h| {
        h.note(0, "setup", "setup", json!({"duration_s": 20.0}));
        h.note(5 * S, "nemesis", "partition", json!({"node": "1|2|3", "phase": "begin"}));
        h.op(9, 1, (0, 30 * S), append(-1), Kind::Ok, |_| {});
    });
    assert_eq!(summary.load_ns, (0, 20 * S), "what ends later is no load");
    let fault = &summary.faults[0];
    assert!(fault.lasting && fault.ended_ns.is_none());
    assert_eq!((fault.cost.gap, fault.cost.recovered_ns), ((5 * S, 15 * S), None));
}

#[test]
fn half_the_rate_is_a_dip_without_a_gap() {
    let holes: Vec<(u64, u64)> = (0..40).map(|n| (8 * S + n * 50 * MS, 8 * S + n * 50 * MS + 31 * MS)).collect();
    let summary = steady(&holes, |h| h.note(8 * S, "nemesis", "slow", json!({"node": 2, "phase": ""})));
    let cost = &summary.faults[0].cost;
    assert!(cost.disturbed && cost.gap.1 < 100 * MS, "{cost:?}");
    let recovered = cost.recovered_ns.expect("it comes back");
    assert!((1600 * MS..2100 * MS).contains(&recovered), "{recovered}");
}

#[test]
fn what_was_in_doubt_is_counted_with_its_end() {
    let mut h = History::default();
    h.op(1, 1, (0, 5 * MS), append(1), Kind::Ok, |e| e.status = "committed".into());
    h.op(2, 1, (0, 5 * MS), append(2), Kind::Fail, |e| e.status = "aborted".into());
    h.op(3, 1, (0, 5 * MS), append(3), Kind::Info, |_| {});
    h.op(4, 1, (0, 6 * MS), append(4), Kind::Info, |_| {});
    h.note(9 * MS, "resolver", "status", json!({"process": 3, "status": "committed"}));
    let summary = Summary::of(&h.events());
    let o = summary.operations;
    assert_eq!((o.begun, o.ok, o.failed, o.in_doubt), (4, 1, 1, 4));
    assert_eq!((o.doubt_committed, o.doubt_aborted, o.doubt_unknown), (2, 1, 1));
}

#[test]
fn kinds_of_work_and_of_errors_are_told_apart() {
    let mut h = History::default();
    let key = || Key::Number(1);
    h.op(1, 1, (0, 4 * MS), Op::Write(key(), 1), Kind::Ok, |_| {});
    h.op(2, 1, (0, 3 * MS), Op::Read(key()), Kind::Ok, |_| {});
    h.op(3, 1, (0, 2 * MS), Op::Read(key()), Kind::Ok, |e| e.read_ts = Some(1));
    h.op(4, 2, (0, MS), Op::Total(9, Some(1)), Kind::Ok, |e| e.read_ts = Some(1));
    let mut events = h.events();
    for event in events.iter_mut().filter(|e| e.process == Process::Client(4) && e.kind == Kind::Invoke) {
        event.stale = true;
    }
    let summary = Summary::of(&events);
    let kinds: Vec<(Work, u64)> = summary.work.iter().map(|(work, l)| (*work, l.max)).collect();
    let expected = [(Work::Write, 4), (Work::LockingRead, 3), (Work::StrongRead, 2), (Work::PastRead, 1)];
    assert_eq!(kinds, expected.map(|(work, ms)| (work, ms * MS)));
    assert_eq!(summary.nodes.len(), 2);
    for (text, class) in [
        ("wounded by t7 (SQLSTATE 40001)", "40001 aborted by a conflict; may be tried again"),
        ("odd (SQLSTATE XX000)", "XX000"),
        ("connection to 127.0.0.1:9 lost: eof", "connection lost"),
        ("group 12 has no leader: n3 is gone", "group # has no leader"),
        ("", "no reason given"),
    ] {
        assert_eq!(summary::class(text), class);
    }
}

#[test]
fn the_text_as_shown() {
    let mut verdict = Verdict::default();
    verdict.checked.push("4 transactions: 1 took effect".into());
    let options = Options { history: "h.jsonl".into(), ..Options::default() };
    let events = stormy(30, 4 * MS);
    let report = text(&events, Some(&verdict), &options);
    let golden = "src/report/golden/stormy.txt";
    if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        std::fs::write(golden, &report).expect("written");
    }
    assert_eq!(report, std::fs::read_to_string(golden).expect("the golden file"));
}

#[test]
fn an_anomaly_is_told_by_both() {
    let mut verdict = Verdict::default();
    verdict.counts.insert("G1c".into(), 3);
    verdict.anomalies.push(Anomaly { name: "G1c".into(), story: "T1 <b>saw</b> T2\nT2 saw T1".into() });
    verdict.anomalies.push(Anomaly { name: "own".into(), story: String::new() });
    let events = stormy(2, 20 * MS);
    let report = text(&events, Some(&verdict), &Options::default());
    let last = report.lines().last().expect("the verdict");
    assert!(last.starts_with("verdict    INVALID: ") && last.ends_with("3 × G1c, 1 × own"), "{report}");
    let page = html(&events, Some(&verdict), &Options::default());
    assert!(page.contains("<title>INVALID: ") && page.contains("T1 &lt;b&gt;saw&lt;/b&gt; T2"));
}

#[test]
fn nothing_of_a_history_becomes_markup() {
    let evil = "</script><img src=x onerror=alert(1)>\"'&\u{0}";
    let mut h = History::default();
    h.note(0, "setup", "setup", json!({"workload": evil, "command": evil}));
    h.note(MS, "nemesis", evil, json!({"node": evil, "phase": "begin", evil: evil}));
    h.note(MS, "workload", "violation", json!(evil));
    h.op(1, 1, (0, 9 * MS), append(1), Kind::Fail, |e| e.error = evil.into());
    h.op(2, 1, (0, 9 * MS), append(1), Kind::Ok, |_| {});
    let mut verdict = Verdict { checked: vec![evil.into()], ..Verdict::default() };
    verdict.anomalies.push(Anomaly { name: evil.into(), story: evil.into() });
    let options = Options { title: evil.into(), history: evil.into(), problems: vec![evil.into()] };
    let page = html(&h.events(), Some(&verdict), &options);
    assert!(!page.contains("<img") && !page.contains("onerror=alert(1)>\""), "markup got through");
    assert_eq!(page.matches("</script>").count(), 2, "the data and the script end where they should");
}

#[test]
fn a_long_history_makes_a_small_page() {
    let events = stormy(160, 2 * MS);
    assert!(events.len() > 100_000, "{}", events.len());
    let page = html(&events, Some(&Verdict::default()), &Options::default());
    assert!(page.len() < 250_000, "{} bytes", page.len());
    for outside in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "the page reaches out by {outside}");
    }
    assert!(page.contains("kill n2") && page.contains(">1.8"), "the fault and its gap are drawn");
}
