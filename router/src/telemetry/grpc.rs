//! The family of gRPC: ended calls by route and status.

use ekiden_core::grpc::GrpcStatus;
use ekiden_core::stats::Counter;
use ekiden_core::table::Table;

use super::family::Family;

/// The families. A route that has carried no call has none.
pub(super) fn families(max: usize, table: &Table) -> Vec<Family> {
    let mut calls = Family::counters(
        max,
        "ekiden_grpc_requests_total",
        "Ended gRPC calls by route, status and whether that status is a failure of the serving side.",
    );
    for cell in table.routes().map(|entry| &entry.cell) {
        let shards = cell.grpc_shards();
        if shards.is_empty() {
            continue;
        }
        for status in GrpcStatus::ALL {
            let counters = shards.iter().filter_map(|shard| shard.ended.get(usize::from(status.number())));
            let total = counters.map(Counter::value).fold(0, u64::wrapping_add);
            // Success is there from the first call on, so that a rate over it has a beginning.
            if total == 0 && status != GrpcStatus::Ok {
                continue;
            }
            let result = if status.is_failure() { "failure" } else { "success" };
            let (app, route) = (cell.app.as_str(), cell.route.as_str());
            calls.count(
                &[("app", app), ("route", route), ("grpc_status", status.word()), ("result", result)],
                total,
            );
        }
    }
    vec![calls]
}
