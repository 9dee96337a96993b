//! Random faults on a test cluster, then healing: safety throughout, progress afterwards.

use rand::RngExt;

use super::cluster::{Cluster, Link};
use crate::{NodeId, Options};

/// What to do to a cluster.
#[derive(Clone, Debug)]
pub struct Chaos {
    /// Decides everything.
    pub seed: u64,
    /// How many voters.
    pub voters: u64,
    /// How many learners.
    pub learners: u64,
    /// How long the faults last, in nanoseconds of virtual time.
    pub faults_ns: i64,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Slots chosen and handed out.
    pub slots: u64,
    /// Commands that took effect.
    pub commands: u64,
    /// Commands that the epoch rule or a change of leader has dropped.
    pub dropped: u64,
    /// Steps of all replicas.
    pub steps: u64,
    /// Leaderships that were established.
    pub leaderships: u64,
    /// A hash of everything that happened: the same seed gives the same.
    pub trace_hash: u64,
}

/// Short against delays and uncertainty: leases that end are what is to be tested.
const LEASE_NS: i64 = 300_000_000;
/// The uncertainty of clocks, up to a fifth of a lease; a seed picks one.
const EPSILON_NS_MAX: [i64; 3] = [1_000_000, 20_000_000, 60_000_000];
/// Messages that may be lost by kind, to leave replicas of different minds.
const KINDS: [&str; 5] = ["Accept", "Accepted", "Promise", "ChosenEntries", "Release"];

impl Chaos {
    /// Runs it; panics when anything that must hold does not.
    pub fn run(&self) -> Report {
        let mut options = Options::with_lease(LEASE_NS);
        options.message_bytes_max = 600;
        options.inflight_slots_max = 64;
        let mut cluster = Cluster::new(self.seed, self.voters, self.learners, options, self.epsilon_ns_max() / 2);
        cluster.use_timestamps = true;
        cluster.keep_slots = cluster.rng.random_range(0..40);
        for id in cluster.ids() {
            // Started anew, with these settings.
            cluster.crash(id, 0);
            cluster.start(id);
        }
        let mut proposed: u64 = 0;
        let until_ns = cluster.now_ns() + self.faults_ns;
        while cluster.now_ns() < until_ns {
            self.disturb(&mut cluster);
            for _ in 0..10 {
                if let Some(leader) = cluster.leader() {
                    for _ in 0..cluster.rng.random_range(0..4) {
                        proposed += u64::from(cluster.queue_proposal(leader, &format!("c{proposed}")).is_ok());
                    }
                    cluster.step(leader, crate::Input::Tick);
                }
                let ns = cluster.rng.random_range(0..15_000_000);
                cluster.run_for(ns);
            }
        }
        self.heal(&mut cluster);
        self.must_progress(&mut cluster);
        let commands = cluster.nodes[&NodeId(1)].state.commands().len() as u64;
        assert!(commands <= proposed + 1, "{commands} commands of {proposed}");
        Report {
            slots: cluster.truth().len() as u64,
            commands,
            dropped: proposed + 1 - commands,
            steps: cluster.steps(),
            leaderships: cluster.trace.iter().filter(|line| line.contains("leading under")).count() as u64,
            trace_hash: hash(&cluster.trace),
        }
    }

    fn epsilon_ns_max(&self) -> i64 {
        EPSILON_NS_MAX[(self.seed % 3) as usize]
    }

    fn disturb(&self, cluster: &mut Cluster) {
        let ids = cluster.ids();
        let id = ids[cluster.rng.random_range(0..ids.len())];
        let other = ids[cluster.rng.random_range(0..ids.len())];
        match cluster.rng.random_range(0..22) {
            0 | 1 => {
                let unsynced = cluster.node(id).disk.unsynced();
                let survive = cluster.rng.random_range(0..=unsynced);
                cluster.crash(id, survive);
            }
            2..=4 => {
                for id in ids {
                    if cluster.node(id).replica.is_none() {
                        cluster.start(id);
                    }
                }
            }
            5 => cluster.pause(id),
            6 => ids.into_iter().for_each(|id| cluster.resume(id)),
            7 => cluster.isolate(id),
            8 => cluster.drops.push(Link { from: Some(id), to: Some(other), name: None }),
            9 | 10 => cluster.heal(),
            11 => {
                cluster.network.lost_permille = cluster.rng.random_range(0..200);
                cluster.network.doubled_permille = cluster.rng.random_range(0..100);
                cluster.network.delay_ns = 100_000..cluster.rng.random_range(200_000..25_000_000);
                cluster.network.sync_ns = 50_000..cluster.rng.random_range(100_000..15_000_000);
            }
            12 => {
                let epsilon_ns = cluster.rng.random_range(0..self.epsilon_ns_max());
                let offset_ns = cluster.rng.random_range(-epsilon_ns..=epsilon_ns);
                let trusted = cluster.rng.random_bool(0.8);
                let clock = &mut cluster.node(id).clock;
                (clock.epsilon_ns, clock.offset_ns, clock.trusted) = (epsilon_ns, offset_ns, trusted);
            }
            13 | 16 => cluster.make_durable(id),
            17 | 18 => {
                let name = KINDS[cluster.rng.random_range(0..KINDS.len())].to_string();
                let link = Link { from: Some(id), to: None, name: Some(name) };
                match cluster.rng.random_bool(0.5) {
                    true => cluster.drops.push(link),
                    false => cluster.holds.push(link),
                }
            }
            19 => {
                let backwards = cluster.rng.random();
                cluster.let_go(backwards);
            }
            20 | 21 => {
                // The leader, in the middle of things.
                if let Some(leader) = cluster.leader() {
                    let survive = cluster.rng.random_range(0..3);
                    cluster.crash(leader, survive);
                }
            }
            14 => match cluster.leader() {
                Some(leader) => cluster.hand_over(leader, Some(other)),
                None => cluster.step(id, crate::Input::Campaign),
            },
            _ => match cluster.node(id).disk.frozen {
                true => cluster.thaw(id),
                false => cluster.node(id).disk.frozen = true,
            },
        }
    }

    fn heal(&self, cluster: &mut Cluster) {
        cluster.heal();
        cluster.let_go(false);
        cluster.network.lost_permille = 0;
        cluster.network.doubled_permille = 0;
        cluster.network.delay_ns = 500_000..2_000_000;
        cluster.network.sync_ns = 100_000..1_000_000;
        for id in cluster.ids() {
            cluster.node(id).clock.trusted = true;
            cluster.thaw(id);
            if cluster.node(id).replica.is_none() {
                cluster.start(id);
            }
            cluster.resume(id);
        }
    }

    fn must_progress(&self, cluster: &mut Cluster) {
        let seed = self.seed;
        let led = cluster.run_until(6 * LEASE_NS, |cluster| cluster.leader().is_some());
        assert!(led, "seed {seed}: no leader after healing\n{}", dump(cluster));
        // A leader of before the healing may yet lose an election that had begun.
        cluster.run_for(2 * LEASE_NS);
        let led = cluster.run_until(4 * LEASE_NS, |cluster| cluster.leader().is_some());
        assert!(led, "seed {seed}: no lasting leader after healing\n{}", dump(cluster));
        let leader = cluster.leader().expect("there is one");
        let slot = cluster.propose(leader, "last").expect("the leader takes it");
        let everywhere = |cluster: &Cluster| cluster.nodes.values().all(|node| node.state.last() >= slot);
        let learned = cluster.run_until(6 * LEASE_NS, everywhere);
        assert!(learned, "seed {seed}: {slot} did not reach everyone\n{}", dump(cluster));
    }
}

fn dump(cluster: &Cluster) -> String {
    let dumps: Vec<String> =
        cluster.nodes.values().filter_map(|node| node.replica.as_ref()).map(crate::Replica::dump).collect();
    let tail: Vec<&str> = cluster.trace.iter().rev().take(60).map(String::as_str).collect();
    format!("{}\nlast first:\n{}", dumps.join("\n"), tail.join("\n"))
}

/// FNV-1a.
fn hash(lines: &[String]) -> u64 {
    lines
        .iter()
        .flat_map(|line| line.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
