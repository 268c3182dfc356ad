//! What a table takes: live bytes for each route, cluster and endpoint, of a router that has them from control. Prints figures and
//! judges the first table against the bars of `loadtest churn`, which measures a whole process; this one says where the bytes are.
//!
//! No time is measured, so that it says the same on a busy machine. Sizes are those of the classes that mimalloc has.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ekiden_config::doors::Generation;
use ekiden_config::model::{Address, App, Cluster, Endpoint, Model, Owner};
use ekiden_config::names::{AppName, EndpointId};
use ekiden_config::{Format, HostOwners, Input, Purpose, Source, build_for};
use ekiden_core::table::Compiler;

/// Counts what is live.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

/// Eighths of a power of two above 128 bytes, steps of 16 below.
fn class(size: usize) -> usize {
    if size <= 128 {
        return size.next_multiple_of(if size <= 8 { 8 } else { 16 });
    }
    size.next_multiple_of(size.next_power_of_two() / 8)
}

#[expect(unsafe_code, reason = "an allocator cannot be counted without being one")]
// SAFETY: every call goes to the system's allocator as it came; what is added is counting.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(class(layout.size()), Relaxed);
        // SAFETY: the caller's promise about the layout is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(class(layout.size()), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many of what; the apps are all alike.
#[derive(Clone, Copy)]
struct Shape {
    apps: usize,
    routes: usize,
    clusters: usize,
    endpoints: usize,
}

/// What is live of each part of a router, in bytes.
#[derive(Clone, Copy)]
struct Taken {
    /// Words of apps: routes, clusters without endpoints, who owns which host.
    words: usize,
    /// Lists of endpoints, which what came from control and the Model share.
    endpoints: usize,
    /// Cells, indexes and entries.
    table: usize,
}

/// The bars of `loadtest churn`, in bytes.
const ROUTE_MOST: f64 = 1_000.0;
const ENDPOINT_MOST: f64 = 300.0;
/// What an endpoint takes more once it has answered, where its answers are timed (`cell/extra.rs` in core).
const ANSWERED: f64 = 64.0;

const MAIN: &str = "[listener.edge]\naddress = \"127.0.0.1:8080\"\n";

fn source(file: String, text: String, format: Format) -> Source {
    Source { file, text, format }
}

/// An app's document as it comes to a router.
fn document(shape: Shape, app: usize) -> Source {
    let mut text = String::from("{\"cluster\":{");
    for cluster in 0..shape.clusters {
        let comma = if cluster > 0 { "," } else { "" };
        let _ = write!(text, "{comma}\"c{cluster}\":{{}}");
    }
    text.push_str("},\"route\":[");
    for route in 0..shape.routes {
        let (comma, cluster) = (if route > 0 { "," } else { "" }, route % shape.clusters);
        let _ = write!(text, "{comma}{{\"host\":\"r{route}.app{app}.test\",\"cluster\":\"c{cluster}\"}}");
    }
    text.push_str("]}");
    source(format!("app{app}"), text, Format::Json)
}

fn endpoint(number: usize) -> Arc<Endpoint> {
    let [.., high, middle, low] = number.to_be_bytes();
    let address = (Ipv4Addr::new(10, high, middle, low), 80).into();
    Arc::new(Endpoint {
        id: EndpointId::new(&format!("10.{high}.{middle}.{low}:80")).expect("an id"),
        address: Address::Tcp(address),
        tags: None,
        weight: 1,
        priority: 0,
        drain: false,
        owner: Owner::File,
    })
}

/// Puts endpoints into every cluster.
fn fill(model: &Model, shape: Shape) -> Model {
    let mut number = 0;
    let mut lists = || {
        let list: Vec<Arc<Endpoint>> = (number..number + shape.endpoints).map(endpoint).collect();
        number += shape.endpoints;
        Arc::new(list)
    };
    let filled = |app: &App, lists: &mut dyn FnMut() -> Arc<Vec<Arc<Endpoint>>>| {
        let clusters = app.clusters.iter().map(|(name, cluster)| {
            (name.clone(), Arc::new(Cluster { endpoints: lists(), ..Cluster::clone(cluster) }))
        });
        App {
            name: app.name.clone(),
            routes: Arc::clone(&app.routes),
            clusters: clusters.collect(),
            share_hosts_with: Arc::clone(&app.share_hosts_with),
        }
    };
    let apps = model.apps.iter().map(|(name, app)| (name.clone(), Arc::new(filled(app, &mut lists))));
    Model { listeners: model.listeners.clone(), apps: apps.collect(), trust: Arc::clone(&model.trust) }
}

fn measure(shape: Shape) -> Taken {
    let main = source("router.toml".to_owned(), MAIN.to_owned(), Format::Toml);
    let default = source("default".to_owned(), "{}".to_owned(), Format::Json);
    let name = |app: usize| AppName::new(&format!("app{app:04}")).expect("a name");
    let apps: Vec<_> = (0..shape.apps).map(|app| (name(app), document(shape, app))).collect();
    let hosts = HostOwners::default();
    let start = LIVE.load(Relaxed);
    let input = Input { main: &main, apps: &apps, previous: None, hosts: &hosts };
    let built = build_for(input, Purpose::Router(&default)).expect("a model");
    assert!(built.diagnostics.is_empty(), "{:?}", built.diagnostics.first());
    let words = LIVE.load(Relaxed) - start;
    let model = Arc::new(fill(&built.model, shape));
    let endpoints = LIVE.load(Relaxed) - start - words;
    let mut compiler = Compiler::new(1);
    let compiled = compiler.compile(&model, Generation(1));
    assert_eq!(compiled.table.routes().count(), shape.apps * shape.routes);
    let table = LIVE.load(Relaxed) - start - words - endpoints;
    Taken { words, endpoints, table }
}

fn main() {
    // Without `--bench` somebody only wants to know that it runs. The figures are the same but for what is spread over all apps.
    let apps = if std::env::args().any(|word| word == "--bench") { 100 } else { 4 };
    let base = Shape { apps, routes: 100, clusters: 10, endpoints: 100 };
    let more = [
        ("route", apps * base.routes, Shape { routes: 2 * base.routes, ..base }, ROUTE_MOST),
        // Of the same endpoints, so that these do not count.
        (
            "cluster",
            apps * base.clusters,
            Shape { clusters: 2 * base.clusters, endpoints: base.endpoints / 2, ..base },
            f64::INFINITY,
        ),
        (
            "endpoint",
            apps * base.clusters * base.endpoints,
            Shape { endpoints: 2 * base.endpoints, ..base },
            ENDPOINT_MOST - ANSWERED,
        ),
    ];
    let known = measure(base);
    println!("bytes for one    words  endpoints  table  all");
    for (name, count, shape, most) in more {
        let taken = measure(shape);
        let of = |more: usize, known: usize| (more as f64 - known as f64) / count as f64;
        let parts = [
            of(taken.words, known.words),
            of(taken.endpoints, known.endpoints),
            of(taken.table, known.table),
        ];
        let [words, endpoints, table] = parts;
        let all: f64 = parts.iter().sum();
        println!("{name:<14} {words:>7.0} {endpoints:>10.0} {table:>6.0} {all:>4.0}");
        assert!(all <= most, "{name}: {all} bytes, and may take {most}");
    }
}
