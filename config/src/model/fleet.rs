//! The link between control and its routers, in words: where it is, who shows what to whom. Names of entries of the process
//! file, never a key.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Address, San};
use crate::names::{AppName, TrustName};

/// `[fleet]` of a process file. Read once at start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fleet {
    /// Where control listens for routers; none means the default.
    pub listen: Option<Address>,
    /// The entry of [`super::TrustSources::identities`] that this side shows. Set together with `ca`.
    pub identity: Option<TrustName>,
    /// The entry of [`super::TrustSources::authorities`] that vouches for the other side.
    pub ca: Option<TrustName>,
    /// The name that the certificate of control must have; none means the host that is connected to.
    pub server_name: Option<Arc<str>>,
    /// Names of certificates that routers may show; empty means any that `ca` vouches for.
    pub routers: Vec<San>,
    /// Name of a router on a plain link; none means that of the machine.
    pub name: Option<Arc<str>>,
    /// A plain link may leave the machine.
    pub insecure: bool,
    /// Which apps routers get; none means that all get all.
    pub subscriptions: Vec<Subscription>,
}

/// Apps for some routers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Names of certificates; one that ends in `*` stands for all that begin so.
    pub routers: Vec<Arc<str>>,
    /// The apps.
    pub apps: BTreeSet<AppName>,
    /// All apps.
    pub everything: bool,
}
