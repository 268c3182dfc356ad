//! The grammars of HTTP/2: what a request of that version can hold that would be two requests in the text of HTTP/1, and
//! framing fields beside frames that say something else.
//!
//! Sends nothing. `@id` is the number of the case, `@v` the length of the body; `http2` sends and judges.

use ekiden_tests::http2::{END, END_HEADERS, PREFACE, frame, kind, section};

use super::cases::{HIDDEN, filled, length, numbered};

/// What must become of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// The router refuses: no endpoint sees a whole request.
    Refused,
    /// One request with this body.
    One(Vec<u8>),
    /// Refused, or one request with this body: the RFCs leave the choice.
    Either(Vec<u8>),
}

/// A name and a value, of any bytes.
pub(super) type Field = (Vec<u8>, Vec<u8>);

/// A part of what is sent on the stream.
#[derive(Debug, Clone)]
enum Piece {
    /// A field section in one HEADERS frame.
    Fields(Vec<Field>, u8),
    /// A field section in frames of so many bytes, all but the first CONTINUATION; END_STREAM where it is set.
    Split(Vec<Field>, usize, u8),
    /// Anything else.
    Frame(u8, u8, Vec<u8>),
}

/// One case: what one connection sends on its first stream.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) name: String,
    pieces: Vec<Piece>,
    pub(super) fate: Fate,
}

impl Case {
    /// What is sent, prefaces included.
    pub(super) fn bytes(&self, id: usize) -> Vec<u8> {
        let mut out = PREFACE.to_vec();
        out.extend(frame(kind::SETTINGS, 0, 0, &[]));
        for piece in &self.pieces {
            match piece {
                Piece::Fields(fields, flags) => {
                    out.extend(frame(kind::HEADERS, END_HEADERS | flags, 1, &encoded(fields, id)));
                }
                Piece::Split(fields, size, flags) => {
                    let bytes = encoded(fields, id);
                    let last = bytes.chunks(*size).count() - 1;
                    for (at, part) in bytes.chunks(*size).enumerate() {
                        let kind = if at == 0 { kind::HEADERS } else { kind::CONTINUATION };
                        let end = if at == last { END_HEADERS } else { 0 };
                        let flags = if at == 0 { *flags } else { 0 };
                        out.extend(frame(kind, end | flags, 1, part));
                    }
                }
                Piece::Frame(kind, flags, payload) => {
                    out.extend(frame(*kind, *flags, 1, &numbered(payload, id)));
                }
            }
        }
        out
    }

    /// The body that the endpoint must get, if it gets one.
    pub(super) fn body(&self, id: usize) -> Vec<u8> {
        match &self.fate {
            Fate::Refused => Vec::new(),
            Fate::One(body) | Fate::Either(body) => numbered(body, id),
        }
    }

    /// Whether an endpoint may have seen the head before a refusal.
    pub(super) fn has_body(&self) -> bool {
        self.pieces.len() > 1
    }
}

fn encoded(fields: &[Field], id: usize) -> Vec<u8> {
    let numbered: Vec<Field> =
        fields.iter().map(|(name, value)| (numbered(name, id), numbered(value, id))).collect();
    section(numbered.iter().map(|(name, value)| (name.as_slice(), value.as_slice())))
}

fn field(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Field {
    (name.as_ref().to_vec(), value.as_ref().to_vec())
}

/// The pseudo-fields of a request for this case.
fn head(method: &str) -> Vec<Field> {
    vec![
        field(":method", method),
        field(":scheme", "http"),
        field(":authority", "a"),
        field(":path", "/case-@id"),
    ]
}

/// A request without a body.
fn bare(name: impl Into<String>, fields: Vec<Field>, fate: Fate) -> Case {
    Case { name: name.into(), pieces: vec![Piece::Fields(fields, END)], fate }
}

/// A request with one DATA frame.
fn with_body(name: impl Into<String>, fields: Vec<Field>, body: &[u8], fate: Fate) -> Case {
    let pieces = vec![Piece::Fields(fields, 0), Piece::Frame(kind::DATA, END, body.to_vec())];
    Case { name: name.into(), pieces, fate }
}

fn with(mut fields: Vec<Field>, more: &[Field]) -> Vec<Field> {
    fields.extend_from_slice(more);
    fields
}

/// What makes two lines, or two requests, of one in the text of HTTP/1; and bytes that some take for a line's end.
const INJECTIONS: &[(&str, &[u8])] = &[
    ("CRLF and a coding", b"\r\nTransfer-Encoding: chunked"),
    ("CRLF and a length", b"\r\nContent-Length: 40"),
    ("CRLF and a request", b"\r\n\r\nGET /smuggled-@id HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("version and a request", b" HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled-@id HTTP/1.1\r\nX: y"),
    ("LF and a coding", b"\nTransfer-Encoding: chunked"),
    ("LF and a request", b"\n\nGET /smuggled-@id HTTP/1.1\nHost: a\n\n"),
    ("CR and a coding", b"\rTransfer-Encoding: chunked"),
    ("CR at the end", b"\r"),
    ("LF at the end", b"\n"),
    ("CRLF at the end", b"\r\n"),
    ("NUL", b"\0"),
    ("NUL and CRLF", b"\0\r\nX: y"),
    ("fold", b"\r\n Transfer-Encoding: chunked"),
    ("vertical tab", b"\x0bTransfer-Encoding: chunked"),
    ("form feed", b"\x0cTransfer-Encoding: chunked"),
    ("unit separator", b"\x1f"),
    ("escape", b"\x1b"),
];

/// Bytes that are fine in a value and nowhere else.
const IN_VALUES: &[(&str, &[u8])] = &[
    ("space", b" GET /smuggled-@id HTTP/1.1"),
    ("tab inside", b"\tx"),
    ("next line of Latin 1", b"\x85Transfer-Encoding: chunked"),
    ("next line of UTF-8", b"\xc2\x85Transfer-Encoding: chunked"),
    ("truncates to CRLF", b"\xe5\x98\x8a\xe5\x98\x8dTransfer-Encoding: chunked"),
    ("overlong LF", b"\xc0\x8aTransfer-Encoding: chunked"),
];

/// Every injection at every place of a head.
fn injections() -> Vec<Case> {
    let mut all = Vec::new();
    let at = |place: usize, text: &[u8]| {
        let mut fields = head("GET");
        fields[place].1.extend_from_slice(text);
        fields
    };
    let in_name = |text: &[u8]| with(head("GET"), &[(([b"x".as_slice(), text]).concat(), b"y".to_vec())]);
    let in_value = |text: &[u8]| with(head("GET"), &[field("x", [b"y".as_slice(), text, b"z"].concat())]);
    let places = [":method", ":scheme", ":authority", ":path"];
    for (name, text) in INJECTIONS.iter().chain(IN_VALUES) {
        let text = *text;
        let fine = IN_VALUES.iter().any(|(one, _)| one == name);
        for (number, place) in places.iter().enumerate() {
            // Octets of other alphabets in a path are no business of the framing.
            let fate =
                if number == 3 && fine && text[0] > 0x7f { Fate::Either(Vec::new()) } else { Fate::Refused };
            all.push(bare(format!("{name}, in {place}"), at(number, text), fate));
        }
        all.push(bare(format!("{name}, in a name"), in_name(text), Fate::Refused));
        let fate = if fine { Fate::One(Vec::new()) } else { Fate::Refused };
        all.push(bare(format!("{name}, in a value"), in_value(text), fate));
        for (place, before) in [("host", "a"), ("cookie", "a=b"), ("referer", "c"), ("content-type", "d")] {
            let value = [before.as_bytes(), text, b"z"].concat();
            let fate = match (place, fine) {
                ("host", _) => Fate::Refused,
                (_, true) => Fate::One(Vec::new()),
                (_, false) => Fate::Refused,
            };
            all.push(bare(format!("{name}, in {place}"), with(head("GET"), &[field(place, value)]), fate));
        }
        for (place, value) in [("content-length", "0"), ("transfer-encoding", "x"), ("te", "trailers")] {
            let value = [value.as_bytes(), text].concat();
            let fields = with(head("GET"), &[field(place, value)]);
            all.push(bare(format!("{name}, in {place}"), fields, Fate::Refused));
        }
        for (place, trailer) in [
            ("a trailer's name", ([b"x".as_slice(), text].concat(), b"y".to_vec())),
            ("a trailer's value", field("x", [b"y".as_slice(), text, b"z"].concat())),
        ] {
            let fate = match (place, fine) {
                ("a trailer's value", true) => Fate::Either(b"body".to_vec()),
                _ => Fate::Refused,
            };
            all.push(trailed(format!("{name}, in {place}"), &[trailer], fate));
        }
    }
    all
}

/// A request with a body and trailers.
fn trailed(name: impl Into<String>, trailers: &[Field], fate: Fate) -> Case {
    let pieces = vec![
        Piece::Fields(head("POST"), 0),
        Piece::Frame(kind::DATA, 0, b"body".to_vec()),
        Piece::Fields(trailers.to_vec(), END),
    ];
    Case { name: name.into(), pieces, fate }
}

/// Ways to send a body, each a list of DATA frames and whether trailers end it.
const WAYS: [&str; 7] = [
    "one frame",
    "a byte a frame",
    "empty frames between",
    "an empty last frame",
    "padding",
    "trailers",
    "no frame",
];

fn sent(body: &[u8], way: &str) -> Vec<Piece> {
    let data = |flags: u8, bytes: &[u8]| Piece::Frame(kind::DATA, flags, bytes.to_vec());
    match way {
        "one frame" => vec![data(END, body)],
        "a byte a frame" => {
            let last = body.len() - 1;
            // The number of a case is replaced within one frame.
            let cut = body.windows(3).position(|window| window == b"@id").unwrap_or(last);
            let mut all: Vec<Piece> = body[..cut].chunks(1).map(|byte| data(0, byte)).collect();
            all.push(data(END, &body[cut..]));
            all
        }
        "empty frames between" => vec![data(0, b""), data(0, body), data(0, b""), data(END, b"")],
        "an empty last frame" => vec![data(0, body), data(END, b"")],
        "padding" => {
            const PADDED: u8 = 8;
            let padded = [&[7], body, b"GET /s\n"].concat();
            vec![data(END | PADDED, &padded)]
        }
        "trailers" => vec![data(0, body), Piece::Fields(vec![field("x-after", "y")], END)],
        _ => Vec::new(),
    }
}

/// Lengths beside bodies.
fn lengths() -> Vec<Case> {
    let body = format!("0\r\n\r\n{HIDDEN}");
    let exact = length(body.as_bytes());
    let mut all = Vec::new();
    let claims: [(&str, Option<usize>, bool); 6] = [
        ("no length", None, true),
        ("the length", Some(exact), true),
        ("zero", Some(0), false),
        ("a byte less", Some(exact - 1), false),
        ("a byte more", Some(exact + 1), false),
        ("the end of a chunk", Some(5), false),
    ];
    for method in ["POST", "GET", "PUT", "DELETE"] {
        for (claim, value, honest) in claims {
            for way in WAYS {
                let nothing = way == "no frame";
                let mut fields = head(method);
                fields.extend(value.map(|value| field("content-length", value.to_string())));
                let fits = if nothing { value.is_none_or(|value| value == 0) } else { honest };
                let got = if nothing { Vec::new() } else { body.clone().into_bytes() };
                let mut pieces = vec![Piece::Fields(fields, if nothing { END } else { 0 })];
                pieces.extend(sent(body.as_bytes(), way));
                let fate = if fits { Fate::One(got) } else { Fate::Refused };
                all.push(Case { name: format!("{method}, {claim}, {way}"), pieces, fate });
            }
        }
    }
    let bad: &[(&str, &[&[u8]])] = &[
        ("plus", &[b"+@v"]),
        ("minus", &[b"-@v"]),
        ("list of equals", &[b"@v, @v"]),
        ("list with zero", &[b"0,@v"]),
        ("trailing comma", &[b"@v,"]),
        ("hexadecimal", &[b"0x@v"]),
        ("empty", &[b""]),
        ("fraction", &[b"@v.0"]),
        ("underscore in digits", &[b"@v_0"]),
        ("over 64 bits", &[b"18446744073709551616"]),
        ("long", &[b"99999999999999999999999999999999"]),
        ("other digits", &[b"\xd9\xa3"]),
        ("space before", &[b" @v"]),
        ("space after", &[b"@v "]),
        ("twice", &[b"@v", b"@v"]),
        ("twice, one zero", &[b"0", b"@v"]),
        ("twice, zero last", &[b"@v", b"0"]),
    ];
    for (name, values) in bad {
        let more = values
            .iter()
            .map(|value| field("content-length", filled(value, b"@v", exact.to_string().as_bytes())));
        let fields = with(head("POST"), &more.collect::<Vec<_>>());
        all.push(with_body(format!("length: {name}"), fields, body.as_bytes(), Fate::Refused));
    }
    all
}

/// Fields that frame messages of HTTP/1 or belong to one of its connections, in a message that has frames.
fn framing_fields() -> Vec<Case> {
    let body = format!("0\r\n\r\n{HIDDEN}");
    let rows: &[(&str, &str)] = &[
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("transfer-encoding", "gzip, chunked"),
        ("transfer-encoding", "xchunked"),
        ("transfer-encoding", ""),
        ("transfer-encoding ", "chunked"),
        ("transfer-encoding:", "chunked"),
        (" transfer-encoding", "chunked"),
        ("Transfer-Encoding", "chunked"),
        ("transfer_encoding", "chunked"),
        ("content_length", "0"),
        ("Content-Length", "0"),
        ("content-length ", "0"),
        ("connection", "close"),
        ("connection", "keep-alive"),
        ("connection", "transfer-encoding"),
        ("connection", "upgrade"),
        ("proxy-connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("upgrade", "h2c"),
        ("upgrade", "websocket"),
        ("te", "chunked"),
        ("te", "trailers, chunked"),
        ("te", "gzip"),
        (":content-length", "0"),
        (":host", "a"),
        (":", "x"),
        ("", "x"),
    ];
    let mut all = Vec::new();
    for (name, value) in rows {
        let fields = with(head("POST"), &[field(name, value)]);
        let what = format!("{name:?}: {value:?}");
        all.push(bare(format!("{what}, bare"), fields.clone(), Fate::Refused));
        all.push(with_body(format!("{what}, body"), fields.clone(), body.as_bytes(), Fate::Refused));
        let length = field("content-length", length(body.as_bytes()).to_string());
        let fields = with(fields, &[length]);
        all.push(with_body(format!("{what}, body and length"), fields, body.as_bytes(), Fate::Refused));
        // In trailers: refused, or gone before any endpoint sees them.
        let fate =
            if name.bytes().any(|b| b.is_ascii_uppercase() || b == b' ' || b == b':') || name.is_empty() {
                Fate::Refused
            } else {
                Fate::Either(b"body".to_vec())
            };
        all.push(trailed(format!("{what}, trailer"), &[field(name, value)], fate));
    }
    all
}

/// Who is asked for what.
fn targets() -> Vec<Case> {
    let mut all = Vec::new();
    let mut with_path = |path: &str, fate: Fate| {
        let mut fields = head("GET");
        fields[3].1 = path.as_bytes().to_vec();
        all.push(bare(format!("path {path:?}"), fields, fate));
    };
    for path in ["", "*", "case-@id", "http://a/case-@id", "//a@b:c", "\\case-@id", "?x"] {
        let fate = if path.starts_with("//") { Fate::Either(Vec::new()) } else { Fate::Refused };
        if !path.starts_with("//") {
            with_path(path, fate);
        }
    }
    for path in ["/case-@id?a b", "/case-@id HTTP/1.1", "/case-@id\x7f"] {
        with_path(path, Fate::Refused);
    }
    for path in [
        // The codec leaves a fragment out, for router and endpoint alike.
        "/case-@id#x",
        "/case-@id?",
        "/case-@id?a=/smuggled-@id",
        "/case-@id//x",
        "/case-@id/%2e/x",
        "/case-@id;a=b",
    ] {
        with_path(path, Fate::Either(Vec::new()));
    }
    all.extend(authorities());
    all.extend(methods());
    all
}

/// `:authority` and `host`, and schemes.
fn authorities() -> Vec<Case> {
    let mut all = Vec::new();
    let authorities: &[(&str, &[&str], &[&str], bool)] = &[
        ("authority alone", &["a"], &[], true),
        ("host alone", &[], &["a"], true),
        ("both the same", &["a"], &["a"], true),
        ("both, they differ", &["a"], &["b"], false),
        ("both, port differs", &["a:80"], &["a:81"], false),
        ("neither", &[], &[], false),
        ("authority twice", &["a", "a"], &[], false),
        ("host twice", &["a"], &["a", "a"], false),
        ("host twice, they differ", &[], &["a", "b"], false),
        ("empty authority", &[""], &[], false),
        ("empty host beside it", &["a"], &[""], false),
        ("user", &["u@a"], &[], false),
        ("path in it", &["a/x"], &[], false),
        ("query in it", &["a?x"], &[], false),
        ("list", &["a,b"], &[], false),
        ("space in it", &["a b"], &[], false),
    ];
    for (name, authorities, hosts, good) in authorities {
        let mut fields = vec![field(":method", "GET"), field(":scheme", "http"), field(":path", "/case-@id")];
        fields.extend(authorities.iter().map(|value| field(":authority", value)));
        fields.extend(hosts.iter().map(|value| field("host", value)));
        let fate = if *good { Fate::One(Vec::new()) } else { Fate::Refused };
        all.push(bare(format!("authority: {name}"), fields, fate));
    }
    for (scheme, good) in
        [("http", true), ("", false), ("http://b/x?", false), ("http ", false), ("ht\ttp", false)]
    {
        let mut fields = head("GET");
        fields[1].1 = scheme.as_bytes().to_vec();
        let fate = if good { Fate::One(Vec::new()) } else { Fate::Refused };
        all.push(bare(format!("scheme {scheme:?}"), fields, fate));
    }
    all
}

/// Methods, and pseudo-fields more than once or where they do not belong.
fn methods() -> Vec<Case> {
    let mut all = Vec::new();
    for method in [
        "",
        " GET",
        "GET ",
        "GET /smuggled-@id HTTP/1.1\r\nX:",
        "G ET",
        "GET/",
        "G\u{e9}T",
        "GET:",
        "CONNECT",
    ] {
        all.push(bare(format!("method {method:?}"), head(method), Fate::Refused));
    }
    for method in ["HEAD", "OPTIONS", "DELETE", "PATCH"] {
        all.push(bare(format!("method {method}"), head(method), Fate::One(Vec::new())));
    }
    let mut twice = head("GET");
    twice.push(field("x", "y"));
    twice.push(field(":path", "/smuggled-@id"));
    all.push(bare("a second path behind a field", twice, Fate::Refused));
    for pseudo in [":method", ":path", ":scheme", ":authority"] {
        let value = if pseudo == ":path" { "/smuggled-@id" } else { "GET" };
        let mut fields = head("GET");
        fields.insert(4, field(pseudo, value));
        all.push(bare(format!("{pseudo} twice"), fields, Fate::Refused));
    }
    all.push(bare("unknown pseudo-field", with(head("GET"), &[field(":x", "y")]), Fate::Refused));
    all.push(bare(
        "pseudo-field of a response",
        with(head("GET"), &[field(":status", "200")]),
        Fate::Refused,
    ));
    all
}

/// Frames in an order, or of a size, that others might read as something else.
fn frames() -> Vec<Case> {
    let body = HIDDEN.as_bytes();
    let data = |flags: u8, bytes: &[u8]| Piece::Frame(kind::DATA, flags, bytes.to_vec());
    let mut all = Vec::new();
    for size in [1, 2, 7, 16, 61] {
        let pieces = vec![Piece::Split(with(head("GET"), &[field("x", "y")]), size, END)];
        let fate = if size > 7 { Fate::One(Vec::new()) } else { Fate::Either(Vec::new()) };
        all.push(Case { name: format!("a head in frames of {size}"), pieces, fate });
    }
    let mut push = |name: &str, pieces: Vec<Piece>, fate: Fate| {
        all.push(Case { name: name.to_owned(), pieces, fate });
    };
    let post = || Piece::Fields(head("POST"), 0);
    let second = || {
        let mut fields = head("GET");
        fields[3].1 = b"/smuggled-@id".to_vec();
        fields
    };
    push("a second head", vec![post(), Piece::Fields(second(), END)], Fate::Refused);
    push("a second head, open", vec![post(), Piece::Fields(second(), 0), data(END, body)], Fate::Refused);
    push(
        "a second head behind data",
        vec![post(), data(0, b"x"), Piece::Fields(second(), END)],
        Fate::Refused,
    );
    push(
        "trailers that do not end",
        vec![post(), data(0, b"x"), Piece::Fields(vec![field("x", "y")], 0)],
        Fate::Refused,
    );
    push(
        "data behind trailers",
        vec![post(), data(0, b"x"), Piece::Fields(vec![field("x", "y")], 0), data(END, body)],
        Fate::Refused,
    );
    push(
        "data within a head",
        vec![Piece::Frame(kind::HEADERS, 0, Vec::new()), data(END, body)],
        Fate::Refused,
    );
    push(
        "continuation of nothing",
        vec![Piece::Frame(kind::CONTINUATION, END_HEADERS, Vec::new())],
        Fate::Refused,
    );
    push("padding longer than the frame", vec![post(), data(END | 8, &[200, b'x'])], Fate::Refused);
    push("padding is all", vec![post(), data(END | 8, &[2, 0, 0])], Fate::One(Vec::new()));
    push(
        "an unknown frame between",
        vec![post(), Piece::Frame(0xbe, 0xff, body.to_vec()), data(END, body)],
        Fate::One(body.to_vec()),
    );
    let zero = || Piece::Fields(with(head("POST"), &[field("content-length", "0")]), 0);
    push("a length of zero, ended later", vec![zero(), data(0, b""), data(END, b"")], Fate::One(Vec::new()));
    push(
        "a length of zero, ended by trailers",
        vec![zero(), Piece::Fields(vec![field("x", "y")], END)],
        Fate::One(Vec::new()),
    );
    push(
        "expects to be told to go on",
        vec![Piece::Fields(with(head("POST"), &[field("expect", "100-continue")]), 0), data(END, body)],
        Fate::One(body.to_vec()),
    );
    push(
        "expects something else",
        vec![Piece::Fields(with(head("POST"), &[field("expect", "200-ok")]), 0), data(END, body)],
        Fate::Either(body.to_vec()),
    );
    all
}

/// Every case, under a name of its own.
pub(super) fn corpus() -> Vec<Case> {
    let all = [injections(), lengths(), framing_fields(), targets(), frames()].concat();
    let names: std::collections::BTreeSet<&str> = all.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "two cases of one name");
    assert!((300..10_000).contains(&all.len()), "{} cases", all.len());
    all
}
