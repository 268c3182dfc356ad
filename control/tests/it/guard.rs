//! Who may ask, and how requests that are not right are refused: one row per case.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use crate::bench::{Bench, SMALL, endpoint};

/// Method and target (`E` stands for an endpoint), head lines with the body behind them, status, code.
type Row = (&'static str, String, u16, &'static str);

fn rows() -> Vec<Row> {
    let json = "Content-Type: application/json\r\n";
    let large = format!("{{\"zone\":\"{}\"}}", "z".repeat(70_000));
    vec![
        ("GET /v1/table", "Host: evil.test\r\n".into(), 403, "bad_host"),
        ("GET /v1/table", "Host: localhost@evil.test\r\n".into(), 403, "bad_host"),
        ("GET /v1/table", "Host: 10.0.0.1\r\n".into(), 403, "bad_host"),
        ("GET /v1/table", "Host: localhost\r\nHost: localhost\r\n".into(), 403, "bad_host"),
        ("GET /v1/table", String::new(), 403, "bad_host"),
        ("GET http://evil.test/v1/table", "Host: localhost\r\n".into(), 403, "bad_host"),
        ("GET /v1/table", "Host: localhost\r\nOrigin: null\r\n".into(), 403, "carried_request"),
        ("GET /v1/table", "Host: localhost\r\nX-Forwarded-For: 127.0.0.1\r\n".into(), 403, "carried_request"),
        ("GET /v1/table", "Host: localhost\r\nForwarded: for=127.0.0.1\r\n".into(), 403, "carried_request"),
        ("GET /v1/table", "Host: localhost\r\nVia: 1.1 x\r\n".into(), 403, "carried_request"),
        ("GET /v1/table", "Host: localhost:9902\r\n".into(), 200, ""),
        ("GET /v1/table", "Host: LOCALHOST\r\n".into(), 200, ""),
        ("GET /v1/table", "Host: 127.9.9.9\r\n".into(), 200, ""),
        ("GET /v1/table", "Host: [::1]:80\r\n".into(), 200, ""),
        ("GET /v1/table", "Host: router.internal:9902\r\n".into(), 200, ""),
        ("GET /v1/apps", "Host: localhost\r\n".into(), 200, ""),
        ("GET /v1/apps/default", "Host: localhost\r\n".into(), 200, ""),
        ("GET /v1/apps/none", "Host: localhost\r\n".into(), 404, "unknown_app"),
        (
            "GET /v1/apps/default/clusters/none/endpoints",
            "Host: localhost\r\n".into(),
            404,
            "unknown_cluster",
        ),
        ("GET /v1/nothing", "Host: localhost\r\n".into(), 404, "unknown_path"),
        ("DELETE /v1/table", "Host: localhost\r\n".into(), 405, "wrong_method"),
        ("GET /v1/reload", "Host: localhost\r\n".into(), 405, "wrong_method"),
        (
            "POST /v1/reload",
            "Host: localhost\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\n1".into(),
            415,
            "not_json_type",
        ),
        (
            "PUT E",
            "Host: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}".into(),
            415,
            "not_json_type",
        ),
        ("PUT E", "Host: localhost\r\nContent-Length: 2\r\n\r\n{}".into(), 415, "not_json_type"),
        (
            "PUT E",
            format!("Host: localhost\r\n{json}Content-Length: {}\r\n\r\n{large}", large.len()),
            413,
            "body_too_large",
        ),
        (
            "PUT E",
            format!(
                "Host: localhost\r\n{json}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
                large.len()
            ),
            413,
            "body_too_large",
        ),
        ("PUT E", "Host: localhost\r\n".into(), 400, "missing_body"),
        ("PUT E", format!("Host: localhost\r\n{json}Content-Length: 1\r\n\r\n{{"), 400, "bad_json"),
    ]
}

#[test]
fn what_is_not_right_is_refused_with_its_code() {
    let bench = Bench::new(&format!("{SMALL}\n[control]\nhosts = [\"router.internal\"]\n"));
    let running = bench.start();
    for (line, rest, status, code) in rows() {
        let line = line.replace(" E", &format!(" {}", endpoint("e")));
        let (fields, body) =
            rest.split_once("\r\n\r\n").map_or((rest.as_str(), ""), |(fields, body)| (fields, body));
        let fields = fields.trim_end();
        let fields = if fields.is_empty() { String::new() } else { format!("{fields}\r\n") };
        let reply = running.raw(&format!("{line} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n{body}"));
        assert_eq!((reply.status, reply.code()), (status, code), "{line}\n{fields}");
        if status == 405 {
            assert!(reply.head.contains("\r\nallow: "), "{}", reply.head);
        }
        if status >= 400 {
            for member in ["type", "title", "status", "code", "detail"] {
                assert!(!reply.body[member].is_null(), "{line}: no {member} in {}", reply.body);
            }
        }
    }
    assert_eq!(running.router.count(), 1, "nothing of this changed anything");
}

#[test]
fn a_token_is_asked_for_compared_and_read_again() {
    let bench = Bench::new(&format!("{SMALL}\n[control]\ntoken_file = \"token\"\n"));
    bench.put("token", "  first-token-of-16-bytes\n");
    let running = bench.start();
    let ask = |fields: &str| running.ask_with("GET", "/v1/status", fields, "");
    let missing = ask("");
    assert_eq!((missing.status, missing.code()), (401, "missing_token"));
    assert!(missing.head.contains("www-authenticate: bearer"));
    assert_eq!(ask("Authorization: Basic first-token-of-16-bytes\r\n").code(), "missing_token");
    assert_eq!(ask("Authorization: Bearer first-token-of-16-byte\r\n").code(), "wrong_token");
    let first = "Authorization: bearer first-token-of-16-bytes\r\n";
    let good = ask(first);
    assert_eq!(good.status, 200);
    assert!(!good.body.to_string().contains("first-token"), "a status holds no secret");

    bench.put("token", "another-token-of-16-bytes");
    assert_eq!(running.ask_with("POST", "/v1/reload", first, "").status, 200);
    assert_eq!(ask(first).code(), "wrong_token");
    let second = "Authorization: Bearer another-token-of-16-bytes\r\n";
    assert_eq!(ask(second).status, 200);
    // A token that is too short leaves the old one in force.
    bench.put("token", "short");
    assert_eq!(running.ask_with("POST", "/v1/reload", second, "").status, 200);
    assert_eq!(ask(second).status, 200);
    running.control.stop();
    // At a start there is no old one: nobody gets in.
    let running = bench.start();
    assert_eq!(running.ask_with("GET", "/v1/status", second, "").code(), "token_unusable");
}

/// A listener beside an app.
fn beside_app() -> String {
    SMALL
        .replace("address = \"127.0.0.1:18080\"", "address = \"127.0.0.1:18080\"\nrole = \"inbound\"")
        .replace("[[route]]", "[[route]]\nlisteners = [\"edge\"]")
}

#[test]
fn beside_an_app_the_default_is_a_unix_socket_of_mode_0600() {
    let mut bench = Bench::new(&beside_app());
    bench.options.control = ekiden_control::AddressFlag::FromFile;
    let socket = bench.at("run/control.sock");
    fs::create_dir_all(bench.at("run")).unwrap();
    // Left behind by a process that was killed.
    drop(UnixListener::bind(&socket).unwrap());
    let running = bench.start();
    let status = running.control.status();
    assert_eq!(status.api.bound.as_deref(), Some(format!("unix:{}", socket.display()).as_str()));
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let put = running.put("extra", r#"{"address":"127.0.0.1:13001"}"#);
    assert_eq!(put.status, 200, "{put:?}");
    running.control.stop();
    assert!(!socket.exists());
}

#[test]
fn beside_an_app_tcp_needs_a_token() {
    let bench = Bench::new(&beside_app());
    let running = bench.start();
    let refused = running.put("extra", r#"{"address":"127.0.0.1:13001"}"#);
    assert_eq!((refused.status, refused.code()), (403, "token_required"));
}

#[test]
fn where_other_machines_may_ask_a_token_is_needed() {
    let mut bench = Bench::new(SMALL);
    bench.options.control = "0.0.0.0:0".parse().unwrap();
    let running = bench.start();
    let refused = running.put("extra", r#"{"address":"127.0.0.1:13001"}"#);
    assert_eq!((refused.status, refused.code()), (403, "token_required"));
    assert_eq!(running.ask("GET", "/v1/table", "").code(), "token_required", "not even to look");
    running.control.stop();
    bench.put("ekiden.toml", &format!("{SMALL}\n[control]\ntoken_file = \"token\"\n"));
    bench.put("token", "a-token-of-16-bytes");
    let running = bench.start();
    let fields = "Authorization: Bearer a-token-of-16-bytes\r\n";
    assert_eq!(running.ask_with("GET", "/v1/table", fields, "").status, 200);
}

#[test]
fn the_default_address_moves_when_a_listener_beside_an_app_comes() {
    let mut bench = Bench::new(SMALL);
    bench.options.control = ekiden_control::AddressFlag::FromFile;
    let running = bench.start();
    // The default port may be taken on this machine; where it is wanted is what counts here.
    running.wait("the default", |status| status.api.wanted.as_deref() == Some("127.0.0.1:9902"));
    bench.put("ekiden.toml", &beside_app());
    running.wait("the socket", |status| {
        status.api.bound.as_deref().is_some_and(|bound| bound.starts_with("unix:"))
    });
}

#[test]
fn its_own_address_is_no_endpoint() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    let own = running.control.status().api.bound.clone().unwrap();
    let refused = running.put("loop", &format!(r#"{{"address":"{own}"}}"#));
    assert_eq!((refused.status, refused.code()), (422, "own_address"));
    assert_eq!(refused.body["pointer"], "/address");
    let wild = format!("0.0.0.0:{}", own.rsplit(':').next().unwrap());
    assert_eq!(running.put("loop", &format!(r#"{{"address":"{wild}"}}"#)).code(), "own_address");
    // From a file it is dropped, loudly, and the rest is served.
    let with = SMALL
        .replace(r#"["127.0.0.1:13000"]"#, &format!(r#"["127.0.0.1:13000", "127.0.0.1:13001", "{own}"]"#));
    bench.put("ekiden.toml", &with);
    let model = running.router.wait("the new endpoint", |model| crate::bench::web(model).len() > 1);
    assert_eq!(crate::bench::web(&model).len(), 2, "{:?}", crate::bench::web(&model));
    let list = running.ask("GET", "/v1/apps/default/clusters/web/endpoints", "");
    assert_eq!(list.body["dormant"][0]["address"], own);
}
