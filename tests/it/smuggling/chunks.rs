//! The grammar of chunked bodies: size lines, ends of chunks, last chunks, trailers. Each is a request whose head is
//! good, so that an endpoint has its head before the fault is known.

use super::cases::{Case, Fate, HIDDEN, length, request};

/// What may stand around the size `@s` of a chunk; the endpoint gets the plain form.
const GOOD_SIZES: &[(&str, &str)] = &[
    ("plain", "@s"),
    ("leading zeros", "000@s"),
    ("extension", "@s;a=b"),
    ("extension without value", "@s;a"),
    ("quoted extension", "@s;a=\"b;c\""),
    ("two extensions", "@s;a=b;c=d"),
    ("blank in extension", "@s; a = b"),
    ("extension like a size", "@s;0"),
];

const BAD_SIZES: &[(&str, &str)] = &[
    ("prefix", "0x@s"),
    ("upper prefix", "0X@s"),
    ("plus", "+@s"),
    ("minus", "-@s"),
    ("space before", " @s"),
    ("tab before", "\t@s"),
    ("vertical tab before", "\x0b@s"),
    ("space after", "@s "),
    ("tab after", "@s\t"),
    ("space before extension", "@s ;a"),
    ("no digit", "xyz"),
    ("digit and letter", "@sg"),
    ("h suffix", "@sh"),
    ("underscore", "0_@s"),
    ("comma", "@s,@s"),
    ("fraction", "@s.0"),
    ("quoted", "\"@s\""),
    ("empty", ""),
    ("only an extension", ";a=b"),
    ("empty extension", "@s;"),
    ("extension that is no token", "@s;a[=b"),
    ("extension with an open quote", "@s;a=\"b"),
    ("NUL after", "@s\0"),
    ("NUL in extension", "@s;a\0b"),
    ("bare CR in extension", "@s;a\rb"),
    ("bare LF in extension", "@s;a\nb"),
    ("bare LF and a size in extension", "@s;\n0"),
    ("CR twice", "@s\r"),
    ("over 64 bits", "1000000000000000@s"),
    ("over 64 bits by zeros", "00000000000000000000@s"),
    ("all ones", "ffffffffffffffff"),
    ("two words", "@s 0"),
];

/// How a size line or a chunk may end that is not CRLF.
const BAD_ENDS: &[(&str, &str)] = &[
    ("LF", "\n"),
    ("CR", "\r"),
    ("LF CR", "\n\r"),
    ("CR CR LF", "\r\r\n"),
    ("nothing", ""),
    ("space CRLF", " \r\n"),
];

/// Trailer sections, each with its own empty line.
const GOOD_TRAILERS: &[(&str, &str)] = &[
    ("one", "X-After: b\r\n\r\n"),
    ("Host", "Host: evil\r\n\r\n"),
    ("forwarding", "X-Forwarded-For: 1.2.3.4\r\n\r\n"),
    ("Authorization", "Authorization: x\r\n\r\n"),
    ("like a request line", "GET: /smuggled-@id HTTP/1.1\r\n\r\n"),
];

const BAD_TRAILERS: &[(&str, &str)] = &[
    ("Content-Length", "Content-Length: 3\r\n\r\n"),
    ("lower Content-Length", "content-length: 0\r\n\r\n"),
    ("Transfer-Encoding", "Transfer-Encoding: chunked\r\n\r\n"),
    ("Transfer-Encoding second", "A: b\r\nTransfer-Encoding: identity\r\n\r\n"),
    ("folded", "A: b\r\n c\r\n\r\n"),
    ("leading space", " A: b\r\n\r\n"),
    ("space before colon", "A : b\r\n\r\n"),
    ("no colon", "GET /smuggled-@id HTTP/1.1\r\n\r\n"),
    ("empty name", ": b\r\n\r\n"),
    ("NUL", "A: b\0\r\n\r\n"),
    ("NUL in name", "A\0: b\r\n\r\n"),
    ("bare LF", "A: b\n\r\n"),
    ("bare LF at the end", "A: b\r\n\n"),
    ("bare CR", "A: b\rc\r\n\r\n"),
    ("bare LF for the empty line", "\n"),
    ("bare CR for the empty line", "\r"),
];

const LINE: &str = "POST /case-@id HTTP/1.1";
const FIELDS: &[&[u8]] = &[b"Host: a", b"Transfer-Encoding: chunked"];

fn post(name: String, body: String, fate: Fate) -> Case {
    Case::new(name, request(LINE, FIELDS, body.as_bytes()), fate)
}

/// Every case of this grammar.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let size = format!("{:x}", length(HIDDEN.as_bytes()));
    for (name, form) in GOOD_SIZES {
        let line = form.replace("@s", &size);
        let body = format!("{line}\r\n{HIDDEN}\r\n0\r\n\r\n");
        cases.push(post(format!("chunk size {name}, hidden in it"), body, Fate::One(HIDDEN.into())));
        let last = form.replace("@s", "0");
        let body = format!("3\r\nabc\r\n{last}\r\n\r\n{HIDDEN}");
        cases.push(post(format!("last chunk {name}, then another"), body, Fate::Two("abc".into())));
    }
    for (name, form) in BAD_SIZES {
        let line = form.replace("@s", &size);
        let body = format!("{line}\r\n{HIDDEN}\r\n0\r\n\r\n");
        cases.push(post(format!("chunk size {name}"), body, Fate::Refused));
        let body = format!("3\r\nabc\r\n{line}\r\n{HIDDEN}\r\n0\r\n\r\n");
        cases.push(post(format!("second chunk size {name}"), body, Fate::Refused));
        let last = form.replace("@s", "0");
        let body = format!("3\r\nabc\r\n{last}\r\n\r\n{HIDDEN}");
        cases.push(post(format!("last chunk {name}"), body, Fate::Refused));
    }
    for (name, end) in BAD_ENDS {
        let rows = [
            (format!("size line ends with {name}"), format!("3{end}abc\r\n0\r\n\r\n{HIDDEN}")),
            (format!("chunk ends with {name}"), format!("3\r\nabc{end}0\r\n\r\n{HIDDEN}")),
            (format!("last size line ends with {name}"), format!("3\r\nabc\r\n0{end}\r\n{HIDDEN}")),
            (
                format!("extension ends with {name}, a size follows"),
                format!("3;a{end}{size}\r\n{HIDDEN}\r\n0\r\n\r\n"),
            ),
        ];
        cases.extend(rows.into_iter().map(|(name, body)| post(name, body, Fate::Refused)));
    }
    for (name, wrong) in [("short", "2"), ("long", "4"), ("much too long", "fff")] {
        let body = format!("{wrong}\r\nabc\r\n0\r\n\r\n{HIDDEN}");
        cases.push(post(format!("chunk size {name} of its data"), body, Fate::Refused));
    }
    for (name, trailers) in GOOD_TRAILERS {
        let body = format!("3\r\nabc\r\n0\r\n{trailers}{HIDDEN}");
        cases.push(post(format!("trailer {name}"), body, Fate::Two("abc".into())));
    }
    for (name, trailers) in BAD_TRAILERS {
        let body = format!("3\r\nabc\r\n0\r\n{trailers}{HIDDEN}");
        cases.push(post(format!("trailer {name}"), body, Fate::Refused));
    }
    cases
}
