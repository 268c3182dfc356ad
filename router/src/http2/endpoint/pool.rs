//! Connections of one worker to endpoints that speak HTTP/2, by incarnation: each carries as many streams at once as its
//! endpoint takes.
//!
//! A connection is left alone once its endpoint says GOAWAY, did not answer in time, or is old; its streams run to their end. Does
//! not connect.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use ekiden_core::cell::EndpointCell;
use ekiden_core::resilience::breaker::Connected;
use ekiden_core::stats::ClusterCell;
use h2::client::SendRequest;
use rustc_hash::FxHashMap;

use super::connection::{Begun, STREAMS_MAX};
use super::opening::Openings;
use super::stream::EndpointStream;
use crate::tls::Trust;

/// Age from which a connection begins no stream, milliseconds; up to a quarter more, so that those made together do not end
/// together. Endpoints behind an address get their share again.
const AGE_MS: u64 = 10 * 60_000;

/// What is known of a connection by those who use it.
#[derive(Debug, Default)]
struct Mark {
    open: AtomicU32,
    /// Begins no stream any more.
    retired: AtomicBool,
}

/// A stream of a connection, counted while this lives.
#[derive(Debug)]
pub struct Lease(Arc<Mark>);

impl Lease {
    fn new(mark: &Arc<Mark>) -> Self {
        mark.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(mark))
    }

    /// Of a connection that nobody shares.
    pub fn alone() -> Self {
        Self::new(&Arc::default())
    }

    /// The connection begins no stream any more.
    pub fn retire(&self) {
        self.0.retired.store(true, Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Shared {
    sender: SendRequest<Bytes>,
    mark: Arc<Mark>,
    trust: Option<Arc<Trust>>,
    over_ms: u64,
    idle_since_ms: u64,
}

impl Shared {
    fn begins(&mut self, now_ms: u64, secure: bool) -> bool {
        let trusted = self.trust.as_ref().map_or(!secure, |trust| secure && !trust.is_retired());
        // An error is one of the connection: GOAWAY, or its end.
        let alive = match self.sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) | Poll::Pending => true,
            Poll::Ready(Err(_)) => false,
        };
        let begins = trusted && alive && now_ms < self.over_ms && !self.mark.retired.load(Ordering::Relaxed);
        if !begins {
            self.mark.retired.store(true, Ordering::Relaxed);
        }
        begins
    }

    /// Streams that it carries at once.
    fn most(&self) -> u32 {
        u32::try_from(self.sender.current_max_send_streams()).unwrap_or(u32::MAX).min(STREAMS_MAX)
    }

    fn has_room(&self) -> bool {
        self.mark.open.load(Ordering::Relaxed) < self.most()
    }
}

struct Shelf {
    cell: Arc<EndpointCell>,
    limit_ms: u64,
    connections: Vec<Shared>,
}

/// What a connection is wanted for.
pub struct Wanted<'a> {
    /// The incarnation.
    pub cell: &'a Arc<EndpointCell>,
    /// Counts of its cluster.
    pub stats: &'a Arc<ClusterCell>,
    /// What it was believed by; none on a plain connection.
    pub trust: Option<Arc<Trust>>,
    /// Longest time without a stream, milliseconds.
    pub limit_ms: u64,
    /// The time.
    pub now_ms: u64,
    /// Random bits, for the age.
    pub random: u64,
}

/// The connections of one worker.
pub struct Http2Pool {
    worker: usize,
    shelves: RefCell<FxHashMap<u64, Shelf>>,
    openings: Openings,
}

impl std::fmt::Debug for Http2Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http2Pool").field("worker", &self.worker).finish_non_exhaustive()
    }
}

impl Http2Pool {
    /// None yet.
    pub fn new(worker: usize) -> Self {
        Self { worker, shelves: RefCell::default(), openings: Openings::default() }
    }

    /// A stream on a connection that has room for one: the oldest such, so that others can go. Looks at no more of them than are
    /// full, or begin no stream any more: a burst may have left very many.
    pub fn take(&self, uid: u64, now_ms: u64, secure: bool) -> Option<EndpointStream> {
        let mut shelves = self.shelves.borrow_mut();
        let shelf = shelves.get_mut(&uid)?;
        let mut place = 0;
        while let Some(connection) = shelf.connections.get_mut(place) {
            if !connection.has_room() {
                place += 1;
            } else if connection.begins(now_ms, secure) {
                connection.idle_since_ms = now_ms;
                return Some(EndpointStream::new(
                    connection.sender.clone(),
                    secure,
                    Lease::new(&connection.mark),
                ));
            } else {
                shelf.connections.remove(place);
            }
        }
        None
    }

    /// What is being opened.
    pub(super) fn openings(&self) -> &Openings {
        &self.openings
    }

    /// Streams that one connection to this incarnation carries, where one is known.
    pub(super) fn streams_each(&self, uid: u64) -> Option<u32> {
        self.shelves.borrow().get(&uid)?.connections.last().map(Shared::most)
    }

    /// Keeps a new connection, has it driven, and gives its first stream. `connected` is held as long as it is open.
    pub fn keep(&self, begun: Begun, wanted: &Wanted<'_>, connected: Option<Connected>) -> EndpointStream {
        let Begun { sender, driver } = begun;
        let mark = Arc::<Mark>::default();
        let stream = EndpointStream::new(sender.clone(), wanted.trust.is_some(), Lease::new(&mark));
        let shard = Arc::clone(wanted.stats);
        let worker = self.worker;
        shard.shard(worker).connections.add(1);
        let ended = Arc::clone(&mark);
        tokio::task::spawn_local(async move {
            let _told_by_its_streams = driver.await;
            ended.retired.store(true, Ordering::Relaxed);
            shard.shard(worker).connections.sub(1);
            drop(connected);
        });
        let mut shelves = self.shelves.borrow_mut();
        let shelf = shelves.entry(wanted.cell.uid()).or_insert_with(|| Shelf {
            cell: Arc::clone(wanted.cell),
            limit_ms: wanted.limit_ms,
            connections: Vec::new(),
        });
        shelf.limit_ms = wanted.limit_ms;
        let over_ms = wanted.now_ms + AGE_MS + wanted.random % (AGE_MS / 4);
        let (trust, idle_since_ms) = (wanted.trust.clone(), wanted.now_ms);
        shelf.connections.push(Shared { sender, mark, trust, over_ms, idle_since_ms });
        stream
    }

    /// Lets go of connections that begin no stream any more, idle too long, or lead to an endpoint that is leaving: each closes
    /// when its last stream ends. Called every second and after each swap.
    pub fn sweep(&self, now_ms: u64) {
        self.shelves.borrow_mut().retain(|_, shelf| {
            if shelf.cell.is_gone() || shelf.cell.is_draining() {
                return false;
            }
            let limit_ms = shelf.limit_ms;
            shelf.connections.retain_mut(|connection| {
                let secure = connection.trust.is_some();
                if connection.mark.open.load(Ordering::Relaxed) > 0 {
                    connection.idle_since_ms = now_ms;
                }
                connection.begins(now_ms, secure)
                    && now_ms.saturating_sub(connection.idle_since_ms) < limit_ms
            });
            !shelf.connections.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use ekiden_config::model::{Address, Endpoint, Owner};
    use ekiden_config::names::{AppName, ClusterName, EndpointId};
    use ekiden_core::cell::{ClusterPlace, Incarnation};
    use ekiden_core::health::Health;

    use super::super::connection::begin;
    use super::*;
    use crate::stream::Stream;

    fn cell() -> Arc<EndpointCell> {
        let place = ClusterPlace::new(AppName::default_app(), ClusterName::new("web").unwrap());
        let endpoint = Endpoint {
            id: EndpointId::new("one").unwrap(),
            address: Address::Unix("/one".into()),
            tags: None,
            weight: 1,
            priority: 0,
            drain: false,
            owner: Owner::File,
        };
        let incarnation = Incarnation::new(Arc::new(place), Arc::new(endpoint));
        Arc::new(EndpointCell::new(incarnation, Health::Ready, "", 0))
    }

    /// A connection to an endpoint that takes two streams at once.
    async fn begun() -> Begun {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        tokio::task::spawn_local(async move {
            let mut server = h2::server::Builder::new();
            let served = server.max_concurrent_streams(2).handshake::<_, Bytes>(theirs).await;
            if let Ok(mut server) = served {
                while server.accept().await.is_some() {}
            }
        });
        begin(Stream::Unix(ours)).await.unwrap()
    }

    #[test]
    fn connections_have_room_and_age() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let (cell, pool) = (cell(), Http2Pool::new(0));
            let stats =
                Arc::new(ClusterCell::new(AppName::default_app(), ClusterName::new("web").unwrap(), 1));
            let wanted = |random| Wanted {
                cell: &cell,
                stats: &stats,
                trust: None,
                limit_ms: u64::MAX,
                now_ms: 0,
                random,
            };
            let take = |now_ms, secure| pool.take(cell.uid(), now_ms, secure);
            assert!(take(0, false).is_none());
            let first = pool.keep(begun().await, &wanted(AGE_MS / 8), None);
            let second = take(0, false).expect("it takes two");
            assert!(take(0, false).is_none(), "and no third");
            drop(second);
            // Past its age it is left; how long that is differs from one to the next.
            assert!(take(AGE_MS + AGE_MS / 8 - 1, false).is_some());
            assert!(take(AGE_MS + AGE_MS / 8, false).is_none());
            assert!(take(0, false).is_none(), "for good");
            let other = pool.keep(begun().await, &wanted(0), None);
            other.retire_connection();
            assert!(take(0, false).is_none(), "an endpoint that did not answer");
            let plain = pool.keep(begun().await, &wanted(0), None);
            assert!(take(0, true).is_none(), "TLS is asked for now");
            drop((first, other, plain));
        });
    }
}
