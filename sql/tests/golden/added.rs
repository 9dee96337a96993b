//! A foreign key that is added while three gateways write, each by a catalog of its own age: a random history of one
//! parent and one child, with a job that loses its gateway after each few commits. A dumb model keeps the rows.
//!
//! Once the constraint is public no row may ever refer to nothing, whoever wrote it by whatever catalog; no row may
//! go because of a constraint that is not sure to stay; and nobody may be refused for what violates nothing.

use std::collections::{BTreeMap, BTreeSet};

use sql::{Database, JobOptions, Session, SqlError};

use crate::engine::{Fault, MapEngine};
use crate::properties::Random;
use crate::{TextSink, block_on};

const KEYS: u64 = 6;
const GATEWAYS: u64 = 3;

/// How far the constraint is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Absent,
    NotValid,
    UnderWay,
    Public,
    Failed,
}

/// What a statement did if it was not refused.
#[derive(Clone, Copy, Debug)]
enum Write {
    InsertParent(i64),
    DeleteParent(i64),
    /// It is called otherwise.
    MoveParent(i64, i64),
    /// A new row, or another reference.
    Child(i64, Option<i64>),
    DeleteChild(i64),
}

struct World {
    engine: MapEngine,
    databases: Vec<Database<MapEngine>>,
    sessions: Vec<Session<MapEngine>>,
    /// Its catalog is always the newest.
    reader: Session<MapEngine>,
    /// By the column that is referred to; the primary key is another one.
    parents: BTreeSet<i64>,
    parents_made: u64,
    children: BTreeMap<i64, Option<i64>>,
    stage: Stage,
    /// It came as NOT VALID: then what it does to rows it does from the start.
    acts: bool,
    cascades: bool,
    log: Vec<String>,
}

fn run(session: &mut Session<MapEngine>, sql: &str) -> Result<String, SqlError> {
    let mut sink = TextSink::default();
    block_on(session.execute(sql, &[], &mut sink)).map(|()| sink.text)
}

/// The cells of the rows that were printed.
fn cells(text: &str) -> Vec<Vec<Option<i64>>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("  "));
    rows.map(|row| row.split(" | ").map(|cell| cell.parse().ok()).collect()).collect()
}

impl World {
    fn new(random: &mut Random) -> World {
        let engine = MapEngine::new();
        let options = JobOptions { lease_ns: 1, chunk_rows: 2, ..JobOptions::default() };
        let databases: Vec<_> = (0..GATEWAYS).map(|_| Database::with_jobs(engine.clone(), options)).collect();
        let sessions = databases.iter().map(Database::session).collect();
        let reader = Database::new(engine.clone()).session();
        let mut world = World {
            engine,
            databases,
            sessions,
            reader,
            parents: BTreeSet::new(),
            parents_made: 0,
            children: BTreeMap::new(),
            stage: Stage::Absent,
            acts: false,
            cascades: random.below(2) == 0,
            log: Vec::new(),
        };
        run(&mut world.reader, "CREATE TABLE p (id INT PRIMARY KEY, code INT UNIQUE)").unwrap();
        // Of some the parent knows the child already, by another key.
        let known = if random.below(2) == 0 { " REFERENCES p" } else { "" };
        run(&mut world.reader, &format!("CREATE TABLE c (id INT PRIMARY KEY, p_id INT, other INT{known})")).unwrap();
        run(&mut world.reader, "CREATE INDEX ON c (p_id)").unwrap();
        world
    }

    fn orphans(&self) -> bool {
        self.children.values().flatten().any(|to| !self.parents.contains(to))
    }

    fn why(&self) -> String {
        format!("{:?}\n{:?}\n{:?}\n{}", self.stage, self.parents, self.children, self.log.join("\n"))
    }

    fn choose(&mut self, random: &mut Random) -> (String, Write) {
        let key = random.below(KEYS) as i64;
        // Most references are right, so that most constraints come to stay.
        let right: Vec<i64> = self.parents.iter().copied().collect();
        let to = match random.below(8) {
            0 | 1 => Some(key),
            2 => None,
            _ if right.is_empty() => None,
            _ => Some(*random.pick(&right)),
        };
        let text = to.map_or("NULL".into(), |to| to.to_string());
        let child = random.below(KEYS) as i64;
        let free = random.below(KEYS) as i64;
        match random.below(6) {
            0 | 1 if !self.parents.contains(&key) => {
                self.parents_made += 1;
                (format!("INSERT INTO p VALUES ({}, {key})", self.parents_made), Write::InsertParent(key))
            }
            0 if !self.parents.contains(&free) => {
                (format!("UPDATE p SET code = {free} WHERE code = {key}"), Write::MoveParent(key, free))
            }
            0 | 1 => (format!("DELETE FROM p WHERE code = {key}"), Write::DeleteParent(key)),
            2 if self.children.contains_key(&child) => {
                (format!("DELETE FROM c WHERE id = {child}"), Write::DeleteChild(child))
            }
            3 if self.children.contains_key(&child) => {
                (format!("UPDATE c SET p_id = {text} WHERE id = {child}"), Write::Child(child, to))
            }
            _ => (format!("UPSERT INTO c (id, p_id) VALUES ({child}, {text})"), Write::Child(child, to)),
        }
    }

    /// What the rows are after it, and whether that is against the constraint.
    fn applied(&self, write: Write) -> (BTreeSet<i64>, BTreeMap<i64, Option<i64>>, bool) {
        let (mut parents, mut children) = (self.parents.clone(), self.children.clone());
        let against = match write {
            Write::InsertParent(key) => {
                parents.insert(key);
                false
            }
            Write::DeleteParent(key) => {
                parents.remove(&key);
                children.values().any(|to| *to == Some(key))
            }
            Write::MoveParent(key, free) => {
                parents.remove(&key);
                parents.insert(free);
                children.values().any(|to| *to == Some(key))
            }
            Write::Child(key, to) => {
                let stays = children.insert(key, to) == Some(to);
                !stays && to.is_some_and(|to| !parents.contains(&to))
            }
            Write::DeleteChild(key) => {
                children.remove(&key);
                false
            }
        };
        (parents, children, against)
    }

    /// Takes over what a write came to, and looks at all rows.
    fn settle(&mut self, write: Write, result: Result<String, SqlError>) {
        let (parents, children, against) = self.applied(write);
        match result {
            Ok(_) => (self.parents, self.children) = (parents, children),
            Err(err) => {
                self.log.push(err.to_string());
                let known = self.stage != Stage::Absent;
                let refused = err.sqlstate == "23503" && against && known;
                assert!(refused || err.sqlstate == "40001", "{err}: {}", self.why());
            }
        }
        let found: BTreeMap<i64, Option<i64>> = cells(&run(&mut self.reader, "SELECT id, p_id FROM c").unwrap())
            .into_iter()
            .map(|row| (row[0].unwrap(), row[1]))
            .collect();
        if found != self.children {
            // Then it went with its parent, as all that referred to it.
            let Write::DeleteParent(key) = write else { panic!("{found:?}: {}", self.why()) };
            self.children.retain(|_, to| *to != Some(key));
            let sure = self.stage == Stage::Public || self.acts;
            assert!(found == self.children && self.cascades && sure, "{found:?}: {}", self.why());
        }
        self.look();
    }

    fn look(&self) {
        assert!(self.stage != Stage::Public || !self.orphans(), "a row refers to nothing: {}", self.why());
    }

    /// Lets something be done that loses its gateway after so many commits.
    fn cut_off(&mut self, commits: u64, what: impl FnOnce(&mut World)) {
        (0..commits).for_each(|_| self.engine.fault(Fault::None));
        (0..200).for_each(|_| self.engine.fault(Fault::Gone));
        what(self);
        self.engine.no_faults();
        let jobs = run(&mut self.reader, "SHOW JOBS").unwrap();
        let job = jobs.lines().find(|line| line.contains("CONSTRAINT")).map(|line| line.split(" | ").nth(2).unwrap());
        self.stage = match job {
            None => self.stage,
            Some("done") => Stage::Public,
            Some("failed") => Stage::Failed,
            Some(_) => Stage::UnderWay,
        };
        self.log.push(format!("  {job:?}"));
        self.look();
    }

    fn statement(&self) -> String {
        if self.stage == Stage::NotValid {
            return "ALTER TABLE c VALIDATE CONSTRAINT f".into();
        }
        let action = if self.cascades { " ON DELETE CASCADE" } else { "" };
        let valid = if self.acts { " NOT VALID" } else { "" };
        format!("ALTER TABLE c ADD CONSTRAINT f FOREIGN KEY (p_id) REFERENCES p (code){action}{valid}")
    }

    /// The next step of the constraint, by some gateway that does not get far.
    fn step(&mut self, random: &mut Random) {
        let (at, commits) = (random.below(GATEWAYS) as usize, 1 + random.below(9));
        match self.stage {
            Stage::Absent | Stage::NotValid => {
                self.acts |= self.stage == Stage::Absent && random.below(4) == 0;
                let sql = self.statement();
                self.log.push(format!("{at}: {sql}, and {commits} commits"));
                if self.acts && self.stage == Stage::Absent {
                    run(&mut self.sessions[at], &sql).unwrap();
                    self.stage = Stage::NotValid;
                    return;
                }
                self.cut_off(commits, |world| _ = run(&mut world.sessions[at], &sql));
            }
            Stage::UnderWay => {
                self.log.push(format!("{at}: tends, {commits} commits"));
                self.cut_off(1 + commits, |world| {
                    let _ = block_on(world.databases[at].refresh_catalog());
                    let _ = block_on(world.databases[at].tend_jobs());
                });
            }
            Stage::Public | Stage::Failed => {}
        }
    }

    fn act(&mut self, random: &mut Random) {
        let at = random.below(GATEWAYS) as usize;
        match random.below(10) {
            0 => {
                let ms = random.below(900) as i64;
                self.log.push(format!("{ms} ms"));
                self.engine.advance(ms * 1_000_000);
            }
            1 => block_on(self.databases[at].refresh_catalog()).unwrap(),
            2 => self.step(random),
            3 => {
                // A transaction that is open while others change what it went by; nobody else writes meanwhile.
                let mut chosen = self.choose(random);
                // What is found by nothing but the lease: a statement that has nothing to do with the other key.
                for _ in 0..6 {
                    if !matches!(chosen.1, Write::MoveParent(..)) {
                        chosen = self.choose(random);
                    }
                }
                let (sql, write) = chosen;
                run(&mut self.sessions[at], "BEGIN").unwrap();
                let result = run(&mut self.sessions[at], &sql);
                self.log.push(format!("{at}: BEGIN; {sql}"));
                if result.is_ok() {
                    for _ in 0..random.below(4) {
                        let other = (at + 1) % GATEWAYS as usize;
                        self.engine.advance(random.below(1_500) as i64 * 1_000_000);
                        block_on(self.databases[other].refresh_catalog()).unwrap();
                        let busy = std::mem::replace(&mut self.sessions[at], self.databases[at].session());
                        self.step(random);
                        self.sessions[at] = busy;
                    }
                    let done = run(&mut self.sessions[at], "COMMIT");
                    self.log.push(format!("{at}: COMMIT, {}", done.is_ok()));
                    self.settle(write, done);
                } else {
                    run(&mut self.sessions[at], "ROLLBACK").unwrap();
                    self.settle(write, result);
                }
            }
            _ => {
                let (sql, write) = self.choose(random);
                self.log.push(format!("{at}: {sql}"));
                let result = run(&mut self.sessions[at], &sql);
                self.settle(write, result);
            }
        }
    }
}

fn history(seed: u64) -> Stage {
    let mut random = Random(seed);
    let mut world = World::new(&mut random);
    world.log.push(format!("seed {seed}"));
    for _ in 0..120 {
        world.act(&mut random);
    }
    while !matches!(world.stage, Stage::Public | Stage::Failed) {
        world.step(&mut random);
    }
    // Everybody knows by now, and says the same.
    world.engine.advance(10_000_000_000);
    for _ in 0..40 {
        let (sql, write) = world.choose(&mut random);
        let at = random.below(GATEWAYS) as usize;
        world.log.push(format!("{at}: {sql}"));
        let (.., against) = world.applied(write);
        let result = run(&mut world.sessions[at], &sql);
        let cascades = world.cascades && matches!(write, Write::DeleteParent(_));
        let refused = against && !cascades && (world.stage == Stage::Public || world.acts);
        assert_eq!(result.is_err(), refused, "{sql}: {result:?}: {}", world.why());
        world.settle(write, result);
    }
    let check = run(&mut world.reader, "CHECK TABLE c").unwrap();
    assert!(check.contains("| 0 | 0 | NULL"), "{check}");
    let shown = run(&mut world.reader, "SHOW CREATE TABLE c").unwrap();
    assert_eq!(shown.contains("CONSTRAINT f "), world.stage == Stage::Public || world.acts, "{}", world.why());
    world.stage
}

#[test]
fn a_foreign_key_that_is_added_lets_no_orphan_through() {
    let stages: Vec<Stage> = (0..120).map(history).collect();
    let public = stages.iter().filter(|stage| **stage == Stage::Public).count();
    assert!((20..100).contains(&public), "{public} of {} constraints stayed", stages.len());
}
