//! The generic cell rate algorithm (ITU-T I.371) over one atomic: the theoretical arrival time of the next event.
//!
//! At most `burst` events at once, then one each `per / count`. Refused events cost nothing. Does not read a clock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ekiden_config::model::Rate;

/// Time between two events at the full rate, in nanoseconds; at least one.
fn interval_ns(rate: &Rate) -> u64 {
    let per_ns = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX);
    (per_ns / u64::from(rate.count.max(1))).max(1)
}

/// Takes one event when the rate allows it. Readings of `now_ns` from several workers may be out of order.
pub(super) fn take(arrival: &AtomicU64, rate: &Rate, now_ns: u64) -> bool {
    let interval = interval_ns(rate);
    let latest = now_ns.saturating_add(interval.saturating_mul(u64::from(rate.burst)));
    let next = |held: u64| {
        let next = held.max(now_ns).saturating_add(interval);
        (next <= latest).then_some(next)
    };
    // Each turn of the loop means that another worker took an event.
    arrival.fetch_update(Relaxed, Relaxed, next).is_ok()
}
