//! Follows the keys that clusters name: one small task for each prefix, each with connections of its own.
//!
//! Reports to the control loop over its bounded queue; the loop decides what it means.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ekiden_config::address::keys_of;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::discovered::{Followed, is_keys};
use super::{Said, Word};
use crate::store::etcd::{Places, Prefix};

/// The tasks, by name. Dropping it ends them all.
pub(crate) struct Discovering {
    places: BTreeMap<String, Arc<Places>>,
    told: mpsc::Sender<Followed>,
    tasks: BTreeMap<Arc<str>, JoinHandle<()>>,
}

impl Discovering {
    /// Nothing yet; `places` are the etcds by name, and what is heard goes to `told`.
    pub(crate) fn new(places: BTreeMap<String, Arc<Places>>, told: mpsc::Sender<Followed>) -> Self {
        Self { places, told, tasks: BTreeMap::new() }
    }

    /// Follows exactly the prefixes among these names from now on; those followed already go on undisturbed.
    pub(crate) fn follow(&mut self, names: &BTreeSet<Arc<str>>) {
        self.tasks.retain(|name, task| {
            let wanted = names.contains(name);
            if !wanted {
                task.abort();
            }
            wanted
        });
        for name in names.iter().filter(|name| is_keys(name)) {
            if self.tasks.contains_key(name) {
                continue;
            }
            let Some((etcd, prefix)) = keys_of(name) else { continue };
            // One that is new in the files needs a restart, which was said.
            let Some(places) = self.places.get(etcd) else {
                tracing::error!(source = %name, "this process was started without `[discovery.{etcd}]`: it needs a restart");
                continue;
            };
            let following = follow(Arc::clone(name), Prefix::new(places, prefix), self.told.clone());
            self.tasks.insert(Arc::clone(name), tokio::spawn(following));
        }
    }
}

impl Drop for Discovering {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}

async fn follow(name: Arc<str>, mut prefix: Prefix, told: mpsc::Sender<Followed>) {
    let mut trouble = None;
    loop {
        let keys = prefix.next().await;
        let error = keys.as_ref().err().cloned();
        if error.is_some() && error == trouble {
            continue;
        }
        trouble = error;
        if told.send(Followed { name: Arc::clone(&name), keys }).await.is_err() {
            return;
        }
    }
}

impl Followed {
    /// As a word of a source.
    pub(crate) fn said(self) -> Said {
        Said { word: Word::Keys(self), reply: None }
    }
}
