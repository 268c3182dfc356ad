//! HTTP/2 with endpoints: connections that share streams, and one stream as the exchange's connection.
//!
//! `connection` makes one and sets every bound of the codec, `pool` hands out its streams, `opening` lets requests wait for one
//! that is being made, `stream` speaks for one exchange, `extended` turns the handshake of WebSocket.
//! Does not connect sockets and does not pick endpoints.

pub mod connection;
mod extended;
pub mod opening;
pub mod pool;
pub mod stream;

pub use opening::Share;
pub use pool::{Http2Pool, Wanted};
pub use stream::EndpointStream;
