//! What hurts the nodes of a demo, and remembers how they are hurt.
//!
//! Processes belong to [`Nodes`], the network to [`Net`]. Clocks and disks belong to the nodes themselves:
//! they are asked, at their own address and not through the proxies, so that a node that is cut off can
//! be hurt, and healed, all the same. A process that is started anew has the clock and the disk that it was
//! started with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use truetime::{ClockSpec, format_duration_ns};

use super::nodes::{NodeView, Nodes};
use super::proxy::{Net, Slow};
use crate::gateway::status::{channel, within};
use crate::wire;

/// The longest delay of a way between nodes.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// What to do with processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL.
    Kill,
    /// What is not running.
    Start,
    /// SIGTERM.
    Stop,
    /// Stop if it is running, and start.
    Restart,
    /// SIGSTOP.
    Pause,
    /// SIGCONT.
    Resume,
}

/// A fault that begins, or ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Of the nodes' processes.
    Process(Action),
    /// From whom to whom nothing arrives; the whole picture. With how the user wrote it.
    Partition(BTreeSet<(u64, u64)>, String),
    /// Ends all faults, or those of the network.
    Heal {
        /// Nothing but the network.
        network_only: bool,
    },
    /// Added to the nodes' clocks: `+40ms`, `drift=200ppm`; empty: nothing.
    Skew(String),
    /// Of all ways from and to the nodes.
    SlowNetwork(Slow),
    /// Added to each sync of the nodes' logs, in nanoseconds.
    SlowDisk(i64),
    /// Breaks the nodes' connections, once.
    Reset,
}

/// A fault that is on.
#[derive(Clone, Debug)]
pub struct Active {
    /// Such as `partition`.
    pub kind: &'static str,
    /// Whose.
    pub nodes: Vec<u64>,
    /// The particulars.
    pub detail: String,
    /// For so long.
    pub since: Duration,
}

/// The error of a fault that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It makes no sense.
    Invalid(String),
    /// Not now, or not here.
    Impossible(String),
}

struct Partition {
    cuts: BTreeSet<(u64, u64)>,
    /// As the user wrote it.
    text: String,
    began: Instant,
}

/// What is on beside what [`Nodes`] knows.
#[derive(Default)]
struct Faults {
    partition: Option<Partition>,
    slow: BTreeMap<u64, (Slow, Instant)>,
    /// What was added, and the clock source before.
    skew: BTreeMap<u64, (String, ClockSpec, Instant)>,
    disk: BTreeMap<u64, (i64, Instant)>,
}

/// The nodes of a demo and all that can be done to them. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    nodes: Arc<Nodes>,
    net: Option<Arc<Net>>,
    faults: Arc<Mutex<Faults>>,
    lease_ns: i64,
}

impl Host {
    /// Over these nodes; `net` if they reach each other through it.
    pub fn new(nodes: Arc<Nodes>, net: Option<Arc<Net>>, lease_ns: i64) -> Host {
        Host { nodes, net, faults: Arc::default(), lease_ns }
    }

    /// The nodes as they are.
    pub fn nodes(&self) -> Vec<NodeView> {
        self.nodes.describe()
    }

    /// Whether the network can be hurt.
    pub fn proxied(&self) -> bool {
        self.net.is_some()
    }

    /// As for `--lease`, in nanoseconds.
    pub fn lease_ns(&self) -> i64 {
        self.lease_ns
    }

    /// Does it to these nodes, and says what was done.
    pub async fn inject(&self, nodes: &[u64], fault: Fault) -> Result<String, Refusal> {
        let known = self.nodes.ids();
        let cut = match &fault {
            Fault::Partition(cuts, _) => cuts.iter().flat_map(|(from, to)| [*from, *to]).collect(),
            _ => Vec::new(),
        };
        if let Some(node) = nodes.iter().chain(&cut).find(|node| !known.contains(node)) {
            let last = known.last().copied().unwrap_or_default();
            return Err(Refusal::Invalid(format!("there is no node {node}: they are numbered 1 to {last}")));
        }
        if nodes.is_empty() && !matches!(fault, Fault::Partition(..) | Fault::Heal { .. }) {
            return Err(Refusal::Invalid("it is not said which node".into()));
        }
        match fault {
            Fault::Process(action) => self.process(nodes, action).await,
            Fault::Partition(cuts, text) => self.partition(cuts, text),
            Fault::Heal { network_only } => self.heal(network_only).await,
            Fault::Skew(text) => self.each(nodes, |node| self.skew(node, text.clone())).await,
            Fault::SlowNetwork(slow) => self.slow(nodes, slow),
            Fault::SlowDisk(delay_ns) => self.each(nodes, |node| self.slow_disk(node, delay_ns)).await,
            Fault::Reset => {
                let net = self.net()?;
                net.change(|weather| nodes.iter().for_each(|node| *weather.resets.entry(*node).or_default() += 1));
                Ok(format!("the connections of {} were reset", named(nodes)))
            }
        }
    }

    /// The faults that are on.
    pub fn active(&self) -> Vec<Active> {
        let hurt = self.nodes.describe().into_iter().filter(|node| node.state != "running");
        let process = |node: NodeView| Active {
            kind: node.state,
            nodes: vec![node.node],
            detail: match node.state {
                "paused" => "SIGSTOP; \\resume lets it go on".into(),
                _ => "\\restart starts it".into(),
            },
            since: node.since,
        };
        let mut active: Vec<Active> = hurt.map(process).collect();
        let faults = self.lock();
        let mut add = |kind, nodes, detail, began: Instant| {
            active.push(Active { kind, nodes, detail, since: began.elapsed() });
        };
        if let Some(Partition { cuts, text, began }) = &faults.partition {
            let all: BTreeSet<u64> = cuts.iter().flat_map(|(from, to)| [*from, *to]).collect();
            let cuts: Vec<String> = cuts.iter().map(|(from, to)| format!("{from}>{to}")).collect();
            add("partition", all.into_iter().collect(), format!("{text}: nothing passes {}", cuts.join(" ")), *began);
        }
        for (node, (slow, began)) in &faults.slow {
            add("slow network", vec![*node], told(slow), *began);
        }
        for (node, (text, before, began)) in &faults.skew {
            add("skew", vec![*node], format!("{text} on {before}"), *began);
        }
        for (node, (delay_ns, began)) in &faults.disk {
            let detail = format!("injected fsync delay {}", format_duration_ns(*delay_ns));
            add("slow disk", vec![*node], detail, *began);
        }
        active
    }

    fn lock(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().expect("no thread panics while it holds the faults")
    }

    fn net(&self) -> Result<&Net, Refusal> {
        let none =
            "the nodes of this demo reach each other directly: start it without --no-proxies to hurt their network";
        self.net.as_deref().ok_or_else(|| Refusal::Impossible(none.into()))
    }

    fn address(&self, node: u64) -> String {
        let nodes = self.nodes.describe();
        nodes.into_iter().find(|known| known.node == node).map(|known| known.address).unwrap_or_default()
    }

    /// One after the other; the first error ends it.
    async fn each<F: Future<Output = Result<String, Refusal>>>(
        &self,
        nodes: &[u64],
        act: impl Fn(u64) -> F,
    ) -> Result<String, Refusal> {
        let mut said = Vec::new();
        for node in nodes {
            said.push(act(*node).await?);
        }
        Ok(said.join("; "))
    }

    async fn process(&self, nodes: &[u64], action: Action) -> Result<String, Refusal> {
        let (all, own) = (self.nodes.clone(), nodes.to_vec());
        // A stop waits for the process: not on a thread of the runtime.
        let acted = tokio::task::spawn_blocking(move || {
            let one: fn(&Nodes, u64) -> Result<String, String> = match action {
                Action::Kill => return all.kill(&own),
                Action::Start => Nodes::start_one,
                Action::Stop => Nodes::stop_one,
                Action::Restart => Nodes::restart,
                Action::Pause => Nodes::pause,
                Action::Resume => Nodes::resume,
            };
            let said: Result<Vec<String>, String> = own.iter().map(|node| one(&all, *node)).collect();
            Ok(said?.join("; "))
        });
        let said = acted.await.map_err(|err| Refusal::Impossible(err.to_string()))?.map_err(Refusal::Impossible)?;
        if matches!(action, Action::Kill | Action::Stop | Action::Restart) {
            // A new process has neither.
            let mut faults = self.lock();
            for node in nodes {
                faults.skew.remove(node);
                faults.disk.remove(node);
            }
        }
        Ok(said)
    }

    fn partition(&self, cuts: BTreeSet<(u64, u64)>, text: String) -> Result<String, Refusal> {
        if cuts.iter().any(|(from, to)| from == to) {
            return Err(Refusal::Invalid("a node cannot be cut off from itself".into()));
        }
        let net = self.net()?;
        let mut faults = self.lock();
        net.change(|weather| weather.cuts.clone_from(&cuts));
        if cuts.is_empty() {
            let was = faults.partition.take().is_some();
            return Ok(if was { "the partition is healed" } else { "there is no partition" }.into());
        }
        let count = cuts.len();
        faults.partition = Some(Partition { cuts, text: text.clone(), began: Instant::now() });
        Ok(format!("the network is partitioned: {text} ({count} one-way cuts)"))
    }

    fn slow(&self, nodes: &[u64], slow: Slow) -> Result<String, Refusal> {
        if slow.delay > DELAY_MAX || slow.jitter > DELAY_MAX {
            return Err(Refusal::Invalid(format!("the network can be delayed by {DELAY_MAX:?} at most")));
        }
        let net = self.net()?;
        let mut faults = self.lock();
        let off = slow == Slow::default();
        for node in nodes {
            match off {
                true => drop(faults.slow.remove(node)),
                false => drop(faults.slow.insert(*node, (slow, Instant::now()))),
            }
        }
        net.change(|weather| weather.slow = faults.slow.iter().map(|(node, (slow, _))| (*node, *slow)).collect());
        Ok(match off {
            true => format!("the network of {} is as fast as before", named(nodes)),
            false => format!("the network of {} is slow: {}", named(nodes), told(&slow)),
        })
    }

    async fn skew(&self, node: u64, text: String) -> Result<String, Refusal> {
        let address = self.address(node);
        let impossible = |why: String| Refusal::Impossible(format!("the clock of node {node} cannot be set: {why}"));
        let known = self.lock().skew.get(&node).map(|(_, before, _)| before.clone());
        if text.is_empty() {
            let Some(before) = known else { return Ok(format!("the clock of node {node} has no skew")) };
            within(async { wire::peer::set_clock(channel(&address)?, &before).await }).await.map_err(impossible)?;
            self.lock().skew.remove(&node);
            return Ok(format!("the clock of node {node} is {before} again"));
        }
        let before = match known {
            Some(before) => before,
            None => {
                let status = within(async { wire::peer::ask_status(channel(&address)?).await }).await;
                status.and_then(|status| status.clock.source.parse()).map_err(impossible)?
            }
        };
        let fault = if text.contains('=') { text.clone() } else { format!("offset={text}") };
        let spec: ClockSpec = format!("sim:{},{fault}", before.base()).parse().map_err(Refusal::Invalid)?;
        within(async { wire::peer::set_clock(channel(&address)?, &spec).await }).await.map_err(impossible)?;
        self.lock().skew.insert(node, (text, before, Instant::now()));
        Ok(format!("the clock of node {node} is {spec}"))
    }

    async fn slow_disk(&self, node: u64, delay_ns: i64) -> Result<String, Refusal> {
        let address = self.address(node);
        let set = within(async { wire::peer::set_fsync_delay(channel(&address)?, delay_ns).await });
        let impossible = |why| Refusal::Impossible(format!("the disk of node {node} cannot be slowed down: {why}"));
        set.await.map_err(impossible)?;
        let mut faults = self.lock();
        if delay_ns == 0 {
            faults.disk.remove(&node);
            return Ok(format!("the disk of node {node} is as fast as before"));
        }
        faults.disk.insert(node, (delay_ns, Instant::now()));
        Ok(format!("each sync of node {node} takes {} longer: injected fsync delay", format_duration_ns(delay_ns)))
    }

    async fn heal(&self, network_only: bool) -> Result<String, Refusal> {
        if self.net.is_some() {
            self.partition(BTreeSet::new(), String::new())?;
            self.slow(&self.nodes.ids(), Slow::default())?;
        }
        if network_only {
            return Ok("the network is healed".into());
        }
        let mut wrong = Vec::new();
        for node in self.nodes.describe() {
            let action = match node.state {
                "running" => continue,
                "paused" => Action::Resume,
                _ => Action::Start,
            };
            wrong.extend(self.process(&[node.node], action).await.err());
        }
        let (skewed, slow): (Vec<u64>, Vec<u64>) = {
            let faults = self.lock();
            (faults.skew.keys().copied().collect(), faults.disk.keys().copied().collect())
        };
        for node in skewed {
            wrong.extend(self.skew(node, String::new()).await.err());
        }
        for node in slow {
            wrong.extend(self.slow_disk(node, 0).await.err());
        }
        match wrong.is_empty() {
            true => Ok("all faults are healed".into()),
            false => {
                let why: Vec<&str> =
                    wrong.iter().map(|(Refusal::Invalid(why) | Refusal::Impossible(why))| &**why).collect();
                Err(Refusal::Impossible(format!("not all is healed: {}", why.join("; "))))
            }
        }
    }
}

fn named(nodes: &[u64]) -> String {
    let names: Vec<String> = nodes.iter().map(u64::to_string).collect();
    format!("node{} {}", if names.len() == 1 { "" } else { "s" }, names.join(", "))
}

fn told(slow: &Slow) -> String {
    let mut parts = Vec::new();
    if !slow.delay.is_zero() || !slow.jitter.is_zero() {
        parts.push(format!("{:?} more each way", slow.delay));
    }
    if !slow.jitter.is_zero() {
        parts.push(format!("up to {:?} of jitter", slow.jitter));
    }
    if slow.bytes_per_s > 0 {
        parts.push(format!("{} bytes a second", slow.bytes_per_s));
    }
    parts.join(", ")
}
