//! The side of a weighted split: which cluster a key goes to. A stable salted hash and weighted rendezvous.
//!
//! The hash and the arithmetic are fixed (golden vectors pin them), so that every router of a fleet, on any
//! platform and after any restart, sends the same key to the same side. Not a defence against clients who choose
//! their keys.

use std::net::IpAddr;

use ekiden_config::model::{Forward, SplitKey};
use ekiden_config::names::ClusterName;

use crate::cookie;
use crate::stable::{hash, minus_ln, mix};
use crate::table::{Fields, RouteEntry, Target};

/// One cluster that a route forwards to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// Index of the cluster in its app's table; see `Table::cluster`.
    pub slot: u32,
    /// Its share; 0 gets nothing.
    pub weight: u32,
    /// Its name, to find it again in a later table.
    pub cluster: ClusterName,
    /// Hash of the name: what makes sides differ for one key.
    seed: u64,
}

impl Side {
    /// Makes a side. Called when a table is compiled.
    pub fn new(slot: u32, weight: u32, cluster: ClusterName) -> Self {
        let seed = hash(b"side", cluster.as_str().as_bytes());
        Self { slot, weight, cluster, seed }
    }
}

/// The hash that decides a request's side: of the header or cookie the route names (its first value), else of the
/// client's address. Called by the router once per request on a route with more than one side. No allocation.
pub fn key_hash(forward: &Forward, fields: &dyn Fields, client: Option<IpAddr>) -> u64 {
    let salt = forward.salt.as_bytes();
    let mut found = None;
    match &forward.split {
        SplitKey::Client => {}
        SplitKey::Header(name) => fields.each(name, &mut |value| {
            found = Some(hash(salt, value));
            false
        }),
        SplitKey::Cookie(name) => fields.each("cookie", &mut |field| {
            found = cookie::values(field, name).next().map(|value| hash(salt, value));
            found.is_none()
        }),
    }
    found.unwrap_or_else(|| match client.map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => hash(salt, &address.octets()),
        Some(IpAddr::V6(address)) => hash(salt, &address.octets()),
        None => hash(salt, b""),
    })
}

/// The slot of the cluster that the key goes to; `None` when the route does not forward or every weight is 0. Called by
/// the router per request; no allocation.
///
/// When one weight grows and no other does, keys only move to the cluster that grew (a property test holds this).
pub fn side(entry: &RouteEntry, key_hash: u64) -> Option<u32> {
    match &entry.target {
        Target::Clusters(sides) => choose(sides, key_hash).map(|side| side.slot),
        Target::Redirect | Target::Fixed => None,
    }
}

/// Weighted rendezvous (Schindelhauer and Schomaker 2005): the side with the least `-ln(u) / weight`, where `u` is a
/// hash of key and cluster name in (0, 1). A side's cost falls only when its own weight grows.
pub fn choose(sides: &[Side], key_hash: u64) -> Option<&Side> {
    if let [only] = sides {
        return (only.weight > 0).then_some(only);
    }
    let mut best: Option<(f64, &Side)> = None;
    for side in sides.iter().filter(|side| side.weight > 0) {
        let cost = minus_ln(mix(key_hash ^ side.seed)) / f64::from(side.weight);
        let better = best.is_none_or(|(least, holder)| {
            cost < least || (cost.total_cmp(&least).is_eq() && side.cluster < holder.cluster)
        });
        if better {
            best = Some((cost, side));
        }
    }
    best.map(|(_, side)| side)
}

#[cfg(test)]
mod tests;
