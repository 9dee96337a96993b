//! What replicas of one group say to each other, and its bytes.

use bytes::Bytes;

use crate::codec::{DecodeError, Result};

/// A message between two replicas of the same group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {}

impl Message {
    /// The message as bytes.
    pub fn encode(&self) -> Bytes {
        match *self {}
    }

    /// The message of these bytes. Fails unless they are exactly one message.
    pub fn decode(_bytes: Bytes) -> Result<Message> {
        Err(DecodeError("no message has this form".into()))
    }
}
