//! The grammar of what is neither length nor chunk: request lines, versions, line ends, names, Host, Expect, Upgrade,
//! Connection. The hidden request follows each of them.

use super::cases::{Case, Fate, HIDDEN, request};

/// Request lines that must not pass.
const BAD_LINES: &[(&str, &str)] = &[
    ("two spaces after the method", "GET  /case-@id HTTP/1.1"),
    ("two spaces after the target", "GET /case-@id  HTTP/1.1"),
    ("leading space", " GET /case-@id HTTP/1.1"),
    ("trailing space", "GET /case-@id HTTP/1.1 "),
    ("tab after the method", "GET\t/case-@id HTTP/1.1"),
    ("tab after the target", "GET /case-@id\tHTTP/1.1"),
    ("vertical tab", "GET\x0b/case-@id HTTP/1.1"),
    ("form feed", "GET /case-@id\x0cHTTP/1.1"),
    ("bare CR in the target", "GET /case-@id\r HTTP/1.1"),
    ("bare CR, then a line", "GET /case-@id HTTP/1.1\rHost: b"),
    ("bare LF, then a line", "GET /case-@id HTTP/1.1\nHost: b"),
    ("space in the target", "GET /case-@id /b HTTP/1.1"),
    ("a version in the target", "GET /case-@id HTTP/1.1 HTTP/1.1"),
    ("NUL in the target", "GET /case-@id\0 HTTP/1.1"),
    ("NUL in the method", "GE\0T /case-@id HTTP/1.1"),
    ("high byte in the target", "GET /case-@id\u{e9} HTTP/1.1"),
    ("no version", "GET /case-@id"),
    ("no target", "GET HTTP/1.1"),
    ("no method", "/case-@id HTTP/1.1"),
    ("version 0.9", "GET /case-@id HTTP/0.9"),
    ("version 1.2", "GET /case-@id HTTP/1.2"),
    ("version 2.0", "GET /case-@id HTTP/2.0"),
    ("version 1", "GET /case-@id HTTP/1"),
    ("version 01.1", "GET /case-@id HTTP/01.1"),
    ("version 1.01", "GET /case-@id HTTP/1.01"),
    ("version 1,1", "GET /case-@id HTTP/1,1"),
    ("version 11", "GET /case-@id HTTP/11"),
    ("lower case version", "GET /case-@id http/1.1"),
    ("another protocol", "GET /case-@id HTTPS/1.1"),
    ("preface of HTTP/2", "PRI * HTTP/2.0"),
    ("fragment", "GET /case-@id#a HTTP/1.1"),
    ("no slash", "GET case-@id HTTP/1.1"),
    ("asterisk with GET", "GET * HTTP/1.1"),
    ("backslash", "GET \\case-@id HTTP/1.1"),
    ("scheme without authority", "GET http:/case-@id HTTP/1.1"),
    ("empty authority", "GET http:///case-@id HTTP/1.1"),
    ("another scheme", "GET ftp://a/case-@id HTTP/1.1"),
    ("userinfo", "GET http://u@a/case-@id HTTP/1.1"),
    ("another authority", "GET http://b/case-@id HTTP/1.1"),
    ("another port", "GET http://a:81/case-@id HTTP/1.1"),
    ("authority with a space", "GET http://a b/case-@id HTTP/1.1"),
    ("CONNECT", "CONNECT a:80 HTTP/1.1"),
    ("TRACE", "TRACE /case-@id HTTP/1.1"),
    ("method in brackets", "(GET) /case-@id HTTP/1.1"),
    ("method with a colon", "GET: /case-@id HTTP/1.1"),
];

/// Request lines that pass; the hidden request follows as a request of its own.
const GOOD_LINES: &[(&str, &str)] = &[
    ("plain", "GET /case-@id HTTP/1.1"),
    ("absolute", "GET http://a/case-@id HTTP/1.1"),
    ("absolute upper case", "GET HTTP://A/case-@id HTTP/1.1"),
    ("absolute https", "GET https://a/case-@id HTTP/1.1"),
    ("a query like a request", "GET /case-@id?HTTP/1.1%0d%0aHost:%20b HTTP/1.1"),
    ("encoded line end", "GET /case-@id%0d%0a HTTP/1.1"),
    ("encoded space", "GET /case-@id%20HTTP/1.1 HTTP/1.1"),
    ("lower case method", "get /case-@id HTTP/1.1"),
    ("method with a dash", "GET-X /case-@id HTTP/1.1"),
    ("URL in the path", "GET /case-@id/http://b/ HTTP/1.1"),
];

/// Field lines that must not pass.
const BAD_FIELDS: &[(&str, &[u8])] = &[
    ("folded", b"X: a\r\n b"),
    ("folded by tab", b"X: a\r\n\tb"),
    ("folded empty", b"X: a\r\n "),
    ("no colon", b"X"),
    ("a request line", b"GET /smuggled-@id HTTP/1.1"),
    ("empty name", b": a"),
    ("space before colon", b"X : a"),
    ("tab before colon", b"X\t: a"),
    ("space in name", b"X Y: a"),
    ("NUL in name", b"X\0Y: a"),
    ("NUL in value", b"X: a\0b"),
    ("bare LF", b"X: a\nb: c"),
    ("bare LF, empty line", b"X: a\n\nGET /smuggled-@id HTTP/1.1\nHost: a\n"),
    ("bare CR", b"X: a\rb: c"),
    ("bare CRs, empty line", b"X: a\r\rGET /smuggled-@id HTTP/1.1"),
    ("LF CR", b"X: a\n\rb: c"),
    ("CR CR LF", b"X: a\r\r\nb: c"),
    ("CR CR LF for the empty line", b"X: a\r\n\r\r\nGET /smuggled-@id HTTP/1.1"),
    ("LF for the empty line", b"X: a\r\n\nGET /smuggled-@id HTTP/1.1"),
    ("vertical tab in value", b"X: a\x0bb"),
    ("form feed in value", b"X: a\x0cb"),
    ("escape in value", b"X: a\x1bb"),
    ("DEL in value", b"X: a\x7fb"),
    ("high byte in name", b"X\xc3\xa9: a"),
    ("quote in name", b"\"X\": a"),
    ("at in name", b"X@: a"),
    ("second Host", b"Host: b"),
    ("second Host, equal", b"Host: a"),
    ("second Host, other case", b"hOST: a"),
    ("Host with a space before the colon", b"Host : b"),
    ("nominated Host", b"Connection: Host"),
    ("nominated Content-Length", b"Connection: close, Content-Length"),
    ("nominated Transfer-Encoding", b"Connection: transfer-encoding"),
    ("nominated Cookie", b"Connection: Cookie"),
    ("nominated X-Forwarded-For", b"Connection: X-Forwarded-For"),
    ("underscore Content_Length", b"Content_Length: 5"),
    ("underscore Transfer_Encoding", b"Transfer_Encoding: chunked"),
    ("underscore TRANSFER_encoding", b"TRANSFER_encoding: chunked"),
    ("underscore X_Forwarded_For", b"X_Forwarded_For: 1.2.3.4"),
    ("mixed X_Forwarded-For", b"X_Forwarded-For: 1.2.3.4"),
    ("Expect unknown", b"Expect: 200-ok"),
    ("Expect list", b"Expect: 100-continue, x"),
    ("Expect twice", b"Expect: 100-continue\r\nExpect: 100-continue"),
    ("Expect empty", b"Expect:"),
    ("Expect with parameter", b"Expect: 100-continue;a"),
    ("Expect with a control byte", b"Expect: \x0b100-continue"),
];

/// Fields that ask for another protocol, which no endpoint here speaks: what stands behind them was meant for it.
const SWITCHES: &[(&str, &[u8])] = &[
    (
        "WebSocket",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA",
    ),
    (
        "WebSocket of a wrong version",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 1",
    ),
    ("WebSocket among others", b"Upgrade: h2c, WebSocket\r\nConnection: upgrade"),
];

/// Field lines that pass, or are dropped; the hidden request follows as a request of its own.
const GOOD_FIELDS: &[(&str, &[u8])] = &[
    ("near Content-Length", b"Content-Lengths: 5"),
    ("X-Content-Length", b"X-Content-Length: 5"),
    ("near Transfer-Encoding", b"Transfer-Encodings: chunked"),
    ("X-Transfer-Encoding", b"X-Transfer-Encoding: chunked"),
    ("TE", b"TE: trailers, chunked"),
    ("TE nominated", b"TE: trailers\r\nConnection: TE"),
    ("Trailer", b"Trailer: Content-Length, Transfer-Encoding"),
    ("Content-Encoding", b"Content-Encoding: chunked"),
    ("Expect without body", b"Expect: 100-continue"),
    ("Expect in other case", b"Expect: 100-Continue"),
    (
        "h2c",
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nConnection: Upgrade, HTTP2-Settings",
    ),
    ("h2c without Connection", b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
    (
        "WebSocket in HTTP/1.1 that is not nominated",
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA",
    ),
    ("Upgrade to TLS", b"Upgrade: TLS/1.0\r\nConnection: Upgrade"),
    ("nominated other", b"X-Hop: a\r\nConnection: X-Hop"),
    ("Keep-Alive", b"Keep-Alive: timeout=1, max=1\r\nConnection: keep-alive"),
    ("Proxy-Connection", b"Proxy-Connection: close"),
    ("underscore other", b"X_Other: a"),
    ("empty value", b"X:"),
    ("high bytes in value", b"X: \xc3\xa9\xff"),
    ("tab in value", b"X: a\tb"),
    ("method override", b"X-HTTP-Method-Override: CONNECT"),
    ("URL override", b"X-Original-URL: /smuggled-@id\r\nX-Rewrite-URL: /smuggled-@id"),
    ("request in a value", b"X: GET /other HTTP/1.1"),
    ("length in a parameter", b"Content-Type: text/plain; Content-Length=5"),
];

/// Values of a Host alone that must not pass.
const BAD_HOSTS: &[(&str, &[u8])] = &[
    ("empty", b"Host:"),
    ("with comma", b"Host: a, b"),
    ("with space", b"Host: a b"),
    ("with path", b"Host: a/b"),
    ("with userinfo", b"Host: u@a"),
    ("with a bad port", b"Host: a:b"),
    ("with a port too large", b"Host: a:65536"),
    ("with NUL", b"Host: a\0"),
    ("with fragment", b"Host: a#b"),
    ("folded", b"Host:\r\n a"),
    ("underscore", b"X_Host: a"),
];

/// Whole messages that fit in no table.
fn others(cases: &mut Vec<Case>) {
    let hidden = HIDDEN.as_bytes();
    let mut add = |name: &str, bytes: Vec<u8>, fate: Fate| cases.push(Case::new(name, bytes, fate));
    let (host, chunked): (&[u8], &[u8]) = (b"Host: a", b"Transfer-Encoding: chunked");
    let chunks = format!("0\r\n\r\n{HIDDEN}");
    for (name, coding) in [("chunked", &b"chunked"[..]), ("identity", b"identity"), ("gzip", b"gzip")] {
        let coding = [b"Transfer-Encoding: ", coding].concat();
        let fields: &[&[u8]] = &[host, &coding, b"Connection: keep-alive"];
        let bytes = request("POST /case-@id HTTP/1.0", fields, chunks.as_bytes());
        add(&format!("HTTP/1.0 with coding {name}"), bytes, Fate::Refused);
    }
    let old = request("POST /case-@id HTTP/1.0", &[host, b"Content-Length: 3"], &[b"abc", hidden].concat());
    add("HTTP/1.0 with a length, closes", old, Fate::One("abc".into()));
    let fields: &[&[u8]] = &[host, b"Content-Length: 3", b"Connection: keep-alive"];
    let kept = request("POST /case-@id HTTP/1.0", fields, &[b"abc", hidden].concat());
    add("HTTP/1.0 with a length, kept alive", kept, Fate::Two("abc".into()));
    add("HTTP/1.0 without Host", request("GET /case-@id HTTP/1.0", &[], hidden), Fate::One(Vec::new()));
    add("HTTP/1.1 without Host", request("GET /case-@id HTTP/1.1", &[], hidden), Fate::Refused);
    add("HTTP/0.9", [b"GET /case-@id\r\n", hidden].concat(), Fate::Refused);
    add(
        "leading CRLF",
        [b"\r\n", &request("GET /case-@id HTTP/1.1", &[host], hidden)[..]].concat(),
        Fate::Two(Vec::new()),
    );
    for (name, lead) in
        [("bare LF", &b"\n"[..]), ("CR", b"\r"), ("NUL", b"\0"), ("space", b" "), ("BOM", b"\xef\xbb\xbf")]
    {
        let bytes = [lead, &request("GET /case-@id HTTP/1.1", &[host], hidden)].concat();
        add(&format!("leading {name}"), bytes, Fate::Refused);
    }
    let closing = request("GET /case-@id HTTP/1.1", &[host, b"Connection: close"], hidden);
    add("another after Connection: close", closing, Fate::One(Vec::new()));
    let folded = b"GET /case-@id HTTP/1.1\r\n Host: b\r\nHost: a\r\n\r\n";
    add("folded into the request line", [folded, hidden].concat(), Fate::Refused);
    for (name, value) in [("100-continue", "Expect: 100-continue"), ("in other case", "eXPECT: 100-CONTINUE")]
    {
        let fields: &[&[u8]] = &[host, value.as_bytes(), b"Content-Length: 3"];
        let bytes = request("POST /case-@id HTTP/1.1", fields, &[b"abc", hidden].concat());
        add(&format!("Expect {name} with a length"), bytes, Fate::Two("abc".into()));
        let fields: &[&[u8]] = &[host, value.as_bytes(), chunked];
        let bytes = request("POST /case-@id HTTP/1.1", fields, chunks.as_bytes());
        add(&format!("Expect {name} with chunks"), bytes, Fate::Two(Vec::new()));
    }
    let fields: &[&[u8]] = &[
        host,
        b"Upgrade: h2c",
        b"Connection: Upgrade, HTTP2-Settings",
        b"HTTP2-Settings: AAMAAABk",
        chunked,
    ];
    add(
        "h2c with chunks",
        request("POST /case-@id HTTP/1.1", fields, chunks.as_bytes()),
        Fate::Two(Vec::new()),
    );
    let short = request("POST /case-@id HTTP/1.1", &[host, b"Content-Length: 999"], hidden);
    add("length longer than what comes", short, Fate::Refused);
}

/// Every case of this grammar.
pub(super) fn cases() -> Vec<Case> {
    let (hidden, host, plain) = (HIDDEN.as_bytes(), &b"Host: a"[..], "GET /case-@id HTTP/1.1");
    let mut cases = Vec::new();
    for (name, line) in BAD_LINES {
        cases.push(Case::new(format!("line: {name}"), request(line, &[host], hidden), Fate::Refused));
    }
    for (name, line) in GOOD_LINES {
        cases.push(Case::new(format!("line: {name}"), request(line, &[host], hidden), Fate::Two(Vec::new())));
    }
    for (name, field) in BAD_FIELDS {
        cases.push(Case::new(
            format!("field after Host: {name}"),
            request(plain, &[host, field], hidden),
            Fate::Refused,
        ));
        cases.push(Case::new(
            format!("field before Host: {name}"),
            request(plain, &[field, host], hidden),
            Fate::Refused,
        ));
    }
    for (name, field) in GOOD_FIELDS {
        let bytes = request(plain, &[host, field], hidden);
        cases.push(Case::new(format!("field: {name}"), bytes, Fate::Two(Vec::new())));
    }
    for (name, field) in SWITCHES {
        let bytes = request(plain, &[host, field], hidden);
        cases.push(Case::new(format!("switch: {name}"), bytes, Fate::One(Vec::new())));
    }
    for (name, field) in BAD_HOSTS {
        cases.push(Case::new(format!("Host {name}"), request(plain, &[field], hidden), Fate::Refused));
    }
    others(&mut cases);
    cases
}
