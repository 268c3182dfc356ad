//! Holds idle keep-alive connections, in a process of its own so that its descriptors are not the proxy's.
//! Each connection has done one checked request. It ends when its standard input does, and then tells how many
//! connections the proxy closed meanwhile.

use crate::failure::{Fallible, failure};
use crate::http1;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Opens `count` connections, prints `ready`, waits for the end of standard input, prints `closed N`.
pub(crate) fn run(to: SocketAddr, count: usize, path: &str) -> Fallible<()> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    let mut held = Vec::with_capacity(count);
    for number in 0..count {
        let opened = open(to, request.as_bytes());
        held.push(opened.map_err(|error| error.during(&format!("connection {} of {count}", number + 1)))?);
    }
    println!("ready");
    io::stdout().flush()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    let closed = held.iter_mut().map(still_open).filter(|open| !open).count();
    println!("closed {closed}");
    Ok(())
}

fn open(to: SocketAddr, request: &[u8]) -> Fallible<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let count = stream.read(&mut part)?;
        bytes.extend_from_slice(&part[..count]);
        if let Some(head) = http1::head(&bytes)? {
            let whole = head.body_len.is_some_and(|len| bytes.len() == head.head_len + len);
            match (head.status, head.close, whole) {
                (200, false, true) => break,
                (200, false, false) if count > 0 => {}
                _ => return Err(failure(format!("not a 200 that is kept alive: {head:?}"))),
            }
        } else if count == 0 {
            return Err(failure("closed before an answer"));
        }
    }
    stream.set_nonblocking(true)?;
    Ok(stream)
}

fn still_open(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}
