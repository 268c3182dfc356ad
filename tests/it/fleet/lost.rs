//! Control is gone, for a while or at a start: traffic does not care, and nobody has to do anything.

use std::net::TcpStream;
use std::time::Instant;

use ekiden_tests::{Etcd, Load, MIXED, Refused, Stamped, in_time, seconds, until};
use serde_json::json;

use super::{ControlHome, Node, RouterHome, app, connected, wait_router};

const ANY: &str = "a";

#[test]
fn control_killed_under_load_fails_no_request_and_comes_back_by_itself() {
    let (old, new) = (Stamped::start("old"), Stamped::start("new"));
    let home = ControlHome::new();
    home.app("shop", &app(ANY, old.address, ""));
    let control = home.start();
    let edge = RouterHome::new("edge");
    let router = edge.start(&home.url());
    connected(&control, "edge");
    let put = json!({ "address": new.address.to_string() }).to_string();
    assert_eq!(control.ask("PUT", "/v1/apps/shop/clusters/web/endpoints/api", &put).status, 200);
    let load = Load::start(edge.listener, 4, MIXED, Refused::Fails);
    load.serve_more(200);
    control.process.signal(libc::SIGKILL);
    drop(control);
    router.process.wait_error("the link to control is lost");
    load.serve_more(200);
    // The file changes while nobody looks; the endpoint of the API is in the store.
    home.app("shop", &app(ANY, new.address, "balance = \"round_robin\""));
    let control = home.start();
    let view = connected(&control, "edge");
    assert_eq!(view["began_with"], "snapshot", "another process knows no past");
    until("the new table", || {
        let table = router.get("/v1/table");
        let cluster = &table["apps"].as_array().unwrap().iter().find(|app| app["name"] == "shop").unwrap()["clusters"]
            [0];
        (cluster["balance"] == "round_robin" && cluster["endpoints"].as_array().unwrap().len() == 2)
            .then_some(())
    });
    load.serve_more(200);
    let tally = load.stop();
    assert_eq!(tally.failed, Vec::<String>::new(), "of {}", tally.served);
    assert_eq!(edge.says(ANY), "new");
}

#[test]
fn a_router_started_without_control_serves_its_last_good_table() {
    let (old, new) = (Stamped::start("old"), Stamped::start("new"));
    let home = ControlHome::new();
    home.app("shop", &app("shop.example", old.address, ""));
    let control = home.start();
    let edge = RouterHome::new("edge");
    let router = edge.start(&home.url());
    connected(&control, "edge");
    // What serves in place of a refused version outlives the process too.
    home.app("blog", &app("blog.example", old.address, ""));
    edge.wait_says("blog.example", "old");
    home.app("blog", &app("blog.example", old.address, "tls = { ca = \"nobody\" }"));
    let view = wait_router(&control, "edge", "refusing", |one| one["refused"] != json!([]));
    let generation = view["generation"].clone();
    drop(control);
    router.process.wait_error("the link to control is lost");
    // SIGTERM: the last write happens at the end at the latest.
    router.process.signal(libc::SIGTERM);
    let mut router = router;
    assert!(router.process.wait().success());
    let router = edge.start(&home.url());
    assert_eq!((edge.says("shop.example"), edge.says("blog.example")), ("old".to_owned(), "old".to_owned()));
    let status = router.get("/v1/status");
    assert_eq!(status["link"]["generation"], generation);
    let reason = status["stale_reason"].as_str().unwrap();
    assert!(reason.starts_with("control is gone") && reason.contains("last heard of"), "{reason}");
    assert!(router.readyz().1.starts_with("stale table: control is gone"), "{:?}", router.readyz());

    // Its own file is broken as well: the one that served last stands in for it.
    router.process.signal(libc::SIGTERM);
    let mut router = router;
    assert!(router.process.wait().success());
    std::fs::write(edge.path("router.toml"), "listener = 7\n").unwrap();
    let router = edge.start(&home.url());
    assert_eq!(edge.says("shop.example"), "old");
    // And control is back, of a higher term, with other words.
    home.app("shop", &app("shop.example", new.address, ""));
    let control = home.start();
    connected(&control, "edge");
    edge.wait_says("shop.example", "new");
    drop(router);
}

#[test]
fn a_first_start_waits_for_control() {
    let origin = Stamped::start("served");
    let home = ControlHome::new();
    home.app("shop", &app("shop.example", origin.address, ""));
    let edge = RouterHome::new("edge");
    let router = edge.spawn(&[&home.url()]);
    until("telemetry", || (router.readyz().0 == 503).then_some(()));
    until("the reason", || router.readyz().1.contains("[-] table").then_some(()));
    let _control = home.start();
    until("readiness", || (router.readyz().0 == 200).then_some(()));
    assert_eq!(edge.says("shop.example"), "served");
}

#[test]
fn a_control_of_an_older_term_is_refused() {
    let (stale, fresh) = (Stamped::start("stale"), Stamped::start("fresh"));
    let (first, second) = (ControlHome::new(), ControlHome::new());
    first.app("shop", &app("shop.example", stale.address, ""));
    second.app("shop", &app("shop.example", fresh.address, ""));
    let older = first.start();
    let newer = second.start();
    let edge = RouterHome::new("edge");
    let router = edge.spawn(&[&second.url(), &first.url()]).wait_ready();
    assert_eq!(edge.says("shop.example"), "fresh");
    // A leader that was paused and goes on is such an older one.
    drop(newer);
    router.process.wait_error("and this control is of term");
    assert_eq!(edge.says("shop.example"), "fresh");
    assert_eq!(older.get("/v1/routers")["routers"], json!([]));
    until("the count", || (older.metric("ekiden_fleet_turned_away_total") >= 1.0).then_some(()));
    let _newest = second.start();
    until("the link", || (router.metric("ekiden_link_connected") == 1.0).then_some(()));
}

/// Ten minutes of it in `tests/run --full`.
#[test]
fn control_and_etcd_gone_for_long_under_load_fail_no_request_and_come_back_by_themselves() {
    let (old, new) = (Stamped::start("served"), Stamped::start("served"));
    let mut etcd = Etcd::start(1);
    let home = ControlHome::new().fleet(&etcd.table("lease = \"4s\"\n"));
    home.app("shop", &app(ANY, old.address, ""));
    let control = home.start();
    let homes = ["edge-1", "edge-2"].map(RouterHome::new);
    let [first, second] = homes.each_ref().map(|edge| edge.spawn(&[&home.url()]));
    let first = first.wait_ready();
    let second = second.wait_ready();
    for name in ["edge-1", "edge-2"] {
        connected(&control, name);
    }
    let put = json!({ "address": new.address.to_string() }).to_string();
    let path = "/v1/apps/shop/clusters/web/endpoints/api";
    let change = |control: &Node| {
        in_time("a change", || (control.ask("PUT", path, &put).status == 200).then_some(()));
    };
    change(&control);
    let load = Load::start(homes[0].listener, 4, MIXED, Refused::Fails);
    load.serve_more(200);

    // First the store, then who wrote to it.
    etcd.kill(0);
    control.process.signal(libc::SIGKILL);
    drop(control);
    let gone = Instant::now();
    first.process.wait_error("the link to control is lost");
    second.process.wait_error("the link to control is lost");
    // One of the routers is started anew meanwhile, as a machine may be.
    in_time("its table on disk", || {
        let saved = std::fs::read(homes[1].path("run/fleet.jsonl")).ok()?;
        String::from_utf8_lossy(&saved).contains(&new.address.to_string()).then_some(())
    });
    second.process.signal(libc::SIGKILL);
    drop(second);
    let second = homes[1].spawn(&[&home.url()]).wait_ready();
    homes[1].wait_says(ANY, "served");
    let both = new.requests();
    let long = seconds("EKIDEN_LOST_SECONDS", 6);
    loop {
        load.serve_more(100);
        if gone.elapsed() >= long {
            break;
        }
    }
    // Drawn by chance: among so many it is drawn soon.
    in_time("requests at the endpoint of the store", || (new.requests() > both).then_some(()));
    for router in [&first, &second] {
        let (status, text) = router.readyz();
        assert_eq!(status, 200, "{text}");
        assert!(text.contains("stale table"), "nobody is told how old the table is: {text}");
    }

    // Back, in the order of chance.
    let control = home.spawn();
    load.serve_more(100);
    etcd.begin(0);
    in_time("its API", || TcpStream::connect(control.api).ok());
    // An election and a lease take their time on a busy machine.
    in_time("both routers to be back", || {
        let view = control.get("/v1/routers");
        let back = |one: &&serde_json::Value| one["connected"] == true && one["generation"].is_u64();
        (view["routers"].as_array()?.iter().filter(back).count() == 2).then_some(())
    });
    let path = format!("{path}-2");
    in_time("a change", || (control.ask("PUT", &path, &put).status == 200).then_some(()));
    in_time("the end of staleness", || {
        [&first, &second].iter().all(|router| !router.readyz().1.contains("stale")).then_some(())
    });
    load.serve_more(200);
    let tally = load.stop();
    assert_eq!(tally.failed, Vec::<String>::new(), "of {} in {} s", tally.served, gone.elapsed().as_secs());
}
