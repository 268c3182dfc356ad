//! The families of readiness by evidence: states, ramps, ejections, panic.

use ekiden_core::cluster::ClusterTable;
use ekiden_core::ejection::CAUSE_WORDS;
use ekiden_core::table::Table;

use super::family::Family;

/// Families over all clusters of a table. Ejections have series where a request has touched the cluster, and where it has two
/// endpoints or more.
pub(super) fn families(max: usize, table: &Table) -> Vec<Family> {
    let mut state = Family::gauges(max, "ekiden_endpoint_state", "1 for the state that an endpoint is in.");
    let mut share = Family::gauges(
        max,
        "ekiden_endpoint_ramp_ratio",
        "Part of its share that a warming endpoint gets; no series for others.",
    );
    let mut latency = Family::gauges(
        max,
        "ekiden_endpoint_latency_estimate_seconds",
        "Time to the first byte of a response, averaged as pickers by latency do; no series for others.",
    );
    let mut panic = Family::gauges(
        max,
        "ekiden_cluster_panic",
        "1 while ejected endpoints are served because too few others are ready.",
    );
    let mut ejections = Family::counters(
        max,
        "ekiden_cluster_ejections_total",
        "Endpoints set aside by evidence, by its kind.",
    );
    let mut returns = Family::counters(
        max,
        "ekiden_cluster_ejection_returns_total",
        "Ejections that ended because a check passed, or requests did.",
    );
    let mut withheld = Family::counters(
        max,
        "ekiden_cluster_ejections_withheld_total",
        "Endpoints not ejected because of a bound: the last ready one, or max_percent.",
    );
    let mut tries = Family::counters(
        max,
        "ekiden_cluster_ejection_tries_total",
        "Requests of clients, all of them such as can be sent again, that tried an ejected endpoint, by result.",
    );
    for cluster in table.all_clusters() {
        let place @ [app, name] = labels(cluster);
        for entry in cluster.endpoints.iter() {
            let id = ("endpoint", entry.endpoint.id.as_str());
            state.gauge(&[app, name, id, ("state", entry.cell.standing().word())], 1.0);
            if entry.cell.is_warming() {
                share.gauge(&[app, name, id], entry.cell.ramp());
            }
            if let Some(us) = entry.cell.latency_us() {
                latency.gauge(&[app, name, id], us as f64 / 1e6);
            }
        }
        if cluster.endpoints.len() < 2 || cluster.cell.shards().is_empty() {
            continue;
        }
        panic.gauge(&place, f64::from(u8::from(cluster.is_panic())));
        let counts = &cluster.cell.ejections;
        for (cause, counter) in CAUSE_WORDS.iter().zip(&counts.by_cause) {
            ejections.count(&[app, name, ("cause", cause)], counter.value());
        }
        returns.count(&place, counts.ended.value());
        tries.count(&[app, name, ("result", "passed")], counts.tried_well.value());
        tries.count(&[app, name, ("result", "failed")], counts.tried_badly.value());
        withheld.count(&[app, name, ("bound", "last")], counts.withheld_last.value());
        withheld.count(&[app, name, ("bound", "max_percent")], counts.withheld_max.value());
    }
    vec![state, share, latency, panic, ejections, returns, tries, withheld, load_probes(max, table)]
}

/// Questions for the load of endpoints, of clusters that ask.
fn load_probes(max: usize, table: &Table) -> Family {
    let name = "ekiden_cluster_load_probes_total";
    let mut family = Family::counters(max, name, "Questions for the load of endpoints, by result.");
    let asking = table.all_clusters().filter(|cluster| cluster.cluster.policy.probe_load.is_some());
    for cluster in asking {
        let ([app, name], counts) = (labels(cluster), &cluster.cell.load_probes);
        family.count(&[app, name, ("result", "answered")], counts.answered.value());
        family.count(&[app, name, ("result", "failed")], counts.failed.value());
    }
    family
}

fn labels(cluster: &ClusterTable) -> [(&str, &str); 2] {
    [("app", cluster.app.as_str()), ("cluster", cluster.cluster.name.as_str())]
}
