//! The byte format shared by the log, peer messages and commands: fixed-width little-endian
//! integers, length-prefixed bytes, a tag byte for enums. Decoding never panics and never
//! allocates more than the input could fill: input from a peer or a disk is untrusted.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use truetime::Timestamp;

use crate::{Ballot, GroupId, NodeId, Slot};

/// The bytes do not decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError(pub String);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed bytes: {}", self.0)
    }
}

impl std::error::Error for DecodeError {}

/// Result of decoding.
pub type Result<T> = std::result::Result<T, DecodeError>;

/// Appends values to a buffer.
#[derive(Default)]
pub struct Writer(BytesMut);

impl Writer {
    /// An empty buffer.
    pub fn new() -> Writer {
        Writer(BytesMut::new())
    }

    /// An empty buffer with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Writer {
        Writer(BytesMut::with_capacity(bytes))
    }

    /// The bytes written.
    pub fn finish(self) -> Bytes {
        self.0.freeze()
    }

    /// One byte.
    pub fn u8(&mut self, v: u8) -> &mut Writer {
        self.0.put_u8(v);
        self
    }

    /// Four bytes.
    pub fn u32(&mut self, v: u32) -> &mut Writer {
        self.0.put_u32_le(v);
        self
    }

    /// Eight bytes.
    pub fn u64(&mut self, v: u64) -> &mut Writer {
        self.0.put_u64_le(v);
        self
    }

    /// Eight bytes.
    pub fn i64(&mut self, v: i64) -> &mut Writer {
        self.0.put_i64_le(v);
        self
    }

    /// Sixteen bytes.
    pub fn u128(&mut self, v: u128) -> &mut Writer {
        self.0.put_u128_le(v);
        self
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self, v: bool) -> &mut Writer {
        self.u8(u8::from(v))
    }

    /// A length and that many bytes.
    pub fn bytes(&mut self, v: &[u8]) -> &mut Writer {
        let len = u32::try_from(v.len()).expect("a field of 4 GiB is refused long before");
        self.u32(len);
        self.0.put_slice(v);
        self
    }

    /// As bytes.
    pub fn string(&mut self, v: &str) -> &mut Writer {
        self.bytes(v.as_bytes())
    }

    /// A presence byte and the value.
    pub fn option<T>(&mut self, v: Option<T>, put: impl FnOnce(&mut Writer, T)) -> &mut Writer {
        self.bool(v.is_some());
        if let Some(v) = v {
            put(self, v);
        }
        self
    }

    /// A count and the values.
    pub fn list<T>(&mut self, v: impl ExactSizeIterator<Item = T>, mut put: impl FnMut(&mut Writer, T)) -> &mut Writer {
        self.u32(u32::try_from(v.len()).expect("a list of 4 billion is refused long before"));
        for item in v {
            put(self, item);
        }
        self
    }

    /// A timestamp.
    pub fn timestamp(&mut self, v: Timestamp) -> &mut Writer {
        self.i64(v.as_nanos())
    }

    /// A ballot.
    pub fn ballot(&mut self, v: Ballot) -> &mut Writer {
        self.u64(v.round).u64(v.node.0)
    }

    /// A slot.
    pub fn slot(&mut self, v: Slot) -> &mut Writer {
        self.u64(v.0)
    }

    /// A node.
    pub fn node(&mut self, v: NodeId) -> &mut Writer {
        self.u64(v.0)
    }

    /// A group.
    pub fn group(&mut self, v: GroupId) -> &mut Writer {
        self.u64(v.0)
    }
}

/// Takes values off a buffer; byte strings share its memory.
pub struct Reader(Bytes);

impl Reader {
    /// Over these bytes.
    pub fn new(bytes: Bytes) -> Reader {
        Reader(bytes)
    }

    fn take<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        if self.0.len() < N {
            return Err(DecodeError(format!("{what} cut short")));
        }
        // Copied out: a part of its own would count references for a mere integer.
        let head = self.0[..N].try_into().expect("looked at the length above");
        self.0.advance(N);
        Ok(head)
    }

    /// Fails unless everything was read.
    pub fn end(self) -> Result<()> {
        match self.0.len() {
            0 => Ok(()),
            n => Err(DecodeError(format!("{n} bytes left over"))),
        }
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.take("u8")?))
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take("u32")?))
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take("u64")?))
    }

    /// Eight bytes.
    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.take("i64")?))
    }

    /// Sixteen bytes.
    pub fn u128(&mut self) -> Result<u128> {
        Ok(u128::from_le_bytes(self.take("u128")?))
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            n => Err(DecodeError(format!("{n} is not a boolean"))),
        }
    }

    /// A length and that many bytes.
    pub fn bytes(&mut self) -> Result<Bytes> {
        let len = self.u32()? as usize;
        if len > self.0.len() {
            return Err(DecodeError(format!("{len} bytes announced, {} present", self.0.len())));
        }
        Ok(self.0.split_to(len))
    }

    /// As bytes, checked for UTF-8.
    pub fn string(&mut self) -> Result<String> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|e| DecodeError(e.to_string()))
    }

    /// A presence byte and the value.
    pub fn option<T>(&mut self, get: impl FnOnce(&mut Reader) -> Result<T>) -> Result<Option<T>> {
        if self.bool()? { Ok(Some(get(self)?)) } else { Ok(None) }
    }

    /// A count and the values.
    pub fn list<T>(&mut self, mut get: impl FnMut(&mut Reader) -> Result<T>) -> Result<Vec<T>> {
        let count = self.u32()? as usize;
        if count > self.0.len() {
            return Err(DecodeError(format!("{count} items announced, {} bytes", self.0.len())));
        }
        let mut out = Vec::new();
        for _ in 0..count {
            out.push(get(self)?);
        }
        Ok(out)
    }

    /// A timestamp.
    pub fn timestamp(&mut self) -> Result<Timestamp> {
        Ok(Timestamp::from_nanos(self.i64()?))
    }

    /// A ballot.
    pub fn ballot(&mut self) -> Result<Ballot> {
        Ok(Ballot { round: self.u64()?, node: NodeId(self.u64()?) })
    }

    /// A slot.
    pub fn slot(&mut self) -> Result<Slot> {
        Ok(Slot(self.u64()?))
    }

    /// A node.
    pub fn node(&mut self) -> Result<NodeId> {
        Ok(NodeId(self.u64()?))
    }

    /// A group.
    pub fn group(&mut self) -> Result<GroupId> {
        Ok(GroupId(self.u64()?))
    }
}
