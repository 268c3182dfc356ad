//! Rate limits as they come into the Model, and what is found wrong with them.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::model::{
    CertField, Cost, KeyPart, Limit, LimitFields, LimitUnit, MissingKey, Rate, RouteLimits, StoreAddress,
};

fn built(text: &str) -> Built {
    build_one(&toml(text)).unwrap_or_else(|found| panic!("{text}\n{}", found[0]))
}

/// The limits of the routes of a file with these top keys, listener keys and routes.
fn routes(top: &str, routes: &str) -> Vec<Option<Arc<RouteLimits>>> {
    let built = built(&format!("{top}\n{LISTENER}{routes}"));
    built.model.apps.get("default").unwrap().routes.iter().map(|route| route.rate_limits.clone()).collect()
}

fn of_listener(text: &str) -> Vec<Limit> {
    let built = built(&format!("{LISTENER}limit = [{text}]\n"));
    (**built.model.listeners["edge"].rate_limits.as_ref().unwrap()).clone()
}

fn one(text: &str) -> Limit {
    of_listener(&format!("{{ rate = \"100/s\", {text} }}")).remove(0)
}

#[test]
fn defaults_are_the_documented_ones() {
    let bare = of_listener("{ rate = \"30/m\" }").remove(0);
    let rate = Rate { count: 30, per: Duration::from_secs(60), burst: 30 };
    let want = Limit {
        name: "listener-limit-1".into(),
        unit: LimitUnit::Rate,
        rate,
        key: vec![],
        missing: MissingKey::Share,
        cost: Cost { methods: vec![], header: None, response: None, least: 1, most: 1, otherwise: 1 },
        except: vec![],
        shadow: false,
        fields: LimitFields::Refused,
        keys: 16_384,
        shared: None,
    };
    assert_eq!(bare, want);
    let keyed = "key = \"client\"";
    let written = format!(
        "{keyed}, burst = 100, missing = \"share\", cost = 1, shadow = false, headers = \"refused\", keys = 16384"
    );
    assert_eq!(one(&written), one(keyed));
}

#[test]
fn keys() {
    let parts = |key: &str| one(&format!("key = \"{key}\"")).key;
    let (client, user) = (KeyPart::Client, KeyPart::Header("x-user".into()));
    assert_eq!((parts("client"), parts("header:X-User")), (vec![client.clone()], vec![user.clone()]));
    assert_eq!(parts("cookie:Session"), [KeyPart::Cookie("Session".into())]);
    assert_eq!(parts("query:api:key"), [KeyPart::Query("api:key".into())]);
    assert_eq!(parts("path:32"), [KeyPart::Path(32)]);
    assert_eq!(parts("{client}:{header:x-user}"), [client.clone(), user.clone()]);
    assert_eq!(parts("{header:x-user}"), [user]);
    assert_eq!(parts("user {path:1} at {client}!"), [KeyPart::Path(1), client]);
    let grouped = one("key = \"group\", groups = { a = [\"10.0.0.0/8\"], b = [\"10.1.0.0/16\", \"::1\"] }");
    let [KeyPart::Group(groups)] = grouped.key.as_slice() else { panic!() };
    assert_eq!(
        groups.iter().map(|group| (&*group.name, group.nets.len())).collect::<Vec<_>>(),
        [("a", 1), ("b", 2)]
    );
}

#[test]
fn costs() {
    assert_eq!(one("cost = 7").cost, Cost { otherwise: 7, ..Cost::default() });
    let long =
        one("cost = { methods = { POST = 5, OPTIONS = 0 }, header = \"X-Cost\", most = 9, otherwise = 2 }")
            .cost;
    assert_eq!((&*long.methods[1].0, long.methods[1].1, long.methods[0].1), ("POST", 5, 0));
    assert_eq!((long.header.as_deref(), long.least, long.most, long.otherwise), (Some("x-cost"), 1, 9, 2));
}

#[test]
fn requests_at_a_time_and_costs_that_responses_say() {
    let limit = of_listener("{ concurrency = 10, key = \"client_cert:uri\" }").remove(0);
    assert_eq!((limit.unit, limit.rate.count, limit.rate.burst), (LimitUnit::AtATime, 10, 10));
    assert_eq!(limit.key, [KeyPart::ClientCert(CertField::Uri)]);
    // What is taken afterwards may be more than a burst.
    let cost = one("burst = 5, cost = { response = \"X-Cost\", most = 500 }").cost;
    assert_eq!((cost.response.as_deref(), cost.most, cost.otherwise), (Some("x-cost"), 500, 1));
}

#[test]
fn stores_have_an_address_and_those_who_may_name_them() {
    let file = |store: &str, limit: &str| {
        toml(&format!("{LISTENER}limit = [{{ rate = \"5/s\", {limit} }}]\n[store.one]\n{store}\n"))
    };
    let shared = "shared = \"one\"";
    for (store, address, database) in [
        ("redis = \"redis://cache.local\"", StoreAddress::Tcp("cache.local".into(), 6379), 0),
        ("redis = \"redis://10.0.0.5:7000/3\"", StoreAddress::Tcp("10.0.0.5".into(), 7000), 3),
        ("redis = \"redis://[::1]:7000/\"", StoreAddress::Tcp("::1".into(), 7000), 0),
        ("redis = \"unix:/run/redis.sock\"", StoreAddress::Unix("/run/redis.sock".into()), 0),
    ] {
        let built = build_one(&file(store, shared)).unwrap_or_else(|found| panic!("{store}\n{}", found[0]));
        let source = &built.model.trust.stores["one"];
        assert_eq!((&source.address, source.database, source.routers), (&address, database, 1));
        let limits = built.model.listeners["edge"].rate_limits.as_ref().unwrap();
        assert_eq!(limits[0].shared.as_ref().map(|name| name.as_str()), Some("one"));
    }
    let good = "redis = \"redis://a\"";
    for (store, limit, code) in [
        ("redis = \"rediss://a\"", shared, "bad_store"),
        ("redis = \"a:6379\"", shared, "bad_store"),
        ("redis = \"redis://\"", shared, "bad_store"),
        ("redis = \"redis://a:x\"", shared, "bad_store"),
        ("redis = \"redis://a/x\"", shared, "bad_store"),
        ("redis = \"redis://:secret@a\"", shared, "secret_in_text"),
        ("redis = \"redis://a\"\nuser = \"me\"", shared, "missing_key"),
        ("redis = \"redis://a\"\nrouters = 0", shared, "out_of_range"),
        ("routers = 2", shared, "missing_key"),
        (good, "shared = \"two\"", "unknown_secret"),
        (good, "shared = \"one\", keys = 300000", "out_of_range"),
    ] {
        let found = build_one(&file(store, limit)).unwrap_err();
        assert!(found.iter().any(|found| found.code == code), "{store} {limit}: {}", found[0]);
    }
}

#[test]
fn an_apps_limits_stand_before_those_of_its_routes_and_are_shared() {
    let all = routes(
        "limit = [{ rate = \"1/s\" }, { rate = \"2/s\", name = \"two\" }]",
        "[[route]]\npath = \"/a\"\nrespond = {}\n[[route]]\npath = \"/b\"\nrespond = {}\n\
         [[route]]\npath = \"/c\"\nrespond = {}\nlimit = [{ rate = \"3/s\" }]\n",
    );
    let [a, b, c] = all.iter().map(|limits| limits.as_ref().unwrap()).collect::<Vec<_>>()[..] else {
        panic!()
    };
    let names = |limits: &[Limit]| limits.iter().map(|limit| limit.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&a.app), ["app-limit-1", "two"]);
    assert!(a.route.is_empty() && Arc::ptr_eq(a, b));
    assert_eq!(names(&c.route), ["route-limit-1"]);
    assert!(Arc::ptr_eq(&a.app, &c.app));
    assert_eq!(routes("", "[[route]]\nrespond = {}\n"), [None]);
}

#[test]
fn what_is_wrong_has_a_code_and_a_place() {
    // A limit, and the finding it must give: its code and what stands where it points.
    for (text, code, at) in [
        ("{ burst = 5 }", "missing_key", "{ burst"),
        ("{ rate = 5 }", "wrong_type", "5"),
        ("{ rate = \"5\" }", "bad_rate", "5\""),
        ("{ rate = \"0/s\" }", "out_of_range", "0/s"),
        ("{ rate = \"1000001/s\" }", "out_of_range", "1000001/s"),
        ("{ rate = \"5/s\", burst = 0 }", "out_of_range", "0 }"),
        ("{ rate = \"5/s\", key = \"clent\" }", "bad_limit_key", "clent"),
        ("{ rate = \"5/s\", key = \"group\" }", "bad_limit_key", "group"),
        ("{ rate = \"5/s\", key = \"header:a b\" }", "bad_field_name", "header:"),
        ("{ rate = \"5/s\", key = \"header\" }", "bad_limit_key", "header"),
        ("{ rate = \"5/s\", key = \"cookie:\" }", "bad_limit_key", "cookie:"),
        ("{ rate = \"5/s\", key = \"path:0\" }", "bad_limit_key", "path:0"),
        ("{ rate = \"5/s\", key = \"path:33\" }", "bad_limit_key", "path:33"),
        ("{ rate = \"5/s\", key = \"{client\" }", "bad_limit_key", "{client"),
        ("{ rate = \"5/s\", key = \"client}\" }", "bad_limit_key", "client}"),
        ("{ rate = \"5/s\", key = \"{{client}}\" }", "bad_limit_key", "{{client"),
        ("{ rate = \"5/s\", key = \"{client}{client}\" }", "bad_limit_key", "{client}{"),
        ("{ rate = \"5/s\", key = \"{}\" }", "bad_limit_key", "{}"),
        ("{ rate = \"5/s\", missing = \"skip\" }", "no_meaning", "{ rate"),
        ("{ rate = \"5/s\", groups = { a = [\"10.0.0.0/8\"] } }", "no_meaning", "a ="),
        (
            "{ rate = \"5/s\", key = \"group\", groups = { a = [\"10.0.0.1/8\"] } }",
            "bad_network",
            "10.0.0.1/8",
        ),
        (
            "{ rate = \"5/s\", key = \"group\", groups = { a = [\"10.0.0.0/8\"], b = [\"10.0.0.0/8\"] } }",
            "duplicate_network",
            "10.0.0.0/8\"] } }",
        ),
        ("{ rate = \"5/s\", except = [\"x\"] }", "bad_network", "x\""),
        ("{ rate = \"5/s\", cost = 6 }", "cost_above_burst", "6 }"),
        ("{ rate = \"5/s\", cost = \"6\" }", "wrong_type", "6\" }"),
        ("{ rate = \"5/s\", cost = { methods = { POST = 6 } } }", "cost_above_burst", "6 }"),
        ("{ rate = \"5/s\", cost = { methods = { post = 1 } } }", "bad_method", "post"),
        ("{ rate = \"5/s\", cost = { header = \"x\" } }", "unbounded_cost", "x\""),
        ("{ rate = \"5/s\", cost = { header = \"x\", most = 6 } }", "cost_above_burst", "6 }"),
        ("{ rate = \"5/s\", cost = { header = \"x\", least = 3, most = 2 } }", "out_of_range", "2 }"),
        ("{ rate = \"5/s\", cost = { most = 2 } }", "no_meaning", "2 }"),
        ("{ rate = \"5/s\", cost = { response = \"x\" } }", "unbounded_cost", "x\""),
        (
            "{ rate = \"5/s\", cost = { response = \"Set-Cookie\", most = 2 } }",
            "protected_field",
            "Set-Cookie",
        ),
        ("{ rate = \"5/s\", concurrency = 2 }", "one_of", "2 }"),
        ("{ concurrency = 0 }", "out_of_range", "0 }"),
        ("{ concurrency = 2, burst = 3 }", "no_meaning", "3 }"),
        ("{ rate = \"5/s\", headers = \"alway\" }", "unknown_value", "alway"),
        ("{ rate = \"5/s\", keys = 0 }", "out_of_range", "0 }"),
        ("{ rate = \"5/s\", name = \"a b\" }", "bad_name", "a b"),
        ("{ rate = \"5/s\", name = \"a\" }, { rate = \"6/s\", name = \"a\" }", "duplicate_limit", "a\" }]"),
        ("{ rate = \"5/s\", brust = 5 }", "unknown_key", "brust"),
    ] {
        let line = format!("limit = [{text}]");
        let found = build_one(&toml(&format!("{LISTENER}{line}\n"))).unwrap_err();
        let have: Vec<_> = found.iter().map(|d| (d.code, d.line, &line[d.column - 1..])).collect();
        let right = matches!(have[..], [(have, 3, there)] if have == code && there.starts_with(at));
        assert!(right, "{text}\n{have:?}\n{}", found[0]);
    }
    for text in ["limit = []", "limit = { rate = \"5/s\" }"] {
        assert!(build_one(&toml(&format!("{LISTENER}{text}\n"))).is_err(), "{text}");
    }
    let nine = ["{ rate = \"5/s\" }"; 9].join(", ");
    assert_eq!(
        codes(&build_one(&toml(&format!("{LISTENER}limit = [{nine}]\n"))).unwrap_err()),
        ["list_too_long"]
    );
}
