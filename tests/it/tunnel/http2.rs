//! WebSocket on a stream of HTTP/2 (RFC 8441): by the client of `h2` against scripted endpoints, and by Node against Python's
//! `websockets`.

use std::process::Command;

use bytes::Bytes;
use ekiden_tests::http2::talk;
use ekiden_tests::{End, InProcess, Origin, Served, Setup, finished, web};
use h2::ext::Protocol;
use http::{Method, Request};

use super::websocket;
use super::{echo, record};

fn serve(origin: &Origin, route: &str) -> InProcess {
    InProcess::start(Setup::new(web(&[origin.address], "", route)).listener("h2c = true"))
}

fn connect(protocol: &'static str) -> Request<()> {
    Request::builder()
        .method(Method::CONNECT)
        .uri("http://a/chat?x")
        .extension(Protocol::from_static(protocol))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .body(())
        .unwrap()
}

/// The answer to a handshake, as RFC 6455 section 4.2.2 makes it.
fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = finished(Command::new("bash").args([
        "-c",
        "printf %s \"$0\" | openssl dgst -sha1 -binary | openssl base64",
        &text,
    ]));
    String::from_utf8(digest.stdout).unwrap().trim().to_owned()
}

/// An endpoint of WebSocket: answers the handshake rightly, or with this instead of the answer, and echoes.
fn endpoint(instead: Option<&'static str>) -> Origin {
    Origin::start(move |conn| {
        let Some(head) = conn.head() else { return };
        assert_eq!((head.method(), head.target()), ("GET", "/chat?x"));
        assert_eq!((head.all("upgrade"), head.all("connection")), (vec!["websocket"], vec!["Upgrade"]));
        assert_eq!((head.get("sec-websocket-version"), head.get("host")), (Some("13"), Some("a")));
        assert_eq!(head.get("transfer-encoding"), None);
        let answer = instead.map_or_else(|| accept(head.get("sec-websocket-key").unwrap()), str::to_owned);
        conn.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: {answer}\r\n\r\nfirst"
        ));
        echo(conn);
    })
}

#[test]
fn a_stream_is_a_tunnel() {
    let origin = endpoint(None);
    let router = serve(&origin, "methods = [\"GET\"]");
    talk(router.address(), async |client| {
        let mut client = client.ready().await.unwrap();
        let (response, mut send) = client.send_request(connect("websocket"), false).unwrap();
        let (head, mut body) = response.await.unwrap().into_parts();
        assert!(client.is_extended_connect_protocol_enabled());
        assert_eq!(head.status, 200);
        assert_eq!(head.headers.get("sec-websocket-protocol").unwrap(), "chat");
        for name in ["sec-websocket-accept", "upgrade", "connection"] {
            assert!(head.headers.get(name).is_none(), "{name}");
        }
        let mut seen = Vec::new();
        send.send_data(Bytes::from_static(b" and more"), true).unwrap();
        while let Some(piece) = body.data().await {
            let piece = piece.unwrap();
            body.flow_control().release_capacity(piece.len()).unwrap();
            seen.extend_from_slice(&piece);
        }
        assert_eq!(seen, b"first and more");
    });
    assert_eq!(origin.ended(1), End::Fin);
    assert_eq!(record(&router), ("complete".to_owned(), 200));
}

#[test]
fn what_cannot_be_a_tunnel_is_refused() {
    let status = |router: &InProcess, request: Request<()>| {
        talk(router.address(), async |client| {
            let mut client = client.ready().await.unwrap();
            let (response, _send) = client.send_request(request, false).unwrap();
            response.await.map(|response| response.status().as_u16())
        })
    };
    // The endpoint does not speak WebSocket: its answer would say that the stream is a tunnel.
    let origin = Origin::hello("plain");
    let router = serve(&origin, "");
    assert_eq!(status(&router, connect("websocket")).unwrap(), 502);
    // It does, and proves it wrongly.
    let origin = endpoint(Some("AAAA"));
    assert_eq!(status(&serve(&origin, ""), connect("websocket")).unwrap(), 502);
    // It refuses.
    let origin = Origin::start(|conn| {
        while conn.head().is_some() {
            conn.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let router = serve(&origin, "");
    assert_eq!(status(&router, connect("websocket")).unwrap(), 403);
    assert_eq!(origin.connections(), 1);
    // The route does not take it, or the protocol is another one, or there is none.
    assert_eq!(status(&router, connect("connect-udp")).unwrap(), 405);
    let plain = Request::builder().method(Method::CONNECT).uri("a:80").body(()).unwrap();
    assert_eq!(status(&router, plain).unwrap(), 405);
    let off = serve(&origin, "upgrades = \"off\"");
    assert_eq!(status(&off, connect("websocket")).unwrap(), 405);
    let fixed = InProcess::start(Setup::new("[[route]]\nrespond = {}\n").listener("h2c = true"));
    assert_eq!(status(&fixed, connect("websocket")).unwrap(), 405);
}

#[test]
fn a_reset_of_the_stream_resets_the_endpoint() {
    let origin = endpoint(None);
    let router = serve(&origin, "");
    talk(router.address(), async |client| {
        let mut client = client.ready().await.unwrap();
        let (response, mut send) = client.send_request(connect("websocket"), false).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        send.send_reset(h2::Reason::CANCEL);
        // The connection lives until the endpoint has seen it.
        tokio::task::spawn_blocking(move || assert_eq!(origin.ended(1), End::Reset)).await.unwrap();
    });
    assert_eq!(record(&router), ("client_gone".to_owned(), 200));
}

/// Opens a WebSocket on a stream, says one thing in one masked frame, and prints what comes back and how it ends.
const NODE: &str = r#"
const client = require('http2').connect(process.argv[1]);
client.on('remoteSettings', (settings) => {
  if (!settings.enableConnectProtocol) throw new Error('not offered');
  const stream = client.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/',
    'sec-websocket-version': '13', 'sec-websocket-protocol': 'chat' });
  let seen = Buffer.alloc(0);
  stream.on('response', (head) => {
    console.log(head[':status'], head['sec-websocket-protocol']);
    stream.write(Buffer.from([0x81, 0x85, 0, 0, 0, 0, 104, 101, 108, 108, 111]));
  });
  stream.on('data', (piece) => {
    seen = Buffer.concat([seen, piece]);
    if (seen.length === 7) stream.write(Buffer.from([0x88, 0x82, 0, 0, 0, 0, 3, 0xe8]));
  });
  stream.on('end', () => { console.log(seen.toString('hex')); stream.end(); client.close(); });
});
"#;

#[test]
fn node_and_python() {
    let server = websocket::server();
    let router = InProcess::start(Setup::new(web(&[server.address], "", "")).listener("h2c = true"));
    let url = format!("http://{}", router.address());
    let output = finished(Command::new("node").args(["-e", NODE, &url]));
    // A text frame with what was said, and the answer to the Close.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "200 chat\n810568656c6c6f880203e8\n", "{output:?}");
}
