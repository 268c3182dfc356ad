//! The attacks of HTTP/1 and HTTP/2: a script for one hostile connection each. Whoever runs them says when a turn is due.
//!
//! `/sink` is a path whose origin reads and never answers, `/flood` one that answers without an end. Floods of half-open
//! TCP handshakes are not here: no process sees them, the kernel answers with SYN cookies.

mod client;
mod http2;
mod list;

pub use client::{Hostile, Tally};
pub use http2::{honest, honest_requests, requests};
pub use list::attacks;

/// What an attack is measured against: honest traffic that asks the same of a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Request heads in the same pieces, by byte.
    Heads,
    /// Request bodies in the same framing and the same pieces, by byte.
    Bodies,
    /// Large responses that are read at once, by byte read.
    Responses,
    /// New connections, by connection: with one request each, or with as many as the attack's of HTTP/2.
    Connections,
    /// Requests of HTTP/2 on connections that are kept, by byte of their frames.
    Frames,
}

/// What one hostile client does, the same for all of a crowd.
#[derive(Debug, Clone)]
pub struct Attack {
    /// Words in reports; also the name on the command line.
    pub name: &'static str,
    /// What honest traffic it is compared with.
    pub class: Class,
    /// Sent as soon as the connection is open.
    pub first: Vec<u8>,
    /// Sent at each turn; empty when it says nothing more.
    pub drip: &'static [u8],
    /// What the turn of a connection with that number, from 0, sends; none where `drip` says it all.
    pub frames: Option<fn(u64) -> Vec<u8>>,
    /// Speaks HTTP/2 in clear text.
    pub http2: bool,
    /// Most bytes read at a turn; 0 when it never reads.
    pub reads: usize,
    /// Receive buffer in bytes; none: as large as the kernel gives.
    pub window: Option<usize>,
    /// Ends its sending side after `first`.
    pub half_closed: bool,
    /// Leaves and comes anew at each turn; else only when it was cut.
    pub renews: bool,
}
