//! What is done when an endpoint fails a request, and how much of it: waits between tries, budgets,
//! breakers, a bound that follows latency, deadlines, the latency that a hedge goes by.
//!
//! Values and counts only; the router's exchange tries again. Pure: time and randomness are arguments.

pub mod adaptive;
pub mod backoff;
pub mod breaker;
pub mod budget;
pub mod deadline;
pub mod latency;

/// Why a request is sent again by the rules of its route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Again {
    /// The connection was lost before a response.
    Reset,
    /// A try took too long.
    Timeout,
    /// A status for which the route says so.
    Status,
}

impl Again {
    /// Every reason; the place of each is its number.
    pub const ALL: [Again; 3] = [Again::Reset, Again::Timeout, Again::Status];

    /// The word in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Again::Reset => "reset",
            Again::Timeout => "timeout",
            Again::Status => "status",
        }
    }
}

/// Why a request is not sent again although the rules of its route would have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Withheld {
    /// The budget of the cluster is out.
    Budget,
    /// The request is larger than what is kept of it.
    Buffer,
    /// Not enough time is left.
    Time,
}

impl Withheld {
    /// Every reason; the place of each is its number.
    pub const ALL: [Withheld; 3] = [Withheld::Budget, Withheld::Buffer, Withheld::Time];

    /// The word in logs, behind `retry_`, and in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Withheld::Budget => "budget",
            Withheld::Buffer => "buffer",
            Withheld::Time => "time",
        }
    }
}
