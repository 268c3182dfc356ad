//! The words of the state machine: states, what happens to an endpoint, and what came of it.

use crate::health::Health;

/// The state of an endpoint, for people and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Its first check has not been answered.
    Starting,
    /// It may get requests, and gets less than its share for a while.
    Warming,
    /// It may get requests.
    Ready,
    /// Its checks fail.
    Failing,
    /// Set aside because requests failed there.
    Ejected,
    /// It gets no new requests and keeps what it has.
    Draining,
    /// It was removed.
    Gone,
}

impl State {
    /// Every state.
    pub const ALL: [State; 7] = [
        State::Starting,
        State::Warming,
        State::Ready,
        State::Failing,
        State::Ejected,
        State::Draining,
        State::Gone,
    ];

    /// The word for people, logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Warming => "warming",
            State::Ready => "ready",
            State::Failing => "failing",
            State::Ejected => "ejected",
            State::Draining => "draining",
            State::Gone => "gone",
        }
    }
}

/// What happens to an endpoint. Reasons are for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// Control removed it. Final.
    Gone,
    /// Control set or cleared the drain mark.
    Drain(bool),
    /// It joins a cluster that serves already.
    Joined,
    /// Its checks came to another verdict, or there are none any more.
    Checked(Health, &'a str),
    /// Evidence speaks against it.
    Eject(&'a str),
    /// A check of an ejected endpoint was answered.
    Trial(Result<(), &'a str>),
    /// Requests of clients tried an ejected endpoint: as many in a row as [`super::Readiness::trial_requests`] asks for went
    /// well, or one failed.
    Tried(bool),
    /// The ejection ends whatever the checks say.
    Lift(&'a str),
    /// Time passed.
    Time,
}

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
    /// Why, for people.
    pub reason: String,
}
