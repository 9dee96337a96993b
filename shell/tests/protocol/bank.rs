//! The bank workload: its accounts must be right under every fault, and it must notice a server
//! that is wrong.

use clap::Parser;
use shell::args::BankArgs;
use shell::out::Out;
use shell::workload::bank::{check, init, run};

use crate::fake::{Cluster, Fault};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    bank: BankArgs,
}

fn args(cluster: &Cluster, more: &str) -> BankArgs {
    let connect = cluster.addresses.join(",");
    let fixed = ["bank", "--connect", &connect, "--duration", "1s", "--seed", "1"];
    Cli::parse_from(fixed.into_iter().chain(more.split_whitespace())).bank
}

async fn bank_run(args: &BankArgs) -> (i32, serde_json::Value) {
    let ((mut out, shown), (mut err, _)) = (Out::memory(), Out::memory());
    let code = run::run(args, std::future::pending(), &mut out, &mut err).await.expect("it ran");
    let shown = String::from_utf8(shown.lock().expect("one thread").clone()).expect("utf-8");
    (code, serde_json::from_str(shown.lines().last().expect("a line")).expect("JSON"))
}

async fn bank_check(args: &BankArgs) -> i32 {
    let ((mut out, _), (mut err, _)) = (Out::memory(), Out::memory());
    check::run(args, &mut out, &mut err).await.expect("it ran")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_is_accounted_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let history = folder.path().join("history.jsonl");
    for ledger in ["--ledger", ""] {
        let cluster = Cluster::start(3).await;
        let more = format!("--accounts 20 --clients 4 --report json --history {} {ledger}", history.display());
        let args = args(&cluster, &more);
        assert_eq!(init::run(&args, &mut Out::memory().0).await.expect("made"), 0);
        {
            use Fault::*;
            let mut state = cluster.state();
            state.fault_every = 5;
            state.faults = [LoseAfter, Conflict, LoseBefore, InDoubtCommitted, ErrorAborted, LoseAfter].into();
        }
        let (code, report) = bank_run(&args).await;
        assert_eq!((code, &report["invariant"]), (0, &"held".into()), "{report}");
        assert!(cluster.state().faults.is_empty(), "all faults struck: {report}");
        assert_eq!(report["ambiguous"], 5);
        assert_eq!(report["ambiguous_committed"], 3);
        assert_eq!(report["ambiguous_aborted"], 2);
        assert_eq!(report["ambiguous_unresolved"], 0);
        assert_eq!(report["retries"], 1);
        assert!(report["reads"].as_u64() > Some(0) && report["transfers"].as_u64() > Some(0), "{report}");
        assert_eq!(report["nodes"], 3);
        assert_eq!(bank_check(&args).await, 0);

        // The last commit is lost by a disk that lied.
        {
            let mut state = cluster.state();
            let newest = *state.versions.keys().next_back().expect("some");
            state.versions.remove(&newest);
            state.ledger.pop();
        }
        assert_eq!(bank_check(&args).await, 1, "a lost transfer keeps the sum, and is found all the same");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_sum_is_a_violation() {
    let cluster = Cluster::start(1).await;
    let args = args(&cluster, "--accounts 20 --clients 2 --report json --init --read-percent 50");
    cluster.state().lie = 1;
    let (code, report) = bank_run(&args).await;
    assert_eq!((code, &report["invariant"]), (1, &"violated".into()), "{report}");
}

#[tokio::test]
async fn a_bank_that_was_never_made_is_a_clear_error() {
    let cluster = Cluster::start(1).await;
    let args = args(&cluster, "");
    let ((mut out, _), (mut err, _)) = (Out::memory(), Out::memory());
    let failed = run::run(&args, std::future::pending(), &mut out, &mut err).await.expect_err("no bank");
    assert!(failed.to_string().contains("init"), "{failed}");
}
