//! Which operation waits for which reply.
//!
//! ```text
//!   operation --sends, registers ids--> Replies --reply, loss--> its Inbox --wakes--> operation
//! ```
//!
//! Request numbers are unique in the process and across its restarts, so a reply finds the one
//! operation that sent the request, or nobody: late replies are dropped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use paxos::NodeId;
use tokio::sync::Notify;
use txn::Reply;
use txn::client::ClientInput;

/// The map is cut in so many parts, so that sessions seldom wait for each other.
const SHARDS: usize = 16;

/// What one operation is to be told.
#[derive(Default)]
pub struct Inbox {
    inputs: Mutex<Vec<ClientInput>>,
    filled: Notify,
}

impl Inbox {
    /// Adds something and wakes whoever waits.
    pub fn push(&self, input: ClientInput) {
        lock(&self.inputs).push(input);
        self.filled.notify_one();
    }

    /// Everything that came since the last time.
    pub fn take(&self) -> Vec<ClientInput> {
        std::mem::take(&mut *lock(&self.inputs))
    }

    /// Waits until something comes. Something that came earlier and was taken may end the wait too.
    pub async fn wait(&self) {
        self.filled.notified().await;
    }
}

struct Waiting {
    node: NodeId,
    inbox: Arc<Inbox>,
}

/// The requests of this node's gateway that have no reply yet.
#[derive(Default)]
pub struct Replies {
    shards: [Mutex<BTreeMap<u64, Waiting>>; SHARDS],
}

impl Replies {
    /// The reply to request `id`, sent to `node`, goes to this inbox.
    pub fn register(&self, id: u64, node: NodeId, inbox: &Arc<Inbox>) {
        lock(self.shard(id)).insert(id, Waiting { node, inbox: inbox.clone() });
    }

    /// Nobody waits for it any more.
    pub fn forget(&self, id: u64) {
        lock(self.shard(id)).remove(&id);
    }

    /// A reply came.
    pub fn deliver(&self, id: u64, reply: Reply) {
        let waiting = lock(self.shard(id)).remove(&id);
        if let Some(waiting) = waiting {
            waiting.inbox.push(ClientInput::Reply { request: id, reply });
        }
    }

    /// A request could not be sent.
    pub fn failed(&self, id: u64) {
        let waiting = lock(self.shard(id)).remove(&id);
        if let Some(waiting) = waiting {
            waiting.inbox.push(ClientInput::SendFailed { request: id });
        }
    }

    /// The connection to a node broke: what was sent to it may or may not have arrived.
    pub fn lost(&self, node: NodeId) {
        for shard in &self.shards {
            let lost: Vec<(u64, Waiting)> = lock(shard).extract_if(.., |_, waiting| waiting.node == node).collect();
            for (id, waiting) in lost {
                waiting.inbox.push(ClientInput::SendFailed { request: id });
            }
        }
    }

    /// How many replies are waited for.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, id: u64) -> &Mutex<BTreeMap<u64, Waiting>> {
        &self.shards[(id % SHARDS as u64) as usize]
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds the replies")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reply_comes_once_and_a_lost_node_fails_its_own_requests() {
        let replies = Replies::default();
        let inbox = Arc::new(Inbox::default());
        for id in 0..40 {
            replies.register(id, NodeId(id % 2), &inbox);
        }
        replies.deliver(7, Reply::Done);
        replies.deliver(7, Reply::Done);
        replies.deliver(99, Reply::Done);
        replies.forget(8);
        assert_eq!(inbox.take(), [ClientInput::Reply { request: 7, reply: Reply::Done }]);
        replies.lost(NodeId(1));
        let lost = inbox.take();
        assert_eq!(lost.len(), 19);
        assert!(lost.iter().all(|input| matches!(input, ClientInput::SendFailed { request } if request % 2 == 1)));
        assert_eq!(replies.len(), 19);
    }
}
