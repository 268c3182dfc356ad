//! What a refusal says, to the letter, in response, log and metric; what shadows say; connections afterwards.

use ekiden_tests::{Echo, Ekiden, Response, Served, Setup, until_true, web};

use super::{get, is_served, passed, serve};

const ROOT: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// The seconds behind `;t=`, and what stands before.
fn timed(response: &Response) -> (String, u64) {
    let text = response.get("ratelimit").unwrap();
    let (before, seconds) = text.split_once(";t=").unwrap_or_else(|| panic!("{text}"));
    (before.to_owned(), seconds.parse().unwrap())
}

#[test]
fn a_refusal_says_which_limit_and_when_to_come_back() {
    let echo = Echo::start("one");
    let router = serve(&echo, "name = \"orders\"\nlimit = [{ rate = \"2/h\", burst = 2 }]", "");
    let mut client = router.client();
    for _ in 0..2 {
        let response = client.ask(ROOT);
        assert_eq!(response.status, 200);
        for name in ["ratelimit", "ratelimit-policy", "retry-after"] {
            assert_eq!(response.get(name), None, "an admitted response says nothing unless told to");
        }
    }
    let response = client.ask(ROOT);
    assert_eq!((response.status, response.code()), (429, "rate_limited"));
    assert_eq!(response.all("ratelimit-policy"), ["\"route-limit-1\";q=2;w=3600"]);
    let (before, seconds) = timed(&response);
    assert_eq!(before, "\"route-limit-1\";r=0");
    assert!((1790..=1800).contains(&seconds), "{seconds}");
    assert_eq!(response.get("retry-after"), Some(&*seconds.to_string()));
    assert!(response.get("proxy-status").unwrap().contains("http_request_denied"), "{response:?}");
    assert_eq!(response.get("cache-control"), Some("no-store"));
    assert!(!response.says_close());
    let json = client.ask(get("/", "Accept: application/json\r\n")).json();
    assert_eq!(json["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(json["violated-policies"], serde_json::json!(["route-limit-1"]));
    assert_eq!(json["code"], "rate_limited");
    assert_eq!(echo.requests(), 2, "a refused request goes nowhere");
    let records = router.records(4);
    let said: Vec<_> =
        records.iter().map(|record| (record["code"].as_str(), record["limit"].as_str())).collect();
    assert_eq!(said[0], (Some("complete"), None));
    assert_eq!(said[3], (Some("rate_limited"), Some("route-limit-1")));
    assert_eq!((&records[3]["route"], &records[3]["status"]), (&"orders".into(), &429.into()));
    until_true("the outcomes", || router.metric("ekiden_outcomes_total", &["code=\"rate_limited\""]) == 2.0);
    let of = |name: &str, words: &[&str]| {
        let place = ["app=\"default\"", "route=\"orders\"", "limit=\"route-limit-1\"", "listener=\"\""];
        router.metric(name, &[&place[..], words].concat())
    };
    assert_eq!(of("ekiden_limit_requests_total", &["result=\"allowed\""]), 2.0);
    assert_eq!(of("ekiden_limit_requests_total", &["result=\"refused\""]), 2.0);
    assert_eq!(of("ekiden_limit_requests_total", &["result=\"shadow_refused\""]), 0.0);
    assert_eq!(of("ekiden_limit_keys", &[]), 1.0);
    assert_eq!(of("ekiden_limit_crowded_total", &[]), 0.0);
}

#[test]
fn fields_on_every_response_or_on_none() {
    let echo = Echo::start("one");
    let route = "path = \"/a\"\nlimit = [{ name = \"hourly\", rate = \"2/h\", burst = 3, headers = \"always\" }, \
         { rate = \"9/h\" }, { rate = \"1/h\", burst = 9, shadow = true, headers = \"always\" }]\n\
         [[route]]\npath = \"/quiet\"\ncluster = \"web\"\nlimit = [{ rate = \"1/h\", headers = \"never\" }]\n\
         [[route]]\npath = \"/fixed\"\nrespond = {}\n";
    let router = serve(
        &echo,
        route,
        "limit = [{ name = \"wide\", rate = \"36000/h\", burst = 100, headers = \"always\" }]",
    );
    let (mut client, request) = (router.client(), get("/a", ""));
    let response = client.ask(&request);
    assert_eq!(response.all("ratelimit-policy"), ["\"wide\";q=100;w=10, \"hourly\";q=3;w=5400"]);
    let text = response.get("ratelimit").unwrap();
    assert!(text.starts_with("\"wide\";r=99;t=1, \"hourly\";r=2;t=1"), "{text}");
    assert_eq!(response.get("retry-after"), None);
    // Answers of the router's own too, also without a route.
    for path in ["/fixed", "/none"] {
        let response = client.ask(get(path, ""));
        let text = response.get("ratelimit").unwrap();
        assert!(text.starts_with("\"wide\";r=9"), "{path}: {text}");
    }
    // A refusal names the limit that refused, and no other.
    assert_eq!(passed(&mut client, &request, 3), 2);
    let refused = client.ask(&request);
    assert_eq!(refused.all("ratelimit-policy"), ["\"hourly\";q=3;w=5400"]);
    // `never`: no fields, but Retry-After.
    let quiet = get("/quiet", "");
    assert!(is_served(&client.ask(&quiet)));
    let refused = client.ask(&quiet);
    assert_eq!(
        (refused.status, refused.get("ratelimit"), refused.get("ratelimit-policy")),
        (429, None, None)
    );
    assert!(refused.get("retry-after").is_some());
}

#[test]
fn the_fields_of_the_endpoint_stay_beside_ours() {
    let origin = ekiden_tests::Origin::start(|conn| {
        while conn.request().is_some() {
            conn.send(
                "HTTP/1.1 200 OK\r\nRateLimit-Policy: \"app\";q=7;w=60\r\nRateLimit: \"app\";r=3\r\nContent-Length: 0\r\n\r\n",
            );
        }
    });
    let route = "limit = [{ name = \"edge\", rate = \"3600/h\", burst = 5, headers = \"always\" }]";
    let router = Ekiden::start(Setup::new(web(&[origin.address], "", route)));
    let response = router.get("/");
    assert_eq!(response.all("ratelimit-policy"), ["\"app\";q=7;w=60", "\"edge\";q=5;w=5"]);
    assert_eq!(response.all("ratelimit"), ["\"app\";r=3", "\"edge\";r=4;t=1"]);
}

#[test]
fn a_shadow_counts_and_logs_and_lets_pass() {
    let echo = Echo::start("one");
    let router = serve(&echo, "limit = [{ name = \"tried\", rate = \"1/h\", shadow = true }]", "");
    let mut client = router.client();
    for _ in 0..3 {
        let response = client.ask(ROOT);
        assert_eq!((response.status, response.get("ratelimit")), (200, None));
    }
    let records = router.records(3);
    let said: Vec<_> =
        records.iter().map(|record| (record["code"].as_str(), record["limit"].as_str())).collect();
    assert_eq!(
        said,
        [(Some("complete"), None), (Some("complete"), Some("tried")), (Some("complete"), Some("tried"))]
    );
    let count = |result: &str| router.metric("ekiden_limit_requests_total", &["limit=\"tried\"", result]);
    assert_eq!((count("\"allowed\""), count("\"refused\""), count("\"shadow_refused\"")), (1.0, 0.0, 2.0));
}

#[test]
fn connections_after_a_refusal() {
    let echo = Echo::start("one");
    let router = serve(
        &echo,
        "limit = [{ rate = \"1/h\", burst = 1, key = \"path:1\" }]\nrequest_headers = { remove = [\"x\"] }",
        "",
    );
    let mut client = router.client();
    let head = "HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(client.ask(head).status, 200);
    // The same connection goes on, whatever the method, as long as no body is left over.
    for _ in 0..2 {
        let refused = client.ask(head);
        assert_eq!((refused.status, refused.body.len()), (429, 0));
        assert!(refused.get("content-length").is_some_and(|length| length != "0"));
        assert_eq!(client.ask("DELETE /head HTTP/1.1\r\nHost: a\r\n\r\n").status, 429);
    }
    assert_eq!(client.ask("OPTIONS /head HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status, 429);
    assert!(is_served(&client.ask(get("/other", ""))));
    // Pipelined: each has its own answer, in order.
    client.send([&get("/p", "")[..], &get("/p", ""), &get("/q", "")].concat());
    let statuses: Vec<u16> = (0..3).map(|_| client.response().status).collect();
    assert_eq!(statuses, [200, 429, 200]);
    // A body that nobody reads ends the connection, after an answer that can be read, and is not asked for.
    for (fields, body) in [
        ("Content-Length: 100000\r\n", "x".repeat(100_000)),
        ("Content-Length: 5\r\nExpect: 100-continue\r\n", String::new()),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n".to_owned()),
    ] {
        let mut client = router.client();
        let response = client.ask(format!("POST /p HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}"));
        assert_eq!((response.status, response.says_close()), (429, true), "{fields}");
        client.finish();
        assert!(client.rest().is_empty());
        assert!(!client.was_reset(), "{fields}");
    }
    assert_eq!(router.metric("ekiden_requests_in_flight", &[]), 0.0);
}

#[test]
fn the_log_of_heroku_names_the_limit_too() {
    let echo = Echo::start("one");
    let setup = Setup::new(web(&[echo.address], "", "limit = [{ name = \"few\", rate = \"1/h\" }]"));
    let router = Ekiden::start(setup.log_format("logfmt"));
    assert_eq!((router.get("/").status, router.get("/").status), (200, 429));
    let lines = router.log_lines(2);
    assert!(!lines[0].contains("limit="), "{}", lines[0]);
    assert!(lines[1].ends_with(" error=rate_limited limit=few"), "{}", lines[1]);
}
