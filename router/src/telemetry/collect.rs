//! The families of one scrape: sums over the workers' shards, the table, and the state of publishing. Nothing is kept
//! between scrapes but the number of series left out.
//!
//! A route or cluster that no request has touched has no shard and is skipped, so that a table of many thousand
//! routes costs a scrape what is used of it.

use std::sync::{Arc, PoisonError};

use ekiden_core::cluster::ClusterTable;
use ekiden_core::health::Health;
use ekiden_core::outcome::Cause;
use ekiden_core::stats::{
    CLASSES, ClusterShard, Counter, FaultKind, Gauge, Histogram, HistogramSnapshot, MirrorEnd, WorkerShard,
};
use ekiden_core::table::Table;

use super::family::{self, Family};
use super::{
    State, connection_limits, dynos, grpc, http2, limits, outside, overload, process, publishing, readiness,
    resilience, shards, spread, stores, tls,
};

/// Status classes by their place in a `requests` array. The usual ones are there from the first request on, so that
/// a rate over them has a beginning.
const CLASS_NAMES: [(&str, bool); CLASSES] =
    [("none", false), ("1xx", false), ("2xx", true), ("3xx", true), ("4xx", true), ("5xx", true)];

/// The whole text of one scrape.
pub(super) fn text(state: &State) -> Result<String, prometheus::Error> {
    let max = state.series_max;
    let table = (state.sources.table)();
    let mut families = vec![build_info()];
    families.extend(workers(max, &state.sources.workers));
    families.extend(http2::families(max, &state.sources.workers));
    families.extend(connection_limits::families(max, &table, (state.sources.crowding)()));
    families.extend(tls::families(max, &state.sources.workers, &(state.sources.certificates)()));
    families.extend(tls::of_identities(max, &(state.sources.identities)()));
    families.extend(routes(max, &table));
    families.extend(grpc::families(max, &table));
    families.extend(clusters(max, &table));
    families.extend(limits::families(max, &table, state.sources.started.elapsed()));
    families.extend(stores::families(max, &(state.sources.stores)()));
    families.extend(overload::families(max, &table, &state.sources.workers, (state.sources.ceilings)()));
    families.extend(endpoints(max, &table));
    families.extend(readiness::families(max, &table));
    families.extend(resilience::families(max, &table, elapsed_ms(state)));
    families.extend(resilience::breakers(max, &table));
    families.extend(shards::families(max, &table));
    families.extend(spread::families(max, &table));
    let status = state.sources.status.status();
    families.extend(publishing::table(&status));
    families.extend(status.dynos.iter().flat_map(dynos::dynos));
    families.extend(outside::families(max, &status.more));
    families.extend(publishing::log(&state.sources.log));
    families.extend(process::families());
    families.push(left_out(state, &families));
    let mut out = String::new();
    family::write(families, &mut out)?;
    Ok(out)
}

/// The time that workers count by.
fn elapsed_ms(state: &State) -> u64 {
    u64::try_from(state.sources.started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn build_info() -> Family {
    let mut family = Family::gauges(1, "ekiden_build_info", "Always 1; the labels tell the build.");
    family.gauge(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    family
}

fn sum<S>(shards: &[S], field: impl Fn(&S) -> &Counter) -> u64 {
    shards.iter().map(|shard| field(shard).value()).fold(0, u64::wrapping_add)
}

fn sum_gauge<S>(shards: &[S], field: impl Fn(&S) -> &Gauge) -> f64 {
    shards.iter().map(|shard| field(shard).value()).fold(0, u64::wrapping_add) as f64
}

fn merge<S>(shards: &[S], field: impl Fn(&S) -> &Histogram) -> HistogramSnapshot {
    let mut total = HistogramSnapshot::default();
    shards.iter().for_each(|shard| total.merge(&field(shard).snapshot()));
    total
}

/// Adds one counter per status class.
fn classes<'a>(
    family: &mut Family,
    place: [(&str, &str); 2],
    shards: impl Iterator<Item = &'a [Counter; CLASSES]>,
) {
    let mut totals = [0u64; CLASSES];
    for shard in shards {
        for (total, counter) in totals.iter_mut().zip(shard) {
            *total = total.wrapping_add(counter.value());
        }
    }
    let [first, second] = place;
    for ((class, always), total) in CLASS_NAMES.iter().zip(totals) {
        if *always || total > 0 {
            family.count(&[first, second, ("status", class)], total);
        }
    }
}

fn workers(max: usize, workers: &[Arc<WorkerShard>]) -> Vec<Family> {
    let total = |field: fn(&WorkerShard) -> &Counter| {
        workers.iter().map(|worker| field(worker).value()).fold(0, u64::wrapping_add)
    };
    let mut outcomes =
        Family::counters(max, "ekiden_outcomes_total", "Ended requests by the code of their outcome.");
    for cause in Cause::ALL {
        let shards = workers.iter().filter_map(|worker| worker.outcomes.get(cause.index()));
        outcomes.count(&[("code", cause.code())], shards.map(Counter::value).fold(0, u64::wrapping_add));
    }
    let mut connections = Family::gauges(max, "ekiden_connections", "Client connections by state.");
    let open = workers.iter().map(|worker| worker.open.value()).fold(0, u64::wrapping_add);
    connections.gauge(&[("state", "open")], open as f64);
    let mut tunnels = Family::gauges(1, "ekiden_tunnels", "Tunnels open.");
    let open = workers.iter().map(|worker| worker.tunnels_open.value()).fold(0, u64::wrapping_add);
    tunnels.gauge(&[], open as f64);
    let mut taken =
        Family::gauges(max, "ekiden_worker_table_generation", "Generation of the table a worker has taken.");
    for (number, worker) in workers.iter().enumerate() {
        taken.gauge(&[("worker", &number.to_string())], worker.generation.value() as f64);
    }
    let mut pauses =
        Family::counters(max, "ekiden_accept_pauses_total", "Times that a worker stopped accepting.");
    pauses.count(&[("cause", "descriptors")], total(|worker| &worker.accept_starved));
    pauses.count(&[("cause", "max_connections")], total(|worker| &worker.accept_full));
    let mut families = vec![outcomes, connections, tunnels, taken, pauses];
    for (name, help, value) in [
        (
            "ekiden_connections_accepted_total",
            "Client connections accepted.",
            total(|worker| &worker.accepted),
        ),
        ("ekiden_connections_closed_total", "Client connections closed.", total(|worker| &worker.closed)),
        (
            "ekiden_connections_idle_closed_total",
            "Client connections closed because nothing came for the idle time.",
            total(|worker| &worker.idle_closed),
        ),
        (
            "ekiden_tunnels_total",
            "Tunnels begun: WebSocket and other protocols that were switched to.",
            total(|worker| &worker.tunnels),
        ),
        (
            "ekiden_tunnel_spliced_bytes_total",
            "Bytes of tunnels that went from socket to socket without a copy.",
            total(|worker| &worker.spliced),
        ),
        ("ekiden_panics_total", "Panics caught; each ended one connection.", total(|worker| &worker.panics)),
        (
            "ekiden_evidence_dropped_total",
            "Endpoints whose failures could not be reported at once because the queue to the judge was full.",
            total(|worker| &worker.evidence_drops),
        ),
        (
            "ekiden_table_parts_dropped_total",
            "Parts of old tables freed on a worker because the queue to the writer was full.",
            total(|worker| &worker.part_drops),
        ),
    ] {
        let mut family = Family::counters(1, name, help);
        family.count(&[], value);
        families.push(family);
    }
    families
}

fn routes(max: usize, table: &Table) -> Vec<Family> {
    let counters = |name, help| Family::counters(max, name, help);
    let mut requests = counters("ekiden_requests_total", "Ended requests by route and status class.");
    let mut made = counters("ekiden_router_responses_total", "Responses that the router made itself.");
    let mut bytes_in = counters("ekiden_request_bytes_total", "Bytes received from clients.");
    let mut bytes_out = counters("ekiden_response_bytes_total", "Bytes sent to clients.");
    let mut in_flight =
        Family::gauges(max, "ekiden_requests_in_flight", "Requests that are matched and not ended.");
    let mut duration = Family::histograms(
        max,
        "ekiden_request_duration_seconds",
        "From the first byte of a request to the last byte of its response.",
    );
    let mut mirrors = counters(
        "ekiden_route_mirror_total",
        "Requests of routes with a mirror that were drawn for a copy, by what became of it.",
    );
    let mut faults =
        counters("ekiden_route_faults_total", "Requests that routes were told to hold back or to fail.");
    for entry in table.routes() {
        let cell = &entry.cell;
        let shards = cell.shards();
        if shards.is_empty() {
            continue;
        }
        let place = [("app", cell.app.as_str()), ("route", cell.route.as_str())];
        classes(&mut requests, place, shards.iter().map(|shard| &shard.requests));
        made.count(&place, sum(shards, |shard| &shard.router_made));
        for end in MirrorEnd::ALL.iter().filter(|_| entry.route.mirror.is_some()) {
            let all = cell
                .shaping_shards()
                .iter()
                .filter_map(|shard| shard.mirrored.get(*end as usize))
                .map(Counter::value);
            let place = [("app", cell.app.as_str()), ("route", cell.route.as_str()), ("result", end.word())];
            mirrors.count(&place, all.fold(0, u64::wrapping_add));
        }
        for kind in FaultKind::ALL.iter().filter(|_| entry.route.faults.is_some()) {
            let all = cell
                .shaping_shards()
                .iter()
                .filter_map(|shard| shard.faults.get(*kind as usize))
                .map(Counter::value);
            let place = [("app", cell.app.as_str()), ("route", cell.route.as_str()), ("fault", kind.word())];
            faults.count(&place, all.fold(0, u64::wrapping_add));
        }
        bytes_in.count(&place, sum(shards, |shard| &shard.bytes_in));
        bytes_out.count(&place, sum(shards, |shard| &shard.bytes_out));
        in_flight.gauge(&place, sum_gauge(shards, |shard| &shard.in_flight));
        duration.histogram(&place, &merge(shards, |shard| &shard.duration));
    }
    vec![requests, made, bytes_in, bytes_out, in_flight, duration, mirrors, faults]
}

/// The plain counters of a cluster: name, help, field.
type ClusterCounter = (&'static str, &'static str, fn(&ClusterShard) -> &Counter);
const CLUSTER_COUNTERS: &[ClusterCounter] = &[
    ("ekiden_cluster_attempts_total", "Tries to have a connection to an endpoint.", |shard| &shard.attempts),
    ("ekiden_cluster_retries_total", "Attempts after a failed connect.", |shard| &shard.retries),
    ("ekiden_cluster_replays_total", "Requests sent again on another connection.", |shard| &shard.replays),
    ("ekiden_cluster_pool_reused_total", "Requests sent on a pooled connection.", |shard| &shard.reused),
    ("ekiden_cluster_pool_stale_total", "Pooled connections found closed when taken.", |shard| &shard.stale),
    ("ekiden_cluster_http2_streams_total", "Streams of HTTP/2 begun at endpoints.", |shard| {
        &shard.http2_streams
    }),
    (
        "ekiden_cluster_http2_unprocessed_total",
        "Streams of HTTP/2 that an endpoint refused or left behind its GOAWAY.",
        |shard| &shard.http2_unprocessed,
    ),
    (
        "ekiden_cluster_load_reports_total",
        "Reports of load taken from endpoints, where the picker goes by them.",
        |shard| &shard.load_reports,
    ),
    (
        "ekiden_cluster_load_answers_total",
        "Questions of routers for the load of the endpoints that were answered.",
        |shard| &shard.load_answers,
    ),
    ("ekiden_cluster_queue_refused_total", "Requests refused by a full queue.", |shard| &shard.queue_refused),
    ("ekiden_cluster_queue_timeouts_total", "Requests that waited too long.", |shard| &shard.queue_timeouts),
    ("ekiden_cluster_sent_bytes_total", "Bytes sent to endpoints.", |shard| &shard.bytes_up),
    ("ekiden_cluster_received_bytes_total", "Bytes received from endpoints.", |shard| &shard.bytes_down),
];

fn clusters(max: usize, table: &Table) -> Vec<Family> {
    let gauges = |name, help| Family::gauges(max, name, help);
    let histograms = |name, help| Family::histograms(max, name, help);
    let mut requests = Family::counters(max, "ekiden_cluster_requests_total", "Ended requests by cluster.");
    let mut connects =
        Family::counters(max, "ekiden_cluster_connects_total", "Connects to endpoints by result.");
    let mut in_flight = gauges("ekiden_cluster_requests_in_flight", "Requests at a cluster, not ended.");
    let mut queued = gauges("ekiden_cluster_queue_depth", "Requests that wait for a first check or a slot.");
    let mut open = gauges("ekiden_cluster_connections", "Connections to endpoints by state.");
    let mut connect = histograms("ekiden_cluster_connect_seconds", "Time of successful connects.");
    let mut first_byte =
        histograms("ekiden_cluster_first_byte_seconds", "From the request sent to the first response byte.");
    let mut handshakes = Family::counters(
        max,
        "ekiden_cluster_tls_handshakes_total",
        "TLS handshakes with endpoints that were completed, by result.",
    );
    let mut handshake_failures = Family::counters(
        max,
        "ekiden_cluster_tls_handshake_failures_total",
        "TLS handshakes with endpoints that failed, by cause.",
    );
    let mut plain: Vec<(Family, _)> = CLUSTER_COUNTERS
        .iter()
        .map(|(name, help, field)| (Family::counters(max, name, help), field))
        .collect();
    for cluster in table.all_clusters() {
        let shards = cluster.cell.shards();
        if shards.is_empty() {
            continue;
        }
        let place @ [app, name] = labels(cluster);
        classes(&mut requests, place, shards.iter().map(|shard| &shard.requests));
        connects.count(&[app, name, ("result", "ok")], sum(shards, |shard| &shard.connects));
        connects.count(&[app, name, ("result", "failed")], sum(shards, |shard| &shard.connect_failures));
        if cluster.cluster.policy.tls.is_some() {
            handshakes.count(&[app, name, ("result", "full")], sum(shards, |shard| &shard.tls_full));
            handshakes.count(&[app, name, ("result", "resumed")], sum(shards, |shard| &shard.tls_resumed));
            for (place, cause) in TLS_FAILURES.iter().enumerate() {
                let failures = shards.iter().filter_map(|shard| shard.tls_failures.get(place));
                let failures = failures.map(Counter::value).fold(0, u64::wrapping_add);
                handshake_failures.count(&[app, name, ("cause", cause)], failures);
            }
        }
        in_flight.gauge(&place, sum_gauge(shards, |shard| &shard.in_flight));
        queued.gauge(&place, sum_gauge(shards, |shard| &shard.queued));
        let idle = sum_gauge(shards, |shard| &shard.idle);
        let busy = (sum_gauge(shards, |shard| &shard.connections) - idle).max(0.0);
        open.gauge(&[app, name, ("state", "idle")], idle);
        open.gauge(&[app, name, ("state", "busy")], busy);
        connect.histogram(&place, &merge(shards, |shard| &shard.connect));
        first_byte.histogram(&place, &merge(shards, |shard| &shard.first_byte));
        for (family, field) in &mut plain {
            family.count(&place, sum(shards, *field));
        }
    }
    let mut families = vec![
        requests,
        connects,
        in_flight,
        queued,
        open,
        connect,
        first_byte,
        handshakes,
        handshake_failures,
    ];
    families.extend(plain.into_iter().map(|(family, _)| family));
    families
}

/// Causes by their place in [`ClusterShard::tls_failures`].
const TLS_FAILURES: [&str; 3] = ["certificate", "peer_alert", "invalid"];

fn labels(cluster: &ClusterTable) -> [(&str, &str); 2] {
    [("app", cluster.app.as_str()), ("cluster", cluster.cluster.name.as_str())]
}

fn endpoints(max: usize, table: &Table) -> Vec<Family> {
    let mut of = Family::gauges(max, "ekiden_cluster_endpoints", "Endpoints of a cluster.");
    let mut ready_of = Family::gauges(
        max,
        "ekiden_cluster_endpoints_ready",
        "Endpoints of a cluster that may get requests.",
    );
    let mut ready = Family::gauges(
        max,
        "ekiden_endpoint_ready",
        "1 when an endpoint may get new requests: healthy, not ejected, not draining, not removed.",
    );
    let mut healthy = Family::gauges(
        max,
        "ekiden_endpoint_healthy",
        "1 when the checks of an endpoint pass or it has none.",
    );
    let mut in_flight =
        Family::gauges(max, "ekiden_endpoint_in_flight", "Requests at an endpoint, until the last byte.");
    let mut transitions =
        Family::counters(max, "ekiden_endpoint_transitions_total", "Changes of health of an endpoint.");
    let mut failures = Family::counters(
        max,
        "ekiden_endpoint_failures_total",
        "Failed connects, and connections lost before a response.",
    );
    for cluster in table.all_clusters() {
        let place @ [app, name] = labels(cluster);
        of.gauge(&place, cluster.endpoints.len() as f64);
        ready_of.gauge(&place, cluster.ready_count() as f64);
        for entry in cluster.endpoints.iter() {
            let (cell, one) = (&entry.cell, [app, name, ("endpoint", entry.endpoint.id.as_str())]);
            ready.gauge(&one, f64::from(u8::from(cell.may_pick())));
            healthy.gauge(&one, f64::from(u8::from(cell.health() == Health::Ready)));
            in_flight.gauge(&one, f64::from(cell.in_flight()));
            transitions.count(&one, u64::from(cell.transitions()));
            failures.count(&one, cell.failures());
        }
    }
    vec![of, ready_of, ready, healthy, in_flight, transitions, failures]
}

/// Adds what this scrape left out to what earlier ones did.
fn left_out(state: &State, families: &[Family]) -> Family {
    let mut totals = state.left_out.lock().unwrap_or_else(PoisonError::into_inner);
    for family in families.iter().filter(|family| family.left_out > 0) {
        *totals.entry(family.name).or_default() += family.left_out;
    }
    let mut family = Family::counters(
        families.len() + 1,
        "ekiden_series_dropped_total",
        "Series left out of scrapes because their family had too many.",
    );
    for (name, total) in totals.iter() {
        family.count(&[("family", name)], *total);
    }
    family
}
