//! Every refusal of a request head, as a table: text, cause.

use super::*;

const RULES: Rules = Rules { fields: 100, allow_underscore: false };

fn parse(text: &str) -> Result<RequestHead, Cause> {
    let mut head = RequestHead::default();
    head.parse(text.as_bytes(), RULES).map(|()| head)
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn refusals() {
    let rows: &[(&str, Cause)] = &[
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            Cause::FramingConflict,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            Cause::LengthRepeated,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n", Cause::LengthRepeated),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n", Cause::LengthInvalid),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n", Cause::LengthInvalid),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3 3\r\n\r\n", Cause::LengthInvalid),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\n", Cause::LengthInvalid),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", Cause::LengthInvalid),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", Cause::LengthInvalid),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", Cause::TransferEncodingUnsupported),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            Cause::TransferEncodingUnsupported,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
            Cause::TransferEncodingUnsupported,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
            Cause::TransferEncodingInvalid,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            Cause::TransferEncodingInvalid,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", Cause::TransferEncodingInvalid),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n",
            Cause::TransferEncodingInvalid,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", Cause::FieldValueIllegal),
        (
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            Cause::TransferEncodingInOldVersion,
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", Cause::FieldFolded),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Cause::FieldFolded),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Cause::FieldMalformed),
        ("GET / HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n", Cause::FieldMalformed),
        ("GET / HTTP/1.1\r\nHost: a\r\n: v\r\n\r\n", Cause::FieldMalformed),
        ("GET / HTTP/1.1\r\nHost: a\r\nA(b): v\r\n\r\n", Cause::FieldMalformed),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b\x00c\r\n\r\n", Cause::FieldValueIllegal),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b\x7f\r\n\r\n", Cause::FieldValueIllegal),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n", Cause::LineEndingMalformed),
        ("GET / HTTP/1.1\r\nHost: a\r\nA\r: b\r\n\r\n", Cause::LineEndingMalformed),
        ("GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", Cause::LineEndingMalformed),
        ("GET / HTTP/1.1\r\n\r\n", Cause::HostMissing),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Cause::HostRepeated),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Cause::HostRepeated),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Cause::HostIllegal),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Cause::HostIllegal),
        ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", Cause::HostIllegal),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Cause::HostIllegal),
        ("GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", Cause::HostIllegal),
        ("GET / HTTP/1.1\r\nHost: a:x\r\n\r\n", Cause::HostIllegal),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", Cause::AuthorityMismatch),
        ("GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n", Cause::AuthorityMismatch),
        ("GET http://a:443/ HTTP/1.1\r\nHost: a\r\n\r\n", Cause::AuthorityMismatch),
        ("GET https://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n", Cause::AuthorityMismatch),
        ("GET http://a/ HTTP/1.1\r\nHost: a:8080\r\n\r\n", Cause::AuthorityMismatch),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Cause::SchemeUnsupported),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", Cause::TargetMalformed),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Cause::TargetMalformed),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Cause::TargetMalformed),
        ("GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", Cause::TargetMalformed),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Cause::RequestLineMalformed),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Cause::RequestLineMalformed),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Cause::RequestLineMalformed),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Cause::RequestLineMalformed),
        ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Cause::RequestLineMalformed),
        ("GET /\r\nHost: a\r\n\r\n", Cause::RequestLineMalformed),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Cause::VersionUnsupported),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Cause::VersionUnsupported),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", Cause::VersionUnsupported),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", Cause::MethodMalformed),
        ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", Cause::MethodRefused),
        ("CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", Cause::MethodRefused),
        ("CONNECT a: HTTP/1.1\r\nHost: a\r\n\r\n", Cause::MethodRefused),
        ("CONNECT a:0 HTTP/1.1\r\nHost: a\r\n\r\n", Cause::MethodRefused),
        ("CONNECT :80 HTTP/1.1\r\nHost: a\r\n\r\n", Cause::MethodRefused),
        ("CONNECT u@a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", Cause::MethodRefused),
        ("CONNECT http://a:80/ HTTP/1.1\r\nHost: a:80\r\n\r\n", Cause::MethodRefused),
        ("CONNECT a:80 HTTP/1.1\r\n\r\n", Cause::HostMissing),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nHost: a:80\r\n\r\n", Cause::HostRepeated),
        ("CONNECT a:80 HTTP/1.1\r\nHost: b:80\r\n\r\n", Cause::AuthorityMismatch),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:81\r\n\r\n", Cause::AuthorityMismatch),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 1\r\n\r\n", Cause::LengthInvalid),
        (
            "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nTransfer-Encoding: chunked\r\n\r\n",
            Cause::TransferEncodingInvalid,
        ),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", Cause::MethodRefused),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 200-ok\r\n\r\n", Cause::ExpectUnknown),
        ("PRI * HTTP/2.0\r\n\r\n", Cause::Http2Preface),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, host\r\n\r\n", Cause::ConnectionNomination),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Forwarded-For\r\n\r\n", Cause::ConnectionNomination),
        ("GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded-For: 1.2.3.4\r\n\r\n", Cause::UnderscoreField),
        ("GET / HTTP/1.1\r\nHost: a\r\nclient_cert: x\r\n\r\n", Cause::UnderscoreField),
    ];
    for (text, cause) in rows {
        assert_eq!(parse(text).err(), Some(*cause), "{text:?}");
    }
}

#[test]
fn accepted_heads() {
    let head =
        parse("POST http://A.b:80/x?y=1 HTTP/1.1\r\nHost: a.B:80\r\nContent-Length: 5\r\n\r\n").unwrap();
    assert_eq!(
        (head.method(), head.raw_path(), head.query(), head.host.as_str()),
        ("POST", "/x", Some("y=1"), "a.b")
    );
    assert_eq!((head.framing, head.keep_alive, head.port), (Framing::Length(5), true, Some(80)));

    let head = parse("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((head.form, head.raw_path()), (TargetForm::Asterisk, "*"));
    for (target, host) in
        [("http://a:80/", "a"), ("http://a/", "A:80"), ("https://a:443/", "a"), ("HTTPS://a/", "a:443")]
    {
        let head = parse(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).unwrap();
        assert_eq!((head.raw_path(), head.host.as_str()), ("/", "a"), "{target} {host}");
    }
    let head = parse("GET http://a?x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((head.raw_path(), head.query()), ("/", Some("x")));

    for head in [
        "CONNECT A.b:443 HTTP/1.1\r\nHost: a.b:443",
        "CONNECT a.b:443 HTTP/1.0",
        "CONNECT a.b:443 HTTP/1.1\r\nHost: a.b\r\nContent-Length: 0",
    ] {
        let head = parse(&format!("{head}\r\n\r\n")).unwrap();
        assert_eq!((head.host.as_str(), head.port, head.framing), ("a.b", Some(443), Framing::None));
        assert!(head.is_connect && head.asks_upgrade && !head.keep_alive && !head.idempotent);
    }
    let head = parse("GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!((head.host.as_str(), head.keep_alive), ("", false));
    let head = parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").unwrap();
    assert!(head.keep_alive);
    let head =
        parse("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: cHuNkEd\r\nExpect: 100-Continue\r\n\r\n")
            .unwrap();
    assert_eq!((head.framing, head.expect_continue), (Framing::Chunked, true));
}

#[test]
fn underscores_are_dropped_unless_allowed() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nX_Some: 1\r\n\r\n";
    assert!(parse(text).unwrap().head.get(b"X_Some").is_none());
    let mut head = RequestHead::default();
    head.parse(text.as_bytes(), Rules { allow_underscore: true, ..RULES }).unwrap();
    assert_eq!(head.head.get(b"X_Some"), Some(&b"1"[..]));
}
