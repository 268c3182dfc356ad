//! Power of two choices: draw two endpoints, take the one with fewer requests in flight per weight.
//!
//! M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (1996). Weights act twice: an endpoint is
//! drawn in proportion to its weight, and the comparison is of requests per weight. A tie goes to the first draw, so
//! that an idle cluster follows the weights exactly; comparing `in_flight + 1` instead would give the heavier of two
//! idle endpoints every pair that holds both (weights 9 and 1: 99 % instead of 90 %).

use super::ready::{Member, View};

/// How members are drawn: evenly, or through an alias table.
#[derive(Debug)]
pub(super) enum Draw {
    /// All weights are equal.
    Even,
    /// One column per member: with probability `keep / 2^32` the column's own member, else the one at `other`.
    Alias(Box<[Column]>),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    keep: u32,
    other: u32,
}

impl Draw {
    /// Prepares draws in proportion to weight. O(members).
    pub(super) fn new(members: &[Member]) -> Self {
        let first = members.first().map(|member| member.weight);
        if members.iter().all(|member| Some(member.weight) == first) {
            return Draw::Even;
        }
        Draw::Alias(alias(members))
    }

    /// The place of one, drawn in proportion to weight.
    #[inline]
    pub(super) fn place(&self, members: &[Member], random: &mut dyn FnMut() -> u64) -> usize {
        match self {
            Draw::Even => below(members.len(), (random() >> 32) as u32),
            Draw::Alias(columns) => drawn(columns, random()),
        }
    }

    /// Two that are drawn in proportion to weight; none where all weights are equal.
    #[inline]
    pub(super) fn pair(
        &self,
        members: &[Member],
        random: &mut dyn FnMut() -> u64,
    ) -> Option<(Member, Member)> {
        let Draw::Alias(columns) = self else { return None };
        let mut one = || members.get(drawn(columns, random())).copied();
        Some((one()?, one()?))
    }

    /// Draws two and takes the `better` of those that are eligible; none when neither is. Two members at least.
    #[inline]
    pub(super) fn choose(
        &self,
        members: &[Member],
        view: View<'_>,
        random: &mut dyn FnMut() -> u64,
        better: impl Fn(Member, Member, View<'_>) -> Member,
    ) -> Option<Member> {
        let (a, b) = match self {
            Draw::Even => {
                let (high, low) = halves(random());
                let a = below(members.len(), high);
                // The second draw is among the others: two different endpoints always.
                let b = below(members.len() - 1, low);
                (a, if b >= a { b + 1 } else { b })
            }
            Draw::Alias(columns) => (drawn(columns, random()), drawn(columns, random())),
        };
        let (a, b) = (*members.get(a)?, *members.get(b)?);
        match (view.eligible(a), view.eligible(b)) {
            (true, true) => Some(better(a, b, view)),
            (true, false) => Some(a),
            (false, true) => Some(b),
            (false, false) => None,
        }
    }
}

/// The one with fewer requests in flight per weight; a tie goes to `a`. Cross-multiplied: no division, no rounding.
#[inline]
pub(super) fn less_loaded(a: Member, b: Member, view: View<'_>) -> Member {
    let load_a = view.in_flight(a) * u64::from(b.weight);
    let load_b = view.in_flight(b) * u64::from(a.weight);
    if load_b < load_a { b } else { a }
}

/// A number below `n` from 32 random bits, without division (D. Lemire, "Fast Random Integer Generation in an
/// Interval", 2019; the bias of at most n / 2^32 is left in).
#[inline]
pub(crate) fn below(n: usize, bits: u32) -> usize {
    ((n as u64 * u64::from(bits)) >> 32) as usize
}

#[inline]
fn halves(bits: u64) -> (u32, u32) {
    ((bits >> 32) as u32, bits as u32)
}

#[inline]
fn drawn(columns: &[Column], bits: u64) -> usize {
    let (high, low) = halves(bits);
    let at = below(columns.len(), high);
    match columns.get(at) {
        Some(column) if low >= column.keep => column.other as usize,
        Some(_) | None => at,
    }
}

/// A. J. Walker's alias table, built by M. D. Vose's method ("A Linear Algorithm for Generating Random Numbers with a
/// Given Distribution", 1991), in integers: each column stands for `total` parts, each member for `weight * n`.
fn alias(members: &[Member]) -> Box<[Column]> {
    let n = members.len() as u64;
    let total: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    let mut columns: Box<[Column]> =
        (0..members.len() as u32).map(|at| Column { keep: u32::MAX, other: at }).collect();
    let parts = (0u32..).zip(members).map(|(at, member)| (at, u64::from(member.weight) * n));
    let (mut small, mut large): (Vec<_>, Vec<_>) = parts.partition(|(_, parts)| *parts < total);
    while let (Some((low, have)), Some((high, rest))) = (small.pop(), large.pop()) {
        if let Some(column) = columns.get_mut(low as usize) {
            // have < total < 2^47 (100,000s of endpoints of weight 1000): widen before the shift.
            let keep = (u128::from(have) << 32) / u128::from(total);
            *column = Column { keep: u32::try_from(keep).unwrap_or(u32::MAX), other: high };
        }
        let rest = rest - (total - have);
        if rest < total { small.push((high, rest)) } else { large.push((high, rest)) }
    }
    columns
}

#[cfg(test)]
mod tests;
