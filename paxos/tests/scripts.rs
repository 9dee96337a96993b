//! Golden scripts: `testscripts/<topic>/<situation>`. Update them with `UPDATE_GOLDENFILES=1` and read the diff.
//!
//! Commands (times are milliseconds, nodes are numbers):
//! ```text
//! cluster voters=3 learners=0 lease=1000 epsilon=1   start afresh
//! run MS                       let time pass       settle MS            the same, printing nothing
//! campaign N                   stand at once       hand_over N [to=N]
//! propose N VALUE...           queue, then send    fill N COUNT         that many commands, printing nothing
//! crash N [survive=COUNT]      restart N           pause N / resume N   freeze N / thaw N (the disk)
//! cut N N / isolate N / heal   drop or hold [from=N] [to=N] [name=NAME] / let_go [backwards]
//! clock N [offset=MS] [epsilon=MS] [trusted=BOOL]
//! double PERMILLE              messages that arrive twice            snapshots on|off
//! durable N                    the applied state of N is durable    keep SLOTS
//! trace on|off                 print messages too  dump N... / leader / commands N...
//! ```

use std::error::Error;
use std::fmt::Write as _;

use goldenscript::{ArgumentConsumer, Context};
use paxos::testing::{Cluster, Link};
use paxos::{Input, NodeId, Options};

struct Runner {
    cluster: Cluster,
    messages: bool,
}

impl Runner {
    fn new() -> Runner {
        Runner { cluster: cluster(3, 0, 1000, 1), messages: false }
    }

    /// What was traced since the last command.
    fn traced(&mut self) -> String {
        std::mem::take(&mut self.cluster.trace).into_iter().fold(String::new(), |text, line| text + &line + "\n")
    }
}

const MS: i64 = 1_000_000;

fn cluster(voters: u64, learners: u64, lease_ms: i64, epsilon_ms: i64) -> Cluster {
    let mut cluster = Cluster::new(1, voters, learners, Options::with_lease(lease_ms * MS), epsilon_ms * MS);
    cluster.use_timestamps = false;
    cluster
}

fn key<T: std::str::FromStr>(args: &mut ArgumentConsumer, name: &str) -> Result<Option<T>, Box<dyn Error>> {
    let bad = |text| format!("{name}={text} does not parse");
    args.take_key(name).map(|text| text.parse().map_err(|_| bad(text).into())).transpose()
}

fn positional<T: std::str::FromStr>(args: &mut ArgumentConsumer) -> Result<T, Box<dyn Error>> {
    let text = args.next_pos().ok_or("an argument is missing")?;
    text.parse().map_err(|_| format!("{text} does not parse").into())
}

fn node(args: &mut ArgumentConsumer) -> Result<NodeId, Box<dyn Error>> {
    Ok(NodeId(positional(args)?))
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(&mut self, command: &Self::Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let args = &mut command.consume_args();
        let mut text = String::new();
        let cluster = &mut self.cluster;
        match command.name.as_str() {
            "cluster" => {
                let (voters, learners) = (key(args, "voters")?.unwrap_or(3), key(args, "learners")?.unwrap_or(0));
                let (lease_ms, epsilon_ms) = (key(args, "lease")?.unwrap_or(1000), key(args, "epsilon")?.unwrap_or(1));
                *cluster = self::cluster(voters, learners, lease_ms, epsilon_ms);
            }
            "run" => cluster.run_for(positional::<i64>(args)? * MS),
            "settle" => {
                cluster.run_for(positional::<i64>(args)? * MS);
                cluster.trace.clear();
            }
            "campaign" => cluster.step(node(args)?, Input::Campaign),
            "hand_over" => {
                let id = node(args)?;
                let to = key(args, "to")?.map(NodeId);
                cluster.hand_over(id, to);
            }
            "propose" => {
                let id = node(args)?;
                while let Some(value) = args.next_pos() {
                    match cluster.queue_proposal(id, value) {
                        Ok(slot) => writeln!(text, "{id} proposes {value} at {slot}")?,
                        Err(err) => writeln!(text, "{id} refuses {value}: {err:?}")?,
                    }
                }
                cluster.step(id, Input::Tick);
            }
            "fill" => {
                let (id, count): (_, u64) = (node(args)?, positional(args)?);
                for each in 0..count {
                    cluster.propose(id, &format!("f{each}")).map_err(|err| format!("{err:?}"))?;
                    cluster.run_for(5 * MS);
                }
                cluster.trace.clear();
            }
            "crash" => {
                let id = node(args)?;
                let survive = key(args, "survive")?.unwrap_or(0);
                cluster.crash(id, survive);
            }
            "restart" => cluster.start(node(args)?),
            "pause" => cluster.pause(node(args)?),
            "resume" => cluster.resume(node(args)?),
            "freeze" => cluster.node(node(args)?).disk.frozen = true,
            "thaw" => cluster.thaw(node(args)?),
            "cut" => cluster.cut(node(args)?, node(args)?),
            "isolate" => cluster.isolate(node(args)?),
            "heal" => cluster.heal(),
            "drop" | "hold" => {
                let link = Link {
                    from: key(args, "from")?.map(NodeId),
                    to: key(args, "to")?.map(NodeId),
                    name: key(args, "name")?,
                };
                if command.name == "drop" { &mut cluster.drops } else { &mut cluster.holds }.push(link);
            }
            "let_go" => cluster.let_go(args.next_pos() == Some("backwards")),
            "double" => cluster.network.doubled_permille = positional(args)?,
            "clock" => {
                let clock = &mut cluster.node(node(args)?).clock;
                clock.offset_ns = key::<i64>(args, "offset")?.map_or(clock.offset_ns, |ms| ms * MS);
                clock.epsilon_ns = key::<i64>(args, "epsilon")?.map_or(clock.epsilon_ns, |ms| ms * MS);
                clock.trusted = key(args, "trusted")?.unwrap_or(clock.trusted);
            }
            "durable" => cluster.make_durable(node(args)?),
            "keep" => {
                let slots = positional(args)?;
                for node in cluster.nodes.values_mut() {
                    node.replica.iter_mut().for_each(|replica| replica.set_keep_slots(slots));
                }
                cluster.keep_slots = slots;
            }
            "snapshots" => cluster.snapshots = args.next_pos() == Some("on"),
            "trace" => self.messages = args.next_pos() == Some("on"),
            "leader" => match cluster.leader() {
                Some(leader) => writeln!(text, "{leader} leads")?,
                None => writeln!(text, "nobody leads")?,
            },
            "dump" => {
                while let Some(id) = args.next_pos() {
                    match &cluster.node(NodeId(id.parse()?)).replica {
                        Some(replica) => text += &replica.dump(),
                        None => writeln!(text, "n{id} is down")?,
                    }
                }
            }
            "commands" => {
                while let Some(id) = args.next_pos() {
                    let commands = cluster.node(NodeId(id.parse()?)).state.commands();
                    writeln!(text, "n{id} applied {}", commands.join(" "))?;
                }
            }
            name => return Err(format!("there is no command {name}").into()),
        }
        args.reject_next()?;
        self.cluster.trace_messages = self.messages;
        Ok(text + &self.traced())
    }
}

fn run_topic(topic: &str) {
    let dir = std::path::Path::new("testscripts").join(topic);
    let mut scripts: Vec<_> = dir.read_dir().expect("the topic has a folder").map(|e| e.unwrap().path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    for script in scripts {
        goldenscript::run(&mut Runner::new(), &script).unwrap_or_else(|err| panic!("{}: {err}", script.display()));
    }
}

#[test]
fn elections() {
    run_topic("elections");
}

#[test]
fn phase_two() {
    run_topic("phase_two");
}

#[test]
fn leases() {
    run_topic("leases");
}

#[test]
fn catch_up() {
    run_topic("catch_up");
}

#[test]
fn restarts() {
    run_topic("restarts");
}
