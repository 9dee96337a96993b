//! stub
pub mod v1 { tonic::include_proto!("meridian.v1"); }
