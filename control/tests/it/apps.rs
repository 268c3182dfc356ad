//! Apps by API: made, changed, refused, owned, versioned, and there again after a restart.

use ekiden_config::doors::Refusal;
use serde_json::{Value, json};

use crate::bench::{Bench, Mode, Reply, Running, SMALL, endpoints};

/// An app with one route on a host and one endpoint.
fn spec(host: &str, port: u16) -> Value {
    json!({
        "cluster": { "web": { "endpoints": [format!("127.0.0.1:{port}")] } },
        "route": [{ "name": "all", "host": host, "cluster": "web" }],
    })
}

fn body(spec: &Value) -> String {
    json!({ "spec": spec }).to_string()
}

fn put(running: &Running, app: &str, spec: &Value) -> Reply {
    running.ask("PUT", &format!("/v1/apps/{app}"), &body(spec))
}

fn served(running: &Running, app: &str) -> Vec<String> {
    endpoints(&running.router.latest(), app, "web")
}

fn tag(reply: &Reply) -> String {
    let line = reply.head.lines().find(|line| line.starts_with("etag: ")).expect("a tag");
    line["etag: ".len()..].to_owned()
}

#[test]
fn an_app_is_made_changed_and_deleted_and_lives_through_restarts() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    let made = put(&running, "shop", &spec("shop.example", 14000));
    assert_eq!((made.status, &made.body["versions"]["shop"]), (201, &json!(1)), "{made:?}");
    assert_eq!(served(&running, "shop"), ["127.0.0.1:14000 127.0.0.1:14000"]);
    let published = running.router.count();
    let again = put(&running, "shop", &spec("shop.example", 14000));
    assert_eq!(
        (again.status, &again.body["changed"], running.router.count()),
        (200, &json!(false), published)
    );
    running.control.stop();

    let running = bench.start();
    assert_eq!(served(&running, "shop"), ["127.0.0.1:14000 127.0.0.1:14000"], "the very first table has it");
    let patch = r#"{"spec":{"cluster":{"web":{"endpoints":["127.0.0.1:14001"]}}}}"#;
    let patched = running.ask("PATCH", "/v1/apps/shop", patch);
    assert_eq!((patched.status, &patched.body["versions"]["shop"]), (200, &json!(2)), "{patched:?}");
    assert_eq!(patched.body["changes"][0]["path"], "/apps/shop/cluster/web/endpoints/0");
    assert_eq!(served(&running, "shop"), ["127.0.0.1:14001 127.0.0.1:14001"]);
    let got = running.ask("GET", "/v1/apps/shop", "");
    assert_eq!((&got.body["owner"], &got.body["version"]), (&json!("api"), &json!(2)));
    assert_eq!(got.body["spec"], spec("shop.example", 14001));
    let listed = running.ask("GET", "/v1/apps", "");
    let names: Vec<&Value> = listed.body["apps"].as_array().unwrap().iter().map(|app| &app["name"]).collect();
    assert_eq!(names, ["default", "shop"]);

    let gone = running.ask("DELETE", "/v1/apps/shop", "");
    assert_eq!((gone.status, &gone.body["versions"]["shop"]), (200, &Value::Null), "{gone:?}");
    assert!(served(&running, "shop").is_empty());
    assert_eq!(running.ask("GET", "/v1/apps/shop", "").code(), "unknown_app");
    assert_eq!(running.ask("DELETE", "/v1/apps/shop", "").code(), "unknown_app");
    running.control.stop();
    assert!(served(&bench.start(), "shop").is_empty());
}

#[test]
fn nothing_of_a_deleted_app_comes_alive_under_the_next_one() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    assert_eq!(put(&running, "shop", &spec("shop.example", 14000)).status, 201);
    let at = |id: &str| format!("/v1/apps/shop/clusters/web/endpoints/{id}");
    assert_eq!(running.ask("PUT", &at("extra"), r#"{"address":"127.0.0.1:14001"}"#).status, 200);
    assert_eq!(running.ask("PUT", &at("127.0.0.1:14000"), r#"{"drain":true}"#).status, 200);
    let worker = r#"{"release":"v1","address":"127.0.0.1:14002","state":"ready"}"#;
    assert_eq!(running.ask("PUT", "/v1/apps/shop/dynos/worker.1", worker).status, 200);
    assert_eq!(running.ask("DELETE", "/v1/apps/shop", "").status, 200);
    let status = running.wait("nothing left", |status| status.api_endpoints == 0);
    assert_eq!(status.drain_marks, 0);
    assert_eq!(put(&running, "shop", &spec("shop.example", 14000)).status, 201);
    let only = ["127.0.0.1:14000 127.0.0.1:14000"];
    assert_eq!(served(&running, "shop"), only);
    assert_eq!(running.ask("GET", "/v1/apps/shop/dynos", "").body["dynos"], json!([]));
    running.control.stop();
    assert_eq!(served(&bench.start(), "shop"), only, "nor after a restart");
}

#[test]
fn a_refused_change_changes_nothing_and_says_where() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    assert_eq!(put(&running, "shop", &spec("shop.example", 14000)).status, 201);
    let (published, table) = (running.router.count(), running.router.latest());
    let mut bad = spec("shop.example", 14000);
    bad["route"][0]["cluster"] = json!("wbe");
    let refused = put(&running, "shop", &bad);
    assert_eq!((refused.status, refused.code()), (422, "invalid_app"), "{refused:?}");
    assert_eq!(refused.body["pointer"], "/spec/route/0/cluster", "{refused:?}");
    let rows = [
        (r#"{"spec":{"rout":[]}}"#, 422, "invalid_app", json!("/spec/rout")),
        (r#"{"spec":7}"#, 422, "bad_value", json!("/spec")),
        (r#"{}"#, 422, "missing_spec", json!("/spec")),
        (r#"{"spec":{},"extra":1}"#, 422, "unknown_member", json!("/extra")),
        (r#"{"spec":{},"spec":{}}"#, 400, "repeated_member", Value::Null),
        (r#"{"spec":"#, 400, "bad_json", Value::Null),
        ("", 400, "missing_body", Value::Null),
    ];
    for (text, status, code, pointer) in rows {
        let refused = running.ask("PUT", "/v1/apps/shop", text);
        assert_eq!(
            (refused.status, refused.code(), &refused.body["pointer"]),
            (status, code, &pointer),
            "{text}"
        );
    }
    // Whoever has the host first keeps it.
    let thief = put(&running, "thief", &spec("shop.example", 14002));
    assert_eq!((thief.status, thief.code()), (422, "invalid_app"), "{thief:?}");
    assert!(thief.body["detail"].as_str().unwrap().contains("belongs to app `shop`"), "{thief:?}");
    assert_eq!(running.router.count(), published, "nothing is published");
    assert_eq!(running.router.latest().apps, table.apps);
    assert_eq!(running.ask("GET", "/v1/apps/shop", "").body["version"], 1);
    assert_eq!(running.ask("GET", "/v1/apps/thief", "").status, 404);
}

#[test]
fn hosts_stay_with_who_had_them_first_over_restarts() {
    let bench = Bench::new(&format!("apps = \"apps\"\n{SMALL}"));
    std::fs::create_dir_all(bench.at("apps")).unwrap();
    let running = bench.start();
    assert_eq!(put(&running, "zebra", &spec("shop.example", 14000)).status, 201);
    running.control.stop();
    // `ant` comes before `zebra` by name, and is there before control starts.
    let text = "[cluster.web]\nendpoints = [\"127.0.0.1:14001\"]\n[[route]]\nhost = \"shop.example\"\ncluster = \"web\"\n";
    bench.put("apps/ant.toml", text);
    // The last good table may be as old as it likes.
    std::fs::remove_file(bench.at("run/last-good.json")).unwrap();
    let running = bench.start();
    assert_eq!(served(&running, "zebra").len(), 1);
    assert!(served(&running, "ant").is_empty(), "the host was recorded as zebra's");
    let hosts = running.ask("GET", "/v1/hosts", "");
    let owned = json!({ "host": "shop.example", "app": "zebra" });
    assert!(hosts.body["hosts"].as_array().unwrap().contains(&owned), "{hosts:?}");
    assert_eq!(running.ask("DELETE", "/v1/apps/zebra", "").status, 200);
    assert_eq!(running.ask("POST", "/v1/reload", "").status, 200);
    assert_eq!(served(&running, "ant").len(), 1, "free again");
}

#[test]
fn a_file_and_the_api_never_both_own_an_app() {
    let bench = Bench::new(&format!("apps = \"apps\"\n{SMALL}"));
    std::fs::create_dir_all(bench.at("apps")).unwrap();
    let text = |port: u16| {
        format!(
            "[cluster.web]\nendpoints = [\"127.0.0.1:{port}\"]\n[[route]]\nhost = \"shop.example\"\ncluster = \"web\"\n"
        )
    };
    bench.put("apps/shop.toml", &text(14000));
    let running = bench.start();
    let got = running.ask("GET", "/v1/apps/shop", "");
    assert!(got.body["owner"].as_str().unwrap().starts_with("file:"), "{got:?}");
    assert_eq!(
        got.body["spec"]["route"][0]["host"], "shop.example",
        "a file's words are shown as a document"
    );
    let new = body(&spec("shop.example", 14001));
    for (method, path, body) in [
        ("PUT", "/v1/apps/shop", new.as_str()),
        ("PATCH", "/v1/apps/shop", r#"{"spec":{"head_limit":4096}}"#),
        ("DELETE", "/v1/apps/shop", ""),
        ("DELETE", "/v1/apps/shop/clusters/web", ""),
        ("PUT", "/v1/apps/default", new.as_str()),
        ("PUT", "/v1/apps/default?adopt=true", new.as_str()),
    ] {
        let refused = running.ask(method, path, body);
        assert_eq!((refused.status, refused.code()), (409, "owned_by_file"), "{method} {path}: {refused:?}");
        assert!(refused.body["owner"].as_str().unwrap().starts_with("file:"));
    }
    let adopted = running.ask("PUT", "/v1/apps/shop?adopt=true", &new);
    assert_eq!(adopted.status, 200, "{adopted:?}");
    assert_eq!(served(&running, "shop"), ["127.0.0.1:14001 127.0.0.1:14001"]);
    assert_eq!(running.ask("GET", "/v1/apps/shop", "").body["adopted"], true);
    // The file may change; it is not in force.
    bench.put("apps/shop.toml", &text(14002));
    let reload = running.ask("POST", "/v1/reload", "");
    assert_eq!(reload.body["refused_apps"], json!([]), "{reload:?}");
    assert_eq!(reload.body["diagnostics"][0]["code"], "adopted_by_api");
    assert_eq!(served(&running, "shop"), ["127.0.0.1:14001 127.0.0.1:14001"]);
    running.control.stop();
    let running = bench.start();
    assert_eq!(served(&running, "shop"), ["127.0.0.1:14001 127.0.0.1:14001"]);
    // Deleting gives it back.
    assert_eq!(running.ask("DELETE", "/v1/apps/shop", "").status, 200);
    assert_eq!(served(&running, "shop"), ["127.0.0.1:14002 127.0.0.1:14002"]);
    let got = running.ask("GET", "/v1/apps/shop", "");
    assert!(got.body["owner"].as_str().unwrap().starts_with("file:"));

    // A file that comes later does not take an app from the API.
    assert_eq!(put(&running, "blog", &spec("blog.example", 14003)).status, 201);
    bench.put("apps/blog.toml", &text(14004));
    let reload = running.ask("POST", "/v1/reload", "");
    assert_eq!(reload.body["refused_apps"], json!(["blog"]), "{reload:?}");
    assert_eq!(served(&running, "blog"), ["127.0.0.1:14003 127.0.0.1:14003"]);
}

#[test]
fn of_two_who_saw_the_same_version_one_wins() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    let path = "/v1/apps/shop";
    let only_new = "If-None-Match: *\r\n";
    let made = running.ask_with("PUT", path, only_new, &body(&spec("shop.example", 14000)));
    assert_eq!(made.status, 201);
    let second = running.ask_with("PUT", path, only_new, &body(&spec("shop.example", 14001)));
    assert_eq!((second.status, second.code()), (412, "precondition_failed"));
    let seen = tag(&running.ask("GET", path, ""));
    assert_eq!(seen, tag(&made));
    let fields = format!("If-Match: {seen}\r\n");
    let won: Vec<u16> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..4)
            .map(|n| {
                let (running, fields) = (&running, &fields);
                let text = body(&spec("shop.example", 14010 + n));
                scope.spawn(move || running.ask_with("PUT", path, fields, &text).status)
            })
            .collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(won.iter().filter(|status| **status == 200).count(), 1, "{won:?}");
    assert_eq!(won.iter().filter(|status| **status == 412).count(), 3, "{won:?}");
    assert_eq!(running.ask("GET", path, "").body["version"], 2);
    // Without conditions patches of different members both hold, also at once.
    std::thread::scope(|scope| {
        for n in 0..4 {
            let running = &running;
            scope.spawn(move || {
                let name = format!("c{n}");
                let text = json!({ "spec": { "cluster": { name: { "endpoints": ["127.0.0.1:14100"] } } } });
                let reply = running.ask("PATCH", path, &text.to_string());
                assert_eq!(reply.status, 200, "{reply:?}");
            });
        }
    });
    assert_eq!(running.router.latest().apps.get("shop").unwrap().clusters.len(), 5);

    // Endpoints have tags too.
    let at = crate::bench::endpoint("extra");
    let put = running.ask("PUT", &at, r#"{"address":"127.0.0.1:13001"}"#);
    let fields = format!("If-Match: {}\r\n", tag(&put));
    assert_eq!(tag(&running.ask("GET", &at, "")), tag(&put));
    assert_eq!(running.ask_with("PUT", &at, &fields, r#"{"address":"127.0.0.1:13002"}"#).status, 200);
    assert_eq!(running.ask_with("PUT", &at, &fields, r#"{"address":"127.0.0.1:13003"}"#).status, 412);
    assert_eq!(running.ask_with("DELETE", &at, &fields, "").status, 412);
}

#[test]
fn a_dry_run_says_what_would_differ_and_does_nothing() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    assert_eq!(put(&running, "shop", &spec("shop.example", 14000)).status, 201);
    let published = running.router.count();
    let bytes = running.control.status().journal_bytes;
    let dry = running.ask("PUT", "/v1/apps/shop?dry_run=true", &body(&spec("shop.example", 14001)));
    assert_eq!(
        (dry.status, &dry.body["dry_run"], &dry.body["revision"]),
        (200, &json!(true), &Value::Null),
        "{dry:?}"
    );
    let change = json!({
        "op": "replace",
        "path": "/apps/shop/cluster/web/endpoints/0",
        "from": "127.0.0.1:14000",
        "to": "127.0.0.1:14001",
    });
    assert_eq!(dry.body["changes"], json!([change]));
    let refused = running.ask("PUT", "/v1/apps/shop?dry_run=true", r#"{"spec":{"rout":1}}"#);
    assert_eq!((refused.status, refused.code()), (422, "invalid_app"));
    // A typing error must not make a change of it.
    let typo = running.ask("PUT", "/v1/apps/shop?dryrun=true", &body(&spec("shop.example", 14001)));
    assert_eq!((typo.status, typo.code()), (400, "unknown_parameter"));
    assert_eq!(running.router.count(), published);
    assert_eq!(running.control.status().journal_bytes, bytes);
    assert_eq!(running.ask("GET", "/v1/apps/shop", "").body["version"], 1);
}

#[test]
fn routes_and_clusters_are_changed_by_name() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    assert_eq!(put(&running, "shop", &spec("shop.example", 14000)).status, 201);
    let made =
        running.ask("PUT", "/v1/apps/shop/clusters/api", r#"{"spec":{"endpoints":["127.0.0.1:14005"]}}"#);
    assert_eq!(made.status, 200, "{made:?}");
    let route = r#"{"spec":{"host":"shop.example","path":"/api","cluster":"api"}}"#;
    assert_eq!(running.ask("PUT", "/v1/apps/shop/routes/api", route).status, 200);
    assert_eq!(running.router.latest().apps.get("shop").unwrap().routes.len(), 2);
    let got = running.ask("GET", "/v1/apps/shop/routes/api", "");
    assert_eq!((&got.body["spec"]["path"], &got.body["owner"]), (&json!("/api"), &json!("api")));
    let listed = running.ask("GET", "/v1/apps/shop/routes?limit=1", "");
    assert_eq!((&listed.body["routes"][0]["name"], &listed.body["next"]), (&json!("all"), &json!("all")));
    let rest = running.ask("GET", "/v1/apps/shop/routes?limit=1&after=all", "");
    assert_eq!((&rest.body["routes"][0]["name"], &rest.body["next"]), (&json!("api"), &Value::Null));
    let bad = running.ask("PATCH", "/v1/apps/shop/routes/api", r#"{"spec":{"cluster":"none"}}"#);
    assert_eq!((bad.status, &bad.body["pointer"]), (422, &json!("/spec/cluster")), "{bad:?}");
    let used = running.ask("DELETE", "/v1/apps/shop/clusters/api", "");
    assert_eq!((used.status, used.code()), (422, "invalid_app"), "a route goes there: {used:?}");
    assert_eq!(running.ask("DELETE", "/v1/apps/shop/routes/all", "").status, 200);
    assert_eq!(running.ask("GET", "/v1/apps/shop/routes/api", "").status, 200, "names do not move");
    assert_eq!(running.ask("DELETE", "/v1/apps/shop/routes/all", "").code(), "unknown_route");
    assert_eq!(running.ask("GET", "/v1/apps/default/clusters/web", "").status, 200, "also of files");
}

#[test]
fn versions_are_listed_compared_and_gone_back_to() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    for port in [14000, 14001, 14002] {
        assert!(put(&running, "shop", &spec("shop.example", port)).status < 300);
    }
    let back = running.ask("POST", "/v1/apps/shop/rollback", r#"{"version":1}"#);
    assert_eq!((back.status, &back.body["versions"]["shop"]), (200, &json!(4)), "{back:?}");
    assert_eq!(served(&running, "shop"), ["127.0.0.1:14000 127.0.0.1:14000"]);
    running.control.stop();
    let running = bench.start();
    let listed = running.ask("GET", "/v1/apps/shop/versions", "");
    let why: Vec<&Value> =
        listed.body["versions"].as_array().unwrap().iter().map(|one| &one["why"]).collect();
    assert_eq!(why, ["put", "put", "put", "rollback to 1"]);
    assert_eq!(listed.body["versions"][0]["by"], "local");
    let page = running.ask("GET", "/v1/apps/shop/versions?limit=2&after=1", "");
    assert_eq!((&page.body["versions"][0]["version"], &page.body["next"]), (&json!(2), &json!("3")));
    let changes = running.ask("GET", "/v1/apps/shop/versions/3/changes?from=1", "");
    assert_eq!(changes.body["changes"][0]["to"], "127.0.0.1:14002", "{changes:?}");
    assert_eq!(running.ask("GET", "/v1/apps/shop/versions/4", "").body["spec"], spec("shop.example", 14000));
    assert_eq!(running.ask("GET", "/v1/apps/shop/versions/9", "").code(), "unknown_version");
    assert_eq!(running.ask("GET", "/v1/apps/shop/versions/x", "").code(), "bad_number");
    assert_eq!(running.ask("POST", "/v1/apps/shop/rollback", r#"{"version":9}"#).code(), "unknown_version");
    assert_eq!(running.ask("POST", "/v1/apps/shop/rollback", r#"{"version":"1"}"#).code(), "bad_value");
}

#[test]
fn versions_that_are_kept_are_bounded() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    for port in 14000..14110 {
        assert!(put(&running, "shop", &spec("shop.example", port)).status < 300);
    }
    let listed = running.ask("GET", "/v1/apps/shop/versions", "");
    let all = listed.body["versions"].as_array().unwrap();
    assert_eq!((all.len(), &all[0]["version"], &all[99]["version"]), (100, &json!(11), &json!(110)));
}

#[test]
fn a_file_of_apps_is_applied_whole_or_not_at_all() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    let apply = |query: &str, kind: &str, text: &str| {
        let length = text.len();
        running.raw(&format!(
            "POST /v1/apply{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{text}"
        ))
    };
    let both = "[app.a.cluster.web]\nendpoints = [\"127.0.0.1:14000\"]\n[[app.a.route]]\nhost = \"a.example\"\ncluster = \"web\"\n\
                [app.b.cluster.web]\nendpoints = [\"127.0.0.1:14001\"]\n[[app.b.route]]\nhost = \"b.example\"\ncluster = \"web\"\n";
    let published = running.router.count();
    let bad = apply(
        "",
        "application/toml",
        &both.replace("cluster = \"web\"\n[app.b", "cluster = \"wbe\"\n[app.b"),
    );
    assert_eq!((bad.status, &bad.body["pointer"]), (422, &json!("/app/a/route/0/cluster")), "{bad:?}");
    assert_eq!(running.router.count(), published, "b is not taken alone");
    let dry = apply("?dry_run=true", "application/toml", both);
    assert_eq!((dry.status, dry.body["changes"].as_array().unwrap().len()), (200, 2), "{dry:?}");
    let done = apply("", "application/toml", both);
    assert_eq!((done.status, &done.body["versions"]), (200, &json!({ "a": 1, "b": 1 })), "{done:?}");
    assert_eq!(running.router.count(), published + 1, "one change of the table");
    let again = apply("", "application/toml", both);
    assert_eq!(
        (again.status, &again.body["changed"], &again.body["versions"]),
        (200, &json!(false), &json!({}))
    );
    let yaml = "cluster:\n  web:\n    endpoints: [\"127.0.0.1:14009\"]\nroute:\n  - host: a.example\n    cluster: web\n";
    let one = apply("?app=a", "application/yaml", yaml);
    assert_eq!((one.status, &one.body["versions"]), (200, &json!({ "a": 2 })), "{one:?}");
    let json = json!({ "app": { "a": spec("a.example", 14002) } }).to_string();
    let pruned = apply("?prune=true", "application/json", &json);
    assert_eq!((pruned.status, &pruned.body["versions"]), (200, &json!({ "a": 3, "b": null })), "{pruned:?}");
    assert!(served(&running, "b").is_empty());
    for (query, kind, text, code) in [
        ("", "application/toml", "app = ", "bad_syntax"),
        ("", "text/html", "", "not_a_file_type"),
        ("", "application/toml", "[cluster.web]\n", "unknown_member"),
        ("", "application/toml", "", "missing_apps"),
        ("?app=a%2Fb", "application/toml", "", "bad_name"),
        ("?app=a&prune=true", "application/json", "{}", "bad_parameter"),
        ("", "application/toml", "[app]\na = 1\n", "bad_value"),
        ("?app=default", "application/toml", "", "owned_by_file"),
    ] {
        let refused = apply(query, kind, if text.is_empty() { " " } else { text });
        assert_eq!(refused.code(), code, "{query} {text}: {refused:?}");
    }
}

#[test]
fn releases_get_numbers_and_a_formation_is_merged() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    assert_eq!(running.ask("GET", "/v1/apps/none/releases", "").code(), "unknown_app");
    let first = running.ask("POST", "/v1/apps/default/releases", r#"{"description":"first"}"#);
    assert_eq!((first.status, &first.body["release"], &first.body["name"]), (201, &json!(1), &json!("v1")));
    let second = running.ask("POST", "/v1/apps/default/releases", r#"{"name":"2026-11-21"}"#);
    assert_eq!((&second.body["release"], &second.body["name"]), (&json!(2), &json!("2026-11-21")));
    assert_eq!(running.ask("GET", "/v1/apps/default/releases/1", "").body["description"], "first");
    assert_eq!(running.ask("POST", "/v1/apps/default/releases", r#"{"name":7}"#).body["pointer"], "/name");
    let empty = running.ask("GET", "/v1/apps/default/formation", "");
    assert_eq!((empty.status, &empty.body["processes"]), (200, &json!({})));
    let at = "/v1/apps/default/formation";
    assert_eq!(running.ask("PUT", at, r#"{"processes":{"web":2,"worker":1}}"#).status, 200);
    let scaled = running.ask("PATCH", at, r#"{"processes":{"web":3,"worker":null}}"#);
    assert_eq!((scaled.status, &scaled.body["processes"]), (200, &json!({ "web": 3 })), "{scaled:?}");
    assert_eq!(running.ask("PATCH", at, r#"{"processes":{"web":-1}}"#).body["pointer"], "/processes/web");
    assert_eq!(
        running.ask_with("PATCH", at, "If-Match: \"1\"\r\n", r#"{"processes":{"web":4}}"#).status,
        412
    );
    running.control.stop();
    let running = bench.start();
    assert_eq!(running.ask("GET", at, "").body["processes"], json!({ "web": 3 }));
    assert_eq!(
        running.ask("GET", "/v1/apps/default/releases", "").body["releases"].as_array().unwrap().len(),
        2
    );
}

#[test]
fn a_bad_file_does_not_stop_changes_of_the_api() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    bench.put("ekiden.toml", "this is no configuration");
    running.wait("the refusal", |status| status.stale);
    let made = put(&running, "shop", &spec("shop.example", 14000));
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(served(&running, "shop").len(), 1);
    running.control.stop();
    let running = bench.start();
    assert!(running.control.status().stale);
    assert_eq!(served(&running, "shop").len(), 1, "beside the last good table");
}

#[test]
fn dynos_are_placed_start_serve_drain_and_are_gone() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    let at = "/v1/apps/default/dynos/web.1";
    let web = |running: &Running| crate::bench::web(&running.router.latest());
    let before = web(&running);
    let starting = r#"{"release":"v1","address":"127.0.0.1:14000","state":"starting"}"#;
    assert_eq!(running.ask("PUT", at, starting).status, 200);
    assert_eq!(web(&running), before, "it starts: nothing goes there");
    assert_eq!(running.ask("GET", at, "").body["state"], "starting");
    assert_eq!(running.ask("PATCH", at, r#"{"state":"ready"}"#).status, 200);
    assert!(web(&running).contains(&"web.1 127.0.0.1:14000".to_owned()));
    let model = running.router.latest();
    let cluster = &model.apps.get("default").unwrap().clusters["web"];
    let endpoint = cluster.endpoints.iter().find(|one| one.id.as_str() == "web.1").unwrap();
    assert_eq!(
        endpoint.release().map(|release| &**release),
        Some("v1"),
        "another release is another incarnation"
    );
    // A worker has no cluster, and is kept all the same.
    let worker = r#"{"release":"v1","address":"127.0.0.1:14001","state":"ready"}"#;
    assert_eq!(running.ask("PUT", "/v1/apps/default/dynos/worker.1", worker).status, 200);
    running.control.stop();

    let running = bench.start();
    assert!(web(&running).contains(&"web.1 127.0.0.1:14000".to_owned()));
    let listed = running.ask("GET", "/v1/apps/default/dynos", "");
    let names: Vec<&Value> =
        listed.body["dynos"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["web.1", "worker.1"]);
    assert_eq!(running.ask("PATCH", at, r#"{"state":"draining"}"#).status, 200);
    assert!(web(&running).contains(&"web.1 127.0.0.1:14000 drain".to_owned()));
    assert_eq!(running.ask("GET", at, "").body["state"], "draining");
    let elsewhere = r#"{"release":"v1","address":"127.0.0.1:14000","state":"ready","cluster":"other"}"#;
    assert_eq!(running.ask("PUT", at, elsewhere).code(), "placed_elsewhere");
    assert_eq!(running.ask("DELETE", at, "").status, 200);
    assert_eq!(web(&running), before);
    assert_eq!(running.ask("DELETE", at, "").code(), "unknown_dyno");
    for (name, body, pointer) in [
        ("web.1", r#"{"address":"127.0.0.1:1","state":"ready"}"#, json!("/release")),
        ("web.1", r#"{"release":"v1","address":"127.0.0.1:1","state":"gone"}"#, json!("/state")),
        ("web.1", r#"{"release":"v1","state":"ready"}"#, json!("/address")),
        ("web.1", r#"{"release":"v1","address":"x","state":"ready"}"#, json!("/address")),
        ("web", "{}", Value::Null),
        ("web.0", "{}", Value::Null),
    ] {
        let refused = running.ask("PUT", &format!("/v1/apps/default/dynos/{name}"), body);
        assert!(matches!(refused.status, 400 | 422), "{refused:?}");
        assert_eq!(refused.body["pointer"], pointer, "{name} {body}");
    }
    assert_eq!(running.ask("PUT", "/v1/apps/none/dynos/web.1", worker).code(), "unknown_app");
}

#[test]
fn a_guarded_change_and_its_guard_are_one_transaction() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    assert_eq!(put(&running, "shop", &spec("shop.example", 14000)).status, 201);
    // The router does not take the change, so that the asker hears of a failure: it stands all the same, and so does its guard.
    let refusal = Refusal { part: "app:shop".to_owned(), reason: "no".to_owned() };
    running.router.set(Mode::Refuse(vec![refusal]));
    let apply = |guard: &str, port: u16| {
        running.ask("POST", &format!("/v1/apply?app=shop{guard}"), &spec("shop.example", port).to_string())
    };
    assert_eq!(apply("&guard=1h", 14001).code(), "not_applied");
    let guard = || running.ask("GET", "/v1/apps/shop/guard", "").body;
    let words = |guard: &Value| (guard["state"].clone(), guard["version"].clone(), guard["back_to"].clone());
    assert_eq!(words(&guard()), (json!("watching"), json!(2), json!(1)));
    running.router.set(Mode::Apply);
    let answer = apply("&guard=30m", 14002);
    assert_eq!(answer.body["guard"]["until_unix_ms"], guard()["until_unix_ms"], "{answer:?}");
    assert_eq!(
        words(&guard()),
        (json!("watching"), json!(3), json!(1)),
        "the second was not found good either"
    );
    // In maintenance the router itself answers: that is nothing to judge a change by.
    assert_eq!(running.ask("PUT", "/v1/apps/shop/maintenance", "{}").status, 200);
    assert_eq!(apply("&guard=30m", 14003).status, 200);
    assert_eq!(guard()["version"], 4);
}
