//! Smooth weighted round robin: every endpoint in proportion to its weight, spread out evenly.
//!
//! The order is computed when the ready set is built, and a shared cursor walks it, so that all workers together
//! keep the order and a pick is one addition.

use std::sync::atomic::{AtomicU32, Ordering};

use super::ready::{Member, View};

/// Longest order that is written out, in turns.
pub const TURNS_MAX: u64 = 4096;

/// The order of turns.
#[derive(Debug)]
pub(super) enum Order {
    /// All weights are equal: the members one after another.
    Plain,
    /// Places of members, one per turn; nginx's smooth order.
    Turns(Box<[u32]>),
    /// Too many turns to write out: running sums of the weights, visited in a low-discrepancy sequence.
    Sums(Box<[u64]>),
}

impl Order {
    /// Computes the order. At most [`TURNS_MAX`] times the members, who are then no more than the turns.
    pub(super) fn new(members: &[Member]) -> Self {
        let divisor = members.iter().fold(0, |divisor, member| gcd(divisor, member.weight)).max(1);
        if members.iter().all(|member| member.weight == divisor) {
            return Order::Plain;
        }
        let turns: u64 = members.iter().map(|member| u64::from(member.weight / divisor)).sum();
        if turns > TURNS_MAX {
            return Order::Sums(sums(members));
        }
        Order::Turns(smooth(members, divisor, turns))
    }

    /// The next member in turn; none when it is not eligible.
    #[inline]
    pub(super) fn choose(&self, members: &[Member], view: View<'_>, cursor: &AtomicU32) -> Option<Member> {
        let turn = cursor.fetch_add(1, Ordering::Relaxed);
        let at = match self {
            Order::Plain => turn as usize % members.len().max(1),
            Order::Turns(turns) => *turns.get(turn as usize % turns.len().max(1))? as usize,
            Order::Sums(sums) => spread(sums, turn),
        };
        members.get(at).copied().filter(|member| view.eligible(*member))
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// nginx's smooth weighted round robin (`ngx_http_upstream_get_peer`, 2012): at each turn every member gains its
/// weight, the highest is taken and pays the sum of all. Weights 5, 1, 1 give a a b a c a a.
fn smooth(members: &[Member], divisor: u32, turns: u64) -> Box<[u32]> {
    let total = turns as i64;
    let mut gains: Vec<(i64, i64)> =
        members.iter().map(|member| (0, i64::from(member.weight / divisor))).collect();
    let mut order = Vec::with_capacity(turns as usize);
    for _ in 0..turns {
        let mut best: Option<(usize, &mut i64)> = None;
        for (at, (gained, weight)) in gains.iter_mut().enumerate() {
            *gained += *weight;
            if best.as_ref().is_none_or(|(_, most)| *gained > **most) {
                best = Some((at, gained));
            }
        }
        if let Some((at, most)) = best {
            *most -= total;
            order.push(at as u32);
        }
    }
    order.into()
}

fn sums(members: &[Member]) -> Box<[u64]> {
    let running = members.iter().scan(0u64, |sum, member| {
        *sum += u64::from(member.weight);
        Some(*sum)
    });
    running.collect()
}

/// The member at a turn: multiples of the golden ratio modulo 1 (a Weyl sequence, the most even one there is) on the
/// line of all weights. The multiplier is odd, so 2^32 turns visit 2^32 different places.
fn spread(sums: &[u64], turn: u32) -> usize {
    const GOLDEN: u32 = 0x9E37_79B9;
    let total = sums.last().copied().unwrap_or(0);
    let place = ((u128::from(total) * u128::from(turn.wrapping_mul(GOLDEN))) >> 32) as u64;
    sums.partition_point(|sum| *sum <= place)
}

#[cfg(test)]
mod tests;
