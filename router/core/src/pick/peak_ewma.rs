//! Power of two choices by expected time: draw two endpoints, take the one where latency times requests in flight is less.
//!
//! The estimate is that of the cell, which forgets with time (see `cell::estimate`); an endpoint that was passed over for long is
//! thereby tried again. What failed a moment ago is dear, however idle it is beside the other, and so is one that asked to be left
//! alone. As long as nothing is known of one of the two, requests in flight alone decide. Latencies that are nearly alike are taken for alike: then the first draw is taken, and an
//! idle cluster follows the weights. The method is known as "Peak EWMA" from Finagle and Linkerd. Weights act as in `p2c`.

use super::p2c::Draw;
use super::ready::{Member, View};
use crate::cell::estimate::PENALTY;
use crate::cluster::EndpointEntry;

/// Latencies that differ by less than this factor are alike: estimates of the same latency differ by as much, and weights must not
/// give way to chance.
const ALIKE: f32 = 1.25;
/// What every answer is taken to need beside what is measured, in microseconds: differences far below a millisecond are chance.
const GROUND_US: f32 = 1_000.0;
/// A failure counts twice beside answers that take so long, and so on: 30 times the latency at least, where everything fails.
const SLOW_US: f32 = PENALTY.as_micros() as f32 / 30.0;

/// Draws two and takes the better of those that are eligible.
#[inline]
pub(super) fn choose(
    draw: &Draw,
    members: &[Member],
    view: View<'_>,
    random: &mut dyn FnMut() -> u64,
) -> Option<Member> {
    draw.choose(members, view, random, sooner)
}

/// The one that is expected to answer sooner; where both are alike it is `a`.
#[inline]
pub(super) fn sooner(a: Member, b: Member, view: View<'_>) -> Member {
    let (Some(of_a), Some(of_b)) = (view.entry(a), view.entry(b)) else { return a };
    let (known_a, penalty_a) = of_a.cell.expected_us(view.now_us);
    let (known_b, penalty_b) = of_b.cell.expected_us(view.now_us);
    let (us_a, us_b) = match (known_a, known_b) {
        (Some(us_a), Some(us_b)) => (us_a, us_b),
        // Of one of them nothing is known: it is taken to be as the other.
        (Some(us), None) | (None, Some(us)) => (us, us),
        (None, None) => (1.0, 1.0),
    };
    // Requests per weight, and this one: two idle ones of equal latency tie, whatever their weights.
    let one = a.weight.max(b.weight) as f32;
    let load_a = of_a.cell.in_flight() as f32 * b.weight as f32 + one;
    let load_b = of_b.cell.in_flight() as f32 * a.weight as f32 + one;
    // A failure is as dear as the busier and the slower of the two make it: who fails at once is idle, and would draw all that the
    // other cannot serve as fast.
    let most = load_a.max(load_b) * (1.0 + us_a.max(us_b) / SLOW_US);
    let cost_a = (us_a + GROUND_US) * load_a + penalty_a * most;
    let cost_b = (us_b + GROUND_US) * load_b + penalty_b * most;
    if cost_b * ALIKE < cost_a { b } else { a }
}

/// Whether the second latency is no worse than the first, or alike.
#[inline]
pub(super) fn are_alike(first_us: f32, second_us: f32) -> bool {
    second_us + GROUND_US <= (first_us + GROUND_US) * ALIKE
}

/// Members of which nothing is known begin with the median of the others. Called when a ready set is built. O(members).
pub(super) fn seed(members: &[Member], endpoints: &[EndpointEntry]) {
    let cells =
        || members.iter().filter_map(|member| endpoints.get(member.index as usize)).map(|entry| &entry.cell);
    let mut known: Vec<(f32, u32)> = cells().filter_map(|cell| cell.latency()).collect();
    if known.is_empty() || known.len() == members.len() {
        return;
    }
    let middle = (known.len() - 1) / 2;
    let (_, median, _) = known.select_nth_unstable_by(middle, |a, b| a.0.total_cmp(&b.0));
    let median = *median;
    cells().for_each(|cell| cell.seed(median));
}

#[cfg(test)]
mod failing;
#[cfg(test)]
mod tests;
