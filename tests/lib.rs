//! Harness of the integration tests: a router in process or as the real binary, origins that follow a script, a
//! client that shows every byte.
//!
//! Nothing here sleeps to wait for something; [`until`] polls and has a deadline, reads have one too, and missing a
//! deadline fails the test. The tests themselves stand in `it/` and `alloc/`.

mod harness;
#[path = "harness/live.rs"]
mod live;

pub use harness::client::{Client, Lost, Response};
pub use harness::echo::{Echo, Seen};
pub use harness::etcd::{Etcd, in_time};
pub use harness::flapper::Flapper;
pub use harness::http2;
pub use harness::origin::{Conn, End, Origin, Received};
pub use harness::ports::free_port;
pub use harness::process::{Ekiden, Run, binary};
pub use harness::redis::Redis;
pub use harness::router::{InProcess, Served};
pub use harness::secure_origin::{SecureConn, SecureOrigin, head, server_config};
pub use harness::setup::{Setup, cluster, seconds, web};
pub use harness::tls::{Authority, Kind, Life, Made, Trusting, today};
pub use harness::{DEADLINE, hash, pattern, until, until_true};
pub use live::{Background, Load, MIXED, Nameserver, Refused, Stamped, Tally, finished, now_ns, signal};
