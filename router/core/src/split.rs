//! The side of a weighted split: which cluster a key goes to. A stable salted hash and weighted rendezvous.
//!
//! The hash and the arithmetic are fixed (golden vectors pin them), so that every router of a fleet, on any
//! platform and after any restart, sends the same key to the same side. Not a defence against clients who choose
//! their keys.

use std::net::IpAddr;

use ekiden_config::model::{Forward, SplitKey};
use ekiden_config::names::ClusterName;

use crate::cookie;
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

/// The hash of a key under a salt: FNV-1a (64 bits, <http://www.isthe.com/chongo/tech/comp/fnv/>) over the salt, one
/// 0xFF byte and the key, then the finaliser of splitmix64. Fixed for ever: a change would move every user.
pub fn hash(salt: &[u8], key: &[u8]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = salt.iter().chain(&[0xff]).chain(key);
    mix(bytes.fold(BASIS, |state, &byte| (state ^ u64::from(byte)).wrapping_mul(PRIME)))
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014, with Stafford's variant 13).
fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
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

/// `-ln(u)` for `u = (top 52 bits + 1/2) / 2^52`, which lies in (0, 1). Only IEEE addition, multiplication and division, so
/// the result is the same bit for bit on every platform, which `f64::ln` does not promise.
fn minus_ln(random: u64) -> f64 {
    const FRACTION: u64 = (1 << 52) - 1;
    const TWO_TO_52: f64 = 4_503_599_627_370_496.0;
    // Exact: 53 significant bits.
    let u = ((random >> 12) as f64 + 0.5) / TWO_TO_52;
    let bits = u.to_bits();
    let mut exponent = (bits >> 52) as f64 - 1023.0;
    let mut mantissa = f64::from_bits(bits & FRACTION | 1.0_f64.to_bits());
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1.0;
    }
    // ln(m) = 2 artanh(s) = 2 (s + s^3/3 + s^5/5 + ...), |s| <= 0.172.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut series = 0.0;
    let mut odd = 21.0;
    while odd >= 1.0 {
        series = series * square + 1.0 / odd;
        odd -= 2.0;
    }
    -(exponent * std::f64::consts::LN_2 + 2.0 * s * series)
}

#[cfg(test)]
mod tests;
