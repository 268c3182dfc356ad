//! Faults of a route: what is to fail, and how many.

use std::sync::Arc;
use std::time::Duration;

use super::Scope;
use crate::model::{FaultAbort, FaultDelay, FaultPolicy};
use crate::raw::RawFaults;

/// Reads what is done to a route's requests.
pub(super) fn faults(scope: &mut Scope<'_, '_>, raw: Option<&RawFaults>) -> Option<Arc<FaultPolicy>> {
    let raw = raw?;
    let delay = raw.delay.as_ref().map(|raw| FaultDelay {
        share: raw.percent.map_or(0, |percent| percent.0),
        time: raw.time.unwrap_or(Duration::ZERO),
    });
    let abort = raw.abort.as_ref().map(|raw| FaultAbort {
        share: raw.percent.map_or(0, |percent| percent.0),
        status: raw.status.and_then(|status| u16::try_from(status).ok()).unwrap_or(503),
    });
    if raw.clean && delay.is_none() && abort.is_none() {
        let help = "such as { abort = { percent = 1 } }";
        scope.report.error_help(
            raw.span,
            "missing_key",
            "faults without `delay` and `abort` do nothing",
            help,
        );
        return None;
    }
    Some(Arc::new(FaultPolicy { delay, abort }))
}
