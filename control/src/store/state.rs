//! What a journal's entries lead to: objects by key, the newest changes one by one, and the size of both on disk.
//!
//! Pure. Transactions are judged here, against what is stored and what is on its way to the disk before them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::entry::{self, Entry};
use super::{
    Compacted, Event, KEY_MAX, Object, Page, Revision, StoreError, TXN_MAX, Txn, VALUE_MAX, Write, frame,
};

/// Changes kept one by one.
pub(super) const EVENTS_MAX: usize = 16_384;
/// Bytes of changes kept one by one.
const EVENT_BYTES_MAX: usize = 64 << 20;
/// Room that a frame and the words around an object take, about, in bytes.
const AROUND: u64 = 64;

/// The objects and their last changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    objects: BTreeMap<Arc<str>, Object>,
    revision: Revision,
    events: VecDeque<Event>,
    event_bytes: usize,
    /// Changes after this revision are all in `events`.
    oldest: Revision,
    /// What a snapshot would take, about.
    live_bytes: u64,
    /// Objects of the snapshot that are still to come while a journal is read.
    missing: usize,
}

fn live_size(object: &Object) -> u64 {
    (object.key.len() + object.value.len()) as u64 + AROUND
}

fn event_size(event: &Event) -> usize {
    event.key.len() + event.object.as_ref().map_or(0, |object| object.value.len()) + 64
}

impl State {
    /// Takes an entry of the file in. Errors: an order that no journal has.
    pub(super) fn replay(&mut self, entry: Entry) -> Result<(), String> {
        match entry {
            Entry::Snapshot(revision, objects) if self.revision == 0 && self.objects.is_empty() => {
                self.revision = revision;
                self.oldest = revision;
                self.missing = objects;
            }
            Entry::Object(object) if self.missing > 0 && object.modified <= self.revision => {
                self.missing -= 1;
                self.insert(object);
            }
            Entry::Txn(revision, writes) if self.missing == 0 && revision == self.revision + 1 => {
                self.apply(revision, writes);
            }
            Entry::Snapshot(..) | Entry::Object(_) | Entry::Txn(..) => {
                return Err(format!("it does not follow revision {}", self.revision));
            }
        }
        Ok(())
    }

    /// Objects of the snapshot that never came.
    pub(super) fn missing(&self) -> usize {
        self.missing
    }

    /// Starts from objects that had no revisions before.
    pub(super) fn adopt(&mut self, objects: BTreeMap<Arc<str>, Arc<str>>) {
        self.revision = 1;
        self.oldest = 1;
        for (key, value) in objects {
            self.insert(Object { key, value, created: 1, modified: 1 });
        }
    }

    fn insert(&mut self, object: Object) {
        self.live_bytes += live_size(&object);
        if let Some(old) = self.objects.insert(Arc::clone(&object.key), object) {
            self.live_bytes -= live_size(&old);
        }
    }

    /// Takes a durable transaction in.
    pub(super) fn apply(&mut self, revision: Revision, writes: Vec<Write>) {
        self.revision = revision;
        for Write { key, value } in writes {
            let created = self.objects.get(&key).map_or(revision, |object| object.created);
            let object =
                value.map(|value| Object { key: Arc::clone(&key), value, created, modified: revision });
            match &object {
                Some(object) => self.insert(object.clone()),
                None => match self.objects.remove(&key) {
                    Some(old) => self.live_bytes -= live_size(&old),
                    // Nothing was there: nothing happened.
                    None => continue,
                },
            }
            let event = Event { revision, key, object };
            self.event_bytes += event_size(&event);
            self.events.push_back(event);
        }
        self.forget();
    }

    /// Drops the oldest changes beyond the bounds, whole transactions only.
    fn forget(&mut self) {
        while self.events.len() > EVENTS_MAX || self.event_bytes > EVENT_BYTES_MAX {
            let Some(first) = self.events.front().map(|event| event.revision) else { return };
            while self.events.front().is_some_and(|event| event.revision == first) {
                if let Some(gone) = self.events.pop_front() {
                    self.event_bytes -= event_size(&gone);
                }
            }
            self.oldest = first;
        }
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub(super) fn objects(&self) -> &BTreeMap<Arc<str>, Object> {
        &self.objects
    }

    pub(super) fn get(&self, key: &str) -> Option<Object> {
        self.objects.get(key).cloned()
    }

    pub(super) fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Page {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let mut found = self
            .objects
            .range::<str, _>((from, Bound::Unbounded))
            .map(|(_, object)| object)
            .take_while(|object| object.key.starts_with(prefix));
        let objects = found.by_ref().take(limit).cloned().collect();
        Page { objects, revision: self.revision, more: found.next().is_some() }
    }

    pub(super) fn events(&self, after: Revision, limit: usize) -> Result<Vec<Event>, Compacted> {
        if after < self.oldest {
            return Err(Compacted { oldest: self.oldest });
        }
        let start = self.events.partition_point(|event| event.revision <= after);
        let mut taken: Vec<Event> = Vec::new();
        for event in self.events.range(start..) {
            if taken.len() >= limit && taken.last().is_some_and(|last| last.revision != event.revision) {
                break;
            }
            taken.push(event.clone());
        }
        Ok(taken)
    }
}

/// Transactions on their way to the disk, each judged as if those before it were durable.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Revisions of the keys they touch; 0: deleted.
    modified: HashMap<Arc<str>, Revision>,
    /// Their frames.
    pub(super) block: Vec<u8>,
    /// Those that will be durable together.
    pub(super) accepted: Vec<(Revision, Vec<Write>)>,
}

impl Draft {
    /// Judges a transaction; the answer is the revision it gets.
    pub(super) fn judge(&mut self, state: &State, txn: &Txn) -> Result<Revision, StoreError> {
        for (key, wanted) in &txn.when {
            let stored = || state.objects.get(key).map_or(0, |object| object.modified);
            let modified = self.modified.get(key).copied().unwrap_or_else(stored);
            if modified != *wanted {
                return Err(StoreError::Conflict { key: Arc::clone(key), modified });
            }
        }
        let mut size = 0;
        for Write { key, value } in &txn.writes {
            let length = value.as_ref().map_or(0, |value| value.len());
            if length > VALUE_MAX {
                return Err(StoreError::TooLarge(format!("{key} is longer than {VALUE_MAX} bytes")));
            }
            if key.len() > KEY_MAX {
                return Err(StoreError::TooLarge(format!("a key is longer than {KEY_MAX} bytes")));
            }
            size += key.len() + length;
        }
        if size > TXN_MAX {
            return Err(StoreError::TooLarge(format!("a change is larger than {TXN_MAX} bytes")));
        }
        let revision = state.revision + self.accepted.len() as u64 + 1;
        let payload = entry::of_txn(revision, &txn.writes).map_err(StoreError::TooLarge)?;
        if payload.len() > frame::PAYLOAD_MAX {
            return Err(StoreError::TooLarge(format!("a change of {} bytes is too long", payload.len())));
        }
        frame::push(&mut self.block, &payload);
        for write in &txn.writes {
            let modified = if write.value.is_some() { revision } else { 0 };
            self.modified.insert(Arc::clone(&write.key), modified);
        }
        self.accepted.push((revision, txn.writes.clone()));
        Ok(revision)
    }
}
