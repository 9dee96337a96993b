//! The front-ends: thin translations between a protocol and `sql::Session`.

pub mod faults;
pub mod grpc;
