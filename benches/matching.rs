//! Benchmarks of core's matching: find, path normalization, compile and recompile. The whole runs under a minute.
//!
//! `cargo bench -p ekiden-benches` measures; `cargo bench -p ekiden-benches -- --test` runs each once.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ekiden_benches::{NoFields, Shape, facts, listener_of, model, with_endpoint_changed};
use ekiden_config::doors::Generation;
use ekiden_config::model::Model;
use ekiden_core::host::host_of;
use ekiden_core::path::normalize;
use ekiden_core::table::{Compiler, Match, RouteEntry, Table};

fn compiled(model: &Arc<Model>) -> Arc<Table> {
    Compiler::new(1).compile(model, Generation(1)).table
}

/// One app on one host: 9 prefixes beside the root, two of them by method.
fn ten_routes(c: &mut Criterion) {
    let model = Arc::new(model(&Shape { apps: 1, routes: 10, hosts_per_app: 1, clusters: 1, endpoints: 2 }));
    let table = compiled(&model);
    let listener = listener_of(&table);
    let paths = ["/", "/section-1/page", "/section-9/a/b/c", "/section-4", "/other/page"];
    let mut turn = 0;
    c.bench_function("find/10_routes", |b| {
        b.iter(|| {
            turn = (turn + 1) % paths.len();
            let found = table.find(listener, &facts("app-0.example.com", paths[turn], &NoFields));
            black_box(matches!(found, Match::Route(_)))
        });
    });
}

/// 1,000 apps of 10 routes each.
fn ten_thousand_routes(c: &mut Criterion) {
    let model =
        Arc::new(model(&Shape { apps: 1000, routes: 10, hosts_per_app: 1, clusters: 1, endpoints: 2 }));
    random_hosts(c, "find/10000_routes", &compiled(&model), 1000, "/section-7/page");
}

/// 1,000 apps with 100 hosts each, asked for at random, each lookup after the one before, so that what is read is
/// in no near cache and nothing hides the wait for it.
fn hundred_thousand_hosts(c: &mut Criterion) {
    let shape = Shape { apps: 1000, routes: 100, hosts_per_app: 100, clusters: 1, endpoints: 2 };
    let table = compiled(&Arc::new(model(&shape)));
    random_hosts(c, "find/100000_hosts", &table, 100_000, "/");
    let listener = listener_of(&table);
    c.bench_function("find/100000_hosts_unknown", |b| {
        b.iter(|| {
            black_box(matches!(table.find(listener, &facts("no.such.host", "/", &NoFields)), Match::NotFound))
        });
    });
}

/// Lookups of random hosts, once for the lookup alone and once with the first read of what it found.
fn random_hosts(c: &mut Criterion, name: &str, table: &Table, hosts: usize, path: &str) {
    let address = |entry: &Arc<RouteEntry>| Arc::as_ptr(entry).addr() >> 6 & 1;
    chained(c, name, table, hosts, path, address);
    // The router reads the entry next; its first read is a cache miss of its own, shown apart from matching.
    let read = |entry: &Arc<RouteEntry>| entry.app as usize & 1;
    chained(c, &format!("{name}_and_entry"), table, hosts, path, read);
}

/// Each name depends on what was found before, so that lookups cannot overlap and a cache miss costs its whole latency,
/// as it does for a request.
fn chained(
    c: &mut Criterion,
    name: &str,
    table: &Table,
    hosts: usize,
    path: &str,
    link: impl Fn(&Arc<RouteEntry>) -> usize,
) {
    let listener = listener_of(table);
    let mut random = fastrand::Rng::with_seed(7);
    // One text after the other in memory, as a request's own bytes would be near: what is cold is the table.
    let names: Vec<String> =
        (0..1 << 16).map(|_| format!("app-{}.example.com", random.usize(..hosts))).collect();
    let mut turn = 0;
    c.bench_function(name, |b| {
        b.iter(|| {
            let linked = match table.find(listener, &facts(&names[turn], path, &NoFields)) {
                Match::Route(entry) => link(entry),
                Match::NotFound | Match::MethodNotAllowed(_) | Match::Ambiguous => 0,
            };
            turn = (turn + 1 + linked) % names.len();
        });
        black_box(turn);
    });
}

fn texts(c: &mut Criterion) {
    let mut scratch = String::with_capacity(256);
    let mut group = c.benchmark_group("text");
    for (name, path) in [
        ("path_short_normal", "/index.html"),
        (
            "path_long_normal",
            "/api/v1/organizations/ekiden/repositories/router/commits/0123456789abcdef/files.json",
        ),
        ("path_escapes_to_change", "/api/%7Eekiden/./router/../%e9ki%2fden"),
    ] {
        group.throughput(Throughput::Bytes(path.len() as u64));
        group.bench_function(name, |b| b.iter(|| normalize(black_box(path), false, &mut scratch).is_ok()));
    }
    for (name, host) in
        [("host_lower", "app-12345.example.com:8080"), ("host_mixed", "App-12345.Example.com")]
    {
        group.bench_function(name, |b| b.iter(|| host_of(black_box(host.as_bytes()), &mut scratch).is_ok()));
    }
    group.finish();
}

/// 10,000 routes and 100,000 endpoints, spread over 1,000 apps and all in one.
fn compiling(c: &mut Criterion) {
    let spread = Shape { apps: 1000, routes: 10, hosts_per_app: 1, clusters: 10, endpoints: 10 };
    let single = Shape { apps: 1, routes: 10_000, hosts_per_app: 1000, clusters: 10_000, endpoints: 10 };
    let mut group = c.benchmark_group("compile");
    group.sample_size(10);
    for (name, shape) in [("1000_apps", spread), ("1_app", single)] {
        let before = Arc::new(model(&shape));
        group.bench_function(format!("from_scratch/{name}"), |b| {
            b.iter_batched(
                || Compiler::new(2),
                |mut compiler| compiler.compile(&before, Generation(1)),
                BatchSize::PerIteration,
            );
        });
        let after = Arc::new(with_endpoint_changed(&before));
        let mut compiler = Compiler::new(2);
        compiler.compile(&before, Generation(1));
        let mut turn = 0;
        group.bench_function(format!("one_endpoint/{name}"), |b| {
            b.iter(|| {
                turn += 1;
                let model = if turn % 2 == 0 { &before } else { &after };
                black_box(compiler.compile(model, Generation(turn)).removed.len())
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = matching;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .sample_size(30);
    targets = ten_routes, ten_thousand_routes, hundred_thousand_hosts, texts, compiling
}
criterion_main!(matching);
