//! Retries and hedges of routes, and what a cluster takes of them; what it may have in hand.

use std::time::Duration;

use super::Scope;
use crate::model::{BreakerPolicy, HedgePolicy, Replay, RetryBudget, RetryPolicy, StatusRange};
use crate::raw::{FlagOr, Off, RawCluster, RawHedge, RawRetry, RawRetryBudget, RetryOn, duration_words};

/// Bytes kept for a retry where the route does not say.
const BUFFER: u32 = 64 << 10;

/// Reads when and how requests of a route are sent again.
pub(super) fn retry(scope: &mut Scope<'_, '_>, raw: Option<&RawRetry>) -> Option<RetryPolicy> {
    let raw = raw?;
    let standard = [RetryOn::Connect, RetryOn::Reset];
    let on = raw.on.as_deref().unwrap_or(&standard);
    let statuses = on.iter().filter_map(|on| match on {
        RetryOn::Status(low, high) => Some(StatusRange { low: *low, high: *high }),
        RetryOn::Connect | RetryOn::Reset => None,
    });
    let (backoff, backoff_max) = backoff(scope, raw);
    Some(RetryPolicy {
        connect: on.contains(&RetryOn::Connect),
        reset: on.contains(&RetryOn::Reset),
        statuses: statuses.collect(),
        attempts: raw.attempts.and_then(|attempts| u8::try_from(attempts).ok()).unwrap_or(3),
        per_try: raw.per_try,
        backoff,
        backoff_max,
        buffer: raw.buffer.and_then(|bytes| u32::try_from(bytes.0).ok()).unwrap_or(BUFFER),
        replay: raw.replay.map_or(Replay::default(), |word| word.0),
    })
}

fn backoff(scope: &mut Scope<'_, '_>, raw: &RawRetry) -> (Duration, Duration) {
    let first = match raw.backoff {
        None => Duration::from_millis(25),
        Some(Off::Off) => Duration::ZERO,
        Some(Off::Set(first)) => first,
    };
    let Some(most) = &raw.backoff_max else { return (first, first.saturating_mul(10)) };
    if raw.clean && most.value < first {
        let words = |time: Duration| duration_words(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let message =
            format!("`backoff_max` ({}) is shorter than `backoff` ({})", words(most.value), words(first));
        scope.report.error_help(most.span, "out_of_range", message, "make `backoff` the shorter one");
    }
    (first, most.value)
}

/// Reads how many requests of a cluster are sent again; none means any number.
pub(super) fn budget(raw: Option<&Off<RawRetryBudget>>) -> Option<RetryBudget> {
    let standard = RetryBudget::default();
    let raw = match raw {
        None => return Some(standard),
        Some(Off::Off) => return None,
        Some(Off::Set(raw)) => raw,
    };
    Some(RetryBudget {
        percent: raw.percent.and_then(|percent| u8::try_from(percent).ok()).unwrap_or(standard.percent),
        floor: raw.floor.and_then(|floor| u32::try_from(floor).ok()).unwrap_or(standard.floor),
        window: raw.window.unwrap_or(standard.window),
    })
}

/// Reads what a cluster may have in hand.
pub(super) fn breaker(scope: &mut Scope<'_, '_>, raw: &RawCluster) -> Option<BreakerPolicy> {
    let standard = BreakerPolicy {
        requests: Some(4096),
        pending: Some(1024),
        connections: Some(4096),
        endpoint_requests: None,
        endpoint_connections: None,
    };
    let written = match raw.breaker.as_ref()? {
        FlagOr::Flag(false) => return None,
        FlagOr::Flag(true) => return Some(standard),
        FlagOr::Long(written) => written,
    };
    let over = |standard: Option<u32>, written: Option<Off<u64>>| match written {
        None => standard,
        Some(Off::Off) => None,
        Some(Off::Set(count)) => u32::try_from(count).ok(),
    };
    let policy = BreakerPolicy {
        requests: over(standard.requests, written.requests),
        pending: over(standard.pending, written.pending),
        connections: over(standard.connections, written.connections),
        endpoint_requests: over(None, written.endpoint_requests),
        endpoint_connections: over(None, written.endpoint_connections),
    };
    if policy.endpoint_requests.is_some() && matches!(raw.slots, Some(Off::Set(_))) {
        let message = "`slots` bounds the requests of an endpoint already";
        let help = "leave `endpoint_requests` out, or leave `slots` out, and requests do not wait";
        scope.report.error_help(written.span, "conflict", message, help);
    }
    (policy != BreakerPolicy::default()).then_some(policy)
}

/// Reads when requests of a route are sent to a second endpoint.
pub(super) fn hedge(raw: Option<&FlagOr<RawHedge>>) -> Option<HedgePolicy> {
    let standard = HedgePolicy { percentile: 95, min: Duration::from_millis(10) };
    let raw = match raw? {
        FlagOr::Flag(false) => return None,
        FlagOr::Flag(true) => return Some(standard),
        FlagOr::Long(raw) => raw,
    };
    Some(HedgePolicy {
        percentile: raw.percentile.and_then(|of| u8::try_from(of).ok()).unwrap_or(standard.percentile),
        min: raw.min.unwrap_or(standard.min),
    })
}
