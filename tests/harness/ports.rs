//! Free loopback ports for listeners that need a number before they are bound.
//!
//! Taken below the range the kernel draws from (32768 and up), so that no outgoing connection of another test can
//! hold one, and counted, so that two tests of this process never get the same one.

use std::net::TcpListener;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 10_500;
const COUNT: u16 = 20_000;

/// A port of 127.0.0.1 that nobody listens on.
///
/// # Panics
/// When every port of the range is taken.
pub fn free_port() -> u16 {
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    // Test processes that run at the same time begin at different places.
    let next = NEXT.get_or_init(|| {
        AtomicU16::new(u16::try_from(std::process::id() * 97 % u32::from(COUNT)).unwrap_or(0))
    });
    for _ in 0..COUNT {
        let port = FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}
