//! What speaks against an endpoint: which outcomes and statuses, by cause.
//!
//! What a client or the router itself brought about is no evidence. Does not count (cells do) or judge (see `ejection`).

use crate::grpc::GrpcStatus;
use crate::outcome::{Blame, Cause, Outcome, Phase};

/// Why an attempt speaks against its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Evidence {
    /// No connection could be made.
    Connect,
    /// The connection was lost.
    Reset,
    /// It took too long.
    Timeout,
    /// Its response is not valid HTTP.
    Protocol,
    /// Its response has a status from 500 on, or a status of gRPC that is a failure.
    Status,
    /// TLS with it could not be had.
    Tls,
}

impl Evidence {
    /// Every kind.
    pub const ALL: [Evidence; 6] = [
        Evidence::Connect,
        Evidence::Reset,
        Evidence::Timeout,
        Evidence::Protocol,
        Evidence::Status,
        Evidence::Tls,
    ];

    /// The word in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Evidence::Connect => "connect",
            Evidence::Reset => "reset",
            Evidence::Timeout => "timeout",
            Evidence::Protocol => "protocol",
            Evidence::Status => "status",
            Evidence::Tls => "tls",
        }
    }

    /// What it means to a person.
    pub const fn words(self) -> &'static str {
        match self {
            Evidence::Connect => "no connection could be made",
            Evidence::Reset => "the connection was lost",
            Evidence::Timeout => "it took too long",
            Evidence::Protocol => "its response was not valid HTTP",
            Evidence::Status => "it answered with a failure (a status from 500 on, or such a status of gRPC)",
            Evidence::Tls => "TLS with it could not be had",
        }
    }

    /// The kind at a place of [`Evidence::ALL`].
    pub fn at(place: u8) -> Option<Self> {
        Self::ALL.get(usize::from(place)).copied()
    }

    /// Whether it says that nothing can be had of the endpoint, whatever the request.
    pub const fn is_of_connects(self) -> bool {
        match self {
            Evidence::Connect | Evidence::Tls => true,
            Evidence::Reset | Evidence::Timeout | Evidence::Protocol | Evidence::Status => false,
        }
    }

    /// What an attempt that ended without a complete response says of its endpoint.
    pub fn of_failure(outcome: Outcome) -> Option<Self> {
        if outcome.blame() != Blame::Endpoint {
            return None;
        }
        // The whole request may have been slow because its client was: only a missing answer is the endpoint's.
        if outcome.cause == Cause::TotalTimeout && outcome.phase != Phase::Wait {
            return None;
        }
        FAILURES.iter().find(|(cause, _)| *cause == outcome.cause).map(|(_, kind)| *kind)
    }

    /// What the end of a gRPC call says; `has_deadline` says that its client set one.
    pub fn of_grpc(status: GrpcStatus, has_deadline: bool, peer: Option<Cause>) -> Option<Self> {
        let own = peer.is_none_or(|cause| cause.at(Phase::Wait).blame() != Blame::Client);
        (status.is_evidence(has_deadline) && own).then_some(Evidence::Status)
    }

    /// What a complete response says. `peer` is the code that the endpoint, itself a router, gave its own outcome. 501 and
    /// 505 are about the request.
    pub fn of_status(status: u16, peer: Option<Cause>) -> Option<Self> {
        // A deadline is the client's to choose, however many routers it goes through.
        let own = peer.is_none_or(|cause| {
            cause != Cause::DeadlineExceeded && cause.at(Phase::Wait).blame() != Blame::Client
        });
        (status >= 500 && status != 501 && status != 505 && own).then_some(Evidence::Status)
    }
}

/// Causes that are about the one endpoint of an attempt; the other causes with the endpoint's blame are about the cluster.
const FAILURES: [(Cause, Evidence); 16] = [
    (Cause::ConnectRefused, Evidence::Connect),
    (Cause::ConnectTimeout, Evidence::Connect),
    (Cause::ConnectFailed, Evidence::Connect),
    (Cause::TlsFailed, Evidence::Tls),
    (Cause::TlsCertificateInvalid, Evidence::Tls),
    (Cause::TlsAlert, Evidence::Tls),
    (Cause::Http2Failed, Evidence::Protocol),
    (Cause::ClosedWithoutResponse, Evidence::Reset),
    (Cause::UpstreamReset, Evidence::Reset),
    (Cause::UpstreamTruncated, Evidence::Reset),
    (Cause::SendTimeout, Evidence::Timeout),
    (Cause::FirstByteTimeout, Evidence::Timeout),
    (Cause::UpstreamIdle, Evidence::Timeout),
    (Cause::TotalTimeout, Evidence::Timeout),
    (Cause::ResponseMalformed, Evidence::Protocol),
    (Cause::ResponseTooLarge, Evidence::Protocol),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Every cause that blames the endpoint is either evidence, or about the cluster as a whole or what a client chose.
    #[test]
    fn every_blame_is_placed() {
        let about_no_endpoint = [
            Cause::NoEndpoints,
            Cause::NoneReady,
            Cause::ShardUnavailable,
            Cause::QueueFull,
            Cause::QueueTimeout,
            Cause::AppLimited,
            Cause::StatusRetried,
            Cause::BreakerOpen,
            Cause::AdaptiveLimit,
            // Chosen by clients: one in a hurry could have any endpoint set aside.
            Cause::DeadlineExceeded,
        ];
        for cause in Cause::ALL {
            let kind = Evidence::of_failure(cause.at(Phase::Wait));
            if cause.at(Phase::Wait).blame() == Blame::Endpoint {
                assert_eq!(kind.is_none(), about_no_endpoint.contains(cause), "{}", cause.code());
            } else {
                assert_eq!(kind, None, "{}", cause.code());
            }
        }
    }

    #[test]
    fn what_a_client_brings_about_is_no_evidence() {
        for cause in
            [Cause::ClientGone, Cause::ClientIdle, Cause::ClientTooSlow, Cause::Dropped, Cause::BodyTimeout]
        {
            for phase in Phase::ALL {
                assert_eq!(Evidence::of_failure(cause.at(*phase)), None);
            }
        }
        assert_eq!(Evidence::of_failure(Cause::TotalTimeout.at(Phase::Send)), None, "a slow upload");
        assert_eq!(Evidence::of_failure(Cause::TotalTimeout.at(Phase::Relay)), None, "a slow reader");
        assert_eq!(Evidence::of_failure(Cause::TotalTimeout.at(Phase::Wait)), Some(Evidence::Timeout));
    }

    #[test]
    fn statuses_by_cause() {
        for (status, peer, is_evidence) in [
            (200, None, false),
            (404, None, false),
            (429, None, false),
            (499, None, false),
            (500, None, true),
            (501, None, false),
            (502, None, true),
            (503, None, true),
            (504, None, true),
            (505, None, false),
            (507, None, true),
            (503, Some(Cause::ConnectRefused), true),
            (502, Some(Cause::ClosedWithoutResponse), true),
            (501, Some(Cause::TransferEncodingUnsupported), false),
            (503, Some(Cause::ClientGone), false),
            (504, Some(Cause::DeadlineExceeded), false),
        ] {
            assert_eq!(Evidence::of_status(status, peer).is_some(), is_evidence, "{status} {peer:?}");
        }
    }

    #[test]
    fn statuses_of_grpc_by_cause() {
        for (status, has_deadline, peer, is_evidence) in [
            (GrpcStatus::Ok, false, None, false),
            (GrpcStatus::NotFound, false, None, false),
            (GrpcStatus::ResourceExhausted, false, None, false),
            (GrpcStatus::Unavailable, true, None, true),
            (GrpcStatus::DeadlineExceeded, false, None, true),
            (GrpcStatus::DeadlineExceeded, true, None, false),
            (GrpcStatus::Unavailable, false, Some(Cause::ConnectRefused), true),
            (GrpcStatus::Internal, false, Some(Cause::PathAmbiguous), false),
        ] {
            let found = Evidence::of_grpc(status, has_deadline, peer);
            assert_eq!(found.is_some(), is_evidence, "{status:?} {has_deadline} {peer:?}");
        }
    }

    #[test]
    fn places_and_words() {
        for (place, kind) in (0u8..).zip(Evidence::ALL) {
            assert_eq!((kind as u8, Evidence::at(place)), (place, Some(kind)));
            assert!(!kind.words().is_empty() && !kind.word().is_empty());
        }
        assert_eq!(Evidence::at(6), None);
    }
}
