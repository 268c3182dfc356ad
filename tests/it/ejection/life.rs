//! What an ejection has to do with the rest of an endpoint's life: swaps, drain marks, a new policy, slow start.

use super::{ask_until, ejections, seen, serve, since, state, text, wait_state};
use ekiden_tests::{Flapper, Served, until_true};

#[test]
fn an_ejection_outlives_the_table_and_ends_with_its_endpoint() {
    let all = [Flapper::start(), Flapper::start(), Flapper::start()];
    let mut pair = all.each_ref().to_vec();
    pair.truncate(2);
    let router = serve(&pair, "", "");
    all[0].down();
    ask_until(&router, &all[0], "ejected");
    let began = since(&router, &all[0]);
    router.put("web", "third", all[2].address);
    assert_eq!((state(&router, &all[0]).as_str(), since(&router, &all[0])), ("ejected", began));
    let mut client = router.client();
    for _ in 0..50 {
        assert_eq!(client.get("a", "/").status, 200);
    }
    assert!(all[2].requests() > 0);
    router.delete("web", "third");
    assert_eq!((state(&router, &all[0]).as_str(), since(&router, &all[0])), ("ejected", began));
    // Another address under the same configuration is another endpoint.
    router.rewrite(&router.setup().config_with(&text(&[&all[1], &all[2]], "", "")));
    wait_state(&router, &all[2], "ready");
    assert_eq!(client.get("a", "/").status, 200);
}

#[test]
fn control_hears_of_endpoints_that_refuse_connects() {
    let all = [Flapper::start(), Flapper::start()];
    let router = serve(&all.each_ref(), "", "");
    let refusing = || router.control("GET", "/v1/status", "").json()["refusing_connects"].clone();
    assert_eq!(refusing(), serde_json::json!({}));
    // An endpoint that answers badly is none of them.
    all[1].set_status(503);
    ask_until(&router, &all[1], "ejected");
    assert_eq!(refusing(), serde_json::json!({}));
    all[1].set_status(200);
    ask_until(&router, &all[1], "ready");
    all[0].down();
    ask_until(&router, &all[0], "ejected");
    let name = format!("default/web/{}", all[0].address);
    until_true("control to hear of it", || refusing()[&name]["since_unix_ms"].is_u64());
    assert!(refusing()[&name]["reason"].to_string().contains("no connection could be made"));
    all[0].up();
    until_true("control to hear of its return", || refusing() == serde_json::json!({}));
    // Removed while it refuses: nobody is told of it for ever.
    all[0].down();
    ask_until(&router, &all[0], "ejected");
    until_true("control to hear of it", || refusing()[&name].is_object());
    router.rewrite(&router.setup().config_with(&text(&[&all[1]], "", "")));
    until_true("control to forget it", || refusing() == serde_json::json!({}));
}

#[test]
fn a_draining_endpoint_is_drained_whatever_the_evidence() {
    let all = [Flapper::start(), Flapper::start(), Flapper::start()];
    let router = serve(&all.each_ref(), "", "");
    let drain = |endpoint: &Flapper, on: bool| {
        let path = ekiden_tests::Ekiden::endpoint_path("web", &endpoint.address.to_string());
        let answer = router.control("PUT", &path, &format!("{{\"drain\":{on}}}"));
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    drain(&all[0], true);
    all[0].down();
    let mut client = router.client();
    for _ in 0..60 {
        assert_eq!(client.get("a", "/").status, 200);
    }
    assert_eq!((state(&router, &all[0]).as_str(), ejections(&router)), ("draining", 0.0));
    // Ejected first and marked then: draining it is, and ejected again without the mark.
    all[1].down();
    ask_until(&router, &all[1], "ejected");
    drain(&all[1], true);
    assert_eq!(state(&router, &all[1]), "draining");
    all[0].up();
    drain(&all[0], false);
    assert_eq!(state(&router, &all[0]), "ready");
    drain(&all[1], false);
    assert_eq!(state(&router, &all[1]), "ejected");
    all[1].up();
    wait_state(&router, &all[1], "ready");
}

#[test]
fn a_policy_that_ejects_nobody_lets_everybody_in() {
    let all = [Flapper::start(), Flapper::start()];
    let router = serve(&all.each_ref(), "", "");
    all[0].down();
    ask_until(&router, &all[0], "ejected");
    router.rewrite(&router.setup().config_with(&text(&all.each_ref(), "ejection = \"off\"", "")));
    wait_state(&router, &all[0], "ready");
    assert!(seen(&router, &all[0])["reason"].to_string().contains("ejection was switched off"));
    let before = router.metric("ekiden_cluster_connects_total", &["failed"]);
    until_true("requests to try it again", || {
        router.get("/");
        router.metric("ekiden_cluster_connects_total", &["failed"]) > before
    });
}

#[test]
fn an_endpoint_that_joins_begins_slowly_where_that_is_asked_for() {
    let all = [Flapper::start(), Flapper::start(), Flapper::start()];
    for balance in ["p2c", "round_robin"] {
        let keys = format!("slow_start = \"1h\"\nbalance = \"{balance}\"");
        let router = serve(&[&all[0], &all[1]], &keys, "");
        assert_eq!(
            [state(&router, &all[0]), state(&router, &all[1])],
            ["ready", "ready"],
            "not at the start"
        );
        router.put("web", "new", all[2].address);
        let path = ekiden_tests::Ekiden::endpoint_path("web", "new");
        let told = router.control("GET", &path, "").json();
        assert_eq!(told["state"], "warming", "{told}");
        assert!(told["reason"].to_string().contains("% of its share"), "{told}");
        let (before, mut client) = (all[2].requests(), router.client());
        for _ in 0..1000 {
            assert_eq!(client.get("a", "/").status, 200);
        }
        // A tenth of its share, which would be a third of all.
        let got = all[2].requests() - before;
        assert!((5..120).contains(&got), "{balance}: {got} of 1000");
        assert!(router.metric("ekiden_endpoint_ramp_ratio", &["new"]) < 0.2);
    }
}
