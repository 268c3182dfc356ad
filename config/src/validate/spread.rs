//! Which endpoints a router sends to, and how many requests at once: its own place, priorities, subsets and adaptive limits.

use std::sync::Arc;

use super::{Scope, cluster};
use crate::model::{AdaptivePolicy, Endpoint, Place};
use crate::raw::{FlagOr, Off, RawCluster, RawProcess};

/// Reads where the process stands.
pub(super) fn place(scope: &mut Scope<'_, '_>, raw: &RawProcess) -> Place {
    Place {
        zone: raw.zone.as_ref().and_then(|text| cluster::free_text(scope, text)),
        zone_share: raw.zone_share.and_then(|share| u8::try_from(share).ok()),
        instance: raw
            .instance
            .as_ref()
            .and_then(|text| cluster::free_text(scope, text))
            .unwrap_or_else(|| Arc::from("")),
    }
}

/// Says what does not go together.
pub(super) fn check(scope: &mut Scope<'_, '_>, raw: &RawCluster, endpoints: &[Arc<Endpoint>]) {
    if let (Some(subset), Some(_)) = (&raw.subset, &raw.shard)
        && matches!(subset.value, Off::Set(_))
    {
        let message = "a key may belong to any endpoint, and a subset holds some of them";
        scope.report.error_help(subset.span, "conflict", message, "leave `subset` out, or leave `shard` out");
    }
    let lowest = endpoints.iter().map(|endpoint| endpoint.priority).min();
    if let (Some(1..), Some(shard)) = (endpoints.iter().map(|endpoint| endpoint.priority).max(), &raw.shard)
        && lowest == Some(0)
    {
        let message = "keys belong to the endpoints of every `priority` alike";
        let help = "with `shard`, standbys are `replicas`; leave `priority` out";
        scope.report.error_help(shard.span, "conflict", message, help);
    }
}

/// Reads how many endpoints one router sends to.
pub(super) fn subset(raw: &RawCluster) -> Option<u32> {
    match raw.subset.as_ref()?.value {
        Off::Off => None,
        Off::Set(count) => u32::try_from(count).ok(),
    }
}

/// Reads a bound that follows latency.
pub(super) fn adaptive(scope: &mut Scope<'_, '_>, raw: &RawCluster) -> Option<AdaptivePolicy> {
    let standard = AdaptivePolicy::default();
    let raw = match raw.adaptive_limit.as_ref()? {
        FlagOr::Flag(false) => return None,
        FlagOr::Flag(true) => return Some(standard),
        FlagOr::Long(raw) => raw,
    };
    let number = |written: u64| u32::try_from(written).unwrap_or(u32::MAX);
    let min = raw.min.as_ref().map_or(standard.min, |written| number(written.value));
    let max = raw.max.as_ref().map_or(standard.max.max(min), |written| number(written.value));
    if let Some(written) = raw.max.as_ref().filter(|_| raw.clean && max < min) {
        let message = format!("`max` ({max}) is below `min` ({min})");
        scope.report.error_help(written.span, "out_of_range", message, "make `min` the lower one");
    }
    Some(AdaptivePolicy {
        min: min.min(max),
        max,
        tolerance_percent: raw
            .tolerance
            .and_then(|factor| u16::try_from(factor.0).ok())
            .unwrap_or(standard.tolerance_percent),
        look: raw.look.unwrap_or(standard.look),
    })
}
