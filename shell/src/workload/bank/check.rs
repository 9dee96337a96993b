//! Checks a bank at rest: the sum, the ledger, and the history of a run.
//!
//! With a ledger, every acknowledged transfer of the history must be in it exactly as it was
//! asked for, no failed one may be, and each balance must be what the ledger makes of it. Without
//! one, and if the history is that of the only run and leaves nothing in doubt, each balance must
//! be what the acknowledged transfers make of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use check::{Event, Kind, Op, Process};

use super::{Setup, int, options};
use crate::args::{BankArgs, Report};
use crate::client::{Client, Failure};
use crate::out::Out;

/// How many problems are listed.
const LISTED_MAX: usize = 50;

/// How often the snapshot is tried again while a node is down.
const TRIES: u32 = 30;

/// A transfer, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The account it leaves.
    pub from: i64,
    /// The account it reaches.
    pub to: i64,
    /// How much.
    pub amount: i64,
}

/// A transfer's name: run, client, number.
pub type Name = (i64, i64, i64);

/// The bank at one timestamp.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Balances by account.
    pub balances: BTreeMap<i64, i64>,
    /// The ledger, if there is one.
    pub ledger: Option<BTreeMap<Name, Transfer>>,
}

/// What the check found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Broken promises.
    pub problems: Vec<String>,
    /// What was checked.
    pub facts: Vec<String>,
}

/// `meridian workload bank check`
pub async fn run(args: &BankArgs, out: &mut Out, err: &mut Out) -> anyhow::Result<i32> {
    let mut client = Client::connect_with(&args.connect.addresses(), options(args.statement_timeout * 6)).await?;
    let setup = Setup::load(&mut client).await?;
    if let Some(accounts) = args.accounts {
        anyhow::ensure!(accounts == setup.accounts, "the bank has {} accounts, not {accounts}", setup.accounts);
    }
    let events = match &args.history {
        Some(path) => Some(crate::check::read(path).map_err(anyhow::Error::msg)?),
        None => None,
    };
    let mut tried = 0;
    let books = loop {
        tried += 1;
        match read(&mut client, setup.ledger).await {
            Ok(books) => break books,
            Err(failure) if tried >= TRIES => return Err(failure.into()),
            Err(Failure::Server(e)) if !super::may_pass(&e.sqlstate) => return Err(Failure::Server(e).into()),
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
        }
        if client.state() != proto::v1::TransactionState::Idle {
            let _ = client.execute("ROLLBACK", Vec::new()).await;
        }
    };
    let verdict = verify(&setup, &books, events.as_deref());
    let invariant = if verdict.problems.is_empty() { "held" } else { "violated" };
    let text = args.report == Report::Text;
    let lines: &mut Out = if text { &mut *out } else { err };
    for fact in &verdict.facts {
        lines.line(fact);
    }
    for problem in verdict.problems.iter().take(LISTED_MAX) {
        lines.line(format!("VIOLATION  {problem}"));
    }
    lines.line(format!("invariant  {invariant}"));
    if !text {
        let report = serde_json::json!({
            "workload": "bank", "invariant": invariant, "problems": verdict.problems, "facts": verdict.facts,
        });
        out.line(report.to_string());
    }
    let _ = out.flush();
    Ok(i32::from(!verdict.problems.is_empty()))
}

/// Reads the books at one timestamp.
async fn read(client: &mut Client, ledger: bool) -> Result<Books, Failure> {
    client.execute("BEGIN READ ONLY", Vec::new()).await?;
    let mut books = Books::default();
    let results = client.execute("SELECT id, balance FROM accounts", Vec::new()).await?;
    for row in results.iter().flat_map(|r| &r.rows) {
        if let [id, balance] = row.values.iter().filter_map(int).collect::<Vec<_>>()[..] {
            books.balances.insert(id, balance);
        }
    }
    if ledger {
        let mut rows = BTreeMap::new();
        let sql = "SELECT run, client, seq, src, dst, amount FROM bank_ledger";
        let results = client.execute(sql, Vec::new()).await?;
        for row in results.iter().flat_map(|r| &r.rows) {
            if let [run, client, seq, from, to, amount] = row.values.iter().filter_map(int).collect::<Vec<_>>()[..] {
                rows.insert((run, client, seq), Transfer { from, to, amount });
            }
        }
        books.ledger = Some(rows);
    }
    client.execute("COMMIT", Vec::new()).await?;
    Ok(books)
}

/// What the accounts hold after these transfers.
fn replay<'a>(setup: &Setup, transfers: impl Iterator<Item = &'a Transfer>) -> BTreeMap<i64, i64> {
    let mut balances: BTreeMap<i64, i64> = (0..setup.accounts).map(|id| (id, setup.initial_balance)).collect();
    for transfer in transfers {
        *balances.entry(transfer.from).or_default() -= transfer.amount;
        *balances.entry(transfer.to).or_default() += transfer.amount;
    }
    balances
}

/// Compares the books with themselves and with a history.
pub fn verify(setup: &Setup, books: &Books, events: Option<&[Event]>) -> Verdict {
    let mut verdict = Verdict::default();
    let Verdict { problems, facts } = &mut verdict;
    let sum: i64 = books.balances.values().sum();
    facts.push(format!("{} accounts add up to {sum}", books.balances.len()));
    if sum != setup.total() || books.balances.len() as u64 != setup.accounts.unsigned_abs() {
        problems.push(format!("there must be {} accounts that add up to {}", setup.accounts, setup.total()));
    }
    for (id, balance) in books.balances.iter().filter(|(_, balance)| **balance < 0) {
        problems.push(format!("account {id} holds {balance}"));
    }
    if let Some(ledger) = &books.ledger {
        facts.push(format!("the ledger has {} transfers", ledger.len()));
        compare(&replay(setup, ledger.values()), &books.balances, "the ledger", problems);
    }
    if let Some(events) = events {
        history_against(setup, books, events, problems, facts);
    }
    verdict
}

fn compare(expected: &BTreeMap<i64, i64>, balances: &BTreeMap<i64, i64>, by: &str, problems: &mut Vec<String>) {
    for (id, expected) in expected {
        let held = balances.get(id);
        if held != Some(expected) {
            problems.push(format!("account {id} holds {held:?}, but by {by} it must hold {expected}"));
        }
    }
}

fn history_against(
    setup: &Setup,
    books: &Books,
    events: &[Event],
    problems: &mut Vec<String>,
    facts: &mut Vec<String>,
) {
    problems.extend(check::rules::broken(events).into_iter().map(|fault| format!("the history is broken: {fault}")));
    let setup_line = events.iter().find(|event| event.f == "setup");
    let run = setup_line.and_then(|event| event.value.as_ref()?.get("run")?.as_i64());
    let Some(run) = run else {
        problems.push("the history has no set-up line".to_string());
        return;
    };
    let mut acknowledged: BTreeMap<Name, Transfer> = BTreeMap::new();
    let mut failed: BTreeSet<Name> = BTreeSet::new();
    let mut asked: BTreeMap<Name, Transfer> = BTreeMap::new();
    for event in events {
        let Some(&Op::Transfer(from, to, amount)) = event.txn.first() else { continue };
        let number = |name: &str| event.value.as_ref()?.get(name)?.as_i64();
        let (Some(client), Some(seq)) = (number("client"), number("seq")) else {
            problems.push(format!("event {} does not say whose transfer it is", event.index));
            continue;
        };
        let (name, transfer) = ((run, client, seq), Transfer { from, to, amount });
        match event.kind {
            Kind::Invoke => {
                asked.insert(name, transfer);
            }
            Kind::Ok => {
                acknowledged.insert(name, transfer);
            }
            Kind::Fail => {
                failed.insert(name);
            }
            Kind::Info => {}
        }
    }
    let unknown = asked.len() - acknowledged.len().min(asked.len()) - failed.len().min(asked.len());
    facts.push(format!(
        "the history has {} acknowledged transfers, {} failed, {unknown} in doubt",
        acknowledged.len(),
        failed.len()
    ));
    if let Some(ledger) = &books.ledger {
        for (name, transfer) in &acknowledged {
            match ledger.get(name) {
                None => problems.push(format!("acknowledged transfer {name:?} is lost: {transfer:?}")),
                Some(kept) if kept != transfer => {
                    problems.push(format!("transfer {name:?} was {transfer:?}, but the ledger has {kept:?}"));
                }
                Some(_) => {}
            }
        }
        for name in ledger.keys().filter(|name| name.0 == run) {
            if failed.contains(name) {
                problems.push(format!("transfer {name:?} failed, but the ledger has it"));
            } else if !asked.contains_key(name) {
                problems.push(format!("the ledger has transfer {name:?}, which nobody asked for"));
            }
        }
    } else if setup.runs == 1 && unknown == 0 {
        compare(&replay(setup, acknowledged.values()), &books.balances, "the history", problems);
        facts.push("each balance was compared with the acknowledged transfers".to_string());
    } else {
        let why = if unknown > 0 { "transfers are in doubt" } else { "there was more than one run since init" };
        facts.push(format!("only the sum was compared, because there is no ledger and {why}"));
    }
    order(setup, events, problems);
}

/// What was acknowledged before something began has a smaller timestamp than its commit, and is
/// seen by its strong read.
fn order(setup: &Setup, events: &[Event], problems: &mut Vec<String>) {
    let mut newest = 0;
    let mut floors: BTreeMap<u64, (i64, bool)> = BTreeMap::new();
    for (at, event) in events.iter().enumerate() {
        let (line, Process::Client(process)) = (at + 1, &event.process) else { continue };
        match (event.txn.first(), event.kind) {
            (Some(Op::Total(..) | Op::Transfer(..)), Kind::Invoke) => {
                floors.insert(*process, (newest, event.stale));
            }
            (Some(Op::Transfer(..)), Kind::Ok) => {
                let Some(ts) = event.commit_ts else { continue };
                let floor = floors.get(process).map_or(0, |f| f.0);
                if ts <= floor {
                    problems.push(format!(
                        "line {line}: committed at {ts}, though {floor} was acknowledged before it began"
                    ));
                }
                newest = newest.max(ts);
            }
            (Some(Op::Total(_, total)), Kind::Ok) => {
                let (floor, stale) = floors.get(process).copied().unwrap_or_default();
                if let Some(ts) = event.read_ts
                    && !stale
                    && ts < floor
                {
                    problems.push(format!(
                        "line {line}: a strong read at {ts}, though {floor} was acknowledged before it began"
                    ));
                }
                if total.is_some_and(|total| total != setup.total()) {
                    problems.push(format!("line {line}: a snapshot added up to {total:?}"));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn setup(ledger: bool) -> Setup {
        Setup { accounts: 3, initial_balance: 100, shards: 1, ledger, runs: 1 }
    }

    fn event(time: u64, process: u64, kind: Kind, seq: i64, commit_ts: Option<i64>) -> Event {
        let mut event = Event::new(time, Process::Client(process), kind, time);
        event.txn = vec![Op::Transfer(0, 1, 10)];
        event.commit_ts = commit_ts;
        event.value = Some(json!({"client": 0, "seq": seq}));
        event
    }

    fn history() -> Vec<Event> {
        let mut setup = Event::new(0, Process::Named("setup".to_string()), Kind::Info, 0);
        setup.f = "setup".to_string();
        setup.value = Some(json!({"workload": "bank", "accounts": 3, "initial_balance": 100, "run": 9}));
        vec![
            setup,
            event(1, 1, Kind::Invoke, 1, None),
            event(2, 1, Kind::Ok, 1, Some(50)),
            event(3, 1, Kind::Invoke, 2, None),
            event(4, 1, Kind::Fail, 2, None),
        ]
    }

    fn books(balances: [i64; 3], ledger: Option<&[i64]>) -> Books {
        let transfer = Transfer { from: 0, to: 1, amount: 10 };
        let ledger = ledger.map(|seqs| seqs.iter().map(|seq| ((9, 0, *seq), transfer)).collect());
        Books { balances: (0..).zip(balances).collect(), ledger }
    }

    #[test]
    fn a_whole_bank_has_no_problem() {
        let with = verify(&setup(true), &books([90, 110, 100], Some(&[1])), Some(&history()));
        assert_eq!(with.problems, Vec::<String>::new());
        let without = verify(&setup(false), &books([90, 110, 100], None), Some(&history()));
        assert_eq!(without.problems, Vec::<String>::new());
    }

    #[test]
    fn a_lost_transfer_is_found_though_the_sum_is_right() {
        let with = verify(&setup(true), &books([100, 100, 100], Some(&[])), Some(&history()));
        assert!(with.problems.iter().any(|p| p.contains("is lost")), "{:?}", with.problems);
        let without = verify(&setup(false), &books([100, 100, 100], None), Some(&history()));
        assert_eq!(without.problems.len(), 2, "both accounts: {:?}", without.problems);
    }

    #[test]
    fn a_failed_transfer_that_happened_is_found() {
        let verdict = verify(&setup(true), &books([80, 120, 100], Some(&[1, 2])), Some(&history()));
        assert!(verdict.problems.iter().any(|p| p.contains("failed, but")), "{:?}", verdict.problems);
    }

    #[test]
    fn a_wrong_sum_and_a_wrong_order_are_found() {
        let verdict = verify(&setup(false), &books([90, 111, 100], None), None);
        assert_eq!(verdict.problems.len(), 1);
        let mut events = history();
        events.push(event(5, 1, Kind::Invoke, 3, None));
        events.push(event(6, 1, Kind::Ok, 3, Some(50)));
        let verdict = verify(&setup(false), &books([80, 120, 100], None), Some(&events));
        assert_eq!(verdict.problems.len(), 1, "{:?}", verdict.problems);
        assert!(verdict.problems[0].contains("line 7"), "{:?}", verdict.problems);
    }
}
