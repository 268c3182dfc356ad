//! TLS with clients: certificates and their files, tickets, handshakes, the stream over a connection. TLS with endpoints is
//! in `upstream`.
//!
//! ```text
//! files -> certificate -> store (one `ArcSwap` per listener) -> listener (settings, tickets) -> handshake -> stream
//!          hub: the one owner, off the workers; watch: looks at the files       on the worker, no lock
//! ```
//! Keys never leave this module: not into a Model, not into a log.

pub mod authority;
pub mod certificate;
pub mod check;
pub mod clients;
pub mod files;
pub mod handshake;
pub mod hub;
pub mod listener;
pub mod passthrough;
pub mod store;
pub mod stream;
pub mod tickets;
pub mod upstream;
pub mod watch;

#[cfg(test)]
mod tests;

pub use check::{FileFault, check};
pub use hub::{CertificateState, Hub};
pub use listener::TlsListener;
pub use stream::{Session, TlsStream};
pub use upstream::{IdentityState, Trust, Trusts};

/// Protocols offered by ALPN, the preferred one first. What is negotiated decides the codec: see
/// [`stream::Session::alpn`] and `worker::connection::serve`.
pub const ALPN: &[&[u8]] = &[HTTP2, HTTP1];
/// The name of HTTP/2 there.
pub const HTTP2: &[u8] = b"h2";
/// HTTP/1 as ALPN names it.
pub const HTTP1: &[u8] = b"http/1.1";
