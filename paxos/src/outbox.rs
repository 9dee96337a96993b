//! What one step emits, and what waits for an earlier write.
//!
//! Invariant I4: nothing that a promise or an accept vouches for leaves before it is durable. An
//! acknowledgement may need no write of its own (a repeated accept, a heartbeat under a vote that
//! reaches far enough) and still vouch for one that is on its way to the disk. So it is bound to
//! the last write that asked for a sync:
//!
//! ```text
//!   this step asks for a sync         -> Ready::after_sync
//!   an earlier sync is not done yet   -> held here until Input::Persisted
//!   everything asked for is durable   -> Ready::messages
//! ```
//!
//! A message of a replica to itself takes the same way, so that a leader counts its own vote only
//! when its own disk has it.

use std::collections::VecDeque;

use crate::{Entry, Event, HardState, Message, NodeId, Ready, Write};

/// The effects of the current step and those held back from earlier ones.
#[derive(Debug)]
pub(crate) struct Outbox {
    id: NodeId,
    /// The number of the last batch of writes emitted.
    persist_last: u64,
    /// Batches up to here are durable.
    persisted: u64,
    /// The last batch that asked for a sync.
    synced_last: u64,
    writes: Vec<Write>,
    sync: bool,
    hard: bool,
    messages: Vec<(NodeId, Message)>,
    after_sync: Vec<(NodeId, Message)>,
    events: Vec<Event>,
    held: VecDeque<(u64, NodeId, Message)>,
    local: VecDeque<Message>,
}

impl Outbox {
    /// Empty.
    pub(crate) fn new(id: NodeId) -> Outbox {
        Outbox {
            id,
            persist_last: 0,
            persisted: 0,
            synced_last: 0,
            writes: Vec::new(),
            sync: false,
            hard: false,
            messages: Vec::new(),
            after_sync: Vec::new(),
            events: Vec::new(),
            held: VecDeque::new(),
            local: VecDeque::new(),
        }
    }

    /// Writes something that nothing waits for.
    pub(crate) fn write(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// Writes an entry that an acknowledgement will vouch for.
    pub(crate) fn accept(&mut self, entry: Entry) {
        self.writes.push(Write::Entry(entry));
        self.sync = true;
    }

    /// The hard state is to be written with this step, for something that will be vouched for.
    pub(crate) fn hard_synced(&mut self) {
        self.hard = true;
        self.sync = true;
    }

    /// The hard state is to be written with this step, but nothing waits for it.
    pub(crate) fn hard_lazily(&mut self) {
        self.hard = true;
    }

    /// Whether this step writes anything.
    pub(crate) fn has_writes(&self) -> bool {
        self.hard || !self.writes.is_empty()
    }

    /// Whether this step writes the hard state.
    pub(crate) fn writes_hard(&self) -> bool {
        self.hard
    }

    /// Sends a message that vouches for nothing.
    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        assert_ne!(to, self.id, "a replica sends to itself only what waits for its disk");
        self.messages.push((to, message));
    }

    /// Sends a message as soon as everything that it may vouch for is durable.
    pub(crate) fn send_synced(&mut self, to: NodeId, message: Message) {
        if self.sync {
            if to == self.id {
                self.held.push_back((self.persist_last + 1, to, message));
            } else {
                self.after_sync.push((to, message));
            }
        } else if self.synced_last > self.persisted {
            self.held.push_back((self.synced_last, to, message));
        } else {
            self.release(to, message);
        }
    }

    fn release(&mut self, to: NodeId, message: Message) {
        if to == self.id {
            self.local.push_back(message);
        } else {
            self.messages.push((to, message));
        }
    }

    /// Tells the caller.
    pub(crate) fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Every batch up to `persist` is durable.
    pub(crate) fn persisted(&mut self, persist: u64) {
        assert!(persist <= self.persist_last, "batch {persist} persisted, only {} emitted", self.persist_last);
        self.persisted = self.persisted.max(persist);
        while self.held.front().is_some_and(|(needs, _, _)| *needs <= self.persisted) {
            let (_, to, message) = self.held.pop_front().expect("it has a front");
            self.release(to, message);
        }
    }

    /// Whether there is a message to itself that may be handled.
    pub(crate) fn has_local(&self) -> bool {
        !self.local.is_empty()
    }

    /// The next message to itself that may be handled.
    pub(crate) fn take_local(&mut self) -> Option<Message> {
        self.local.pop_front()
    }

    /// The effects of the step.
    pub(crate) fn finish(&mut self, hard: &HardState) -> Ready {
        assert!(self.local.is_empty(), "a message to itself was not handled");
        if std::mem::take(&mut self.hard) {
            self.writes.push(Write::HardState(hard.clone()));
        }
        let sync = std::mem::take(&mut self.sync);
        let mut persist = 0;
        if !self.writes.is_empty() {
            self.persist_last += 1;
            persist = self.persist_last;
        }
        if sync {
            assert_ne!(persist, 0, "a sync without a write");
            self.synced_last = persist;
        }
        assert!(sync || self.after_sync.is_empty(), "messages wait for a sync that was not asked for");
        Ready {
            persist,
            writes: std::mem::take(&mut self.writes),
            sync,
            messages: std::mem::take(&mut self.messages),
            after_sync: std::mem::take(&mut self.after_sync),
            chosen: Vec::new(),
            events: std::mem::take(&mut self.events),
            wake_at_ns: None,
        }
    }
}
