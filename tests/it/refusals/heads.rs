//! Faults of a request head: answered, closed, and nothing of it goes upstream.

use super::{nothing_reached, origin, refused, serve};
use ekiden_tests::{InProcess, Served};

/// What follows `POST / HTTP/1.1 Host: a`, status, code.
const FRAMING: &[(&str, u16, &str)] = &[
    ("Content-Length: 3\r\nTransfer-Encoding: chunked", 400, "framing_conflict"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 3", 400, "framing_conflict"),
    ("Transfer-Encoding: gzip\r\nContent-Length: 3", 400, "framing_conflict"),
    ("Content-Length: 3\r\nContent-Length: 3", 400, "length_repeated"),
    ("Content-Length: 3\r\ncontent-length: 4", 400, "length_repeated"),
    ("Content-Length: 3, 3", 400, "length_repeated"),
    ("Content-Length: 3,", 400, "length_repeated"),
    ("Content-Length: +3", 400, "length_invalid"),
    ("Content-Length: -3", 400, "length_invalid"),
    ("Content-Length: 3 3", 400, "length_invalid"),
    ("Content-Length: 3\t3", 400, "length_invalid"),
    ("Content-Length: 0x3", 400, "length_invalid"),
    ("Content-Length: a", 400, "length_invalid"),
    ("Content-Length: 3.0", 400, "length_invalid"),
    ("Content-Length: 1e3", 400, "length_invalid"),
    ("Content-Length: \"3\"", 400, "length_invalid"),
    ("Content-Length:", 400, "length_invalid"),
    ("Content-Length:  ", 400, "length_invalid"),
    ("Content-Length: 18446744073709551616", 400, "length_invalid"),
    ("Content-Length: 99999999999999999999999999", 400, "length_invalid"),
    ("Content-Length : 3", 400, "field_malformed"),
    ("Content_Length: 3", 400, "underscore_field"),
    ("Transfer-Encoding: gzip", 501, "transfer_encoding_unsupported"),
    ("Transfer-Encoding: identity", 501, "transfer_encoding_unsupported"),
    ("Transfer-Encoding: xchunked", 501, "transfer_encoding_unsupported"),
    ("Transfer-Encoding: gzip, chunked", 501, "transfer_encoding_unsupported"),
    ("Transfer-Encoding: chunked, gzip", 400, "transfer_encoding_invalid"),
    ("Transfer-Encoding: chunked, chunked", 400, "transfer_encoding_invalid"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400, "transfer_encoding_invalid"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 400, "transfer_encoding_invalid"),
    ("Transfer-Encoding: chunked;q=1", 400, "transfer_encoding_invalid"),
    ("Transfer-Encoding: \"chunked\"", 400, "transfer_encoding_invalid"),
    ("Transfer-Encoding: chunked,", 400, "transfer_encoding_invalid"),
    ("Transfer-Encoding: ,chunked", 400, "transfer_encoding_invalid"),
    ("Transfer-Encoding:", 400, "transfer_encoding_invalid"),
    ("Transfer-Encoding : chunked", 400, "field_malformed"),
    ("Transfer-Encoding: \x0bchunked", 400, "field_value_illegal"),
    ("Transfer-Encoding: chunked\x0c", 400, "field_value_illegal"),
    ("Transfer_Encoding: chunked", 400, "underscore_field"),
    ("Content-Length: 3\r\nExpect: 200-ok", 417, "expect_unknown"),
    ("Content-Length: 3\r\nExpect: 100-continue, x", 417, "expect_unknown"),
    ("Content-Length: 3\r\nExpect: 100-continue\r\nExpect: 100-continue", 417, "expect_unknown"),
];

/// What follows `GET / HTTP/1.1 Host: a`, status, code.
const FIELDS: &[(&[u8], u16, &str)] = &[
    (b"A: b\r\n c", 400, "field_folded"),
    (b"A: b\r\n\tc", 400, "field_folded"),
    (b"A: b\r\n ", 400, "field_folded"),
    (b"A : b", 400, "field_malformed"),
    (b"A\t: b", 400, "field_malformed"),
    (b"nocolon", 400, "field_malformed"),
    (b": v", 400, "field_malformed"),
    (b"A B: v", 400, "field_malformed"),
    (b"A(b): v", 400, "field_malformed"),
    (b"A\"b: v", 400, "field_malformed"),
    (b"A/b: v", 400, "field_malformed"),
    (b"A\x00: v", 400, "field_malformed"),
    (b"A\x7f: v", 400, "field_malformed"),
    (b"\xc3\xa4: v", 400, "field_malformed"),
    (b"A: b\x00c", 400, "field_value_illegal"),
    (b"A: \x01", 400, "field_value_illegal"),
    (b"A: b\x0bc", 400, "field_value_illegal"),
    (b"A: b\x0cc", 400, "field_value_illegal"),
    (b"A: b\x1b[0m", 400, "field_value_illegal"),
    (b"A: b\x7f", 400, "field_value_illegal"),
    (b"A: b\rc", 400, "line_ending_malformed"),
    (b"A: b\r", 400, "line_ending_malformed"),
    (b"A\r: b", 400, "line_ending_malformed"),
    (b"A: b\nB: c", 400, "line_ending_malformed"),
    (b"A: b\n\nGET /evil HTTP/1.1", 400, "line_ending_malformed"),
    (b"Host: a", 400, "host_repeated"),
    (b"host: b", 400, "host_repeated"),
    (b"Connection: Host", 400, "connection_nomination"),
    (b"Connection: close, content-length", 400, "connection_nomination"),
    (b"Connection: Transfer-Encoding", 400, "connection_nomination"),
    (b"Connection: authorization", 400, "connection_nomination"),
    (b"Connection: keep-alive\r\nConnection: Cookie", 400, "connection_nomination"),
    (b"Connection: X-Forwarded-For", 400, "connection_nomination"),
    (b"Connection: x-forwarded-proto", 400, "connection_nomination"),
    (b"Connection: X-Forwarded-Port", 400, "connection_nomination"),
    (b"Connection: X-Forwarded-Host", 400, "connection_nomination"),
    (b"Connection: X-Request-Id", 400, "connection_nomination"),
    (b"Connection: X-Request-Start", 400, "connection_nomination"),
    (b"Connection: Forwarded", 400, "connection_nomination"),
    (b"Connection: Via", 400, "connection_nomination"),
    (b"Connection: Client-Cert", 400, "connection_nomination"),
    (b"Connection: X-Forwarded-Client-Cert", 400, "connection_nomination"),
    (b"X_Forwarded_For: 1.2.3.4", 400, "underscore_field"),
    (b"X-Forwarded_For: 1.2.3.4", 400, "underscore_field"),
    (b"x_forwarded_proto: https", 400, "underscore_field"),
    (b"X_Forwarded_Port: 1", 400, "underscore_field"),
    (b"X_Forwarded_Host: b", 400, "underscore_field"),
    (b"X_Request_Id: 12345678901234567890", 400, "underscore_field"),
    (b"X_Request_Start: 1", 400, "underscore_field"),
    (b"Client_Cert: x", 400, "underscore_field"),
    (b"X_Forwarded_Client_Cert: x", 400, "underscore_field"),
];

/// The bytes after `Host:` of an HTTP/1.1 request, all of them illegal.
const HOSTS: &[&str] = &[
    "",
    " ",
    " u@a",
    " u:p@a",
    " a,b",
    " a, b",
    " a b",
    " a/b",
    " a/",
    " a?b",
    " a#b",
    " a\\b",
    " a:x",
    " a:-1",
    " a:99999",
    " a:65536",
    " a:0",
    " a:80:80",
    " :80",
    " a..b",
    " .a",
    " [::1",
    " ::1",
    " [::1]x",
    " [::1]:x",
    " [g::]",
    " a%41",
    " http://a",
    " *",
    " a_b@c",
    " \"a\"",
    " a;b",
];

/// Request lines with the code of their refusal (405 for the methods that are not served, 400 else).
const LINES: &[(&[u8], &str)] = &[
    (b"GET  / HTTP/1.1", "request_line_malformed"),
    (b"GET /  HTTP/1.1", "request_line_malformed"),
    (b"GET / HTTP/1.1 ", "request_line_malformed"),
    (b" GET / HTTP/1.1", "request_line_malformed"),
    (b"GET\t/ HTTP/1.1", "request_line_malformed"),
    (b"GET /\tHTTP/1.1", "request_line_malformed"),
    (b"GET / a HTTP/1.1", "request_line_malformed"),
    (b"GET /", "request_line_malformed"),
    (b"GET", "request_line_malformed"),
    (b"GET / HTTP/1.2", "version_unsupported"),
    (b"GET / HTTP/2.0", "version_unsupported"),
    (b"GET / HTTP/0.9", "version_unsupported"),
    (b"GET / HTTP/1", "version_unsupported"),
    (b"GET / HTTP/1.10", "version_unsupported"),
    (b"GET / HTTP/01.1", "version_unsupported"),
    (b"GET / HTTP/1.1x", "version_unsupported"),
    (b"GET / http/1.1", "version_unsupported"),
    (b"GET / HTTPS/1.1", "version_unsupported"),
    (b"GET / HTTP 1.1", "request_line_malformed"),
    (b"G(T / HTTP/1.1", "method_malformed"),
    (b"G\x00T / HTTP/1.1", "method_malformed"),
    (b"G\xc3\xa9T / HTTP/1.1", "method_malformed"),
    (b"GET: / HTTP/1.1", "method_malformed"),
    (b"GET a HTTP/1.1", "target_malformed"),
    (b"GET a/b HTTP/1.1", "target_malformed"),
    (b"GET ?a HTTP/1.1", "target_malformed"),
    (b"GET * HTTP/1.1", "target_malformed"),
    (b"OPTIONS ** HTTP/1.1", "target_malformed"),
    (b"OPTIONS *a HTTP/1.1", "target_malformed"),
    (b"GET /a#b HTTP/1.1", "target_malformed"),
    (b"GET http://a/#b HTTP/1.1", "target_malformed"),
    (b"GET /\x00 HTTP/1.1", "target_malformed"),
    (b"GET /\x7f HTTP/1.1", "target_malformed"),
    (b"GET /\xc3\xa4 HTTP/1.1", "target_malformed"),
    (b"GET a:80 HTTP/1.1", "target_malformed"),
    (b"GET /\r HTTP/1.1", "line_ending_malformed"),
    (b"GET / HTTP/1.1\r", "line_ending_malformed"),
    (b"GET / HTTP/1.1\nX: y", "line_ending_malformed"),
    (b"GET ftp://a/ HTTP/1.1", "scheme_unsupported"),
    (b"GET ws://a/ HTTP/1.1", "scheme_unsupported"),
    (b"GET file:///etc/passwd HTTP/1.1", "scheme_unsupported"),
    (b"GET http://b/ HTTP/1.1", "authority_mismatch"),
    (b"GET http://a:81/ HTTP/1.1", "authority_mismatch"),
    (b"GET http://a.b/ HTTP/1.1", "authority_mismatch"),
    (b"GET http:/// HTTP/1.1", "host_illegal"),
    (b"GET http://u@a/ HTTP/1.1", "host_illegal"),
    (b"GET http://a,b/ HTTP/1.1", "host_illegal"),
    (b"GET http://a:x/ HTTP/1.1", "host_illegal"),
    (b"GET /%00 HTTP/1.1", "path_illegal"),
    (b"GET /a\\b HTTP/1.1", "path_illegal"),
    (b"GET /.. HTTP/1.1", "path_illegal"),
    (b"GET /a/../../b HTTP/1.1", "path_illegal"),
    (b"GET /%2e%2E/b HTTP/1.1", "path_illegal"),
    (b"GET /%zz HTTP/1.1", "path_illegal"),
    (b"GET /% HTTP/1.1", "path_illegal"),
    (b"GET /%4 HTTP/1.1", "path_illegal"),
    (b"CONNECT a:80 HTTP/1.1", "method_refused"),
    (b"CONNECT / HTTP/1.1", "method_refused"),
    (b"TRACE / HTTP/1.1", "method_refused"),
];

fn check(router: &InProcess, bytes: &[u8], status: u16, code: &str) {
    for split in [false, true] {
        let what =
            format!("{:?}{}", String::from_utf8_lossy(bytes), if split { " byte by byte" } else { "" });
        let response = refused(router, bytes, split, &what);
        assert_eq!((response.status, response.code()), (status, code), "{what}");
    }
}

#[test]
fn framing() {
    let origin = origin();
    let router = serve(&origin, "");
    for (fields, status, code) in FRAMING {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\nabc");
        check(&router, text.as_bytes(), *status, code);
    }
    let old = b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    check(&router, old, 400, "transfer_encoding_in_old_version");
    nothing_reached(&origin, &router, "framing");
}

#[test]
fn fields() {
    let origin = origin();
    let router = serve(&origin, "");
    for (fields, status, code) in FIELDS {
        let bytes = [b"GET / HTTP/1.1\r\nHost: a\r\n", *fields, b"\r\n\r\n"].concat();
        check(&router, &bytes, *status, code);
    }
    nothing_reached(&origin, &router, "fields");
}

#[test]
fn underscore_fields_are_refused_also_where_others_are_allowed() {
    let origin = origin();
    let router = serve(&origin, "allow_underscore = true");
    check(&router, b"GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 1.2.3.4\r\n\r\n", 400, "underscore_field");
    check(&router, b"GET / HTTP/1.1\r\nHost: a\r\nClient_Cert: x\r\n\r\n", 400, "underscore_field");
    nothing_reached(&origin, &router, "underscore");
}

#[test]
fn hosts() {
    let origin = origin();
    let router = serve(&origin, "");
    for host in HOSTS {
        for target in ["/", "http://a/"] {
            let text = format!("GET {target} HTTP/1.1\r\nHost:{host}\r\n\r\n");
            check(&router, text.as_bytes(), 400, "host_illegal");
        }
    }
    check(&router, b"GET / HTTP/1.1\r\n\r\n", 400, "host_missing");
    check(&router, b"GET / HTTP/1.1\r\nX: y\r\n\r\n", 400, "host_missing");
    check(&router, b"GET http://a/ HTTP/1.1\r\n\r\n", 400, "host_missing");
    check(&router, b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400, "host_repeated");
    check(&router, b"GET / HTTP/1.0\r\nHost: a,b\r\n\r\n", 400, "host_illegal");
    nothing_reached(&origin, &router, "hosts");
}

#[test]
fn request_lines() {
    let origin = origin();
    let router = serve(&origin, "");
    for (line, code) in LINES {
        let bytes = [*line, b"\r\nHost: a\r\n\r\n"].concat();
        let status = if *code == "method_refused" { 405 } else { 400 };
        check(&router, &bytes, status, code);
    }
    check(&router, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "http2_preface");
    check(&router, b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "request_line_malformed");
    check(&router, b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "line_ending_malformed");
    nothing_reached(&origin, &router, "request lines");
}

#[test]
fn garbage_after_a_good_request_is_answered_after_it() {
    let origin = origin();
    let router = serve(&origin, "");
    for split in [false, true] {
        let mut client = router.client();
        let bytes = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\nGARBAGE\r\n\r\n";
        if split {
            client.send_split(bytes)
        } else {
            client.send(bytes)
        }
        assert_eq!(client.response().text(), "good");
        let second = client.response();
        assert_eq!((second.status, second.code()), (400, "request_line_malformed"));
        assert_eq!(client.rest(), b"");
    }
}

#[test]
fn an_empty_line_before_a_request_may_come_in_pieces() {
    let origin = origin();
    let router = serve(&origin, "");
    let mut client = router.client();
    for piece in ["\r", "\n", "GET /good HTTP/1.1\r\nHost: a\r\n\r\n"] {
        client.send(piece);
        assert!(piece.len() > 1 || client.is_quiet(std::time::Duration::from_millis(30)), "after {piece:?}");
    }
    assert_eq!(client.response().text(), "good");
}

#[test]
fn what_looks_odd_and_is_legal_passes() {
    let origin = ekiden_tests::Echo::start("one");
    let router = serve(origin.origin(), "");
    let rows: &[(&str, &str)] = &[
        ("GET http://a/x?y HTTP/1.1\r\nHost: A\r\n\r\n", "GET /x?y HTTP/1.1"),
        ("GET HTTPS://a/x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x HTTP/1.1"),
        ("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1"),
        ("GET http://a:80/ HTTP/1.1\r\nHost: a:80\r\n\r\n", "GET / HTTP/1.1"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1"),
        ("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1"),
        ("\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x HTTP/1.1"),
        ("get /x HTTP/1.1\r\nHost: a\r\n\r\n", "get /x HTTP/1.1"),
        ("M-SEARCH /x HTTP/1.1\r\nHost: a\r\n\r\n", "M-SEARCH /x HTTP/1.1"),
        ("GET //x HTTP/1.1\r\nHost: a\r\n\r\n", "GET //x HTTP/1.1"),
        ("GET /x HTTP/1.1\r\nHost: a.\r\n\r\n", "GET /x HTTP/1.1"),
        ("GET /x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET /x HTTP/1.1"),
        ("GET /x HTTP/1.1\r\nHost:a\r\nA:\r\nB: \t c\t \r\n\r\n", "GET /x HTTP/1.1"),
        ("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", "POST /x HTTP/1.1"),
        ("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\n\r\nabcdefg", "POST /x HTTP/1.1"),
        ("GET /x HTTP/1.0\r\n\r\n", "GET /x HTTP/1.1"),
        ("GET /x?a=%zz&b=\\ HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x?a=%zz&b=\\ HTTP/1.1"),
        ("GET /a/./b/../%7e%41%2f HTTP/1.1\r\nHost: a\r\n\r\n", "GET /a/~A%2F HTTP/1.1"),
    ];
    for (text, line) in rows {
        for split in [false, true] {
            let mut client = router.client();
            if split {
                client.send_split(text.as_bytes())
            } else {
                client.send(text)
            }
            let what = format!("{text:?} split {split}");
            let response = client.read(false).unwrap_or_else(|lost| panic!("{what}: {lost:?}"));
            assert_eq!(response.status, 200, "{what}: {response:?}");
            assert_eq!(ekiden_tests::Seen::from(response).text("line"), *line, "{what}");
        }
    }
}

/// Who asks for a head gets no body, also where the request is refused before it is known to be a HEAD.
#[test]
fn a_refused_head_request_has_an_answer_without_a_body() {
    let origin = origin();
    let router = serve(&origin, "");
    let long = format!("HEAD /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(70_000));
    for text in [
        "HEAD / HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n",
        long.as_str(),
    ] {
        let answer = refused(&router, text.as_bytes(), false, &text[..30]);
        assert!((400..=414).contains(&answer.status), "{answer:?}");
    }
    nothing_reached(&origin, &router, "HEAD");
}
