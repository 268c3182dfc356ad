//! Which group an address is in: networks as sorted ranges that do not overlap, the most specific on top. Immutable.
//!
//! Two networks either hold one another or have nothing in common, so that one sweep with a stack lays the narrow ones over
//! the wide ones.

use std::net::IpAddr;

use ekiden_config::model::Group;

/// A range of one group: first address, last address, group.
type Range = (u128, u128, u16);

/// Ranges of both families. Addresses are compared in their own family.
#[derive(Debug, Default)]
pub(super) struct GroupNets {
    v4: Vec<Range>,
    v6: Vec<Range>,
}

impl GroupNets {
    /// Of groups, which are told apart by their place in the list.
    pub(super) fn new(groups: &[Group]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (number, group) in (0..=u16::MAX).zip(groups) {
            for net in &group.nets {
                let (family, first) = family(&mut v4, &mut v6, net.network());
                let (_, last) = wide(net.broadcast());
                family.push((first, last, number));
            }
        }
        Self { v4: flatten(v4), v6: flatten(v6) }
    }

    /// The place of the group that an address is in.
    pub(super) fn find(&self, address: IpAddr) -> Option<u16> {
        let (is_v4, number) = wide(address.to_canonical());
        let ranges = if is_v4 { &self.v4 } else { &self.v6 };
        let after = ranges.partition_point(|(first, _, _)| *first <= number);
        let (_, last, group) = ranges.get(after.checked_sub(1)?)?;
        (number <= *last).then_some(*group)
    }
}

fn wide(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(address) => (true, u128::from(u32::from(address))),
        IpAddr::V6(address) => (false, u128::from(address)),
    }
}

fn family<'a>(v4: &'a mut Vec<Range>, v6: &'a mut Vec<Range>, address: IpAddr) -> (&'a mut Vec<Range>, u128) {
    let (is_v4, number) = wide(address);
    (if is_v4 { v4 } else { v6 }, number)
}

/// Ranges that hold one another or are apart become ranges that are all apart.
fn flatten(mut nets: Vec<Range>) -> Vec<Range> {
    // The wide one before the narrow ones inside it.
    nets.sort_unstable_by_key(|(first, last, _)| (*first, std::cmp::Reverse(*last)));
    let mut flat: Vec<Range> = Vec::with_capacity(nets.len() * 2);
    let mut open: Vec<Range> = Vec::new();
    for (first, last, group) in nets {
        close(&mut open, &mut flat, Some(first));
        if let Some(outer) = open.last_mut() {
            // What stands before the narrow one is the wide one's; the rest of it comes when the narrow one has ended.
            if outer.0 < first {
                flat.push((outer.0, first - 1, outer.2));
            }
            outer.0 = last.saturating_add(1);
        }
        open.push((first, last, group));
    }
    close(&mut open, &mut flat, None);
    flat
}

/// Ends the open ranges that lie before `next`.
fn close(open: &mut Vec<Range>, flat: &mut Vec<Range>, next: Option<u128>) {
    while let Some((first, last, group)) = open.pop_if(|(_, last, _)| next.is_none_or(|next| *last < next)) {
        // Nothing is left of a wide one whose narrow ones fill it, or whose last one ends the family.
        if first <= last && flat.last().is_none_or(|(_, done, _)| *done < first) {
            flat.push((first, last, group));
        }
    }
}

#[cfg(test)]
mod tests;
