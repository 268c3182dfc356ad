//! A request on the plain path allocates nothing: a counting allocator looks at the worker's thread while a kept
//! connection is served.
//!
//! A test binary of its own, because the allocator is the process's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ekiden_tests::{Client, InProcess, Origin, Served, Setup, until_true, web};

/// Counts what threads named `ekiden-worker` ask for while [`COUNTING`] is set.
struct Counting;

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread is a worker: 0 not known, 1 no, 2 yes. Const, so that reading it allocates nothing.
    static WORKER: Cell<u8> = const { Cell::new(0) };
    static BACKTRACES: Cell<u8> = const { Cell::new(0) };
}

fn on_worker() -> bool {
    WORKER
        .try_with(|worker| match worker.get() {
            0 => {
                // Asking for the name may allocate: count that call as "no".
                worker.set(1);
                let name =
                    std::thread::current().name().is_some_and(|name| name.starts_with("ekiden-worker"));
                worker.set(if name { 2 } else { 1 });
                name
            }
            known => known == 2,
        })
        .unwrap_or(false)
}

fn note(size: usize) {
    if COUNTING.load(Ordering::Relaxed) && on_worker() {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(size as u64, Ordering::Relaxed);
        show();
    }
}

/// Prints where the first allocations come from, when `EKIDEN_ALLOC_TRACE` is set.
fn show() {
    static TRACE: AtomicBool = AtomicBool::new(true);
    if TRACE.load(Ordering::Relaxed) && BACKTRACES.get() < 3 {
        let shown = BACKTRACES.replace(u8::MAX);
        COUNTING.store(false, Ordering::Relaxed);
        let wanted = std::env::var_os("EKIDEN_ALLOC_TRACE").is_some();
        TRACE.store(wanted, Ordering::Relaxed);
        if wanted {
            eprintln!("{}", std::backtrace::Backtrace::force_capture());
        }
        BACKTRACES.set(shown + 1);
        COUNTING.store(true, Ordering::Relaxed);
    }
}

#[expect(unsafe_code, reason = "an allocator cannot be counted without being one")]
// SAFETY: every call goes on to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WARM: usize = 200;
/// The first deadlines of a connection (20 ms) have gone through the wheel by then, and the places they take are made.
const WARM_TIME: Duration = Duration::from_millis(200);
const COUNTED: usize = 1_000;

fn rounds(client: &mut Client, requests: &[&str], count: usize) {
    for n in 0..count {
        let request = requests[n % requests.len()];
        let response = client.ask(request);
        assert_eq!(response.status, 200, "{response:?}");
    }
}

/// The counts below hold only if this machinery sees what a worker does.
fn the_allocator_counts() {
    ALLOCATIONS.store(0, Ordering::SeqCst);
    COUNTING.store(true, Ordering::SeqCst);
    let worker = std::thread::Builder::new().name("ekiden-worker-test".to_owned());
    let boxed = worker.spawn(|| std::hint::black_box(Box::new([0_u8; 100]))).unwrap().join().unwrap();
    COUNTING.store(false, Ordering::SeqCst);
    assert!(boxed.len() == 100 && ALLOCATIONS.load(Ordering::SeqCst) > 0);
}

/// Limits of every place, and of keys of every kind, that say how much is left.
const LIMITED: &str = "limit = [{ rate = \"1000000/s\", headers = \"always\", cost = { header = \"x-cost\", most = 9 }, \
    key = \"{client}{header:user-agent}{cookie:session}{query:query}{path:1}\" }]";

/// Allocations on the worker during the counted requests.
fn count(what: &str, requests: &[&str]) {
    count_with("", what, requests);
}

/// The same where listener, app and route have these keys.
fn count_with(keys: &str, what: &str, requests: &[&str]) {
    count_before(|address| web(&[address], "", keys), keys, what, requests);
}

/// The same with a text of clusters and routes, which is told the one endpoint's address.
fn count_before(text: impl Fn(SocketAddr) -> String, keys: &str, what: &str, requests: &[&str]) {
    let origin = Origin::hello("a small body that fits into one read and one write");
    let setup = Setup::new(text(origin.address)).top(keys).listener(keys);
    let router = InProcess::start(setup);
    let mut client = router.client();
    let began = Instant::now();
    let mut warm = 0;
    while warm < WARM || began.elapsed() < WARM_TIME {
        rounds(&mut client, requests, requests.len());
        warm += requests.len();
    }
    // The table, the log and the pool are settled once the records are out.
    router.log_lines(warm);
    let connections = origin.connections();
    ALLOCATIONS.store(0, Ordering::SeqCst);
    BYTES.store(0, Ordering::SeqCst);
    COUNTING.store(true, Ordering::SeqCst);
    rounds(&mut client, requests, COUNTED);
    COUNTING.store(false, Ordering::SeqCst);
    let (allocations, bytes) = (ALLOCATIONS.load(Ordering::SeqCst), BYTES.load(Ordering::SeqCst));
    until_true("the records", || router.log_lines(warm + COUNTED).len() == warm + COUNTED);
    assert_eq!(origin.connections(), connections, "{what}: upstream connections were kept");
    assert_eq!(allocations, 0, "{what}: {allocations} allocations of {bytes} bytes in {COUNTED} requests");
}

#[test]
fn kept_connections_allocate_nothing() {
    the_allocator_counts();
    let agent = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\nAccept: text/html,*/*;q=0.8\r\n\
                 Accept-Encoding: gzip, deflate, br\r\nCookie: session=0123456789abcdef; theme=dark\r\n";
    count("bare GET", &["GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"]);
    let browser = format!(
        "GET /path/to/page?query=1 HTTP/1.1\r\nHost: A.Example:80\r\n{agent}Connection: keep-alive\r\n\r\n"
    );
    count("GET as browsers send it", &[&browser]);
    count_with(LIMITED, "a request that is counted by three limits", &[&browser]);
    for algorithm in ["rendezvous", "ring", "maglev", "ketama"] {
        // Several endpoints at one address; a threshold that one key cannot come to.
        let text = |address: SocketAddr| {
            let ids: Vec<String> =
                (0..4).map(|id| format!("{{ id = \"{id}\", address = \"{address}\" }}")).collect();
            format!(
                "[cluster.web]\nendpoints = [{}]\nshard = {{ by = \"{{client}}{{host}}{{path}}{{query}}{{cookie:session}}\", \
                 algorithm = \"{algorithm}\", hot_keys = {{ threshold = 1000 }} }}\n[[route]]\ncluster = \"web\"\n",
                ids.join(", ")
            )
        };
        count_before(text, "", algorithm, &[&browser]);
    }
    let guarded = |address: SocketAddr| {
        let route = "retry = { on = [\"connect\", \"reset\", 503], per_try = \"5s\" }\n\
                     hedge = { min = \"10s\" }\ntimeout = { total = \"60s\", deadline = true }";
        let breaker = "breaker = { endpoint_requests = 100, endpoint_connections = 100 }";
        web(&[address], breaker, route)
    };
    let with_deadline = browser.replace("\r\n\r\n", "\r\nX-Request-Deadline: 50000\r\n\r\n");
    count_before(guarded, "", "retries, hedges, breakers and deadlines at hand", &[&with_deadline]);
    for balance in ["peak_ewma", "prequal"] {
        let text = |address: SocketAddr| {
            let ids: Vec<String> =
                (0..4).map(|id| format!("{{ id = \"{id}\", address = \"{address}\" }}")).collect();
            format!(
                "[cluster.web]\nendpoints = [{}]\nbalance = \"{balance}\"\nreport_load = true\n[[route]]\ncluster = \"web\"\n",
                ids.join(", ")
            )
        };
        count_before(text, "", balance, &[&browser]);
    }
    let grouped = |address: SocketAddr| {
        let ids: Vec<String> = (0..8)
            .map(|id| format!("{{ id = \"{id}\", address = \"{address}\", priority = {} }}", id % 2))
            .collect();
        format!(
            "[cluster.web]\nendpoints = [{}]\nsubset = 2\nadaptive_limit = true\n[[route]]\ncluster = \"web\"\n",
            ids.join(", ")
        )
    };
    count_before(grouped, "", "priorities, a subset and an adaptive limit", &[&browser]);
    count("a path that is not in normal form", &["GET /a/../b/./%7e HTTP/1.1\r\nHost: a\r\n\r\n"]);
    let post = "POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world";
    let chunked =
        "PUT /form HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n";
    count("small bodies", &[post, chunked, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"]);
}
