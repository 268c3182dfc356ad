//! Heads of HTTP/2: judging never panics, and what is accepted is one request of HTTP/1 when it is written out, with the
//! same meaning.
//!
//! Input: one line each for flags, method, scheme, authority and path, then `name: value` lines.
#![no_main]

use ekiden_fuzz::{assert_clean, written};
use ekiden_router::wire::body::Framing;
use ekiden_router::wire::http2::Http2Head;
use ekiden_router::wire::request::{RequestHead, Rules};
use ekiden_router::wire::scan::Bounds;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

/// The defaults of a listener.
const BOUNDS: Bounds = Bounds { first_line: 8 << 10, field: 16 << 10, head: 64 << 10, fields: 100 };

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|b| *b == b'\n');
    let flags = lines.next().and_then(|line| line.first()).copied().unwrap_or(0);
    let mut text = || lines.next().and_then(|line| std::str::from_utf8(line).ok()).unwrap_or("");
    let (method, scheme, authority, path) = (text(), text(), text(), text());
    let mut fields = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        // What the codec lets through: lower-case tokens, and values without control bytes.
        if let (Ok(name), Ok(value)) = (HeaderName::from_lowercase(name), HeaderValue::from_bytes(value)) {
            fields.append(name, value);
        }
    }
    let from = Http2Head {
        method,
        scheme: Some(scheme).filter(|scheme| !scheme.is_empty()),
        authority: Some(authority).filter(|authority| !authority.is_empty()),
        path,
        protocol: (flags & 4 != 0).then_some("websocket"),
        fields: &fields,
        ended: flags & 1 != 0,
    };
    judge(&from, Rules { fields: BOUNDS.fields, allow_underscore: flags & 2 != 0 });
});

fn judge(from: &Http2Head<'_>, rules: Rules) {
    let mut request = RequestHead::default();
    if request.take_http2(from, &BOUNDS, rules).is_err() {
        return;
    }
    assert_clean(&request.head);
    assert_ne!(request.method(), "TRACE");
    assert_eq!(request.method() == "CONNECT", request.is_connect);
    assert_eq!(request.head.get_all(b"host").count(), 1);
    assert!(request.head.get_all(b"cookie").count() <= 1);
    assert!(request.head.get_all(b"transfer-encoding").next().is_none());
    if request.is_extended {
        // It goes out as a GET that asks for the protocol, whose fields are the router's own.
        assert_eq!((request.method(), request.framing), ("GET", Framing::None));
        assert!(request.head.get_all(b"sec-websocket-key").next().is_none());
        request.head.remove(b"upgrade");
    }
    let start = format!("{} {} HTTP/1.1", request.method(), request.target());
    if request.framing == Framing::Chunked {
        request.head.append(b"transfer-encoding", b"chunked");
    }
    let bytes = written(&start, &request.head);
    let mut again = RequestHead::default();
    // The coding is one field more than the client sent.
    let verdict = again.parse(&bytes, Rules { fields: rules.fields + 1, ..rules });
    assert_eq!(verdict, Ok(()), "{:?}", String::from_utf8_lossy(&bytes));
    assert_eq!((again.method(), again.target()), (request.method(), request.target()));
    assert_eq!((again.is_connect, again.is_connect && again.keep_alive), (request.is_connect, false));
    assert_eq!((&again.host, again.port, again.framing), (&request.host, request.port, request.framing));
}
