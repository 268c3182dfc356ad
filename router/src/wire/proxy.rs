//! Headers of the PROXY protocol, versions 1 and 2: read from those in front, written to those behind.
//!
//! After the specification of HAProxy (`proxy-protocol.txt`, revision of 2020/03/05). What is read is strict: a header that
//! could be read in two ways is none. Does not wait and does not decide who is believed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// First bytes of version 2.
pub const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest line of version 1, with its CRLF.
pub const LINE_MAX: usize = 107;
/// Longest header of version 2 that is taken. Real ones are below 600 bytes.
pub const HEADER_MAX: usize = 4 << 10;

/// Signature, version and command, family, length.
const FIXED: usize = 16;
/// Shortest line of version 1: `PROXY UNKNOWN` and CRLF. No header of either version is shorter.
const LINE_MIN: usize = 15;
const LINE_PREFIX: &[u8] = b"PROXY ";
/// Length of what stands before the addresses of a line.
const LINE_FAMILY: usize = 11;

const TYPE_ALPN: u8 = 0x01;
const TYPE_AUTHORITY: u8 = 0x02;
const TYPE_CRC32C: u8 = 0x03;
const TYPE_UNIQUE_ID: u8 = 0x05;
/// Longest value of [`TYPE_UNIQUE_ID`].
const UNIQUE_ID_MAX: usize = 128;

/// What a header says of the connection behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It is the sender's own, or the sender does not know: the addresses of the socket hold.
    Socket,
    /// It comes from this address.
    Client(SocketAddr),
}

/// The beginning of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// At least so many bytes more belong to the header. Never more than do, so that nothing behind it is read.
    More(usize),
    /// The bytes are a whole header.
    Header(Origin),
}

/// The bytes are no header, or one that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Looks at the first bytes of a connection, read as [`Begun::More`] says and no further.
///
/// # Errors
/// They are no header.
pub fn read(bytes: &[u8]) -> Result<Begun, Malformed> {
    let begins = |with: &[u8]| {
        let length = bytes.len().min(with.len());
        bytes.get(..length) == with.get(..length)
    };
    if !begins(LINE_PREFIX) && !begins(SIGNATURE) {
        return Err(Malformed);
    }
    if bytes.len() < LINE_MIN {
        return Ok(Begun::More(LINE_MIN - bytes.len()));
    }
    if begins(SIGNATURE) { read_binary(bytes) } else { read_line(bytes) }
}

// ---- version 1 ------------------------------------------------------------------------------------------------------

fn read_line(bytes: &[u8]) -> Result<Begun, Malformed> {
    if let Some(line) = bytes.strip_suffix(b"\r\n") {
        return judge_line(line).map(Begun::Header);
    }
    // A line feed stands at the end, behind a carriage return, and nowhere else.
    if bytes.contains(&b'\n') || bytes.len() >= LINE_MAX {
        return Err(Malformed);
    }
    if bytes.last() == Some(&b'\r') {
        return Ok(Begun::More(1));
    }
    let more = match bytes.get(..LINE_FAMILY) {
        // What is left of the four values: a blank and a character each; and CRLF.
        Some(b"PROXY TCP4 " | b"PROXY TCP6 ") => {
            let begun = bytes.iter().filter(|byte| **byte == b' ').count().saturating_sub(1);
            2 * 4_usize.saturating_sub(begun) + 2
        }
        _ => 2,
    };
    Ok(Begun::More(more.min(LINE_MAX - bytes.len())))
}

fn judge_line(line: &[u8]) -> Result<Origin, Malformed> {
    let line = std::str::from_utf8(line).map_err(|_| Malformed)?;
    let rest = line.strip_prefix("PROXY ").ok_or(Malformed)?;
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        // What follows is to be ignored, whatever it is.
        return if rest.contains('\r') { Err(Malformed) } else { Ok(Origin::Socket) };
    }
    let (family, values) = rest.split_once(' ').ok_or(Malformed)?;
    let mut values = values.split(' ');
    let mut next = || values.next().ok_or(Malformed);
    let (source, destination, source_port, destination_port) = (next()?, next()?, next()?, next()?);
    if values.next().is_some() {
        return Err(Malformed);
    }
    let (source, _) = match family {
        "TCP4" => (address::<Ipv4Addr>(source)?, address::<Ipv4Addr>(destination)?),
        "TCP6" => (address::<Ipv6Addr>(source)?, address::<Ipv6Addr>(destination)?),
        _ => return Err(Malformed),
    };
    let (port, _) = (port(source_port)?, port(destination_port)?);
    Ok(Origin::Client(SocketAddr::new(source, port)))
}

fn address<A: FromStr + Into<IpAddr>>(text: &str) -> Result<IpAddr, Malformed> {
    text.parse::<A>().map(Into::into).map_err(|_| Malformed)
}

/// A port in decimal, without sign or leading zero.
fn port(text: &str) -> Result<u16, Malformed> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    if plain { text.parse().map_err(|_| Malformed) } else { Err(Malformed) }
}

// ---- version 2 ------------------------------------------------------------------------------------------------------

fn read_binary(bytes: &[u8]) -> Result<Begun, Malformed> {
    let Some(([command, family, high, low], block)) =
        bytes.get(SIGNATURE.len()..).and_then(<[u8]>::split_first_chunk::<4>)
    else {
        return Ok(Begun::More(FIXED - bytes.len()));
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if !matches!(command, 0x20 | 0x21) || FIXED + length > HEADER_MAX {
        return Err(Malformed);
    }
    if block.len() < length {
        return Ok(Begun::More(length - block.len()));
    }
    let is_local = *command == 0x20;
    let (origin, rest) = match (family, is_local) {
        // The sender's own connection: its block is to be skipped.
        (_, true) => return Ok(Begun::Header(Origin::Socket)),
        (0x11 | 0x12, false) => {
            let ([a, b, c, d, _, _, _, _, high, low, _, _], rest) =
                block.split_first_chunk::<12>().ok_or(Malformed)?;
            let source = SocketAddr::new([*a, *b, *c, *d].into(), u16::from_be_bytes([*high, *low]));
            (source, rest)
        }
        (0x21 | 0x22, false) => {
            let (source, rest) = block.split_first_chunk::<16>().ok_or(Malformed)?;
            let (_, rest) = rest.split_first_chunk::<16>().ok_or(Malformed)?;
            let ([high, low, _, _], rest) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
            (SocketAddr::new((*source).into(), u16::from_be_bytes([*high, *low])), rest)
        }
        (0x31 | 0x32, false) => {
            judge_values(bytes, block.get(216..).ok_or(Malformed)?)?;
            return Ok(Begun::Header(Origin::Socket));
        }
        (0x00, false) => {
            judge_values(bytes, block)?;
            return Ok(Begun::Header(Origin::Socket));
        }
        _ => return Err(Malformed),
    };
    judge_values(bytes, rest)?;
    // Over datagrams it is another protocol's client.
    let is_stream = family & 0x0f == 1;
    Ok(Begun::Header(if is_stream { Origin::Client(origin) } else { Origin::Socket }))
}

/// Walks the values behind the addresses: their lengths add up, and a checksum, where there is one, is right.
fn judge_values(header: &[u8], mut values: &[u8]) -> Result<(), Malformed> {
    while !values.is_empty() {
        let ([kind, high, low], rest) = values.split_first_chunk::<3>().ok_or(Malformed)?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
        if *kind == TYPE_CRC32C {
            let said: [u8; 4] = value.try_into().map_err(|_| Malformed)?;
            let at = header.len() - rest.len() - value.len();
            let parts = [header.get(..at).unwrap_or(&[]), &[0; 4], rest];
            if crc32c(parts.into_iter().flatten().copied()) != u32::from_be_bytes(said) {
                return Err(Malformed);
            }
        }
        values = rest;
    }
    Ok(())
}

/// CRC-32C (RFC 3720 appendix B.4), bit by bit: headers are short and few carry one.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1)))
    })
}

// ---- what is sent ---------------------------------------------------------------------------------------------------

/// What a header tells an endpoint of the client connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said<'a> {
    /// The client and the address it connected to; none when it came over a unix socket.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// The protocol negotiated by ALPN.
    pub alpn: Option<&'a [u8]>,
    /// The host that the client named in its TLS handshake.
    pub name: Option<&'a str>,
    /// The request id; left out when it is longer than the protocol takes.
    pub id: &'a str,
}

/// Both addresses in one family: IPv4 where both are, else IPv6 with IPv4 mapped into it.
fn same_family((source, destination): (SocketAddr, SocketAddr)) -> (SocketAddr, SocketAddr) {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (source, destination) = (plain(source), plain(destination));
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    let wide = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    (wide(source), wide(destination))
}

/// Appends a header of version 1.
pub fn put_line(out: &mut Vec<u8>, said: &Said<'_>) {
    let line = match said.addresses.map(same_family) {
        None => "PROXY UNKNOWN\r\n".to_owned(),
        Some((from, to)) => {
            let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
            format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port())
        }
    };
    out.extend_from_slice(line.as_bytes());
}

/// Appends a header of version 2.
pub fn put_binary(out: &mut Vec<u8>, said: &Said<'_>) {
    let mut block = Vec::with_capacity(256);
    let family = match said.addresses.map(same_family) {
        None => 0x00,
        Some((from, to)) => {
            for address in [from, to] {
                match address.ip() {
                    IpAddr::V4(ip) => block.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => block.extend_from_slice(&ip.octets()),
                }
            }
            block.extend_from_slice(&from.port().to_be_bytes());
            block.extend_from_slice(&to.port().to_be_bytes());
            if from.is_ipv4() { 0x11 } else { 0x21 }
        }
    };
    put_value(&mut block, TYPE_ALPN, said.alpn.unwrap_or(&[]));
    put_value(&mut block, TYPE_AUTHORITY, said.name.unwrap_or("").as_bytes());
    if said.id.len() <= UNIQUE_ID_MAX {
        put_value(&mut block, TYPE_UNIQUE_ID, said.id.as_bytes());
    }
    put_fixed(out, 0x21, family, block.len());
    out.extend_from_slice(&block);
}

/// Appends the header of a connection that the router makes for itself, in version 2.
pub fn put_local(out: &mut Vec<u8>) {
    put_fixed(out, 0x20, 0x00, 0);
}

/// Bounded by construction: addresses, and values of at most 255 bytes each.
fn put_fixed(out: &mut Vec<u8>, command: u8, family: u8, length: usize) {
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&[command, family]);
    out.extend_from_slice(&u16::try_from(length).unwrap_or(0).to_be_bytes());
}

/// Appends a value that is not empty and not longer than any name or protocol is.
fn put_value(block: &mut Vec<u8>, kind: u8, value: &[u8]) {
    if let Ok(length @ 1..) = u8::try_from(value.len()) {
        block.extend_from_slice(&[kind, 0, length]);
        block.extend_from_slice(value);
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
