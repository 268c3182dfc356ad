//! The families of dynos that control runs: how many are in which state, and what became of them. There are none without a
//! Procfile.

use super::family::Family;

/// Label sets of dynos, at most: as many as a Procfile has types, in each state.
const COUNTS_MAX: usize = 500;

/// What control counts of the dynos that it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DynoMeters {
    /// Process type, state, and how many are so.
    pub counts: Vec<(String, &'static str, u64)>,
    /// Starts after an end that nobody asked for.
    pub restarts: u64,
    /// Rollouts that were done.
    pub rollouts_done: u64,
    /// Rollouts that failed.
    pub rollouts_failed: u64,
    /// Dynos that were ended with requests in flight.
    pub late: u64,
    /// Lines of dynos that nobody read fast enough.
    pub lines_dropped: u64,
}

/// Families of dynos.
pub(super) fn dynos(meters: &DynoMeters) -> Vec<Family> {
    let mut counts = Family::gauges(COUNTS_MAX, "ekiden_dynos", "Dynos of the Procfile by type and state.");
    for (kind, state, count) in &meters.counts {
        counts.gauge(&[("type", kind), ("state", state)], *count as f64);
    }
    let mut rollouts =
        Family::counters(2, "ekiden_rollouts_total", "Rollouts of the Procfile's releases by result.");
    rollouts.count(&[("result", "done")], meters.rollouts_done);
    rollouts.count(&[("result", "failed")], meters.rollouts_failed);
    let rows = [
        (
            "ekiden_dyno_restarts_total",
            "Dynos started again after an end that nobody asked for.",
            meters.restarts,
        ),
        (
            "ekiden_dyno_late_drains_total",
            "Dynos ended with requests in flight, their time being over.",
            meters.late,
        ),
        (
            "ekiden_dyno_lines_dropped_total",
            "Lines of dynos dropped because nobody read them.",
            meters.lines_dropped,
        ),
    ];
    let family = |(name, help, value)| {
        let mut family = Family::counters(1, name, help);
        family.count(&[], value);
        family
    };
    [counts, rollouts].into_iter().chain(rows.into_iter().map(family)).collect()
}
