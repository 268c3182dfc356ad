//! Control and its routers as processes of their own: what is published goes over one HTTP/2 stream a router, as versioned
//! objects; what comes of it comes back the same way (DESIGN section 4).
//!
//! Control's side: [`publisher`] turns Models into objects, [`ledger`] keeps them by generation, [`server`] and [`session`] bring
//! them to routers, [`roster`] knows which router has what. The router's side: [`dial`] keeps the link, [`agent`] applies what
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
mod secure;
pub(crate) mod server;
mod session;
mod table;
mod wire;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub(crate) use ledger::Ledger;
use roster::FleetMeters;
pub(crate) use roster::Roster;

use crate::desired::{words, write};
use crate::store::{Store, StoreError, Txn};

/// Where the term is in the store.
const TERM: &str = "fleet/term";

#[derive(Serialize, Deserialize)]
struct TermWords {
    term: u64,
}

/// Begins a term: higher than every one that this store knows, written down before anyone hears of it. Terms follow the clock where it
/// is ahead, so that one begun on an empty store is higher than those that routers remember.
pub(crate) async fn begin_term(store: &dyn Store, unix_ms: u64) -> Result<u64, StoreError> {
    let key: Arc<str> = Arc::from(TERM);
    loop {
        let known = store.get(TERM);
        let last =
            known.as_ref().and_then(|known| words::<TermWords>(known).ok()).map_or(0, |words| words.term);
        let term = unix_ms.max(last.saturating_add(1));
        let when = vec![(Arc::clone(&key), known.map_or(0, |known| known.modified))];
        let writes = vec![write(Arc::clone(&key), &TermWords { term })];
        match store.commit(Txn { when, writes }).await {
            Ok(_) => return Ok(term),
            // Another one was faster.
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

/// What control's side shares: the control loop publishes, the sessions of routers read.
#[derive(Debug, Clone)]
pub(crate) struct Fleet(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The term of this control process; no write before it was durable.
    term: u64,
    ledger: Mutex<Ledger>,
    roster: Mutex<Roster>,
    /// The newest generation.
    newest: watch::Sender<u64>,
}

impl Fleet {
    /// A fleet without routers, at generation 0.
    pub(crate) fn new(term: u64) -> Self {
        Self(Arc::new(Shared {
            term,
            ledger: Mutex::default(),
            roster: Mutex::default(),
            newest: watch::Sender::new(0),
        }))
    }

    /// The term.
    pub(crate) fn term(&self) -> u64 {
        self.0.term
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
