//! Heads of HTTP/2 as tables: what is refused and why, and what a legal one becomes.

use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules { fields: 100, allow_underscore: false };
const BOUNDS: Bounds = Bounds { first_line: 8 << 10, field: 16 << 10, head: 64 << 10, fields: 100 };

/// Method, authority, path, fields, whether it ended.
type Row<'a> = (&'a str, Option<&'a str>, &'a str, &'a [(&'a str, &'a [u8])], bool);

fn map(fields: &[(&str, &[u8])]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_lowercase(name.as_bytes()).unwrap();
        map.append(name, http::HeaderValue::from_bytes(value).unwrap());
    }
    map
}

fn take(row: Row<'_>, scheme: Option<&str>, bounds: &Bounds) -> Result<RequestHead, Cause> {
    let (method, authority, path, fields, ended) = row;
    let fields = map(fields);
    let mut head = RequestHead::default();
    let from = Http2Head { method, scheme, authority, path, protocol: None, fields: &fields, ended };
    head.take_http2(&from, bounds, RULES).map(|_| head)
}

#[test]
fn refusals() {
    let a = Some("a");
    let rows: &[(Row<'_>, Cause)] = &[
        (("GET", a, "x", &[], true), Cause::TargetMalformed),
        (("GET", a, "", &[], true), Cause::TargetMalformed),
        (("GET", a, "http://a/x", &[], true), Cause::TargetMalformed),
        (("GET", a, "*", &[], true), Cause::TargetMalformed),
        (("GET", a, "/a b", &[], true), Cause::TargetMalformed),
        (("GET", a, "/a\r\nX: y", &[], true), Cause::TargetMalformed),
        // Of a CONNECT neither scheme nor path may stand there.
        (("CONNECT", a, "", &[], false), Cause::TargetMalformed),
        (("CONNECT", a, "/", &[], false), Cause::TargetMalformed),
        (("CONNECT", None, "", &[], false), Cause::TargetMalformed),
        (("TRACE", a, "/", &[], true), Cause::MethodRefused),
        (("GET", None, "/", &[], true), Cause::HostMissing),
        (("GET", Some("u@a"), "/", &[], true), Cause::HostIllegal),
        (("GET", a, "/", &[("host", b"b")], true), Cause::AuthorityMismatch),
        (("GET", a, "/", &[("host", b"a"), ("host", b"a")], true), Cause::HostRepeated),
        (("GET", None, "/", &[("host", b"a"), ("host", b"a")], true), Cause::HostRepeated),
        (("GET", a, "/", &[("x", b" y")], true), Cause::FieldValueIllegal),
        (("GET", a, "/", &[("x", b"y\t")], true), Cause::FieldValueIllegal),
        (("GET", a, "/", &[("connection", b"close")], true), Cause::FieldMalformed),
        (("GET", a, "/", &[("transfer-encoding", b"chunked")], false), Cause::FieldMalformed),
        (("GET", a, "/", &[("upgrade", b"h2c")], true), Cause::FieldMalformed),
        (("GET", a, "/", &[("keep-alive", b"1")], true), Cause::FieldMalformed),
        (("GET", a, "/", &[("proxy-connection", b"close")], true), Cause::FieldMalformed),
        (("GET", a, "/", &[("te", b"gzip")], true), Cause::FieldMalformed),
        // A finding of the fuzzer: the codec's type takes a quote.
        (("GET", a, "/", &[("x\"y", b"z")], true), Cause::FieldMalformed),
        (("POST", a, "/", &[("content-length", b"+1")], false), Cause::LengthInvalid),
        (
            ("POST", a, "/", &[("content-length", b"1"), ("content-length", b"1")], false),
            Cause::LengthRepeated,
        ),
        (("POST", a, "/", &[("content-length", b"1")], true), Cause::LengthInvalid),
        (("GET", a, "/", &[("x_forwarded_for", b"1")], true), Cause::UnderscoreField),
        (("POST", a, "/", &[("expect", b"200-maybe")], false), Cause::ExpectUnknown),
    ];
    for (row, cause) in rows {
        assert_eq!(take(*row, Some("http"), &BOUNDS).err(), Some(*cause), "{row:?}");
    }
    assert_eq!(take(("GET", a, "/", &[], true), Some("ftp"), &BOUNDS).err(), Some(Cause::SchemeUnsupported));
}

#[test]
fn bounds_are_those_of_the_listener() {
    let tight = Bounds { first_line: 30, field: 20, head: 200, fields: 3 };
    let long = [b'v'; 20];
    let rows: &[(Row<'_>, Option<Cause>)] = &[
        (("GET", Some("a"), "/", &[("b", b"1"), ("c", b"2")], true), None),
        (("GET", Some("a"), "/", &[("b", b"1"), ("c", b"2"), ("d", b"3")], true), Some(Cause::TooManyFields)),
        (("GET", Some("a"), "/", &[("cookie", b"1"), ("cookie", b"2"), ("d", b"3")], true), None),
        (
            ("GET", Some("a"), "/", &[("cookie", b"12345"), ("cookie", b"123456")], true),
            Some(Cause::FieldTooLarge),
        ),
        (("GET", Some("a"), "/", &[("b", &long)], true), Some(Cause::FieldTooLarge)),
        (("GET", Some("a"), "/0123456789012345678901234567", &[], true), Some(Cause::RequestLineTooLong)),
    ];
    for (row, cause) in rows {
        assert_eq!(take(*row, None, &tight).err(), *cause, "{row:?}");
    }
    let all = Bounds { head: 40, ..BOUNDS };
    assert_eq!(
        take(("GET", Some("a"), "/", &[("b", &long)], true), None, &all).err(),
        Some(Cause::HeadTooLarge)
    );
}

#[test]
fn a_legal_head_reads_like_one_of_http1() {
    let fields: &[(&str, &[u8])] = &[
        ("cookie", b"a=1"),
        ("host", b"EXAMPLE.com:80"),
        ("x", b"y"),
        ("te", b"trailers"),
        ("cookie", b"b=2"),
    ];
    let head = take(("POST", Some("example.com"), "/p?q=1", fields, false), Some("http"), &BOUNDS).unwrap();
    assert_eq!((head.method(), head.target(), head.query()), ("POST", "/p?q=1", Some("q=1")));
    assert_eq!((head.host.as_str(), head.port, head.framing), ("example.com", None, Framing::Chunked));
    assert_eq!((head.version, head.keep_alive, head.field_count), (Version::Http2, true, 5));
    assert_eq!(head.head.get(b"cookie"), Some(&b"a=1; b=2"[..]));
    assert_eq!(head.head.get_all(b"host").collect::<Vec<_>>(), [&b"example.com"[..]]);
    // A finding of the fuzzer.
    for (crumbs, joined) in
        [(["a=1", ""], "a=1"), (["", "a=1"], "a=1"), (["", ""], ""), (["a=1", "b=2"], "a=1; b=2")]
    {
        let fields = crumbs.map(|crumb| ("cookie", crumb.as_bytes()));
        let head = take(("GET", Some("a"), "/", &fields, true), None, &BOUNDS).unwrap();
        assert_eq!(head.head.get(b"cookie"), Some(joined.as_bytes()), "{crumbs:?}");
    }
    for (fields, ended, framing) in [
        (&[][..], true, Framing::None),
        (&[("content-length", &b"3"[..])][..], false, Framing::Length(3)),
        (&[("content-length", &b"0"[..])][..], false, Framing::None),
        (&[("content-length", &b"0"[..])][..], true, Framing::None),
        (&[][..], false, Framing::Chunked),
    ] {
        let head = take(("PUT", Some("a"), "/", fields, ended), None, &BOUNDS).unwrap();
        assert_eq!(head.framing, framing, "{fields:?} {ended}");
    }
    let expects: &[(&str, &[u8])] = &[("expect", b"100-continue")];
    for (ended, wanted) in [(false, true), (true, false)] {
        let head = take(("PUT", Some("a"), "/", expects, ended), None, &BOUNDS).unwrap();
        assert_eq!(head.expect_continue, wanted);
    }
    let star = take(("OPTIONS", Some("a"), "*", &[], true), None, &BOUNDS).unwrap();
    assert_eq!(star.target(), "*");
}

proptest! {
    /// What passes can be written as HTTP/1 text, and the judge of HTTP/1 reads it back as the same single request.
    #[test]
    fn what_passes_is_one_request_of_http1(
        method in "[A-Z]{1,8}|[!-~]{1,6}",
        authority in proptest::option::of("[a-z0-9.:@-]{0,12}"),
        path in "[/*][ -~]{0,12}|[ -~]{0,8}",
        fields in proptest::collection::vec(
            ("host|cookie|te|connection|content-length|x-[a-z]{1,3}|[a-z!#_]{1,6}", "[ -~\t\u{80}-\u{ff}]{0,8}|[0-9]{1,3}"),
            0..6,
        ),
        ended in any::<bool>(),
    ) {
        let fields: Vec<(&str, &[u8])> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let row = (method.as_str(), authority.as_deref(), path.as_str(), fields.as_slice(), ended);
        if let Ok(head) = take(row, Some("http"), &BOUNDS) {
            let mut text = format!("{} {} HTTP/1.1\r\n", head.method(), head.target()).into_bytes();
            for (_, name, value) in head.head.iter() {
                text.extend_from_slice(name);
                text.extend_from_slice(b": ");
                text.extend_from_slice(value);
                text.extend_from_slice(b"\r\n");
            }
            if head.framing == Framing::Chunked {
                text.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            }
            text.extend_from_slice(b"\r\n");
            let mut again = RequestHead::default();
            again.parse(&text, RULES).unwrap();
            prop_assert_eq!(
                (again.method(), again.target(), &again.host, again.port, again.framing),
                (head.method(), head.target(), &head.host, head.port, head.framing)
            );
        }
    }
}

/// RFC 8441: the request of HTTP/1 that would ask for the same, without a body.
#[test]
fn an_extended_connect_is_a_get_that_asks_for_the_protocol() {
    let take = |method, scheme, authority, path, protocol, fields: &[(&str, &[u8])]| {
        let fields = map(fields);
        let mut head = RequestHead::default();
        let from = Http2Head {
            method,
            scheme,
            authority,
            path,
            protocol: Some(protocol),
            fields: &fields,
            ended: false,
        };
        head.take_http2(&from, &BOUNDS, RULES).map(|_| head)
    };
    let (https, a) = (Some("https"), Some("a"));
    let head = take("CONNECT", https, a, "/x?y", "websocket", &[("sec-websocket-key", b"k")]).unwrap();
    assert_eq!((head.method(), head.target(), head.framing), ("GET", "/x?y", Framing::None));
    assert!(head.is_extended && head.asks_upgrade && head.head.get(b"sec-websocket-key").is_none());
    assert_eq!(head.head.get_all(b"upgrade").collect::<Vec<_>>(), [b"websocket"]);
    const NONE: &[(&str, &[u8])] = &[];
    const ONE: &[(&str, &[u8])] = &[("content-length", b"1")];
    const ZERO: &[(&str, &[u8])] = &[("content-length", b"0")];
    const UPGRADE: &[(&str, &[u8])] = &[("upgrade", b"websocket")];
    for (method, scheme, authority, path, protocol, fields, cause) in [
        ("GET", https, a, "/", "websocket", NONE, Cause::TargetMalformed),
        ("CONNECT", None, a, "/", "websocket", NONE, Cause::TargetMalformed),
        ("CONNECT", https, None, "/", "websocket", NONE, Cause::TargetMalformed),
        ("CONNECT", https, a, "", "websocket", NONE, Cause::TargetMalformed),
        ("CONNECT", https, a, "*", "websocket", NONE, Cause::TargetMalformed),
        ("CONNECT", https, a, "/", "h2c", NONE, Cause::MethodRefused),
        ("CONNECT", https, a, "/", "websocket", ONE, Cause::LengthInvalid),
        ("CONNECT", https, a, "/", "websocket", ZERO, Cause::LengthInvalid),
        ("CONNECT", https, a, "/", "websocket", UPGRADE, Cause::FieldMalformed),
    ] {
        let got = take(method, scheme, authority, path, protocol, fields).map(drop);
        assert_eq!(got, Err(cause), "{method} {scheme:?} {authority:?} {path} {protocol}");
    }
}

#[test]
fn plain_connect() {
    let take = |authority, fields| take(("CONNECT", authority, "", fields, false), None, &BOUNDS);
    let head = take(Some("A.b:443"), &[]).unwrap();
    assert_eq!((head.method(), head.target(), head.host.as_str()), ("CONNECT", "A.b:443", "a.b"));
    assert_eq!((head.port, head.framing, head.keep_alive), (Some(443), Framing::None, false));
    assert!(head.is_connect && head.is_tunnel() && head.asks_upgrade);
    for (authority, fields, cause) in [
        (None, NO_FIELDS, Cause::TargetMalformed),
        (Some("a"), NO_FIELDS, Cause::MethodRefused),
        (Some("a:0"), NO_FIELDS, Cause::MethodRefused),
        (Some("u@a:1"), NO_FIELDS, Cause::MethodRefused),
        (Some("a:1"), &[("content-length", b"1".as_slice())], Cause::LengthInvalid),
        (Some("a:1"), &[("transfer-encoding", b"chunked")], Cause::FieldMalformed),
        (Some("a:1"), &[("host", b"b:1")], Cause::AuthorityMismatch),
    ] {
        assert_eq!(take(authority, fields).err(), Some(cause), "{authority:?} {fields:?}");
    }
}

const NO_FIELDS: &[(&str, &[u8])] = &[];
