//! Bursts and rates over time; several limits, all of which must pass.

use std::time::{Duration, Instant};

use ekiden_tests::{Echo, Ekiden, Served, Setup, web};

use super::{get, is_served, passed, serve};

#[test]
fn a_burst_passes_at_once_and_the_rate_is_held() {
    const RATE: f64 = 200.0;
    let echo = Echo::start("one");
    let router = serve(&echo, "limit = [{ rate = \"200/s\", burst = 10, key = \"client\" }]", "");
    let mut client = router.client();
    let (began, request, mut served) = (Instant::now(), get("/", ""), 0);
    while began.elapsed() < Duration::from_millis(1_500) {
        served += usize::from(is_served(&client.ask(&request)));
        // However slowly the machine runs, no more than this can have passed by now.
        let most = 10.0 + RATE * began.elapsed().as_secs_f64() + 1.0;
        assert!(served as f64 <= most, "{served} served, {most} allowed");
    }
    assert!(served > 150, "{served} were served in 1.5 s");
}

#[test]
fn a_client_that_waits_as_told_is_served() {
    let echo = Echo::start("one");
    let router = serve(&echo, "limit = [{ rate = \"2/s\", burst = 1 }]", "");
    let (mut client, request) = (router.client(), get("/", ""));
    assert!(is_served(&client.ask(&request)));
    let refused_at = Instant::now();
    let refused = client.ask(&request);
    assert_eq!((refused.status, refused.get("retry-after")), (429, Some("1")));
    // Half a second each: until it passes again, and not before.
    ekiden_tests::until_true("the next request to pass", || is_served(&client.ask(&request)));
    assert!(refused_at.elapsed() > Duration::from_millis(400), "{:?}", refused_at.elapsed());
}

#[test]
fn all_limits_of_listener_app_and_route_must_pass() {
    let echo = Echo::start("one");
    let route = "path = \"/a\"\nlimit = [{ name = \"route\", rate = \"2/h\" }]\n\
                 [[route]]\npath = \"/b\"\ncluster = \"web\"\n\
                 [[route]]\npath = \"/c\"\ncluster = \"web\"\ndeny = { clients = [\"127.0.0.0/8\"] }\n";
    let setup = Setup::new(web(&[echo.address], "", route))
        .top("limit = [{ name = \"app\", rate = \"4/h\" }]")
        .listener("limit = [{ name = \"listener\", rate = \"8/h\" }]");
    let router = Ekiden::start(setup);
    let mut client = router.client();
    let mut ask = |path: &str| {
        let response = client.ask(get(path, ""));
        let limit = response.get("ratelimit-policy").map(|text| text.split(';').next().unwrap().to_owned());
        (response.status, limit.unwrap_or_default())
    };
    let refused = |name: &str| (429, format!("\"{name}\""));
    let other = |status: u16| (status, String::new());
    assert_eq!([ask("/a"), ask("/a")], [other(200), other(200)]);
    // The route is at its bound. What it refuses takes nothing from app and listener.
    for _ in 0..20 {
        assert_eq!(ask("/a"), refused("route"));
    }
    assert_eq!([ask("/b"), ask("/b")], [other(200), other(200)]);
    // The app is at its bound, for all of its routes.
    for _ in 0..20 {
        assert_eq!(ask("/b"), refused("app"));
        assert_eq!(ask("/a"), refused("app"));
    }
    // Four of eight are left to the listener. What is denied, or matches nothing, has arrived there all the same.
    assert_eq!(
        [ask("/c"), ask("/none"), ask("/c"), ask("/none")],
        [other(403), other(404), other(403), other(404)]
    );
    assert_eq!(
        [ask("/none"), ask("/c"), ask("/b")],
        [refused("listener"), refused("listener"), refused("listener")]
    );
    assert_eq!(echo.requests(), 4);
}

#[test]
fn what_is_refused_for_another_reason_takes_nothing_from_a_route() {
    let echo = Echo::start("one");
    let route = "limit = [{ rate = \"2/h\" }]\nbody_limit = 3\nallow = { methods = [\"GET\", \"POST\"] }";
    let router = serve(&echo, route, "");
    for _ in 0..5 {
        assert_eq!(router.ask("PUT / HTTP/1.1\r\nHost: a\r\n\r\n").status, 405);
        assert_eq!(router.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").status, 413);
    }
    assert_eq!(passed(&mut router.client(), &get("/", ""), 5), 2);
}

#[test]
fn redirects_and_fixed_responses_are_counted() {
    let echo = Echo::start("one");
    let route = "limit = [{ rate = \"1/h\" }]\n[[route]]\npath = \"/fixed\"\nrespond = {}\nlimit = [{ rate = \"1/h\" }]\n\
                 [[route]]\npath = \"/moved\"\nredirect = { path = \"/\" }\nlimit = [{ rate = \"1/h\" }]\n";
    let router = serve(&echo, route, "");
    for (path, first) in [("/fixed", 200), ("/moved", 308)] {
        assert_eq!((router.get(path).status, router.get(path).status), (first, 429), "{path}");
    }
}
