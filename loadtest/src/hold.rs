//! Holds idle connections, in a process of its own so that its descriptors are not the proxy's: HTTP/1, the same over TLS, or
//! HTTP/2 over TLS. Each connection has done one checked request. It ends when its standard input does, and then tells how
//! many connections the proxy closed meanwhile.

mod secure;

use crate::failure::{Fallible, failure};
use crate::http1;
use clap::ValueEnum;
use secure::SecureStream;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What is spoken on the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Speaks {
    /// HTTP/1.1 in clear text.
    Plain,
    /// HTTP/1.1 over TLS.
    Tls,
    /// HTTP/2 over TLS.
    Http2,
}

impl Speaks {
    /// Name on the command line and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls => "tls",
            Self::Http2 => "http2",
        }
    }
}

/// A connection that is held.
enum Held {
    Plain(TcpStream),
    Secure(Box<SecureStream>),
}

/// Opens `count` connections, prints `ready`, waits for the end of standard input, prints `closed N`.
pub(crate) fn run(to: SocketAddr, count: usize, path: &str, speaks: Speaks) -> Fallible<()> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    let config = match speaks {
        Speaks::Plain => None,
        Speaks::Tls => Some(secure::config(secure::HTTP1)?),
        Speaks::Http2 => Some(secure::config(secure::HTTP2)?),
    };
    let open = || -> Fallible<Held> {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let Some(config) = &config else {
            ask(&mut stream, request.as_bytes())?;
            stream.set_nonblocking(true)?;
            return Ok(Held::Plain(stream));
        };
        let mut stream = secure::begin(config, stream)?;
        match speaks {
            Speaks::Http2 => secure::ask_http2(&mut stream)?,
            Speaks::Plain | Speaks::Tls => ask(&mut stream, request.as_bytes())?,
        }
        stream.sock.set_nonblocking(true)?;
        Ok(Held::Secure(Box::new(stream)))
    };
    let mut held = Vec::with_capacity(count);
    for number in 0..count {
        held.push(open().map_err(|error| error.during(&format!("connection {} of {count}", number + 1)))?);
    }
    println!("ready");
    io::stdout().flush()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    let closed = held.iter_mut().map(still_open).filter(|open| !open).count();
    println!("closed {closed}");
    Ok(())
}

fn ask(stream: &mut (impl Read + Write), request: &[u8]) -> Fallible<()> {
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let count = stream.read(&mut part)?;
        bytes.extend_from_slice(&part[..count]);
        if let Some(head) = http1::head(&bytes)? {
            let whole = head.body_len.is_some_and(|len| bytes.len() == head.head_len + len);
            match (head.status, head.close, whole) {
                (200, false, true) => return Ok(()),
                (200, false, false) if count > 0 => {}
                _ => return Err(failure(format!("not a 200 that is kept alive: {head:?}"))),
            }
        } else if count == 0 {
            return Err(failure("closed before an answer"));
        }
    }
}

/// Whether there is no end behind what may have come meanwhile (frames of HTTP/2).
fn still_open(held: &mut Held) -> bool {
    let mut part = [0; 4096];
    loop {
        let read = match held {
            Held::Plain(stream) => stream.read(&mut part),
            Held::Secure(stream) => stream.read(&mut part),
        };
        match (read, &held) {
            (Ok(count), Held::Secure(_)) if count > 0 => {}
            (Err(error), _) => return error.kind() == ErrorKind::WouldBlock,
            (Ok(_), _) => return false,
        }
    }
}
