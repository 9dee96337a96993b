//! What a seed draws before its run begins: the cluster, the load, and which faults exist at all.
//!
//! A run in which everything goes wrong at once finds less than many runs in each of which a few
//! things do: so each seed leaves most faults out. One seed in ten has none: then nothing but load
//! may be slow, and every transaction must end well.

use std::collections::{BTreeMap, BTreeSet};

use paxos::{GroupId, NodeId};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use truetime::Guarantee;
use txn::client::GatewayOptions;
use txn::{NodeOptions, RangeDescriptor, Span};

use crate::aimed::Aim;
use crate::beyond::Beyond;
use crate::canary::Canary;
use crate::faults::Fault;
use crate::network::{NetworkOptions, Spread};
use crate::plan::Kind;
use crate::rng::{Purpose, chance, log_uniform, pick, stream};
use crate::sql::host::SqlOptions;
use crate::sql::programs;
use crate::sql::statement::Table;

const MS: i64 = 1_000_000;

/// A key of the tables that are there from the start: the first of one, or one in its midst.
pub fn sql_key(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let tables = sql::catalog::FIRST_TABLE_ID..sql::catalog::FIRST_TABLE_ID + Table::FIXED.len() as u32;
    let mut key = vec![sql::catalog::TABLE_PREFIX];
    key.extend_from_slice(&rng.random_range(tables).to_be_bytes());
    if rng.random_range(0..3) > 0 {
        sql::row::encode_key_datum(&mut key, &sql::types::Datum::Int(rng.random_range(0..20)), false);
    }
    key
}

/// The settings of one run.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// Nodes 1 to this.
    pub nodes: u64,
    /// The ranges at the start, each with its first leader.
    pub bootstrap: Vec<(RangeDescriptor, NodeId)>,
    /// Length of a leader's lease.
    pub lease_ns: i64,
    /// The clocks' bound.
    pub epsilon_ns: i64,
    /// How far from true time the clocks really are; `epsilon_ns` unless a canary is on.
    pub clock_limit_ns: i64,
    /// The clocks' bound is a sawtooth of this length; 0: it is constant.
    pub sawtooth_ns: i64,
    /// So many groups at the start; 0: as the ranges are drawn.
    pub groups_wanted: usize,
    /// Clients.
    pub clients: u64,
    /// Transactions that all clients together start at most.
    pub plans_max: u64,
    /// A client's longest pause between two calls.
    pub think_max_ns: i64,
    /// Keys of each kind that are in use at one time.
    pub keys: u64,
    /// What the clients do, and how often.
    pub mix: Vec<(Kind, u32)>,
    /// Clients that talk SQL.
    pub sql_clients: u64,
    /// What those do, and how often.
    pub sql_mix: Vec<(programs::Kind, u32)>,
    /// The network.
    pub network: NetworkOptions,
    /// A sync takes from the first to the second.
    pub sync_ns: (i64, i64),
    /// So many syncs in a million take up to a hundred times longer.
    pub sync_slow_ppm: u32,
    /// The longest time between two flushes of the state store.
    pub flush_max_ns: i64,
    /// A node takes up to this from a step to the departure of what it made.
    pub depart_max_ns: i64,
    /// The faults that exist in this run, each with its weight.
    pub faults: Vec<(Fault, u32)>,
    /// The faults that wait for a moment.
    pub aims: Vec<Aim>,
    /// The time between two of them, about.
    pub aims_every_ns: i64,
    /// The mean time between two faults.
    pub fault_every_ns: i64,
    /// After this, faults stop and the cluster is healed.
    pub faults_until: i64,
    /// No client starts anything new after this.
    pub load_until: i64,
    /// After this, everything must have come to rest.
    pub rest_by: i64,
    /// The most bytes of entries in one message.
    pub message_bytes_max: usize,
    /// The most slots in flight.
    pub inflight_slots_max: usize,
    /// Entries that a log keeps below its durable applied index.
    pub keep_slots: u64,
    /// How long versions are kept.
    pub version_retention_ns: i64,
    /// Clients give their commits deadlines up to so far ahead; 0: none.
    pub deadline_max_ns: i64,
    /// Indexes come and go.
    pub schema: bool,
    /// The bug put in on purpose.
    pub canary: Option<Canary>,
    /// Clocks leave their bounds.
    pub beyond: Option<Beyond>,
}

impl Swarm {
    /// The settings of a seed.
    pub fn draw(seed: u64, canary: Option<Canary>) -> Swarm {
        let rng = &mut stream(seed, 0, Purpose::Swarm, 0);
        let nodes = *pick(rng, &[3, 3, 3, 5]);
        let lease_ns = log_uniform(rng, 300 * MS, 3_000 * MS);
        let epsilon_ns = log_uniform(rng, 50_000, (lease_ns / 30).min(40 * MS));
        let calm = chance(rng, 100_000) && canary.is_none();

        let delay_min_ns = log_uniform(rng, 20_000, 2 * MS);
        let rare = |rng: &mut ChaCha8Rng| match rng.random_range(0..3) {
            _ if calm => 0,
            0 => 0,
            1 => rng.random_range(0..10_000),
            _ => rng.random_range(0..100_000),
        };
        let network = NetworkOptions {
            delay_min_ns,
            delay_max_ns: delay_min_ns + log_uniform(rng, 20_000, 4 * MS),
            slow_ppm: rare(rng),
            loss_ppm: rare(rng),
            duplicate_ppm: rare(rng),
            in_order: rng.random_range(0..3) == 0,
            spread: Spread::Even,
            uneven_ns: 0,
        };
        let sync_min_ns = log_uniform(rng, 20_000, 3 * MS);

        let mut faults = Vec::new();
        for fault in Fault::ALL {
            if rng.random_range(0..2) == 0 && !calm {
                faults.push((fault, rng.random_range(1..10)));
            }
        }
        let mut mix = Vec::new();
        for kind in Kind::ALL {
            if rng.random_range(0..4) > 0 {
                mix.push((kind, rng.random_range(1..10)));
            }
        }
        mix.push((Kind::Append, 3));

        let faults_until = 6_000 * MS + lease_ns * rng.random_range(4..12);
        let load_until = faults_until + 2_000 * MS + 3 * lease_ns;
        let mut swarm = Swarm {
            nodes,
            bootstrap: Vec::new(),
            lease_ns,
            epsilon_ns,
            clock_limit_ns: epsilon_ns,
            sawtooth_ns: 0,
            groups_wanted: 0,
            clients: rng.random_range(2..=12),
            plans_max: 4_000,
            think_max_ns: log_uniform(rng, MS, 100 * MS),
            keys: rng.random_range(2..=12),
            mix,
            sql_clients: 0,
            sql_mix: Vec::new(),
            network,
            sync_ns: (sync_min_ns, sync_min_ns + log_uniform(rng, 20_000, 5 * MS)),
            sync_slow_ppm: rare(rng),
            flush_max_ns: log_uniform(rng, 50 * MS, 5_000 * MS),
            depart_max_ns: log_uniform(rng, 1_000, MS),
            faults,
            aims: Vec::new(),
            aims_every_ns: lease_ns,
            fault_every_ns: log_uniform(rng, lease_ns / 4, lease_ns * 3),
            faults_until,
            load_until,
            rest_by: load_until + 20_000 * MS + 10 * lease_ns,
            message_bytes_max: log_uniform(rng, 1 << 10, 1 << 20) as usize,
            inflight_slots_max: log_uniform(rng, 8, 4096) as usize,
            keep_slots: if rng.random_range(0..3) == 0 { 1000 } else { rng.random_range(0..100) },
            version_retention_ns: if rng.random_range(0..4) == 0 { 2_000 * MS } else { 3_600_000 * MS },
            deadline_max_ns: 0,
            schema: false,
            canary,
            beyond: None,
        };
        if !calm && canary.is_none() {
            swarm.draw_more_faults(&mut stream(seed, 0, Purpose::Swarm, 3));
            swarm.draw_surroundings(&mut stream(seed, 0, Purpose::Swarm, 4));
            if !swarm.aims.is_empty() {
                let rng = &mut stream(seed, 0, Purpose::Swarm, 7);
                swarm.aims.extend(Aim::MORE.into_iter().filter(|_| rng.random_range(0..3) == 0));
            }
            let rng = &mut stream(seed, 0, Purpose::Swarm, 8);
            if rng.random_range(0..4) == 0 {
                swarm.faults.push((Fault::Apart, rng.random_range(1..7)));
            }
        }
        // A stream of its own, so that the rest of a seed is the same with SQL and without.
        let sql_rng = &mut stream(seed, 0, Purpose::Swarm, 1);
        let about_schema = matches!(canary, Some(Canary::Broken(Guarantee::IndexDeletes | Guarantee::SchemaSteps)));
        if (sql_rng.random_range(0..2) == 0 && canary.is_none()) || about_schema {
            swarm.draw_sql(sql_rng);
        }
        // Again a stream of its own: schemas, and what they rest on.
        let schema_rng = &mut stream(seed, 0, Purpose::Swarm, 40);
        if schema_rng.random_range(0..3) == 0 && !calm && canary.is_none() {
            swarm.deadline_max_ns = log_uniform(schema_rng, 10 * MS, 4 * swarm.lease_ns);
        }
        if swarm.sql_clients > 0 && (schema_rng.random_range(0..2) == 0 || about_schema) {
            swarm.draw_schema(schema_rng);
        }
        swarm.draw_ranges(rng);
        if swarm.sql_clients > 0 {
            swarm.draw_sql_ranges(sql_rng);
        }
        swarm.feed_canary(rng);
        // Streams of their own again: a run that is not beyond the promise is the same as without this.
        let drawn = Beyond::is_drawn(seed) && !calm && canary.is_none();
        if drawn || canary == Some(Canary::Broken(Guarantee::LiarFenced)) {
            swarm.beyond = Some(Beyond::draw(seed, &swarm));
        }
        swarm
    }

    fn draw_more_faults(&mut self, rng: &mut ChaCha8Rng) {
        for fault in Fault::DISKS.into_iter().chain(Fault::PROCESSES) {
            if rng.random_range(0..4) == 0 {
                self.faults.push((fault, rng.random_range(1..7)));
            }
        }
        if rng.random_range(0..3) > 0 {
            self.aims.extend(Aim::ALL.into_iter().filter(|_| rng.random_range(0..3) == 0));
            self.aims_every_ns = log_uniform(rng, self.lease_ns / 8, self.lease_ns);
        }
    }

    /// What the first draws leave out of networks, clocks and sizes.
    fn draw_surroundings(&mut self, rng: &mut ChaCha8Rng) {
        for fault in Fault::LINKS.into_iter().chain(Fault::CLOCKS) {
            if rng.random_range(0..4) == 0 {
                self.faults.push((fault, rng.random_range(1..7)));
            }
        }
        self.network.spread = *pick(rng, &[Spread::Even, Spread::Tail, Spread::Two]);
        if rng.random_range(0..3) == 0 {
            self.network.uneven_ns = log_uniform(rng, 20_000, 5 * MS);
        }
        if rng.random_range(0..4) == 0 {
            self.sawtooth_ns = log_uniform(rng, 5 * MS, 2_000 * MS);
        }
        if rng.random_range(0..8) == 0 {
            self.nodes = *pick(rng, &[4, 6, 7]);
        }
        if rng.random_range(0..6) == 0 {
            self.groups_wanted = rng.random_range(7..=10);
        }
    }

    fn draw_sql(&mut self, rng: &mut ChaCha8Rng) {
        self.sql_clients = rng.random_range(1..=6);
        for kind in programs::Kind::DRAWN {
            if rng.random_range(0..3) > 0 {
                self.sql_mix.push((kind, rng.random_range(1..8)));
            }
        }
        self.sql_mix.push((programs::Kind::Append, 3));
        // Sometimes nothing else competes with them.
        self.clients = if rng.random_range(0..3) == 0 { 1 } else { 1 + self.clients / 2 };
    }

    fn draw_schema(&mut self, rng: &mut ChaCha8Rng) {
        self.schema = true;
        for (kind, weight) in programs::Kind::SCHEMA {
            self.sql_mix.push((kind, weight));
        }
        self.sql_clients = self.sql_clients.max(rng.random_range(3..=8));
        // A schema change takes some seconds.
        self.load_until += 8_000 * MS;
        self.rest_by += 20_000 * MS;
    }

    /// What a process does about SQL.
    pub fn sql_options(&self) -> SqlOptions {
        #[cfg(feature = "canaries")]
        let sabotage = match self.canary {
            Some(Canary::Broken(guarantee)) => truetime::Sabotage::of(guarantee),
            _ => truetime::Sabotage::default(),
        };
        #[cfg(not(feature = "canaries"))]
        let sabotage = truetime::Sabotage::default();
        SqlOptions { tends_jobs: self.schema, sabotage }
    }

    /// Cuts the catalogue from the tables, and the tables at their beginnings or in their midst.
    fn draw_sql_ranges(&mut self, rng: &mut ChaCha8Rng) {
        let mut bounds: BTreeSet<Vec<u8>> = BTreeSet::from([vec![sql::catalog::TABLE_PREFIX]]);
        for _ in 0..rng.random_range(0..4) {
            bounds.insert(sql_key(rng));
        }
        if self.schema {
            // The first indexes lie apart from their table, and from those that come later.
            for id in [1, 5] {
                let id = sql::catalog::FIRST_TABLE_ID + Table::FIXED.len() as u32 + id;
                bounds.insert([&[sql::catalog::TABLE_PREFIX][..], &id.to_be_bytes()].concat());
            }
        }
        let first = self.bootstrap[0].0.span.end.clone();
        let mut edges: Vec<Vec<u8>> = bounds.into_iter().collect();
        let starts = std::iter::once(Vec::new()).chain(edges.clone());
        let mut spans: Vec<Span> = Vec::new();
        edges.push(first.to_vec());
        for (start, end) in starts.zip(edges) {
            spans.push(Span::new(start, end));
        }
        spans.extend(self.bootstrap.iter().skip(1).map(|(range, _)| range.span.clone()));
        let range = |(i, span)| {
            let range = RangeDescriptor { group: GroupId(i as u64), span, epoch: 1 };
            (range, NodeId(1 + i as u64 % self.nodes))
        };
        self.bootstrap = spans.into_iter().enumerate().map(range).collect();
    }

    fn draw_ranges(&mut self, rng: &mut ChaCha8Rng) {
        let mut bounds: Vec<u8> = (1..=9).collect();
        let drawn = rng.random_range(1..=6);
        let groups = if self.groups_wanted > 0 { self.groups_wanted } else { drawn };
        while bounds.len() > groups - 1 {
            bounds.remove(rng.random_range(0..bounds.len()));
        }
        let edge = |digit: Option<&u8>| digit.map_or(String::new(), u8::to_string);
        for i in 0..groups {
            let start = if i == 0 { String::new() } else { edge(bounds.get(i - 1)) };
            let range = RangeDescriptor {
                group: GroupId(i as u64),
                span: Span::new(start.into_bytes(), edge(bounds.get(i)).into_bytes()),
                epoch: 1,
            };
            self.bootstrap.push((range, NodeId(1 + i as u64 % self.nodes)));
        }
    }

    /// What a canary needs to show itself.
    fn feed_canary(&mut self, rng: &mut ChaCha8Rng) {
        let Some(canary) = self.canary else { return };
        self.fault_every_ns = self.lease_ns;
        let faults: &[Fault] = match canary {
            Canary::LyingDisk => &[Fault::PowerCutAll, Fault::PowerCut, Fault::Isolate],
            Canary::SendBeforeSync => &[Fault::PowerCutAll, Fault::PowerCut],
            Canary::ClockBeyondEpsilon => {
                self.clock_limit_ns = self.epsilon_ns.saturating_mul(30).max(60 * MS);
                &[Fault::ClockJump, Fault::HandOver, Fault::Isolate]
            }
            Canary::StaleClock => {
                self.epsilon_ns = MS / 10;
                self.clock_limit_ns = MS / 10;
                self.fault_every_ns = self.lease_ns / 4;
                &[Fault::Pause]
            }
            Canary::EarlyFlush => {
                self.keep_slots = 0;
                &[Fault::PowerCut, Fault::PowerCutAll]
            }
            Canary::LogRotTaken => &[Fault::LogRot, Fault::Kill],
            Canary::StateRotTaken => &[Fault::StateRot, Fault::HandOver],
            Canary::SyncErrorPassed => &[Fault::SyncError, Fault::PowerCut],
            Canary::FullDiskPassed => &[Fault::DiskFull, Fault::Kill],
            Canary::EmptyDiskVotes => {
                // Somebody lags, always.
                self.network.loss_ppm = 100_000;
                self.fault_every_ns = self.lease_ns / 2;
                &[Fault::DiskLost, Fault::DiskLost, Fault::Isolate]
            }
            Canary::Broken(guarantee) => self.feed_broken(guarantee, rng),
        };
        self.faults = faults.iter().map(|fault| (*fault, 5)).collect();
        self.faults_until += 6 * self.lease_ns;
        self.load_until += 6 * self.lease_ns;
        self.rest_by += 6 * self.lease_ns;
        self.sync_ns.1 += 5 * MS;
        self.mix = vec![(Kind::Append, 5), (Kind::Transfer, 5), (Kind::StrongRead, 5), (Kind::Register, 3)];
        match canary {
            Canary::Broken(Guarantee::CollectionLine) => self.mix.extend([(Kind::TimedRead, 9), (Kind::ReadAgain, 9)]),
            Canary::Broken(Guarantee::RangeLockEnd) => self.mix.extend([(Kind::Phantom, 9), (Kind::LockedTotal, 3)]),
            Canary::Broken(Guarantee::LostLocksAbort) => self.mix.extend([(Kind::Skew, 9), (Kind::LockedTotal, 5)]),
            // A client that writes is stuck with a leader that is cut off, and reads no more from it.
            Canary::Broken(Guarantee::LeaseOnRead) => self.mix = vec![(Kind::StrongRead, 200), (Kind::Append, 3)],
            Canary::Broken(_) => self.mix.extend([(Kind::TimedRead, 5), (Kind::ReadAgain, 5), (Kind::LockedTotal, 3)]),
            _ => {}
        }
        self.clients = if self.schema { 2 } else { rng.random_range(6..=12) };
    }

    /// What the loss of a guarantee needs to show itself.
    fn feed_broken(&mut self, guarantee: Guarantee, rng: &mut ChaCha8Rng) -> &'static [Fault] {
        match guarantee {
            Guarantee::CommitWait => {
                // Much uncertainty, and a network that is quicker than it.
                self.epsilon_ns = (self.lease_ns / 30).min(40 * MS);
                self.clock_limit_ns = self.epsilon_ns;
                (self.network.delay_min_ns, self.network.delay_max_ns) = (MS / 50, MS / 5);
                self.sync_ns = (MS / 50, MS / 5);
                self.think_max_ns = MS;
                &[Fault::ClockJump]
            }
            Guarantee::LeaseOnRead => {
                self.think_max_ns = 5 * MS;
                self.keys = 2;
                &[Fault::Isolate]
            }
            Guarantee::PrepareDurable => {
                // Its leader dies with the record, and what it told its followers of it is lost.
                self.network.loss_ppm = 300_000;
                self.aims = vec![Aim::VoteLeft];
                self.aims_every_ns = self.lease_ns / 2;
                &[Fault::PowerCut]
            }
            Guarantee::SafeTimeHeldByPrepared | Guarantee::SafeTimeHeldByInflight => &[Fault::Isolate],
            Guarantee::LostLocksAbort => {
                self.keys = rng.random_range(2..=4);
                &[Fault::HandOver, Fault::PauseLeader]
            }
            Guarantee::CommitOnce => {
                (self.network.loss_ppm, self.network.duplicate_ppm) = (50_000, 100_000);
                &[Fault::Isolate, Fault::HandOver]
            }
            Guarantee::CollectionLine => {
                self.version_retention_ns = 2_000 * MS;
                &[Fault::HandOver]
            }
            Guarantee::RangeLockEnd => {
                self.keys = rng.random_range(2..=4);
                &[Fault::HandOver]
            }
            Guarantee::EpochRule => {
                // It matters only if a value of a dead leader is chosen behind the start of the next.
                self.nodes = 5;
                self.think_max_ns = 5 * MS;
                // Many values of one group in flight.
                (self.groups_wanted, self.bootstrap) = (2, Vec::new());
                self.draw_ranges(rng);
                (self.inflight_slots_max, self.message_bytes_max) = (4096, 1 << 20);
                self.aims = vec![Aim::Forsaken];
                self.aims_every_ns = self.lease_ns;
                self.fault_every_ns = 8 * self.lease_ns;
                &[Fault::HandOver]
            }
            Guarantee::PreparedIsSafe => &[Fault::Isolate],
            Guarantee::LeaseEpsilon => {
                // Uncertainty that is long beside a message, and clocks at both of its ends.
                self.epsilon_ns = self.lease_ns / 4;
                self.clock_limit_ns = self.epsilon_ns;
                (self.network.delay_min_ns, self.network.delay_max_ns) = (MS / 50, MS / 5);
                self.sync_ns = (MS / 50, MS / 5);
                self.think_max_ns = MS;
                self.keys = 2;
                self.fault_every_ns = 3 * self.lease_ns;
                &[Fault::Apart]
            }
            Guarantee::OldLeaseOver => {
                self.think_max_ns = 5 * MS;
                self.keys = 2;
                &[Fault::Isolate, Fault::Halves]
            }
            Guarantee::DecisionLogged => &[Fault::PowerCutAll, Fault::Isolate, Fault::Kill],
            Guarantee::PromiseKept => {
                self.keys = 2;
                &[Fault::HandOver]
            }
            Guarantee::SnapshotWhole => {
                self.keep_slots = 0;
                self.flush_max_ns = 50 * MS;
                &[Fault::LongAbsence, Fault::HandOver, Fault::Isolate]
            }
            Guarantee::SplitOffKept => {
                self.keep_slots = 0;
                self.flush_max_ns = 50 * MS;
                self.aims = vec![Aim::OnlyCopy];
                self.aims_every_ns = self.lease_ns / 4;
                &[Fault::Split, Fault::HandOver, Fault::Kill]
            }
            Guarantee::AppliedWithData => &[Fault::Kill, Fault::PowerCut],
            Guarantee::FailureStops => &[Fault::DiskFull, Fault::StateRot, Fault::Kill],
            Guarantee::IndexDeletes | Guarantee::SchemaSteps => {
                self.sql_clients = 8;
                self.sql_mix = programs::Kind::SCHEMA.to_vec();
                self.think_max_ns = 20 * MS;
                &[Fault::HandOver]
            }
            Guarantee::CommitDeadline => {
                self.deadline_max_ns = 50 * MS;
                &[Fault::Isolate, Fault::HandOver]
            }
            Guarantee::LiarFenced => &[Fault::HandOver, Fault::ClockJump],
        }
    }

    /// Whether nothing may fail in this run.
    pub fn is_calm(&self) -> bool {
        let promised = self.faults.is_empty() && self.aims.is_empty() && self.beyond.is_none();
        promised && self.network.loss_ppm == 0 && self.network.slow_ppm == 0
    }

    /// The settings of one node.
    pub fn node_options(&self, id: NodeId) -> NodeOptions {
        let voters = (1..=self.nodes).map(NodeId).collect();
        let mut options = NodeOptions::new(id, voters, self.lease_ns);
        options.bootstrap = self.bootstrap.clone();
        options.paxos.message_bytes_max = self.message_bytes_max;
        options.paxos.inflight_slots_max = self.inflight_slots_max;
        options.paxos.keep_slots = self.keep_slots;
        #[cfg(feature = "canaries")]
        if let Some(Canary::Broken(guarantee)) = self.canary {
            options.paxos.sabotage = truetime::Sabotage::of(guarantee);
        }
        options.txn_idle_ns = 3 * self.lease_ns;
        options.commit_wait_ns = 3 * self.lease_ns;
        options.version_retention_ns = self.version_retention_ns;
        options.gc_every_ns = 1_000 * MS;
        options
    }

    /// The settings of every gateway, in proportion to the lease.
    pub fn gateway_options(&self) -> GatewayOptions {
        GatewayOptions {
            request_timeout_ns: self.lease_ns,
            replica_timeout_ns: self.lease_ns / 4,
            op_timeout_ns: 2_000 * MS + 6 * self.lease_ns,
            commit_timeout_ns: 3 * self.lease_ns,
            status_timeout_ns: 3 * self.lease_ns,
            keepalive_ns: self.lease_ns,
            ..GatewayOptions::default()
        }
    }

    /// Every node.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.nodes).map(NodeId)
    }

    /// The settings in a few lines.
    pub fn describe(&self) -> String {
        let ms = |ns: i64| truetime::format_duration_ns(ns);
        let names = |items: &BTreeMap<String, u32>| {
            items.iter().map(|(name, weight)| format!("{name}:{weight}")).collect::<Vec<_>>().join(" ")
        };
        let faults = self.faults.iter().map(|(f, w)| (format!("{f:?}"), *w)).collect();
        let aims: Vec<String> = self.aims.iter().map(|aim| format!("{aim:?}")).collect();
        let mix = self.mix.iter().map(|(k, w)| (format!("{k:?}"), *w)).collect();
        let sql_mix = self.sql_mix.iter().map(|(k, w)| (format!("{k:?}"), *w)).collect();
        format!(
            "{} nodes, {} groups, {} clients, lease {}, epsilon {}, delay {}..{}, sync {}..{}, loss {} ppm, \
             duplicates {} ppm, slow {} ppm, in order {}\nfaults every {} until {}: {}\naimed every {}: {}\nload until {}: {}\n{} SQL clients: {}{}",
            self.nodes,
            self.bootstrap.len(),
            self.clients,
            ms(self.lease_ns),
            ms(self.epsilon_ns),
            ms(self.network.delay_min_ns),
            ms(self.network.delay_max_ns),
            ms(self.sync_ns.0),
            ms(self.sync_ns.1),
            self.network.loss_ppm,
            self.network.duplicate_ppm,
            self.network.slow_ppm,
            self.network.in_order,
            ms(self.fault_every_ns),
            ms(self.faults_until),
            names(&faults),
            ms(self.aims_every_ns),
            aims.join(" "),
            ms(self.load_until),
            names(&mix),
            self.sql_clients,
            names(&sql_mix),
            self.beyond.as_ref().map_or(String::new(), |beyond| format!("\nbeyond the promise: {}", beyond.describe())),
        )
    }
}
