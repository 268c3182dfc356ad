//! The etcd that control shares with other processes, in words: where it is, who shows what to whom. Names of entries and paths of
//! the process file, never a key or a password.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::names::TrustName;

/// `[etcd]` of a process file. Read once at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etcd {
    /// Members; at least one.
    pub members: Vec<EtcdMember>,
    /// What all keys begin with; no `/` at its end.
    pub prefix: Arc<str>,
    /// The entry of [`super::TrustSources::authorities`] that vouches for etcd. There when a member has TLS.
    pub ca: Option<TrustName>,
    /// The entry of [`super::TrustSources::identities`] that is shown to it.
    pub identity: Option<TrustName>,
    /// A user, and the file of the password.
    pub user: Option<(Arc<str>, PathBuf)>,
    /// Longest time that a leader leads without being heard of. 2 s to 60 s.
    pub lease: Duration,
    /// Name of this process among those that may lead; none means the machine and the process id.
    pub name: Option<Arc<str>>,
    /// Where clients of the others find the API of this one; none means where it is served.
    pub api: Option<Arc<str>>,
}

/// `[discovery.NAME]` of a process file: an etcd that holds endpoints. Read once at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// Members; at least one.
    pub members: Vec<EtcdMember>,
    /// As in [`Etcd::ca`].
    pub ca: Option<TrustName>,
    /// As in [`Etcd::identity`].
    pub identity: Option<TrustName>,
    /// As in [`Etcd::user`].
    pub user: Option<(Arc<str>, PathBuf)>,
}

/// One member of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdMember {
    /// Whether it is spoken to over TLS.
    pub secure: bool,
    /// A name or an address, without brackets.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for EtcdMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}
