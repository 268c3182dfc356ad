//! Takes a request from the rate limits it meets, and says in response fields what is left. Core decides; see
//! `core::policy::limit`.
//!
//! `RateLimit` and `RateLimit-Policy` follow draft-ietf-httpapi-ratelimit-headers-10: `q` is the burst and `w` the seconds in
//! which an empty allowance fills; `r` is what may be taken at once and `t` the seconds until there is more. Times are rounded
//! up, so that nobody comes back too early.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use ekiden_config::model::{LimitFields, LimitUnit, Listener};
use ekiden_core::outcome::Cause;
use ekiden_core::policy::limit::{
    Asked, Hold, Limiter, Limiters, Refusal, Take, Takes, Toll, Turn, take, take_of_client,
};

use crate::exchange::Workspace;
use crate::exchange::request_out::client_address;
use crate::exchange::run::client_cert;
use crate::head::Head;
use crate::tls::Session;
use crate::wire::request::RequestHead;
use crate::worker::Worker;
use crate::worker::connection::Connection;

const SECOND_NS: u64 = 1_000_000_000;

/// What limits have to say of one request. Empty when it met none.
#[derive(Debug, Default)]
pub struct LimitNotes {
    /// The limit that refused it, or else the first shadow that would have.
    pub named: Option<Arc<str>>,
    policy: String,
    state: String,
    retry_after_s: u64,
    /// What the request holds of limits to its end.
    holds: Vec<Hold>,
    /// Fields by which a response says to its limits what it cost, whatever they took of the request.
    costs: Vec<Arc<str>>,
}

/// Whose limits a request meets now.
#[derive(Clone, Copy)]
pub struct Met<'a> {
    worker: &'a Worker,
    peer: Option<IpAddr>,
    /// Says who is trusted to name the client.
    listener: &'a Listener,
    asks_client: bool,
}

impl<'a> Met<'a> {
    /// By the connection it came on. `asks_client` says whether the client's address matters.
    pub fn new<D>(connection: &'a Connection<D>, listener: &'a Listener, asks_client: bool) -> Self {
        let peer = connection.peer.map(|peer| peer.ip());
        Self { worker: &connection.worker, peer, listener, asks_client }
    }

    /// The same for other limits.
    pub fn asking(self, asks_client: bool) -> Self {
        Self { asks_client, ..self }
    }

    /// The client, where it matters.
    #[inline]
    pub fn client(&self, head: &Head) -> Option<IpAddr> {
        match self.peer {
            Some(_) if !self.asks_client => None,
            // Where nobody is trusted the peer is the client; core compares addresses in their own family.
            Some(peer) if self.listener.trust.is_empty() => Some(peer),
            peer => client_address(self.listener, head, peer),
        }
    }

    /// Where and when it is judged.
    #[inline]
    pub fn turn(&self) -> Turn {
        Turn { worker: self.worker.id, now_ns: self.worker.clock.turn_ns() }
    }
}

/// Takes the request from each of the limits.
///
/// # Errors
/// [`Cause::RateLimited`], and the workspace says which limit and until when. What `takes` held has been given back.
pub fn enforce<'t>(
    limits: &'t Limiters,
    met: Met<'_>,
    ws: &mut Workspace,
    takes: &mut Takes<'t>,
) -> Result<(), Cause> {
    let (client, turn) = (met.client(&ws.request.head), met.turn());
    let taken = if limits.is_plain() {
        take_of_client(limits.list(), client, turn, takes)
    } else {
        take_by_all(limits.list(), client, turn, (ws, takes))
    };
    note(limits, taken, turn, ws)
}

/// The same for a request of which a toll is kept: what was paid stands for what is taken.
///
/// # Errors
/// As [`enforce`]; what was paid is still there.
pub fn enforce_paid<'t>(
    limits: &'t Limiters,
    met: Met<'_>,
    ws: &mut Workspace,
    takes: &mut Takes<'t>,
    toll: &mut Toll,
) -> Result<(), Cause> {
    let turn = met.turn();
    let client = met.client(&ws.request.head);
    let asked = asked(client, &ws.request, &ws.path, ws.entrance.key_id(), ws.session.as_deref());
    let taken = toll.take(limits.list(), &asked, turn, takes);
    note(limits, taken, turn, ws)
}

/// Notes what became of a request at these limits.
#[inline]
fn note(
    limits: &Limiters,
    taken: Result<Option<&Limiter>, Refusal<'_>>,
    turn: Turn,
    ws: &mut Workspace,
) -> Result<(), Cause> {
    if limits.says_cost() {
        let names = limits.list().iter().filter_map(|limit| limit.words.cost.response.clone());
        ws.limits.costs.extend(names);
    }
    match taken {
        Ok(None) => Ok(()),
        Ok(Some(shadow)) => {
            ws.limits.named.get_or_insert_with(|| shadow.words.name.clone());
            Ok(())
        }
        Err(refusal) => {
            ws.limits.refuse(&refusal, turn.now_ns);
            Err(Cause::RateLimited)
        }
    }
}

/// Takes the request from limits that ask for more than its client. Apart, so that the others stay small.
#[inline(never)]
fn take_by_all<'t>(
    limits: &'t [Limiter],
    client: Option<IpAddr>,
    turn: Turn,
    (ws, takes): (&Workspace, &mut Takes<'t>),
) -> Result<Option<&'t Limiter>, Refusal<'t>> {
    let asked = asked(client, &ws.request, &ws.path, ws.entrance.key_id(), ws.session.as_deref());
    take(limits, &asked, turn, takes)
}

/// What limits may ask of a request.
#[inline]
pub fn asked<'a>(
    client: Option<IpAddr>,
    request: &'a RequestHead,
    path: &'a str,
    api_key: Option<&'a str>,
    session: Option<&'a Session>,
) -> Asked<'a> {
    Asked {
        client,
        host: &request.host,
        method: request.method(),
        path,
        query: request.query().unwrap_or(""),
        fields: &request.head,
        api_key,
        client_cert: client_cert(session),
    }
}

impl LimitNotes {
    /// Gives back what the request holds, and forgets. Called when the exchange ends.
    pub fn end(&mut self) {
        self.holds.clear();
        self.costs.clear();
        self.clear();
    }

    /// Holds what was taken, to the end of the exchange.
    pub fn hold(&mut self, takes: &Takes<'_>) {
        self.holds.extend(takes.iter().filter_map(Take::hold));
    }

    /// Takes what the response says that it cost, and takes the fields that say it away.
    pub fn charge(&self, head: &mut Head, now_ns: u64) {
        for hold in &self.holds {
            let Some(name) = hold.header() else { continue };
            let mut values = head.get_all(name.as_bytes());
            if let (Some(value), None) = (values.next(), values.next()) {
                hold.charge(value, now_ns);
            }
        }
        for name in &self.costs {
            head.remove(name.as_bytes());
        }
    }

    /// Whether a response may say what it cost.
    pub fn is_charged(&self) -> bool {
        !self.costs.is_empty()
    }

    /// Forgets the words.
    fn clear(&mut self) {
        self.named = None;
        self.policy.clear();
        self.state.clear();
        self.retry_after_s = 0;
    }

    /// Says what is left of each limit that wants it said of every response.
    pub fn show(&mut self, takes: &Takes<'_>, now_ns: u64) {
        for take in takes.iter().filter(|take| take.limiter.words.fields == LimitFields::Always) {
            if take.limiter.words.shadow {
                continue;
            }
            let left = take.left(now_ns);
            self.item(take.limiter, left.units, left.next_ns.map(seconds));
        }
    }

    /// Says which limit refused the request, and until when.
    pub fn refuse(&mut self, refusal: &Refusal<'_>, now_ns: u64) {
        let words = &refusal.limiter.words;
        self.clear();
        self.named = Some(words.name.clone());
        self.retry_after_s = seconds(refusal.wait_ns());
        if words.fields != LimitFields::Never {
            self.item(refusal.limiter, refusal.left(now_ns), Some(self.retry_after_s));
        }
    }

    /// Takes the words of others, of a refusal that was met before the route was known.
    pub fn say(&mut self, other: Self) {
        self.named = other.named;
        self.policy = other.policy;
        self.state = other.state;
        self.retry_after_s = other.retry_after_s;
    }

    /// Adds one item to each of the two lists (RFC 9651). Names are letters, digits, `-`, `_` and `.`: no text needs escaping.
    fn item(&mut self, limiter: &Limiter, left: u64, next_s: Option<u64>) {
        let comma = if self.policy.is_empty() { "" } else { ", " };
        let (name, burst) = (&limiter.words.name, limiter.words.rate.burst);
        // Writing to a String does not fail.
        let _ = match limiter.words.unit {
            LimitUnit::Rate => {
                write!(self.policy, "{comma}\"{name}\";q={burst};w={}", seconds(limiter.window_ns()))
            }
            LimitUnit::AtATime => {
                write!(self.policy, "{comma}\"{name}\";q={burst};qu=\"concurrent-requests\"")
            }
        };
        let _ = write!(self.state, "{comma}\"{name}\";r={left}");
        if let Some(next_s) = next_s {
            let _ = write!(self.state, ";t={next_s}");
        }
    }

    /// Gives `field` the fields for a head that the router makes itself.
    pub fn put(&self, mut field: impl FnMut(&[u8], &[u8])) {
        if !self.policy.is_empty() {
            field(b"RateLimit-Policy", self.policy.as_bytes());
            field(b"RateLimit", self.state.as_bytes());
        }
        if self.retry_after_s > 0 {
            field(b"Retry-After", itoa::Buffer::new().format(self.retry_after_s).as_bytes());
        }
    }

    /// Appends the fields to the head of a response that is passed on, behind those of the endpoint: both are lists.
    pub fn append_to(&self, head: &mut Head) {
        if !self.policy.is_empty() {
            head.append(b"RateLimit-Policy", self.policy.as_bytes());
            head.append(b"RateLimit", self.state.as_bytes());
        }
    }
}

/// Whole seconds, rounded up, at least one.
fn seconds(ns: u64) -> u64 {
    ns.div_ceil(SECOND_NS).max(1)
}
