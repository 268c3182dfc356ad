//! The service that is asked: what it is told, what its answers do, and what happens without one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ekiden_tests::{Echo, Ekiden, Origin, Received, Seen, Served, Setup, cluster, until_true};

use super::{ask, rulings};

/// A service that answers by the path that the client asks for, and keeps the questions.
struct Service {
    origin: Origin,
    asked: Arc<Mutex<Vec<Received>>>,
}

impl Service {
    fn start() -> Self {
        let asked: Arc<Mutex<Vec<Received>>> = Arc::default();
        let kept = Arc::clone(&asked);
        let origin = Origin::start(move |conn| {
            while let Some(request) = conn.request() {
                let about =
                    request.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-forwarded-uri"));
                let about = about.map(|(_, value)| value.clone()).unwrap_or_default();
                kept.lock().unwrap().push(request);
                match &*about {
                    "/hang" => return conn.until_closed(),
                    "/drop" => return,
                    "/error" => conn.send("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"),
                    "/login" => conn.send(
                        "HTTP/1.1 302 Found\r\nLocation: https://login.example/\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
                         Connection: x-hop\r\nX-Hop: 1\r\nContent-Length: 0\r\n\r\n",
                    ),
                    "/no" => conn.send(
                        "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n\
                         3\r\nno \r\n5\r\nentry\r\n0\r\n\r\n",
                    ),
                    "/long" => conn.send(format!(
                        "HTTP/1.1 401 No\r\nWWW-Authenticate: Custom\r\nContent-Length: 100000\r\n\r\n{}",
                        "x".repeat(100_000)
                    )),
                    "/bare" => conn.send("HTTP/1.1 204 Yes\r\n\r\n"),
                    _ => conn.send(
                        "HTTP/1.1 200 Yes\r\nX-User: ann\r\nx-group: a\r\nX-Group: b\r\nX-Other: 1\r\nContent-Length: 2\r\n\r\nok",
                    ),
                };
            }
        });
        Self { origin, asked }
    }

    fn asked(&self) -> Vec<Received> {
        self.asked.lock().unwrap().clone()
    }
}

const WORDS: &str = "authorizer = { cluster = \"auth\", path = \"/check?by=router\", timeout = \"30s\", returns = [\"X-User\", \"X-Group\"] }";

fn serve(service: &Service, echo: &Echo, words: &str, keys: &str) -> Ekiden {
    let text = format!(
        "{}{}[[route]]\ncluster = \"web\"\n{words}\n",
        cluster("web", &[echo.address], ""),
        cluster("auth", &[service.origin.address], keys)
    );
    Ekiden::start(Setup::new(text).listener("allow_underscore = true"))
}

#[test]
fn what_it_is_told_and_what_comes_back() {
    let (service, echo) = (Service::start(), Echo::start("one"));
    let router = serve(&service, &echo, WORDS, "");
    let mut client = router.client();
    let body = "hello";
    let head = "POST /a%2Fb?c=d HTTP/1.1\r\nHost: a\r\nCookie: s=1\r\nX-User: root\r\nx_group: root\r\nX-Forwarded-Uri: /forged\r\n\
                X-Forwarded-For: 192.0.2.9\r\nIf-None-Match: x\r\nContent-Length: 5\r\n\r\n";
    let seen = Seen::from(client.ask(format!("{head}{body}")));
    assert_eq!(seen.text("line"), "POST /a%2Fb?c=d HTTP/1.1");
    assert_eq!(seen.text("body"), "hello");
    assert_eq!(
        (seen.all("x-user"), seen.all("x-group")),
        (vec!["ann".to_owned()], vec!["a".to_owned(), "b".to_owned()])
    );
    assert_eq!((seen.all("x_group").len(), seen.field("x-other")), (0, None));
    let question = &service.asked()[0];
    assert_eq!(question.line, "GET /check?by=router HTTP/1.1");
    let told = |name: &str| {
        let all = question.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        all.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    for (name, values) in [
        ("host", &["a"][..]),
        ("cookie", &["s=1"]),
        ("x-forwarded-method", &["POST"]),
        ("x-forwarded-uri", &["/a%2Fb?c=d"]),
        ("x-forwarded-for", &["127.0.0.1"]),
        ("x-forwarded-proto", &["http"]),
        ("x-request-id", &[seen.field("x-request-id").unwrap().as_str()]),
        ("x-user", &[]),
        ("x_group", &[]),
        ("content-length", &[]),
        ("if-none-match", &[]),
    ] {
        assert_eq!(told(name), values, "{name}");
    }
    // An answer that lacks the fields leaves them out, and the client's stay away.
    let seen = Seen::from(ask(&mut client, "GET /bare", "X-User: root\r\n"));
    assert_eq!((seen.field("x-user"), seen.field("x-group")), (None, None));
    assert_eq!(service.origin.connections(), 1, "connections to it are pooled");
    // A question is no request: one record and one outcome each.
    assert_eq!(router.records(2).len(), 2);
    until_true("the counts", || rulings(&router, "authorizer") == [2.0, 0.0, 0.0]);
    assert_eq!(router.metric("ekiden_outcomes_total", &["code=\"complete\""]), 2.0);
    assert_eq!(router.metric("ekiden_requests_in_flight", &[]), 0.0);
}

#[test]
fn what_it_refuses_is_told_to_the_client() {
    let (service, echo) = (Service::start(), Echo::start("one"));
    let router =
        serve(&service, &echo, &format!("{WORDS}\ncors = {{ origins = [\"https://a.example\"] }}"), "");
    let mut client = router.client();
    let login = ask(&mut client, "GET /login", "Origin: https://a.example\r\n");
    assert_eq!((login.status, login.code()), (302, "authorizer_refused"));
    assert_eq!(
        (login.get("location"), login.all("set-cookie")),
        (Some("https://login.example/"), vec!["a=1", "b=2"])
    );
    assert_eq!((login.get("x-hop"), login.says_close()), (None, false));
    assert_eq!(login.get("access-control-allow-origin"), Some("https://a.example"));
    let no = ask(&mut client, "GET /no", "");
    assert_eq!(
        (no.status, no.get("content-type"), no.text()),
        (403, Some("text/html"), "no entry".to_owned())
    );
    let long = ask(&mut client, "GET /long", "");
    assert_eq!((long.status, long.get("www-authenticate"), long.body.len()), (401, Some("Custom"), 0));
    assert_eq!(ask(&mut client, "HEAD /no", "").status, 403);
    assert_eq!(echo.requests(), 0);
    let records = router.records(4);
    assert_eq!((&records[0]["code"], &records[0]["status"]), (&"authorizer_refused".into(), &302.into()));
    until_true("the counts", || rulings(&router, "authorizer") == [0.0, 4.0, 0.0]);
}

#[test]
fn without_an_answer_nobody_is_let_in_unless_told() {
    let (service, echo) = (Service::start(), Echo::start("one"));
    let words = WORDS.replace("30s", "3s");
    let router = serve(&service, &echo, &words, "");
    let mut client = router.client();
    for target in ["/hang", "/error", "/drop"] {
        let response = ask(&mut client, &format!("GET {target}"), "");
        assert_eq!((response.status, response.code()), (503, "authorizer_failed"), "{target}");
    }
    assert_eq!(echo.requests(), 0);
    until_true("the counts", || rulings(&router, "authorizer") == [0.0, 0.0, 3.0]);
    let open = serve(&service, &echo, &words.replace(" }", ", fail = \"open\" }"), "");
    let mut client = open.client();
    for target in ["/hang", "/error", "/drop"] {
        let seen = Seen::from(ask(&mut client, &format!("GET {target}"), "X-User: root\r\n"));
        assert_eq!(seen.field("x-user"), None, "{target}");
    }
    // A refusal is an answer.
    assert_eq!(ask(&mut client, "GET /no", "").status, 403);
}

#[test]
fn it_comes_last() {
    let (service, echo) = (Service::start(), Echo::start("one"));
    let words = format!(
        "{WORDS}\ndeny = {{ headers = [\"x-bad\"] }}\ndenied_headers = \"refuse\"\nlimit = [{{ rate = \"2/h\" }}]\n\
                         auth = {{ api_keys = \"some\", id_header = \"X-Id\" }}\ncors = {{ origins = [\"https://a.example\"] }}"
    );
    let text = format!(
        "[api_keys.some]\nfile = \"keys\"\n{}{}[[route]]\ncluster = \"web\"\n{words}\n",
        cluster("web", &[echo.address], ""),
        cluster("auth", &[service.origin.address], "")
    );
    let setup = Setup::new(text);
    std::fs::write(setup.dir().join("keys"), super::key("ci", "k")).unwrap();
    let router = Ekiden::start(setup);
    let steps: Vec<String> = router.table()["apps"][0]["routes"][0]["entrance"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["step"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(steps, ["allow and deny", "cors", "api key", "limits", "credentials", "authorizer"]);
    let mut client = router.client();
    assert_eq!(ask(&mut client, "GET /", "X-Bad: 1\r\n").code(), "field_denied");
    assert_eq!(ask(&mut client, "GET /", "").code(), "credentials_missing");
    assert_eq!(service.asked().len(), 0);
    let seen = Seen::from(ask(&mut client, "GET /", "X-API-Key: k\r\n"));
    assert_eq!(seen.field("x-id").as_deref(), Some("ci"));
    assert_eq!(service.asked().len(), 1);
    assert_eq!(
        ask(&mut client, "GET /", "X-API-Key: wrong\r\n").code(),
        "rate_limited",
        "limits come before credentials"
    );
    // A preflight asks nobody.
    let limited =
        ask(&mut client, "OPTIONS /", "Origin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n");
    assert_eq!(limited.code(), "rate_limited");
    assert_eq!(service.asked().len(), 1);
}

#[test]
fn a_cluster_of_http2_and_tls_can_be_asked() {
    // The question goes by the way of all requests; here by that of a second router, which speaks HTTP/2 in clear text.
    let (service, echo) = (Service::start(), Echo::start("one"));
    let front = Ekiden::start(
        Setup::new(ekiden_tests::web(&[service.origin.address], "", "")).listener("h2c = true"),
    );
    let text = format!(
        "{}{}[[route]]\ncluster = \"web\"\n{WORDS}\n",
        cluster("web", &[echo.address], ""),
        cluster("auth", &[front.address()], "protocol = \"h2\"")
    );
    let router = Ekiden::start(Setup::new(text));
    let served = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = router.client();
                for _ in 0..10 {
                    let seen = Seen::from(ask(&mut client, "GET /", ""));
                    assert_eq!(seen.all("x-user"), ["ann"]);
                    served.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(served.load(Ordering::SeqCst), 40);
    assert_eq!(ask(&mut router.client(), "GET /no", "").text(), "no entry");
}

/// The service judges what will be served, and no client chooses that it is not asked.
#[test]
fn it_is_told_the_path_that_will_be_served() {
    let (service, echo) = (Service::start(), Echo::start("one"));
    let open = WORDS.replace(" }", ", fail = \"open\" }");
    let router = serve(&service, &echo, &open, "");
    let mut client = router.client();
    for target in ["/x/../no", "/x/%2e%2e/no", "/%6eo", "/./no"] {
        assert_eq!(ask(&mut client, &format!("GET {target}"), "").status, 403, "{target}");
    }
    assert_eq!(router.ask("GET /no HTTP/1.0\r\n\r\n").status, 403, "without Host");
    assert_eq!(echo.requests(), 0);
}

/// A refusal that breaks off is a refusal.
#[test]
fn a_refusal_that_breaks_off_lets_nobody_in() {
    let origin = Origin::start(|conn| {
        let Some(request) = conn.request() else { return };
        let to_the_half = request.fields.iter().any(|(_, value)| value == "/half");
        let some = if to_the_half { "half" } else { "" };
        conn.send(format!("HTTP/1.1 403 No\r\nContent-Length: 100\r\n\r\n{some}"));
    });
    let service = Service { origin, asked: Arc::default() };
    let echo = Echo::start("one");
    let router = serve(&service, &echo, &WORDS.replace(" }", ", fail = \"open\" }"), "");
    for target in ["/half", "/nothing"] {
        let response = ask(&mut router.client(), &format!("GET {target}"), "");
        assert_eq!((response.status, response.code()), (503, "authorizer_failed"), "{target}");
    }
    assert_eq!(echo.requests(), 0);
}

/// A call of gRPC ends with a status of its own kind; its client takes no page and follows no redirect.
#[test]
fn a_call_that_is_refused_gets_a_status() {
    use ekiden_tests::http2::{ask as call, get_of, talk};
    let (service, echo) = (Service::start(), Echo::start("one"));
    let text = format!(
        "{}{}[[route]]\ncluster = \"web\"\n{WORDS}\n",
        cluster("web", &[echo.address], ""),
        cluster("auth", &[service.origin.address], "")
    );
    let router = Ekiden::start(Setup::new(text).listener("h2c = true"));
    talk(router.address(), async |client| {
        for target in ["/no", "/login"] {
            let mut request = get_of("a", target);
            request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
            let reply = call(&client, request).await.unwrap();
            assert_eq!(
                (reply.status, reply.field("grpc-status"), reply.code()),
                (200, "7", "authorizer_refused")
            );
        }
    });
}

/// A tunnel is asked for by host and port, and the field `Host` may lack the port: the service sees both.
#[test]
fn it_is_told_the_port_of_a_tunnel() {
    let (service, echo) = (Service::start(), Echo::start("one"));
    let router = serve(&service, &echo, &format!("host = \"db.test\"\nconnect = [5432, 6432]\n{WORDS}"), "");
    for port in [5432, 6432] {
        let mut client = router.client();
        client.send(format!("CONNECT db.test:{port} HTTP/1.1\r\nHost: db.test\r\n\r\n"));
        assert_eq!(client.head().unwrap().status, 200);
        let question = service.asked().pop().unwrap();
        let hosts: Vec<_> =
            question.fields.iter().filter(|(name, _)| name == "Host" || name == "host").collect();
        assert_eq!(
            hosts.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(),
            [format!("db.test:{port}")]
        );
    }
}
