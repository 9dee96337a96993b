//! Workloads against real processes: their histories are judged, and a broken one is refused.

use std::time::Duration;

use e2e::cluster::{Output, run};
use e2e::{Cluster, pause};

fn workload(cluster: &Cluster, name: &str, step: &str, more: &[&str]) -> Output {
    let connect = cluster.connect();
    let mut args = vec!["workload", name, step, "--connect", &connect, "--report", "json", "--seed", "1"];
    args.extend(more);
    run(&args)
}

fn report(out: &Output) -> serde_json::Value {
    let last = out.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {out:?}"))
}

#[test]
fn histories_of_a_real_cluster_are_valid_also_when_a_node_dies() {
    let mut cluster = Cluster::start();
    for name in ["append", "register", "write-skew"] {
        let history = cluster.path(&format!("{name}.jsonl"));
        let more = ["--duration", "1500ms", "--check", "--history", &history, "--lose-replies", "50"];
        let out = workload(&cluster, name, "run", &more);
        assert_eq!(out.code, 0, "{name}: {}{}", out.stdout, out.stderr);
        let report = report(&out);
        assert_eq!(report["verdict"], "valid", "{report}");
        assert_eq!(report["good"], true, "{report}");
        assert!(report["writes"].as_u64() > Some(20), "{report}");
        let lines = std::fs::read_to_string(&history).expect("a history");
        assert!(lines.lines().next().is_some_and(|line| line.contains(&format!("\"workload\":\"{name}\""))), "{lines}");
    }

    // A node dies while it runs: its clients move on, and nothing is lost.
    let connect = cluster.connect();
    let running = std::thread::spawn(move || {
        let args = ["workload", "append", "run", "--connect", &connect, "--report", "json", "--check"];
        run(&[&args[..], &["--duration", "2s", "--statement-timeout", "3s"]].concat())
    });
    pause(Duration::from_millis(800));
    cluster.kill(3);
    let out = running.join().expect("it ran");
    assert_eq!(out.code, 0, "{}{}", out.stdout, out.stderr);
    assert_eq!(report(&out)["verdict"], "valid");
}

#[test]
fn a_history_that_was_tampered_with_is_refused() {
    let cluster = Cluster::start();
    let history = cluster.path("bank.jsonl");
    let with = ["--duration", "500ms", "--accounts", "20", "--init", "--ledger", "--check", "--history", &history];
    let out = workload(&cluster, "bank", "run", &with);
    assert_eq!((out.code, &report(&out)["verdict"]), (0, &"valid".into()), "{}{}", out.stdout, out.stderr);
    let check = || workload(&cluster, "bank", "check", &["--history", &history]);
    assert_eq!(check().code, 0, "{:?}", check());

    let text = std::fs::read_to_string(&history).expect("a history");
    let (mut lines, mut done) = (Vec::new(), false);
    for line in text.lines() {
        let mut event: serde_json::Value = serde_json::from_str(line).expect(line);
        if !done && event["type"] == "ok" && event["txn"][0][0] == "transfer" {
            event["txn"][0][2] = (event["txn"][0][2].as_i64().expect("an amount") + 1).into();
            done = true;
        }
        lines.push(event.to_string());
    }
    assert!(done, "there was a transfer");
    std::fs::write(&history, lines.join("\n")).expect("written");
    let out = check();
    assert_eq!((out.code, &report(&out)["invariant"]), (1, &"violated".into()), "{out:?}");
}

#[test]
fn a_run_that_proves_too_little_fails() {
    let cluster = Cluster::start();
    let out = workload(&cluster, "cas", "run", &["--duration", "300ms", "--check", "--min-ops", "1000000"]);
    assert_eq!(out.code, 1, "{out:?}");
    assert_eq!(report(&out)["good"], false);
}
