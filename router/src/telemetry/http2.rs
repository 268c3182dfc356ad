//! The families of HTTP/2: connections, streams, and connections that went over a budget or broke the protocol.

use std::sync::Arc;

use ekiden_core::frame_budget::Budget;
use ekiden_core::stats::{Counter, Gauge, WorkerShard};

use super::family::Family;

/// The families.
pub(super) fn families(max: usize, workers: &[Arc<WorkerShard>]) -> Vec<Family> {
    let total = |field: &dyn Fn(&WorkerShard) -> Option<&Counter>| {
        let values = workers.iter().filter_map(|worker| field(worker)).map(Counter::value);
        values.fold(0, u64::wrapping_add)
    };
    let open = |field: fn(&WorkerShard) -> &Gauge| {
        workers.iter().map(|worker| field(worker).value()).fold(0, u64::wrapping_add) as f64
    };
    let mut calmed = Family::counters(
        max,
        "ekiden_http2_calmed_total",
        "HTTP/2 connections ended because the client sent more of something than its budget.",
    );
    for budget in Budget::ALL {
        let count = total(&|worker| worker.calmed.get(budget.index()));
        calmed.count(&[("budget", budget.code())], count);
    }
    let mut families = vec![calmed];
    for (name, help, value) in [
        (
            "ekiden_http2_connections_total",
            "Client connections that began HTTP/2.",
            total(&|worker| Some(&worker.http2_connections)),
        ),
        (
            "ekiden_http2_connection_errors_total",
            "HTTP/2 connections ended because the client broke the protocol.",
            total(&|worker| Some(&worker.http2_faults)),
        ),
        ("ekiden_http2_streams_total", "Requests on HTTP/2 streams.", total(&|worker| Some(&worker.streams))),
        (
            "ekiden_http2_streams_reset_total",
            "HTTP/2 streams that the router reset.",
            total(&|worker| Some(&worker.streams_reset)),
        ),
    ] {
        let mut family = Family::counters(1, name, help);
        family.count(&[], value);
        families.push(family);
    }
    for (name, help, value) in [
        ("ekiden_http2_connections", "HTTP/2 client connections open.", open(|worker| &worker.http2_open)),
        ("ekiden_http2_streams", "HTTP/2 requests not ended.", open(|worker| &worker.streams_open)),
    ] {
        let mut family = Family::gauges(1, name, help);
        family.gauge(&[], value);
        families.push(family);
    }
    families
}
