//! Benchmarks of what lets connections and requests in: the table of clients, and the steps of listeners and routes.
//!
//! `cargo bench -p ekiden-benches --bench admission` measures; with `-- --test` it runs each once.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use ekiden_benches::NoFields;
use ekiden_config::model::{Admission, ClientConnections, ConnectionLimits, HostMatch, Rate};
use ekiden_core::connection_limits::{Clients, ListenerCell, Place, admit};
use ekiden_core::policy::admission::{AdmissionSteps, Applicant};

/// Connections that the table of clients is made for: 2^18 slots, its largest.
const CONNECTIONS: u64 = 1 << 16;
/// Clients of the test; far more than caches hold slots of.
const CLIENTS: u32 = 1 << 15;
const LISTENER: u64 = 7;
const SEED: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];

/// A bound on open connections, and a rate that is never met.
fn limits() -> ConnectionLimits {
    let rate = Rate { count: u32::MAX, per: Duration::from_secs(1), burst: 1_000_000 };
    ConnectionLimits { per_client: ClientConnections::AtMost(1_000), client_rate: Some(rate), rate: None }
}

/// The client of a number, in an order that no cache foresees.
fn client(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 | (number.wrapping_mul(0x9e37_79b1) & 0x00ff_ffff)).into()
}

fn enter(clients: &Clients, cell: &ListenerCell, who: IpAddr, now_ns: u64) -> Option<Place> {
    let limits = limits();
    admit(clients, cell, (LISTENER, who), &limits, Some(1_000), now_ns).ok().flatten()
}

/// A connection is let in and ends: a client that has others open, a client never seen, a set in which nothing is free.
fn connections(c: &mut Criterion) {
    let cell = ListenerCell::default();
    let mut group = c.benchmark_group("admit");
    for (name, open) in [("client_known", CLIENTS), ("one_client", 1)] {
        let clients = Clients::new(CONNECTIONS, SEED);
        let _held: Vec<Option<Place>> =
            (0..open).map(|number| enter(&clients, &cell, client(number), 1)).collect();
        let mut turn = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                turn = (turn + 1) % open;
                if let Some(place) = enter(&clients, &cell, client(turn), 1) {
                    clients.leave(place);
                }
            });
        });
    }
    let clients = Clients::new(CONNECTIONS, SEED);
    let (mut turn, mut now_ns) = (0_u32, 1_u64);
    group.bench_function("client_new", |b| {
        b.iter(|| {
            // Time goes on, so that those before are forgotten, as in life.
            (turn, now_ns) = (turn.wrapping_add(1), now_ns + 1_000);
            if let Some(place) = enter(&clients, &cell, client(turn), now_ns) {
                clients.leave(place);
            }
        });
    });
    let clients = Clients::new(0, SEED);
    let _all: Vec<Option<Place>> =
        (0..100_000).map(|number| enter(&clients, &cell, client(number), 1)).collect();
    group.bench_function("table_full", |b| {
        b.iter(|| {
            turn = turn.wrapping_add(1);
            black_box(enter(&clients, &cell, client(0x0080_0000 | turn), 1).map(|place| clients.leave(place)))
        });
    });
    group.finish();
}

fn request(
    client: IpAddr,
    host: &str,
    method: &'static str,
    judge: impl FnOnce(&Applicant<'_>) -> bool,
) -> bool {
    judge(&Applicant {
        client: Some(client),
        host,
        method,
        has_body: false,
        head_bytes: 400,
        field_count: 10,
        fields: &NoFields,
    })
}

/// The steps of a request by the length of a list, once let in and once refused.
fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("request");
    let none = AdmissionSteps::new(&Admission::default());
    group.bench_function("nothing_written", |b| {
        b.iter(|| request(client(black_box(1)), "a.example.com", "GET", |one| none.judge(one).is_ok()));
    });
    for count in [1_u32, 10, 1_000] {
        // Every second address, so that no two networks meet in one.
        let nets =
            (0..count).map(|number| IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + number * 2)).into());
        let words = Admission { allow_clients: nets.collect(), ..Admission::default() };
        let steps = AdmissionSteps::new(&words);
        let last = Ipv4Addr::from_bits(0x0a00_0000 + (count - 1) * 2).into();
        let beside = Ipv4Addr::from_bits(0x0a00_0000 + (count - 1) * 2 + 1).into();
        for (name, who) in [("allow", last), ("deny", beside)] {
            group.bench_function(format!("client/{count}/{name}"), |b| {
                b.iter(|| request(black_box(who), "a", "GET", |one| steps.judge(one).is_ok()));
            });
        }
        let hosts = (0..count).map(|number| match number % 2 {
            0 => HostMatch::Exact(Arc::from(format!("host-{number}.example.com"))),
            _ => HostMatch::Wildcard(Arc::from(format!("wide-{number}.example.com"))),
        });
        let words = Admission { allow_hosts: hosts.collect(), ..Admission::default() };
        let steps = AdmissionSteps::new(&words);
        for (name, host) in [("allow", "host-0.example.com"), ("deny", "nobody.example.net")] {
            group.bench_function(format!("host/{count}/{name}"), |b| {
                b.iter(|| request(client(1), black_box(host), "GET", |one| steps.judge(one).is_ok()));
            });
        }
        let methods: Vec<Arc<str>> = (0..count).map(|number| Arc::from(format!("METHOD{number}"))).collect();
        let last = methods.last().map_or("", |method| &**method).to_owned().leak();
        let steps = AdmissionSteps::new(&Admission { allow_methods: methods, ..Admission::default() });
        for (name, method) in [("allow", &*last), ("deny", "GET")] {
            group.bench_function(format!("method/{count}/{name}"), |b| {
                b.iter(|| request(client(1), "a", black_box(method), |one| steps.judge(one).is_ok()));
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = admission;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000))
        .sample_size(30);
    targets = connections, requests
}
criterion_main!(admission);
