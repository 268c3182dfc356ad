//! The messages of `grpc.health.v1.Health/Check`, by hand: one field each way is all there is.
//!
//! Source: "GRPC Health Checking Protocol". Does not send or receive them.

/// What is asked for.
pub const PATH: &str = "/grpc.health.v1.Health/Check";
/// Longest answer that is looked at, with its prefix.
pub const ANSWER_MAX: usize = 4 << 10;
/// Compressed flag and length before each message.
const PREFIX: usize = 5;

/// The state of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// Not known.
    Unknown,
    /// It serves.
    Serving,
    /// It does not.
    NotServing,
    /// There is no such service.
    ServiceUnknown,
    /// A number that the protocol does not have.
    Other,
}

impl Serving {
    /// As the protocol names it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::ServiceUnknown => "SERVICE_UNKNOWN",
            Self::Other => "a state that does not exist",
        }
    }
}

/// A request for the state of a service, as it stands in the body. A name of more than 16 KiB is cut.
pub fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        let name = service.as_bytes();
        let name = name.get(..name.len().min(0x3fff)).unwrap_or(name);
        // Field 1, bytes.
        message.push(0x0a);
        if name.len() >= 0x80 {
            message.push(u8::try_from(name.len() & 0x7f).unwrap_or(0) | 0x80);
            message.push(u8::try_from(name.len() >> 7).unwrap_or(0));
        } else {
            message.push(u8::try_from(name.len()).unwrap_or(0));
        }
        message.extend_from_slice(name);
    }
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    body.extend_from_slice(&message);
    body
}

/// Reads the body of an answer. None when it is not exactly one such message.
pub fn answer(body: &[u8]) -> Option<Serving> {
    let (prefix, mut message) = body.split_at_checked(PREFIX)?;
    let [0, length @ ..] = <[u8; PREFIX]>::try_from(prefix).ok()? else { return None };
    if u32::from_be_bytes(length) as usize != message.len() {
        return None;
    }
    // What is not there is the first state; of several the last counts.
    let mut state = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match (key >> 3, key & 7) {
            (1, 0) => state = varint(&mut message)?,
            (0, _) => return None,
            (_, 0) => drop(varint(&mut message)?),
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(match state {
        0 => Serving::Unknown,
        1 => Serving::Serving,
        2 => Serving::NotServing,
        3 => Serving::ServiceUnknown,
        _ => Serving::Other,
    })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        assert_eq!(request(""), [0, 0, 0, 0, 0]);
        assert_eq!(request("a.B"), b"\0\0\0\0\x05\x0a\x03a.B");
        let long = request(&"x".repeat(300));
        assert_eq!(long[..9], *b"\0\0\0\x01\x2f\x0a\xac\x02x");
        assert_eq!(long.len(), 5 + 303);
    }

    #[test]
    fn answers() {
        let framed = |message: &[u8]| {
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            [&[0][..], &length, message].concat()
        };
        for (message, state) in [
            (&[][..], Some(Serving::Unknown)),
            (&[0x08, 1], Some(Serving::Serving)),
            (&[0x08, 2], Some(Serving::NotServing)),
            (&[0x08, 3], Some(Serving::ServiceUnknown)),
            (&[0x08, 9], Some(Serving::Other)),
            (&[0x08, 2, 0x08, 1], Some(Serving::Serving)),
            (&[0x12, 2, 7, 7, 0x08, 1], Some(Serving::Serving)),
            (&[0x19, 0, 0, 0, 0, 0, 0, 0, 0, 0x25, 0, 0, 0, 0, 0x08, 1], Some(Serving::Serving)),
            (&[0x08], None),
            (&[0x08, 0x80], None),
            (&[0x12, 9, 1], None),
            (&[0x0b], None),
            (&[0x00, 1], None),
        ] {
            assert_eq!(answer(&framed(message)), state, "{message:?}");
        }
        assert_eq!(answer(b"\0\0\0\0\x02\x08"), None, "short");
        assert_eq!(answer(b"\0\0\0\0\x02\x08\x01\0"), None, "long");
        assert_eq!(answer(b"\x01\0\0\0\x02\x08\x01"), None, "compressed");
        assert_eq!(answer(b"\0\0"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_answer_is_too_odd(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64)) {
            let _ = answer(&bytes);
            let framed = [&[0, 0, 0, 0, u8::try_from(bytes.len()).unwrap()][..], &bytes].concat();
            let _ = answer(&framed);
        }
    }
}
