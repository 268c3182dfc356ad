//! The shard key of a request, from its head to each pick. Core makes the key and places it; see `core::shard`.
//!
//! The key is read once, before the path is rewritten, and kept for every attempt: a retry, and a table that came meanwhile,
//! place the same key. Does not choose an endpoint.

use std::sync::Arc;

use ekiden_config::model::{Listener, ShardKind, ShardPolicy};
use ekiden_core::cluster::{Attempt, ClusterTable, Pick};
use ekiden_core::outcome::Cause;
use ekiden_core::policy::limit::Asked;
use ekiden_core::shard::pick::Ask;
use ekiden_core::shard::request::{self, Found};
use ekiden_core::shard::{Key, Shards};

use crate::exchange::Workspace;
use crate::exchange::downstream::Downstream;
use crate::exchange::request_out::client_address;
use crate::exchange::run::client_cert;
use crate::worker::Worker;
use crate::worker::connection::Connection;

/// The key of one request.
#[derive(Debug, Default)]
pub struct ShardKey {
    text: Vec<u8>,
    hash: u64,
    /// The request has none, and goes where `balance` says.
    absent: bool,
    /// What it was read by; none where the cluster had no shards then.
    words: Option<Arc<ShardPolicy>>,
}

impl ShardKey {
    /// Forgets it: the cluster of the request has no shards.
    pub fn forget(&mut self) {
        self.words = None;
    }
}

/// Reads the key of a request to a sharded cluster.
///
/// # Errors
/// [`Cause::ShardKeyMissing`] where a request without a key is refused.
#[inline]
pub fn read<D: Downstream>(
    connection: &Connection<D>,
    ws: &mut Workspace,
    listener: &Listener,
    cluster: &ClusterTable,
) -> Result<(), Cause> {
    match cluster.shards() {
        None => {
            // The workspace may have carried a request with one.
            ws.shard.forget();
            Ok(())
        }
        Some(shards) => read_key(connection, ws, listener, shards),
    }
}

fn read_key<D: Downstream>(
    connection: &Connection<D>,
    ws: &mut Workspace,
    listener: &Listener,
    shards: &Shards,
) -> Result<(), Cause> {
    let (request, words) = (&ws.request, &shards.words);
    let peer = || connection.peer.map(|peer| peer.ip());
    let asked = Asked {
        client: request::asks_client(words)
            .then(|| client_address(listener, &request.head, peer()))
            .flatten(),
        host: &request.host,
        method: request.method(),
        path: &ws.path,
        query: request.query().unwrap_or(""),
        fields: &request.head,
        api_key: None,
        client_cert: client_cert(ws.session.as_deref()),
    };
    let found = request::read(words, &asked, &mut ws.shard.text);
    ws.shard.absent = found == Found::Balance;
    ws.shard.hash = Key::new(&ws.shard.text).hash();
    ws.shard.words = Some(Arc::clone(words));
    if found == Found::Refuse { Err(Cause::ShardKeyMissing) } else { Ok(()) }
}

/// Chooses an endpoint for a request to a sharded cluster.
pub fn pick(
    worker: &Worker,
    cluster: &ClusterTable,
    shards: &Shards,
    key: &ShardKey,
    attempt: Attempt<'_>,
) -> Pick {
    let mut random = || worker.random();
    let is_read = key.words.as_ref().is_some_and(|read| read.by == shards.words.by);
    match shards.words.kind {
        ShardKind::Cache if key.absent || !is_read => cluster.pick(attempt, &mut random),
        // The words changed while it waited. What another key would say is not known any more.
        ShardKind::Store if key.absent || !is_read => Pick::ShardDown,
        ShardKind::Cache | ShardKind::Store => {
            let in_flight = || others_in_flight(cluster);
            let ask = Ask {
                key: Key::again(&key.text, key.hash),
                attempt,
                worker: worker.id,
                in_flight: &in_flight,
            };
            cluster.pick_shard(shards, &ask, &mut random)
        }
    }
}

/// Requests at the cluster beside this one, which was counted in already.
fn others_in_flight(cluster: &ClusterTable) -> u64 {
    let all: u64 = cluster.cell.shards().iter().map(|shard| shard.in_flight.value()).sum();
    all.saturating_sub(1)
}
