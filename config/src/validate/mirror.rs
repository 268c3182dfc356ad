//! Mirrors of a route: a cluster that is there, and is another one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Scope;
use crate::model::{Action, MirrorPolicy};
use crate::names::ClusterName;
use crate::raw::RawMirror;

/// Reads what is copied where.
pub(super) fn mirror(
    scope: &mut Scope<'_, '_>,
    raw: Option<&RawMirror>,
    clusters: &BTreeSet<ClusterName>,
    action: Option<&Action>,
) -> Option<Arc<MirrorPolicy>> {
    let raw = raw?;
    let text = raw.cluster.as_ref()?;
    let Some(cluster) = clusters.get(text.value.as_str()) else {
        scope.unknown("unknown_cluster", "cluster", text, clusters.iter().map(ClusterName::as_str));
        return None;
    };
    match action {
        Some(Action::Forward(forward)) if forward.clusters.iter().any(|side| side.cluster == *cluster) => {
            let message = format!("the route itself forwards to `{cluster}`");
            let help = "a mirror goes to another cluster; give its endpoints one of their own";
            scope.report.error_help(text.span, "conflict", message, help);
            return None;
        }
        Some(Action::Redirect(_) | Action::Fixed(_) | Action::Maintenance(_)) => {
            let message = "the router answers this route itself: there is nothing to mirror";
            scope.report.error_help(raw.span, "no_meaning", message, "leave `mirror` out");
            return None;
        }
        Some(Action::Forward(_)) | None => {}
    }
    Some(Arc::new(MirrorPolicy {
        cluster: cluster.clone(),
        share: raw.percent.map_or(10_000, |percent| percent.0),
        body: raw.body.and_then(|body| u32::try_from(body.0).ok()).unwrap_or(64 << 10),
        in_flight: raw.in_flight.and_then(|count| u32::try_from(count).ok()).unwrap_or(64),
        timeout: raw.timeout.unwrap_or(Duration::from_secs(10)),
        diff: raw.diff.unwrap_or(false),
    }))
}
