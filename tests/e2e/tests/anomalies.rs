//! The well-known anomalies of isolation, one history each: none occurs.
//!
//! Each case is what two or three sessions type, in an order in which a weaker database would show the
//! anomaly (G0 to G2 of Adya; OTV, PMP, P4, read and write skew). Whether a statement waits, is
//! refused, or wins is the database's own affair; what is asked is whether the transactions that
//! committed did what they would have done one after the other, in some order: each order is run for
//! real, on another table, and must give the same rows to the same statements and the same table at the end.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use e2e::{Cluster, Session};

/// How long a statement may take before the next session goes on: those that wait for a lock take longer.
const PATIENCE: Duration = Duration::from_millis(150);

struct Case {
    name: &'static str,
    /// What each session types, with `t` for the table. BEGIN comes before the first, COMMIT is written out.
    steps: &'static [(usize, &'static str)],
}

const CASES: &[Case] = &[
    Case {
        name: "G0, write cycles",
        steps: &[
            (0, "UPDATE t SET v = 11 WHERE id = 1"),
            (1, "UPDATE t SET v = 12 WHERE id = 1"),
            (0, "UPDATE t SET v = 21 WHERE id = 2"),
            (0, "COMMIT"),
            (1, "UPDATE t SET v = 22 WHERE id = 2"),
            (1, "COMMIT"),
        ],
    },
    Case {
        name: "G1a, aborted reads",
        steps: &[
            (0, "UPDATE t SET v = 101 WHERE id = 1"),
            (1, "SELECT * FROM t"),
            (0, "ROLLBACK"),
            (1, "SELECT * FROM t"),
            (1, "COMMIT"),
        ],
    },
    Case {
        name: "G1b, intermediate reads",
        steps: &[
            (0, "UPDATE t SET v = 101 WHERE id = 1"),
            (1, "SELECT * FROM t"),
            (0, "UPDATE t SET v = 11 WHERE id = 1"),
            (0, "COMMIT"),
            (1, "SELECT * FROM t"),
            (1, "COMMIT"),
        ],
    },
    Case {
        name: "G1c, circular information flow",
        steps: &[
            (0, "UPDATE t SET v = 11 WHERE id = 1"),
            (1, "UPDATE t SET v = 22 WHERE id = 2"),
            (0, "SELECT * FROM t WHERE id = 2"),
            (1, "SELECT * FROM t WHERE id = 1"),
            (0, "COMMIT"),
            (1, "COMMIT"),
        ],
    },
    Case {
        name: "OTV, observed transaction vanishes",
        steps: &[
            (0, "UPDATE t SET v = 11 WHERE id = 1"),
            (0, "UPDATE t SET v = 19 WHERE id = 2"),
            (1, "UPDATE t SET v = 12 WHERE id = 1"),
            (0, "COMMIT"),
            (2, "SELECT * FROM t WHERE id = 1"),
            (1, "UPDATE t SET v = 18 WHERE id = 2"),
            (2, "SELECT * FROM t WHERE id = 2"),
            (1, "COMMIT"),
            (2, "SELECT * FROM t WHERE id = 2"),
            (2, "SELECT * FROM t WHERE id = 1"),
            (2, "COMMIT"),
        ],
    },
    Case {
        name: "PMP, predicate-many-preceders, by a reader",
        steps: &[
            (0, "SELECT * FROM t WHERE v = 30"),
            (1, "INSERT INTO t VALUES (3, 30)"),
            (1, "COMMIT"),
            (0, "SELECT * FROM t WHERE v % 3 = 0"),
            (0, "COMMIT"),
        ],
    },
    Case {
        name: "PMP, predicate-many-preceders, by a writer",
        steps: &[
            (0, "UPDATE t SET v = v + 10"),
            (1, "SELECT * FROM t"),
            (1, "DELETE FROM t WHERE v = 20"),
            (0, "COMMIT"),
            (1, "SELECT * FROM t WHERE v = 20"),
            (1, "COMMIT"),
        ],
    },
    Case {
        name: "P4, lost update",
        steps: &[
            (0, "SELECT * FROM t WHERE id = 1"),
            (1, "SELECT * FROM t WHERE id = 1"),
            (0, "UPDATE t SET v = v + 1 WHERE id = 1"),
            (1, "UPDATE t SET v = v + 1 WHERE id = 1"),
            (0, "COMMIT"),
            (1, "COMMIT"),
        ],
    },
    Case {
        name: "G-single, read skew",
        steps: &[
            (0, "SELECT * FROM t WHERE id = 1"),
            (1, "SELECT * FROM t"),
            (1, "UPDATE t SET v = 12 WHERE id = 1"),
            (1, "UPDATE t SET v = 18 WHERE id = 2"),
            (1, "COMMIT"),
            (0, "SELECT * FROM t WHERE id = 2"),
            (0, "COMMIT"),
        ],
    },
    Case {
        name: "G-single, read skew by predicates",
        steps: &[
            (0, "SELECT * FROM t WHERE v % 5 = 0"),
            (1, "UPDATE t SET v = 12 WHERE v = 10"),
            (1, "COMMIT"),
            (0, "SELECT * FROM t WHERE v % 3 = 0"),
            (0, "COMMIT"),
        ],
    },
    Case {
        name: "G-single, a delete after a stale read",
        steps: &[
            (0, "SELECT * FROM t WHERE id = 1"),
            (1, "SELECT * FROM t"),
            (1, "UPDATE t SET v = 12 WHERE id = 1"),
            (1, "UPDATE t SET v = 18 WHERE id = 2"),
            (1, "COMMIT"),
            (0, "DELETE FROM t WHERE v = 20"),
            (0, "COMMIT"),
        ],
    },
    Case {
        name: "G-single, a delete between two writes",
        steps: &[
            (0, "SELECT * FROM t WHERE id = 1"),
            (1, "SELECT * FROM t"),
            (1, "UPDATE t SET v = 12 WHERE id = 1"),
            (0, "DELETE FROM t WHERE v = 20"),
            (1, "UPDATE t SET v = 18 WHERE id = 2"),
            (0, "COMMIT"),
            (1, "COMMIT"),
        ],
    },
    Case {
        name: "G2-item, write skew",
        steps: &[
            (0, "SELECT * FROM t WHERE id IN (1, 2)"),
            (1, "SELECT * FROM t WHERE id IN (1, 2)"),
            (0, "UPDATE t SET v = 11 WHERE id = 1"),
            (1, "UPDATE t SET v = 21 WHERE id = 2"),
            (0, "COMMIT"),
            (1, "COMMIT"),
        ],
    },
    Case {
        name: "G2, write skew by predicates",
        steps: &[
            (0, "SELECT * FROM t WHERE v % 3 = 0"),
            (1, "SELECT * FROM t WHERE v % 3 = 0"),
            (0, "INSERT INTO t VALUES (3, 30)"),
            (1, "INSERT INTO t VALUES (4, 42)"),
            (0, "COMMIT"),
            (1, "COMMIT"),
        ],
    },
    Case {
        name: "G2, a reader that makes the cycle",
        steps: &[
            (0, "SELECT * FROM t"),
            (1, "UPDATE t SET v = v + 5 WHERE id = 2"),
            (1, "COMMIT"),
            (2, "SELECT * FROM t"),
            (2, "COMMIT"),
            (0, "UPDATE t SET v = 0 WHERE id = 1"),
            (0, "COMMIT"),
        ],
    },
    Case {
        name: "G2, write skew by joins and aggregates",
        steps: &[
            (0, "SELECT count(*), sum(a.v) FROM t AS a JOIN t AS b ON a.id = b.id"),
            (1, "SELECT count(*), sum(a.v) FROM t AS a JOIN t AS b ON a.id = b.id"),
            (0, "INSERT INTO t SELECT max(id) + 10, sum(v) FROM t"),
            (1, "INSERT INTO t SELECT max(id) + 20, sum(v) FROM t"),
            (0, "COMMIT"),
            (1, "COMMIT"),
        ],
    },
];

/// What a statement gave: its rows and its tag, or its SQLSTATE.
type Outcome = Result<(Vec<Vec<String>>, String), String>;

fn run(session: &mut Session, table: &str, sql: &str) -> Outcome {
    // `t` stands alone where it is the table.
    let words = sql.split(' ').map(|word| if word == "t" { table } else { word });
    let sql = words.collect::<Vec<_>>().join(" ");
    match session.query(&sql) {
        Ok(answer) => Ok((answer.rows, answer.complete.tag)),
        Err(failure) => Err(failure.sqlstate().to_string()),
    }
}

/// A session that types on its own, so that it may wait while others go on.
struct Typist {
    todo: Sender<&'static str>,
    done: Receiver<Outcome>,
    thread: JoinHandle<()>,
    waiting: usize,
    outcomes: Vec<Outcome>,
}

impl Typist {
    fn new(mut session: Session, table: String) -> Typist {
        let (todo, steps) = channel::<&'static str>();
        let (answers, done) = channel();
        let thread = std::thread::spawn(move || {
            for step in steps {
                if answers.send(run(&mut session, &table, step)).is_err() {
                    return;
                }
            }
        });
        Typist { todo, done, thread, waiting: 0, outcomes: Vec::new() }
    }

    fn type_in(&mut self, step: &'static str) {
        self.todo.send(step).expect("the typist is there");
        self.waiting += 1;
        while self.waiting > 0 {
            match self.done.recv_timeout(PATIENCE) {
                Ok(outcome) => self.answered(outcome),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => panic!("the typist has gone"),
            }
        }
    }

    fn answered(&mut self, outcome: Outcome) {
        self.waiting -= 1;
        self.outcomes.push(outcome);
    }

    fn finish(mut self) -> Vec<Outcome> {
        while self.waiting > 0 {
            let outcome = self.done.recv_timeout(Duration::from_secs(30)).expect("every statement ends");
            self.answered(outcome);
        }
        drop(self.todo);
        self.thread.join().expect("the typist ends");
        self.outcomes
    }
}

fn make(session: &mut Session, table: &str, split: bool) {
    session.must(&format!("CREATE TABLE {table} (id INT PRIMARY KEY, v INT)"));
    if split {
        session.must(&format!("ALTER TABLE {table} SPLIT AT VALUES (2), (4)"));
    }
    session.must(&format!("INSERT INTO {table} VALUES (1, 10), (2, 20)"));
}

fn contents(session: &mut Session, table: &str) -> Vec<Vec<String>> {
    session.must(&format!("SELECT * FROM {table} ORDER BY id")).rows
}

fn steps_of(case: &Case, who: usize) -> Vec<&'static str> {
    case.steps.iter().filter(|(session, _)| *session == who).map(|(_, step)| *step).collect()
}

/// Every order of some of the numbers.
fn orders(of: &[usize]) -> Vec<Vec<usize>> {
    if of.is_empty() {
        return vec![Vec::new()];
    }
    let first = |at: usize| {
        let rest: Vec<usize> = of.iter().copied().filter(|other| *other != of[at]).collect();
        orders(&rest).into_iter().map(move |rest| std::iter::once(of[at]).chain(rest).collect())
    };
    (0..of.len()).flat_map(first).collect()
}

/// The order in which the committed transactions give what they gave, run one after the other.
fn serial_order(
    session: &mut Session,
    case: &Case,
    name: &str,
    outcomes: &[Vec<Outcome>],
    end: &[Vec<String>],
) -> Option<Vec<usize>> {
    let committed: Vec<usize> = (0..outcomes.len()).filter(|who| has_committed(&outcomes[*who])).collect();
    orders(&committed).into_iter().enumerate().find_map(|(number, order)| {
        let table = format!("{name}_{number}");
        make(session, &table, false);
        let same = order.iter().all(|who| {
            session.must("BEGIN");
            let again: Vec<Outcome> = steps_of(case, *who).into_iter().map(|step| run(session, &table, step)).collect();
            again == outcomes[*who]
        });
        (same && contents(session, &table) == end).then_some(order)
    })
}

fn has_committed(outcomes: &[Outcome]) -> bool {
    matches!(outcomes.last(), Some(Ok((_, tag))) if tag == "COMMIT")
}

#[test]
fn no_anomaly_occurs() {
    let cluster = Cluster::start();
    let mut s = cluster.session(1);
    let mut all = 0;
    for (number, case) in CASES.iter().enumerate() {
        for split in [false, true] {
            let name = format!("t{number}{}", if split { "s" } else { "" });
            make(&mut s, &name, split);
            let sessions = case.steps.iter().map(|(who, _)| who + 1).max().expect("a case has steps");
            let mut typists: Vec<Typist> = (0..sessions)
                .map(|who| {
                    let mut session = cluster.session(who as u64 % 3 + 1);
                    session.must("BEGIN");
                    Typist::new(session, name.clone())
                })
                .collect();
            for (who, step) in case.steps {
                typists[*who].type_in(step);
            }
            let outcomes: Vec<Vec<Outcome>> = typists.into_iter().map(Typist::finish).collect();
            let end = contents(&mut s, &name);
            let found = serial_order(&mut s, case, &name, &outcomes, &end);
            assert!(found.is_some(), "{}: no order of its transactions gives {outcomes:#?} and {end:?}", case.name);
            let committed = outcomes.iter().filter(|outcomes| has_committed(outcomes)).count();
            assert!(committed > 0, "{}: nobody committed: {outcomes:#?}", case.name);
            all += usize::from(committed == sessions);
        }
    }
    // Locks make most of them wait, and not fail.
    assert!(all > CASES.len() / 2, "only in {all} of {} runs did all transactions commit", 2 * CASES.len());
}

#[test]
fn an_anomaly_would_be_seen() {
    let cluster = Cluster::start();
    let mut s = cluster.session(1);
    let case = CASES.iter().find(|case| case.name == "P4, lost update").expect("it is in the list");
    let row = |v: &str| Ok((vec![vec!["1".to_string(), v.to_string()]], "SELECT 1".to_string()));
    let tag = |tag: &str| Ok((Vec::new(), tag.to_string()));
    // Both read 10, and both wrote 11.
    let lost = vec![row("10"), tag("UPDATE 1"), tag("COMMIT")];
    let end = |v: &str| vec![vec!["1".to_string(), v.to_string()], vec!["2".to_string(), "20".to_string()]];
    assert_eq!(serial_order(&mut s, case, "lost", &[lost.clone(), lost.clone()], &end("11")), None);
    let second = vec![row("11"), tag("UPDATE 1"), tag("COMMIT")];
    assert_eq!(serial_order(&mut s, case, "kept", &[second, lost], &end("12")), Some(vec![1, 0]));
}
