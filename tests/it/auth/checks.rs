//! The authorizer that is asked by a call, `envoy.service.auth.v3.Authorization/Check`: the real `grpcio` and `protobuf`.

use std::net::SocketAddr;

use ekiden_tests::{Background, Echo, Ekiden, Seen, Served, Setup, cluster, free_port, until, until_true};
use serde_json::Value;

use super::{ask, rulings};

struct Checker {
    address: SocketAddr,
    process: Background,
}

impl Checker {
    fn start() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = crate::grpc::python_script("it/auth/checker.py");
        let process = Background::start(command.arg(address.port().to_string()));
        until("the service", || {
            assert!(!process.errors().contains("Traceback"), "{}", process.errors());
            process.out().contains("ready").then_some(())
        });
        Self { address, process }
    }

    /// What it was asked so far.
    fn asked(&self) -> Vec<Value> {
        let out = self.process.out();
        let lines = out.lines().filter_map(|line| line.strip_prefix("asked "));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

const WORDS: &str = "authorizer = { cluster = \"auth\", grpc = true, timeout = \"30s\", returns = [\"X-User\", \"X-Group\"] }";

fn serve(service: &Checker, echo: &Echo, words: &str) -> Ekiden {
    let text = format!(
        "{}{}[[route]]\ncluster = \"web\"\n{words}\n",
        cluster("web", &[echo.address], ""),
        cluster("auth", &[service.address], "protocol = \"h2\"")
    );
    Ekiden::start(Setup::new(text).listener("allow_underscore = true"))
}

#[test]
fn what_it_is_told_and_what_comes_back() {
    let (service, echo) = (Checker::start(), Echo::start("one"));
    let router = serve(&service, &echo, WORDS);
    let mut client = router.client();
    let head = "POST /a%2Fb?c=d HTTP/1.1\r\nHost: a\r\nCookie: s=1\r\nCookie: t=2\r\nX-Many: 1\r\nX-Many: 2\r\n\
                X-Odd: \u{ff}\r\nX-User: root\r\nx_group: root\r\nX-Forwarded-For: 192.0.2.9\r\nContent-Length: 5\r\n\r\n";
    let seen = Seen::from(client.ask(format!("{head}hello")));
    assert_eq!(seen.text("line"), "POST /a%2Fb?c=d HTTP/1.1");
    assert_eq!(seen.text("body"), "hello");
    assert_eq!(
        (seen.all("x-user"), seen.all("x-group")),
        (vec!["ann".to_owned()], vec!["a".to_owned(), "b".to_owned()])
    );
    assert_eq!((seen.all("x_group").len(), seen.field("x-other")), (0, None));
    let asked = &service.asked()[0];
    let http = &asked["attributes"]["request"]["http"];
    for (name, value) in [
        ("method", "POST"),
        ("path", "/a%2Fb?c=d"),
        ("host", "a"),
        ("scheme", "http"),
        ("size", "5"),
        ("protocol", "HTTP/1.1"),
        ("id", &seen.field("x-request-id").unwrap()),
    ] {
        assert_eq!(http[name], value, "{name}");
    }
    let headers = &http["headers"];
    assert_eq!((&headers["cookie"], &headers["x-many"]), (&"s=1; t=2".into(), &"1,2".into()));
    for name in ["x-user", "x_group", "x-forwarded-for"] {
        assert_eq!(headers[name], Value::Null, "{name}");
    }
    let source = &asked["attributes"]["source"]["address"]["socket_address"];
    assert_eq!(source["address"], "127.0.0.1");
    assert!(source["port_value"].as_u64().is_some_and(|port| port > 0));
    assert_eq!(asked["metadata"]["x-forwarded-for"], "127.0.0.1");
    // An answer that lacks the fields leaves them out, and the client's stay away.
    let seen = Seen::from(ask(&mut client, "GET /bare", "X-User: root\r\n"));
    assert_eq!((seen.field("x-user"), seen.field("x-group")), (None, None));
    until_true("the counts", || rulings(&router, "authorizer") == [2.0, 0.0, 0.0]);
    assert_eq!(router.records(2).len(), 2, "a question is no request");
}

#[test]
fn what_it_refuses_is_told_to_the_client() {
    let (service, echo) = (Checker::start(), Echo::start("one"));
    let router = serve(&service, &echo, WORDS);
    let mut client = router.client();
    let refused = ask(&mut client, "GET /no", "");
    assert_eq!(
        (refused.status, refused.code(), refused.text()),
        (401, "authorizer_refused", "no entry".to_owned())
    );
    assert_eq!(refused.all("www-authenticate"), ["Custom"]);
    assert_eq!(refused.all("content-type"), ["text/html"]);
    let refused = ask(&mut client, "GET /bare-no", "");
    assert_eq!((refused.status, refused.code()), (403, "authorizer_refused"));
    assert_eq!(echo.requests(), 0);
    until_true("the counts", || rulings(&router, "authorizer") == [0.0, 2.0, 0.0]);
}

#[test]
fn without_an_answer_it_fails_as_it_is_told() {
    let (service, echo) = (Checker::start(), Echo::start("one"));
    let quick = WORDS.replace("30s", "200ms");
    for (words, statuses) in
        [(quick.clone(), [503; 3]), (quick.replace(" }", ", fail = \"open\" }"), [200; 3])]
    {
        let router = serve(&service, &echo, &words);
        let mut client = router.client();
        let answers =
            ["/abort", "/garbage", "/silent"].map(|path| ask(&mut client, &format!("GET {path}"), ""));
        assert_eq!(answers.map(|answer| answer.status), statuses);
        until_true("the counts", || rulings(&router, "authorizer") == [0.0, 0.0, 3.0]);
    }
    assert_eq!(echo.requests(), 3);
}

#[test]
fn large_heads_are_told_whole() {
    let (service, echo) = (Checker::start(), Echo::start("one"));
    let router = serve(&service, &echo, WORDS);
    let large = "x".repeat(15_000);
    let fields: String = (0..3).map(|number| format!("X-Large-{number}: {large}\r\n")).collect();
    assert_eq!(ask(&mut router.client(), "GET /", &fields).status, 200);
    let asked = service.asked();
    let told = &asked[0]["attributes"]["request"]["http"]["headers"];
    assert!((0..3).all(|number| told[format!("x-large-{number}")] == *large));
}

/// The body goes along in both forms, up to its bound; the field says whether it is all.
#[test]
fn it_is_shown_the_body() {
    let (service, echo) = (Checker::start(), Echo::start("one"));
    let router =
        serve(&service, &echo, &WORDS.replace(" }", ", body = { max = \"10B\", over = \"partial\" } }"));
    let mut client = router.client();
    let rows: [(&[u8], &str, &[u8], &str); 4] = [
        (b"hello", "hello", b"hello", "false"),
        (b"hello, you", "hello, you", b"hello, you", "false"),
        (b"hello, you there", "hello, you", b"hello, you", "true"),
        (b"a\xffb", "a\u{fffd}b", b"a\xffb", "false"),
    ];
    for (number, (body, text, raw, partial)) in rows.into_iter().enumerate() {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nX-Envoy-Auth-Partial-Body: forged\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let seen = Seen::from(client.ask([head.as_bytes(), body].concat()));
        assert_eq!(seen.text("body"), String::from_utf8_lossy(body), "{number}");
        // It says on its standard output what it was asked, which is read beside the test.
        let asked = until("the question", || service.asked().get(number).cloned());
        let asked = &asked["attributes"]["request"]["http"];
        assert_eq!(
            (&asked["body"], &asked["raw_body"]),
            (&text.into(), &data_encoding::BASE64.encode(raw).into())
        );
        assert_eq!(asked["headers"]["x-envoy-auth-partial-body"], partial, "{number}");
    }
    // Where there is no body, nothing is said of it.
    let seen = Seen::from(ask(&mut client, "GET /", "X-Envoy-Auth-Partial-Body: forged\r\n"));
    assert_eq!(seen.text("body"), "");
    let asked = until("the question", || service.asked().get(rows.len()).cloned());
    let asked = &asked["attributes"]["request"]["http"];
    assert_eq!(
        (&asked["body"], &asked["headers"]["x-envoy-auth-partial-body"]),
        (&Value::Null, &Value::Null)
    );
}
