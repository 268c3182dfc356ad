//! What the workers of a process share: the table in force, who has taken it, the process's own addresses.
//!
//! Read on the request path only through a worker's own copy. Does not compile tables (see `swap`).

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ekiden_config::doors::{Generation, Observations};
use ekiden_config::model::Address;
use ekiden_core::stats::WorkerShard;
use ekiden_core::table::Table;

use crate::entrance::keyring::Keyring;
use crate::memory;
use crate::overload::Ceilings;
use crate::probe::Suspects;
use crate::store::Stores;
use crate::tls::{Hub, Trusts};
use crate::worker::connection_limits::KnownClients;
use crate::worker::mailbox::{Mailbox, Message};

/// Old tables on their way to be dropped off the workers.
const RETIRED_MAX: usize = 64;

/// One worker as seen from other threads.
#[derive(Debug)]
pub struct Place {
    /// How to reach it.
    pub mailbox: Mailbox,
    /// Its counts.
    pub shard: Arc<WorkerShard>,
    taken: AtomicU64,
    beat_ms: AtomicU64,
    accepting: AtomicU64,
}

/// State shared by the workers and the threads around them.
#[derive(Debug)]
pub struct Shared {
    /// The table in force. Stored by the swapper alone.
    pub table: ArcSwap<Table>,
    /// The workers.
    pub places: Vec<Place>,
    /// Endpoints that evidence speaks against, on their way to the judge.
    pub suspects: Arc<Suspects>,
    /// The up door.
    pub observations: Observations,
    /// When the process started.
    pub started: Instant,
    /// Certificates and TLS settings of listeners.
    pub tls: Arc<Hub>,
    /// TLS with endpoints, by cluster.
    pub trusts: Arc<Trusts>,
    /// Files of credentials.
    pub keyring: Arc<Keyring>,
    /// Stores through which limits are shared.
    pub stores: Stores,
    /// Ceilings of the process, and how near they are.
    pub ceilings: Ceilings,
    own: Mutex<Arc<[Address]>>,
    known_clients: OnceLock<KnownClients>,
    taken: (Mutex<()>, Condvar),
    retired: SyncSender<Retired>,
}

/// Work for the thread that drops things.
#[derive(Debug)]
pub enum Retired {
    /// An old table.
    Table(Arc<Table>),
    /// Much was freed: give memory back to the system.
    Heap,
}

/// Drops what the workers hand over. Runs on a thread of its own until the last sender is gone.
pub fn retire_all(arrivals: &Receiver<Retired>) {
    for arrival in arrivals {
        match arrival {
            Retired::Table(table) => drop(table),
            Retired::Heap => memory::give_back(),
        }
    }
}

impl Shared {
    /// State for a number of workers, and the end at which old tables arrive to be dropped. Relative paths of
    /// certificates go by `base`.
    pub fn new(workers: usize, base: PathBuf) -> (Arc<Self>, Receiver<Retired>) {
        let (retired, retirement) = sync_channel(RETIRED_MAX);
        let place = || Place {
            mailbox: Mailbox::default(),
            shard: Arc::new(WorkerShard::new()),
            taken: AtomicU64::new(0),
            beat_ms: AtomicU64::new(0),
            accepting: AtomicU64::new(0),
        };
        let shared = Self {
            table: ArcSwap::from_pointee(Table::empty()),
            places: (0..workers).map(|_| place()).collect(),
            suspects: Arc::default(),
            observations: Observations::default(),
            started: Instant::now(),
            tls: Arc::new(Hub::new(base.clone())),
            keyring: Arc::new(Keyring::new(base.clone(), workers)),
            stores: Stores::new(base.clone()),
            trusts: Arc::new(Trusts::new(base)),
            ceilings: Ceilings::default(),
            own: Mutex::new(Arc::from([])),
            known_clients: OnceLock::new(),
            taken: (Mutex::new(()), Condvar::new()),
            retired,
        };
        (Arc::new(shared), retirement)
    }

    /// Makes the table of clients for so many connections in all. Called once, before the workers start.
    pub fn know_clients(&self, connections: u64) {
        self.known_clients.get_or_init(|| KnownClients::new(connections));
    }

    /// What the workers know about clients.
    pub fn known_clients(&self) -> &KnownClients {
        self.known_clients.get_or_init(|| KnownClients::new(0))
    }

    /// Sends a message to every worker.
    pub fn tell(&self, message: impl Fn() -> Message) {
        for place in &self.places {
            place.mailbox.send(message());
        }
    }

    /// Tells the addresses that control and telemetry are served on; no endpoint may be one of them.
    pub fn set_own_addresses(&self, addresses: Vec<Address>) {
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = addresses.into();
    }

    /// Whether connecting to an address would reach this process's own control or telemetry. Called off the plain
    /// path: before a connect and before a probe.
    pub fn is_own(&self, address: &Address) -> bool {
        let own = Arc::clone(&self.own.lock().unwrap_or_else(PoisonError::into_inner));
        own.iter().any(|mine| reaches(address, mine))
    }

    /// A worker has taken a generation.
    pub fn taken(&self, worker: usize, generation: Generation) {
        if let Some(place) = self.places.get(worker) {
            let _held = self.taken.0.lock().unwrap_or_else(PoisonError::into_inner);
            place.taken.store(generation.0, Ordering::Release);
            self.taken.1.notify_all();
        }
    }

    /// Workers that have not taken a generation.
    pub fn behind(&self, generation: Generation) -> Vec<usize> {
        let behind = |place: &Place| place.taken.load(Ordering::Acquire) < generation.0;
        self.places.iter().enumerate().filter(|(_, place)| behind(place)).map(|(id, _)| id).collect()
    }

    /// The generation that every worker serves.
    pub fn generation(&self) -> Generation {
        let least = self.places.iter().map(|place| place.taken.load(Ordering::Acquire)).min();
        Generation(least.unwrap_or(0))
    }

    /// Waits until every worker has taken a generation; false when the time is over first.
    pub fn await_taken(&self, generation: Generation, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let mut held = self.taken.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.behind(generation).is_empty() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            held = self.taken.1.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Hands an old table to the thread that drops it; when that is behind, drops it here and counts.
    pub fn retire(&self, table: Arc<Table>, shard: &WorkerShard) {
        if self.retired.try_send(Retired::Table(table)).is_err() {
            shard.part_drops.add(1);
        }
    }

    /// Asks for free memory to be given back to the system, off the workers. Dropped when the thread is busy: it is asked
    /// again.
    pub fn trim_heap(&self) {
        let _asked_again_later = self.retired.try_send(Retired::Heap);
    }

    /// A worker's loop has turned.
    pub fn beat(&self, worker: usize, accepting: usize) {
        if let Some(place) = self.places.get(worker) {
            let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            place.beat_ms.store(now_ms, Ordering::Relaxed);
            place.accepting.store(accepting as u64, Ordering::Relaxed);
        }
    }

    /// A worker's last beat (milliseconds since the start) and the number of sockets it accepts on.
    pub fn pulse(&self, worker: usize) -> (u64, u64) {
        self.places.get(worker).map_or((0, 0), |place| {
            (place.beat_ms.load(Ordering::Relaxed), place.accepting.load(Ordering::Relaxed))
        })
    }
}

/// Whether a connection to `target` arrives at a socket bound to `mine`, wildcard binds included.
fn reaches(target: &Address, mine: &Address) -> bool {
    match (target, mine) {
        (Address::Tcp(target), Address::Tcp(mine)) => {
            let (to, at) = (target.ip().to_canonical(), mine.ip().to_canonical());
            let local = to.is_loopback() || to.is_unspecified() || crate::listen::is_local(to);
            target.port() == mine.port()
                && (to == at || (at.is_unspecified() && local) || (to.is_unspecified() && at.is_loopback()))
        }
        (Address::Unix(target), Address::Unix(mine)) => target == mine,
        (Address::Tcp(_), Address::Unix(_)) | (Address::Unix(_), Address::Tcp(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_found_behind_wildcards() {
        let (shared, _retired) = Shared::new(1, PathBuf::new());
        let tcp = |text: &str| Address::Tcp(text.parse().unwrap());
        shared.set_own_addresses(vec![
            tcp("0.0.0.0:9901"),
            tcp("127.0.0.1:9902"),
            Address::Unix("/run/x".into()),
        ]);
        for (address, own) in [
            ("127.0.0.1:9901", true),
            ("127.0.0.9:9901", true),
            ("[::1]:9901", true),
            ("127.0.0.1:9902", true),
            ("0.0.0.0:9902", true),
            ("127.0.0.2:9902", false),
            ("127.0.0.1:9903", false),
            ("192.0.2.1:9901", false),
        ] {
            assert_eq!(shared.is_own(&tcp(address)), own, "{address}");
        }
        assert!(shared.is_own(&Address::Unix("/run/x".into())));
    }
}
