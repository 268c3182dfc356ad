//! Which app owns which host (DESIGN section 3, Ownership). The record outlives a process: control stores it.
//!
//! Holds the record and answers questions about it; the rules of who may take what are in `claims`.

pub(crate) mod claims;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::names::{AppName, NameError};

/// The record. Keys are `example.com`, `*.example.com`, and `*@LISTENER` for routes without a host on a listener.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct HostOwners {
    owners: BTreeMap<Arc<str>, AppName>,
}

impl FromIterator<(Arc<str>, AppName)> for HostOwners {
    /// The last owner of a host counts.
    fn from_iter<T: IntoIterator<Item = (Arc<str>, AppName)>>(all: T) -> Self {
        Self { owners: all.into_iter().collect() }
    }
}

impl TryFrom<BTreeMap<String, String>> for HostOwners {
    type Error = NameError;

    fn try_from(map: BTreeMap<String, String>) -> Result<Self, NameError> {
        // One text for all hosts of an app.
        let mut known: BTreeSet<AppName> = BTreeSet::new();
        let mut name = |text: &str| -> Result<AppName, NameError> {
            if let Some(known) = known.get(text) {
                return Ok(known.clone());
            }
            let name = AppName::new(text)?;
            known.insert(name.clone());
            Ok(name)
        };
        map.into_iter().map(|(host, app)| Ok((Arc::from(host), name(&app)?))).collect()
    }
}

impl From<HostOwners> for BTreeMap<String, String> {
    fn from(hosts: HostOwners) -> Self {
        hosts.owners.into_iter().map(|(host, app)| (host.to_string(), app.as_str().to_owned())).collect()
    }
}

impl HostOwners {
    /// The app that a host counts as: its own record, else the longest wildcard above it. `None` when nobody has it.
    pub fn owner(&self, host: &str) -> Option<&AppName> {
        if let Some(owner) = self.owners.get(host) {
            return Some(owner);
        }
        if host.starts_with("*@") {
            return None;
        }
        let mut rest = host.strip_prefix("*.").unwrap_or(host);
        while let Some((_, suffix)) = rest.split_once('.') {
            if let Some(owner) = self.owners.get(format!("*.{suffix}").as_str()) {
                return Some(owner);
            }
            rest = suffix;
        }
        None
    }

    /// All records, by host.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &AppName)> {
        self.owners.iter().map(|(host, app)| (&**host, app))
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Keeps the records for which the question says yes.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&str, &AppName) -> bool) {
        self.owners.retain(|host, app| keep(host, app));
    }

    /// Records an owner where nobody is recorded.
    pub(crate) fn claim(&mut self, host: &str, app: &AppName) {
        if !self.owners.contains_key(host) {
            self.owners.insert(Arc::from(host), app.clone());
        }
    }
}
