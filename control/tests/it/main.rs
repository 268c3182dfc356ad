//! Control as the binary uses it: real files, real sockets, a fake router.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub
)]

mod api;
mod apps;
mod asking;
mod bench;
mod dns;
mod guard;
mod last_good;
mod reload;
