//! What passes between processes, and between clients and their gateways.

use bytes::Bytes;
use paxos::NodeId;
use rand::RngExt;
use txn::{NodeInput, NodeMessage, RequestBody};

use crate::aimed::Fate;
use crate::clients::{Act, Answer, Call};
use crate::clock::truth;
use crate::desk::{Desk, DeskOut};
use crate::excuses::collected_early;
use crate::partitions::group_of;
use crate::rng::{chance, log_uniform};
use crate::server::Parcel;
use crate::trace::Happened;
use crate::world::{Event, World};

impl World {
    /// What a step made leaves a little later.
    pub(crate) fn send(&mut self, id: NodeId, parcels: Vec<Parcel>) {
        if parcels.is_empty() {
            return;
        }
        let (now, most) = (self.now, self.swarm.depart_max_ns);
        let server = self.server(id);
        let delay = server.cpu_rng.random_range(0..=most);
        let incarnation = server.incarnation;
        let Some(process) = &mut server.process else { return };
        process.last_departure = process.last_departure.max(now + delay);
        let at = process.last_departure;
        self.at(at, Event::Depart { node: id, incarnation, parcels });
    }

    pub(crate) fn depart(&mut self, id: NodeId, parcels: Vec<Parcel>) {
        let mut parcels = parcels.into_iter();
        while let Some(parcel) = parcels.next() {
            match self.aim_before_departure(id, &parcel) {
                Fate::Goes => {}
                Fate::Lost => continue,
                Fate::Dies => return,
                Fate::Stops(ns) => {
                    let incarnation = self.server(id).incarnation;
                    let parcels = std::iter::once(parcel).chain(parcels).collect();
                    self.stop_for(id, ns);
                    self.happen(Event::Depart { node: id, incarnation, parcels });
                    return;
                }
            }
            let (to, message) = match parcel {
                Parcel::Message(to, message) => (to, message),
                Parcel::Reply(outgoing) => {
                    let now_ns = self.now;
                    let now = self.server(id).clock.now(now_ns);
                    let to = outgoing.to;
                    let before = outgoing.reply.clone();
                    let sealed = outgoing.seal(now);
                    if !matches!(&sealed, NodeMessage::Reply { reply, .. } if *reply == before) {
                        self.shared.counters.hit("reply refused as it left");
                    }
                    (to, sealed)
                }
            };
            self.observer.sent(&message, id, &mut self.shared.counters);
            if let NodeMessage::Reply { reply, .. } = &message {
                self.judge_answer(id, reply);
            }
            let bytes = message.encode();
            if to == id {
                self.trace.record(self.now, Happened::Local(id, bytes.clone()));
                self.local(id, message.clone());
                if self.server(id).process.is_none() || self.aim_after_departure(id, &message) {
                    return;
                }
                continue;
            }
            self.trace.record(self.now, Happened::Sent(id, to, bytes.clone()));
            self.vouched(id, &message);
            let group = group_of(&message);
            if group.is_some_and(|group| self.network.is_group_cut(self.now, id, to, group)) {
                self.shared.counters.hit("message of a cut group lost");
                continue;
            }
            let stamp = self.stamp(id, to);
            for at in self.network.arrivals(self.now, id, to) {
                if let Some(stamp) = stamp {
                    self.at(at, Event::Heard { from: id, to, stamp });
                }
                self.at(at, Event::Deliver { from: id, to, bytes: bytes.clone() });
            }
            if self.aim_after_departure(id, &message) {
                return;
            }
        }
    }

    /// Between a node and its own gateway nothing is lost and nothing is encoded.
    pub(crate) fn local(&mut self, id: NodeId, message: NodeMessage) {
        match message {
            NodeMessage::Reply { id: request, reply } => {
                self.with_desk(id, |desk, now| desk.reply(now, request, reply))
            }
            message => {
                let aim = self.aim_at_arrival(id, &message);
                self.step(id, NodeInput::Message { from: id, message });
                self.aim_after_arrival(id, aim);
            }
        }
    }

    pub(crate) fn arrive(&mut self, from: NodeId, to: NodeId, bytes: Bytes) {
        self.trace.record(self.now, Happened::Arrived(from, to, bytes.clone()));
        if !self.acquainted(from, to) {
            return;
        }
        match NodeMessage::decode(bytes) {
            Err(e) => self.fail(format!("answer: a message from {from} to {to} does not decode: {e}")),
            Ok(NodeMessage::Reply { id, reply }) => self.with_desk(to, |desk, now| desk.reply(now, id, reply)),
            Ok(message) => {
                let aim = self.aim_at_arrival(to, &message);
                self.step(to, NodeInput::Message { from, message });
                self.aim_after_arrival(to, aim);
            }
        }
    }

    pub(crate) fn with_desk(&mut self, id: NodeId, run: impl FnOnce(&mut Desk, truetime::Now) -> DeskOut) {
        let now_ns = self.now;
        let server = self.server(id);
        let Some(process) = &mut server.process else { return };
        let now = server.clock.now(now_ns);
        let out = run(&mut process.desk, now);
        let wake = process.desk.wake_at_ns();
        for (txn, coordinator) in out.coordinators {
            if !self.buried.contains(&txn) {
                self.coordinators.insert(txn, coordinator);
            }
        }
        for (call, txn) in out.begun {
            if self.sql_buried.contains(&call) {
                self.buried.insert(txn);
            }
            self.sql_begun.insert(call.0, (call.1, txn));
        }
        let mut parcels = Vec::new();
        for (to, request) in out.sends {
            match &request.body {
                RequestBody::Commit { txn, .. } if self.buried.contains(txn) => {}
                _ => parcels.push(Parcel::Message(to, NodeMessage::Request(request))),
            }
        }
        self.send(id, parcels);
        for (client, seq, answer) in out.answers {
            if self.aim_at_answer(&answer) {
                // The connection breaks, and the client hears of that sooner or later.
                let delay = self.rng.random_range(0..self.swarm.lease_ns);
                self.after(delay, Event::Answer { client, seq, answer: Answer::Broken });
                continue;
            }
            let delay = self.server(id).cpu_rng.random_range(0..100_000);
            self.after(delay, Event::Answer { client, seq, answer });
        }
        if let Some(mono_ns) = wake {
            let at = self.server(id).clock.when_mono(mono_ns).max(self.now + 1_000);
            let process = self.process(id);
            if process.desk_tick_at.is_none_or(|due| at < due) {
                process.desk_tick_at = Some(at);
                self.later(id, at - now_ns, |node, incarnation| Event::DeskTick { node, incarnation });
            }
        }
    }

    pub(crate) fn answer(&mut self, client: u64, seq: u64, answer: Answer) {
        let Some(seat) = self.seats.get_mut(&client) else { return };
        if seat.seq != seq || seat.waiting.is_none() {
            return;
        }
        let gateway = seat.waiting.map(|(node, _)| node);
        if !matches!(answer, Answer::Broken) && gateway.is_some_and(|node| self.network.are_clients_cut(self.now, node))
        {
            self.shared.counters.hit("answer lost on the way to its client");
            return self.break_off(client, seq);
        }
        seat.waiting = None;
        let text = format!("client {client} is answered: {}", answer.describe());
        self.trace.record(self.now, Happened::Other(text));
        if let Answer::TooOld(asked) = &answer {
            let earliest = truth(self.now).minus_ns(self.swarm.version_retention_ns);
            let lease_ns = self.swarm.lease_ns;
            if asked.is_some_and(|asked| asked > earliest) {
                if asked.is_some_and(|asked| collected_early(&self.shared.lies, asked, earliest, lease_ns)) {
                    self.shared.counters.hit("beyond the promise: retention lost, versions were collected too early");
                } else {
                    self.fail(format!("I12: retention: client {client} was told that {asked:?} is too old"));
                    return;
                }
            }
        }
        let seat = self.seats.get_mut(&client).expect("looked up above");
        let act = seat.client.answer(self.now, answer, &mut self.shared);
        self.act(client, act);
    }

    /// A client notices, sooner or later, that its connection is gone, and so does its gateway.
    fn break_off(&mut self, client: u64, seq: u64) {
        let (one, other) = (self.rng.random_range(0..2 * self.swarm.lease_ns), self.rng.random_range(0..1_000_000));
        let waiting = self.seats.get(&client).and_then(|seat| seat.waiting);
        if let Some((node, incarnation)) = waiting {
            self.after(one, Event::HangUp { node, incarnation, client });
        }
        self.after(one + other, Event::Answer { client, seq, answer: Answer::Broken });
    }

    pub(crate) fn act(&mut self, client: u64, act: Act) {
        match act {
            Act::Leave => {}
            Act::Wait(ns) => self.after(ns, Event::Wake { client }),
            Act::HangUp(node, ns) => {
                let incarnation = self.servers[&node].incarnation;
                self.after(0, Event::HangUp { node, incarnation, client });
                self.after(ns, Event::Wake { client });
            }
            Act::Call(call) => {
                self.trace.record(self.now, Happened::Other(format!("client {client} calls {call:?}")));
                let mut patience = self.rng.random_range(2..12) * self.swarm.lease_ns;
                if let Call::Sql(_) = &call {
                    // Long enough, sometimes, to be told by the gateway that it does not know.
                    patience *= 3;
                }
                if chance(&mut self.hurry, 4_000) {
                    patience = log_uniform(&mut self.hurry, 1_000_000, self.swarm.lease_ns);
                }
                let seat = self.seats.get_mut(&client).expect("every client has a seat");
                seat.seq += 1;
                let (seq, node) = (seat.seq, seat.client.gateway());
                if let Call::Sql(_) = &call {
                    self.sql_last.insert(client, seq);
                }
                let incarnation = self.servers[&node].incarnation;
                self.seats.get_mut(&client).expect("as above").waiting = Some((node, incarnation));
                let delay = self.rng.random_range(0..100_000);
                if self.network.are_clients_cut(self.now, node) {
                    self.shared.counters.hit("call lost on the way to its gateway");
                    self.break_off(client, seq);
                } else {
                    self.after(delay, Event::Call { node, incarnation, client, seq, call });
                }
                // Without faults everyone has the time to wait.
                if !self.swarm.is_calm() {
                    self.after(patience, Event::GiveUp { client, seq });
                }
            }
        }
    }
}
