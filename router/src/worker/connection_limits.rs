//! Who is let in by `core::connection_limits`, before a task or a buffer exists for the connection. Does not accept or judge.
//!
//! A refused connection costs a lookup and a reset. Log lines come at most once a second for each reason and listener.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use ekiden_config::names::ListenerName;
use ekiden_core::connection_limits::{Clients, Place, admit, client_bound};

use crate::shared::Shared;
use crate::stream::Stream;
use crate::worker::{ListenerRef, Worker};

/// What all workers know about clients.
#[derive(Debug)]
pub struct KnownClients {
    /// Open connections and rates by client.
    pub clients: Clients,
    /// Connections that the process takes in all.
    pub connections: u64,
}

impl KnownClients {
    /// Those of a process that takes so many connections, none yet.
    pub fn new(connections: u64) -> Self {
        Self { clients: Clients::new(connections, [fastrand::u64(..), fastrand::u64(..)]), connections }
    }

    /// What one client may have open where the listener does not say.
    fn half(&self) -> u32 {
        u32::try_from(self.connections / 2).unwrap_or(u32::MAX).max(1)
    }
}

/// A connection that is counted for its client, until this is dropped.
#[derive(Debug, Default)]
pub struct Permit(Option<Place>);

impl Permit {
    /// Ends the count. Called once, by whoever holds it.
    pub fn release(&mut self, shared: &Shared) {
        if let Some(place) = self.0.take() {
            shared.known_clients().clients.leave(place);
        }
    }
}

/// Lets a connection in, or resets it and gives `None`.
pub fn enter(
    worker: &Rc<Worker>,
    listener: &ListenerRef,
    stream: Stream,
    peer: Option<SocketAddr>,
) -> Option<(Stream, Permit)> {
    let Some(peer) = peer else { return Some((stream, Permit::default())) };
    match judge(worker, listener, peer.ip(), true) {
        Ok(permit) => Some((stream, permit)),
        Err(()) => {
            stream.reset();
            None
        }
    }
}

/// The same for a client whose address came with the connection's first bytes; none when it is to be reset.
pub fn enter_proxied(worker: &Worker, listener: &ListenerRef, client: IpAddr) -> Option<Permit> {
    judge(worker, listener, client, false).ok()
}

/// `may_come` says that another client may be behind the address: then that one is judged, when it is known.
fn judge(worker: &Worker, listener: &ListenerRef, client: IpAddr, may_come: bool) -> Result<Permit, ()> {
    worker.with_table(|table| {
        let Some(settings) = listener.index(table).and_then(|index| table.listeners.get(index as usize))
        else {
            return Ok(Permit::default());
        };
        let sources = settings.listener.accept_proxy.as_ref().filter(|_| may_come);
        if sources.is_some_and(|sources| sources.takes(Some(SocketAddr::new(client, 0)))) {
            return Ok(Permit::default());
        }
        let (limits, known) = (&settings.listener.connections, worker.shared.known_clients());
        let most = client_bound(limits, client, known.half());
        let bounded = most.is_some() || limits.client_rate.is_some() || limits.rate.is_some();
        if !bounded || settings.listener.trusts(client.to_canonical()) {
            return Ok(Permit::default());
        }
        let now_ns = nanoseconds(worker.shared.started.elapsed());
        let whose = (number(&listener.name), client);
        admit(&known.clients, &settings.cell, whose, limits, most, now_ns).map(Permit).map_err(|refusal| {
            if settings.cell.refuse(refusal, now_ns) {
                tracing::warn!(
                    listener = %listener.name,
                    cause = refusal.code(),
                    %client,
                    refused = settings.cell.refused(refusal),
                    "client connections are refused"
                );
            }
        })
    })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A number for a name, the same on every worker and in every table (FNV-1a).
fn number(name: &ListenerName) -> u64 {
    name.as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
