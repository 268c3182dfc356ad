//! What the tries of one exchange have in common beyond the plain one: how often it was sent, where not to send it first, what it
//! holds of its cluster's breaker.
//!
//! Kept in the workspace and not in the task of the connection, which idle ones have too. Decides nothing (`forward` does).

use ekiden_core::resilience::adaptive::Admitted;
use ekiden_core::resilience::breaker::Permit;
use smallvec::SmallVec;

use crate::clock::Moment;
use crate::exchange::forward::{Hedge, Trial};

/// See the module.
#[derive(Debug)]
pub struct Tries {
    /// Endpoints, by the number of their cell, that get the request again only when there is no other.
    pub second_choice: SmallVec<[u64; 2]>,
    /// Endpoints, by the number of their cell, that failed the request.
    pub failed: SmallVec<[u64; 2]>,
    /// Times that the request was sent again by the rules of its route.
    pub resends: u8,
    /// It may be sent again after a response, if its route says so.
    pub after_status: bool,
    /// Endpoints gone past because they were at a bound.
    pub skips: u8,
    /// When the whole request is over, where its route takes deadlines; milliseconds of the wheel.
    pub total_ms: Option<u64>,
    /// The client said so.
    pub by_client: bool,
    /// Where the deadline stands in the head that is sent.
    pub deadline_field: Option<(usize, usize)>,
    /// When a second leg is due, milliseconds of the wheel; the highest number means never.
    pub hedge_at_ms: u64,
    /// The second leg, while there are two.
    pub hedge: Option<Box<Hedge>>,
    /// When the second leg began, once it serves the request.
    pub second_began: Option<Moment>,
    /// Its places at the cluster. Given back at the end of the exchange.
    pub held: Held,
}

/// What a request holds of its cluster, where that bounds how many there are.
#[derive(Debug, Default)]
pub struct Held {
    /// Its place in the breaker.
    pub breaker: Option<Permit>,
    /// Its place below the adaptive limit.
    pub adaptive: Option<Admitted>,
    /// It tries an ejected endpoint.
    pub trial: Option<Trial>,
}

impl Default for Tries {
    fn default() -> Self {
        Self {
            second_choice: SmallVec::new(),
            failed: SmallVec::new(),
            resends: 0,
            after_status: false,
            skips: 0,
            total_ms: None,
            by_client: false,
            deadline_field: None,
            hedge_at_ms: u64::MAX,
            hedge: None,
            second_began: None,
            held: Held::default(),
        }
    }
}

impl Tries {
    /// None yet.
    pub fn begin(&mut self) {
        self.second_choice.clear();
        self.failed.clear();
        (self.resends, self.after_status, self.skips) = (0, false, 0);
        (self.total_ms, self.by_client, self.deadline_field) = (None, false, None);
        (self.hedge_at_ms, self.second_began) = (u64::MAX, None);
    }
}
