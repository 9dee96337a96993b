//! One server's whole state: all its groups, the routing between them, and the log they share.
//!
//! API (the body is being written):
//!
//! - `Node::new(options: NodeOptions, store: S, logs: BTreeMap<GroupId, GroupLog>, now: Now, rng: ChaCha8Rng)
//!    -> Result<(Node<S>, NodeReady), StorageError>` where `S: Storage`
//! - `step(&mut self, now: Now, input: NodeInput) -> NodeReady`
//! - `applied(&self) -> Vec<(GroupId, Slot)>`: take it when a flush of the state store begins, hand it back in
//!   `NodeInput::StateDurable` when the flush is done.
//! - `ranges(&self) -> Vec<(RangeDescriptor, Option<NodeId> /* leader hint */)>`
//! - `status(&self, now: Now) -> Vec<GroupStatus>`
