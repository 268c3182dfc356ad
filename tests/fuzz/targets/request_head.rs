//! Request heads: scanning does not depend on how bytes arrive, judging never panics, and what is accepted is accepted
//! again, with the same meaning, when it is written out.
#![no_main]

use ekiden_fuzz::{TIGHT, assert_clean, scanned, written};
use ekiden_router::wire::Version;
use ekiden_router::wire::body::Framing;
use ekiden_router::wire::request::{RequestHead, Rules};
use ekiden_router::wire::scan::{Bounds, Found};
use libfuzzer_sys::fuzz_target;

/// The defaults of a listener.
const BOUNDS: Bounds = Bounds { first_line: 8 << 10, field: 16 << 10, head: 64 << 10, fields: 100 };

fuzz_target!(|data: &[u8]| {
    let _tight = scanned(data, &TIGHT);
    let Ok(Found::Head(length)) = scanned(data, &BOUNDS) else { return };
    for allow_underscore in [false, true] {
        judge(&data[..length], Rules { fields: BOUNDS.fields, allow_underscore });
    }
});

fn judge(bytes: &[u8], rules: Rules) {
    let mut request = RequestHead::default();
    if request.parse(bytes, rules).is_err() {
        return;
    }
    assert_clean(&request.head);
    let rooted = request.target() == "*" || request.target().starts_with('/');
    assert!(rooted != request.is_connect, "{:?}", request.target());
    assert!(!request.host.bytes().any(|b| b.is_ascii_uppercase() || b <= b' '), "{:?}", request.host);
    assert_ne!(request.method(), "TRACE");
    assert_eq!(request.method() == "CONNECT", request.is_connect);
    // What stands behind it is never a request.
    assert!(!request.is_connect || request.framing == Framing::None && !request.keep_alive && request.port.is_some());
    let named = request.head.get(b"host").is_some();
    let version = match request.version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
        Version::Http2 => panic!("a text head is never of HTTP/2"),
    };
    assert!(named || request.version == Version::Http10);
    let again_bytes = written(&format!("{} {} {version}", request.method(), request.target()), &request.head);
    let mut again = RequestHead::default();
    let verdict = again.parse(&again_bytes, rules);
    assert_eq!(verdict, Ok(()), "{:?}", String::from_utf8_lossy(&again_bytes));
    assert_eq!((again.method(), again.target()), (request.method(), request.target()));
    assert_eq!((again.framing, again.keep_alive), (request.framing, request.keep_alive));
    assert_eq!((again.expect_continue, again.is_head), (request.expect_continue, request.is_head));
    if named {
        assert_eq!(again.host, request.host);
    }
}
