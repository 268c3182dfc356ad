//! nginx's `hash ... consistent`: a ring of addresses, placed by `pingora-ketama`.
//!
//! The same keys come to the same addresses as with nginx, for IPv4 and equal weights in both. An address that changes moves its
//! keys, and endpoints that share an address share their keys: the first by id has them all. An endpoint on a unix socket has
//! none.

use std::net::SocketAddr;
use std::sync::Arc;

use ekiden_config::model::{Address, Endpoint};
use pingora_ketama::{Bucket, Continuum, DEFAULT_POINT_MULTIPLE};
use rustc_hash::FxHashMap;

use super::POINTS_MAX;

/// What `pingora-ketama` can number.
const NODES_MAX: usize = u16::MAX as usize;

/// The ring.
pub(super) struct Ketama {
    continuum: Continuum,
    /// The endpoint of each of its points.
    owners: Box<[u32]>,
}

impl std::fmt::Debug for Ketama {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ketama").field("points", &self.owners.len()).finish()
    }
}

impl Ketama {
    pub(super) fn new(endpoints: &[Arc<Endpoint>]) -> Self {
        let mut owner_of: FxHashMap<SocketAddr, u32> = FxHashMap::default();
        let mut nodes: Vec<(SocketAddr, u32)> = Vec::new();
        for (at, endpoint) in (0u32..).zip(endpoints) {
            let Address::Tcp(address) = endpoint.address else { continue };
            if nodes.len() < NODES_MAX && !owner_of.contains_key(&address) {
                owner_of.insert(address, at);
                nodes.push((address, u32::from(endpoint.weight.max(1))));
            }
        }
        let halvings = halvings(&nodes);
        let buckets: Vec<Bucket> = nodes
            .iter()
            .map(|(address, weight)| Bucket::new(*address, (weight >> halvings).max(1)))
            .collect();
        let continuum = Continuum::new(&buckets);
        Self { owners: owners(&continuum, &owner_of), continuum }
    }

    /// The number of a key's point, as a part of all.
    pub(super) fn place(&self, key: &[u8]) -> Option<f64> {
        let points = u32::try_from(self.owners.len()).ok().filter(|points| *points > 0)?;
        let at = u32::try_from(self.continuum.node_idx(key)).ok()? % points;
        Some(f64::from(at) / f64::from(points))
    }

    /// The endpoints of the points from a key on, once round.
    #[inline]
    pub(super) fn from(&self, key: &[u8]) -> impl Iterator<Item = u32> {
        let at = self.continuum.node_idx(key);
        let (before, behind) = self.owners.split_at_checked(at).unwrap_or((&[], &self.owners));
        behind.iter().chain(before).copied()
    }
}

/// Walks the ring once.
fn owners(continuum: &Continuum, owner_of: &FxHashMap<SocketAddr, u32>) -> Box<[u32]> {
    let (mut owners, mut place) = (Vec::new(), 0);
    while let Some(address) = continuum.get_addr(&mut place) {
        owners.extend(owner_of.get(address));
        if place == 0 {
            break;
        }
    }
    owners.into()
}

/// How often weights are halved so that the points stay within the bound. Once they are, placement is not nginx's any more.
fn halvings(nodes: &[(SocketAddr, u32)]) -> u32 {
    let points = |halvings: u32| -> u64 {
        nodes.iter().map(|(_, weight)| u64::from((weight >> halvings).max(1) * DEFAULT_POINT_MULTIPLE)).sum()
    };
    let least = points(u32::BITS - 1).max(POINTS_MAX);
    (0..u32::BITS).find(|halvings| points(*halvings) <= least).unwrap_or(0)
}
