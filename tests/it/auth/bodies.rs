//! The bodies that an authorizer is shown: how they come, what is too large, who waits for whom.

use std::sync::{Arc, Mutex};

use ekiden_tests::http2::{ask_with, talk};
use ekiden_tests::{Echo, Ekiden, Origin, Received, Seen, Served, Setup, cluster, until_true};

use super::rulings;

/// A service that lets in whose body does not begin with `no`, and keeps the questions.
fn service() -> (Origin, Arc<Mutex<Vec<Received>>>) {
    let asked: Arc<Mutex<Vec<Received>>> = Arc::default();
    let kept = Arc::clone(&asked);
    let origin = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            let status = if request.body.starts_with(b"no") { "403 No" } else { "200 Yes" };
            kept.lock().unwrap().push(request);
            conn.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    (origin, asked)
}

fn serve(service: &Origin, echo: &Echo, body: &str, listener: &str) -> Ekiden {
    let text = format!(
        "{}{}[[route]]\ncluster = \"web\"\nauthorizer = {{ cluster = \"auth\", path = \"/check\", timeout = \"30s\", body = {body} }}\n",
        cluster("web", &[echo.address], ""),
        cluster("auth", &[service.address], "")
    );
    Ekiden::start(Setup::new(text).listener(listener))
}

fn field<'a>(question: &'a Received, name: &str) -> Vec<&'a str> {
    let all = question.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
    all.map(|(_, value)| value.as_str()).collect()
}

#[test]
fn the_service_and_the_endpoint_get_the_same_body() {
    let ((origin, asked), echo) = (service(), Echo::start("one"));
    let router = serve(&origin, &echo, "{ max = \"1KiB\" }", "");
    let mut client = router.client();
    let rows = [
        ("Content-Length: 5\r\n", "hello", "hello"),
        ("Transfer-Encoding: chunked\r\n", "2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n", "hello"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nX-End: yes\r\n\r\n", "hello"),
        ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n", ""),
    ];
    for (number, (framing, sent, body)) in rows.into_iter().enumerate() {
        // Piece by piece, so that it is not there with its head.
        client.send(format!(
            "POST /x HTTP/1.1\r\nHost: a\r\nX-Envoy-Auth-Partial-Body: forged\r\n{framing}\r\n"
        ));
        client.send_split(sent.as_bytes());
        let seen = Seen::from(client.read(false).unwrap());
        assert_eq!(seen.text("body"), body, "{number}");
        let question = asked.lock().unwrap()[number].clone();
        assert_eq!(question.line, "POST /check HTTP/1.1");
        assert_eq!(String::from_utf8_lossy(&question.body), body, "{number}");
        assert_eq!(field(&question, "x-envoy-auth-partial-body"), ["false"]);
        assert_eq!(field(&question, "x-forwarded-method"), ["POST"]);
    }
    // Without a body the question is what it always is.
    let seen = Seen::from(client.get("a", "/y"));
    assert_eq!(seen.text("body"), "");
    let question = asked.lock().unwrap()[rows.len()].clone();
    assert_eq!(
        (question.line.as_str(), field(&question, "content-length").len()),
        ("GET /check HTTP/1.1", 0)
    );
    // The next request on the connection is found where it begins.
    client.send("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nyou");
    let both = [(); 2].map(|()| Seen::from(client.read(false).unwrap()).text("body").to_owned());
    assert_eq!(both, ["hi", "you"]);
    let refused = client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nnot");
    assert_eq!((refused.status, refused.code()), (403, "authorizer_refused"));
    assert_eq!(echo.requests(), 7);
}

#[test]
fn what_is_larger_is_refused_or_shown_in_part() {
    let ((origin, asked), echo) = (service(), Echo::start("one"));
    let router = serve(&origin, &echo, "{ max = \"10B\" }", "");
    for (framing, body) in [
        ("Content-Length: 11\r\n", "hello, you!"),
        ("Transfer-Encoding: chunked\r\n", "b\r\nhello, you!\r\n0\r\n\r\n"),
        // It is known before its end.
        ("Transfer-Encoding: chunked\r\n", "fffff\r\nhello, you!"),
    ] {
        let mut client = router.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n{body}"));
        let refused = client.read(false).unwrap();
        assert_eq!((refused.status, refused.code()), (413, "body_too_large"), "{framing}{body}");
    }
    assert_eq!((asked.lock().unwrap().len(), echo.requests()), (0, 0));
    let router = serve(&origin, &echo, "{ max = \"10B\", over = \"partial\" }", "");
    let mut client = router.client();
    for (number, (framing, body)) in [
        ("Content-Length: 11\r\n", "hello, you!"),
        ("Transfer-Encoding: chunked\r\n", "b\r\nhello, you!\r\n0\r\n\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let seen = Seen::from(client.ask(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n{body}")));
        assert_eq!(seen.text("body"), "hello, you!");
        let question = asked.lock().unwrap()[number].clone();
        assert_eq!(question.body, b"hello, you");
        assert_eq!(field(&question, "x-envoy-auth-partial-body"), ["true"]);
    }
    // It is asked as soon as as much is there as it is shown: here the client waits for the refusal.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nno, never ever");
    assert_eq!(client.read(false).unwrap().status, 403);
}

/// What the service is asked is bounded by what it is shown, and not by the listener's limit on bodies of clients: who sends much would
/// choose by it that nobody is asked.
#[test]
fn the_listeners_limit_is_not_the_questions() {
    let ((origin, asked), echo) = (service(), Echo::start("one"));
    let text = format!(
        "{}{}[[route]]\nbody_limit = \"64KiB\"\ncluster = \"web\"\nauthorizer = {{ cluster = \"auth\", path = \"/check\", timeout = \"30s\", fail = \"open\", body = {{ max = \"8KiB\" }} }}\n",
        cluster("web", &[echo.address], ""),
        cluster("auth", &[origin.address], "")
    );
    let router = Ekiden::start(Setup::new(text).listener("limits = { body = 4096 }"));
    let refused = router
        .client()
        .ask(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6000\r\n\r\n{:x<6000}", "no"));
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_eq!((asked.lock().unwrap().len(), echo.requests()), (1, 0));
}

/// A chunk of one byte each: its frames fill the buffer long before there is as much body as may be shown.
#[test]
fn frames_without_end_are_too_large() {
    let ((origin, asked), echo) = (service(), Echo::start("one"));
    let router = serve(&origin, &echo, "{ max = \"32KiB\" }", "");
    let mut client = router.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("1\r\nx\r\n".repeat(40_000));
    let refused = client.read(false).unwrap();
    assert_eq!((refused.status, refused.code()), (413, "body_too_large"));
    assert_eq!((asked.lock().unwrap().len(), echo.requests()), (0, 0));
}

#[test]
fn who_waits_to_be_asked_for_the_body_is_asked_once() {
    let ((origin, asked), echo) = (service(), Echo::start("one"));
    let router = serve(&origin, &echo, "{ max = \"1KiB\" }", "");
    let mut client = router.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.head().unwrap().status, 100);
    client.send("hello");
    let seen = Seen::from(client.read(false).unwrap());
    assert_eq!((seen.text("body").as_str(), seen.field("expect")), ("hello", None));
    assert_eq!(asked.lock().unwrap()[0].body, b"hello");
}

/// Nobody is asked about a body that does not come, and no service that fails opens the door to it.
#[test]
fn a_body_that_does_not_come_ends_the_request() {
    let ((origin, asked), echo) = (service(), Echo::start("one"));
    let router = serve(
        &origin,
        &echo,
        "{ max = \"1KiB\" }",
        "limits = { body_idle = \"100ms\", min_body_rate = \"off\" }",
    );
    let mut client = router.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    let late = client.read(false).unwrap();
    assert_eq!((late.status, late.code()), (408, "body_timeout"));
    let mut client = router.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    client.finish();
    let cut = client.read(false).unwrap();
    assert_eq!((cut.status, cut.code()), (400, "body_truncated"));
    let mut client = router.client();
    let bad = client.ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxx\r\n");
    assert_eq!((bad.status, bad.code()), (400, "chunk_malformed"));
    assert_eq!((asked.lock().unwrap().len(), echo.requests()), (0, 0));
    until_true("the counts", || rulings(&router, "authorizer") == [0.0, 0.0, 0.0]);
}

/// A stream has no framing but its end: that is what is waited for, and trailers are still there for the endpoint.
#[test]
fn a_stream_of_http2_is_read_to_its_end() {
    let ((origin, asked), echo) = (service(), Echo::start("one"));
    let router = serve(&origin, &echo, "{ max = \"32KiB\" }", "h2c = true");
    let post = || http::Request::post("http://a/x").body(()).unwrap();
    let body = vec![b'x'; 30_000];
    let trailers = http::HeaderMap::from_iter([("x-end".parse().unwrap(), "yes".parse().unwrap())]);
    let (whole, late, large) = talk(router.address(), async |client| {
        let whole = ask_with(&client, post(), Some(&body), None).await.unwrap();
        let late = ask_with(&client, post(), Some(b"hello"), Some(trailers)).await.unwrap();
        let large = ask_with(&client, post(), Some(&body.repeat(2)), None).await.unwrap();
        (whole, late, large)
    });
    assert_eq!((whole.status, late.status), (200, 200));
    let seen: serde_json::Value = serde_json::from_str(&late.text()).unwrap();
    assert_eq!(seen["body"], "hello");
    assert_eq!((large.status, large.code()), (413, "body_too_large"));
    let asked = asked.lock().unwrap();
    let bodies: Vec<usize> = asked.iter().map(|question| question.body.len()).collect();
    assert_eq!(bodies, [30_000, 5]);
}
