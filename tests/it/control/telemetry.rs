//! Metrics, readiness and access log of real requests: what dashboards, alerts and log searches are built on.

use std::collections::{BTreeMap, BTreeSet};

use ekiden_tests::{Client, Ekiden, Served, Setup, Stamped, until_true, web};

fn served() -> (Stamped, Ekiden) {
    let origin = Stamped::start("hello");
    let setup = Setup::new(web(&[origin.address], "", "name = \"front\"\npath = \"/app\"")).workers(2);
    (origin, Ekiden::start(setup))
}

#[test]
fn metrics_count_what_happened() {
    let (origin, router) = served();
    let mut client = router.client();
    for _ in 0..3 {
        assert_eq!(client.get("a", "/app/x").status, 200);
    }
    assert_eq!(client.ask("POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").status, 200);
    assert_eq!(client.get("a", "/none").status, 404);
    let route = ["app=\"default\"", "route=\"front\""];
    let cluster = ["app=\"default\"", "cluster=\"web\""];
    let is = |name: &str, words: &[&str], wanted: f64| {
        until_true(&format!("{name} {words:?} to be {wanted}; it is {}", router.metric(name, words)), || {
            (router.metric(name, words) - wanted).abs() < 1e-9
        });
    };
    is("ekiden_requests_total", &[route[0], route[1], "status=\"2xx\""], 4.0);
    is("ekiden_requests_total", &[route[0], route[1], "status=\"5xx\""], 0.0);
    is("ekiden_request_duration_seconds_count", &route, 4.0);
    is("ekiden_requests_in_flight", &route, 0.0);
    is("ekiden_outcomes_total", &["code=\"complete\""], 4.0);
    is("ekiden_outcomes_total", &["code=\"no_route\""], 1.0);
    is("ekiden_cluster_requests_total", &[cluster[0], cluster[1], "status=\"2xx\""], 4.0);
    is("ekiden_cluster_attempts_total", &cluster, 4.0);
    is("ekiden_cluster_retries_total", &cluster, 0.0);
    is("ekiden_cluster_connects_total", &[cluster[0], cluster[1], "result=\"ok\""], 1.0);
    is("ekiden_cluster_pool_reused_total", &cluster, 3.0);
    is("ekiden_cluster_endpoints_ready", &cluster, 1.0);
    is("ekiden_endpoint_ready", &[&origin.address.to_string()], 1.0);
    is("ekiden_endpoint_in_flight", &[&origin.address.to_string()], 0.0);
    is("ekiden_table_generation", &[], 1.0);
    is("ekiden_table_stale", &[], 0.0);
    is("ekiden_table_pending_workers", &[], 0.0);
    is("ekiden_log_dropped_total", &[], 0.0);
    is("ekiden_panics_total", &[], 0.0);
    is("ekiden_connections_accepted_total", &[], 1.0);
    is("ekiden_connections", &["state=\"open\""], 1.0);
    is("ekiden_build_info", &["version="], 1.0);
    assert!(router.metric("ekiden_table_age_seconds", &[]) < 60.0);
    assert!(router.metric("ekiden_table_apply_last_seconds", &[]) > 0.0);
    let bytes = router.metric("ekiden_response_bytes_total", &route);
    assert!(bytes >= 4.0 * 5.0, "bytes to clients are not counted: {bytes}");
    assert!(router.metric("ekiden_request_bytes_total", &route) >= 5.0);
    assert!(router.metric("process_open_fds", &[]) > 0.0);
    drop(client);
    is("ekiden_connections", &["state=\"open\""], 0.0);
}

/// What `promtool check metrics` would say, as far as it needs no promtool.
#[test]
fn metrics_follow_the_rules_of_prometheus() {
    let (_origin, router) = served();
    assert_eq!(router.get("/app").status, 200);
    let response = Client::connect(router.telemetry).get("localhost", "/metrics");
    assert!(
        response.get("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")),
        "{response:?}"
    );
    let text = response.text();
    let (mut kinds, mut helped, mut seen) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(kinds.insert(name, kind).is_none(), "{name} has two types");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# HELP ") {
            helped.insert(rest.split(' ').next().unwrap());
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        assert!(value.parse::<f64>().is_ok(), "no number: {line}");
        assert!(seen.insert(series), "{series} is there twice: a scrape fails");
        let name = series.split('{').next().unwrap();
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let family = base.filter(|base| kinds.get(base) == Some(&"histogram")).unwrap_or(name);
        assert!(
            kinds.contains_key(family) && helped.contains(family),
            "{name} has no TYPE and HELP before it"
        );
        assert!(name.starts_with("ekiden_") || name.starts_with("process_"), "{name}");
    }
    let count = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    assert!(count("ekiden_request_duration_seconds_bucket") >= 10, "no latency to draw");
}

#[test]
fn readiness_is_that_of_the_workers_and_of_first_checks() {
    let healthy = Stamped::start("ok").check_takes(std::time::Duration::from_millis(400));
    let probe = "probe = { path = \"/healthz\", interval = \"100ms\", timeout = \"2s\", fall = 2, rise = 1 }";
    let router = Ekiden::spawn(
        Setup::new(web(&[healthy.address], probe, "")).workers(2),
        ekiden_tests::Run::default(),
    );
    until_true("telemetry", || router.readyz().0 != 0);
    assert_eq!(healthy.checks(), 0, "too late to see the start");
    let (status, said) = router.readyz();
    assert_eq!(status, 503, "a balancer sends traffic before a first check has passed: {said}");
    assert!(said.contains("default/web"), "what it waits for is not said: {said}");
    until_true("readiness", || router.readyz().0 == 200);
    assert!(healthy.checks() >= 1);
    let ask = |path: &str| Client::connect(router.telemetry).get("localhost", path);
    let verbose = ask("/readyz?verbose").text();
    for check in
        ["[+] workers: 2 running", "[+] table: generation 1", "[+] listeners: accepting", "[+] draining"]
    {
        assert!(verbose.contains(check), "{check} is not in {verbose}");
    }
    assert_eq!((ask("/livez").status, ask("/nothing").status), (200, 404));

    // Sick endpoints are the cluster's matter, not the process's: it stays ready and says 503 itself.
    let (id, since) = (
        healthy.address.to_string(),
        router.table()["apps"][0]["clusters"][0]["endpoints"][0]["since_unix_ms"].as_u64(),
    );
    healthy.set_sick(true);
    until_true("the endpoint to be set aside", || router.metric("ekiden_endpoint_ready", &[&id]) == 0.0);
    let refused = router.get("/");
    assert_eq!((refused.status, refused.code()), (503, "none_ready"));
    assert!(refused.get("retry-after").is_some());
    assert_eq!(router.readyz().0, 200, "one sick app takes the router out of its balancer");
    let seen = router.table()["apps"][0]["clusters"][0]["endpoints"][0].clone();
    assert_eq!(seen["state"], "failing", "{seen}");
    assert!(seen["reason"].as_str().is_some_and(|reason| reason.contains("503")), "why is not said: {seen}");
    assert!(seen["since_unix_ms"].as_u64() > since, "since when is not said: {seen}");
    healthy.set_sick(false);
    until_true("the endpoint to be back", || router.get("/").status == 200);
}

#[test]
fn the_json_log_tells_all_of_a_request() {
    let (origin, router) = served();
    let id = "0123456789abcdef-ABCDEF";
    let mut client = router.client();
    let local = client.socket().local_addr().unwrap().to_string();
    let request = format!(
        "GET /app/x?q=%22\\ HTTP/1.1\r\nHost: Example.com:80\r\nX-Request-Id: {id}\r\nUser-Agent: t\"est\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
    );
    let served = client.ask(&request);
    assert_eq!(served.status, 200);
    let refused = router.client().get("a", "/none");
    assert_eq!(refused.status, 404);
    let records = router.records(2);
    // Two workers, so in either order.
    let of = |path: &str| {
        records.iter().find(|record| record["path"].as_str().is_some_and(|p| p.starts_with(path))).unwrap()
    };
    let line = of("/app");
    for (key, wanted) in [
        ("at", "info"),
        ("code", "complete"),
        ("phase", "relay"),
        ("method", "GET"),
        ("path", "/app/x?q=%22\\"),
        ("host", "example.com"),
        ("request_id", id),
        ("fwd", "127.0.0.1"),
        ("client", &*local),
        ("listener", "edge"),
        ("app", "default"),
        ("route", "front"),
        ("cluster", "web"),
        ("dyno", &*origin.address.to_string()),
        ("protocol", "http1.1"),
        ("user_agent", "t\"est"),
    ] {
        assert_eq!(line[key], wanted, "{key} of {line}");
    }
    assert_eq!(
        (&line["status"], &line["attempts"], &line["generation"], &line["tls"]),
        (&200.into(), &1.into(), &1.into(), &false.into())
    );
    let number = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("no {key} in {line}"));
    assert!(
        number("total_ms") >= number("service_ms") && number("service_ms") >= number("first_byte_ms"),
        "{line}"
    );
    assert!(number("bytes") >= 5.0 && number("bytes_in") >= 30.0 && number("connect_ms") >= 0.0, "{line}");
    let ts = line["ts"].as_str().unwrap();
    assert!(ts.len() == 24 && ts.ends_with('Z') && ts.as_bytes()[4] == b'-', "no RFC 3339 time: {ts}");

    let line = of("/none");
    assert_eq!(
        (&line["code"], &line["status"], &line["dyno"]),
        (&"no_route".into(), &404.into(), &"".into()),
        "{line}"
    );
    assert_eq!(
        line["request_id"].as_str(),
        refused.get("x-request-id"),
        "a user's complaint cannot be found in the log"
    );
}

#[test]
fn the_logfmt_log_is_read_by_what_reads_herokus() {
    let origin = Stamped::start("hello");
    let refusing = ekiden_tests::free_port();
    let text = web(&[origin.address], "", "path = \"/app\"")
        + &ekiden_tests::cluster("dead", &[([127, 0, 0, 1], refusing).into()], "")
        + "[[route]]\npath = \"/dead\"\ncluster = \"dead\"\n";
    let router = Ekiden::start(Setup::new(text).log_format("logfmt"));
    let id = "0123456789abcdef-ABCDEF";
    router.ask(&format!("GET /app?a=b HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: {id}\r\n\r\n"));
    assert_eq!(router.get("/dead").code(), "connect_refused");
    let lines = router.log_lines(2);
    let keys = |line: &str| -> Vec<String> {
        let mut quoted = false;
        let pairs = line.split(|c| {
            quoted ^= c == '"';
            c == ' ' && !quoted
        });
        pairs.map(|pair| pair.split('=').next().unwrap().to_owned()).collect()
    };
    let dyno = origin.address;
    let plain = [
        "at",
        "method",
        "path",
        "host",
        "request_id",
        "fwd",
        "dyno",
        "connect",
        "service",
        "status",
        "bytes",
        "protocol",
    ];
    assert_eq!(keys(&lines[0]), plain, "{}", lines[0]);
    let start = format!(
        "at=info method=GET path=\"/app?a=b\" host=a.test request_id={id} fwd=\"127.0.0.1\" dyno={dyno} connect="
    );
    assert!(lines[0].starts_with(&start), "{}", lines[0]);
    assert!(lines[0].contains("ms service=") && lines[0].contains(" status=200 bytes="), "{}", lines[0]);
    assert!(lines[0].ends_with(" protocol=http1.1"), "{}", lines[0]);
    let failed = keys(&lines[1]);
    assert_eq!(
        (failed[1].as_str(), failed[2].as_str(), failed.last().unwrap().as_str()),
        ("code", "desc", "error"),
        "{}",
        lines[1]
    );
    assert!(lines[1].starts_with("at=error code=H21 desc=\"Backend connection refused\" "), "{}", lines[1]);
    assert!(
        lines[1].contains(" status=503 ") && lines[1].ends_with(" error=connect_refused"),
        "{}",
        lines[1]
    );
}
