//! A set of networks as sorted ranges that do not touch, so that a look-up is one binary search. Immutable.

use std::net::IpAddr;

use ekiden_config::model::Admission;

/// Networks of both families. Addresses are compared in their own family: an IPv4 client of an IPv6 socket is looked up
/// in its IPv4 form.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NetSet {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl NetSet {
    /// The clients that are served; none when every client is.
    pub(super) fn allowed(words: &Admission) -> Option<Self> {
        Self::of(words.allow_clients.iter().map(|net| (net.network(), net.broadcast())))
    }

    /// The clients that are not served.
    pub(super) fn denied(words: &Admission) -> Option<Self> {
        Self::of(words.deny_clients.iter().map(|net| (net.network(), net.broadcast())))
    }

    /// A set of ranges, each from its first to its last address; none when there are none.
    pub(super) fn of(ranges: impl Iterator<Item = (IpAddr, IpAddr)>) -> Option<Self> {
        let mut set = Self::default();
        for (first, last) in ranges {
            match (first, last) {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    set.v4.push((u128::from(u32::from(first)), u128::from(u32::from(last))));
                }
                (first, last) => set.v6.push((wide(first), wide(last))),
            }
        }
        if set == Self::default() {
            return None;
        }
        merge(&mut set.v4);
        merge(&mut set.v6);
        Some(set)
    }

    /// Whether an address is in one of the networks.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        let (ranges, number) = match address.to_canonical() {
            IpAddr::V4(address) => (&self.v4, u128::from(u32::from(address))),
            IpAddr::V6(address) => (&self.v6, u128::from(address)),
        };
        let after = ranges.partition_point(|(first, _)| *first <= number);
        after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| number <= *last)
    }
}

fn wide(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// Sorts ranges and joins those that overlap.
fn merge(ranges: &mut Vec<(u128, u128)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let joined = next.0 <= kept.1;
        if joined {
            kept.1 = kept.1.max(next.1);
        }
        joined
    });
}
