//! The hold of an app: its requests wait, in order and bounded, and nothing fails while what serves them is exchanged.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use ekiden_tests::{
    Client, Conn, Ekiden, Load, Origin, Refused, Run, Served, Setup, Stamped, binary, finished, free_port,
    until_true, web,
};

use serde_json::json;

use super::problem;

const PATH: &str = "/v1/apps/default/hold";

fn held(router: &Ekiden) -> usize {
    router.metric("ekiden_app_held_requests", &["app=\"default\""]) as usize
}

/// Waits until so many requests wait.
fn wait_held(router: &Ekiden, count: usize) {
    until_true(&format!("{count} requests to wait"), || held(router) == count);
}

fn hold(router: &Ekiden, words: &[&str]) -> String {
    let control = router.control.to_string();
    let output = finished(Command::new(binary()).arg("hold").args(words).args(["--control", &control]));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn requests_wait_and_go_on_in_the_order_in_which_they_came() {
    const COUNT: usize = 12;
    let order: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&order);
    let origin = Origin::start(move |conn: &mut Conn| {
        while let Some(request) = conn.request() {
            seen.lock().unwrap().push(request.target().to_owned());
            conn.answer(&request, "served");
        }
    });
    // One at a time at the endpoint, and one worker: what goes on first arrives first.
    let setup = Setup::new(web(&[origin.address], "slots = 1", "")).workers(1);
    let router = Ekiden::start(setup);
    assert_eq!(
        hold(&router, &["default", "on", "--wait", "10m"]),
        "default is held: 10000 requests wait at most, 600000 ms each\n"
    );
    let explained = router.control("GET", "/v1/explain?url=/", "").json();
    assert_eq!(explained["policies"]["hold"]["wait_ms"], 600_000, "{explained}");

    let mut clients: Vec<Client> = Vec::new();
    for number in 0..COUNT {
        let mut client = router.client();
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
        clients.push(client);
        wait_held(&router, number + 1);
    }
    // One in the middle goes away: its place is given up, and nobody asks the origin for it.
    clients.remove(5).reset();
    wait_held(&router, COUNT - 1);
    assert!(order.lock().unwrap().is_empty(), "a held request reaches the endpoint");

    assert_eq!(hold(&router, &["off"]), "default goes on\n");
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    let wanted: Vec<String> =
        (0..COUNT).filter(|number| *number != 5).map(|number| format!("/{number}")).collect();
    assert_eq!(*order.lock().unwrap(), wanted);
    let ended =
        |end: &str| router.metric("ekiden_app_holds_total", &["app=\"default\"", &format!("end=\"{end}\"")]);
    assert_eq!((ended("released") as usize, ended("left") as usize, held(&router)), (COUNT - 1, 1, 0));
    assert_eq!(router.get("/after").status, 200);
}

#[test]
fn nothing_fails_while_everything_that_serves_is_exchanged() {
    const CLIENTS: usize = 8;
    let origins = [Stamped::start("old"), Stamped::start("new")];
    let text = "[cluster.web]\nendpoints = []\n[[route]]\ncluster = \"web\"\n";
    let router = Ekiden::start(Setup::new(text.to_owned()).workers(2));
    let push = |origin: Option<&Stamped>| {
        let all: Vec<_> =
            origin.iter().map(|one| json!({ "id": "one", "address": one.address.to_string() })).collect();
        let body = json!({ "placements": all }).to_string();
        let answer = router.control("PUT", "/v1/apps/default/clusters/web/placements", &body);
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    push(Some(&origins[0]));
    let load = Load::start(router.address(), CLIENTS, &["GET / HTTP/1.1\r\nHost: a\r\n\r\n"], Refused::Fails);
    load.serve_more(100);
    for turn in 1..=4 {
        assert_eq!(router.control("PUT", PATH, "{\"wait_ms\": 600000}").status, 200);
        // Every client waits: nothing is in flight.
        wait_held(&router, CLIENTS);
        let served = origins.iter().map(Stamped::requests).sum::<usize>();
        // For a while nothing serves at all.
        push(None);
        push(Some(&origins[turn % 2]));
        assert_eq!(origins.iter().map(Stamped::requests).sum::<usize>(), served, "a held request is sent");
        assert_eq!(router.control("DELETE", PATH, "").status, 200);
        load.serve_more(100);
    }
    let tally = load.stop();
    assert!(tally.failed.is_empty(), "{:?}", tally.failed);
    assert_eq!(router.get("/").text(), "old");
}

#[test]
fn a_hold_outlives_restarts_and_reloads_and_ends_with_its_app() {
    let (_origin, router) = super::one();
    assert_eq!(router.control("PUT", PATH, "{\"max\": 1, \"wait_ms\": 600000}").status, 200);
    assert_eq!(router.control("POST", "/v1/reload", "").status, 200);
    let router = Ekiden::start_with(router.kill(), Run { keep_file: true, ..Run::default() });
    let on = router.control("GET", PATH, "").json();
    assert_eq!((on["on"].as_bool(), on["max"].as_u64()), (Some(true), Some(1)), "{on}");
    let mut waits = router.client();
    waits.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_held(&router, 1);
    let full = router.get("/");
    assert_eq!((full.status, full.code(), full.get("retry-after")), (503, "hold_full", Some("5")));
    // Other bounds, without letting go.
    assert_eq!(router.control("PUT", PATH, "{\"max\": 2, \"wait_ms\": 1}").status, 200);
    let late = router.get("/");
    assert_eq!((late.status, late.code()), (503, "hold_timeout"));
    assert_eq!(router.control("DELETE", PATH, "").status, 200);
    assert_eq!(waits.response().text(), "file");
    assert_eq!(router.control("DELETE", PATH, "").status, 200, "it is off, as asked");

    let bad = |body: &str| problem(&router.control("PUT", PATH, body));
    for body in ["{\"max\": 0}", "{\"max\": \"9\"}", "{\"wait_ms\": 3600001}", "{\"time\": 1}"] {
        assert_eq!(bad(body).0, 422, "{body}");
    }
    assert_eq!(
        problem(&router.control("PUT", "/v1/apps/nobody/hold", "{}")),
        (404, "unknown_app".to_owned())
    );

    // An app of the API that is deleted lets go what waits, and leaves nothing to the next of its name.
    let shop = Stamped::start("shop");
    let spec = format!(
        "{{\"spec\": {{\"cluster\": {{\"web\": {{\"endpoints\": [\"{}\"]}}}}, \"route\": [{{\"host\": \"shop\", \"cluster\": \"web\"}}]}}}}",
        shop.address
    );
    assert_eq!(router.control("PUT", "/v1/apps/shop", &spec).status, 201);
    assert_eq!(router.control("PUT", "/v1/apps/shop/hold", "{}").status, 200);
    let mut waits = router.client();
    waits.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
    until_true("it to wait", || router.metric("ekiden_app_held_requests", &["app=\"shop\""]) as usize == 1);
    assert_eq!(router.get("/").text(), "file", "another app waits too");
    assert_eq!(router.control("DELETE", "/v1/apps/shop", "").status, 200);
    assert_eq!(waits.response().status, 503);
    assert_eq!(router.control("PUT", "/v1/apps/shop", &spec).status, 201);
    assert_eq!(router.client().get("shop", "/").text(), "shop");
}

#[test]
fn maintenance_comes_before_a_hold_and_connections_without_http_wait_too() {
    let echo = Origin::start(|conn: &mut Conn| {
        while let Some(byte) = conn.exactly(1) {
            if !conn.send(byte) {
                return;
            }
        }
    });
    let raw = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let text = format!("[listener.raw]\naddress = \"{raw}\"\nprotocol = \"tcp\"\n")
        + &web(&[echo.address], "", "listeners = [\"edge\"]")
        + "[[route]]\nlisteners = [\"raw\"]\ncluster = \"web\"\n";
    let router = Ekiden::start(Setup::new(text));
    assert_eq!(router.control("PUT", PATH, "{\"wait_ms\": 600000}").status, 200);
    let waiting = thread::spawn(move || {
        let mut client = Client::connect(raw);
        client.send("hello");
        client.exactly(5)
    });
    wait_held(&router, 1);
    let mut client = router.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_held(&router, 2);
    assert_eq!(router.control("PUT", "/v1/apps/default/maintenance", "{}").status, 200);
    assert_eq!(router.get("/").code(), "maintenance");
    // Whoever waited is not let through to the app that is closed.
    assert_eq!(client.response().code(), "maintenance");
    assert!(waiting.join().unwrap().is_err());
}
