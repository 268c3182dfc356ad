//! The doors between the planes (DESIGN section 4): traits and messages, free of tokio and I/O.
//!
//! Contract, for each trait: callable from any thread; returns without blocking on the network; a panic in an
//! implementation is a bug of that implementation and must not unwind into the caller's state.

mod explain;
mod observations;

pub use explain::{
    Check, Destination, EXPLAINED_ENDPOINTS_MAX, EndpointStory, Explanation, Finding, GroupStory, KeyStory,
    LooseReading, Question, RULES_MAX, RuleStory, Standing, Unexplained,
};
pub use observations::{EndpointKey, OBSERVATIONS_MAX, Observation, Observations};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::hosts::HostOwners;
use crate::model::{HoldPolicy, Model};
use crate::names::{AppName, ClusterName, EndpointId};

/// Number of a published table; grows by one with each publish of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The down door: control publishes Models, the router compiles and swaps. One publisher exists; it is not `Clone`.
pub trait Publisher: Send {
    /// Hands over a Model and returns at once; the ticket tells how it ended. Publishes are applied in order and
    /// may be coalesced: a later one may carry an earlier one's ticket to `Applied`.
    fn publish(&mut self, model: Arc<Model>) -> Ticket;

    /// A ticket that ends when all that was published of these apps up to now is taken, of everything without any; for changes that
    /// repeat what is in force. None where the ticket of the newest publish tells that.
    fn barrier(&self, _apps: &[AppName]) -> Option<Ticket> {
        None
    }

    /// Whether it hands Models on as words, and so has to be told them with [`Publisher::written`].
    fn wants_words(&self) -> bool {
        false
    }

    /// Tells the words that the apps of Models from now on are made of, who owns which host, and what control has to say of apps
    /// beside; whether that differs from what it knew, so that a publish is due also when the Model is the same.
    fn written(&mut self, _words: Written) -> bool {
        false
    }

    /// Much was freed in this thread, or by one that has ended: it may go back to the system. Takes milliseconds at most.
    fn tidy(&self) {}
}

/// What the apps of a Model were made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The document of each app as JSON text, by name.
    pub apps: BTreeMap<AppName, Arc<str>>,
    /// Who owns which host.
    pub hosts: HostOwners,
    /// Apps in maintenance, with what people see; none is the router's own page.
    pub maintenance: BTreeMap<AppName, Option<Arc<str>>>,
    /// Apps whose requests wait.
    pub holds: BTreeMap<AppName, HoldPolicy>,
}

/// How a publish ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every worker serves the generation (or a later one). Refused parts kept their last good version.
    Applied {
        /// The generation in force.
        generation: Generation,
        /// What was not taken, with the reason.
        refused: Vec<Refusal>,
    },
    /// Nothing was taken.
    Rejected {
        /// Why, for people.
        reason: String,
    },
}

/// A part of a Model that the router did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which part: `listener:NAME` or `app:NAME`.
    pub part: String,
    /// Why, for people; says what to do.
    pub reason: String,
}

#[derive(Debug, Default)]
struct TicketState {
    generation: Option<Generation>,
    verdict: Option<Verdict>,
    wakers: Vec<Waker>,
}

/// Follows one publish. Cloning follows the same publish.
#[derive(Debug, Clone, Default)]
pub struct Ticket(Arc<(Mutex<TicketState>, Condvar)>);

impl Ticket {
    /// A ticket with no verdict yet. Called by publishers.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, TicketState> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the generation the publish became, before all workers have taken it. Called by the router.
    pub fn assign(&self, generation: Generation) {
        self.state().generation = Some(generation);
    }

    /// Ends the ticket; later calls are ignored. Called by the router.
    pub fn end(&self, verdict: Verdict) {
        let mut state = self.state();
        if state.verdict.is_none() {
            if let Verdict::Applied { generation, .. } = &verdict {
                state.generation = Some(*generation);
            }
            state.verdict = Some(verdict);
            self.0.1.notify_all();
            for waker in state.wakers.drain(..) {
                waker.wake();
            }
        }
    }

    /// Whether anybody else holds it.
    pub fn is_followed(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// The generation, once known.
    pub fn generation(&self) -> Option<Generation> {
        self.state().generation
    }

    /// The verdict, once known; otherwise the waker is woken when it is. Called by control's API.
    pub fn poll(&self, waker: &Waker) -> Option<Verdict> {
        let mut state = self.state();
        if state.verdict.is_none() && !state.wakers.iter().any(|w| w.will_wake(waker)) {
            state.wakers.push(waker.clone());
        }
        state.verdict.clone()
    }

    /// Blocks until the verdict or the timeout. For threads that may block: start-up and tests.
    pub fn wait(&self, timeout: Duration) -> Option<Verdict> {
        let deadline = Instant::now() + timeout;
        let mut state = self.state();
        while state.verdict.is_none() {
            let left = deadline.checked_duration_since(Instant::now())?;
            state = self.0.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.verdict.clone()
    }
}

/// The aside door: questions about live state, answered by the router.
pub trait Inspect: Send + Sync {
    /// The generation that every worker serves.
    fn generation(&self) -> Generation;
    /// Live state of every endpoint of a cluster; `None` when the table has no such cluster.
    fn endpoints(&self, app: &AppName, cluster: &ClusterName) -> Option<Vec<EndpointStatus>>;
    /// Stores through which routers share limits.
    fn stores(&self) -> Vec<StoreStatus> {
        Vec::new()
    }
    /// The shards of a cluster; `None` when the table has no such cluster, or no key decides there.
    fn shards(&self, _app: &AppName, _cluster: &ClusterName) -> Option<ShardStatus> {
        None
    }
    /// What has ended of each app since the router started; `None` where no requests are served.
    fn traffic(&self) -> Option<BTreeMap<AppName, AppTraffic>> {
        None
    }
    /// How the requests of a cluster are shared out among groups of its endpoints; empty where all are one group.
    fn groups(&self, _app: &AppName, _cluster: &ClusterName) -> Vec<GroupStory> {
        Vec::new()
    }
    /// What would become of a request now, and why. Sends nothing, and counts nothing.
    ///
    /// # Errors
    /// The question makes no sense here.
    fn explain(&self, _question: &Question) -> Result<Explanation, Unexplained> {
        Err(Unexplained::NoListener("nothing is served here".to_owned()))
    }
}

/// What has ended of an app, over all its routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppTraffic {
    /// Requests.
    pub requests: u64,
    /// Of those, the ones that were answered with 5xx.
    pub errors: u64,
    /// How long they took: counts up to each of `bounds_us`, not cumulative, and one count above the last.
    pub buckets: Vec<u64>,
    /// Upper bounds of the buckets, in microseconds.
    pub bounds_us: Vec<u64>,
}

impl AppTraffic {
    /// What has ended since an earlier look. Counts that went with a route that is gone are left out.
    pub fn since(&self, earlier: &Self) -> Self {
        let none = || std::iter::repeat(0);
        let pairs = self.buckets.iter().zip(earlier.buckets.iter().copied().chain(none()));
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            buckets: pairs.map(|(now, then)| now.saturating_sub(then)).collect(),
            bounds_us: self.bounds_us.clone(),
        }
    }
}

/// A store through which routers share limits, for people and the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatus {
    /// Its name.
    pub name: String,
    /// `up`, or `degraded`: each router goes on with its share of the rates.
    pub state: &'static str,
    /// Why it is in that state.
    pub reason: String,
    /// Since when, milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
    /// Routers that share it, as far as is known.
    pub routers: u32,
}

/// Shards of a cluster, for people and the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardStatus {
    /// The same on every router that places every key alike.
    pub digest: u64,
    /// The keys asked for most, the first the most.
    pub keys: Vec<KeyStatus>,
}

/// One of the keys asked for most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyStatus {
    /// Its hash.
    pub hash: u64,
    /// Its text, cut, where that may be shown.
    pub text: Option<String>,
    /// Its part of the cluster's requests of the last second or so, in millionths.
    pub share_ppm: u32,
    /// Whether it is asked for much more than others.
    pub hot: bool,
    /// Endpoints that it is spread over; none when it is not.
    pub spread: Option<u8>,
}

/// Live state of an endpoint, for people and the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointStatus {
    /// Its id.
    pub id: EndpointId,
    /// `starting`, `warming`, `ready`, `failing`, `ejected`, `draining` or `gone`.
    pub state: &'static str,
    /// Why it is in that state.
    pub reason: String,
    /// When it came into that state, milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
    /// Requests it is serving now, over all workers.
    pub in_flight: u32,
}
