//! Guarded changes: what makes an app worse is rolled back by itself, what does not stays, and nothing is judged by a few requests.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::thread::{self, JoinHandle};

use ekiden_tests::{Conn, Ekiden, Origin, Run, Served, Setup, Stamped, binary, finished, until};
use serde_json::{Value, json};

use super::problem;

const SHOP: &str = "/v1/apps/shop";
/// More than is needed to judge errors.
const MANY: usize = 120;

/// Answers every request with 500.
fn broken() -> Origin {
    Origin::start(|conn: &mut Conn| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
        }
    })
}

fn spec(address: SocketAddr, route: Value) -> Value {
    let mut route = route;
    route["host"] = json!("shop");
    route["cluster"] = json!("web");
    json!({ "cluster": { "web": { "endpoints": [address.to_string()] } }, "route": [route] })
}

/// A router with an app that has had traffic.
fn start(origin: &Stamped) -> Ekiden {
    let router = Ekiden::start(Setup::new("[[route]]\nrespond = { body = \"default\" }\n".to_owned()));
    let body = json!({ "spec": spec(origin.address, json!({})) }).to_string();
    assert_eq!(router.control("PUT", SHOP, &body).status, 201);
    ask(&router, MANY);
    router
}

/// Statuses of so many requests to the app.
fn ask(router: &Ekiden, count: usize) -> Vec<u16> {
    let mut client = router.client();
    (0..count).map(|_| client.get("shop", "/").status).collect()
}

/// Applies a spec through the API.
fn apply(router: &Ekiden, spec: &Value, query: &str) -> Value {
    let answer = router.control_with(
        "POST",
        &format!("/v1/apply?app=shop{query}"),
        "Content-Type: application/json\r\n",
        &spec.to_string(),
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// `ekiden apply --guard`, on a thread: its exit code and what it prints.
fn command(router: &Ekiden, spec: &Value, time: &str) -> JoinHandle<(Option<i32>, String)> {
    let file = router.setup().dir().join("shop.json");
    fs::write(&file, spec.to_string()).unwrap();
    let control = router.control.to_string();
    let mut command = Command::new(binary());
    command.arg("apply").arg(file).args(["--guard", time, "--control", &control]);
    thread::spawn(move || {
        let output = finished(&mut command);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    })
}

fn guard(router: &Ekiden) -> Value {
    router.control("GET", "/v1/apps/shop/guard", "").json()
}

/// Sends requests until the guard has ended, and gives what it says then.
fn ended(router: &Ekiden) -> Value {
    until("the guard to end", || {
        ask(router, 20);
        Some(guard(router)).filter(|guard| guard["state"] != "watching")
    })
}

fn wait_version(router: &Ekiden, version: u64) {
    until("the change", || (guard(router)["version"] == version).then_some(()));
}

#[test]
fn a_change_that_brings_errors_is_rolled_back_by_itself_and_says_so() {
    let (good, bad) = (Stamped::start("good"), broken());
    let router = start(&good);
    assert_eq!(guard(&router)["state"], "none");
    let command = command(&router, &spec(bad.address, json!({})), "1h");
    wait_version(&router, 2);
    let guard = ended(&router);
    assert_eq!((&guard["state"], &guard["back_to"]), (&json!("rolled_back"), &json!(1)), "{guard}");
    assert!(guard["reason"].as_str().unwrap().contains("errors"), "{guard}");
    let (code, said) = command.join().unwrap();
    assert_eq!(code, Some(10), "{said}");
    assert!(said.contains("shop: rolled back: errors"), "{said}");
    assert!(ask(&router, 20).iter().all(|status| *status == 200), "the app is not what it was");
    let versions = router.control("GET", "/v1/apps/shop/versions", "").json();
    let last = versions["versions"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["version"], &last["by"]), (&json!(3), &json!("guard")), "{versions}");
    router.wait_error("the guarded change is rolled back");
    assert_eq!(router.metric("ekiden_guards_total", &["result=\"rolled_back\""]) as u64, 1);
}

#[test]
fn a_change_that_slows_an_app_down_is_rolled_back() {
    let origin = Stamped::start("good");
    let router = start(&origin);
    ask(&router, 2 * MANY);
    // One in ten takes much longer than any p99 of before.
    let slow = json!({ "faults": { "delay": { "percent": 10, "time": "6s" } } });
    apply(&router, &spec(origin.address, slow), "&guard=1h");
    let guard = until("the guard to end", || {
        thread::scope(|scope| {
            let all: Vec<_> = (0..32).map(|_| scope.spawn(|| ask(&router, 10))).collect();
            all.into_iter().for_each(|one| drop(one.join().unwrap()));
        });
        Some(guard(&router)).filter(|guard| guard["state"] != "watching")
    });
    assert_eq!(guard["state"], "rolled_back", "{guard}");
    assert!(guard["reason"].as_str().unwrap().contains("p99"), "{guard}");
}

#[test]
fn a_good_change_stays_and_without_requests_nothing_is_judged() {
    let (good, other) = (Stamped::start("good"), Stamped::start("other"));
    let router = start(&good);
    let kept = command(&router, &spec(other.address, json!({})), "2s");
    wait_version(&router, 2);
    ask(&router, MANY);
    let (code, said) = kept.join().unwrap();
    assert_eq!((code, said.contains("shop: kept: errors")), (Some(0), true), "{said}");
    assert_eq!(guard(&router)["state"], "kept");
    // An endpoint that nobody asks.
    let bad = broken();
    let (code, said) = command(&router, &spec(bad.address, json!({})), "1s").join().unwrap();
    assert_eq!((code, said.contains("shop: not judged")), (Some(0), true), "{said}");
    assert_eq!(router.control("GET", "/v1/apps/shop", "").json()["version"], 3, "it is rolled back unseen");
}

#[test]
fn another_change_within_the_guard_time_ends_it_and_a_guarded_one_takes_its_place() {
    let (good, bad) = (Stamped::start("good"), broken());
    let router = start(&good);
    apply(&router, &spec(bad.address, json!({})), "&guard=1h");
    // A plain change: it is somebody's will, and nothing goes back behind them.
    let plain = json!({ "spec": spec(bad.address, json!({ "priority": "high" })) }).to_string();
    assert_eq!(router.control("PUT", SHOP, &plain).status, 200);
    // Nobody asks meanwhile.
    until("the guard to end", || (guard(&router)["state"] == "superseded").then_some(()));
    assert_eq!(router.control("GET", SHOP, "").json()["version"], 3);
    apply(&router, &spec(good.address, json!({})), "");
    ask(&router, 3 * MANY);

    // Two guarded ones: the first was not found good, so both go.
    apply(&router, &spec(bad.address, json!({})), "&guard=1h");
    let second = apply(&router, &spec(bad.address, json!({ "priority": "low" })), "&guard=1h");
    assert_eq!(second["guard"]["apps"], json!(["shop"]), "{second}");
    let guard = ended(&router);
    assert_eq!(
        (&guard["state"], &guard["version"], &guard["back_to"]),
        (&json!("rolled_back"), &json!(6), &json!(4))
    );
    assert!(ask(&router, 20).iter().all(|status| *status == 200));
}

#[test]
fn a_restart_within_the_guard_time_goes_on_with_it() {
    let (good, bad) = (Stamped::start("good"), broken());
    let router = start(&good);
    apply(&router, &spec(bad.address, json!({})), "&guard=1h");
    let router = Ekiden::start_with(router.kill(), Run { keep_file: true, ..Run::default() });
    assert_eq!(guard(&router)["state"], "watching");
    let guard = ended(&router);
    assert_eq!((&guard["state"], &guard["back_to"]), (&json!("rolled_back"), &json!(1)), "{guard}");
    assert!(ask(&router, 20).iter().all(|status| *status == 200));
}

#[test]
fn what_is_no_guard_time_is_refused() {
    let good = Stamped::start("good");
    let router = start(&good);
    for time in ["", "0s", "60", "61m", "-1s", "2h", "9999999s"] {
        let answer = router.control_with(
            "POST",
            &format!("/v1/apply?app=shop&guard={time}"),
            "Content-Type: application/json\r\n",
            &spec(good.address, json!({})).to_string(),
        );
        assert_eq!(problem(&answer), (400, "bad_parameter".to_owned()), "{time}");
    }
    assert_eq!(problem(&router.control("GET", "/v1/apps/nobody/guard", "")), (404, "unknown_app".to_owned()));
}
