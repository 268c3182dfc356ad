//! Parses and judges upstream response heads. A malformed one is a 502 and ends its connection.
//!
//! Does not decide retries or edits; those belong to the exchange.

use std::mem::MaybeUninit;

use ekiden_core::outcome::Cause;
use httparse::Status;

use crate::head::{FieldId, Head, Span, tokens};
use crate::wire::body::Framing;
use crate::wire::request::FIELDS_MAX;
use crate::wire::scan::Bounds;
use crate::wire::words::is_value;
use crate::wire::{Version, decimal};

/// Bounds on a response head; Heroku's 8 KiB cookies fit many times.
pub const RESPONSE_BOUNDS: Bounds =
    Bounds { first_line: 8 << 10, field: 32 << 10, head: 64 << 10, fields: 256 };

/// A response head that has passed every rule.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// Fields, edited in place.
    pub head: Head,
    /// 100..=599.
    pub status: u16,
    /// Version as received; that of text made from HTTP/2 is 1.1.
    pub version: Version,
    reason: Span,
    /// How the body is framed, given the request's method.
    pub framing: Framing,
    /// The length that HTTP/2 announces beside a body that may have trailers; its codec holds the body to it.
    pub length: Option<u64>,
    /// The endpoint is willing to keep the connection.
    pub keep_alive: bool,
    /// Idle limit the endpoint announced (`Keep-Alive: timeout=N`), seconds.
    pub idle_limit: Option<u32>,
}

impl ResponseHead {
    /// The reason phrase as received; may be empty.
    pub fn reason(&self) -> &[u8] {
        self.head.bytes(self.reason)
    }

    /// Whether this is an informational response.
    pub fn is_informational(&self) -> bool {
        (100..200).contains(&self.status)
    }

    /// Parses and judges one complete head. `to_head` tells that the request was HEAD.
    pub fn parse(&mut self, bytes: &[u8], to_head: bool) -> Result<(), Cause> {
        self.parse_of(bytes, to_head, false)
    }

    /// The same for text that may have been made from HTTP/2.
    #[inline]
    pub fn parse_of(&mut self, bytes: &[u8], to_head: bool, of_http2: bool) -> Result<(), Cause> {
        self.head.clear();
        let mut storage = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut response, bytes, &mut storage) {
            Ok(Status::Complete(used)) if used == bytes.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(Cause::ResponseTooLarge),
            Ok(_) | Err(_) => return Err(Cause::ResponseMalformed),
        }
        let (Some(status), Some(version)) = (response.code, response.version) else {
            return Err(Cause::ResponseMalformed);
        };
        if !(100..600).contains(&status) {
            return Err(Cause::ResponseMalformed);
        }
        self.status = status;
        self.reason = self.head.store(response.reason.unwrap_or("").as_bytes());
        let version = if version == 0 { Version::Http10 } else { Version::Http11 };
        self.version = version;
        let (mut lengths, mut codings) = (0, 0);
        for header in response.headers.iter() {
            let value = header.value.trim_ascii();
            if header.name.is_empty() || !is_value(value) {
                return Err(Cause::ResponseMalformed);
            }
            match self.head.append(header.name.as_bytes(), value) {
                FieldId::ContentLength => lengths += 1,
                FieldId::TransferEncoding => codings += 1,
                _ => {}
            }
        }
        self.judge_connection(version)?;
        self.judge_framing(version, (lengths, codings), to_head, of_http2)
    }

    fn judge_connection(&mut self, version: Version) -> Result<(), Cause> {
        let (mut close, mut keep) = (false, false);
        for value in self.head.get_all(b"connection") {
            for token in tokens(value) {
                close |= token.eq_ignore_ascii_case(b"close");
                keep |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        self.keep_alive = !close && (version == Version::Http11 || keep);
        self.idle_limit = self.head.known(FieldId::KeepAlive).and_then(announced_timeout);
        // A response may not take away its own framing or cookies; anything else nominated goes.
        let refuse =
            |id| matches!(id, FieldId::ContentLength | FieldId::TransferEncoding | FieldId::SetCookie);
        self.head.drop_nominated(refuse).map_err(|_| Cause::ResponseMalformed)
    }

    fn judge_framing(
        &mut self,
        version: Version,
        (lengths, codings): (usize, usize),
        to_head: bool,
        of_http2: bool,
    ) -> Result<(), Cause> {
        self.length = None;
        let value = self.head.known(FieldId::ContentLength);
        let length = match (lengths, value) {
            (0, _) => None,
            (1, Some(text)) => Some(decimal(text).ok_or(Cause::ResponseMalformed)?),
            _ => return Err(Cause::ResponseMalformed),
        };
        if codings > 0 {
            let chunked = self
                .head
                .known(FieldId::TransferEncoding)
                .is_some_and(|v| v.eq_ignore_ascii_case(b"chunked"));
            if (length.is_some() && !of_http2) || codings > 1 || !chunked || version == Version::Http10 {
                return Err(Cause::ResponseMalformed);
            }
        }
        let bodiless = to_head || self.status < 200 || self.status == 204 || self.status == 304;
        self.framing = if bodiless {
            // A 304 may tell the length that a 200 would have.
            let lengthy = self.status != 304 && length.unwrap_or(0) > 0;
            if !to_head && (codings > 0 || lengthy) {
                // It announces a body that cannot be: bytes may follow, so the connection must not be reused.
                self.keep_alive = false;
            }
            Framing::None
        } else if codings > 0 {
            self.length = length;
            Framing::Chunked
        } else {
            length.map_or(Framing::Close, Framing::of_length)
        };
        self.keep_alive &= self.framing != Framing::Close;
        Ok(())
    }
}

fn announced_timeout(value: &[u8]) -> Option<u32> {
    tokens(value).find_map(|token| {
        let (name, seconds) = token.split_at_checked(8)?;
        if !name.eq_ignore_ascii_case(b"timeout=") {
            return None;
        }
        decimal(seconds).and_then(|n| u32::try_from(n).ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, to_head: bool) -> Result<ResponseHead, Cause> {
        let mut head = ResponseHead::default();
        head.parse(text.as_bytes(), to_head).map(|()| head)
    }

    #[test]
    fn framing_table() {
        let rows: &[(&str, bool, Framing, bool)] = &[
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", false, Framing::Length(3), true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true, Framing::None, true),
            ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", false, Framing::None, true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", false, Framing::Chunked, true),
            ("HTTP/1.1 200 OK\r\n\r\n", false, Framing::Close, false),
            ("HTTP/1.1 204 No\r\n\r\n", false, Framing::None, true),
            ("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", false, Framing::None, false),
            ("HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", false, Framing::None, true),
            ("HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n", false, Framing::None, false),
            ("HTTP/1.1 103 Early\r\nLink: x\r\n\r\n", false, Framing::None, true),
            ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", false, Framing::Length(3), false),
            (
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\n",
                false,
                Framing::Length(3),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n",
                false,
                Framing::Length(3),
                false,
            ),
        ];
        for (text, to_head, framing, keep) in rows {
            let head = parse(text, *to_head).unwrap();
            assert_eq!((head.framing, head.keep_alive), (*framing, *keep), "{text:?}");
        }
    }

    #[test]
    fn malformed_heads() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 600 OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\x00c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\n",
            "garbage\r\n\r\n",
        ] {
            assert_eq!(parse(text, false).err(), Some(Cause::ResponseMalformed), "{text:?}");
        }
    }

    #[test]
    fn keep_alive_timeout_is_learned() {
        let head =
            parse("HTTP/1.1 200 OK\r\nKeep-Alive: max=5, timeout=7\r\nContent-Length: 1\r\n\r\n", false)
                .unwrap();
        assert_eq!(head.idle_limit, Some(7));
    }
}
