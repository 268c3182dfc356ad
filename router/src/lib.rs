//! Carries: sockets, HTTP, pools, probes, records. Workers read one immutable table that the swapper replaces.
//!
//! The way of a request is [`worker::connection`] -> [`exchange::run`] -> [`exchange::forward`] -> [`exchange::relay`]
//! -> [`exchange::trace`]. Decisions are core's; this crate performs them. Knows nothing of control.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod affinity;
pub mod aside;
pub mod buffer;
pub mod clock;
pub mod entrance;
pub mod exchange;
mod explain;
pub mod head;
pub mod http2;
pub mod listen;
pub mod memory;
pub mod overload;
pub mod pool;
pub mod probe;
pub mod record;
pub mod router;
pub mod shared;
#[cfg(test)]
mod simulation;
pub mod store;
pub mod stream;
pub mod swap;
pub mod telemetry;
pub mod tls;
pub mod wheel;
pub mod wire;
pub mod worker;

pub use router::{ControlStatus, Options, Router};
pub use telemetry::DynoMeters;
