//! The families of retries by the rules of routes and of what bounds them, and those of breakers.

use ekiden_core::cluster::ClusterTable;
use ekiden_core::resilience::breaker::Bound;
use ekiden_core::resilience::{Again, Withheld};
use ekiden_core::stats::{AffinityEnd, ClusterShard, Counter};
use ekiden_core::table::Table;

use super::family::Family;

/// Families over the clusters that a request has touched. `now_ms` is the time that workers count by.
pub(super) fn families(max: usize, table: &Table, now_ms: u64) -> Vec<Family> {
    let mut again = Family::counters(
        max,
        "ekiden_cluster_resends_total",
        "Requests sent again by the rules of their route, by what for.",
    );
    let mut withheld = Family::counters(
        max,
        "ekiden_cluster_resends_withheld_total",
        "Requests not sent again although their route says so, by what was lacking.",
    );
    let mut left = Family::gauges(
        max,
        "ekiden_cluster_retry_budget_left",
        "Requests that may be sent again now, by the retry budget.",
    );
    let mut hedges = Family::counters(
        max,
        "ekiden_cluster_hedges_total",
        "Requests sent to a second endpoint while the first was silent, by who answered.",
    );
    let mut affinity = Family::counters(
        max,
        "ekiden_cluster_affinity_total",
        "Responses of clusters with affinity, by what became of the client's mark.",
    );
    for cluster in table.all_clusters() {
        let shards = cluster.cell.shards();
        if shards.is_empty() {
            continue;
        }
        let place @ [app, name] = labels(cluster);
        for reason in Again::ALL {
            let count = sum(shards, |shard| shard.again.get(reason as usize));
            again.count(&[app, name, ("cause", reason.word())], count);
        }
        let begun = sum(shards, |shard| Some(&shard.hedges));
        let won = sum(shards, |shard| Some(&shard.hedges_won));
        hedges.count(&[app, name, ("answer", "second")], won);
        hedges.count(&[app, name, ("answer", "first_or_none")], begun.saturating_sub(won));
        for reason in Withheld::ALL {
            let count = sum(shards, |shard| shard.withheld.get(reason as usize));
            withheld.count(&[app, name, ("bound", reason.word())], count);
        }
        for end in AffinityEnd::ALL.iter().filter(|_| cluster.marks().is_some()) {
            let count = sum(shards, |shard| shard.affinity.get(*end as usize));
            affinity.count(&[app, name, ("result", end.word())], count);
        }
        if let Some(policy) = cluster.cluster.policy.retry_budget {
            left.gauge(&place, cluster.cell.budget.left(policy, now_ms) as f64);
        }
    }
    vec![again, withheld, hedges, left, affinity]
}

/// Families over the clusters that have a breaker.
pub(super) fn breakers(max: usize, table: &Table) -> Vec<Family> {
    let mut used = Family::gauges(
        max,
        "ekiden_cluster_breaker_used",
        "What a cluster has in hand of what its breaker bounds.",
    );
    let mut refused = Family::counters(
        max,
        "ekiden_cluster_breaker_refused_total",
        "Times that a breaker refused a request or sent it past an endpoint.",
    );
    for cluster in table.all_clusters() {
        let (Some(policy), [app, name]) = (cluster.cluster.policy.breaker, labels(cluster)) else { continue };
        for (bound, most) in [
            (Bound::Requests, policy.requests),
            (Bound::Pending, policy.pending),
            (Bound::Connections, policy.connections),
            (Bound::EndpointRequests, policy.endpoint_requests),
            (Bound::EndpointConnections, policy.endpoint_connections),
        ] {
            if most.is_none() {
                continue;
            }
            let place = [app, name, ("bound", bound.word())];
            refused.count(&place, cluster.cell.breaker.refused(bound));
            if !matches!(bound, Bound::EndpointRequests | Bound::EndpointConnections) {
                used.gauge(&place, f64::from(cluster.cell.breaker.used(bound)));
            }
        }
    }
    vec![used, refused]
}

fn sum(shards: &[ClusterShard], field: impl Fn(&ClusterShard) -> Option<&Counter>) -> u64 {
    shards.iter().filter_map(field).map(Counter::value).fold(0, u64::wrapping_add)
}

fn labels(cluster: &ClusterTable) -> [(&str, &str); 2] {
    [("app", cluster.app.as_str()), ("cluster", cluster.cluster.name.as_str())]
}
