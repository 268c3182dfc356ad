//! Which connection a request takes, when there is another one, and what is sent again.

use ekiden_tests::{Client, Ekiden, Origin, Served, Setup, cluster, until_true};

use super::{Endpoint, get, router};

/// Opens requests that the endpoint holds, one after the other, each once the one before has arrived.
fn hold(router: &Ekiden, endpoint: &Endpoint, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for number in 1..=count {
        let mut client = Client::connect(router.address());
        client.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
        endpoint.wait("stream", number);
        clients.push(client);
    }
    clients
}

#[test]
fn streams_share_a_connection_up_to_what_the_endpoint_takes() {
    for (streams, requests, connections) in [(100, 20, 1), (2, 5, 3), (1, 3, 3)] {
        let endpoint = Endpoint::start(streams);
        let router = router(&endpoint, "");
        let clients = hold(&router, &endpoint, requests);
        assert_eq!(endpoint.events("connection").len(), connections, "{requests} at {streams}");
        assert!(router.metric("ekiden_cluster_connections", &["busy"]) as usize == connections);
        assert_eq!(get(&router, "/release").status, 200);
        for mut client in clients {
            assert_eq!(client.response().text(), "held");
        }
        let begun = router.metric("ekiden_cluster_http2_streams_total", &[]);
        assert!((begun - (requests + 1) as f64).abs() < 0.1, "{begun}");
    }
}

/// To a breaker, one that carries many requests counts once, and while it is open.
#[test]
fn a_shared_connection_counts_once() {
    for bound in ["connections", "endpoint_connections"] {
        let endpoint = Endpoint::start(2);
        let router = router(&endpoint, &format!("breaker = {{ {bound} = 1 }}"));
        let clients = hold(&router, &endpoint, 2);
        let refused = get(&router, "/third");
        assert_eq!((refused.status, refused.code()), (503, "breaker_open"), "{bound}");
        clients.into_iter().for_each(Client::reset);
        until_true("room on the connection", || get(&router, "/").status == 200);
        assert_eq!(endpoint.events("connection").len(), 1, "{bound}");
    }
}

/// What the endpoint has not looked at is sent again, whatever its method: it says so itself.
#[test]
fn what_was_not_looked_at_is_sent_again() {
    for path in ["/refuse", "/goaway"] {
        let endpoint = Endpoint::start(100);
        let router = router(&endpoint, "");
        assert_eq!(get(&router, "/").get("x-connection"), Some("1"));
        let mut client = Client::connect(router.address());
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"));
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (200, "hello"), "{path}");
        assert_eq!(response.get("x-connection"), Some("2"), "{path}");
        assert!(router.metric("ekiden_cluster_http2_unprocessed_total", &[]) > 0.5);
        // Nothing of it speaks against the endpoint.
        assert!(router.metric("ekiden_endpoint_failures_total", &[]) < 0.5, "{path}");
    }
}

/// A connection that says GOAWAY gets no further stream, and those it has run to their end.
#[test]
fn goaway_is_honoured() {
    let endpoint = Endpoint::start(100);
    let router = router(&endpoint, "");
    let mut held = hold(&router, &endpoint, 1);
    let bye = get(&router, "/bye");
    assert_eq!((bye.text().as_str(), bye.get("x-connection")), ("bye", Some("1")));
    assert_eq!(get(&router, "/").get("x-connection"), Some("2"));
    assert_eq!(get(&router, "/release").get("x-connection"), Some("2"));
    assert_eq!(held.remove(0).response().text(), "held");
}

/// Idle connections close after their time, and those of an endpoint that is removed at once.
#[test]
fn idle_connections_close() {
    let endpoint = Endpoint::start(100);
    let router = router(&endpoint, "pool_idle_timeout = \"100ms\"");
    assert_eq!(get(&router, "/").status, 200);
    endpoint.wait("closed", 1);
    until_true("the gauge", || router.metric("ekiden_cluster_connections", &["busy"]) < 0.5);
    assert_eq!(get(&router, "/").get("x-connection"), Some("2"));
}

/// A connection on which an endpoint did not answer in time is not used for the next request.
#[test]
fn a_silent_connection_is_left() {
    let endpoint = Endpoint::start(100);
    let text = format!(
        "{}\n[[route]]\ncluster = \"web\"\ntimeout = {{ first_byte = \"200ms\" }}\n",
        cluster("web", &[endpoint.address], "protocol = \"h2\"\nejection = \"off\"")
    );
    let router = Ekiden::start(Setup::new(text));
    let late = get(&router, "/wait");
    assert_eq!((late.status, late.code()), (504, "first_byte_timeout"));
    assert_eq!(get(&router, "/").get("x-connection"), Some("2"));
}

#[test]
fn an_endpoint_that_speaks_http1_only() {
    let origin = Origin::hello("hello");
    let text =
        format!("{}\n[[route]]\ncluster = \"web\"\n", cluster("web", &[origin.address], "protocol = \"h2\""));
    let router = Ekiden::start(Setup::new(text).top(""));
    // It may answer with HTTP/1, or not at all until the time is over.
    let response = get(&router, "/");
    assert!(
        matches!((response.status, response.code()), (502, "http2_failed") | (503, "connect_timeout")),
        "{response:?}"
    );
}

/// Requests that come at once where there is no connection yet share what is opened for the first of them.
#[test]
fn a_burst_on_a_cold_cluster_opens_few_connections() {
    for (streams, requests, most) in [(100, 60, 1), (2, 6, 4)] {
        let endpoint = Endpoint::start(streams);
        let text = format!(
            "{}\n[[route]]\ncluster = \"web\"\n",
            cluster("web", &[endpoint.address], "protocol = \"h2\"")
        );
        let top = "workers = 1\ntimeout = { connect = \"15s\", connect_try = \"15s\" }";
        let router = Ekiden::start(Setup::new(text).top(top));
        let mut clients: Vec<Client> = (0..requests).map(|_| Client::connect(router.address())).collect();
        for client in &mut clients {
            client.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        endpoint.wait("stream", requests);
        let connections = endpoint.events("connection").len();
        assert!(connections <= most, "{connections} for {requests} at {streams}");
        assert_eq!(get(&router, "/release").status, 200);
        for mut client in clients {
            assert_eq!(client.response().text(), "held");
        }
    }
}

/// One that cannot be opened fails all who wait for it, at once.
#[test]
fn a_burst_on_an_endpoint_that_is_gone_fails_together() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!("{}\n[[route]]\ncluster = \"web\"\n", cluster("web", &[gone], "protocol = \"h2\""));
    let router =
        Ekiden::start(Setup::new(text).top("timeout = { connect = \"15s\", connect_try = \"15s\" }"));
    let mut clients: Vec<Client> = (0..60).map(|_| Client::connect(router.address())).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for client in &mut clients {
        let response = client.response();
        assert_eq!(response.status, 503, "{response:?}");
    }
}
