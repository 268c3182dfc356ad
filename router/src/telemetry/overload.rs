//! The families of overload: what was shed and why, how near the ceilings are, what apps use, lines for slots. Reads
//! counts and changes nothing.

use std::collections::HashSet;
use std::sync::Arc;

use ekiden_config::model::Priority;
use ekiden_core::overload::Shed;
use ekiden_core::overload::caps::{AppUsage, Cap};
use ekiden_core::overload::hold::HoldEnd;
use ekiden_core::policy::entrance::{Ruling, Step};
use ekiden_core::stats::{Counter, HistogramSnapshot, WorkerShard};
use ekiden_core::table::Table;

use super::Nearness;
use super::family::Family;

/// The families.
pub(super) fn families(
    max: usize,
    table: &Table,
    workers: &[Arc<WorkerShard>],
    ceilings: [Nearness; 2],
) -> Vec<Family> {
    let mut families = process(max, workers, ceilings);
    families.extend(apps(max, table));
    families.extend(lines(max, table));
    families
}

fn process(max: usize, workers: &[Arc<WorkerShard>], ceilings: [Nearness; 2]) -> Vec<Family> {
    let mut shed = Family::counters(
        max,
        "ekiden_shed_total",
        "Requests refused because there is too much work, by the priority of their route and by what is short.",
    );
    for priority in Priority::ALL {
        for why in Shed::ALL {
            let counts = workers.iter().filter_map(|worker| worker.shed.of(priority, why));
            let total = counts.map(Counter::value).fold(0, u64::wrapping_add);
            shed.count(&[("priority", priority.word()), ("reason", why.word())], total);
        }
    }
    let mut level = Family::gauges(
        max,
        "ekiden_overload_level",
        "How many of the priorities low, normal, high and critical are refused, by what is short.",
    );
    let mut used =
        Family::gauges(max, "ekiden_overload_used_ratio", "What is used of a ceiling, 1 being all.");
    for (resource, near) in ["memory", "descriptors"].into_iter().zip(ceilings) {
        level.gauge(&[("resource", resource)], f64::from(near.level));
        if near.ceiling > 0 {
            used.gauge(&[("resource", resource)], near.used as f64 / near.ceiling as f64);
        }
    }
    let lag = workers.iter().map(|worker| worker.lag_level.value()).max().unwrap_or(0);
    level.gauge(&[("resource", "lag")], lag as f64);
    vec![shed, level, used, entrance(max, workers), verified(workers)]
}

/// Tokens that were looked at in earnest, for whatever.
fn verified(workers: &[Arc<WorkerShard>]) -> Family {
    let mut family = Family::counters(
        1,
        "ekiden_tokens_verified_total",
        "Tokens whose signatures were verified; one that was good within the last minute is not verified again.",
    );
    let total = workers.iter().map(|worker| worker.tokens_verified.value()).fold(0, u64::wrapping_add);
    family.count(&[], total);
    family
}

/// What the steps before routes decided.
fn entrance(max: usize, workers: &[Arc<WorkerShard>]) -> Family {
    let mut family = Family::counters(
        max,
        "ekiden_entrance_total",
        "Decisions of the steps that requests pass before their route serves them, by step and result.",
    );
    for step in Step::ALL {
        for ruling in Ruling::ALL {
            let counts = workers.iter().filter_map(|worker| worker.rulings.of(step, ruling));
            let total = counts.map(Counter::value).fold(0, u64::wrapping_add);
            family.count(&[("step", step.word()), ("result", ruling.word())], total);
        }
    }
    family
}

fn apps(max: usize, table: &Table) -> Vec<Family> {
    let gauges = |name, help| Family::gauges(max, name, help);
    let mut in_flight =
        gauges("ekiden_app_in_flight", "Requests of an app with caps, matched and not ended.");
    let mut connections =
        gauges("ekiden_app_upstream_connections", "Connections to endpoints that an app with caps uses.");
    let mut buffered = gauges("ekiden_app_buffered_bytes", "Buffers held for an app with a cap on them.");
    let mut refused =
        Family::counters(max, "ekiden_app_refused_total", "Requests that a cap of their app refused.");
    for usage in usages(table) {
        let app = ("app", usage.app.as_str());
        in_flight.gauge(&[app], f64::from(usage.in_flight()));
        connections.gauge(&[app], f64::from(usage.connections()));
        buffered.gauge(&[app], usage.buffered() as f64);
        for cap in Cap::ALL {
            refused.count(&[app, ("cap", cap.word().trim_start_matches("app_"))], usage.refused(cap));
        }
    }
    let mut families = vec![in_flight, connections, buffered, refused];
    families.extend(holds(max, table));
    families
}

/// The lines of apps that are held, or were.
fn holds(max: usize, table: &Table) -> [Family; 2] {
    let mut waiting =
        Family::gauges(max, "ekiden_app_held_requests", "Requests that wait because their app is held.");
    let mut ended = Family::counters(
        max,
        "ekiden_app_holds_total",
        "Requests of a held app: released, left before that, or refused because as many waited as may.",
    );
    let mut seen = HashSet::new();
    let gates = table.routes().filter_map(|entry| entry.hold.as_ref());
    for gate in gates.filter(|gate| seen.insert(Arc::as_ptr(gate))) {
        let app = ("app", gate.app.as_str());
        waiting.gauge(&[app], gate.waiting() as f64);
        for end in HoldEnd::ALL {
            ended.count(&[app, ("end", end.word())], gate.ended(end));
        }
    }
    [waiting, ended]
}

/// The account of each app that has caps, once.
fn usages(table: &Table) -> impl Iterator<Item = &Arc<AppUsage>> {
    let mut seen = HashSet::new();
    let all = table.routes().filter_map(|entry| Some(&entry.caps.as_ref()?.usage));
    all.filter(move |usage| seen.insert(Arc::as_ptr(usage)))
}

fn lines(max: usize, table: &Table) -> Vec<Family> {
    let mut slots =
        Family::gauges(max, "ekiden_cluster_slots", "Slots of a cluster's endpoints that may be picked.");
    let mut waited = Family::histograms(
        max,
        "ekiden_cluster_queue_seconds",
        "Time in the line for a slot, of requests that left it with one.",
    );
    for cluster in table.all_clusters() {
        let Some(policy) = &cluster.cluster.policy.slots else { continue };
        let place = [("app", cluster.app.as_str()), ("cluster", cluster.cluster.name.as_str())];
        let open = cluster.endpoints.iter().filter(|entry| entry.cell.may_pick()).count();
        slots.gauge(&place, open as f64 * f64::from(policy.count));
        let mut total = HistogramSnapshot::default();
        cluster.cell.shards().iter().for_each(|shard| total.merge(&shard.queue.snapshot()));
        waited.histogram(&place, &total);
    }
    vec![slots, waited]
}
