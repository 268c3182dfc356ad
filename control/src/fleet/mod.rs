//! Control and its routers as processes of their own: what is published goes over one HTTP/2 stream a router, as versioned
//! objects; what comes of it comes back the same way (DESIGN section 4).
//!
//! Control's side: [`publisher`] turns Models into objects, [`ledger`] keeps them by generation, [`server`] and [`session`] bring
//! them to routers, as far as [`subscription`] lets them, [`roster`] knows which router has what. The router's side: [`dial`] keeps the link, [`agent`] applies what
//! comes, [`table`] makes a Model of it, [`kept`] is the last good table. Both: [`wire`] is what is said, [`pipe`] how it goes over
//! HTTP/2, [`secure`] who is believed.

mod agent;
pub(crate) mod dial;
mod kept;
mod ledger;
mod pipe;
pub(crate) mod publisher;
pub(crate) mod remote;
pub(crate) mod roster;
pub(crate) mod secure;
pub(crate) mod server;
mod session;
mod subscription;
mod table;
mod wire;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

pub(crate) use agent::machine;
pub(crate) use ledger::Ledger;
use roster::FleetMeters;
pub(crate) use roster::Roster;
pub(crate) use subscription::{Share, Subscriptions};
pub(crate) use wire::without_endpoints;

use crate::election::{Elector, Role};

/// What control's side shares: the control loop publishes, the sessions of routers read.
#[derive(Debug, Clone)]
pub(crate) struct Fleet(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Whether this process leads; sessions are of one term.
    turn: watch::Sender<Turn>,
    elector: Arc<dyn Elector>,
    ledger: Mutex<Ledger>,
    roster: Mutex<Roster>,
    /// The newest generation.
    newest: watch::Sender<u64>,
    /// Which apps each router gets.
    subscriptions: Subscriptions,
}

/// Whether routers are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    /// Of this term, which was durable before.
    Leads(u64),
    /// They are told to go elsewhere; why.
    Follows(String),
}

impl Fleet {
    /// A fleet without routers, at generation 0, that nobody is let into yet.
    pub(crate) fn new(elector: Arc<dyn Elector>, subscriptions: Subscriptions) -> Self {
        Self(Arc::new(Shared {
            turn: watch::Sender::new(Turn::Follows("this control has only just started".to_owned())),
            elector,
            ledger: Mutex::default(),
            roster: Mutex::default(),
            newest: watch::Sender::new(0),
            subscriptions,
        }))
    }

    /// Goes by a role that control has taken on: what is published from here on is of its term.
    pub(crate) fn take(&self, role: &Role) {
        let turn = match role {
            Role::Leading { term } => Turn::Leads(*term),
            Role::Following { leader, reason } => Turn::Follows(match leader {
                Some(leader) => format!("this control does not lead: {} does", leader.name),
                None => format!("this control does not lead: {reason}"),
            }),
        };
        self.0.turn.send_replace(turn);
    }

    /// The term; none where another one leads.
    pub(crate) fn term(&self) -> Option<u64> {
        match &*self.0.turn.borrow() {
            Turn::Leads(term) => Some(*term),
            Turn::Follows(_) => None,
        }
    }

    /// Follows the turn.
    pub(super) fn turn(&self) -> watch::Receiver<Turn> {
        self.0.turn.subscribe()
    }

    /// Whether what is said under a term may still be said, at this moment.
    pub(super) fn leads(&self, term: u64) -> bool {
        self.term() == Some(term) && self.0.elector.leads()
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which router has what.
    pub(crate) fn roster(&self) -> MutexGuard<'_, Roster> {
        self.0.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts for metrics.
    pub(crate) fn meters(&self) -> FleetMeters {
        let (generation, objects) = {
            let ledger = self.ledger();
            (ledger.generation(), ledger.len() as u64)
        };
        FleetMeters { objects, ..self.roster().meters(generation) }
    }

    fn newest(&self) -> watch::Receiver<u64> {
        self.0.newest.subscribe()
    }
}
