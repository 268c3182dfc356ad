//! Faults that routes are told to make: what a client gets, what an endpoint hears of it, and that nothing happens elsewhere.

use std::time::{Duration, Instant};

use ekiden_tests::{Echo, Ekiden, Served, Setup, http2};

/// Two routes to one echo: `/bad` with these faults, and the rest.
fn serve(faults: &str, listener: &str) -> (Echo, Ekiden) {
    let echo = Echo::start("echo");
    let text = format!(
        "[cluster.web]\nendpoints = [\"{}\"]\n[[route]]\nname = \"bad\"\npath = \"/bad\"\ncluster = \"web\"\nfaults = {{ {faults} }}\n\
         [[route]]\nname = \"fixed\"\npath = \"/fixed\"\nrespond = {{ body = \"fixed\" }}\nfaults = {{ {faults} }}\n\
         [[route]]\nname = \"good\"\ncluster = \"web\"\n",
        echo.address
    );
    let router = Ekiden::start(Setup::new(text).listener(listener));
    (echo, router)
}

#[test]
fn an_abort_has_its_status_and_code_and_reaches_no_endpoint() {
    let (echo, router) = serve("abort = { percent = 100, status = 429 }", "h2c = true");
    let mut client = router.client();
    for path in ["/bad", "/bad/x", "/fixed"] {
        let answer = client.get("a", path);
        assert_eq!((answer.status, answer.code()), (429, "fault_injected"), "{path}: {answer:?}");
    }
    // A body that was on its way is no next request.
    let posted = router.client().ask("POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!((posted.status, posted.code()), (429, "fault_injected"));
    let reply = http2::talk(router.address(), async |sender| {
        http2::ask(&sender, http2::get_of("a", "/bad")).await.unwrap()
    });
    assert_eq!((reply.status, reply.code()), (429, "fault_injected"));
    assert_eq!(echo.requests(), 0, "an endpoint heard of it");
    assert_eq!(client.get("a", "/").status, 200, "another route on the same connection");
    let count = |words: &[&str]| router.metric("ekiden_route_faults_total", words);
    assert_eq!((count(&["\"bad\"", "abort"]), count(&["\"fixed\"", "abort"])), (4.0, 1.0));
    assert_eq!(count(&["delay"]), 0.0);
    assert!(!router.metrics().contains("ekiden_route_faults_total{app=\"default\",route=\"good\""));
    // Counted once the answer has been written.
    ekiden_tests::until_true("the outcomes to be counted", || {
        router.metric("ekiden_outcomes_total", &["\"fault_injected\""]) == 5.0
    });
    // What is shown of it.
    let told = router.control("GET", "/v1/explain?url=/bad", "").json();
    assert_eq!(told["policies"]["faults"]["abort"]["status"], 429, "{told}");
}

#[test]
fn a_delay_holds_back_and_then_serves() {
    let (echo, router) = serve("delay = { percent = 100, time = \"300ms\" }", "");
    let mut client = router.client();
    for path in ["/bad", "/fixed"] {
        let began = Instant::now();
        assert_eq!(client.get("a", path).status, 200);
        assert!(began.elapsed() >= Duration::from_millis(250), "{path} came after {:?}", began.elapsed());
    }
    let body = "POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(client.ask(body).status, 200, "a body waits with its request");
    assert_eq!(echo.requests(), 2);
    assert_eq!(router.metric("ekiden_route_faults_total", &["delay"]), 3.0);
}

#[test]
fn a_client_that_leaves_while_it_is_held_back_reaches_no_endpoint() {
    let (echo, router) = serve("delay = { percent = 100, time = \"60s\" }", "");
    let mut client = router.client();
    client.send("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n");
    ekiden_tests::until_true("the request to be held back", || {
        router.metric("ekiden_route_faults_total", &["delay"]) == 1.0
    });
    client.reset();
    ekiden_tests::until_true("the request to end", || {
        router.metric("ekiden_outcomes_total", &["\"client_gone\""]) == 1.0
    });
    assert_eq!(echo.requests(), 0);
}

#[test]
fn a_share_of_the_requests_only() {
    let (echo, router) = serve("abort = { percent = 50 }", "");
    let mut client = router.client();
    let failed = (0..400).filter(|_| client.get("a", "/bad").status == 503).count();
    // Six times the deviation of such a draw to either side.
    assert!((140..260).contains(&failed), "{failed} of 400");
    assert_eq!(echo.requests(), 400 - failed as u64);
}

/// A route's deadline holds while a request is held back: its client does not wait for the rest.
#[test]
fn a_delay_ends_with_the_time_of_the_request() {
    let echo = Echo::start("echo");
    let route = |name: &str, timeout: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\npath = \"/{name}\"\ncluster = \"web\"\ntimeout = {{ {timeout} }}\n\
             faults = {{ delay = {{ percent = 100, time = \"60s\" }} }}\n"
        )
    };
    let text = format!(
        "[cluster.web]\nendpoints = [\"{}\"]\n{}{}",
        echo.address,
        route("total", "total = \"200ms\""),
        route("told", "deadline = true")
    );
    let router = Ekiden::start(Setup::new(text));
    let total = router.client().get("a", "/total");
    assert_eq!((total.status, total.code()), (504, "total_timeout"), "{total:?}");
    let told = router.client().ask("GET /told HTTP/1.1\r\nHost: a\r\nX-Request-Deadline: 200\r\n\r\n");
    assert_eq!((told.status, told.code()), (504, "deadline_exceeded"), "{told:?}");
    assert_eq!(echo.requests(), 0);
}

/// Clients that are tested with it meet what production sends.
#[test]
fn an_abort_looks_like_any_other_refusal() {
    let (_echo, router) = serve("abort = { percent = 100, status = 503 }", "");
    let ask = |accept: &str| {
        router.client().ask(format!("GET /bad HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n"))
    };
    let problem = ask("application/json");
    assert_eq!((problem.status, problem.get("content-type")), (503, Some("application/problem+json")));
    let id = problem.get("x-request-id").unwrap().to_owned();
    let words = problem.json();
    assert_eq!(
        (&words["code"], &words["request_id"]),
        (&"fault_injected".into(), &id.as_str().into()),
        "{words}"
    );
    assert_eq!((&words["status"], &words["title"]), (&503.into(), &"Service Unavailable".into()), "{words}");
    assert_eq!(ask("text/html").get("content-type"), Some("text/html; charset=utf-8"));
}
