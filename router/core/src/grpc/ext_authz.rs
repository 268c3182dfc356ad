//! The messages of `envoy.service.auth.v3.Authorization/Check`, by hand: the fields that a router has to say, and those of the
//! answer that it acts on. What it does not know is passed over, as protobuf has it.
//!
//! Source: `envoy/service/auth/v3/external_auth.proto` and `attribute_context.proto`. Does not send or receive them.

/// What is asked for.
pub const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";
/// Compressed flag and length before each message.
const PREFIX: usize = 5;
/// Fields of an answer that are kept at most; one with more is no answer.
const FIELDS_MAX: usize = 256;

/// What the service is told of a request.
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    /// Address and port of the client; none on a unix socket.
    pub source: Option<(&'a str, u16)>,
    /// What the client's certificate calls it.
    pub principal: Option<&'a str>,
    /// The id of the request.
    pub id: &'a str,
    /// The method.
    pub method: &'a str,
    /// Path in normal form, with `?` and query.
    pub path: &'a str,
    /// The authority.
    pub host: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub protocol: &'a str,
    /// Length of the body; less than nothing when it is not known.
    pub size: i64,
    /// The body, or its beginning, where it is shown.
    pub body: &'a [u8],
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Let in; with fields for the endpoint, in the order of the answer.
    Allowed(Vec<(String, Vec<u8>)>),
    /// Not let in; what the client is told.
    Denied {
        /// Status; 403 where the answer has none.
        status: u16,
        /// Fields.
        fields: Vec<(String, Vec<u8>)>,
        /// Body.
        body: Vec<u8>,
    },
}

/// A question, as it stands in the body. `headers` are given once each, in lower case, with their values joined.
pub fn request<'a>(check: &Check<'_>, headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut http = Vec::new();
    put_bytes(&mut http, 1, check.id.as_bytes());
    put_bytes(&mut http, 2, check.method.as_bytes());
    for (name, value) in headers {
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, name.as_bytes());
        // A string of protobuf is UTF-8, and one that is not makes the whole message unreadable.
        put_bytes(&mut entry, 2, String::from_utf8_lossy(value).as_bytes());
        put_message(&mut http, 3, &entry);
    }
    put_bytes(&mut http, 4, check.path.as_bytes());
    put_bytes(&mut http, 5, check.host.as_bytes());
    put_bytes(&mut http, 6, check.scheme.as_bytes());
    put_number(&mut http, 9, check.size as u64);
    put_bytes(&mut http, 10, check.protocol.as_bytes());
    // Services read one or the other; only the second holds what is no UTF-8 as it is.
    put_bytes(&mut http, 11, String::from_utf8_lossy(check.body).as_bytes());
    put_bytes(&mut http, 12, check.body);
    let mut request = Vec::new();
    put_message(&mut request, 2, &http);
    let mut attributes = Vec::new();
    put_message(&mut attributes, 1, &peer(check));
    put_message(&mut attributes, 4, &request);
    let mut message = Vec::new();
    put_message(&mut message, 1, &attributes);
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    body.extend_from_slice(&message);
    body
}

fn peer(check: &Check<'_>) -> Vec<u8> {
    let mut peer = Vec::new();
    if let Some((address, port)) = check.source {
        let (mut socket, mut place) = (Vec::new(), Vec::new());
        put_bytes(&mut socket, 2, address.as_bytes());
        put_number(&mut socket, 3, u64::from(port));
        put_message(&mut place, 1, &socket);
        put_message(&mut peer, 1, &place);
    }
    if let Some(principal) = check.principal {
        put_bytes(&mut peer, 4, principal.as_bytes());
    }
    peer
}

/// Reads the body of an answer. None when it is not exactly one such message.
pub fn answer(body: &[u8]) -> Option<Verdict> {
    let (prefix, message) = body.split_at_checked(PREFIX)?;
    let [0, length @ ..] = <[u8; PREFIX]>::try_from(prefix).ok()? else { return None };
    if u32::from_be_bytes(length) as usize != message.len() {
        return None;
    }
    let (mut code, mut allowed, mut denied) = (0, Vec::new(), Denied::default());
    each(message, &mut |number, value| {
        match (number, value) {
            (1, Value::Bytes(status)) => each(status, &mut |number, value| {
                if let (1, Value::Number(said)) = (number, value) {
                    code = said;
                }
                Some(())
            })?,
            (2, Value::Bytes(message)) => denied.take(message)?,
            (3, Value::Bytes(message)) => each(message, &mut |number, value| match (number, value) {
                (2, Value::Bytes(option)) => take_field(option, &mut allowed),
                _ => Some(()),
            })?,
            _ => {}
        }
        Some(())
    })?;
    if code == 0 {
        return Some(Verdict::Allowed(allowed));
    }
    // A status that lets nobody in must not look as if it did.
    let status = u16::try_from(denied.status).ok().filter(|status| (300..=599).contains(status));
    Some(Verdict::Denied { status: status.unwrap_or(403), fields: denied.fields, body: denied.body })
}

#[derive(Default)]
struct Denied {
    status: u64,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Denied {
    fn take(&mut self, message: &[u8]) -> Option<()> {
        each(message, &mut |number, value| {
            match (number, value) {
                (1, Value::Bytes(status)) => each(status, &mut |number, value| {
                    if let (1, Value::Number(said)) = (number, value) {
                        self.status = said;
                    }
                    Some(())
                })?,
                (2, Value::Bytes(option)) => take_field(option, &mut self.fields)?,
                (3, Value::Bytes(body)) => self.body = body.to_vec(),
                _ => {}
            }
            Some(())
        })
    }
}

/// A `HeaderValueOption`: the field inside of it. The raw value counts before the text.
fn take_field(option: &[u8], into: &mut Vec<(String, Vec<u8>)>) -> Option<()> {
    each(option, &mut |number, value| {
        let (1, Value::Bytes(header)) = (number, value) else { return Some(()) };
        let (mut name, mut text, mut raw) = (String::new(), Vec::new(), Vec::new());
        each(header, &mut |number, value| {
            match (number, value) {
                (1, Value::Bytes(key)) => name = String::from_utf8(key.to_vec()).ok()?,
                (2, Value::Bytes(value)) => text = value.to_vec(),
                (3, Value::Bytes(value)) => raw = value.to_vec(),
                _ => {}
            }
            Some(())
        })?;
        if into.len() >= FIELDS_MAX {
            return None;
        }
        into.push((name, if raw.is_empty() { text } else { raw }));
        Some(())
    })
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

/// Shows the fields of a message. None when it is none, or `visit` says so.
fn each(mut message: &[u8], visit: &mut dyn FnMut(u64, Value<'_>) -> Option<()>) -> Option<()> {
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut message)?),
            1 => {
                message = message.get(8..)?;
                Value::Other
            }
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Value::Bytes(bytes)
            }
            5 => {
                message = message.get(4..)?;
                Value::Other
            }
            _ => return None,
        };
        if key >> 3 == 0 {
            return None;
        }
        visit(key >> 3, value)?;
    }
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A field of bytes or text; one that is empty is left out, as protobuf has it.
fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_message(out, field, bytes);
    }
}

fn put_message(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_number(out: &mut Vec<u8>, field: u64, number: u64) {
    if number != 0 {
        put_varint(out, field << 3);
        put_varint(out, number);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut body = vec![0];
        body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend_from_slice(message);
        body
    }

    fn option(name: &str, value: &[u8], field: u64) -> Vec<u8> {
        let (mut header, mut option) = (Vec::new(), Vec::new());
        put_bytes(&mut header, 1, name.as_bytes());
        put_bytes(&mut header, field, value);
        put_message(&mut option, 1, &header);
        // `append`, which is not looked at.
        put_message(&mut option, 2, &[0x08, 1]);
        option
    }

    fn status(code: u64) -> Vec<u8> {
        let (mut status, mut message) = (Vec::new(), Vec::new());
        put_number(&mut status, 1, code);
        put_message(&mut message, 1, &status);
        message
    }

    #[test]
    fn answers() {
        assert_eq!(answer(&framed(&[])), Some(Verdict::Allowed(Vec::new())));
        let (mut message, mut ok) = (status(0), Vec::new());
        put_message(&mut ok, 2, &option("x-user", b"ann", 2));
        put_message(&mut ok, 2, &option("x-raw", b"\xff", 3));
        put_message(&mut message, 3, &ok);
        let fields = vec![("x-user".to_owned(), b"ann".to_vec()), ("x-raw".to_owned(), vec![0xff])];
        assert_eq!(answer(&framed(&message)), Some(Verdict::Allowed(fields)));
        let (mut message, mut denied) = (status(7), Vec::new());
        put_message(&mut denied, 1, &[0x08, 0x91, 0x03]);
        put_message(&mut denied, 2, &option("www-authenticate", b"Custom", 2));
        put_message(&mut denied, 3, b"no");
        put_message(&mut message, 2, &denied);
        let fields = vec![("www-authenticate".to_owned(), b"Custom".to_vec())];
        let want = Verdict::Denied { status: 401, fields, body: b"no".to_vec() };
        assert_eq!(answer(&framed(&message)), Some(want));
        // Denied without a status, or with one that says otherwise.
        for said in [&[][..], &[0x08, 0xc8, 0x01]] {
            let (mut message, mut denied) = (status(7), Vec::new());
            put_message(&mut denied, 1, said);
            put_message(&mut message, 2, &denied);
            let Some(Verdict::Denied { status: 403, .. }) = answer(&framed(&message)) else {
                panic!("{said:?}")
            };
        }
        // Allowed is what the status says, whatever stands beside it; a code below zero is a code.
        let mut message = status(u64::MAX);
        put_message(&mut message, 3, &[]);
        assert!(matches!(answer(&framed(&message)), Some(Verdict::Denied { .. })));
    }

    #[test]
    fn what_is_no_answer() {
        let whole = framed(&status(7));
        for cut in 0..whole.len() {
            assert_eq!(answer(&whole[..cut]), None, "{cut}");
        }
        for bad in [&[1, 0, 0, 0, 0][..], &[0, 0, 0, 0, 1, 0x0a], &[0, 0, 0, 0, 2, 0x03, 0], &[0; 6]] {
            assert_eq!(answer(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _any = answer(&framed(&bytes));
        }
    }
}
