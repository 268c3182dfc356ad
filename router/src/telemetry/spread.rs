//! The families of how requests are shared out among priorities and zones, of subsets, and of limits that follow latency.

use ekiden_core::cluster::ClusterTable;
use ekiden_core::pick::layout::{Layout, ZoneKind};
use ekiden_core::stats::{Counter, GroupShard};
use ekiden_core::table::Table;

use super::family::Family;

/// Families over the clusters that have such.
pub(super) fn families(max: usize, table: &Table) -> Vec<Family> {
    let mut spread = Spread::new(max);
    let mut limit = Family::gauges(
        max,
        "ekiden_cluster_adaptive_limit",
        "Requests that the adaptive limit lets in at a time.",
    );
    let mut used =
        Family::gauges(max, "ekiden_cluster_adaptive_used", "Requests that the adaptive limit has let in.");
    let mut base = Family::gauges(
        max,
        "ekiden_cluster_adaptive_base_seconds",
        "Time to the first byte without a queue, as the adaptive limit saw it last.",
    );
    let mut refused = Family::counters(
        max,
        "ekiden_cluster_adaptive_refused_total",
        "Requests refused by the adaptive limit.",
    );
    for cluster in table.all_clusters() {
        if let Some(layout) = cluster.layout() {
            spread.add(cluster, layout);
        }
        let place = labels(cluster);
        let adaptive = cluster.cell.adaptive_seen().filter(|_| cluster.cluster.policy.adaptive.is_some());
        if let Some(adaptive) = adaptive {
            limit.gauge(&place, f64::from(adaptive.limit()));
            used.gauge(&place, f64::from(adaptive.in_flight()));
            base.gauge(&place, adaptive.base_us() as f64 / 1e6);
            refused.count(&place, adaptive.refused());
        }
    }
    let Spread { zones, zone_shares, priorities, priority_shares, subsets } = spread;
    vec![zones, zone_shares, priorities, priority_shares, subsets, limit, used, base, refused]
}

/// The families of groups.
struct Spread {
    zones: Family,
    zone_shares: Family,
    priorities: Family,
    priority_shares: Family,
    subsets: Family,
}

impl Spread {
    fn new(max: usize) -> Self {
        Self {
            zones: Family::counters(
                max,
                "ekiden_cluster_zone_attempts_total",
                "Attempts at endpoints, by whether they are of this router's zone.",
            ),
            zone_shares: Family::gauges(
                max,
                "ekiden_cluster_zone_share_ratio",
                "Part of the requests that this router's zone keeps, and that spills to others, as of now.",
            ),
            priorities: Family::counters(
                max,
                "ekiden_cluster_priority_attempts_total",
                "Attempts at endpoints, by their priority.",
            ),
            priority_shares: Family::gauges(
                max,
                "ekiden_cluster_priority_share_ratio",
                "Part of the requests that the endpoints of a priority get, as of now.",
            ),
            subsets: Family::gauges(
                max,
                "ekiden_cluster_subset_endpoints",
                "Endpoints of a cluster that this router sends to.",
            ),
        }
    }

    fn add(&mut self, cluster: &ClusterTable, layout: &Layout) {
        let place @ [app, name] = labels(cluster);
        if let Some(count) = layout.subset_len() {
            self.subsets.gauge(&place, count as f64);
        }
        let shares = cluster.group_shares();
        let share = |of: &dyn Fn(usize) -> bool| -> f64 {
            shares.iter().enumerate().filter(|(group, _)| of(*group)).map(|(_, share)| share).sum()
        };
        let counts = cluster.cell.groups();
        if layout.has_zones() {
            for kind in ZoneKind::ALL {
                let place = [app, name, ("zone", kind.word())];
                self.zones.count(&place, sum(counts, |shard| shard.zones.get(kind as usize)));
                let of = |group: usize| layout.groups().get(group).is_some_and(|one| one.kind == Some(kind));
                self.zone_shares.gauge(&place, share(&of));
            }
        }
        if layout.has_priorities() {
            let mut priorities: Vec<u8> = layout.groups().iter().map(|group| group.priority).collect();
            priorities.dedup();
            for priority in priorities {
                let number = priority.to_string();
                let place = [app, name, ("priority", number.as_str())];
                let count = sum(counts, |shard| shard.priorities.get(usize::from(priority)));
                self.priorities.count(&place, count);
                let of =
                    |group: usize| layout.groups().get(group).is_some_and(|one| one.priority == priority);
                self.priority_shares.gauge(&place, share(&of));
            }
        }
    }
}

fn sum(shards: &[GroupShard], field: impl Fn(&GroupShard) -> Option<&Counter>) -> u64 {
    shards.iter().filter_map(field).map(Counter::value).fold(0, u64::wrapping_add)
}

fn labels(cluster: &ClusterTable) -> [(&str, &str); 2] {
    [("app", cluster.app.as_str()), ("cluster", cluster.cluster.name.as_str())]
}
