//! HTTP/2 from clients: the connection around the codec, and its streams as clients of the one exchange.
//!
//! `preface` tells it from HTTP/1, `follower` counts and judges frames under the codec (`track`, `rules`, `block`), `connection` is
//! the entry, `driver` drives the codec, `streams` starts an exchange for each stream, and `stream` is what the exchange
//! sees. The codec is the `h2` crate. Does not judge heads (`wire::http2`) and knows no routes.

pub mod block;
pub mod connection;
pub mod driver;
pub mod endpoint;
pub mod follower;
pub mod preface;
pub mod rules;
pub mod stream;
pub mod streams;
pub mod track;
