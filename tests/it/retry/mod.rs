//! Endpoints that refuse, die, fail their checks or are not ready yet: what is tried again, where, and how often.

mod budget;
mod conditions;
mod connects;
mod deadlines;
mod hedging;
mod pooled;
mod readiness;

pub(crate) use connects::black_hole;

use std::net::{SocketAddr, TcpListener};

/// An address of loopback that refuses connections.
fn refusing() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", ekiden_tests::free_port())).unwrap().local_addr().unwrap()
}
