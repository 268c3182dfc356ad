//! Endpoints by PUT and DELETE: when an answer comes it is true for every request after it, and it lasts.

use std::fs;

use ekiden_tests::{Ekiden, Run, Served, Setup, Stamped, free_port, until_true, web};

use super::{EVEN, generation, one, problem, who};

#[test]
fn an_answered_put_serves_and_an_answered_delete_has_ended() {
    let (_file, router) = one();
    let joined = Stamped::start("api");
    let path = Ekiden::endpoint_path("web", "joined");
    let body = format!("{{\"address\":\"{}\",\"weight\":3,\"zone\":\"z\"}}", joined.address);
    let before = generation(&router.control("GET", "/v1/table", ""));

    let first = generation(&router.control("PUT", &path, &body));
    assert!(first > before, "a change makes a generation");
    assert_eq!(
        who(&router, "/", 100),
        ["api", "file"],
        "requests right after the answer do not use the endpoint"
    );
    assert_eq!(generation(&router.control("PUT", &path, &body)), first, "the same PUT again is a change");
    let seen = router.control("GET", &path, "").json();
    assert_eq!(
        (&seen["owner"], &seen["weight"], &seen["zone"], &seen["state"]),
        (&"api".into(), &3.into(), &"z".into(), &"ready".into())
    );
    let listed = router.control("GET", "/v1/apps", "").json();
    assert_eq!(
        (&listed["apps"][0]["name"], &listed["apps"][0]["clusters"][0]["endpoints"]),
        (&"default".into(), &2.into()),
        "{listed}"
    );

    let moved = Stamped::start("moved");
    assert!(
        generation(&router.control("PUT", &path, &format!("{{\"address\":\"{}\"}}", moved.address))) > first
    );
    let before = joined.requests();
    assert_eq!(
        who(&router, "/", 100),
        ["file", "moved"],
        "a PUT with another address leaves the old one in use"
    );
    assert_eq!(joined.requests(), before);

    assert!(generation(&router.control("DELETE", &path, "")) > first + 1);
    let before = moved.requests();
    assert_eq!(who(&router, "/", 50), ["file"]);
    assert_eq!(moved.requests(), before, "an endpoint got a request after its removal was answered");
    assert_eq!(problem(&router.control("DELETE", &path, "")), (404, "unknown_endpoint".to_owned()));
    assert_eq!(problem(&router.control("GET", &path, "")), (404, "unknown_endpoint".to_owned()));
    assert_eq!(
        problem(&router.control("PUT", &Ekiden::endpoint_path("wbe", "x"), &body)).1,
        "unknown_cluster"
    );
}

#[test]
fn endpoints_of_the_file_can_be_drained_and_nothing_else() {
    let (origin, router) = one();
    let joined = Stamped::start("api");
    router.put("web", "joined", joined.address);
    let path = Ekiden::endpoint_path("web", &origin.address.to_string());
    for (method, body) in
        [("PUT", "{\"address\":\"127.0.0.1:1\"}"), ("PUT", "{\"drain\":true,\"weight\":2}"), ("DELETE", "")]
    {
        let (status, code) = problem(&router.control(method, &path, body));
        assert_eq!(
            (status, code.as_str()),
            (409, "owned_by_file"),
            "{method} {body}: file and API disagree for ever"
        );
    }
    generation(&router.control("PUT", &path, "{\"drain\":true}"));
    let before = origin.requests();
    assert_eq!(who(&router, "/", 50), ["api"], "a draining endpoint gets new requests");
    assert_eq!(router.control("GET", &path, "").json()["state"], "draining");
    assert_eq!(router.metric("ekiden_endpoint_ready", &[&origin.address.to_string()]), 0.0);

    // A reload does not undo what an operator has said.
    generation(&router.control("POST", "/v1/reload", ""));
    assert_eq!(who(&router, "/", 50), ["api"], "a reload lifts a drain");
    assert_eq!(origin.requests(), before);
    generation(&router.control("PUT", &path, "{\"drain\":false}"));
    assert_eq!(who(&router, "/", 100), ["api", "file"]);
}

#[test]
fn a_drained_endpoint_of_the_api_keeps_its_address() {
    let (_origin, router) = one();
    let joined = Stamped::start("api");
    router.put("web", "joined", joined.address);
    let path = Ekiden::endpoint_path("web", "joined");
    generation(&router.control("PUT", &path, "{\"drain\":true}"));
    assert_eq!(who(&router, "/", 30), ["file"]);
    let seen = router.control("GET", &path, "").json();
    assert_eq!(
        (&seen["drain"], seen["address"].as_str()),
        (&true.into(), Some(joined.address.to_string().as_str()))
    );
    generation(&router.control("PUT", &path, "{\"drain\":false}"));
    assert_eq!(who(&router, "/", 100), ["api", "file"]);
}

#[test]
fn requests_that_a_browser_or_proxy_carried_change_nothing() {
    let (origin, router) = one();
    let path = Ekiden::endpoint_path("web", "evil");
    let body = format!("{{\"address\":\"{}\"}}", origin.address);
    let before = generation(&router.control("GET", "/v1/table", ""));
    let rows = [
        ("Host: evil.example\r\n", 403, "bad_host"),
        ("Host: 127.0.0.1.evil.example\r\n", 403, "bad_host"),
        ("Host: localhost@evil.example\r\n", 403, "bad_host"),
        ("Origin: http://localhost:9902\r\n", 403, "carried_request"),
        ("Origin: null\r\n", 403, "carried_request"),
        ("X-Forwarded-For: 10.0.0.1\r\n", 403, "carried_request"),
        ("Forwarded: for=10.0.0.1\r\n", 403, "carried_request"),
        ("Via: 1.1 proxy\r\n", 403, "carried_request"),
        ("Content-Type: text/plain\r\n", 415, "not_json_type"),
        ("Content-Type: application/x-www-form-urlencoded\r\n", 415, "not_json_type"),
    ];
    for (fields, status, code) in rows {
        let answer = router.control_with("PUT", &path, fields, &body);
        assert_eq!(problem(&answer), (status, code.to_owned()), "{fields}: a web page can change the table");
        if status == 403 {
            let answer = router.control_with("GET", "/v1/table", fields, "");
            assert_eq!(
                problem(&answer),
                (status, code.to_owned()),
                "{fields}: a web page can read the table"
            );
        }
    }
    assert_eq!(
        generation(&router.control("GET", "/v1/table", "")),
        before,
        "a refused request changed the table"
    );
    for host in ["Host: localhost\r\n", "Host: LOCALHOST:9902\r\n", "Host: [::1]:9902\r\n"] {
        assert_eq!(router.control_with("GET", "/v1/table", host, "").status, 200, "{host}");
    }
    for (method, path) in [("POST", "/v1/table"), ("DELETE", "/v1/reload"), ("PATCH", &*path)] {
        let answer = router.control(method, path, "");
        assert_eq!(problem(&answer), (405, "wrong_method".to_owned()), "{method} {path}");
        assert!(answer.get("allow").is_some());
    }
}

#[test]
fn a_token_is_asked_for_and_can_be_renewed() {
    let origin = Stamped::start("file");
    let keys = "[control]\ntoken_file = \"token\"\nhosts = [\"router.internal\"]\n";
    let setup = Setup::new(keys.to_owned() + &web(&[origin.address], EVEN, ""));
    let file = setup.dir().join("token");
    fs::write(&file, "first-token-0123456789\n").unwrap();
    let router = Ekiden::start(setup);
    let ask = |fields: &str| router.control_with("GET", "/v1/table", fields, "");
    assert_eq!(problem(&ask("")), (401, "missing_token".to_owned()));
    assert_eq!(ask("").get("www-authenticate"), Some("Bearer realm=\"ekiden\""));
    assert_eq!(
        problem(&ask("Authorization: Bearer first-token-012345678\r\n")),
        (401, "wrong_token".to_owned())
    );
    assert_eq!(problem(&ask("Authorization: Basic first-token-0123456789\r\n")).0, 401);
    assert_eq!(ask("Authorization: Bearer first-token-0123456789\r\n").status, 200);
    assert_eq!(ask("Host: router.internal\r\nAuthorization: Bearer first-token-0123456789\r\n").status, 200);
    assert!(!router.errors().contains("first-token"), "the token is in the log");

    router.rename_over(&file, "second-token-0123456789");
    router.signal(libc::SIGHUP);
    until_true("the new token", || ask("Authorization: Bearer second-token-0123456789\r\n").status == 200);
    assert_eq!(
        problem(&ask("Authorization: Bearer first-token-0123456789\r\n")).0,
        401,
        "a revoked token still works"
    );
}

#[test]
fn what_was_answered_survives_a_crash() {
    let (origin, router) = one();
    let (kept, gone) = (Stamped::start("kept"), Stamped::start("gone"));
    let path = Ekiden::endpoint_path("web", &origin.address.to_string());
    router.put("web", "kept", kept.address);
    router.put("web", "gone", gone.address);
    generation(&router.control("PUT", &path, "{\"drain\":true}"));
    router.delete("web", "gone");
    // No chance to write anything more.
    router.signal(libc::SIGKILL);
    let router = Ekiden::start(router.stop());
    assert_eq!(who(&router, "/", 50), ["kept"], "what the API answered is lost");
    assert_eq!((gone.requests(), origin.requests()), (0, 0));
    assert_eq!(router.control("GET", &Ekiden::endpoint_path("web", "kept"), "").json()["owner"], "api");
    router.delete("web", "kept");
    let router = Ekiden::start(router.stop());
    assert_eq!(router.get("/").status, 503, "a deleted endpoint is back after a restart");
}

#[test]
fn an_endpoint_of_the_api_outlives_reloads_and_its_cluster() {
    let (origin, router) = one();
    let joined = Stamped::start("api");
    router.put("web", "joined", joined.address);
    let setup = router.setup();
    let without = "[cluster.other]\nendpoints = [\"127.0.0.1:1\"]\n[[route]]\ncluster = \"other\"\n";
    router.rewrite(&setup.config_with(without));
    generation(&router.control("POST", "/v1/reload", ""));
    assert_eq!(
        router.table()["dormant"][0]["id"],
        "joined",
        "nobody is told that an endpoint waits for its cluster"
    );
    router.rewrite(&setup.config_with(&web(&[origin.address], EVEN, "")));
    generation(&router.control("POST", "/v1/reload", ""));
    assert_eq!(who(&router, "/", 100), ["api", "file"], "a reload lost an endpoint of the API");
}

#[test]
fn the_process_is_no_endpoint_of_itself() {
    let origin = Stamped::start("file");
    let telemetry = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    // By the file: the flag's address is not known to a check of the file, and must be refused all the same.
    let setup = Setup::new(web(&[origin.address, telemetry], "balance = \"round_robin\"", ""));
    let router = Ekiden::start_with(setup, Run { telemetry: Some(telemetry), ..Run::default() });
    assert_eq!(who(&router, "/metrics", 20), ["file"], "clients can read the metrics through the router");
    router.wait_error(&telemetry.to_string());
    let mapped = format!("[::ffff:127.0.0.1]:{}", router.control.port());
    for own in [
        router.telemetry.to_string(),
        router.control.to_string(),
        format!("0.0.0.0:{}", telemetry.port()),
        mapped,
    ] {
        let body = format!("{{\"address\":\"{own}\"}}");
        let answer = router.control("PUT", &Ekiden::endpoint_path("web", "own"), &body);
        assert_eq!(
            problem(&answer),
            (422, "own_address".to_owned()),
            "{own}: clients can reach the API through the router"
        );
    }
    assert_eq!(who(&router, "/v1/table", 20), ["file"]);
}

#[test]
fn a_wildcard_bind_is_known_as_own_on_every_address() {
    let origin = Stamped::start("file");
    let port = free_port();
    let own: std::net::SocketAddr = format!("127.0.0.9:{port}").parse().unwrap();
    let setup = Setup::new(web(&[origin.address, own], "balance = \"round_robin\"", ""));
    let telemetry = Some(std::net::SocketAddr::from(([0, 0, 0, 0], port)));
    let router = Ekiden::start_with(setup, Run { telemetry, ..Run::default() });
    assert_eq!(who(&router, "/metrics", 20), ["file"], "clients can read the metrics through the router");
    let answer = router.control(
        "PUT",
        &Ekiden::endpoint_path("web", "own"),
        &format!("{{\"address\":\"127.1.2.3:{port}\"}}"),
    );
    assert_eq!(problem(&answer), (422, "own_address".to_owned()));
}
