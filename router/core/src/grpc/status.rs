//! How a gRPC call ended. The one place that maps HTTP, resets and the router's own outcomes to a status of gRPC, and says
//! which statuses are failures.

use std::fmt::Write;

use crate::outcome::{Cause, Outcome};

macro_rules! statuses {
    ($($variant:ident = $number:literal $word:literal,)*) => {
        /// A status of gRPC. A closed list; what is outside of it reads as `UNKNOWN`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "each is the status it is named after")]
        pub enum GrpcStatus {
            $($variant = $number,)*
        }

        impl GrpcStatus {
            /// Every status, in the order of its number.
            pub const ALL: [Self; 17] = [$(Self::$variant,)*];

            /// The name in metrics.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

statuses! {
    Ok = 0 "OK",
    Cancelled = 1 "CANCELLED",
    Unknown = 2 "UNKNOWN",
    InvalidArgument = 3 "INVALID_ARGUMENT",
    DeadlineExceeded = 4 "DEADLINE_EXCEEDED",
    NotFound = 5 "NOT_FOUND",
    AlreadyExists = 6 "ALREADY_EXISTS",
    PermissionDenied = 7 "PERMISSION_DENIED",
    ResourceExhausted = 8 "RESOURCE_EXHAUSTED",
    FailedPrecondition = 9 "FAILED_PRECONDITION",
    Aborted = 10 "ABORTED",
    OutOfRange = 11 "OUT_OF_RANGE",
    Unimplemented = 12 "UNIMPLEMENTED",
    Internal = 13 "INTERNAL",
    Unavailable = 14 "UNAVAILABLE",
    DataLoss = 15 "DATA_LOSS",
    Unauthenticated = 16 "UNAUTHENTICATED",
}

impl GrpcStatus {
    /// The number on the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The status with a number.
    pub fn at(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Reads a value of `grpc-status`. What no client could read either is `UNKNOWN`.
    pub fn read(value: &[u8]) -> Self {
        let text = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        text.and_then(|text| text.parse().ok()).and_then(Self::at).unwrap_or(Self::Unknown)
    }

    /// What clients make of a response without `grpc-status`, as the gRPC project has it in "HTTP to gRPC Status Code
    /// Mapping": a status of 200 without one is `UNKNOWN` too.
    pub const fn of_http(status: u16) -> Self {
        match status {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }

    /// What clients make of a stream that was reset ("gRPC over HTTP2", errors).
    pub const fn of_reset(code: u32) -> Self {
        match code {
            // REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY.
            7 => Self::Unavailable,
            8 => Self::Cancelled,
            11 => Self::ResourceExhausted,
            12 => Self::PermissionDenied,
            _ => Self::Internal,
        }
    }

    /// How a call ends that the router ends. The mapping of [`GrpcStatus::of_http`], finer where the router knows more: what
    /// took too long is `DEADLINE_EXCEEDED`, what is over a bound `RESOURCE_EXHAUSTED`, as servers of gRPC say it themselves.
    /// An outcome without a status of its own is `OK`.
    pub const fn of_outcome(outcome: Outcome) -> Self {
        // Another connection may do.
        if let Cause::Misdirected = outcome.cause {
            return Self::Unavailable;
        }
        match outcome.status() {
            0 => Self::Ok,
            408 | 504 => Self::DeadlineExceeded,
            413 | 414 | 429 | 431 => Self::ResourceExhausted,
            405 | 501 => Self::Unimplemented,
            499 => Self::Cancelled,
            500 => Self::Internal,
            status => Self::of_http(status),
        }
    }

    /// Whether it says that the serving side failed, as a status from 500 on does (but 501). The list is that of Envoy's
    /// outlier detection, less `UNIMPLEMENTED`, which is about the request; linkerd's is the same and `PERMISSION_DENIED`.
    pub const fn is_failure(self) -> bool {
        match self {
            Self::Unknown | Self::DeadlineExceeded | Self::Internal | Self::Unavailable | Self::DataLoss => {
                true
            }
            Self::Ok
            | Self::Cancelled
            | Self::InvalidArgument
            | Self::NotFound
            | Self::AlreadyExists
            | Self::PermissionDenied
            | Self::ResourceExhausted
            | Self::FailedPrecondition
            | Self::Aborted
            | Self::OutOfRange
            | Self::Unimplemented
            | Self::Unauthenticated => false,
        }
    }

    /// Whether a complete response with it speaks against its endpoint. `DEADLINE_EXCEEDED` does not where the client itself
    /// set the deadline: else a client in a hurry could have any endpoint set aside.
    pub const fn is_evidence(self, has_deadline: bool) -> bool {
        self.is_failure() && !(has_deadline && matches!(self, Self::DeadlineExceeded))
    }
}

/// The text of `grpc-message` for an outcome: its code, its H-code, its words; percent-encoded.
pub fn message(outcome: Outcome) -> String {
    let mut text = String::from(outcome.code());
    if let Some(h_code) = outcome.h_code() {
        text.push(' ');
        text.push_str(h_code);
    }
    text.push_str(": ");
    let mut encoded = String::with_capacity(text.len() + outcome.words().len());
    for byte in text.bytes().chain(outcome.words().bytes()) {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Phase;

    #[test]
    fn numbers_and_words() {
        for (number, status) in (0u8..).zip(GrpcStatus::ALL) {
            assert_eq!((status.number(), GrpcStatus::at(number)), (number, Some(status)));
            assert_eq!(GrpcStatus::read(number.to_string().as_bytes()), status);
        }
        assert_eq!(GrpcStatus::at(17), None);
        for value in ["", "17", "-1", "+0", "0 ", "x", "256", "99999999999999999999"] {
            assert_eq!(GrpcStatus::read(value.as_bytes()), GrpcStatus::Unknown, "{value:?}");
        }
    }

    #[test]
    fn outcomes_as_clients_of_grpc_know_them() {
        use GrpcStatus::*;
        for (cause, phase, status) in [
            (Cause::Complete, Phase::Relay, Ok),
            (Cause::RateLimited, Phase::Match, ResourceExhausted),
            (Cause::BodyTooLarge, Phase::Send, ResourceExhausted),
            (Cause::TooManyFields, Phase::Head, ResourceExhausted),
            (Cause::NoRoute, Phase::Match, Unimplemented),
            (Cause::MethodNotAllowed, Phase::Match, Unimplemented),
            (Cause::ClientDenied, Phase::Match, PermissionDenied),
            (Cause::PathAmbiguous, Phase::Match, Internal),
            (Cause::NoneReady, Phase::Connect, Unavailable),
            (Cause::QueueFull, Phase::Queue, Unavailable),
            (Cause::ConnectRefused, Phase::Connect, Unavailable),
            (Cause::ConnectTimeout, Phase::Connect, Unavailable),
            (Cause::ResponseMalformed, Phase::Wait, Unavailable),
            (Cause::UpstreamReset, Phase::Relay, Unavailable),
            (Cause::Drained, Phase::Relay, Unavailable),
            (Cause::Misdirected, Phase::Match, Unavailable),
            (Cause::FirstByteTimeout, Phase::Wait, DeadlineExceeded),
            (Cause::TotalTimeout, Phase::Relay, DeadlineExceeded),
            (Cause::DeadlineExceeded, Phase::Connect, DeadlineExceeded),
            (Cause::ClientGone, Phase::Wait, Cancelled),
            (Cause::Panicked, Phase::Match, Internal),
        ] {
            assert_eq!(GrpcStatus::of_outcome(cause.at(phase)), status, "{cause:?}");
        }
        // Only what was served is `OK`.
        for cause in Cause::ALL {
            for phase in Phase::ALL {
                let ok = GrpcStatus::of_outcome(cause.at(*phase)) == Ok;
                assert_eq!(ok, *cause == Cause::Complete, "{cause:?}");
            }
        }
    }

    #[test]
    fn what_speaks_against_an_endpoint() {
        let evidence = |deadline| {
            let all = GrpcStatus::ALL.into_iter().filter(|status| status.is_evidence(deadline));
            all.map(GrpcStatus::number).collect::<Vec<_>>()
        };
        assert_eq!(evidence(false), [2, 4, 13, 14, 15]);
        assert_eq!(evidence(true), [2, 13, 14, 15]);
    }

    #[test]
    fn messages_are_printable_and_hold_code_and_words() {
        assert_eq!(
            message(Cause::ConnectRefused.at(Phase::Connect)),
            "connect_refused H21: The endpoint refused the connection."
        );
        for cause in Cause::ALL {
            assert!(message(cause.at(Phase::Wait)).bytes().all(|b| (0x20..=0x7e).contains(&b)));
        }
    }
}
