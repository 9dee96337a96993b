//! What peers and clients send.

use proto::v1;
use shell::format;
use txn::NodeMessage;

use crate::stable;

/// Consensus.
pub fn paxos_message(data: &[u8]) {
    stable(data, paxos::Message::decode, paxos::Message::encode);
}

/// Anything between nodes.
pub fn txn_message(data: &[u8]) {
    stable(data, NodeMessage::decode, NodeMessage::encode);
}

/// The messages of the gRPC services, and what is made of them: the first byte says which.
pub fn wire(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    match which % 4 {
        0 => drop(again::<v1::ClientMessage>(data)),
        1 => {
            let Some(message) = again::<v1::ServerMessage>(data) else { return };
            let values = match message.body {
                Some(v1::server_message::Body::Rows(rows)) => {
                    rows.rows.into_iter().flat_map(|row| row.values).collect()
                }
                _ => Vec::new(),
            };
            for value in &values {
                let _ = (format::text(value), format::json(value));
            }
        }
        2 => {
            let Some(batch) = again::<v1::PeerBatch>(data) else { return };
            batch.messages.iter().for_each(|message| txn_message(message));
        }
        _ => drop(again::<v1::StatusResponse>(data)),
    }
}

fn again<M: prost::Message + Default>(data: &[u8]) -> Option<M> {
    let message = M::decode(data).ok()?;
    let encoded = message.encode_to_vec();
    let second = M::decode(encoded.as_slice()).expect("what was encoded decodes");
    // Bytes, because a NaN is not equal to itself. A map has no order, so only the length is compared.
    assert_eq!(second.encode_to_vec().len(), encoded.len(), "encoded otherwise the second time");
    Some(message)
}
