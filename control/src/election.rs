//! Who leads: of several control processes one changes things, under a term that is higher than all before it.
//!
//! [`Elector`] is the contract. Two ways: [`Alone`], where the lock of the run directory keeps a second process out (it guards, and
//! does not fail over), and the lease of `store::etcd`, which another process takes when its holder is not heard of any more.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::desired::{words, write};
use crate::store::{Store, StoreError, Txn};

/// Where the store has what is about who leads.
pub(crate) const ELECTION: &str = "fleet/";
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

/// Whether the newest term is not the first of this store: routers that nobody has heard of yet may serve what an earlier one said.
pub(crate) fn has_past(store: &dyn Store) -> bool {
    store.get(TERM).is_none_or(|term| term.created != term.modified)
}

/// A process that leads, as others are told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// Its name.
    pub name: String,
    /// Where its API is; none when it serves none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
}

/// What this process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// It leads. The term was durable before anybody saw this.
    Leading {
        /// Of this term.
        term: u64,
    },
    /// It changes nothing.
    Following {
        /// Who leads instead; none when nobody is known to.
        leader: Option<Leader>,
        /// Why it does not lead itself, for people.
        reason: String,
    },
}

/// Says who leads. Contract: any thread may call; nothing here waits or panics. A role is told after it is so; [`Elector::leads`]
/// says no as soon as another process may lead, also when nobody was told yet.
pub(crate) trait Elector: fmt::Debug + Send + Sync {
    /// Follows the role.
    fn role(&self) -> watch::Receiver<Role>;

    /// Whether this process leads at this moment.
    fn leads(&self) -> bool;

    /// Control's loop lives: said at least every second. One that falls silent loses its role.
    fn beat(&self);
}

/// Leads as long as it lives: the lock of the run directory is held.
#[derive(Debug)]
pub(crate) struct Alone(watch::Sender<Role>);

impl Alone {
    /// Leads under a term that is durable.
    pub(crate) fn new(term: u64) -> Self {
        Self(watch::Sender::new(Role::Leading { term }))
    }
}

impl Elector for Alone {
    fn role(&self) -> watch::Receiver<Role> {
        self.0.subscribe()
    }

    fn leads(&self) -> bool {
        matches!(&*self.0.borrow(), Role::Leading { .. })
    }

    fn beat(&self) {}
}
