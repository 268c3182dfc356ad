//! The families of publishing (table, reloads) and of the access log. Sums nothing over workers.

use std::time::{SystemTime, UNIX_EPOCH};

use super::Status;
use super::family::Family;
use crate::record::LogMeters;

/// Families of the table in force and of how it came there.
pub(super) fn table(status: &Status) -> Vec<Family> {
    let mut families = Vec::new();
    let mut gauge = |name, help, value: Option<f64>| {
        if let Some(value) = value {
            let mut family = Family::gauges(1, name, help);
            family.gauge(&[], value);
            families.push(family);
        }
    };
    let seconds = |unix_ms: u64| (unix_ms > 0).then_some(unix_ms as f64 / 1e3);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let applied = seconds(status.applied_unix_ms);
    let last = applied.map(|_| status.apply_last_us as f64 / 1e6);
    let age = applied.map(|applied| (now - applied).max(0.0));
    let stale = f64::from(u8::from(status.stale.is_some()));
    gauge("ekiden_table_generation", "Generation of the table in force.", Some(status.generation as f64));
    gauge("ekiden_table_age_seconds", "Time since the table in force was applied.", age);
    gauge("ekiden_table_apply_last_seconds", "Time of the last apply, to the last worker.", last);
    gauge("ekiden_table_stale", "1 when the configuration asks for another table.", Some(stale));
    gauge(
        "ekiden_table_pending_workers",
        "Workers that have not taken the newest table within their time.",
        Some(status.pending_workers.len() as f64),
    );
    gauge(
        "ekiden_last_reload_success_timestamp_seconds",
        "Time of the last reload that was taken.",
        seconds(status.last_reload_unix_ms),
    );
    let mut applies = Family::histograms(
        1,
        "ekiden_table_apply_seconds",
        "From publish to the last worker's acknowledgement.",
    );
    applies.histogram(&[], &status.applies);
    let mut reloads = Family::counters(2, "ekiden_reloads_total", "Reloads of the configuration by result.");
    reloads.count(&[("result", "ok")], status.reloads_ok);
    reloads.count(&[("result", "failed")], status.reloads_failed);
    families.extend([applies, reloads]);
    families
}

/// Families of the access log.
pub(super) fn log(log: &LogMeters) -> Vec<Family> {
    let rows = [
        ("ekiden_log_lines_total", "Access log lines written.", log.lines()),
        ("ekiden_log_dropped_total", "Access records dropped because a queue was full.", log.dropped()),
        ("ekiden_log_lost_total", "Access log lines lost because they could not be written.", log.lost()),
        ("ekiden_log_write_errors_total", "Failed writes of the access log.", log.write_errors()),
    ];
    let family = |(name, help, value)| {
        let mut family = Family::counters(1, name, help);
        family.count(&[], value);
        family
    };
    rows.into_iter().map(family).collect()
}
