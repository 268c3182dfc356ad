//! The store: what was asked of control, as versioned objects that change by compare and swap and are durable when
//! answered.
//!
//! [`Store`] is the contract; [`Journal`] the embedded one, a local append-only file; [`etcd`] the one that processes share. Knows
//! keys and texts, not what they mean: that is [`Record`]'s business and that of `desired`. Keys are paths such as `apps/shop`; a
//! revision is that of a transaction, and each is higher than those before.

mod disk;
mod entry;
pub(crate) mod etcd;
mod frame;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod journal;
mod legacy;
mod record;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

pub(crate) use journal::{Journal, peek};
pub(crate) use record::{ENDPOINTS, MARKS, Record, Standing, endpoint_key};

/// Tells transactions apart, each higher than those before; 0 is before the first.
pub(crate) type Revision = u64;

/// Longest value, in bytes.
pub(crate) const VALUE_MAX: usize = 8 << 20;
/// Longest key, in bytes.
pub(crate) const KEY_MAX: usize = 1024;
/// Largest transaction, keys and values together, in bytes.
pub(crate) const TXN_MAX: usize = 32 << 20;

/// One stored thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    /// Its path.
    pub(crate) key: Arc<str>,
    /// A JSON document.
    pub(crate) value: Arc<str>,
    /// The revision that made it.
    pub(crate) created: Revision,
    /// The revision that changed it last.
    pub(crate) modified: Revision,
}

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    /// Where.
    pub(crate) key: Arc<str>,
    /// A JSON document; none deletes, also when there is nothing.
    pub(crate) value: Option<Arc<str>>,
}

/// Writes that happen together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Txn {
    /// Keys that must have been changed last by these revisions; 0: must not be there.
    pub(crate) when: Vec<(Arc<str>, Revision)>,
    /// What is written. A key stands here once.
    pub(crate) writes: Vec<Write>,
}

/// Why a transaction changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreError {
    /// A key has another revision than the transaction said.
    Conflict {
        /// The key.
        key: Arc<str>,
        /// Its revision; 0 when it is not there.
        modified: Revision,
    },
    /// The disk or the quota is full.
    Full(String),
    /// A bound of this file.
    TooLarge(String),
    /// Another process leads, or nobody: this one may not write. The text says why.
    NotLeading(String),
    /// There was no answer in time: it may be stored or not, which the store tells once it answers again.
    Unknown(String),
    /// Anything else; the text says where.
    Failed(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Conflict { key, modified } => write!(f, "{key} was changed by revision {modified}"),
            StoreError::NotLeading(why) => write!(f, "this process does not lead: {why}"),
            StoreError::Unknown(why) => write!(f, "whether it is stored is not known: {why}"),
            StoreError::Full(text) | StoreError::TooLarge(text) | StoreError::Failed(text) => {
                f.write_str(text)
            }
        }
    }
}

/// A change of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// By which transaction.
    pub(crate) revision: Revision,
    /// Of what.
    pub(crate) key: Arc<str>,
    /// What it is since; none when deleted.
    pub(crate) object: Option<Object>,
}

/// The changes asked for are no longer there one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compacted {
    /// Changes after this revision are.
    pub(crate) oldest: Revision,
}

/// A listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    /// In order of their keys.
    pub(crate) objects: Vec<Object>,
    /// As of this revision.
    pub(crate) revision: Revision,
    /// There are more behind the last one.
    pub(crate) more: bool,
}

/// A commit under way.
pub(crate) type Committing = Pin<Box<dyn Future<Output = Result<Revision, StoreError>> + Send>>;

/// Versioned objects. Contract: any thread may call; reads are from memory, never wait on disk or network, and see every
/// commit that was answered; a commit that is answered is durable, and one that failed changed nothing, but for
/// [`StoreError::Unknown`]; dropping a commit's future does not say which of the two it will be. Implementations do not panic.
pub(crate) trait Store: fmt::Debug + Send + Sync {
    /// The newest revision.
    fn revision(&self) -> Revision;

    /// One object.
    fn get(&self, key: &str) -> Option<Object>;

    /// The objects whose keys begin with `prefix`, behind `after`, at most `limit`.
    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Page;

    /// Writes all or nothing; the answer is the revision it made.
    fn commit(&self, txn: Txn) -> Committing;

    /// The changes after a revision, oldest first, at most about `limit` (whole transactions).
    fn events(&self, after: Revision, limit: usize) -> Result<Vec<Event>, Compacted>;

    /// Tells of each new revision.
    fn watch(&self) -> watch::Receiver<Revision>;

    /// Room it takes on disk, in bytes.
    fn bytes(&self) -> u64;

    /// Most writes of one transaction.
    fn writes_max(&self) -> usize {
        usize::MAX
    }

    /// Ends writing for ever, for all who have it: what is being written is finished, everything else fails. True when it is
    /// certain that nothing more is written; false when that takes longer, and may be asked again. Blocking.
    fn close(&self) -> bool;
}
