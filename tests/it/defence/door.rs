//! Bounds on connections by client and by listener, over two workers of the real binary.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::{HOSTILE, NORMAL, client_from, is_served};
use ekiden_tests::{Client, Ekiden, Origin, Served, Setup, until, web};

fn serve(origin: &Origin, listener: &str) -> Ekiden {
    Ekiden::start(Setup::new(web(&[origin.address], "", "")).listener(listener).workers(2))
}

fn refused(router: &Ekiden, cause: &str) -> f64 {
    router.metric("ekiden_connections_refused_total", &["listener=\"edge\"", &format!("cause=\"{cause}\"")])
}

/// So many connections, each of which has been served.
fn served(router: &Ekiden, source: Ipv4Addr, count: usize) -> Vec<Client> {
    let one = |_| {
        let mut client = client_from(source, router.address());
        assert!(is_served(&mut client), "{source} is refused below its bound");
        client
    };
    (0..count).map(one).collect()
}

#[test]
fn a_client_at_its_bound_is_reset_and_others_are_served() {
    let origin = Origin::hello("good");
    let router = serve(&origin, "max_connections_per_client = 4");
    let mut held = served(&router, HOSTILE, 4);
    let began = Instant::now();
    for _ in 0..50 {
        let mut over = client_from(HOSTILE, router.address());
        assert_eq!(over.rest(), b"");
        assert!(over.was_reset(), "not closed with a reset");
    }
    assert!(refused(&router, "client_connections") >= 50.0);
    router.wait_error("client connections are refused");
    let told = router.errors().matches("client connections are refused").count() as u64;
    // A line a second of each of the two workers.
    let most = 2 * (began.elapsed().as_secs() + 1);
    assert!(told <= most, "{told} log lines about fifty refusals at once");
    let others = served(&router, NORMAL, 4);
    assert!(held.iter_mut().all(is_served), "connections that were let in are cut");
    held.pop();
    until("room after one has ended", || {
        is_served(&mut client_from(HOSTILE, router.address())).then_some(())
    });
    drop(others);
}

#[test]
fn a_client_that_connects_too_fast_is_reset_and_others_are_served() {
    let origin = Origin::hello("good");
    let router = serve(&origin, "connection_rate_per_client = \"1/h\"\nconnection_burst_per_client = 5");
    // Short connections count as much as long ones.
    (0..5).for_each(|_| drop(served(&router, HOSTILE, 1)));
    for _ in 0..20 {
        assert!(!is_served(&mut client_from(HOSTILE, router.address())), "served beyond its rate");
    }
    assert!((20.0..=20.0).contains(&refused(&router, "client_rate")));
    drop(served(&router, NORMAL, 5));
}

#[test]
fn a_listener_has_a_rate_and_trusted_proxies_have_none() {
    let origin = Origin::hello("good");
    let listener = "connection_rate = \"1/h\"\nconnection_burst = 6\nconnection_rate_per_client = \"1/h\"\n\
                    connection_burst_per_client = 4\nmax_connections_per_client = 3\ntrust = [\"127.0.0.2\"]";
    let router = serve(&origin, listener);
    (0..4).for_each(|_| drop(served(&router, HOSTILE, 1)));
    (0..3).for_each(|_| assert!(!is_served(&mut client_from(HOSTILE, router.address()))));
    // What one client was refused was not taken from the others.
    drop(served(&router, Ipv4Addr::new(127, 0, 0, 4), 2));
    assert!(!is_served(&mut client_from(Ipv4Addr::new(127, 0, 0, 5), router.address())));
    assert_eq!((refused(&router, "client_rate"), refused(&router, "listener_rate")), (3.0, 1.0));
    drop(served(&router, NORMAL, 20));
    assert_eq!(refused(&router, "client_connections"), 0.0);
}

#[test]
fn unix_peers_are_exempt() {
    let origin = Origin::hello("good");
    let setup = Setup::new(web(&[origin.address], "", ""));
    let path = setup.dir().join("edge.sock");
    let listener = format!(
        "[listener.local]\naddress = \"unix:{}\"\nmax_connections_per_client = 1\nconnection_rate = \"1/h\"",
        path.display()
    );
    let router = Ekiden::start(setup.listener(&listener));
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        held.push(stream);
    }
    drop(router);
}
