//! Mirrors: what the other cluster gets, and that those who are served notice nothing.

use ekiden_tests::{Echo, Ekiden, Flapper, Origin, Received, Seen, Served, Setup, until, until_true};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// A route to `main` with a mirror to `shadow`.
fn serve(main: SocketAddr, shadow: SocketAddr, words: &str, route: &str) -> Ekiden {
    let text = format!(
        "[cluster.main]\nendpoints = [\"{main}\"]\n[cluster.shadow]\nendpoints = [\"{shadow}\"]\n\
         [[route]]\nname = \"r\"\ncluster = \"main\"\n{route}\nmirror = {{ cluster = \"shadow\"{words} }}\n"
    );
    Ekiden::start(Setup::new(text).listener("h2c = true"))
}

fn ended(router: &Ekiden, result: &str) -> f64 {
    router.metric("ekiden_route_mirror_total", &[&format!("result=\"{result}\"")])
}

fn wait_ended(router: &Ekiden, result: &str, count: f64) {
    until_true(&format!("{count} copies to end with {result}"), || ended(router, result) == count);
}

/// An origin that keeps what it gets, and answers with this.
fn keeping(answer: &'static str) -> (Origin, Arc<Mutex<Vec<Received>>>) {
    let kept: Arc<Mutex<Vec<Received>>> = Arc::default();
    let into = Arc::clone(&kept);
    let origin = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            conn.answer(&request, answer);
            into.lock().unwrap().push(request);
        }
    });
    (origin, kept)
}

#[test]
fn copies_are_whole_and_marked() {
    let main = Echo::start("main");
    let (shadow, kept) = keeping("shadow");
    let edits = "path = \"/shop\"\nrewrite = { prefix = \"/new\" }\nrequest_headers = { set = { X-Tier = \"gold\" } }";
    let router = serve(main.address, shadow.address, "", edits);
    let mut client = router.client();
    let requests = [
        "GET /shop/a?b=1 HTTP/1.1\r\nHost: a\r\nCookie: c=1\r\n\r\n".to_owned(),
        "POST /shop HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "PUT /shop/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_owned(),
        "HEAD /shop HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
    ];
    let lines = ["GET /new/a?b=1", "POST /new", "PUT /new/c", "HEAD /new"];
    let bodies = ["", "hello", "abcde", ""];
    for (at, request) in requests.iter().enumerate() {
        client.send(request);
        let response = client.read(lines[at].starts_with("HEAD")).unwrap();
        assert_eq!(response.status, 200);
        let copy = until("the copy", || kept.lock().unwrap().pop());
        assert!(copy.line.starts_with(lines[at]), "{} {}", lines[at], copy.line);
        assert_eq!((copy.all("x-mirror"), copy.get("x-tier")), (vec!["true"], Some("gold")));
        assert_eq!(String::from_utf8_lossy(&copy.body), bodies[at]);
        if at == 0 {
            let seen = Seen(response.json());
            assert_eq!(seen.text("origin"), "main", "the client gets the answer of the route's own cluster");
            assert_eq!(seen.field("x-request-id").as_deref(), copy.get("x-request-id"));
            assert_eq!(copy.get("cookie"), Some("c=1"));
        }
    }
    wait_ended(&router, "sent", 4.0);
    assert_eq!(main.requests(), 4);
    // No request of its own: one record and one count for each.
    assert_eq!(router.metric("ekiden_requests_total", &["route=\"r\""]), 4.0);
    assert_eq!(router.metric("ekiden_cluster_requests_total", &["cluster=\"main\""]), 4.0);
}

#[test]
fn a_shadow_that_is_silent_or_down_neither_delays_nor_fails() {
    let main = Echo::start("main");
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Mutex::new(released);
    let silent = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            let _told = released.lock().unwrap().recv();
            conn.answer(&request, "late");
        }
    });
    let router = serve(main.address, silent.address, ", in_flight = 1, timeout = \"60s\"", "");
    let mut client = router.client();
    assert_eq!(client.get("a", "/").status, 200);
    until_true("the first copy to arrive", || silent.connections() == 1);
    for _ in 0..5 {
        assert_eq!(client.get("a", "/").status, 200, "one copy is on its way; more are not made");
    }
    wait_ended(&router, "busy", 5.0);
    release.send(()).unwrap();
    wait_ended(&router, "sent", 1.0);
    drop(router);

    let down = Flapper::start();
    down.down();
    let router = serve(main.address, down.address, "", "");
    let mut client = router.client();
    for _ in 0..8 {
        assert_eq!(client.get("a", "/").status, 200);
    }
    wait_ended(&router, "failed", 8.0);
    let table = router.table();
    let clusters = table["apps"][0]["clusters"].as_array().unwrap();
    let main = clusters.iter().find(|cluster| cluster["name"] == "main").unwrap();
    assert_eq!(main["endpoints"][0]["state"], "ready", "{main}");
}

#[test]
fn what_is_too_large_or_was_not_read_is_not_copied() {
    let main = Echo::start("main");
    let (shadow, kept) = keeping("shadow");
    let router = serve(main.address, shadow.address, ", body = 4", "");
    let mut client = router.client();
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        assert_eq!(client.ask(request).status, 200, "the request itself goes on");
    }
    assert_eq!(client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nfour").status, 200);
    wait_ended(&router, "sent", 1.0);
    assert_eq!(ended(&router, "too_large"), 2.0);
    assert_eq!(kept.lock().unwrap().len(), 1);
}

/// The other cluster leads to a router that copies as well, so that a copy of a copy would come back for ever.
#[test]
fn a_copy_is_not_copied_again() {
    let main = Echo::start("main");
    let (shadow, kept) = keeping("shadow");
    let second = serve(main.address, shadow.address, "", "");
    let first = serve(main.address, second.address(), "", "");
    assert_eq!(first.client().get("a", "/").status, 200);
    wait_ended(&first, "sent", 1.0);
    wait_ended(&second, "copy", 1.0);
    assert_eq!(second.client().get("a", "/").status, 200, "what is no copy is copied");
    wait_ended(&second, "sent", 1.0);
    assert_eq!(kept.lock().unwrap().len(), 1);
}

/// Marks are good for whoever has them: no other cluster is to see them.
#[test]
fn a_copy_does_not_carry_the_mark_of_affinity() {
    let main = Echo::start("main");
    let (shadow, kept) = keeping("shadow");
    let serve = |affinity: &str| {
        Ekiden::start(Setup::new(format!(
            "[cluster.main]\nendpoints = [\"{}\"]\naffinity = {affinity}\n\
             [cluster.shadow]\nendpoints = [\"{}\"]\n\
             [[route]]\nname = \"r\"\ncluster = \"main\"\nmirror = {{ cluster = \"shadow\" }}\n",
            main.address, shadow.address
        )))
    };
    let router = serve("{ cookie = \"srv\" }");
    for (carried, left) in
        [("c=1; srv=x; d=2", Some("c=1; d=2")), ("srv=x", None), ("c=1;  d=2", Some("c=1;  d=2"))]
    {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {carried}\r\n\r\n");
        assert_eq!(router.client().ask(&request).status, 200);
        let copy = until("the copy", || kept.lock().unwrap().pop());
        assert_eq!(copy.get("cookie"), left, "{carried}");
    }
    drop(router);
    let router = serve("{ header = \"x-session\" }");
    assert_eq!(
        router.client().ask("GET / HTTP/1.1\r\nHost: a\r\nX-Session: x\r\nX-Other: y\r\n\r\n").status,
        200
    );
    let copy = until("the copy", || kept.lock().unwrap().pop());
    assert_eq!((copy.get("x-session"), copy.get("x-other")), (None, Some("y")));
}

#[test]
fn differences_are_counted() {
    let (main, _kept) = keeping("same");
    for (answer, result) in [("same", "same"), ("other", "other_body")] {
        let (shadow, _copies) = keeping(answer);
        let router = serve(main.address, shadow.address, ", diff = true", "");
        for _ in 0..3 {
            assert_eq!(router.client().get("a", "/").text(), "same");
        }
        wait_ended(&router, result, 3.0);
    }
    let failing = Flapper::start();
    failing.set_status(500);
    let router = serve(main.address, failing.address, ", diff = true", "");
    assert_eq!(router.client().get("a", "/").text(), "same");
    wait_ended(&router, "other_status", 1.0);
}

#[test]
fn a_share_and_clients_of_http2() {
    use ekiden_tests::http2;
    let main = Echo::start("main");
    let (shadow, kept) = keeping("shadow");
    let router = serve(main.address, shadow.address, ", percent = 50", "");
    let mut client = router.client();
    (0..400).for_each(|_| assert_eq!(client.get("a", "/").status, 200));
    let drawn = || ended(&router, "sent") + ended(&router, "busy");
    // Six times the deviation of such a draw to either side.
    until_true("the copies to end", || drawn() > 140.0);
    assert!(drawn() < 260.0, "{} of 400", drawn());
    drop(router);

    let router = serve(main.address, shadow.address, "", "");
    kept.lock().unwrap().clear();
    let reply = http2::talk(router.address(), async |sender| {
        let request = http::Request::post("http://a/x").body(()).unwrap();
        http2::ask_with(&sender, request, Some(b"over http2"), None).await.unwrap()
    });
    assert_eq!(reply.status, 200);
    let copy = until("the copy", || kept.lock().unwrap().pop());
    assert_eq!(
        (copy.get("x-mirror"), String::from_utf8_lossy(&copy.body)),
        (Some("true"), "over http2".into())
    );
}

/// The mark of a copy is for copies: an app that does less for them must not be told so by anybody.
#[test]
fn the_mark_of_a_copy_comes_from_trusted_peers_only() {
    let main = Echo::start("main");
    let serve = |listener: &str| {
        let text =
            format!("[cluster.main]\nendpoints = [\"{}\"]\n[[route]]\ncluster = \"main\"\n", main.address);
        Ekiden::start(Setup::new(text).listener(listener))
    };
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Mirror: true\r\n\r\n";
    for (listener, seen) in [("", None), ("trust = [\"127.0.0.0/8\"]", Some("true".to_owned()))] {
        let response = serve(listener).client().ask(request);
        assert_eq!(Seen(response.json()).field("x-mirror"), seen, "{listener}");
    }
}

/// Requests that are served for long, such as streams, are no copies on their way.
#[test]
fn a_long_request_takes_no_place_of_a_copy() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Mutex::new(released);
    let main = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            if request.target() == "/long" {
                let _told = released.lock().unwrap().recv();
            }
            conn.answer(&request, "main");
        }
    });
    let (shadow, kept) = keeping("shadow");
    let router = serve(main.address, shadow.address, ", in_flight = 1", "");
    let mut long = router.client();
    long.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
    main.wait_received(1, 1);
    assert_eq!(router.client().get("a", "/short").status, 200);
    wait_ended(&router, "sent", 1.0);
    assert!(kept.lock().unwrap()[0].line.starts_with("GET /short"));
    release.send(()).unwrap();
    assert_eq!(long.response().status, 200);
    wait_ended(&router, "sent", 2.0);
    assert_eq!(ended(&router, "busy"), 0.0);
}
