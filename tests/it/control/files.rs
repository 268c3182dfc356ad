//! Edits of files: taken when good, loud and without effect when bad, and only where they belong.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ekiden_tests::{Client, Ekiden, Origin, Served, Setup, Stamped, free_port, until, until_true, web};

use super::{generation, one, problem, who};

fn loud(router: &Ekiden) -> bool {
    router.metric("ekiden_table_stale", &[]) == 1.0
}

#[test]
fn a_renamed_file_is_taken_and_a_bad_one_is_not() {
    let (_old, router) = one();
    let new = Stamped::start("new");
    router.rewrite(&router.setup().config_with(&web(&[new.address], "", "")));
    until_true("the edit to serve", || router.get("/").text() == "new");
    assert!(!loud(&router));

    let before = router.table()["generation"].clone();
    let bad = web(&[new.address], "balnce = \"p2c\"", "") + "[[route]]\ncluster = \"wbe\"\n";
    router.rewrite(&router.setup().config_with(&bad));
    until_true("the metric to tell of the bad file", || loud(&router));
    let (status, said) = router.readyz();
    assert_eq!(status, 200, "a bad file takes a serving router out of its balancer: {said}");
    assert!(said.contains("stale table") && said.contains("ekiden.toml"), "/readyz says nothing: {said}");
    let status = router.control("GET", "/v1/status", "").json();
    let told = status["last_reload"]["diagnostics"].to_string();
    assert!(
        status["stale"] == true && told.contains("balnce") && told.contains("wbe"),
        "not every error: {status}"
    );
    for word in ["ERROR", "balnce", "did you mean", "wbe"] {
        router.wait_error(word);
    }
    assert_eq!(router.metric("ekiden_reloads_total", &["result=\"failed\""]), 1.0, "alerts do not fire");
    assert_eq!(who(&router, "/", 20), ["new"], "a bad file changed what serves");
    assert_eq!(router.table()["generation"], before);
    let answer = router.control("POST", "/v1/reload", "");
    assert_eq!(problem(&answer), (422, "invalid_configuration".to_owned()));
    assert!(answer.json()["errors"].as_array().is_some_and(|all| all.len() >= 2), "{answer:?}");

    // A missing and an empty file are bad ones, too.
    fs::remove_file(router.setup().file()).unwrap();
    assert_eq!(problem(&router.control("POST", "/v1/reload", "")).0, 422);
    fs::write(router.setup().file(), "").unwrap();
    assert_eq!(problem(&router.control("POST", "/v1/reload", "")).0, 422);
    assert_eq!(router.get("/").text(), "new");

    router.rewrite(&router.setup().config());
    until_true("the good file to serve", || router.get("/").text() == "file");
    until_true("the metric to be quiet", || !loud(&router));
    assert_eq!(router.readyz().1.trim(), "ready");
}

#[test]
fn reload_by_api_and_by_signal_tell_what_changed() {
    let (_old, router) = one();
    let same = router.control("POST", "/v1/reload", "");
    let before = generation(&same);
    assert_eq!(same.json()["changed"], false);
    let accepted = || router.control("GET", "/v1/status", "").json()["reloads"]["accepted"].as_u64().unwrap();
    let count = accepted();
    router.signal(libc::SIGHUP);
    until_true("the reload by SIGHUP", || accepted() > count);
    assert_eq!(router.table()["generation"].as_u64(), Some(before), "a reload without a change is a swap");

    let new = Stamped::start("new");
    router.rewrite(&router.setup().config_with(&web(&[new.address], "", "")));
    router.signal(libc::SIGHUP);
    until_true("the edit to serve", || router.get("/").text() == "new");

    let text =
        format!("drain_timeout = \"7s\"\n{}", router.setup().config_with(&web(&[new.address], "", "")));
    router.rewrite(&text);
    generation(&router.control("POST", "/v1/reload", ""));
    let status = router.control("GET", "/v1/status", "").json();
    assert_eq!(
        status["restart_needed"][0], "drain_timeout",
        "nobody hears that an edit has no effect: {status}"
    );
    router.wait_error("drain_timeout");
}

#[test]
fn sighup_opens_the_access_log_again() {
    let (_old, router) = one();
    assert_eq!(router.get("/before").status, 200);
    router.log_lines(1);
    let rotated = router.setup().dir().join("access.1");
    fs::rename(router.setup().log(), &rotated).unwrap();
    router.signal(libc::SIGHUP);
    until_true("the new log", || router.setup().log().exists());
    assert_eq!(router.get("/after").status, 200);
    assert!(router.log_lines(1)[0].contains("/after"), "after a rotation lines go to the old file");
    assert_eq!(fs::read_to_string(rotated).unwrap().lines().count(), 1);
}

fn app(name: &str, origin: &Stamped) -> String {
    format!(
        "[cluster.{name}]\nendpoints = [\"{}\"]\n[[route]]\nhost = \"{name}.test\"\ncluster = \"{name}\"\n",
        origin.address
    )
}

#[test]
fn a_bad_app_file_affects_its_app_only() {
    let origins = ["blue-1", "blue-2", "green-1", "green-2", "red"].map(Stamped::start);
    let [blue_1, blue_2, green_1, green_2, red] = &origins;
    let setup = Setup::new("").top("apps = \"apps.d\"\ndrain_grace = \"0s\"");
    let dir = setup.dir().join("apps.d");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("blue.toml"), app("blue", blue_1)).unwrap();
    fs::write(dir.join("green.toml"), app("green", green_1)).unwrap();
    fs::write(dir.join("red.toml"), app("red", red) + "nonsense = 1\n").unwrap();
    let router = Ekiden::start(setup);
    let ask = |router: &Ekiden, host: &str| {
        let answer = router.client().get(host, "/");
        if answer.status == 200 { answer.text() } else { answer.status.to_string() }
    };
    assert_eq!(
        ["blue.test", "green.test", "red.test"].map(|host| ask(&router, host)),
        ["blue-1", "green-1", "404"]
    );
    router.wait_error("nonsense");

    // In one look: a good edit of one app, a bad one of another.
    router.rename_over(&dir.join("green.toml"), &(app("green", green_2) + "paht = \"/\"\n"));
    router.rename_over(&dir.join("blue.toml"), &app("blue", blue_2));
    let answer = router.control("POST", "/v1/reload", "");
    generation(&answer);
    assert!(answer.json()["refused_apps"].to_string().contains("green"), "{answer:?}");
    assert_eq!(["blue.test", "green.test"].map(|host| ask(&router, host)), ["blue-2", "green-1"]);
    assert_eq!(router.readyz().0, 200);
    router.wait_error("paht");
    router.wait_error("green");
    assert!(router.metric("ekiden_reloads_total", &["result=\"failed\""]) >= 1.0, "alerts do not fire");
    let status = router.control("GET", "/v1/status", "").json();
    assert!(status["refused_apps"].to_string().contains("green"), "{status}");

    // A restart serves the last good version of the refused app.
    until_true("the last good table", || router.setup().dir().join("run/last-good.json").exists());
    let router = Ekiden::start(router.stop());
    assert_eq!(
        ["blue.test", "green.test"].map(|host| ask(&router, host)),
        ["blue-2", "green-1"],
        "after a restart"
    );

    router.rename_over(&dir.join("green.toml"), &app("green", green_2));
    until_true("the mended app", || ask(&router, "green.test") == "green-2");
    fs::remove_file(dir.join("blue.toml")).unwrap();
    until_true("the removed app to be gone", || ask(&router, "blue.test") == "404");
    assert_eq!(ask(&router, "green.test"), "green-2");
}

#[test]
fn a_listener_moves_while_it_serves() {
    let gate = Arc::new(AtomicBool::new(false));
    let opens = Arc::clone(&gate);
    let origin = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            if request.target() == "/held" {
                until_true("the gate", || opens.load(Ordering::Acquire));
            }
            conn.answer(&request, "done");
        }
    });
    let router = Ekiden::start(Setup::new(web(&[origin.address], "", "")).workers(2));
    let (old, new) = (router.address(), std::net::SocketAddr::from(([127, 0, 0, 1], free_port())));
    let mut held = router.client();
    held.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n");
    origin.wait_received(1, 10);

    router.rewrite(&router.setup().config().replace(&old.to_string(), &new.to_string()));
    generation(&router.control("POST", "/v1/reload", ""));
    assert_eq!(
        Client::connect(new).get("a", "/").status,
        200,
        "the new address does not serve when the reload is answered"
    );
    until_true("the old address to close", || TcpStream::connect(old).is_err());
    gate.store(true, Ordering::Release);
    assert_eq!(held.response().text(), "done", "a request in flight on the old address was lost");
    assert_eq!(router.readyz().0, 200, "{}", router.readyz().1);

    // Back again, which is as good an address as any.
    router.rewrite(&router.setup().config());
    generation(&router.control("POST", "/v1/reload", ""));
    assert_eq!(router.get("/").status, 200);
}

#[test]
fn a_listener_that_cannot_be_bound_keeps_its_old_address() {
    let (_origin, router) = one();
    let taken = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let busy = taken.local_addr().unwrap();
    let text = router.setup().config().replace(&router.address().to_string(), &busy.to_string());
    router.rewrite(&text);
    router.control("POST", "/v1/reload", "");
    assert_eq!(router.get("/").status, 200, "a failed bind took the old address away");
    router.wait_error(&busy.to_string());
    until_true("word of it in the status", || {
        router.control("GET", "/v1/status", "").json()["refused_parts"]
            .to_string()
            .contains(&busy.to_string())
    });
    assert_eq!(router.readyz().0, 200);

    drop(taken);
    router.control("POST", "/v1/reload", "");
    let asked = until("the address to be taken once it is free", || TcpStream::connect(busy).ok());
    assert_eq!(
        Client::over(asked).get("a", "/").status,
        200,
        "after the port was freed, a reload does not bind it"
    );
}

#[test]
fn listeners_come_and_go() {
    let (origin, router) = one();
    let second = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let more = format!("[listener.second]\naddress = \"{second}\"\n{}", web(&[origin.address], "", ""));
    router.rewrite(&router.setup().config_with(&more));
    generation(&router.control("POST", "/v1/reload", ""));
    let mut kept = Client::connect(second);
    assert_eq!(kept.get("a", "/").status, 200);
    assert_eq!(router.readyz().0, 200);
    router.rewrite(&router.setup().config());
    generation(&router.control("POST", "/v1/reload", ""));
    until_true("the second listener to close", || TcpStream::connect(second).is_err());
    assert_eq!(router.get("/").status, 200);
    let said = router.readyz();
    assert_eq!(said.0, 200, "{}", said.1);
}
