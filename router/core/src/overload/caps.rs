//! What one app uses of the router at a time, and its caps.
//!
//! Counted in atomics that all workers share; a use is a guard, so that nothing that ends a request can keep it. What several
//! workers take in the same instant may pass the cap of buffered bytes, never those of requests and connections. Pure.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ekiden_config::model::AppCaps;
use ekiden_config::names::AppName;

/// What is capped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cap {
    /// Requests in flight.
    InFlight,
    /// Connections to endpoints in use.
    Connections,
    /// Buffered bytes.
    Buffered,
}

impl Cap {
    /// Every cap; the place of each is its number.
    pub const ALL: [Cap; 3] = [Cap::InFlight, Cap::Connections, Cap::Buffered];

    /// The word in logs and metrics: that of its key, behind `app_`.
    pub const fn word(self) -> &'static str {
        match self {
            Cap::InFlight => "app_in_flight",
            Cap::Connections => "app_connections",
            Cap::Buffered => "app_buffered",
        }
    }
}

/// What an app uses now. Outlives tables.
#[derive(Debug)]
pub struct AppUsage {
    /// The app.
    pub app: AppName,
    in_flight: AtomicU32,
    connections: AtomicU32,
    buffered: AtomicU64,
    refused: [AtomicU64; Cap::ALL.len()],
}

impl AppUsage {
    /// Of an app that uses nothing yet. Called by the registry.
    pub fn new(app: AppName) -> Self {
        Self {
            app,
            in_flight: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            buffered: AtomicU64::new(0),
            refused: Default::default(),
        }
    }

    /// Requests of routes with caps, matched and not ended.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Connections to endpoints in use by them.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Bytes in buffers held for them.
    pub fn buffered(&self) -> u64 {
        self.buffered.load(Ordering::Relaxed)
    }

    /// Requests that a cap refused.
    pub fn refused(&self, cap: Cap) -> u64 {
        self.refused.get(cap as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// The caps of an app with what it uses: what a route of a table holds.
#[derive(Debug)]
pub struct Caps {
    /// The caps.
    pub most: AppCaps,
    /// What is used.
    pub usage: Arc<AppUsage>,
}

/// One more, unless there are as many already. Uncapped counts wrap nowhere near a real number.
fn take(count: &AtomicU32, most: Option<u32>) -> bool {
    let Some(most) = most else {
        count.fetch_add(1, Ordering::Relaxed);
        return true;
    };
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < most).then(|| now + 1)).is_ok()
}

impl Caps {
    /// Lets a request in. Counted out when the guard is dropped.
    ///
    /// # Errors
    /// The cap that it meets; it is counted there.
    pub fn enter(&self) -> Result<InFlight, Cap> {
        if self.most.buffered.is_some_and(|most| self.usage.buffered() >= most) {
            return Err(self.refuse(Cap::Buffered));
        }
        if !take(&self.usage.in_flight, self.most.in_flight) {
            return Err(self.refuse(Cap::InFlight));
        }
        let counts_bytes = self.most.buffered.is_some();
        Ok(InFlight { usage: Arc::clone(&self.usage), counts_bytes, held: 0 })
    }

    /// Takes a connection into use. Counted out when the guard is dropped.
    ///
    /// # Errors
    /// The cap; it is counted there.
    pub fn connect(&self) -> Result<InUse, Cap> {
        if take(&self.usage.connections, self.most.connections) {
            return Ok(InUse(Arc::clone(&self.usage)));
        }
        Err(self.refuse(Cap::Connections))
    }

    fn refuse(&self, cap: Cap) -> Cap {
        if let Some(count) = self.usage.refused.get(cap as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        cap
    }
}

/// A request in flight, with the bytes held for it.
#[derive(Debug)]
pub struct InFlight {
    usage: Arc<AppUsage>,
    counts_bytes: bool,
    held: u64,
}

impl InFlight {
    /// Whether anybody asks for [`InFlight::hold`].
    pub fn counts_bytes(&self) -> bool {
        self.counts_bytes
    }

    /// Says how many bytes are held for the request now.
    pub fn hold(&mut self, bytes: u64) {
        if bytes > self.held {
            self.usage.buffered.fetch_add(bytes - self.held, Ordering::Relaxed);
        } else if bytes < self.held {
            self.usage.buffered.fetch_sub(self.held - bytes, Ordering::Relaxed);
        }
        self.held = bytes;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.hold(0);
        self.usage.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection in use.
#[derive(Debug)]
pub struct InUse(Arc<AppUsage>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(most: AppCaps) -> Caps {
        Caps { most, usage: Arc::new(AppUsage::new(AppName::new("shop").unwrap())) }
    }

    #[test]
    fn what_is_dropped_is_given_back() {
        let caps = caps(AppCaps { in_flight: Some(2), connections: Some(1), buffered: Some(100) });
        let (one, _two) = (caps.enter().unwrap(), caps.enter().unwrap());
        assert_eq!(caps.enter().err(), Some(Cap::InFlight));
        let used = caps.connect().unwrap();
        assert_eq!(caps.connect().err(), Some(Cap::Connections));
        drop((one, used));
        let mut again = caps.enter().unwrap();
        let _used = caps.connect().unwrap();
        again.hold(60);
        again.hold(140);
        assert_eq!((caps.usage.buffered(), caps.usage.refused(Cap::InFlight)), (140, 1));
        assert_eq!(caps.enter().err(), Some(Cap::Buffered), "before it is counted in");
        again.hold(10);
        assert_eq!(caps.enter().err(), Some(Cap::InFlight));
        drop(again);
        assert_eq!((caps.usage.buffered(), caps.usage.in_flight()), (0, 1));
    }

    #[test]
    fn no_cap_refuses_nothing_and_counts() {
        let caps = caps(AppCaps { in_flight: None, connections: None, buffered: Some(1 << 20) });
        let all: Vec<_> = (0..1_000).map(|_| (caps.enter().unwrap(), caps.connect().unwrap())).collect();
        assert_eq!((caps.usage.in_flight(), caps.usage.connections()), (1_000, 1_000));
        drop(all);
        assert_eq!((caps.usage.in_flight(), caps.usage.connections()), (0, 0));
    }
}
