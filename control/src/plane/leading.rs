//! Leading and following: a control process that shares its store takes in what others write there, and changes something itself
//! only while it leads.
//!
//! Before it leads it reads everything once more: what it publishes under its term is all that was written under those before.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ekiden_config::names::AppName;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use super::{Built, Plane};
use crate::clock::unix_ms;
use crate::control::overlay;
use crate::desired::confirmed::{CONFIRMED, confirmed_source};
use crate::desired::{
    self, ApiApps, FORMATIONS, GUARDS, HOLDS, MAINTENANCE, RELEASES, VERSIONS, api_apps, host_owners,
    placements,
};
use crate::election::{ELECTION, Elector, Role, has_past};
use crate::load::{Accepted, Around, Attempt, accept, attempt};
use crate::overlay::ClusterKey;
use crate::placement::part::Heard as Spoken;
use crate::status::Election;
use crate::store::{ENDPOINTS, Event, MARKS, Record, Revision, Store};

/// Changes of others that are taken in one by one; of more, everything is read.
const EVENTS_MAX: usize = 4_096;
/// How often the loop says that it lives.
const BEAT: Duration = Duration::from_secs(1);

/// What a process that shares its store hears of it.
pub(crate) struct Turns {
    role: Option<watch::Receiver<Role>>,
    newest: Option<watch::Receiver<Revision>>,
    beat: tokio::time::Interval,
}

/// What there is to do.
pub(super) enum Heard {
    /// Another role.
    Role(Role),
    /// Something was written.
    Stored,
}

impl Turns {
    /// Of this store and this elector; nothing is ever heard without an elector.
    pub(crate) fn new(elector: Option<&Arc<dyn Elector>>, store: Option<&Arc<dyn Store>>) -> Self {
        let mut role = elector.map(|elector| elector.role());
        // The one that is so at the start too.
        role.iter_mut().for_each(watch::Receiver::mark_changed);
        let mut newest = elector.and(store).map(|store| store.watch());
        // The start took long: what was written during it is new.
        newest.iter_mut().for_each(watch::Receiver::mark_changed);
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { role, newest, beat }
    }

    /// Waits for what is heard next, if it is time for that, or until the loop should say that it lives. Safe to drop and call again.
    pub(super) async fn heard(&mut self, now: bool) -> Option<Heard> {
        let Self { role, newest, beat } = self;
        let (Some(role), Some(newest)) = (role, newest) else {
            beat.tick().await;
            return None;
        };
        tokio::select! {
            // A role counts for what was written before it.
            biased;
            Ok(()) = role.changed(), if now => Some(Heard::Role(role.borrow_and_update().clone())),
            Ok(()) = newest.changed(), if now => Some(Heard::Stored),
            _ = beat.tick() => None,
        }
    }
}

#[cfg(test)]
mod tests;

/// Everything of the store, built with the files.
pub(crate) struct Followed {
    attempt: Attempt,
    apps: Arc<ApiApps>,
    /// What it was built from is in force since this revision, at least.
    seen: Revision,
    /// The role that waits for it.
    role: Option<Role>,
}

/// What a key is about, for who follows.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// An endpoint or a mark.
    Record,
    /// What is pushed for a cluster.
    Part(ClusterKey),
    /// The maintenance or the hold of an app.
    Word(AppName),
    /// What was confirmed of a source.
    Confirmed(Arc<str>),
    /// Nothing that a table is made of.
    InNoTable,
    /// It takes a build, or nobody knows what it takes.
    Built,
}

fn kind(key: &str) -> Kind {
    let word = [MAINTENANCE, HOLDS].iter().find_map(|kind| key.strip_prefix(kind));
    if key.starts_with(ENDPOINTS) || key.starts_with(MARKS) {
        return Kind::Record;
    }
    if let Some(place) = placements::place(key) {
        return Kind::Part(place);
    }
    if let Some(source) = confirmed_source(key) {
        return Kind::Confirmed(source);
    }
    if let Some(app) = word.and_then(|app| AppName::new(app).ok()) {
        return Kind::Word(app);
    }
    if [VERSIONS, RELEASES, FORMATIONS, GUARDS, ELECTION].iter().any(|kind| key.starts_with(kind)) {
        return Kind::InNoTable;
    }
    Kind::Built
}

impl Plane {
    /// Says that the loop lives.
    pub(super) fn beat(&self) {
        self.pulse.beat();
        if let Some(elector) = &self.elector {
            elector.beat();
        }
    }

    /// Takes in what was heard. What has to be built for it first is answered.
    pub(super) fn take_turn(&mut self, heard: Heard) -> Option<JoinHandle<Built>> {
        match heard {
            Heard::Role(role @ Role::Leading { .. }) => {
                if self.leads {
                    // It lost the lead and has it again: not before everything is read anew.
                    let reason = "another term begins".to_owned();
                    self.take_on(&Role::Following { leader: None, reason });
                }
                self.read_all(Some(role))
            }
            Heard::Role(role @ Role::Following { .. }) => {
                if self.leads {
                    tracing::warn!("this control follows; it changes nothing");
                }
                self.take_on(&role);
                // What was in force may be more than what is stored, after a write without an answer.
                if self.was_leading() { self.read_all(None) } else { None }
            }
            // What it wrote itself is in force already.
            Heard::Stored if self.leads => None,
            Heard::Stored => match self.newer() {
                Some(events) => {
                    self.follow_one_by_one(&events);
                    None
                }
                None => self.read_all(None),
            },
        }
    }

    fn was_leading(&mut self) -> bool {
        std::mem::take(&mut self.led)
    }

    /// The changes of others, if each can be taken in by itself.
    fn newer(&self) -> Option<Vec<Event>> {
        let store = self.store.as_ref()?;
        if store.revision() < self.seen {
            return None;
        }
        let events = store.events(self.seen, EVENTS_MAX).ok()?;
        let plain = |event: &Event| kind(&event.key) != Kind::Built;
        (events.len() < EVENTS_MAX && events.iter().all(plain)).then_some(events)
    }

    fn follow_one_by_one(&mut self, events: &[Event]) {
        let mut touched: BTreeSet<ClusterKey> = BTreeSet::new();
        let (mut parts, mut reworded, mut confirmed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for event in events {
            self.seen = self.seen.max(event.revision);
            match kind(&event.key) {
                Kind::Record => {
                    let record = match &event.object {
                        Some(object) => Record::read(object).ok().flatten(),
                        None => Record::gone(&event.key),
                    };
                    let Some(record) = record else { continue };
                    self.overlay.apply(&record);
                    touched.insert(record.key().place());
                }
                Kind::Part(place) => drop(parts.insert(place)),
                Kind::Word(app) => drop(reworded.insert(app)),
                Kind::Confirmed(source) => drop(confirmed.insert(source)),
                Kind::InNoTable | Kind::Built => {}
            }
        }
        for place in &parts {
            self.take_part(place, (&Spoken::Everything, None));
            self.look_later_at(place);
            self.show_part(place);
        }
        if !reworded.is_empty() {
            reworded.iter().for_each(|app| self.read_words_of(app));
            self.settle_words();
        }
        self.settle(&touched);
        self.follow_confirmed(confirmed.into_iter());
        self.note_store();
    }

    /// Builds everything anew, from the files as they are and from the store.
    fn read_all(&self, role: Option<Role>) -> Option<JoinHandle<Built>> {
        let store = Arc::clone(self.store.as_ref()?);
        let (file, text) = (self.options.file.clone(), self.options.text.clone());
        let before = Arc::clone(&self.accepted);
        self.status.update(|status| status.store_reads += 1);
        Some(spawn_blocking(move || {
            let seen = store.revision();
            let all = |prefix| store.list(prefix, None, usize::MAX).objects;
            let (apps, hosts) = (Arc::new(api_apps(&all(desired::APPS))), host_owners(&all(desired::HOSTS)));
            let around = Around { before: Some(&before), hosts: &hosts, api: &apps, alone: before.alone };
            let mut attempt = attempt((&file, text.as_deref()), around, None);
            if !matches!(attempt.outcome, Some(Ok(_))) {
                // The files cannot be used now: those in force, with what the store has.
                attempt.outcome = Some(accept(Arc::clone(&before.sources), around));
            }
            Built::Followed(Box::new(Followed { attempt, apps, seen, role }))
        }))
    }

    /// Takes everything in, and the role that waited for it. What is to be built still is answered.
    pub(super) fn followed(&mut self, followed: Followed) -> Option<JoinHandle<()>> {
        let Followed { attempt, apps, seen, role } = followed;
        if attempt.sources.is_some() {
            self.tried = attempt.sources;
        }
        self.seen = seen;
        match attempt.outcome {
            Some(Ok(accepted)) => self.put_all(accepted, apps),
            Some(Err(_)) | None => {
                tracing::error!("what the store has cannot be built; what serves goes on serving");
            }
        }
        let role = role?;
        let still = self.elector.as_ref().is_none_or(|elector| *elector.role().borrow() == role);
        if !still {
            // It is heard of next.
            return None;
        }
        self.take_on(&role);
        self.record_hosts()
    }

    fn put_all(&mut self, accepted: Accepted, apps: Arc<ApiApps>) {
        let Some(store) = self.store.clone() else { return };
        self.apps = apps;
        self.overlay = overlay(&*store);
        self.still_lost(&*store);
        self.read_maintenance();
        self.read_holds();
        self.read_parts();
        self.put_in_force(accepted);
        let confirmed = store.list(CONFIRMED, None, usize::MAX).objects;
        self.follow_confirmed(confirmed.iter().filter_map(|object| confirmed_source(&object.key)));
        self.save();
        self.note_store();
        let refused = self.accepted.refused.iter().map(ToString::to_string).collect();
        self.status.update(|status| status.refused_apps = refused);
    }

    fn note_store(&self) {
        let stored = self.store.as_ref().map(|store| (store.bytes(), store.revision()));
        let (bytes, revision) = stored.unwrap_or_default();
        self.status.update(|status| {
            status.store_revision = revision;
            status.journal_bytes = bytes;
        });
    }

    fn take_on(&mut self, role: &Role) {
        let leads = matches!(role, Role::Leading { .. });
        self.led |= self.leads && !leads;
        self.leads = leads;
        if let Some(fleet) = &self.fleet {
            fleet.take(role, self.store.as_deref().is_none_or(has_past));
        }
        let (term, leader, reason) = match role {
            Role::Leading { term } => (*term, None, None),
            Role::Following { leader, reason } => (0, leader.clone(), Some(reason.clone())),
        };
        self.status.update(|status| {
            let before = status.election.take().filter(|before| before.leads == leads);
            let since_unix_ms = before.map_or_else(unix_ms, |before| before.since_unix_ms);
            status.election = Some(Election { leads, term, since_unix_ms, leader, reason });
        });
    }
}
