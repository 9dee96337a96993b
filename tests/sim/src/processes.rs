//! The life of a process in the world: it starts, takes steps, writes its log, flushes its state, is
//! stopped, and dies.

use paxos::{GroupId, NodeId, Slot};
use rand::RngExt;
use txn::node::Node;
use txn::{NodeInput, NodeReady};

use crate::canary::Canary;
use crate::clients::Answer;
use crate::desk::Desk;
use crate::observe::prepared;
use crate::rng::{Purpose, chance, log_uniform, stream};
use crate::server::{Parcel, Process};
use crate::trace::Happened;
use crate::world::{Event, WORLD_REQUEST, World};

impl World {
    pub(crate) fn start(&mut self, id: NodeId) {
        if self.server(id).process.is_some() || self.server(id).disk.halted {
            return;
        }
        if self.server(id).disk.full || self.server(id).disk.state_fails {
            self.shared.counters.hit("no room to start");
            self.halt(id, "there is no room on its disk", false);
            return;
        }
        let blindly = self.swarm.canary == Some(Canary::LogRotTaken);
        let log = &mut self.server(id).log;
        let logs = match if blindly { log.open_blindly() } else { log.open() } {
            Ok(logs) => logs,
            Err(why) => {
                self.shared.counters.hit("rot of a log found");
                self.halt(id, &why, false);
                return;
            }
        };
        let (now_ns, seed) = (self.now, self.seed);
        let options = self.swarm.node_options(id);
        let gateway_options = self.swarm.gateway_options();
        let sql_options = self.swarm.sql_options();
        let nodes: Vec<NodeId> = self.swarm.node_ids().collect();
        let server = self.server(id);
        server.incarnation += 1;
        server.clock.restart(now_ns);
        self.new_guard(id, &logs);
        let server = self.server(id);
        let incarnation = server.incarnation;
        let now = server.clock.now(now_ns);
        let store = server.store.take().expect("a stopped server holds its store");
        let rotten = store.is_rotten().then(|| store.clone());
        let rng = stream(seed, id.0, Purpose::Protocol, incarnation);
        self.note(format!("{id} starts, for the {incarnation}. time"));
        match Node::new(options, store, logs, now, rng) {
            Err(e) if rotten.is_some() => {
                self.shared.counters.hit("rot of a state found at a start");
                self.server(id).store = rotten;
                self.halt(id, &e.to_string(), false);
            }
            Err(e) => self.fail(format!("I13: {id} does not start: {e}")),
            Ok((node, ready)) => {
                let desk_rng = stream(seed, id.0, Purpose::Gateway, incarnation);
                let desk = Desk::new(id, nodes, gateway_options, sql_options, incarnation, now, desk_rng);
                self.server(id).process = Some(Process {
                    node,
                    desk,
                    tick_at: None,
                    desk_tick_at: None,
                    last_departure: 0,
                    flushing: None,
                    flush_again: false,
                    stopping: false,
                });
                let every = self.swarm.flush_max_ns;
                let delay = self.server(id).disk_rng.random_range(0..=every);
                self.later(id, delay, |node, incarnation| Event::Flush { node, incarnation });
                if self.server(id).guard.is_some() {
                    self.pulse(id);
                }
                self.absorb(id, ready);
                if self.swarm.schema {
                    // What tends the schema changes waits for its first time.
                    self.with_desk(id, |desk, now| desk.tick(now));
                }
            }
        }
    }

    /// The process ends at once. With a power cut, what was not synced may be lost.
    pub(crate) fn crash(&mut self, id: NodeId, power_cut: bool) {
        let server = self.servers.get_mut(&id).expect("every node has a server");
        let Some(mut process) = server.process.take() else { return };
        server.deferred = None;
        server.stale = None;
        server.pauses += 1;
        let incarnation = server.incarnation;
        server.incarnation += 1;
        let lost = server.log.crash(power_cut, &mut server.disk_rng);
        let mut store = std::mem::take(process.node.store_mut());
        let batches = store.unflushed();
        let kept = server.disk_rng.random_range(0..=batches);
        store.crash(kept);
        server.store = Some(store);
        let what = if power_cut { "loses power" } else { "is killed" };
        self.shared.counters.add("log batches lost", lost.batches);
        if lost.torn {
            self.shared.counters.hit("log record torn");
        }
        self.shared.counters.add("state batches lost", (batches - kept) as u64);
        self.note(format!("{id} {what}: loses {} log batches and {} of the state", lost.batches, batches - kept));
        let broken: Vec<_> = self
            .seats
            .iter()
            .filter(|(_, seat)| seat.waiting == Some((id, incarnation)))
            .map(|(client, seat)| (*client, seat.seq))
            .collect();
        for (client, seq) in broken {
            let delay = self.rng.random_range(0..20_000_000);
            self.after(delay, Event::Answer { client, seq, answer: Answer::Broken });
        }
    }

    pub(crate) fn pause(&mut self, id: NodeId, ns: i64) {
        let (now_ns, canary) = (self.now, self.swarm.canary);
        let server = self.server(id);
        if server.is_awake() {
            server.stale = (canary == Some(Canary::StaleClock)).then(|| (server.clock.now(now_ns), 200));
            server.deferred = Some(Vec::new());
            server.pauses += 1;
            let pause = server.pauses;
            self.after(ns, Event::Resume { node: id, pause });
        }
    }

    pub(crate) fn resume(&mut self, id: NodeId) {
        let server = self.server(id);
        if let Some(deferred) = server.deferred.take() {
            let count = deferred.len();
            for event in deferred {
                self.after(0, event);
            }
            self.note(format!("{id} goes on, with {count} events late"));
        }
    }

    pub(crate) fn step(&mut self, id: NodeId, input: NodeInput) {
        let now_ns = self.now;
        let server = self.server(id);
        let Some(process) = &mut server.process else { return };
        let mut now = server.clock.now(now_ns);
        if let Some((stale, inputs)) = &mut server.stale
            && *inputs > 0
        {
            (now, *inputs) = (*stale, *inputs - 1);
        }
        let ready = process.node.step(now, input);
        self.absorb(id, ready);
    }

    pub(crate) fn absorb(&mut self, id: NodeId, ready: NodeReady) {
        let canary = self.swarm.canary;
        let died = self.aim_at_notes(id, &ready.notes);
        for note in ready.notes {
            if note.contains(": installed a snapshot at ") {
                self.count_installed(id, &note);
            }
            self.trace.record(self.now, Happened::Note(id, note));
        }
        if died {
            return;
        }
        let failed = self.servers[&id].process.as_ref().is_some_and(|process| process.node.store().write_failed());
        if failed && ready.fatal.is_none() {
            self.fail(format!("I14: disks: {id} goes on after a write of its store failed"));
            return;
        }
        if let Some(why) = ready.fatal {
            if self.disk_is_bad(id) {
                self.shared.counters.hit("stopped over its state store");
                self.halt(id, &why, false);
                return;
            }
            self.fail(format!("I14: {id} stopped itself, and its disk is good: {why}"));
            return;
        }
        let mut parcels: Vec<Parcel> = Vec::new();
        let message = |(to, message)| Parcel::Message(to, message);
        parcels.extend(ready.messages.into_iter().map(message));
        let mut waiting = ready.after_sync;
        if ready.persist == 0 || canary == Some(Canary::SendBeforeSync) {
            parcels.extend(std::mem::take(&mut waiting).into_iter().map(message));
        }
        for outgoing in ready.replies {
            if outgoing.id >= WORLD_REQUEST {
                self.world_replies.insert(outgoing.id, outgoing.reply);
            } else {
                parcels.push(Parcel::Reply(outgoing));
            }
        }
        if ready.persist > 0 {
            self.trace.record(self.now, Happened::Wrote(id, ready.persist, ready.writes.clone()));
            let mut writes = ready.writes;
            if self.server(id).disk.full && canary == Some(Canary::FullDiskPassed) {
                writes.clear();
            } else if self.server(id).disk.full {
                self.shared.counters.hit("stopped over a full disk");
                self.halt(id, "there is no room for its log", false);
                return;
            }
            let aim = self.aim_at_write(id, ready.persist, &writes);
            self.server(id).log.append(ready.persist, writes, waiting);
            if let Some(aim) = aim {
                self.strike_down(aim, id);
                return;
            }
        } else {
            assert!(ready.writes.is_empty() && waiting.is_empty(), "{id}: writes without a number");
        }
        if ready.sync && self.server(id).log.begin_sync() {
            self.schedule_sync(id);
        }
        self.send(id, parcels);
        if ready.flush_state {
            self.installed(id);
            self.flush(id);
        }
        if ready.ranges_changed {
            self.with_node(id, |process| {
                let ranges = process.node.ranges();
                process.desk.learn(ranges);
            });
        }
        if let Some(mono_ns) = ready.wake_at_ns {
            let jitter = self.server(id).cpu_rng.random_range(0..100_000);
            let at = self.server(id).clock.when_mono(mono_ns).max(self.now + 1_000) + jitter;
            let process = self.process(id);
            if process.tick_at.is_none_or(|due| at < due) {
                process.tick_at = Some(at);
                let incarnation = self.server(id).incarnation;
                self.at(at, Event::Tick { node: id, incarnation });
            }
        }
        if ready.stopped && self.process(id).stopping {
            self.shared.counters.hit("shutdown handed everything over");
            let power_cut = false;
            self.crash(id, power_cut);
            let delay = log_uniform(&mut self.nemesis, 1_000_000, self.swarm.lease_ns);
            self.after(delay, Event::Start { node: id });
        }
    }

    /// A node says that a replica of its has installed a snapshot.
    fn count_installed(&mut self, id: NodeId, note: &str) {
        self.shared.counters.hit("snapshot installed");
        let Some(process) = &self.servers[&id].process else { return };
        let groups = process.node.applied().into_iter().map(|(group, _)| group);
        let mut of_it = groups.filter(|group| note.starts_with(&format!("{group}: ")));
        if of_it.any(|group| !prepared(process.node.store(), group).is_empty()) {
            self.shared.counters.hit("snapshot installed with a transaction prepared");
        }
    }

    pub(crate) fn with_node(&mut self, id: NodeId, run: impl FnOnce(&mut Process)) {
        if let Some(process) = &mut self.server(id).process {
            run(process);
        }
    }

    pub(crate) fn schedule_sync(&mut self, id: NodeId) {
        let ((low, high), slow_ppm, healed) = (self.swarm.sync_ns, self.swarm.sync_slow_ppm, self.healed);
        let now_ns = self.now;
        let server = self.server(id);
        let (slow, stall_ns) = (now_ns < server.disk.slow_until, std::mem::take(&mut server.disk.stall_ns));
        let rng = &mut server.disk_rng;
        let mut ns = rng.random_range(low..=high);
        if slow {
            ns *= 100;
        }
        ns += stall_ns;
        if chance(rng, slow_ppm) && !healed {
            ns += log_uniform(rng, high, high * 100);
        }
        self.later(id, ns, |node, incarnation| Event::Synced { node, incarnation });
    }

    pub(crate) fn synced(&mut self, id: NodeId) {
        let fails = std::mem::take(&mut self.server(id).disk.sync_fails);
        if fails && self.swarm.canary == Some(Canary::SyncErrorPassed) {
            self.server(id).log.go_on();
        } else if fails {
            // Nobody knows what is on the disk now, and a second sync may say yes all the same.
            self.shared.counters.hit("stopped over a failed sync");
            self.halt(id, "a sync of its log failed", true);
            return;
        }
        let lie = self.swarm.canary == Some(Canary::LyingDisk) && self.server(id).disk_rng.random_range(0..20) > 0;
        let (persist, messages, again) = self.server(id).log.end_sync(lie);
        self.trace.record(self.now, Happened::Synced(id, persist));
        if self.aim_at_sync(id, persist) {
            return;
        }
        if again && self.server(id).log.begin_sync() {
            self.schedule_sync(id);
        }
        self.send(id, messages.into_iter().map(|(to, message)| Parcel::Message(to, message)).collect());
        if persist > 0 {
            self.step(id, NodeInput::Persisted(persist));
        }
    }

    pub(crate) fn flush(&mut self, id: NodeId) {
        let process = self.process(id);
        if process.flushing.is_some() {
            process.flush_again = true;
            return;
        }
        let applied: Vec<(GroupId, Slot)> = process.node.applied();
        process.flushing = Some((applied, process.node.store_mut().mark()));
        let delay = log_uniform(&mut self.server(id).disk_rng, 100_000, 50_000_000);
        self.later(id, delay, |node, incarnation| Event::Flushed { node, incarnation });
    }

    pub(crate) fn flushed(&mut self, id: NodeId) {
        let early = self.swarm.canary == Some(Canary::EarlyFlush);
        let process = self.process(id);
        let Some((applied, mark)) = process.flushing.take() else { return };
        if !early {
            process.node.store_mut().flush_to(mark);
        }
        if std::mem::take(&mut process.flush_again) {
            self.flush(id);
        }
        self.step(id, NodeInput::StateDurable(applied));
    }
}
