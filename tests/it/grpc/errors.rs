//! What the router answers itself, in the words of gRPC: 200, `grpc-status`, `grpc-message`, and nothing else to read.

use ekiden_tests::{Client, Ekiden, Origin, Served, Setup, cluster, free_port, http2, until};
use http::Request;

use super::{Server, ask, request, status, talk};

/// A router with a way for each refusal.
fn refusing(server: &Server) -> Ekiden {
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let text = [
        cluster("web", &[server.address], "protocol = \"h2\""),
        cluster("nobody", &[nobody], "protocol = \"h2\""),
        cluster("empty", &[], ""),
        "[[route]]\npath = \"/t.Test/Unary\"\ncluster = \"nobody\"\n".to_owned(),
        "[[route]]\npath = \"/t.Test/Empty\"\ncluster = \"empty\"\n".to_owned(),
        "[[route]]\npath = \"/t.Test/Denied\"\ncluster = \"web\"\ndeny = { clients = [\"127.0.0.0/8\"] }\n"
            .to_owned(),
        "[[route]]\npath = \"/t.Test/Get\"\ncluster = \"web\"\nmethods = [\"GET\"]\n".to_owned(),
        "[[route]]\npath = \"/t.Test/Rare\"\ncluster = \"web\"\nlimit = [{ rate = \"1/h\" }]\n".to_owned(),
        "[[route]]\npath = \"/t.Test/Short\"\ncluster = \"web\"\nbody_limit = \"3B\"\n".to_owned(),
    ]
    .join("\n");
    Ekiden::start(Setup::new(text).listener("h2c = true"))
}

#[test]
fn each_refusal_has_its_status() {
    let server = Server::start();
    let router = refusing(&server);
    ask(router.address(), "Rare", b"", &[]);
    let refusals = [
        ("Unary", "14", "connect_refused", 503),
        ("Empty", "14", "no_endpoints", 503),
        ("Nowhere", "12", "no_route", 404),
        ("Get", "12", "method_not_allowed", 405),
        ("Denied", "7", "client_denied", 403),
        ("Rare", "8", "rate_limited", 429),
        ("Short", "8", "body_too_large", 413),
        ("A%2F..%2F..%00", "13", "path_illegal", 400),
    ];
    for (place, (method, number, code, real)) in refusals.into_iter().enumerate() {
        let refused = ask(router.address(), method, b"abcdef", &[]);
        assert_eq!((refused.status, status(&refused).as_str()), (200, number), "{method}: {refused:?}");
        assert_eq!(refused.code(), code, "{method}");
        assert!(refused.body.is_empty() && refused.trailers.is_none(), "{method}: a head that says all");
        assert_eq!(refused.field("content-type"), "application/grpc");
        assert!(refused.field("proxy-status").contains(code), "{refused:?}");
        assert!(refused.field("grpc-message").starts_with(code), "{refused:?}");
        assert_eq!(refused.field("content-length"), "");
        // Records say what happened.
        let record = until("a record", || router.records(0).into_iter().nth(place + 1));
        let said = (&record["code"], &record["status"], &record["grpc_status"]);
        assert_eq!(said, (&code.into(), &real.into(), &number.parse::<u64>().unwrap().into()), "{record}");
    }
    assert!(router.metric("ekiden_outcomes_total", &["connect_refused"]) > 0.5);
    super::wait_counted(&router, "PERMISSION_DENIED", 1.0);
}

#[test]
fn the_client_of_grpc_understands() {
    let server = Server::start();
    let router = refusing(&server);
    let said = talk(router.address(), "refused");
    assert_eq!(
        said,
        "UNAVAILABLE|connect_refused H21|connect_refused H21: The endpoint refused the connection.\n"
    );
}

/// Others get what they always did; so does gRPC of the web, in its own words.
#[test]
fn only_calls_are_answered_so() {
    let server = Server::start();
    let router = refusing(&server);
    http2::talk(router.address(), async |send| {
        for content_type in ["application/json", "application/grpcs", "text/plain; application/grpc"] {
            let fields = [("content-type", content_type)];
            let reply = http2::ask(&send, request("Unary", &fields)).await.unwrap();
            assert_eq!((reply.status, reply.field("grpc-status")), (503, ""), "{content_type}");
        }
        let plain = http2::ask(&send, Request::get("http://a/nowhere").body(()).unwrap()).await.unwrap();
        assert_eq!((plain.status, plain.field("grpc-status")), (404, ""));
    });
    let mut client = Client::connect(router.address());
    for (content_type, back) in [
        ("application/grpc-web+proto", Some("application/grpc-web+proto")),
        ("application/grpc-web-text", Some("application/grpc-web-text+proto")),
        // Not spoken over HTTP/1.
        ("application/grpc", None),
    ] {
        let head = format!("GET /t.Test/Nowhere HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\n\r\n");
        let refused = client.ask(head);
        match back {
            Some(back) => {
                let said = (refused.status, refused.get("grpc-status"), refused.get("content-type"));
                assert_eq!(said, (200, Some("12"), Some(back)));
                assert_eq!((refused.get("content-length"), refused.code()), (Some("0"), "no_route"));
            }
            None => assert_eq!((refused.status, refused.get("grpc-status")), (404, None)),
        }
    }
}

/// An endpoint that breaks off in the middle: the client has its messages and a reason.
#[test]
fn a_response_that_breaks_off() {
    // Speaks HTTP/2 as far as it must: settings, the head and a piece of a response, and is gone.
    let origin = Origin::start(|conn| {
        conn.exactly(24);
        let mut headers = vec![0x88, 0x0f, 0x10, 16];
        headers.extend_from_slice(b"application/grpc");
        let mut out = http2::frame(http2::kind::SETTINGS, 0, 0, &[]);
        out.extend(http2::frame(http2::kind::SETTINGS, http2::END, 0, &[]));
        conn.send(&out);
        // Frames of the router, up to the end of the request.
        loop {
            let Some(head) = conn.exactly(9) else { return };
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            conn.exactly(length);
            if head[3] == http2::kind::DATA && head[4] & http2::END != 0 {
                break;
            }
        }
        let mut out = http2::frame(http2::kind::HEADERS, http2::END_HEADERS, 1, &headers);
        out.extend(http2::frame(http2::kind::DATA, 0, 1, &super::framed(b"one")));
        conn.send(&out);
        // INTERNAL_ERROR.
        conn.send(http2::frame(http2::kind::RST_STREAM, 0, 1, &2_u32.to_be_bytes()));
        conn.until_closed();
    });
    let text =
        format!("{}\n[[route]]\ncluster = \"web\"\n", cluster("web", &[origin.address], "protocol = \"h2\""));
    let router = Ekiden::start(Setup::new(text).listener("h2c = true"));
    let torn = ask(router.address(), "Any", b"", &[]);
    // What was there when the stream broke may have been dropped with it, the reason not.
    let in_trailers =
        torn.trailers.as_ref().map(|trailers| trailers["grpc-message"].to_str().unwrap().to_owned());
    let message = in_trailers.unwrap_or_else(|| torn.field("grpc-message").to_owned());
    assert!(message.starts_with("upstream_reset H18: "), "{torn:?}");
    assert_eq!(status(&torn), "13", "as clients read a reset with INTERNAL_ERROR");
    let record = until("a record", || router.records(0).into_iter().next());
    assert_eq!((&record["code"], &record["grpc_status"]), (&"upstream_reset".into(), &13.into()), "{record}");
}
