//! How a request ended: exactly one [`Outcome`], a [`Cause`] and the [`Phase`] it struck in.
//!
//! Everything said about an outcome (status, codes, blame, retry, words) follows from the pair by total functions, so
//! that response, access log and metrics cannot disagree. The rows stand in `outcome/rows.rs`, one per cause; what
//! depends on the phase stands here, without a catch-all arm. Renders nothing and counts nothing.

mod rows;

pub use rows::Cause;

use Blame::{Client, Endpoint, Nobody, Router};

/// Where in the way of a request it ended (DESIGN section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Phase {
    /// The connection was taken, and no byte of a request has come.
    #[default]
    Accept,
    /// The request head is being read.
    Head,
    /// A route is being found, policies judged.
    Match,
    /// Waiting for an endpoint to become ready.
    Queue,
    /// Picking and connecting.
    Connect,
    /// The request is being sent upstream.
    Send,
    /// The request was sent; waiting for the first byte of the response.
    Wait,
    /// A response has begun downstream.
    Relay,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: &'static [Phase] = &[
        Phase::Accept,
        Phase::Head,
        Phase::Match,
        Phase::Queue,
        Phase::Connect,
        Phase::Send,
        Phase::Wait,
        Phase::Relay,
    ];

    /// The word in logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Phase::Accept => "accept",
            Phase::Head => "head",
            Phase::Match => "match",
            Phase::Queue => "queue",
            Phase::Connect => "connect",
            Phase::Send => "send",
            Phase::Wait => "wait",
            Phase::Relay => "relay",
        }
    }
}

/// Whose fault an outcome is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// Nobody's: the request was served.
    Nobody,
    /// The client's. Never counts against an endpoint.
    Client,
    /// The router's, its configuration's or its host's.
    Router,
    /// The endpoint's, or of all the endpoints of the cluster.
    Endpoint,
}

impl Blame {
    /// The word in logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Nobody => "nobody",
            Client => "client",
            Router => "router",
            Endpoint => "endpoint",
        }
    }
}

/// Whether the router may try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// No.
    Never,
    /// Yes, at an endpoint that was not tried, for any method: nothing of the request was sent.
    OtherEndpoint,
    /// Once, when the method is safe or idempotent, or when none of the request was written.
    ReplayIfSafe,
}

impl Retry {
    /// The words for documentation.
    pub const fn word(self) -> &'static str {
        match self {
            Retry::Never => "never",
            Retry::OtherEndpoint => "other endpoint",
            Retry::ReplayIfSafe => "replay if safe",
        }
    }
}

/// Which status a cause gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// The same in every phase; 0 means that the router makes no response.
    Always(u16),
    /// 408 while the client still owes a part of its request, 499 after.
    ClientSilence,
}

/// What is said about one cause, whatever the phase.
#[derive(Debug, Clone, Copy)]
struct Row {
    code: &'static str,
    rule: Rule,
    /// The closest Heroku error code; empty when there is none.
    h_code: &'static str,
    blame: Blame,
    retry: Retry,
    /// RFC 9209 section 2.3 error type; empty when there is none.
    proxy: &'static str,
    /// Seconds for `Retry-After`; 0 means no such field.
    retry_after: u32,
    words: &'static str,
    advice: &'static str,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// What happened.
    pub cause: Cause,
    /// Where it happened.
    pub phase: Phase,
}

impl Cause {
    /// How many causes there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The place in [`Cause::ALL`]; metrics index by it. Not stable between versions.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The stable snake_case code: a promise to clients, logs and dashboards; never renamed.
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// The cause with this code. Walks the list: for tests, tools and peer routers, not for every request.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|cause| cause.code() == code)
    }

    /// The outcome of this cause in a phase.
    #[inline]
    pub const fn at(self, phase: Phase) -> Outcome {
        Outcome { cause: self, phase }
    }
}

impl Outcome {
    /// Status of the response that the router makes when none has begun, and of the access log when no response
    /// ever began. 0 means none: the response of the endpoint or of the route stands. 499 is logged, not sent: its
    /// client is not there to read it.
    pub const fn status(self) -> u16 {
        match self.cause.row().rule {
            Rule::Always(status) => status,
            Rule::ClientSilence => match self.phase {
                Phase::Accept | Phase::Head | Phase::Match | Phase::Queue | Phase::Connect | Phase::Send => {
                    408
                }
                Phase::Wait | Phase::Relay => 499,
            },
        }
    }

    /// The stable code of the cause.
    pub const fn code(self) -> &'static str {
        self.cause.row().code
    }

    /// The closest Heroku error code.
    pub const fn h_code(self) -> Option<&'static str> {
        some(self.cause.row().h_code)
    }

    /// Whose fault it is.
    pub const fn blame(self) -> Blame {
        self.cause.row().blame
    }

    /// Whether the router may try again, given where it happened: nothing is tried again once a response has begun
    /// or before a route is known, and what was partly sent is replayed only if safe.
    pub const fn retry(self) -> Retry {
        match (self.cause.row().retry, self.phase) {
            (Retry::Never, _) | (_, Phase::Accept | Phase::Head | Phase::Match | Phase::Relay) => {
                Retry::Never
            }
            (Retry::OtherEndpoint, Phase::Queue | Phase::Connect) => Retry::OtherEndpoint,
            (Retry::OtherEndpoint, Phase::Send | Phase::Wait)
            | (Retry::ReplayIfSafe, Phase::Queue | Phase::Connect | Phase::Send | Phase::Wait) => {
                Retry::ReplayIfSafe
            }
        }
    }

    /// The `error` parameter of `Proxy-Status` (RFC 9209 section 2.3).
    pub const fn proxy_status(self) -> Option<&'static str> {
        some(self.cause.row().proxy)
    }

    /// One sentence that says what happened.
    pub const fn words(self) -> &'static str {
        self.cause.row().words
    }

    /// One sentence that says what to do about it.
    pub const fn advice(self) -> &'static str {
        self.cause.row().advice
    }

    /// Seconds for `Retry-After`, when trying again may help.
    pub const fn retry_after(self) -> Option<u32> {
        match self.cause.row().retry_after {
            0 => None,
            seconds => Some(seconds),
        }
    }
}

const fn some(text: &'static str) -> Option<&'static str> {
    if text.is_empty() { None } else { Some(text) }
}

#[cfg(test)]
mod tests;
