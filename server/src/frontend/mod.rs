//! The front-ends: thin translations between a protocol and `sql::Session`.

pub mod grpc;
