//! Deadlines: the built-in ones, under those of the app, under those of the route.

use super::Scope;
use crate::model::Timeouts;
use crate::raw::{Off, RawTimeout};

/// Lays written deadlines over others.
pub(super) fn over(scope: &mut Scope<'_, '_>, below: Timeouts, raw: Option<&RawTimeout>) -> Timeouts {
    let Some(raw) = raw else { return below };
    let mut timeouts = below;
    if let Some(connect) = &raw.connect {
        timeouts.connect = connect.value;
    }
    match &raw.connect_try {
        Some(one) => {
            timeouts.connect_try = one.value;
            if one.value > timeouts.connect {
                let message =
                    format!("one connect attempt may not last longer than all: {:?}", timeouts.connect);
                scope.report.error_help(
                    one.span,
                    "timeout_conflict",
                    message,
                    "raise `connect`, or lower it",
                );
            }
        }
        None => timeouts.connect_try = timeouts.connect_try.min(timeouts.connect),
    }
    if let Some(first_byte) = &raw.first_byte {
        timeouts.first_byte = first_byte.value;
    }
    if let Some(idle) = &raw.idle {
        timeouts.idle = idle.value;
    }
    if let Some(tunnel) = &raw.tunnel {
        timeouts.tunnel = tunnel.value;
    }
    if let Some(deadline) = raw.deadline {
        timeouts.deadline = deadline;
    }
    match raw.total {
        Some(Off::Set(total)) => timeouts.total = Some(total),
        Some(Off::Off) => timeouts.total = None,
        None => {}
    }
    timeouts
}
