//! Whether a new connection is let in: bounds by client address and by listener, shared by all workers.
//!
//! No lock: a client's state is two atomics in a table of fixed capacity. Time is an argument, in nanoseconds of one
//! monotonic clock that all workers read. Does not accept, close, count open connections in all, or log.

mod clients;
mod rate;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use clients::{Clients, Place};
pub(crate) use clients::{fold, hash};

use ekiden_config::model::{ClientConnections, ConnectionLimits};

/// Why a connection is refused. A closed list; each has a stable word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// The client has as many connections open as it may.
    ClientConnections,
    /// The client opens connections faster than it may.
    ClientRate,
    /// All clients together open connections faster than the listener takes them.
    ListenerRate,
}

impl Refusal {
    /// Every reason, in the order of [`Refusal::index`].
    pub const ALL: [Refusal; 3] = [Refusal::ClientConnections, Refusal::ClientRate, Refusal::ListenerRate];

    /// The place in [`Refusal::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The stable word in logs and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Refusal::ClientConnections => "client_connections",
            Refusal::ClientRate => "client_rate",
            Refusal::ListenerRate => "listener_rate",
        }
    }
}

/// What a listener knows about the connections it refused, over all tables that hold it.
///
/// Written by every worker, but only when a connection is refused or a rate is set, so plain atomics do.
#[derive(Debug, Default)]
pub struct ListenerCell {
    arrival: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    told_ns: [AtomicU64; Refusal::ALL.len()],
}

/// Least time between two log lines about one cause on one listener.
const TELL_NS: u64 = 1_000_000_000;

impl ListenerCell {
    /// Connections refused for this reason. Called by telemetry.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused.get(refusal.index()).map_or(0, |count| count.load(Relaxed))
    }

    /// Counts a refusal. True when it should be told: at most once a second for each reason, whoever asks.
    pub fn refuse(&self, refusal: Refusal, now_ns: u64) -> bool {
        let (Some(count), Some(told)) =
            (self.refused.get(refusal.index()), self.told_ns.get(refusal.index()))
        else {
            return false;
        };
        count.fetch_add(1, Relaxed);
        let last = told.load(Relaxed);
        let due = last == 0 || now_ns.saturating_sub(last) >= TELL_NS;
        due && told.compare_exchange(last, now_ns.max(1), Relaxed, Relaxed).is_ok()
    }
}

/// How many connections a client may have open; none when it may have any number. `half` is what
/// [`ClientConnections::Half`] stands for; it does not bind a client on loopback, which may be a proxy of the same host.
pub fn client_bound(limits: &ConnectionLimits, client: IpAddr, half: u32) -> Option<u32> {
    match limits.per_client {
        ClientConnections::AtMost(most) => Some(most),
        ClientConnections::Half => (!client.to_canonical().is_loopback()).then_some(half),
        ClientConnections::Unbounded => None,
    }
}

/// Judges a new connection of a client that is not exempt. `most` is its [`client_bound`], and `listener` a number
/// that tells listeners apart. A place is given when the client's connections are counted: it is to be handed back to
/// [`Clients::leave`] when the connection ends.
///
/// # Errors
/// Why the connection is to be refused; nothing is held then.
pub fn admit(
    clients: &Clients,
    cell: &ListenerCell,
    (listener, client): (u64, IpAddr),
    limits: &ConnectionLimits,
    most: Option<u32>,
    now_ns: u64,
) -> Result<Option<Place>, Refusal> {
    let place = if most.is_none() && limits.client_rate.is_none() {
        None
    } else {
        Some(clients.enter(
            listener,
            client,
            most.unwrap_or(u32::MAX),
            limits.client_rate.as_ref(),
            now_ns,
        )?)
    };
    // Last, so that one client's excess does not use up what the listener has for all.
    if let Some(rate) = &limits.rate
        && !rate::take(&cell.arrival, rate, now_ns)
    {
        if let Some(place) = place {
            clients.leave(place);
        }
        return Err(Refusal::ListenerRate);
    }
    Ok(place)
}

#[cfg(test)]
mod tests;
