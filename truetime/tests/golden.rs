//! Runs the golden scripts in `testscripts/`: nodes with clocks in a world whose true time is known.
//!
//! Times are printed as distances from true time: `[-7ms, +7ms]` contains it. Commands:
//!
//! ```text
//! spec TEXT                        reads a clock source and prints it back
//! clock NODE TEXT                  starts the node's clock, or changes its source
//! sleep DURATION                   true time and all monotonic clocks go on
//! step NODE DURATION               an operator sets the node's system clock
//! kernel NODE off|unsync|ERROR     what the kernel says from now on
//! now NODE...                      the interval
//! status NODE                      source, epsilon, fence, anomalies
//! send FROM TO [delay=1ms]         a message; the receiver compares
//! ping FROM TO [delay=1ms]         a request and its answer, with the round trip known to FROM
//! exchange NODE... [delay=1ms]     each of them pings each other
//! judge NODE of=1,2,3 [stale=5s]   the verdict, applied to the node's clock
//! rows NODE                        what it knows of its peers
//! marzullo FROM..TO ...            the intersection
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use truetime::marzullo::marzullo;
use truetime::{
    Clock, ClockSpec, Interval, KernelClock, PeerClocks, Reading, Timestamp, format_duration_ns, parse_duration_ns,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Node {
    clock: Clock,
    peers: PeerClocks,
    system_error_ns: i64,
    kernel: Option<KernelClock>,
}

struct World {
    now_ns: i64,
    nodes: BTreeMap<u64, Node>,
}

/// 2026-11-23T00:00:00Z.
const START_NS: i64 = 1_795_392_000_000_000_000;

fn reading(now_ns: i64, id: u64, system_error_ns: i64, kernel: Option<KernelClock>) -> Reading {
    // Monotonic clocks have different origins, as on real machines.
    let mono_ns = now_ns - START_NS + id as i64 * 1_000_000_000_000;
    Reading { system: Timestamp::from_nanos(now_ns + system_error_ns), mono_ns, kernel }
}

fn signed(ns: i64) -> String {
    format!("{}{}", if ns < 0 { "" } else { "+" }, format_duration_ns(ns))
}

impl World {
    fn node(&mut self, id: u64) -> Outcome<&mut Node> {
        self.nodes.get_mut(&id).ok_or_else(|| format!("no node {id}").into())
    }

    fn read(&mut self, id: u64) -> Outcome<truetime::Now> {
        let now_ns = self.now_ns;
        let node = self.node(id)?;
        Ok(node.clock.now(reading(now_ns, id, node.system_error_ns, node.kernel)))
    }

    fn relative(&self, interval: Interval) -> String {
        let [from, to] =
            [interval.earliest, interval.latest].map(|end| signed(end.since_ns(Timestamp::from_nanos(self.now_ns))));
        format!("[{from}, {to}]")
    }

    /// Delivers a message that was sent with `theirs`.
    fn deliver(&mut self, from: u64, to: u64, theirs: Interval, rtt_ns: Option<i64>, out: &mut String) -> Outcome<()> {
        let at = self.read(to)?;
        if let Some(conflict) = self.node(to)?.peers.observe(from, at, theirs, rtt_ns) {
            let log = if conflict.first { "new" } else { "known" };
            let gap = format_duration_ns(conflict.gap_ns);
            writeln!(out, "node {to}: node {from} is {:?} by {gap} ({log})", conflict.direction)?;
        }
        Ok(())
    }

    fn ping(&mut self, from: u64, to: u64, delay_ns: i64, out: &mut String) -> Outcome<()> {
        let request = self.read(from)?.tt;
        self.now_ns += delay_ns;
        self.deliver(from, to, request, None, out)?;
        let answer = self.read(to)?.tt;
        self.now_ns += delay_ns;
        self.deliver(to, from, answer, Some(2 * delay_ns), out)
    }

    fn run_command(&mut self, command: &goldenscript::Command) -> Outcome<String> {
        let mut out = String::new();
        let mut args = command.consume_args();
        let delay_ns = args.take_key("delay").map_or(Ok(1_000_000), parse_duration_ns)?;
        match command.name.as_str() {
            "spec" => writeln!(out, "{}", args.next_pos().unwrap_or_default().parse::<ClockSpec>()?)?,
            "clock" => {
                let id = next_id(&mut args)?;
                let spec: ClockSpec = args.next_pos().ok_or("no source")?.parse()?;
                let now_ns = self.now_ns;
                match self.nodes.get_mut(&id) {
                    Some(node) => {
                        node.clock.set_spec(spec, reading(now_ns, id, node.system_error_ns, node.kernel));
                        node.peers.source_changed();
                    }
                    None => {
                        let kernel = Some(KernelClock { synchronised: true, max_error_ns: 2_000_000 });
                        let clock = Clock::new(spec, reading(now_ns, id, 0, kernel));
                        let node = Node { clock, peers: PeerClocks::new(), system_error_ns: 0, kernel };
                        self.nodes.insert(id, node);
                    }
                }
            }
            "sleep" => self.now_ns += parse_duration_ns(args.next_pos().ok_or("no duration")?)?,
            "step" => {
                let id = next_id(&mut args)?;
                self.node(id)?.system_error_ns += parse_duration_ns(args.next_pos().ok_or("no duration")?)?;
            }
            "kernel" => {
                let id = next_id(&mut args)?;
                self.node(id)?.kernel = match args.next_pos().ok_or("no state")? {
                    "off" => None,
                    "unsync" => Some(KernelClock { synchronised: false, max_error_ns: 16_000_000_000 }),
                    error => Some(KernelClock { synchronised: true, max_error_ns: parse_duration_ns(error)? }),
                };
            }
            "now" => {
                while let Some(id) = args.next_pos() {
                    let now = self.read(id.parse()?)?;
                    let truth = now.tt.contains(Timestamp::from_nanos(self.now_ns));
                    let trusted = if now.trusted { "" } else { ", not trusted" };
                    let verdict = if truth { "" } else { ", wrong" };
                    writeln!(out, "node {id}: {}{trusted}{verdict}", self.relative(now.tt))?;
                }
            }
            "status" => {
                let status = self.node(next_id(&mut args)?)?.clock.status();
                write!(out, "{}: epsilon {}", status.spec, format_duration_ns(status.epsilon_ns))?;
                write!(out, ", trusted {}, fenced {:?}", status.trusted, status.fenced)?;
                write!(out, ", {} anomalies", status.anomalies)?;
                if let Some(last) = status.last_anomaly {
                    write!(out, ", last {} where {} was allowed", signed(last.jump_ns), signed(last.allowed_ns))?;
                }
                writeln!(out)?;
            }
            "send" => {
                let (from, to) = (next_id(&mut args)?, next_id(&mut args)?);
                let theirs = self.read(from)?.tt;
                self.now_ns += delay_ns;
                self.deliver(from, to, theirs, None, &mut out)?;
            }
            "ping" => {
                let (from, to) = (next_id(&mut args)?, next_id(&mut args)?);
                self.ping(from, to, delay_ns, &mut out)?;
            }
            "exchange" => {
                let ids: Vec<u64> = std::iter::from_fn(|| args.next_pos()).map(str::parse).collect::<Result<_, _>>()?;
                for from in &ids {
                    for to in ids.iter().filter(|to| *to != from) {
                        self.ping(*from, *to, delay_ns, &mut out)?;
                    }
                }
            }
            "judge" => {
                let stale_ns = args.take_key("stale").map_or(Ok(5_000_000_000), parse_duration_ns)?;
                let voters = args.take_key("of").ok_or("no voters")?;
                let voters: Vec<u64> = voters.split(',').map(str::parse).collect::<Result<_, _>>()?;
                let id = next_id(&mut args)?;
                let mono_ns = self.read(id)?.mono_ns;
                let node = self.node(id)?;
                let verdict = node.peers.verdict(&voters, id, mono_ns, stale_ns);
                let changed = node.clock.fence(verdict.reason());
                writeln!(out, "node {id}: {verdict:?}{}", if changed { ", changed" } else { "" })?;
            }
            "rows" => {
                let id = next_id(&mut args)?;
                let mono_ns = self.read(id)?.mono_ns;
                for row in self.node(id)?.peers.rows(mono_ns) {
                    let age = format_duration_ns(row.age_ns);
                    write!(out, "node {}: {}, {age} old", row.peer, self.relative(row.interval))?;
                    writeln!(out, "{}", row.conflict.map_or(String::new(), |conflict| format!("\n  {conflict}")))?;
                }
            }
            "marzullo" => {
                let mut sources = Vec::new();
                while let Some(text) = args.next_pos() {
                    let (from, to) = text.split_once("..").ok_or("not FROM..TO")?;
                    let [from, to] = [from.parse()?, to.parse()?].map(Timestamp::from_nanos);
                    sources.push(Interval::checked(from, to).ok_or("ends out of order")?);
                }
                match marzullo(&sources) {
                    Some(found) => {
                        let [from, to] = [found.interval.earliest, found.interval.latest].map(Timestamp::as_nanos);
                        writeln!(out, "{from}..{to} by {} of {}", found.sources, sources.len())?;
                    }
                    None => writeln!(out, "nothing")?,
                }
            }
            name => return Err(format!("unknown command {name}").into()),
        }
        args.reject_next()?;
        Ok(out)
    }
}

fn next_id(args: &mut goldenscript::ArgumentConsumer<'_>) -> Outcome<u64> {
    Ok(args.next_pos().ok_or("no node given")?.parse()?)
}

impl goldenscript::Runner for World {
    type Command = goldenscript::Command;

    fn run(&mut self, command: &Self::Command, _context: &goldenscript::Context) -> Outcome<String> {
        self.run_command(command)
    }
}

#[test]
fn golden_scripts() {
    let root = std::path::PathBuf::from("testscripts");
    let mut scripts = 0;
    for topic in std::fs::read_dir(&root).unwrap() {
        for script in std::fs::read_dir(topic.unwrap().path()).unwrap() {
            let path = script.unwrap().path();
            eprintln!("running {}", path.display());
            goldenscript::run(&mut World { now_ns: START_NS, nodes: BTreeMap::new() }, &path).unwrap();
            scripts += 1;
        }
    }
    assert!(scripts > 0, "no scripts under {}", root.display());
}
