//! The wire: types and services generated from `proto/meridian.proto`, and nothing else.

/// Version 1 of the wire. The `.proto` file says what each message means.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("meridian.v1");
}
