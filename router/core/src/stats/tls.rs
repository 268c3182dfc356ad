//! What is counted of TLS handshakes with clients, by one worker. Does not make handshakes.

use super::{Counter, Gauge};

/// Why a handshake ended without a connection. A closed list; each has a stable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum HandshakeFailure {
    /// The client closed, or the connection was lost.
    Closed,
    /// It was not over at its deadline.
    Timeout,
    /// What came is not TLS.
    NotTls,
    /// No certificate covers the name asked for, and such names are refused.
    UnknownName,
    /// Nothing in common: version, cipher suite, group, signature or protocol.
    Incompatible,
    /// The client refused with an alert.
    PeerAlert,
    /// The client has no certificate where one is required, or one that does not verify.
    ClientCertificate,
    /// A message is malformed or out of order.
    Invalid,
    /// The process ended.
    Drained,
}

impl HandshakeFailure {
    /// Every failure, in the order of its number.
    pub const ALL: [Self; 9] = [
        Self::Closed,
        Self::Timeout,
        Self::NotTls,
        Self::UnknownName,
        Self::Incompatible,
        Self::PeerAlert,
        Self::ClientCertificate,
        Self::Invalid,
        Self::Drained,
    ];

    /// The stable code in logs and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::NotTls => "not_tls",
            Self::UnknownName => "unknown_name",
            Self::Incompatible => "incompatible",
            Self::PeerAlert => "peer_alert",
            Self::ClientCertificate => "client_certificate",
            Self::Invalid => "invalid",
            Self::Drained => "drained",
        }
    }
}

/// One worker's counts.
#[derive(Debug, Default)]
pub struct TlsShard {
    /// Full handshakes of TLS 1.2.
    pub full_12: Counter,
    /// Full handshakes of TLS 1.3.
    pub full_13: Counter,
    /// Resumed sessions of TLS 1.2.
    pub resumed_12: Counter,
    /// Resumed sessions of TLS 1.3.
    pub resumed_13: Counter,
    /// Handshakes that failed; the place is the failure's number.
    failed: [Counter; HandshakeFailure::ALL.len()],
    /// Handshakes that have begun and not ended.
    pub in_progress: Gauge,
    /// Connections reset because too many handshakes were in progress.
    pub refused: Counter,
}

impl TlsShard {
    /// All zero.
    pub const fn new() -> Self {
        Self {
            full_12: Counter::new(),
            full_13: Counter::new(),
            resumed_12: Counter::new(),
            resumed_13: Counter::new(),
            failed: [const { Counter::new() }; HandshakeFailure::ALL.len()],
            in_progress: Gauge::new(),
            refused: Counter::new(),
        }
    }

    /// The counter of a failure.
    pub fn failed(&self, failure: HandshakeFailure) -> &Counter {
        let [first, ..] = &self.failed;
        self.failed.get(failure as usize).unwrap_or(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_place_and_a_code_of_its_own() {
        let shard = TlsShard::new();
        for (place, failure) in HandshakeFailure::ALL.into_iter().enumerate() {
            assert_eq!(failure as usize, place);
            shard.failed(failure).add(1);
        }
        assert!(HandshakeFailure::ALL.iter().all(|failure| shard.failed(*failure).value() == 1));
        let codes: std::collections::BTreeSet<_> = HandshakeFailure::ALL.iter().map(|f| f.code()).collect();
        assert_eq!(codes.len(), HandshakeFailure::ALL.len());
    }
}
