//! Slots and queues of clusters, caps of apps, ceilings of the process. Priorities are words of a route, and read there.

use std::time::Duration;

use super::Scope;
use crate::model::{AppCaps, OverloadPolicy, SlotPolicy};
use crate::raw::{CountOr, Off, RawCaps, RawCluster, RawOverload, RawQueue, duration_words};

/// Requests that may wait where the cluster does not say.
const QUEUE: u32 = 1024;

/// Reads how many requests may wait at a cluster, and its slots.
pub(super) fn queue(scope: &mut Scope<'_, '_>, raw: &RawCluster) -> (u32, Option<SlotPolicy>) {
    let (max, long) = match &raw.queue {
        None => (None, None),
        Some(CountOr::Count(count)) => (Some(count.value), None),
        Some(CountOr::Long(long)) => (long.max, Some(long)),
    };
    let max = max.and_then(|max| u32::try_from(max).ok()).unwrap_or(QUEUE);
    let Some(count) = set(raw.slots).and_then(|count| u32::try_from(count).ok()) else {
        if let Some(long) = long {
            without_slots(scope, long);
        }
        return (max, None);
    };
    if let Some(shard) = &raw.shard {
        // A slot that comes free goes to the next in line, whatever its key.
        let message = "`slots` and `shard` do not go together";
        scope.report.error_help(shard.span, "no_meaning", message, "leave one of them out");
    }
    let standard = SlotPolicy {
        count,
        wait: None,
        target: Some(Duration::from_millis(100)),
        interval: Duration::from_secs(1),
    };
    let Some(long) = long else { return (max, Some(standard)) };
    let policy = SlotPolicy {
        wait: long.wait.as_ref().map(|wait| wait.value),
        target: match long.target {
            None => standard.target,
            Some(Off::Off) => None,
            Some(Off::Set(target)) => Some(target),
        },
        interval: long.interval.as_ref().map_or(standard.interval, |interval| interval.value),
        ..standard
    };
    ordered(scope, long, &policy);
    (max, Some(policy))
}

/// Waits that only slots have say nothing without them.
fn without_slots(scope: &mut Scope<'_, '_>, long: &RawQueue) {
    let written = long.wait.is_some() || long.target.is_some() || long.interval.is_some();
    if long.clean && written {
        let message = "`wait`, `target` and `interval` have no meaning without `slots`";
        scope.report.error_help(long.span, "no_meaning", message, "write `slots` too, or leave them out");
    }
}

/// A target that is longer than the interval or the longest wait never counts.
fn ordered(scope: &mut Scope<'_, '_>, long: &RawQueue, policy: &SlotPolicy) {
    let words = |time: Duration| duration_words(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let (Some(target), true) = (policy.target, long.clean) else { return };
    if matches!(long.target, Some(Off::Set(_))) && policy.wait.is_some_and(|wait| wait < target) {
        let wait = policy.wait.unwrap_or_default();
        let message = format!("`target` ({}) is longer than `wait` ({})", words(target), words(wait));
        scope.report.error_help(long.span, "out_of_range", message, "make `target` the shorter one");
    }
    if policy.interval < target {
        let (interval, span) = match &long.interval {
            Some(interval) => (interval.value, interval.span),
            None => (policy.interval, long.span),
        };
        let message =
            format!("`interval` ({}) is shorter than `target` ({})", words(interval), words(target));
        scope.report.error_help(
            span,
            "out_of_range",
            message,
            "make `interval` at least as long as `target`",
        );
    }
}

/// Reads what an app may use at a time; none when nothing is bounded.
pub(super) fn caps(raw: Option<&RawCaps>) -> Option<AppCaps> {
    let raw = raw?;
    let count = |written| set(written).and_then(|count| u32::try_from(count).ok());
    let caps = AppCaps {
        in_flight: count(raw.in_flight),
        connections: count(raw.connections),
        buffered: set(raw.buffered).map(|bytes| bytes.0),
    };
    (caps != AppCaps::default()).then_some(caps)
}

/// Reads the ceilings of the process.
pub(super) fn ceilings(raw: Option<&RawOverload>) -> OverloadPolicy {
    let Some(raw) = raw else { return OverloadPolicy::default() };
    OverloadPolicy {
        memory: set(raw.memory).map(|bytes| bytes.0),
        descriptors: set(raw.descriptors).and_then(|percent| u8::try_from(percent).ok()),
        lag: set(raw.lag),
    }
}

fn set<T>(written: Option<Off<T>>) -> Option<T> {
    match written {
        Some(Off::Set(value)) => Some(value),
        Some(Off::Off) | None => None,
    }
}
