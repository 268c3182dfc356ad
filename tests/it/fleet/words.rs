//! What is said of apps beside their documents travels too: maintenance, holds, and whose traffic is to be told for guarded changes.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use ekiden_tests::{Background, Client, Conn, Origin, Stamped, binary, finished, free_port, until};
use serde_json::{Value, json};

use super::{Cable, ControlHome, Node, RouterHome, app, connected, local, wait_router};

const HOST: &str = "shop.example";
/// More than is needed to judge errors.
const MANY: usize = 120;

/// A control with the app `shop` and two routers that have it.
fn fleet(endpoint: SocketAddr) -> (ControlHome, Node, [(RouterHome, Node); 2]) {
    let home = ControlHome::new();
    home.app("shop", &app(HOST, endpoint, ""));
    let control = home.start();
    let routers = ["a", "b"].map(|name| {
        let edge = RouterHome::new(name);
        let node = edge.start(&home.url());
        connected(&control, name);
        (edge, node)
    });
    (home, control, routers)
}

/// What a command of the CLI says to this control, which has to end well.
fn said(control: &Node, words: &[&str]) -> String {
    let output = finished(Command::new(binary()).args(words).args(["--control", &control.api.to_string()]));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asks until every router has it, which takes as long as the machine is slow. The last answer.
fn settled(control: &Node, method: &str, path: &str, body: &str) -> Value {
    until(&format!("{method} {path}"), || {
        let answer = control.ask(method, path, body);
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        (answer.status == 200).then(|| answer.json())
    })
}

/// Requests of `shop` that wait in a router.
fn held(router: &Node) -> usize {
    let text = Client::connect(router.telemetry).get("localhost", "/metrics").text();
    let line = text.lines().find(|line| line.starts_with("ekiden_app_held_requests{app=\"shop\"}"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

fn wait_held(router: &Node, count: usize) {
    until(&format!("{count} requests to wait"), || (held(router) == count).then_some(()));
}

/// A request that is sent, and whose answer is read later.
fn sent(edge: &RouterHome, path: &str) -> Client {
    let mut client = Client::connect(edge.listener);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    client
}

#[test]
fn maintenance_reaches_every_router_and_stays_with_it() {
    let origin = Stamped::start("served");
    let (home, control, routers) = fleet(origin.address);
    let page = "<!doctype html><title>Back soon</title>";
    let file = home.dir.path().join("page.html");
    fs::write(&file, page).unwrap();
    settled(&control, "PUT", "/v1/apps/shop/maintenance", &json!({ "page": page }).to_string());
    let words = ["maintenance", "on", "shop", "--page", file.to_str().unwrap()];
    assert_eq!(said(&control, &words), "shop is in maintenance\n");
    // Acknowledged means in force, everywhere.
    for (edge, node) in &routers {
        let answer = Client::connect(edge.listener)
            .ask(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/html\r\n\r\n"));
        assert_eq!((answer.status, answer.code(), answer.text().as_str()), (503, "maintenance", page));
        // A router says what it was told.
        let view = node.get("/v1/apps/shop/maintenance");
        assert_eq!((&view["on"], &view["page"]), (&json!(true), &json!(page)), "{view}");
    }
    let answer = settled(&control, "PUT", "/v1/apps/shop/maintenance", "{}");
    assert_eq!(answer["routers"], json!({ "have": 2, "of": 2, "refused": [], "wait_ms": 1500 }));
    assert_eq!(control.get("/v1/apps/shop/maintenance")["on"], true);
    // What else changes does not end it, and what changes meanwhile is there behind it.
    let more = Stamped::start("more");
    let put = json!({ "address": more.address.to_string() }).to_string();
    settled(&control, "PUT", "/v1/apps/shop/clusters/web/endpoints/api", &put);
    home.app("blog", &app("blog.example", more.address, ""));
    routers.iter().for_each(|(edge, _)| edge.wait_says("blog.example", "more"));
    routers.iter().for_each(|(edge, _)| assert_eq!(edge.says(HOST), "503"));

    // Nor does control's end, nor the router's own: the last good table has it.
    let [(first, mut node), (second, _kept)] = routers;
    drop(control);
    node.process.wait_error("the link to control is lost");
    node.process.signal(libc::SIGTERM);
    assert!(node.process.wait().success());
    let _again = first.start(&home.url());
    assert_eq!((first.says(HOST), first.says("blog.example")), ("503".to_owned(), "more".to_owned()));
    // And the store has it for the next control.
    let control = home.start();
    for name in ["a", "b"] {
        let view = connected(&control, name);
        assert_eq!(view["began_with"], "snapshot");
    }
    assert_eq!((first.says(HOST), second.says(HOST)), ("503".to_owned(), "503".to_owned()));
    let answer = control.ask("DELETE", "/v1/apps/shop/maintenance", "");
    assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    for edge in [&first, &second] {
        until("the app", || matches!(edge.says(HOST).as_str(), "served" | "more").then_some(()));
    }
}

#[test]
fn who_was_cut_off_hears_of_maintenance_when_it_is_back() {
    let origin = Stamped::start("served");
    let home = ControlHome::new();
    home.app("shop", &app(HOST, origin.address, ""));
    let control = home.start();
    let cable = Cable::to(home.link);
    let far = RouterHome::new("far");
    let router = far.start(&cable.url());
    connected(&control, "far");
    cable.cut();
    wait_router(&control, "far", "gone", |one| one["connected"] == false);
    // It is waited for, since it may serve.
    let answer = control.ask("PUT", "/v1/apps/shop/maintenance", "{}");
    assert_eq!((answer.status, answer.json()["pending"].clone()), (202, json!(true)), "{answer:?}");
    assert_eq!(far.says(HOST), "served");
    cable.mend();
    far.wait_says(HOST, "503");
    assert_eq!(
        router.metric("ekiden_link_links_total{begun_with=\"snapshot\"}"),
        1.0,
        "no more than it missed"
    );
}

#[test]
fn a_held_app_waits_in_each_router_by_itself_and_goes_on_in_order() {
    let origin = Stamped::start("served");
    let (home, control, routers) = fleet(origin.address);
    settled(&control, "PUT", "/v1/apps/shop/hold", "{\"wait_ms\": 600000, \"max\": 2}");
    assert_eq!(
        said(&control, &["hold", "shop", "on", "--wait", "10m", "--max", "2"]),
        "shop is held: 2 requests wait at most, 600000 ms each\n"
    );
    let mut clients = Vec::new();
    for (edge, node) in &routers {
        for count in 1..=2 {
            clients.push(sent(edge, "/"));
            wait_held(node, count);
        }
        // The bound is that of a process: one router that is full says nothing of the other.
        let full = Client::connect(edge.listener).get(HOST, "/");
        assert_eq!((full.status, full.code()), (503, "hold_full"));
        let view = node.get("/v1/apps/shop/hold");
        assert_eq!((&view["on"], &view["max"], &view["wait_ms"]), (&json!(true), &json!(2), &json!(600_000)));
    }
    assert_eq!(origin.requests(), 0, "a held request is sent");
    // What serves may be exchanged meanwhile; control may go.
    let new = Stamped::start("new");
    home.app("shop", &app(HOST, new.address, ""));
    until("the new endpoint", || {
        let all = control.get("/v1/apps/shop/clusters/web/endpoints");
        (all["endpoints"][0]["address"] == new.address.to_string()).then_some(())
    });
    drop(control);
    let control = home.start();
    ["a", "b"].iter().for_each(|name| drop(connected(&control, name)));
    routers.iter().for_each(|(_, node)| assert_eq!(held(node), 2, "a link that ends lets nothing go"));
    let answer = control.ask("DELETE", "/v1/apps/shop/hold", "");
    assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    for client in &mut clients {
        assert_eq!(client.response().text(), "new");
    }
    assert_eq!(origin.requests(), 0);
    routers.iter().for_each(|(edge, _)| edge.wait_says(HOST, "new"));
}

#[test]
fn what_an_ekiden_run_of_the_same_directory_was_told_goes_on() {
    let origin = Stamped::start("served");
    let home = ControlHome::new();
    home.app("shop", &app(HOST, origin.address, ""));
    home.app("blog", &app("blog.example", origin.address, ""));
    let file = home.dir.path().join("run.toml");
    fs::write(&file, format!("apps = \"apps\"\n[listener.edge]\naddress = \"{}\"\n", local(free_port())))
        .unwrap();
    let telemetry = local(free_port());
    let mut command = Command::new(binary());
    command.arg("run").arg(&file).args(["--workers", "1", "--control", &home.api.to_string(), "--telemetry"]);
    command.arg(telemetry.to_string()).arg("--run-dir").arg(home.dir.path().join("run"));
    let mut run = Node { process: Background::start(&mut command), api: home.api, telemetry }.wait_ready();
    settled(&run, "PUT", "/v1/apps/blog/maintenance", "{}");
    settled(&run, "PUT", "/v1/apps/shop/hold", "{\"wait_ms\": 600000}");
    run.process.signal(libc::SIGTERM);
    assert!(run.process.wait().success());
    let control = home.start();
    assert_eq!(control.get("/v1/apps/blog/maintenance")["on"], true);
    let edge = RouterHome::new("edge");
    let router = edge.start(&home.url());
    assert_eq!(edge.says("blog.example"), "503");
    let mut waits = sent(&edge, "/");
    wait_held(&router, 1);
    let answer = control.ask("DELETE", "/v1/apps/shop/hold", "");
    assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    assert_eq!(waits.response().text(), "served");
}

/// Answers every request with 500.
fn broken() -> Origin {
    Origin::start(|conn: &mut Conn| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
        }
    })
}

fn spec(address: SocketAddr) -> Value {
    let cluster = json!({ "web": { "endpoints": [address.to_string()] } });
    json!({ "cluster": cluster, "route": [{ "host": HOST, "cluster": "web" }] })
}

fn guard(control: &Node) -> Value {
    control.get("/v1/apps/shop/guard")
}

/// Statuses of so many requests to a router.
fn statuses(edge: &RouterHome, count: usize) -> Vec<u16> {
    let mut client = Client::connect(edge.listener);
    (0..count).map(|_| client.get(HOST, "/").status).collect()
}

#[test]
fn a_change_that_brings_errors_in_the_routers_is_rolled_back_by_control() {
    let (good, bad) = (Stamped::start("good"), broken());
    let home = ControlHome::new();
    let control = home.start();
    let body = json!({ "spec": spec(good.address) }).to_string();
    assert_eq!(control.ask("PUT", "/v1/apps/shop", &body).status, 201);
    let edges = ["a", "b"].map(RouterHome::new);
    let nodes = [edges[0].start(&home.url()), edges[1].start(&home.url())];
    ["a", "b"].iter().for_each(|name| drop(connected(&control, name)));
    // Half of what it takes to judge is in each router: only both together are enough.
    edges.iter().for_each(|edge| assert!(statuses(edge, 30).iter().all(|status| *status == 200)));

    let file = home.dir.path().join("shop.json");
    fs::write(&file, spec(bad.address).to_string()).unwrap();
    let mut command = Command::new(binary());
    command.arg("apply").arg(&file).args(["--guard", "1h", "--control", &control.api.to_string()]);
    let following = Background::start(&mut command);
    until("the change", || (guard(&control)["version"] == 2).then_some(()));
    let end = until("the guard to end", || {
        edges.iter().for_each(|edge| drop(statuses(edge, 10)));
        Some(guard(&control)).filter(|guard| guard["state"] != "watching")
    });
    assert_eq!((&end["state"], &end["back_to"]), (&json!("rolled_back"), &json!(1)), "{end}");
    assert!(end["reason"].as_str().unwrap().contains("errors: 0.0 % before"), "{end}");
    let mut following = following;
    let status = until("the command to end", || following.ended());
    assert_eq!(status.code(), Some(10));
    for edge in &edges {
        assert!(statuses(edge, 20).iter().all(|status| *status == 200), "the app is not what it was");
    }
    // Nobody tells of what nobody watches: the routers are asked for it no longer.
    assert_eq!(control.metric("ekiden_guards_total{result=\"rolled_back\"}"), 1.0);
    drop(nodes);
}

#[test]
fn enough_requests_of_all_routers_keep_a_good_change_and_a_router_that_goes_takes_none_with_it() {
    let (good, other) = (Stamped::start("good"), Stamped::start("other"));
    let home = ControlHome::new();
    let control = home.start();
    let body = json!({ "spec": spec(good.address) }).to_string();
    assert_eq!(control.ask("PUT", "/v1/apps/shop", &body).status, 201);
    let edges = ["a", "b"].map(RouterHome::new);
    let [first, second] = [edges[0].start(&home.url()), edges[1].start(&home.url())];
    ["a", "b"].iter().for_each(|name| drop(connected(&control, name)));
    edges.iter().for_each(|edge| assert!(statuses(edge, MANY).iter().all(|status| *status == 200)));
    let apply = |address: SocketAddr, guard: &str| {
        let path = format!("/v1/apply?app=shop&guard={guard}");
        let answer = control.ask("POST", &path, &spec(address).to_string());
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        answer.json()
    };
    let answer = apply(other.address, "5s");
    assert_eq!(answer["guard"]["apps"], json!(["shop"]), "{answer}");
    // One of the routers is killed in the middle: its count is gone, and nothing is made of that.
    edges.iter().for_each(|edge| drop(statuses(edge, MANY)));
    first.process.signal(libc::SIGKILL);
    drop(first);
    let end = until("the guard to end", || {
        drop(statuses(&edges[1], 10));
        Some(guard(&control)).filter(|guard| guard["state"] != "watching")
    });
    assert_eq!(end["state"], "kept", "{end}");
    assert_eq!(control.get("/v1/apps/shop")["version"], 2);
    drop(second);
}
