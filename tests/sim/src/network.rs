//! The network between nodes: delays, loss, duplicates, reordering and cut links.
//!
//! A message that a node sends to itself is the caller's business and never comes here.

use std::collections::BTreeMap;

use paxos::NodeId;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::rng::{Purpose, chance, log_uniform, stream};

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
}

/// The links and their state.
#[derive(Debug)]
pub struct Network {
    options: NetworkOptions,
    seed: u64,
    links: BTreeMap<(NodeId, NodeId), Link>,
    /// How many faults cut a directed link.
    cuts: BTreeMap<(NodeId, NodeId), u32>,
    healed: bool,
}

#[derive(Debug)]
struct Link {
    rng: ChaCha8Rng,
    last_arrival: i64,
}

impl Network {
    /// No link is cut.
    pub fn new(options: NetworkOptions, seed: u64) -> Network {
        Network { options, seed, links: BTreeMap::new(), cuts: BTreeMap::new(), healed: false }
    }

    /// When copies of a message sent now arrive: none if it is lost.
    pub fn arrivals(&mut self, now: i64, from: NodeId, to: NodeId) -> Vec<i64> {
        let seed = self.seed;
        let link = self
            .links
            .entry((from, to))
            .or_insert_with(|| Link { rng: stream(seed, from.0, Purpose::Link, to.0), last_arrival: 0 });
        let o = &self.options;
        let rng = &mut link.rng;
        // Drawn in any case, so that a cut does not shift the delays of later messages.
        let lost = chance(rng, o.loss_ppm) && !self.healed;
        let twice = chance(rng, o.duplicate_ppm) && !self.healed;
        let mut arrivals = Vec::new();
        for _ in 0..=u8::from(twice) {
            let mut delay = rng.random_range(o.delay_min_ns..=o.delay_max_ns);
            if chance(rng, o.slow_ppm) && !self.healed {
                delay += log_uniform(rng, o.delay_max_ns, o.delay_max_ns * 100);
            }
            let mut at = now + delay;
            if o.in_order {
                at = at.max(link.last_arrival);
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

    /// No fault any more, for the rest of the run.
    pub fn heal(&mut self) {
        self.healed = true;
        self.cuts.clear();
    }
}
