//! Pickers that go by what endpoints are like: how long they take (`latency`), and what they say of themselves with responses
//! (`reports`) and when they are asked (`asked`).

mod asked;
mod latency;
mod reports;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ekiden_tests::Origin;

/// An endpoint that answers each request with the same head after the same time, and counts.
struct Steady {
    origin: Origin,
    count: Arc<AtomicUsize>,
}

impl Steady {
    /// `head` is the status line and what follows, without the length.
    fn start(takes: Duration, head: &'static str) -> Self {
        let count = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&count);
        let origin = Origin::start(move |conn| {
            while conn.request().is_some() {
                counted.fetch_add(1, Ordering::AcqRel);
                if !takes.is_zero() {
                    thread::sleep(takes);
                }
                conn.send(format!("HTTP/1.1 {head}\r\nContent-Length: 2\r\n\r\nok"));
            }
        });
        Self { origin, count }
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }
}
