//! The text of a scrape: well-formed, summed right, bounded.

use std::collections::{BTreeMap, BTreeSet};

use ekiden_core::outcome::Cause;
use ekiden_core::stats::BOUNDS_US;

use super::*;
use crate::telemetry::collect;

/// Samples by series as written (`name{labels}`), after checking the whole text against the format's rules.
fn parse(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'));
    let mut samples = BTreeMap::new();
    let (mut families, mut helped, mut family, mut kind) = (BTreeSet::new(), "", "", "");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            helped = help.split_once(' ').expect("a help text").0;
            continue;
        }
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            (family, kind) = typed.split_once(' ').expect("a type");
            assert_eq!(helped, family, "help comes first");
            assert!(families.insert(family), "{family} once");
            assert!(
                family.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{family}"
            );
            assert_eq!(kind == "counter", family.ends_with("_total"), "{family} is a {kind}");
            assert!(kind != "histogram" || family.ends_with("_seconds"), "{family}");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a sample");
        let name = series.split('{').next().unwrap();
        let suffix = name.strip_prefix(family).expect("samples follow their family");
        match kind {
            "histogram" => assert!(matches!(suffix, "_bucket" | "_sum" | "_count"), "{line}"),
            _ => assert_eq!(suffix, "", "{line}"),
        }
        if let Some(labels) = series.strip_prefix(name).and_then(|rest| rest.strip_prefix('{')) {
            let labels = labels.strip_suffix('}').expect("closed labels");
            for label in labels.split("\",").filter(|label| !label.is_empty()) {
                let (key, value) = label.split_once("=\"").expect("key=\"value\"");
                assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
                assert!(!value.is_empty() && !value.trim_end_matches('"').contains('"'), "{line}");
            }
        }
        let value: f64 = value.parse().expect("a number");
        assert!(value >= 0.0, "{line}");
        assert!(samples.insert(series.to_owned(), value).is_none(), "{series} once");
    }
    samples
}

fn scrape(state: &State) -> BTreeMap<String, f64> {
    parse(&collect::text(state).unwrap())
}

#[test]
fn sums_over_workers() {
    let table = table(2, false);
    let (sources, world, route) = sources(table.clone());
    world.0.lock().unwrap().status =
        Status { generation: 3, applied_unix_ms: 1, apply_last_us: 1500, reloads_ok: 2, ..Status::default() };
    let cluster = table.all_clusters().next().unwrap();
    for (worker, n) in [(0, 1u64), (1, 10)] {
        let shard = route.shard(worker);
        (0..n).for_each(|_| shard.ended(200));
        (0..2 * n).for_each(|_| shard.ended(503));
        shard.bytes_in.add(7 * n);
        shard.in_flight.add(n);
        (0..n).for_each(|_| shard.duration.record(700));
        shard.duration.record(60_000_000);
        let shard = cluster.cell.shard(worker);
        shard.attempts.add(n);
        shard.connects.add(3 * n);
        shard.connect_failures.add(n);
        shard.connections.add(5 * n);
        shard.idle.add(2 * n);
        shard.ended(404);
        sources.workers[worker].ended(Cause::Complete);
        sources.workers[worker].open.add(n);
        sources.workers[worker].generation.set(3);
    }
    cluster.endpoints[1].cell.enter();
    let samples = scrape(&State::new(sources, SERIES_MAX));
    let home = r#"app="default",route="home""#;
    let web = r#"app="default",cluster="web""#;
    for (series, value) in [
        (format!(r#"ekiden_requests_total{{{home},status="2xx"}}"#), 11.0),
        (format!(r#"ekiden_requests_total{{{home},status="4xx"}}"#), 0.0),
        (format!(r#"ekiden_requests_total{{{home},status="5xx"}}"#), 22.0),
        (format!("ekiden_request_bytes_total{{{home}}}"), 77.0),
        (format!("ekiden_requests_in_flight{{{home}}}"), 11.0),
        (format!(r#"ekiden_request_duration_seconds_bucket{{{home},le="0.0005"}}"#), 0.0),
        (format!(r#"ekiden_request_duration_seconds_bucket{{{home},le="0.001"}}"#), 11.0),
        (format!(r#"ekiden_request_duration_seconds_bucket{{{home},le="10"}}"#), 11.0),
        (format!(r#"ekiden_request_duration_seconds_bucket{{{home},le="+Inf"}}"#), 13.0),
        (format!("ekiden_request_duration_seconds_count{{{home}}}"), 13.0),
        (format!("ekiden_request_duration_seconds_sum{{{home}}}"), 120.0 + 11.0 * 0.0007),
        (format!(r#"ekiden_cluster_requests_total{{{web},status="4xx"}}"#), 2.0),
        (format!("ekiden_cluster_attempts_total{{{web}}}"), 11.0),
        (format!(r#"ekiden_cluster_connects_total{{{web},result="ok"}}"#), 33.0),
        (format!(r#"ekiden_cluster_connects_total{{{web},result="failed"}}"#), 11.0),
        (format!(r#"ekiden_cluster_connections{{{web},state="busy"}}"#), 33.0),
        (format!(r#"ekiden_cluster_connections{{{web},state="idle"}}"#), 22.0),
        (format!("ekiden_cluster_endpoints{{{web}}}"), 2.0),
        (format!(r#"ekiden_endpoint_in_flight{{{web},endpoint="web.1"}}"#), 1.0),
        (format!(r#"ekiden_endpoint_ready{{{web},endpoint="web.0"}}"#), 1.0),
        (r#"ekiden_outcomes_total{code="complete"}"#.to_owned(), 2.0),
        (r#"ekiden_connections{state="open"}"#.to_owned(), 11.0),
        (r#"ekiden_worker_table_generation{worker="1"}"#.to_owned(), 3.0),
        ("ekiden_table_generation".to_owned(), 3.0),
        ("ekiden_table_apply_last_seconds".to_owned(), 0.0015),
        ("ekiden_table_stale".to_owned(), 0.0),
        (r#"ekiden_reloads_total{result="ok"}"#.to_owned(), 2.0),
        ("ekiden_log_dropped_total".to_owned(), 0.0),
        (format!(r#"ekiden_build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION")), 1.0),
    ] {
        assert_eq!(samples.get(&series), Some(&value), "{series}");
    }
    assert!(!samples.keys().any(|series| series.contains("unused")), "an unused route has no series");
    assert!(samples["process_resident_memory_bytes"] > 1e5);
    assert_eq!(
        samples.keys().filter(|series| series.starts_with("ekiden_outcomes_total")).count(),
        Cause::COUNT
    );
    let buckets = samples.keys().filter(|s| s.starts_with("ekiden_request_duration_seconds_bucket")).count();
    assert_eq!(buckets, BOUNDS_US.len() + 1);
}

#[test]
fn an_endpoint_that_waits_is_not_ready() {
    let (sources, _, _) = sources(table(1, true));
    let samples = scrape(&State::new(sources, SERIES_MAX));
    let series = r#"{app="default",cluster="web",endpoint="web.0"}"#;
    assert_eq!(samples[&format!("ekiden_endpoint_ready{series}")], 0.0);
    assert_eq!(samples[r#"ekiden_cluster_endpoints_ready{app="default",cluster="web"}"#], 0.0);
}

#[test]
fn an_ejected_endpoint_and_its_return_are_seen() {
    let table = table(2, false);
    let (sources, _, _) = sources(table.clone());
    let state = State::new(sources, SERIES_MAX);
    let cluster = table.all_clusters().next().unwrap();
    cluster.cell.shard(0).attempts.add(1);
    let cell = &cluster.endpoints[0].cell;
    let mut judge = ekiden_core::ejection::Judge::default();
    for _ in 0..5 {
        cell.note_evidence(ekiden_core::evidence::Evidence::Connect);
    }
    assert_eq!(judge.judge(cluster, ekiden_core::ejection::Now { ms: 1, unix_ms: 1000 }).len(), 1);
    cluster.refresh_ready();
    let web = r#"app="default",cluster="web""#;
    let samples = scrape(&state);
    for (series, value) in [
        (format!(r#"ekiden_endpoint_state{{{web},endpoint="web.0",state="ejected"}}"#), Some(1.0)),
        (format!(r#"ekiden_endpoint_state{{{web},endpoint="web.0",state="ready"}}"#), None),
        (format!(r#"ekiden_endpoint_state{{{web},endpoint="web.1",state="ready"}}"#), Some(1.0)),
        (format!(r#"ekiden_cluster_ejections_total{{{web},cause="connect"}}"#), Some(1.0)),
        (format!(r#"ekiden_cluster_ejections_total{{{web},cause="success_rate"}}"#), Some(0.0)),
        (format!(r#"ekiden_cluster_ejections_withheld_total{{{web},bound="last"}}"#), Some(0.0)),
        (format!("ekiden_cluster_ejection_returns_total{{{web}}}"), Some(0.0)),
        (format!("ekiden_cluster_panic{{{web}}}"), Some(0.0)),
        (format!(r#"ekiden_endpoint_ramp_ratio{{{web},endpoint="web.0"}}"#), None),
        ("ekiden_evidence_dropped_total".to_owned(), Some(0.0)),
    ] {
        assert_eq!(samples.get(&series).copied(), value, "{series}");
    }
    cell.on(ekiden_core::readiness::Event::Trial(Ok(())), 2000);
    cell.on(ekiden_core::readiness::Event::Time, 2500);
    let ramp = scrape(&state)[&format!(r#"ekiden_endpoint_ramp_ratio{{{web},endpoint="web.0"}}"#)];
    assert!((ramp - 0.5).abs() < 0.01, "{ramp}");
}

#[test]
fn families_are_capped_and_say_so() {
    let (sources, _, _) = sources(table(10, false));
    let state = State::new(sources, 4);
    let dropped = r#"ekiden_series_dropped_total{family="ekiden_endpoint_ready"}"#;
    for round in 1..=2u32 {
        let samples = scrape(&state);
        let kept: Vec<_> = samples.keys().filter(|s| s.starts_with("ekiden_endpoint_ready{")).collect();
        assert_eq!(kept.len(), 4);
        assert_eq!(samples[dropped], f64::from(6 * round));
    }
}
