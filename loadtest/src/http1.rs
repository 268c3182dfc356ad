//! The little HTTP/1.1 this tool needs on the client side: a response head, blocking exchanges, one or many on a connection.
//! It reads only what our origin and the control API send; chunked bodies are read to the close.

use crate::failure::{Fallible, failure};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest answer read by [`exchange`].
const LONGEST: u64 = 64 << 20;

/// What matters of a response head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Status code.
    pub(crate) status: u16,
    /// Bytes of the head with its empty line.
    pub(crate) head_len: usize,
    /// `Content-Length`; none for other framings.
    pub(crate) body_len: Option<usize>,
    /// Whether the sender announced the close.
    pub(crate) close: bool,
}

/// Reads a head from the start of `bytes`; `Ok(None)` while it is not complete.
pub(crate) fn head(bytes: &[u8]) -> Fallible<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| failure("response head is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).and_then(|rest| rest.get(..3));
    let status = status.and_then(|word| word.parse().ok());
    let mut head = Head {
        status: status.ok_or_else(|| failure(format!("no HTTP/1.1 status line: {text:?}")))?,
        head_len: end + 4,
        body_len: None,
        close: false,
    };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            head.body_len = value.trim().parse().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            head.close = value.trim().eq_ignore_ascii_case("close");
        }
    }
    Ok(Some(head))
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// Body bytes as they came.
    pub(crate) body: Vec<u8>,
}

/// One exchange on a connection of its own, at most `limit` for each wait. `body` is sent as JSON.
pub(crate) fn exchange(
    to: SocketAddr,
    method: &str,
    target: &str,
    body: Option<&str>,
    limit: Duration,
) -> Fallible<Answer> {
    let mut stream = connect(to, limit)?;
    stream.write_all(&request(to, (method, target), "Connection: close\r\n", body))?;
    answer(&mut stream)
}

/// A connection that is kept from exchange to exchange, and opened again when the other side has closed it between two.
#[derive(Debug)]
pub(crate) struct Kept {
    to: SocketAddr,
    limit: Duration,
    stream: Option<TcpStream>,
}

impl Kept {
    /// Opens nothing yet.
    pub(crate) fn new(to: SocketAddr, limit: Duration) -> Self {
        Self { to, limit, stream: None }
    }

    /// One exchange. `body` is sent as JSON.
    pub(crate) fn exchange(&mut self, method: &str, target: &str, body: Option<&str>) -> Fallible<Answer> {
        let mut stream = match self.stream.take().filter(is_open) {
            Some(stream) => stream,
            None => connect(self.to, self.limit)?,
        };
        stream.write_all(&request(self.to, (method, target), "", body))?;
        let answer = answer(&mut stream)?;
        self.stream = Some(stream);
        Ok(answer)
    }
}

/// Whether nothing came on an idle connection, which can only be its end.
fn is_open(stream: &TcpStream) -> bool {
    let waits = stream.set_nonblocking(true).is_ok()
        && matches!(stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
    waits && stream.set_nonblocking(false).is_ok()
}

fn connect(to: SocketAddr, limit: Duration) -> Fallible<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn request(to: SocketAddr, (method, target): (&str, &str), more: &str, body: Option<&str>) -> Vec<u8> {
    let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {to}\r\n{more}");
    if let Some(body) = body {
        request += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    request += "\r\n";
    request += body.unwrap_or("");
    request.into_bytes()
}

fn answer(stream: &mut TcpStream) -> Fallible<Answer> {
    let mut bytes = Vec::new();
    let mut part = [0; 16 * 1024];
    let mut found = None;
    loop {
        if found.is_none() {
            found = head(&bytes)?;
        }
        if let Some(Head { status, head_len, body_len: Some(len), .. }) = found
            && bytes.len() >= head_len + len
        {
            return Ok(Answer { status, body: bytes[head_len..head_len + len].to_vec() });
        }
        let count = stream.read(&mut part)?;
        bytes.extend_from_slice(&part[..count]);
        if count == 0 || bytes.len() as u64 > LONGEST {
            break;
        }
    }
    match found {
        Some(Head { status, head_len, body_len: None, .. }) => {
            Ok(Answer { status, body: bytes[head_len..].to_vec() })
        }
        _ => Err(failure("connection closed before the end of the answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_or_awaited_or_refused() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 7\r\nConnection: close\r\n\r\nrest";
        let expected = Head { status: 200, head_len: whole.len() - 4, body_len: Some(7), close: true };
        assert_eq!(head(whole), Ok(Some(expected)));
        assert_eq!(head(&whole[..30]), Ok(None));
        assert!(head(b"SSH-2.0\r\n\r\n").is_err());
        let bare = head(b"HTTP/1.1 503 No\r\n\r\n").unwrap().unwrap();
        assert_eq!((bare.status, bare.body_len, bare.close), (503, None, false));
    }
}
