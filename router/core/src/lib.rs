//! Decides: match, limit, pick, judge. Pure: time and randomness are arguments.
//!
//! Holds no socket, no clock, no entropy and no async runtime. What outlives a table lives in [`cell`] and
//! [`stats`]; everything else is immutable once made.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod cell;
pub mod claims;
pub mod client_cert;
pub mod cluster;
pub mod connection_limits;
pub mod cookie;
pub mod edit;
pub mod ejection;
pub mod evidence;
pub mod frame_budget;
pub mod grpc;
pub mod health;
pub mod host;
pub mod outcome;
pub mod overload;
pub mod path;
pub mod pick;
pub mod policy;
pub mod query;
pub mod readiness;
pub mod resilience;
pub mod shard;
pub mod split;
mod stable;
pub mod stats;
pub mod table;
pub mod websocket;
