//! The access record: what one exchange leaves behind when it ends, and its way into the access log.
//!
//! A worker fills an [`Access`] at the end of an exchange and hands it to its own [`Recorder`], which copies it into
//! a single-producer ring: no lock, no allocation, no system call; a full ring drops the record and counts it. One
//! log thread, the [`Scribe`], drains all rings, formats JSON or Heroku logfmt and writes whole lines to an
//! [`AccessSink`]. A slow or broken sink costs log lines, never traffic. Does not count metrics and does not choose
//! what a request's outcome is.

use std::net::SocketAddr;

use ekiden_core::grpc::GrpcStatus;
use ekiden_core::outcome::{Blame, Cause, Outcome};

mod json;
mod logfmt;
mod ring;
mod scribe;
mod sink;
#[cfg(test)]
mod tests;
mod text;

pub use ring::{RECORD_MAX, RING_BYTES, Recorder};
pub use scribe::{LogMeters, Scribe};
pub use sink::{AccessSink, FileSink, MemorySink, StdoutSink};

/// Stands for "did not happen" in the timings of an [`Access`].
pub const NONE_US: u32 = u32::MAX;

/// The HTTP version a client spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
    /// None that the router knows.
    Tcp,
    /// TLS that the endpoint ended.
    TlsPassthrough,
}

impl Protocol {
    /// As it stands in both log formats.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Http10 => "http1.0",
            Protocol::Http11 => "http1.1",
            Protocol::Http2 => "http2.0",
            Protocol::Tcp => "tcp",
            Protocol::TlsPassthrough => "tls-passthrough",
        }
    }
}

/// TLS of the client side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsAccess<'a> {
    /// TLS 1.3, else 1.2.
    pub is_13: bool,
    /// Number of the cipher suite (IANA).
    pub cipher: u16,
    /// Host that the client named in the handshake.
    pub name: &'a str,
}

impl TlsAccess<'_> {
    /// The version as it stands in both log formats.
    pub fn version(&self) -> &'static str {
        if self.is_13 { "TLSv1.3" } else { "TLSv1.2" }
    }

    /// The name of the cipher suite (IANA), in two pieces; empty when it is not known.
    pub fn cipher_name(&self) -> [&'static str; 2] {
        let name = rustls::CipherSuite::from(self.cipher).as_str().unwrap_or("");
        // rustls tells suites of TLS 1.3 from others by their name.
        name.strip_prefix("TLS13_").map_or([name, ""], |rest| ["TLS_", rest])
    }
}

/// One ended exchange, borrowed from it. Texts may be of any length and hold any character: the ring cuts them, the
/// formats escape them. An empty text means "none" or "never reached".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access<'a> {
    /// How it ended: who ended it, and where.
    pub outcome: Outcome,
    /// Status sent to the client, or that would have been sent (499 when the client went away first).
    pub status: u16,
    /// How it ended as a call of gRPC.
    pub grpc_status: Option<GrpcStatus>,
    /// Request method as received.
    pub method: &'a str,
    /// Path and query; the path in normal form. Cut after 8 KiB; all other texts after 1 KiB.
    pub target: &'a str,
    /// Host without port, lower case.
    pub host: &'a str,
    /// The request id, received or made.
    pub request_id: &'a str,
    /// Value of `X-Forwarded-For` as sent upstream; empty when it is the client's address alone, or was not sent.
    pub forwarded_for: &'a str,
    /// Peer of the client connection; none on a unix socket.
    pub client: Option<SocketAddr>,
    /// Listener that accepted it.
    pub listener: &'a str,
    /// Matched route and its app.
    pub route: RouteNames<'a>,
    /// Cluster it was forwarded to.
    pub cluster: &'a str,
    /// Id of the endpoint that answered, or that was tried last: its bytes, which a worker has at hand; see [`Access::dyno`].
    pub endpoint: &'a [u8],
    /// Connect attempts and replays, the first one included; 0 when none was made.
    pub attempts: u8,
    /// Why the last attempt but one ended, when there was more than one.
    pub retry_cause: Option<Cause>,
    /// Rate limit that refused it, or else the first shadow that would have.
    pub limit: &'a str,
    /// Arrival of the head's first byte, microseconds since the Unix epoch.
    pub started_unix_us: u64,
    /// Wait for a first check or a free place, microseconds; [`NONE_US`] when it did not wait.
    pub queue_us: u32,
    /// Upstream connect, microseconds; 0 on a reused connection, [`NONE_US`] without one.
    pub connect_us: u32,
    /// From the request's last byte sent to the first response byte, microseconds, or [`NONE_US`].
    pub first_byte_us: u32,
    /// From the start of the upstream exchange to its last byte, microseconds, or [`NONE_US`].
    pub service_us: u32,
    /// From the first byte received to the last byte sent, microseconds.
    pub total_us: u64,
    /// Bytes received from the client for this request, head and body.
    pub bytes_in: u64,
    /// Bytes sent to the client for this response, head and body.
    pub bytes_out: u64,
    /// HTTP version of the client side.
    pub protocol: Protocol,
    /// TLS of the client side; none on a plain connection.
    pub tls: Option<TlsAccess<'a>>,
    /// Generation of the table that matched it.
    pub generation: u64,
    /// The `User-Agent` field as received; the log shows it as UTF-8, with marks where it is none.
    pub user_agent: &'a [u8],
}

impl<'a> Access<'a> {
    /// Id of the endpoint that answered, or that was tried last. For the log's thread: looks at each byte.
    pub fn dyno(&self) -> &'a str {
        std::str::from_utf8(self.endpoint).unwrap_or_default()
    }
}

/// The names of a route and of its app. In one piece, because a record is copied on the worker, where pieces count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteNames<'a> {
    joined: &'a str,
    app_len: usize,
}

impl<'a> RouteNames<'a> {
    /// Both names one behind the other, of which the app's has `app_len` bytes.
    pub fn new(joined: &'a str, app_len: usize) -> Self {
        Self { joined, app_len }
    }

    /// The app's name.
    pub fn app(&self) -> &'a str {
        self.joined.get(..self.app_len).unwrap_or("")
    }

    /// The route's name.
    pub fn route(&self) -> &'a str {
        self.joined.get(self.app_len..).unwrap_or("")
    }
}

const INFO: &str = "info";

/// The `at` of both formats: `info` when nobody is to blame and for deliberate states (H80 to H83), `warning` when the
/// client is, else `error`.
fn level(outcome: Outcome) -> &'static str {
    if outcome.h_code().is_some_and(|code| code.starts_with("H8")) {
        return INFO;
    }
    match outcome.blame() {
        Blame::Nobody => INFO,
        Blame::Client => "warning",
        Blame::Router | Blame::Endpoint => "error",
    }
}

/// Appends the chain of forwarders between quotes: the client alone where no longer one was sent.
fn push_forwarded_for(out: &mut Vec<u8>, access: &Access<'_>) {
    use std::io::Write;
    if !access.forwarded_for.is_empty() {
        return text::push_json(out, access.forwarded_for);
    }
    // Neither display form needs escaping.
    let _ = match access.client {
        Some(client) => write!(out, "\"{}\"", client.ip().to_canonical()),
        None => out.write_all(b"\"unknown\""),
    };
}
