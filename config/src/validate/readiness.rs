//! Ejection, panic and slow start of a cluster.

use std::time::Duration;

use super::Scope;
use crate::model::{EjectionPolicy, ReadinessPolicy};
use crate::raw::{Off, RawCluster, RawEjection, Spanned, duration_words};

/// Reads what a cluster says of readiness by evidence.
pub(super) fn readiness(scope: &mut Scope<'_, '_>, raw: &RawCluster) -> ReadinessPolicy {
    let standard = ReadinessPolicy::default();
    ReadinessPolicy {
        ejection: match &raw.ejection {
            None => standard.ejection,
            Some(Off::Off) => None,
            Some(Off::Set(raw)) => Some(ejection(scope, raw)),
        },
        panic_threshold: match raw.panic_threshold {
            None => standard.panic_threshold,
            Some(Off::Off) => 0,
            Some(Off::Set(number)) => percent(number),
        },
        slow_start: match raw.slow_start {
            None | Some(Off::Off) => Duration::ZERO,
            Some(Off::Set(time)) => time,
        },
    }
}

fn ejection(scope: &mut Scope<'_, '_>, raw: &RawEjection) -> EjectionPolicy {
    let standard = EjectionPolicy::default();
    let time =
        |written: &Option<Spanned<Duration>>, standard| written.as_ref().map_or(standard, |set| set.value);
    let policy = EjectionPolicy {
        consecutive: or(raw.consecutive, standard.consecutive),
        success_rate: or(raw.success_rate, standard.success_rate),
        min_requests: raw
            .min_requests
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(standard.min_requests),
        window: raw.window.unwrap_or(standard.window),
        max_percent: raw.max_percent.map_or(standard.max_percent, percent),
        base: time(&raw.base, standard.base),
        max: time(&raw.max, standard.max),
    };
    if raw.clean && policy.max < policy.base {
        let words = |time: Duration| duration_words(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let span = raw.max.as_ref().or(raw.base.as_ref()).map_or(raw.span, |set| set.span);
        let message =
            format!("`max` ({}) is shorter than `base` ({})", words(policy.max), words(policy.base));
        scope.report.error_help(span, "out_of_range", message, "make `max` at least as long as `base`");
    }
    if raw.clean && policy.consecutive.is_none() && policy.success_rate.is_none() {
        let message = "neither `consecutive` nor `success_rate` ejects anything";
        scope.report.error_help(raw.span, "no_meaning", message, "write `ejection = \"off\"` instead");
    }
    policy
}

/// What is written, else the standard.
fn or<T: TryFrom<u64>>(written: Option<Off<u64>>, standard: Option<T>) -> Option<T> {
    match written {
        None => standard,
        Some(Off::Off) => None,
        Some(Off::Set(number)) => T::try_from(number).ok(),
    }
}

/// A percentage, which its key has bounded already.
fn percent(number: u64) -> u8 {
    u8::try_from(number).unwrap_or(100)
}
