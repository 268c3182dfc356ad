//! How the API is asked: roles, keys for asking twice, request ids, the audit log, watches, and its own description.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use ekiden_config::model::Address;
use ekiden_control::AddressFlag;
use serde_json::{Value, json};

use crate::bench::{Bench, Running, SMALL, endpoint, until};

const APP: &str = r#"{"spec":{"cluster":{"web":{"endpoints":["127.0.0.1:14000"]}},"route":[{"host":"shop.example","cluster":"web"}]}}"#;

#[test]
fn roles_bound_what_a_token_may_do() {
    let bench = Bench::new(&format!("{SMALL}\n[control]\ntoken_file = \"tokens\"\n"));
    bench.put(
        "tokens",
        "admin ann ann-token-0123456\ndeploy ci ci-token-01234567\nread graf graf-token-012345\n",
    );
    let running = bench.start();
    let ask = |token: &str, method: &str, path: &str, body: &str| {
        let fields = format!("Authorization: Bearer {token}\r\n");
        running.ask_with(method, path, &fields, body)
    };
    let put = r#"{"address":"127.0.0.1:13001"}"#;
    let rows = [
        ("graf-token-012345", "GET", "/v1/table".to_owned(), "", 200),
        ("graf-token-012345", "PUT", endpoint("a"), put, 403),
        ("graf-token-012345", "GET", "/v1/audit".to_owned(), "", 403),
        ("ci-token-01234567", "PUT", endpoint("a"), put, 200),
        ("ci-token-01234567", "POST", "/v1/apps/default/releases".to_owned(), "{}", 201),
        ("ci-token-01234567", "PUT", "/v1/apps/shop".to_owned(), APP, 403),
        ("ci-token-01234567", "POST", "/v1/reload".to_owned(), "", 403),
        ("ann-token-0123456", "PUT", "/v1/apps/shop".to_owned(), APP, 201),
        ("nobody-token-0123", "GET", "/v1/table".to_owned(), "", 401),
    ];
    for (token, method, path, body, status) in &rows {
        let reply = ask(token, method, path, body);
        assert_eq!(reply.status, *status, "{token} {method} {path}: {reply:?}");
        if *status == 403 {
            assert_eq!(reply.code(), "role_too_low");
        }
    }
    let audit = ask("ann-token-0123456", "GET", "/v1/audit", "");
    let seen = |kind: &str| -> Vec<(String, u64, bool)> {
        let all = audit.body[kind].as_array().unwrap().iter();
        let one = |one: &Value| {
            (
                one["who"].as_str().unwrap().to_owned(),
                one["status"].as_u64().unwrap(),
                one["revision"].is_u64(),
            )
        };
        all.map(one).collect()
    };
    let want = |all: &[(&str, u64, bool)]| -> Vec<(String, u64, bool)> {
        all.iter().map(|(who, status, changed)| ((*who).to_owned(), *status, *changed)).collect()
    };
    let done = [("ci", 200, true), ("ci", 201, true), ("ann", 201, true)];
    assert_eq!(seen("records"), want(&done), "{audit:?}");
    let refused =
        [("graf", 403), ("graf", 403), ("ci", 403), ("ci", 403), ("nobody", 401)].map(|(a, b)| (a, b, false));
    assert_eq!(seen("refusals"), want(&refused), "{audit:?}");
    let log = until("the audit log", || {
        let text = std::fs::read_to_string(bench.at("run/audit.log")).unwrap_or_default();
        (text.lines().count() == done.len() + refused.len()).then_some(text)
    });
    for secret in ["-token-", "127.0.0.1:13001", "shop.example"] {
        assert!(!log.contains(secret), "{secret} is in the audit log");
    }
}

#[test]
fn strangers_are_slowed_down_and_push_out_nothing() {
    let bench = Bench::new(&format!("{SMALL}\n[control]\ntoken_file = \"token\"\n"));
    bench.put("token", "a-token-of-16-bytes");
    let running = bench.start();
    let good = "Authorization: Bearer a-token-of-16-bytes\r\n";
    let changed = running.ask_with("PUT", &endpoint("a"), good, r#"{"address":"127.0.0.1:13001"}"#);
    assert_eq!(changed.status, 200, "{changed:?}");
    // Many at once on one connection: faster than any rate that lets them in.
    let AddressFlag::At(Address::Tcp(address)) = running.api() else { panic!("TCP") };
    let mut stream = TcpStream::connect(address).unwrap();
    let guess =
        "GET /v1/table HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a-guess-of-16-bytes\r\n\r\n";
    stream.write_all(guess.repeat(2000).as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("HTTP/1.1 429")), "they are never told to wait");
    drop(lines);
    // Who has a token is not in that queue, and what was done is still there to see.
    let audit = running.ask_with("GET", "/v1/audit", good, "");
    assert_eq!(audit.body["records"].as_array().unwrap().len(), 1, "{audit:?}");
    assert!(running.control.status().api_rate_limited >= 1);
}

#[test]
fn the_same_key_does_a_thing_once() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    let release = |key: &str, body: &str| {
        let fields = format!("Idempotency-Key: {key}\r\nX-Request-Id: my-{key}\r\n");
        running.ask_with("POST", "/v1/apps/default/releases", &fields, body)
    };
    let first = release("k1", "{}");
    assert_eq!((first.status, &first.body["release"]), (201, &json!(1)));
    assert!(first.head.contains("x-request-id: my-k1"), "{}", first.head);
    let again = release("k1", "{}");
    assert_eq!((again.status, &again.body), (201, &first.body), "the same answer");
    assert!(again.head.contains("idempotency-replayed: true"));
    let other = release("k1", r#"{"name":"x"}"#);
    assert_eq!((other.status, other.code()), (422, "idempotency_key_reused"));
    assert_eq!(release("k2", "{}").body["release"], 2);
    let refused = release("k3", r#"{"nme":"x"}"#);
    assert_eq!((refused.status, refused.body["request_id"].as_str()), (422, Some("my-k3")));
    assert_eq!(release(&"k".repeat(300), "{}").code(), "bad_idempotency_key");
    // At once: one does it, the others hear so.
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| release("k4", "{}").status)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| matches!(status, 201 | 409)), "{statuses:?}");
    assert_eq!(
        running.ask("GET", "/v1/apps/default/releases", "").body["releases"].as_array().unwrap().len(),
        3
    );
}

/// An open watch, read line by line.
struct Watching(BufReader<TcpStream>);

impl Watching {
    fn begin(running: &Running, query: &str, fields: &str) -> Self {
        let AddressFlag::At(Address::Tcp(address)) = running.api() else { panic!("TCP") };
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        write!(stream, "GET /v1/watch{query} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").unwrap();
        let mut this = Self(BufReader::new(stream));
        while this.line() != "" {}
        this
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next change, as a document: chunk sizes and empty lines are passed over.
    fn next(&mut self) -> Value {
        loop {
            let line = self.line();
            if line.starts_with('{') {
                return serde_json::from_str(&line).unwrap();
            }
        }
    }

    /// The next change that is no bookmark: `type kind name`.
    fn change(&mut self) -> String {
        loop {
            let next = self.next();
            if next["type"] != "bookmark" {
                let word = |name: &str| next[name].as_str().unwrap().to_owned();
                return format!("{} {} {}", word("type"), word("kind"), word("name"));
            }
        }
    }
}

#[test]
fn a_watch_tells_what_is_there_then_what_changes_and_resumes() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    // The first thing that is written down, by itself.
    until("the host of the file", || {
        let hosts = running.ask("GET", "/v1/hosts", "");
        (hosts.body["hosts"][0]["app"] == "default").then_some(())
    });
    running.put("a", r#"{"address":"127.0.0.1:13001"}"#);
    let mut watch = Watching::begin(&running, "", "");
    let mut told = Vec::new();
    let from = loop {
        let next = watch.next();
        if next["type"] == "bookmark" {
            break next["revision"].as_u64().unwrap();
        }
        told.push(format!("{} {}", next["kind"].as_str().unwrap(), next["name"].as_str().unwrap()));
    };
    assert!(told.contains(&"endpoint default/web/a".to_owned()), "{told:?}");
    running.put("b", r#"{"address":"127.0.0.1:13002"}"#);
    assert_eq!(watch.change(), "put endpoint default/web/b");
    running.ask("PUT", "/v1/apps/shop", APP);
    assert_eq!(watch.change(), "put app shop");
    assert_eq!(watch.change(), "put version shop/1");
    assert_eq!(watch.change(), "put host shop.example");
    running.ask("DELETE", &endpoint("a"), "");
    assert_eq!(watch.change(), "delete endpoint default/web/a");
    drop(watch);

    // From where another left off, also by the field of Server-Sent Events.
    let mut again = Watching::begin(&running, &format!("?from={from}"), "");
    assert_eq!(again.change(), "put endpoint default/web/b");
    let fields = format!("Accept: text/event-stream\r\nLast-Event-ID: {}\r\n", from + 1);
    let mut events = Watching::begin(&running, "", &fields);
    let mut lines = Vec::new();
    while lines.len() < 3 {
        let line = events.line();
        if line.contains(": ") {
            lines.push(line);
        }
    }
    // Not yet the end of its transaction: who breaks off here gets it again, whole.
    assert_eq!(lines[..2], [format!("id: {}", from + 1), "event: put".to_owned()], "{lines:?}");
    assert!(lines[2].contains("\"name\":\"shop\""), "{lines:?}");
    drop((again, events));

    let future = running.ask("GET", "/v1/watch?from=999999", "");
    assert_eq!((future.status, future.code()), (410, "revision_gone"));
    // What a rewritten journal no longer has one by one is gone for a watch.
    let mut largest = 0;
    while running.control.status().journal_bytes >= largest {
        largest = running.control.status().journal_bytes;
        for n in 0..50 {
            running.put("b", &format!(r#"{{"address":"127.0.0.1:{}"}}"#, 20_000 + n));
        }
    }
    running.control.stop();
    let running = bench.start();
    let old = running.ask("GET", &format!("/v1/watch?from={from}"), "");
    assert_eq!((old.status, old.code()), (410, "revision_gone"), "{old:?}");
}

#[test]
fn only_whole_transactions_are_places_to_resume_from() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    let mut watch = Watching::begin(&running, "", "");
    let from = loop {
        let next = watch.next();
        if next["type"] == "bookmark" {
            break next["resume"].as_u64().unwrap();
        }
        assert!(next["resume"].is_null(), "what comes behind it in the list is not told yet: {next}");
    };
    running.ask("PUT", "/v1/apps/shop", APP);
    let mut told = Vec::new();
    while told.iter().all(|one: &Value| one["kind"] != "host" || one["name"] != "shop.example") {
        let next = watch.next();
        if next["kind"] != "host" || next["name"] == "shop.example" {
            told.push(next);
        }
    }
    let last = told.pop().unwrap();
    assert!(told.iter().all(|one| one["resume"].is_null()), "{told:?}");
    assert!(last["resume"].as_u64().unwrap() > from && last["resume"] == last["revision"], "{last}");
}

#[test]
fn other_tokens_end_watches() {
    let bench = Bench::new(&format!("{SMALL}\n[control]\ntoken_file = \"token\"\n"));
    bench.put("token", "a-token-of-16-bytes");
    let running = bench.start();
    let fields = "Authorization: Bearer a-token-of-16-bytes\r\n";
    let mut watch = Watching::begin(&running, "", fields);
    while watch.next()["type"] != "bookmark" {}
    bench.put("token", "another-token-of-16-bytes");
    assert_eq!(running.ask_with("POST", "/v1/reload", fields, "").status, 200);
    // To the end of the body: its last chunk.
    let mut line = String::new();
    while line.trim_end() != "0" {
        line.clear();
        assert!(watch.0.read_line(&mut line).unwrap() > 0, "the stream ends as a whole");
    }
}

#[test]
fn stopping_ends_watches() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    let mut watch = Watching::begin(&running, "", "");
    while watch.next()["type"] != "bookmark" {}
    running.control.stop();
    // Reads to the end of the stream, in whatever way it ends.
    let mut line = String::new();
    while watch.0.read_line(&mut line).is_ok_and(|count| count > 0) {}
}

#[test]
fn the_api_describes_itself() {
    let bench = Bench::new(SMALL);
    let running = bench.start();
    let document = running.ask("GET", "/v1/openapi.json", "");
    assert_eq!(document.body["openapi"], "3.1.0");
    assert!(document.body["paths"]["/v1/apps/{app}"]["patch"].is_object());
}

#[test]
fn what_is_kept_of_a_push_is_written_with_it() {
    const PUSHED: &str = "/v1/apps/default/clusters/web/placements";
    let bench = Bench::new(SMALL);
    let running = bench.start();
    let push = |ids: &[&str]| {
        let one = |id: &&str| json!({ "id": id, "address": "127.0.0.1:13001" });
        let all: Vec<Value> = ids.iter().map(one).collect();
        running.ask("PUT", PUSHED, &json!({ "placements": all }).to_string()).body
    };
    let mut watch = Watching::begin(&running, "", "");
    let mut pushed = || loop {
        let next = watch.next();
        if next["kind"] == "placements" {
            let held = next["value"]["held"]["placements"].as_object();
            return held.map(|held| held.keys().cloned().collect::<Vec<_>>());
        }
    };
    push(&["a", "b", "c", "d"]);
    assert_eq!(pushed(), Some(vec![]));
    // Whoever reads it at any moment finds what is kept: a push and what is kept of it are one change.
    assert_eq!(push(&["d"])["held"], json!(["a", "b", "c"]));
    assert_eq!(pushed(), Some(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]));
    push(&["a", "b", "d"]);
    assert_eq!(pushed(), Some(vec![]), "little of it is named no more");
    // Many at once are judged one after the other.
    std::thread::scope(|scope| {
        for at in 0..8 {
            let (running, path) = (&running, format!("{PUSHED}/e{at}"));
            scope.spawn(move || running.ask("PUT", &path, r#"{"address":"127.0.0.1:13001"}"#));
        }
    });
    for _ in 0..8 {
        assert_eq!(pushed(), Some(vec![]));
    }
}
