//! The server: pages, methods, readiness and liveness, busy addresses.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;

fn start(table: Arc<Table>) -> (Telemetry, Arc<World>) {
    let (sources, world, _) = sources(table);
    (Telemetry::start(Address::Tcp(([127, 0, 0, 1], 0).into()), sources).unwrap(), world)
}

fn exchange(mut stream: impl Read + Write, method: &str, target: &str) -> (u16, String) {
    write!(stream, "{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    (text[9..12].parse().unwrap(), text)
}

fn ask(telemetry: &Telemetry, method: &str, target: &str) -> (u16, String) {
    let Some(Address::Tcp(address)) = telemetry.bound() else { panic!("not bound") };
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    exchange(stream, method, target)
}

fn body(text: &str) -> &str {
    text.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn pages_and_methods() {
    let (telemetry, _) = start(table(1, false));
    let (status, text) = ask(&telemetry, "GET", "/metrics");
    assert_eq!(status, 200);
    assert!(text.to_lowercase().contains("content-type: text/plain; version=0.0.4\r\n"), "{text}");
    assert!(body(&text).contains("\nekiden_table_generation 0\n"));
    let (status, text) = ask(&telemetry, "HEAD", "/metrics");
    assert_eq!((status, body(&text)), (200, ""));
    assert_eq!(ask(&telemetry, "GET", "/").0, 200);
    assert_eq!(ask(&telemetry, "GET", "/nothing").0, 404);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let (status, text) = ask(&telemetry, method, "/metrics");
        assert_eq!(status, 405, "{method}");
        assert!(text.to_lowercase().contains("allow: get, head\r\n"), "{text}");
    }
    telemetry.stop();
}

#[test]
fn ready_or_why_not() {
    let (telemetry, world) = start(table(1, false));
    let set = |change: &dyn Fn(&mut Rest)| {
        let mut rest = world.0.lock().unwrap();
        *rest = Rest { workers: vec![worker(), worker()], ..Rest::default() };
        change(&mut rest);
    };
    type Case<'a> = (&'a dyn Fn(&mut Rest), u16, &'a str);
    let cases: &[Case<'_>] = &[
        (&|_| {}, 200, "ready\n"),
        (&|rest| rest.status.stale = Some("bad file".to_owned()), 200, "stale table: bad file\n"),
        (&|rest| rest.draining = true, 503, "not ready\n[-] draining: the process has been told to end\n"),
        (&|rest| rest.workers.clear(), 503, "not ready\n[-] table: no worker has started\n"),
        (&|rest| rest.workers[1].generation = 0, 503, "not ready\n[-] table: no table has been installed\n"),
        (
            &|rest| rest.workers[1].accepting = Err("edge: address in use".to_owned()),
            503,
            "not ready\n[-] listeners: worker 1: edge: address in use\n",
        ),
        (
            &|rest| rest.workers[1].beat_age = BEAT_MAX * 2,
            503,
            "not ready\n[-] workers: worker 1 has not ticked for 20 s\n",
        ),
    ];
    for (change, status, words) in cases {
        set(*change);
        let (got, text) = ask(&telemetry, "GET", "/readyz");
        assert_eq!((got, body(&text)), (*status, *words));
    }
    set(&|rest| rest.draining = true);
    let verbose = ask(&telemetry, "GET", "/readyz?verbose").1;
    for line in ["[+] workers: 2 running", "[+] table: generation 3", "[+] listeners: accepting"] {
        assert!(body(&verbose).contains(&format!("\n{line}\n")), "{verbose}");
    }
    let (status, text) = ask(&telemetry, "GET", "/livez");
    assert_eq!((status, body(&text)), (200, "live\n"), "draining is not dead");
    set(&|rest| rest.workers[0].beat_age = BEAT_MAX + Duration::from_secs(1));
    let (status, text) = ask(&telemetry, "GET", "/livez");
    assert_eq!((status, body(&text)), (503, "not live\n[-] workers: worker 0 has not ticked for 11 s\n"));
}

#[test]
fn first_checks_hold_up_the_first_seconds_only() {
    let probed = table(1, true);
    let (telemetry, _) = start(probed.clone());
    let (status, text) = ask(&telemetry, "GET", "/readyz");
    assert_eq!((status, body(&text)), (503, "not ready\n[-] first_checks: waiting for default/web\n"));
    let cluster = probed.all_clusters().next().unwrap();
    cluster.endpoints[0].cell.set_health(ekiden_core::health::Health::Failing, "no", 1);
    cluster.refresh_ready();
    assert_eq!(ask(&telemetry, "GET", "/readyz").0, 200, "an answered check is enough, whatever it says");
    // Once settled, a later endpoint that waits does not make the router unready.
    cluster.endpoints[0].cell.set_health(ekiden_core::health::Health::Starting, "new", 2);
    cluster.refresh_ready();
    assert_eq!(ask(&telemetry, "GET", "/readyz").0, 200);
    // And a check that is never answered is waited for so long.
    let (mut sources, _, _) = sources(table(1, true));
    sources.started = Instant::now().checked_sub(FIRST_CHECKS_MAX).unwrap();
    let late = Telemetry::start(Address::Tcp(([127, 0, 0, 1], 0).into()), sources).unwrap();
    assert_eq!(ask(&late, "GET", "/readyz").0, 200);
}

#[test]
fn keep_alive_and_garbage() {
    let (telemetry, _) = start(table(1, false));
    let Some(Address::Tcp(address)) = telemetry.bound() else { panic!("not bound") };
    let mut garbage = TcpStream::connect(address).unwrap();
    garbage.write_all(b"\x16\x03\x01\0\0\r\n\r\n").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !bytes.ends_with(b"live\n") {
            stream.read_exact(&mut byte).unwrap();
            bytes.extend(byte);
        }
    }
}

#[test]
fn a_busy_address_is_taken_when_it_is_free() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let (sources, _, _) = sources(table(1, false));
    let telemetry = Telemetry::start(Address::Tcp(holder.local_addr().unwrap()), sources).unwrap();
    assert_eq!(telemetry.bound(), None);
    drop(holder);
    let deadline = Instant::now() + LONG;
    while telemetry.bound().is_none() {
        assert!(Instant::now() < deadline);
        std::thread::park_timeout(Duration::from_millis(5));
    }
    assert_eq!(ask(&telemetry, "GET", "/livez").0, 200);
}

#[test]
fn unix_sockets_also_abandoned_ones() {
    let path = std::env::temp_dir().join(format!("ekiden-telemetry-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    drop(UnixListener::bind(&path).unwrap());
    let (sources, _, _) = sources(table(1, false));
    let address = Address::Unix(path.to_str().unwrap().into());
    let telemetry = Telemetry::start(address.clone(), sources.clone()).unwrap();
    assert_eq!(telemetry.bound(), Some(address.clone()));
    let second = Telemetry::start(address, sources).unwrap();
    assert_eq!(second.bound(), None, "a socket in use is left alone");
    second.stop();
    assert_eq!(exchange(UnixStream::connect(&path).unwrap(), "GET", "/livez").0, 200);
    telemetry.stop();
    assert!(!path.exists());
}
