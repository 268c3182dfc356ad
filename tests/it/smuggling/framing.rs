//! The grammar of framing fields: forms of Content-Length, forms of Transfer-Encoding, and pairs of them.
//!
//! A form that is good on its own must be served and hide nothing; any other, and any pair, must be refused. The
//! bodies are the two classic ones: what follows a last chunk (CL.TE), and what stands in a chunk (TE.CL).

use super::cases::{Case, Fate, HIDDEN, filled, length, request};

/// A field, or lines that stand for one; `@v` is the length, `@w` is what wraps to it in 64 bits.
type Form = (&'static str, &'static [u8]);

/// Content-Length as RFC 9112 allows it.
const GOOD_LENGTHS: &[Form] = &[
    ("plain", b"Content-Length: @v"),
    ("lower case", b"content-length: @v"),
    ("upper case", b"CONTENT-LENGTH: @v"),
    ("no space", b"Content-Length:@v"),
    ("blanks around", b"Content-Length: \t @v\t "),
    ("leading zero", b"Content-Length: 0@v"),
];

const BAD_LENGTHS: &[Form] = &[
    ("plus", b"Content-Length: +@v"),
    ("minus", b"Content-Length: -@v"),
    ("list of equals", b"Content-Length: @v, @v"),
    ("list with zero", b"Content-Length: 0,@v"),
    ("trailing comma", b"Content-Length: @v,"),
    ("hexadecimal", b"Content-Length: 0x@v"),
    ("empty", b"Content-Length:"),
    ("fraction", b"Content-Length: @v.0"),
    ("exponent", b"Content-Length: @ve0"),
    ("underscore in digits", b"Content-Length: @v_0"),
    ("quoted", b"Content-Length: \"@v\""),
    ("parameter", b"Content-Length: @v;a=b"),
    ("two words", b"Content-Length: @v @v"),
    ("over 64 bits", b"Content-Length: 18446744073709551616"),
    ("wraps to the length", b"Content-Length: @w"),
    ("long", b"Content-Length: 99999999999999999999999999999999"),
    ("vertical tab before", b"Content-Length: \x0b@v"),
    ("form feed after", b"Content-Length: @v\x0c"),
    ("NUL after", b"Content-Length: @v\0"),
    ("no-break space", b"Content-Length: \xa0@v"),
    ("other digits", b"Content-Length: \xd9\xa3"),
    ("space before colon", b"Content-Length : @v"),
    ("tab before colon", b"Content-Length\t: @v"),
    ("NUL in name", b"Content-Length\0: @v"),
    ("underscore name", b"Content_Length: @v"),
    ("folded", b"Content-Length:\r\n @v"),
    ("folded on", b"Content-Length: @v\r\n 0"),
    ("folded name", b"X: y\r\n Content-Length: @v"),
    ("after bare LF", b"X: y\nContent-Length: @v"),
    ("after bare CR", b"X: y\rContent-Length: @v"),
    ("before bare LF", b"Content-Length: @v\nX: y"),
    ("before bare CR", b"Content-Length: @v\rX: y"),
    ("nominated", b"Connection: Content-Length\r\nContent-Length: @v"),
    ("twice", b"Content-Length: @v\r\nContent-Length: @v"),
    ("twice, one zero", b"Content-Length: 0\r\nContent-Length: @v"),
    ("twice, zero last", b"Content-Length: @v\r\nContent-Length: 0"),
    ("twice, apart, cases", b"content-length: @v\r\nX: y\r\nCONTENT-LENGTH: @v"),
];

/// Transfer-Encoding as it passes: one `chunked` in any case of letters.
const GOOD_CODINGS: &[Form] = &[
    ("plain", b"Transfer-Encoding: chunked"),
    ("lower case name", b"transfer-encoding: chunked"),
    ("upper case value", b"Transfer-Encoding: CHUNKED"),
    ("mixed case", b"tRANSFER-eNCODING: cHuNkEd"),
    ("no space", b"Transfer-Encoding:chunked"),
    ("blanks around", b"Transfer-Encoding: \t chunked \t"),
];

const BAD_CODINGS: &[Form] = &[
    ("then identity", b"Transfer-Encoding: chunked, identity"),
    ("after identity", b"Transfer-Encoding: identity, chunked"),
    ("identity", b"Transfer-Encoding: identity"),
    ("gzip, chunked", b"Transfer-Encoding: gzip, chunked"),
    ("chunked, gzip", b"Transfer-Encoding: chunked, gzip"),
    ("listed twice", b"Transfer-Encoding: chunked,chunked"),
    ("trailing comma", b"Transfer-Encoding: chunked,"),
    ("leading comma", b"Transfer-Encoding: ,chunked"),
    ("xchunked", b"Transfer-Encoding: xchunked"),
    ("chunkedx", b"Transfer-Encoding: chunkedx"),
    ("chunk", b"Transfer-Encoding: chunk"),
    ("in quotes", b"Transfer-Encoding: \"chunked\""),
    ("in single quotes", b"Transfer-Encoding: 'chunked'"),
    ("parameter", b"Transfer-Encoding: chunked;q=1"),
    ("semicolon", b"Transfer-Encoding: chunked;"),
    ("colon", b"Transfer-Encoding:: chunked"),
    ("broken word", b"Transfer-Encoding: chu nked"),
    ("empty", b"Transfer-Encoding:"),
    ("vertical tab before", b"Transfer-Encoding: \x0bchunked"),
    ("vertical tab after", b"Transfer-Encoding: chunked\x0b"),
    ("form feed", b"Transfer-Encoding: \x0cchunked"),
    ("NUL after", b"Transfer-Encoding: chunked\0"),
    ("high byte before", b"Transfer-Encoding: \xffchunked"),
    ("no-break space", b"Transfer-Encoding:\xa0chunked"),
    ("sign of Kelvin", b"Transfer-Encoding: chun\xe2\x84\xaaed"),
    ("backspace", b"Transfer-Encoding: x\x08chunked"),
    ("space before colon", b"Transfer-Encoding : chunked"),
    ("tab before colon", b"Transfer-Encoding\t: chunked"),
    ("vertical tab in name", b"Transfer-Encoding\x0b: chunked"),
    ("NUL in name", b"Transfer-Encoding\0: chunked"),
    ("underscore name", b"Transfer_Encoding: chunked"),
    ("folded", b"Transfer-Encoding:\r\n chunked"),
    ("folded by tab", b"Transfer-Encoding:\r\n\tchunked"),
    ("folded on", b"Transfer-Encoding: chunked\r\n , identity"),
    ("folded name", b"X: y\r\n Transfer-Encoding: chunked"),
    ("after bare LF", b"X: y\nTransfer-Encoding: chunked"),
    ("after bare CR", b"X: y\rTransfer-Encoding: chunked"),
    ("before bare LF", b"Transfer-Encoding: chunked\nX: y"),
    ("before bare CR", b"Transfer-Encoding: chunked\rX: y"),
    ("nominated", b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked"),
    ("twice", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    ("twice with identity", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
    ("twice with unknown", b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked"),
    ("twice with empty", b"Transfer-Encoding:\r\nTransfer-Encoding: chunked"),
];

const POST: &str = "POST /case-@id HTTP/1.1";
const HOST: &[u8] = b"Host: a";

/// A request with these forms; `inside` hides the second request in a chunk, else it follows a last chunk.
fn pair(name: String, forms: [&[u8]; 2], inside: bool) -> Case {
    // By length, the body ends after the first chunk's size line, or at the very end.
    let (body, by_length) = if inside {
        let size = format!("{:x}\r\n", length(HIDDEN.as_bytes()));
        (format!("{size}{HIDDEN}\r\n0\r\n\r\n"), size.len())
    } else {
        let body = format!("0\r\n\r\n{HIDDEN}");
        let by_length = length(body.as_bytes());
        (body, by_length)
    };
    let (value, wraps) = (by_length.to_string(), ((1_u128 << 64) + by_length as u128).to_string());
    let [one, two] =
        forms.map(|form| filled(&filled(form, b"@v", value.as_bytes()), b"@w", wraps.as_bytes()));
    let fields: Vec<&[u8]> = [HOST, &one, &two].into_iter().filter(|field| !field.is_empty()).collect();
    Case::new(name, request(POST, &fields, body.as_bytes()), Fate::Refused)
}

/// Good forms alone: with every method that may have a body, hiding in the body and following it.
fn good(cases: &mut Vec<Case>) {
    let value = length(HIDDEN.as_bytes()).to_string();
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"] {
        let line = format!("{method} /case-@id HTTP/1.1");
        for (name, form) in GOOD_LENGTHS.iter().take(if method == "POST" { 99 } else { 1 }) {
            let inside = filled(form, b"@v", value.as_bytes());
            let one = request(&line, &[HOST, &inside], HIDDEN.as_bytes());
            cases.push(Case::new(
                format!("{method}, length {name}, hidden in the body"),
                one,
                Fate::One(HIDDEN.into()),
            ));
            let before = filled(form, b"@v", b"3");
            let two = request(&line, &[&before, HOST], format!("abc{HIDDEN}").as_bytes());
            cases.push(Case::new(
                format!("{method}, length {name}, then another"),
                two,
                Fate::Two("abc".into()),
            ));
            let none = filled(form, b"@v", b"0");
            let two = request(&line, &[&none, HOST], HIDDEN.as_bytes());
            cases.push(Case::new(format!("{method}, length {name} of zero"), two, Fate::Two(Vec::new())));
        }
        for (name, form) in GOOD_CODINGS.iter().take(if method == "POST" { 99 } else { 1 }) {
            let chunk = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", length(HIDDEN.as_bytes()));
            let one = request(&line, &[HOST, form], chunk.as_bytes());
            cases.push(Case::new(
                format!("{method}, coding {name}, hidden in a chunk"),
                one,
                Fate::One(HIDDEN.into()),
            ));
            let two = request(&line, &[HOST, form], format!("3\r\nabc\r\n0\r\n\r\n{HIDDEN}").as_bytes());
            cases.push(Case::new(
                format!("{method}, coding {name}, then another"),
                two,
                Fate::Two("abc".into()),
            ));
        }
    }
}

/// Every case of this grammar.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    good(&mut cases);
    for inside in [true, false] {
        let place = if inside { "in a chunk" } else { "after a chunk" };
        for (name, form) in BAD_LENGTHS {
            cases.push(pair(format!("length {name}, hidden {place}"), [form, b""], inside));
        }
        for (name, form) in BAD_CODINGS {
            cases.push(pair(format!("coding {name}, hidden {place}"), [form, b""], inside));
        }
    }
    let lengths: Vec<&Form> = GOOD_LENGTHS.iter().chain(BAD_LENGTHS).collect();
    let codings: Vec<&Form> = GOOD_CODINGS.iter().chain(BAD_CODINGS).collect();
    for (row, (length, one)) in lengths.iter().enumerate() {
        for (column, (coding, two)) in codings.iter().enumerate() {
            // Every form with the plain other one; of pairs of two odd forms every fifth, in both orders by turns.
            if row != 0 && column != 0 && (row + column) % 5 != 0 {
                continue;
            }
            let (forms, first) =
                if (row + column) % 2 == 0 { ([*one, *two], "first") } else { ([*two, *one], "last") };
            let name = format!("length {length} ({first}) with coding {coding}");
            cases.push(pair(name, forms, row % 2 == 0));
        }
    }
    for (index, (name, form)) in GOOD_LENGTHS.iter().chain(BAD_LENGTHS).enumerate() {
        let zero = b"Content-Length: 0";
        let forms: [&[u8]; 2] = if index % 2 == 0 { [zero, form] } else { [form, zero] };
        cases.push(pair(format!("length zero with length {name}"), forms, false));
    }
    for (index, (name, form)) in GOOD_CODINGS.iter().chain(BAD_CODINGS).enumerate() {
        let plain = b"Transfer-Encoding: chunked";
        let forms: [&[u8]; 2] = if index % 2 == 0 { [plain, form] } else { [form, plain] };
        cases.push(pair(format!("coding plain with coding {name}"), forms, true));
    }
    cases
}
