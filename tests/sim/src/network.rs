//! The network between nodes: delays, loss, duplicates, reordering and cut links.
//!
//! A message that a node sends to itself is the caller's business and never comes here.

use std::collections::BTreeMap;

use paxos::{GroupId, NodeId};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::rng::{Purpose, chance, log_uniform, stream};

/// The part of the streams that draw how uneven links are.
const UNEVEN: u64 = 1_000;

/// How the network of a run behaves.
#[derive(Clone, Debug)]
pub struct NetworkOptions {
    /// The least delay.
    pub delay_min_ns: i64,
    /// Most delays are below this.
    pub delay_max_ns: i64,
    /// So many messages in a million take up to a hundred times longer.
    pub slow_ppm: u32,
    /// So many in a million are lost.
    pub loss_ppm: u32,
    /// So many in a million arrive twice.
    pub duplicate_ppm: u32,
    /// Messages of a link arrive in the order sent, as on one stream.
    pub in_order: bool,
    /// How delays are spread between the least and the most.
    pub spread: Spread,
    /// Each directed link takes up to so much longer than the others, always.
    pub uneven_ns: i64,
}

/// How delays are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spread {
    /// Each as likely as any.
    #[default]
    Even,
    /// Mostly near the least, with a long tail.
    Tail,
    /// Near the least, or near the most.
    Two,
}

impl Spread {
    fn draw(self, rng: &mut ChaCha8Rng, low: i64, high: i64) -> i64 {
        let even = rng.random_range(low..=high);
        match self {
            Spread::Even => even,
            // Halved as often as a coin falls on one side: each magnitude is as likely as the next.
            Spread::Tail => low + ((even - low) >> rng.random_range(0..8)),
            Spread::Two => {
                let part = (even - low) / 10;
                if rng.random() { low + part } else { high - part }
            }
        }
    }
}

/// The links and their state.
#[derive(Debug)]
pub struct Network {
    options: NetworkOptions,
    seed: u64,
    links: BTreeMap<(NodeId, NodeId), Link>,
    /// How many faults cut a directed link.
    cuts: BTreeMap<(NodeId, NodeId), u32>,
    /// Until when what a link says of a group does not arrive.
    group_cuts: BTreeMap<(NodeId, NodeId, GroupId), i64>,
    /// Until when a link takes so many times longer.
    slow: BTreeMap<(NodeId, NodeId), (i64, i64)>,
    /// Until when a link delivers nothing.
    stalls: BTreeMap<(NodeId, NodeId), i64>,
    /// Until when clients and this gateway do not hear each other.
    clients: BTreeMap<NodeId, i64>,
    healed: bool,
}

#[derive(Debug)]
struct Link {
    rng: ChaCha8Rng,
    last_arrival: i64,
    /// So much longer than others.
    more_ns: i64,
}

impl Network {
    /// No link is cut.
    pub fn new(options: NetworkOptions, seed: u64) -> Network {
        Network {
            options,
            seed,
            links: BTreeMap::new(),
            cuts: BTreeMap::new(),
            group_cuts: BTreeMap::new(),
            slow: BTreeMap::new(),
            stalls: BTreeMap::new(),
            clients: BTreeMap::new(),
            healed: false,
        }
    }

    /// When copies of a message sent now arrive: none if it is lost.
    pub fn arrivals(&mut self, now: i64, from: NodeId, to: NodeId) -> Vec<i64> {
        let seed = self.seed;
        let o = &self.options;
        let link = self.links.entry((from, to)).or_insert_with(|| {
            let more_ns = stream(seed, from.0, Purpose::Link, UNEVEN + to.0).random_range(0..=o.uneven_ns);
            Link { rng: stream(seed, from.0, Purpose::Link, to.0), last_arrival: 0, more_ns }
        });
        let times = self.slow.get(&(from, to)).filter(|(_, until)| *until > now).map_or(1, |(times, _)| *times);
        let stalled = self.stalls.get(&(from, to)).copied().filter(|until| *until > now);
        let rng = &mut link.rng;
        // Drawn in any case, so that a cut does not shift the delays of later messages.
        let lost = chance(rng, o.loss_ppm) && !self.healed;
        let twice = chance(rng, o.duplicate_ppm) && !self.healed;
        let mut arrivals = Vec::new();
        for _ in 0..=u8::from(twice) {
            let mut delay = o.spread.draw(rng, o.delay_min_ns, o.delay_max_ns) * times + link.more_ns;
            if chance(rng, o.slow_ppm) && !self.healed {
                delay += log_uniform(rng, o.delay_max_ns, o.delay_max_ns * 100);
            }
            let mut at = now + delay;
            if o.in_order || stalled.is_some() {
                at = at.max(link.last_arrival).max(stalled.unwrap_or(0));
                link.last_arrival = at;
            }
            arrivals.push(at);
        }
        if lost || self.is_cut(from, to) {
            arrivals.clear();
        }
        arrivals
    }

    /// Whether nothing passes from one to the other.
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    /// Cuts these directed links, over and above any other cut.
    pub fn cut(&mut self, links: &[(NodeId, NodeId)]) {
        for link in links {
            *self.cuts.entry(*link).or_default() += 1;
        }
    }

    /// Takes one cut of these links back.
    pub fn mend(&mut self, links: &[(NodeId, NodeId)]) {
        for link in links {
            if let Some(count) = self.cuts.get_mut(link) {
                *count -= 1;
                if *count == 0 {
                    self.cuts.remove(link);
                }
            }
        }
    }

    /// What a link says of a group does not arrive until then.
    pub fn cut_group(&mut self, (from, to): (NodeId, NodeId), group: GroupId, until: i64) {
        self.group_cuts.insert((from, to, group), until);
    }

    /// Whether nothing of this group passes now.
    pub fn is_group_cut(&self, now: i64, from: NodeId, to: NodeId, group: GroupId) -> bool {
        self.group_cuts.get(&(from, to, group)).is_some_and(|until| *until > now)
    }

    /// A link takes so many times longer until then.
    pub fn slow(&mut self, link: (NodeId, NodeId), times: i64, until: i64) {
        self.slow.insert(link, (times, until));
    }

    /// A link delivers nothing until then, and then all.
    pub fn stall(&mut self, link: (NodeId, NodeId), until: i64) {
        self.stalls.insert(link, until);
    }

    /// Clients and a gateway do not hear each other until then.
    pub fn cut_clients(&mut self, gateway: NodeId, until: i64) {
        self.clients.insert(gateway, until);
    }

    /// Whether they do not now.
    pub fn are_clients_cut(&self, now: i64, gateway: NodeId) -> bool {
        self.clients.get(&gateway).is_some_and(|until| *until > now)
    }

    /// No fault any more, for the rest of the run.
    pub fn heal(&mut self) {
        self.healed = true;
        self.cuts.clear();
        self.group_cuts.clear();
        self.slow.clear();
        self.stalls.clear();
        self.clients.clear();
    }
}
