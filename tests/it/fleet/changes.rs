//! A change of control reaches every router, as much of it as is new to each; what a router cannot take is named.

use ekiden_tests::{Stamped, until};
use serde_json::json;

use super::{Cable, ControlHome, RouterHome, app, connected, wait_router};

#[test]
fn a_change_reaches_both_routers_and_the_answer_says_so() {
    let (old, new) = (Stamped::start("old"), Stamped::start("new"));
    let home = ControlHome::new();
    home.app("shop", &app("shop.example", old.address, ""));
    let control = home.start();
    let homes = [RouterHome::new("a"), RouterHome::new("b")];
    let routers = [homes[0].start(&home.url()), homes[1].start(&home.url())];
    for (home, name) in homes.iter().zip(["a", "b"]) {
        let view = connected(&control, name);
        assert_eq!((&view["began_with"], &view["identity"]), (&json!("snapshot"), &json!(null)));
        assert_eq!(home.says("shop.example"), "old");
    }
    let put = json!({ "address": new.address.to_string() }).to_string();
    let path = "/v1/apps/shop/clusters/web/endpoints/api";
    let answer = control.ask("PUT", path, &put);
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    assert_eq!(answer["routers"], json!({ "have": 2, "of": 2, "refused": [], "wait_ms": 1500 }), "{answer}");
    // Acknowledged means in force: the very next requests may go there.
    for home in &homes {
        let answers: Vec<String> = (0..20).map(|_| home.says("shop.example")).collect();
        assert!(answers.contains(&"new".to_owned()) && answers.contains(&"old".to_owned()), "{answers:?}");
    }
    let view = control.get("/v1/routers");
    assert_eq!((&view["connected"], &view["behind"]), (&json!(2), &json!(0)));
    assert_eq!(view["generation"], answer["generation"]);
    assert_eq!(control.metric("ekiden_fleet_routers{state=\"connected\"}"), 2.0);
    assert!(control.metric("ekiden_fleet_propagation_seconds_count") >= 2.0);
    assert_eq!(control.get("/v1/table")["generation"], answer["generation"]);

    // A drain mark and a deletion travel too.
    let old_path = format!("/v1/apps/shop/clusters/web/endpoints/{}", old.address);
    assert_eq!(control.ask("PUT", &old_path, "{\"drain\":true}").status, 200);
    for home in &homes {
        let answers: Vec<String> = (0..10).map(|_| home.says("shop.example")).collect();
        assert!(answers.iter().all(|answer| answer == "new"), "{answers:?}");
    }
    assert_eq!(control.ask("PUT", &old_path, "{\"drain\":false}").status, 200);
    assert_eq!(control.ask("DELETE", path, "").status, 200);
    // And what a file says, whole apps gone too.
    home.app("blog", &app("blog.example", new.address, ""));
    homes.iter().for_each(|home| home.wait_says("blog.example", "new"));
    std::fs::remove_file(home.dir.path().join("apps/blog.toml")).unwrap();
    homes.iter().for_each(|home| home.wait_says("blog.example", "404"));

    // A router shows what it has, and changes nothing by itself.
    assert_eq!(routers[0].get("/v1/status")["link"]["connected"], true);
    let refused = routers[0].ask("PUT", path, &put);
    assert_eq!((refused.status, refused.json()["code"].clone()), (409, json!("asks_control")));
}

#[test]
fn who_was_cut_off_gets_what_it_missed_and_no_more() {
    let (old, new) = (Stamped::start("old"), Stamped::start("new"));
    let home = ControlHome::new();
    home.app("shop", &app("shop.example", old.address, ""));
    let control = home.start();
    let cable = Cable::to(home.link);
    let far = RouterHome::new("far");
    let router = far.start(&cable.url());
    connected(&control, "far");
    cable.cut();
    wait_router(&control, "far", "gone", |one| one["connected"] == false && one["last_error"].is_string());
    router.process.wait_error("the link to control is lost");
    until("the status to say so", || {
        let status = router.get("/v1/status");
        let reason = status["stale_reason"].as_str().unwrap_or_default().to_owned();
        (status["link"]["connected"] == false && reason.contains("last heard of")).then_some(())
    });
    let (status, text) = router.readyz();
    assert_eq!(status, 200, "traffic can flow: {text}");
    assert!(text.starts_with("stale table: control is gone"), "{text}");
    assert_eq!(router.metric("ekiden_link_connected"), 0.0);
    assert!(router.metric("ekiden_link_heard_age_seconds") > 0.0);

    // Meanwhile one endpoint goes, another one comes: the change waits for nobody who is not there.
    home.app("shop", &app("shop.example", new.address, ""));
    until("the change", || {
        let clusters = control.get("/v1/apps/shop/clusters/web/endpoints");
        (clusters["endpoints"][0]["address"] == new.address.to_string()).then_some(())
    });
    assert_eq!(far.says("shop.example"), "old", "the last good table serves on");
    cable.mend();
    far.wait_says("shop.example", "new");
    let view = connected(&control, "far");
    assert_eq!((&view["began_with"], &view["links"]), (&json!("delta"), &json!(2)));
    assert_eq!(router.metric("ekiden_link_links_total{begun_with=\"snapshot\"}"), 1.0);
    assert_eq!(router.metric("ekiden_link_links_total{begun_with=\"delta\"}"), 1.0);
    until("no more staleness", || (router.readyz().1 == "ready\n").then_some(()));
}

#[test]
fn an_app_that_names_what_a_router_lacks_is_refused_there_and_named_in_the_view() {
    let origin = Stamped::start("served");
    let home = ControlHome::new();
    let control = home.start();
    let (whole, poor) = (RouterHome::new("whole"), RouterHome::new("poor"));
    let users = "[users.staff]\nfile = \"staff\"\napps = [\"shop\"]\n";
    for home in [&whole, &poor] {
        super::write(home.dir.path(), "staff", "");
    }
    whole.write(&format!("[fleet]\nname = \"whole\"\n{users}"));
    let (_a, _b) = (whole.start(&home.url()), poor.start(&home.url()));
    connected(&control, "whole");
    connected(&control, "poor");
    // What nobody has trouble with, and what one cannot have.
    home.app("blog", &app("blog.example", origin.address, ""));
    poor.wait_says("blog.example", "served");
    let body = json!({ "spec": {
        "cluster": { "web": { "endpoints": [origin.address.to_string()] } },
        "auth": { "users": "staff" },
        "route": [{ "host": "shop.example", "cluster": "web" }],
    } });
    let answer = control.ask("PUT", "/v1/apps/shop", &body.to_string());
    assert!(answer.status == 201 || answer.status == 200, "{answer:?}");
    let routers = &answer.json()["routers"];
    assert_eq!((&routers["have"], &routers["of"]), (&json!(2), &json!(2)));
    let [refused] = routers["refused"].as_array().unwrap().as_slice() else { panic!("{routers}") };
    assert_eq!((&refused["router"], &refused["part"]), (&json!("poor"), &json!("app:shop")));
    assert!(refused["reason"].as_str().unwrap().contains("there is no file of users `staff`"), "{refused}");
    assert_eq!((whole.says("shop.example"), poor.says("shop.example")), ("401".to_owned(), "404".to_owned()));
    assert_eq!(poor.says("blog.example"), "served", "the others go on");
    let view = wait_router(&control, "poor", "refusing", |one| one["refused"] != json!([]));
    assert_eq!(view["refused"][0]["part"], "app:shop");
    assert_eq!(control.metric("ekiden_fleet_refusals"), 1.0);

    // The router gets the name: its own file changes, and the app is taken without another word of control.
    poor.write(&format!("[fleet]\nname = \"poor\"\n{users}"));
    poor.wait_says("shop.example", "401");
    wait_router(&control, "poor", "whole", |one| one["refused"] == json!([]));
}
