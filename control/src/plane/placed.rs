//! What sources say of placements, taken in: whole clusters of dynos, records of names, parts that were pushed. What is withheld
//! of it, for how long, and what people are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ekiden_config::names::{AppName, ClusterName, EndpointId};

use super::Plane;
use crate::clock::unix_ms;
use crate::desired::confirmed::{confirmed, confirmed_key};
use crate::desired::placements::{PLACEMENTS, parts, placements_key, wanted};
use crate::overlay::ClusterKey;
use crate::placement::discovered::is_keys;
use crate::placement::dues::Dues;
use crate::placement::part::{Heard as Spoken, Kept, Part, State, Wanted};
use crate::placement::removals::Rules;
use crate::placement::{Confirmed, Heard, Judged, Said, Withheld, Word, Written};
use crate::status::SourceStatus;

/// Sources in the status, at most.
pub(super) const SOURCES_MAX: usize = 1_000;

/// What names of sources begin with, by their kind.
const PUSHED: &str = "push:";
/// See [`PUSHED`].
const NAMES: &str = "dns:";

/// The name of what is pushed for a cluster.
pub(crate) fn push_name(place: &ClusterKey) -> String {
    format!("{PUSHED}{}/{}", place.app, place.cluster)
}

/// The cluster of such a name.
pub(crate) fn pushed_place(name: &str) -> Option<ClusterKey> {
    let (app, cluster) = name.strip_prefix(PUSHED)?.split_once('/')?;
    Some(ClusterKey { app: AppName::new(app).ok()?, cluster: ClusterName::new(cluster).ok()? })
}

fn placed_name(place: &ClusterKey) -> String {
    format!("procfile:{}/{}", place.app, place.cluster)
}

impl Plane {
    pub(super) fn rules(&self) -> Rules {
        let process = &self.started_with;
        let hold_ms = u64::try_from(process.removals.hold.as_millis()).unwrap_or(u64::MAX);
        Rules { share: u64::from(process.removals.share), hold_ms }
    }

    /// Reads what was pushed, before the first publish and whenever everything is read. What is in force is what removals are judged
    /// by: reading takes away no more than hearing does.
    pub(super) fn read_parts(&mut self) {
        let Some(store) = &self.store else { return };
        let (rules, now_ms) = (self.rules(), unix_ms());
        let stored = parts(&store.list(PLACEMENTS, None, usize::MAX).objects);
        let mut before = std::mem::take(&mut self.pushed);
        for (place, wanted) in stored {
            let mut part = match (before.remove(&place), wanted) {
                (Some(mut part), Some(wanted)) => {
                    part.follow(wanted, rules, now_ms);
                    part
                }
                (None, Some(wanted)) => Part::begin(wanted, rules, now_ms),
                // What cannot be read takes nothing away.
                (Some(part), None) => part,
                (None, None) => continue,
            };
            report(&place, &mut part, now_ms);
            self.pushed.insert(place, part);
        }
        self.dues = Dues::default();
        self.look_later_at_all();
        self.show_sources();
    }

    /// Takes a word of a source in and publishes what it changes; records of names are only taken in, and the clusters named that
    /// they touch, so that many come into one table. [`Plane::after_words`] follows.
    pub(super) fn hear(&mut self, said: Said) -> BTreeSet<ClusterKey> {
        let Said { word, reply } = said;
        let (mut kept, mut confirmed, mut touched) = (Kept::default(), Confirmed::Unknown, BTreeSet::new());
        let about: Vec<AppName> = match &word {
            Word::Dynos(place, _) | Word::Stored(place, ..) => vec![place.app.clone()],
            Word::Records(_) | Word::Keys(_) | Word::Confirm(..) | Word::Wished(..) | Word::Withheld(..) => {
                Vec::new()
            }
        };
        match word {
            Word::Dynos(place, endpoints) => {
                self.placed.insert(place.clone(), endpoints);
                self.settle(&BTreeSet::from([place]));
                self.show_dynos();
            }
            Word::Records(told) => {
                touched = self.absorb(told);
                if reply.is_some() {
                    self.show_names();
                }
            }
            Word::Keys(followed) => touched = self.absorb_keys(followed),
            // Who asks may have gone away.
            Word::Wished(place, wanted, spoken, judged) => {
                let _ = judged.send(self.judge_part(&place, wanted, &spoken));
            }
            Word::Withheld(source, told) => {
                let _ = told.send(self.withheld(&source));
            }
            Word::Stored(place, spoken, judged_ms) => {
                self.take_part(&place, (&spoken, judged_ms));
                kept = self.pushed.get(&place).map(Part::kept).unwrap_or_default();
                self.look_later_at(&place);
                self.show_part(&place);
            }
            Word::Confirm(source, written) => {
                confirmed = self.confirm(&source, written);
                if matches!(&confirmed, Confirmed::Gone(gone) if !gone.is_empty()) {
                    self.look_later_at_all();
                    self.show_sources();
                }
            }
        }
        if let Some(reply) = reply {
            // The source may have gone away; what it said counts all the same.
            let _ = reply.send(Heard { ticket: self.in_force(&about), kept, confirmed });
        }
        touched
    }

    /// Publishes what records of names have touched.
    pub(super) fn after_words(&mut self, touched: &BTreeSet<ClusterKey>) {
        self.settle(touched);
        self.look_later();
        self.show_names();
    }

    /// What would be kept of what is taken away by what is to be stored of a cluster.
    fn judge_part(&self, place: &ClusterKey, wanted: Wanted, spoken: &Spoken) -> Judged {
        let (rules, at_ms, nothing) = (self.rules(), unix_ms(), Part::default());
        let part = self.pushed.get(place).unwrap_or(&nothing);
        Judged { kept: part.judged(wanted, spoken, rules, at_ms), at_ms }
    }

    /// Takes in what the store has of a cluster, as of the moment it was judged at: the judgement that was written down beside is then
    /// the one that counts here. Who follows goes by what the leader wrote down.
    pub(super) fn take_part(&mut self, place: &ClusterKey, (spoken, judged_ms): (&Spoken, Option<u64>)) {
        let stored = self.store.as_ref().and_then(|store| store.get(&placements_key(place)));
        let Some(object) = stored else {
            // It was taken back as a whole, which is a word of its own: nothing of it is kept.
            self.pushed.remove(place);
            self.settle(&BTreeSet::from([place.clone()]));
            return;
        };
        // What cannot be read, and that is in the log, takes nothing away.
        let Some(wanted) = wanted(&object) else { return };
        let (rules, now_ms) = (self.rules(), judged_ms.unwrap_or_else(unix_ms));
        let part = self.pushed.entry(place.clone()).or_default();
        let differs = if self.leads {
            part.take(wanted, spoken, rules, now_ms)
        } else {
            part.follow(wanted, rules, now_ms)
        };
        report(place, part, now_ms);
        if differs {
            self.settle(&BTreeSet::from([place.clone()]));
        }
    }

    /// What a person may confirm of a source; none when there is no such source.
    fn withheld(&self, source: &str) -> Option<Withheld> {
        let gone = self.held_of(source)?;
        let at_ms = unix_ms();
        Some(Withheld { gone, at_ms, until_ms: at_ms.saturating_add(self.rules().hold_ms) })
    }

    /// Since when something is held of a source that is no push.
    fn held_since_ms(&self, source: &str) -> Option<u64> {
        let name = source.strip_prefix(NAMES);
        name.map_or_else(|| self.discovered.held_since_ms(source), |name| self.names.held_since_ms(name))
    }

    /// What is held of a source; none when there is no such source.
    fn held_of(&self, source: &str) -> Option<Vec<String>> {
        if let Some(name) = source.strip_prefix(NAMES) {
            self.clusters_of.get(name)?;
            let known = self.names.known().find(|(known, _)| ***known == *name);
            return Some(known.map(|(_, known)| known.held()).unwrap_or_default());
        }
        if is_keys(source) {
            let (_, status) = self.discovered.statuses().find(|(name, _)| ***name == *source)?;
            return Some(status.held);
        }
        if self.placed.keys().any(|place| placed_name(place) == source) {
            return Some(Vec::new());
        }
        let part = self.pushed.get(&pushed_place(source)?)?;
        Some(part.held().iter().map(ToString::to_string).collect())
    }

    /// What a person has confirmed of sources to the leader goes here too: this process holds the same by itself, and would have it
    /// again once it leads.
    pub(super) fn follow_confirmed(&mut self, sources: impl Iterator<Item = Arc<str>>) {
        let mut went = false;
        for source in sources {
            went |= self.take_confirmed(&source);
        }
        if went {
            self.look_later_at_all();
            self.show_sources();
        }
    }

    /// Whether what is held of a source was confirmed elsewhere, and goes.
    pub(super) fn take_confirmed(&mut self, source: &Arc<str>) -> bool {
        // Who leads was told itself, or has followed who did before.
        let Some(store) = self.store.clone().filter(|_| self.elector.is_some() && !self.leads) else {
            return false;
        };
        let Some(object) = store.get(&confirmed_key(source)) else { return false };
        let Some((held, since_ms)) = self.held_of(source).zip(self.held_since_ms(source)) else {
            return false;
        };
        let Some(words) = confirmed(&object) else { return false };
        if !self.taken.may_go((source, &held, since_ms), (object.modified, &words), unix_ms()) {
            return false;
        }
        tracing::info!(%source, count = held.len(), "what was held is confirmed: it goes");
        // Of the rest a source may tell later.
        self.taken.note(source, object.modified, held);
        self.taken.retain(|source| store.get(&confirmed_key(source)).is_some());
        self.let_go(source);
        true
    }

    /// A person says that what a source took away is meant to be. What was withheld meanwhile nobody has looked at, and the others that
    /// hold the same hear of what is written down alone.
    fn confirm(&mut self, source: &Arc<str>, written: Option<Written>) -> Confirmed {
        let Some(held) = self.held_of(source) else { return Confirmed::Unknown };
        if let Some(written) = written {
            if !written.is_about(&held) {
                return Confirmed::More;
            }
            // All of it: once it follows again, it lets nothing of that go that came back. Nothing else is forgotten here: what was just
            // written may not be in what is read yet.
            self.taken.note(source, written.revision, written.gone);
        }
        if !held.is_empty() {
            self.let_go(source);
        }
        Confirmed::Gone(held)
    }

    /// What is held of a source goes.
    fn let_go(&mut self, source: &str) {
        let (now_ms, followed) =
            (unix_ms(), source.strip_prefix(NAMES).or(is_keys(source).then_some(source)));
        let touched = match (followed, pushed_place(source)) {
            (Some(name), _) => {
                self.names.confirm(name, now_ms);
                self.discovered.confirm(name, now_ms);
                self.clusters_of.get(name).cloned().unwrap_or_default()
            }
            (None, Some(place)) => {
                let Some(part) = self.pushed.get_mut(&place) else { return };
                part.confirm(now_ms);
                BTreeSet::from([place])
            }
            (None, None) => return,
        };
        self.settle(&touched);
        self.save();
    }

    /// Time has come for what is held or silent.
    pub(super) fn look_at_sources(&mut self) {
        let (rules, now_ms) = (self.rules(), unix_ms());
        let mut touched = BTreeSet::new();
        for (place, part) in &mut self.pushed {
            if part.settle(rules, now_ms) {
                touched.insert(place.clone());
            }
            report(place, part, now_ms);
        }
        for name in self.names.release(rules, now_ms) {
            tracing::warn!(source = %format!("dns:{name}"), "the time of what was held is over: it goes");
            touched.extend(self.clusters_of.get(&name).into_iter().flatten().cloned());
        }
        touched.extend(self.release_keys(rules, now_ms));
        if !touched.is_empty() {
            self.save();
        }
        self.settle(&touched);
        self.look_later_at_all();
        self.show_sources();
    }

    /// Notes when to look again at a part of which something was heard.
    pub(super) fn look_later_at(&mut self, place: &ClusterKey) {
        let now_ms = unix_ms();
        self.dues.set(place, self.pushed.get(place).and_then(|part| part.due_ms(now_ms)));
        self.look_later();
    }

    /// The same of every part.
    fn look_later_at_all(&mut self) {
        let now_ms = unix_ms();
        for (place, part) in &self.pushed {
            self.dues.set(place, part.due_ms(now_ms));
        }
        self.look_later();
    }

    /// Notes when to look again, as it is known of parts and names.
    fn look_later(&mut self) {
        self.due_ms =
            self.dues.first().into_iter().chain(self.names.due_ms()).chain(self.discovered.due_ms()).min();
    }

    /// What apps that are gone had pushed is gone too.
    pub(super) fn forget_parts(&mut self, gone: &[AppName]) {
        let dues = &mut self.dues;
        self.pushed.retain(|place, _| {
            let stays = !gone.contains(&place.app);
            if !stays {
                dues.set(place, None);
            }
            stays
        });
        self.look_later();
        self.show_sources();
    }

    /// Tells how sources are.
    pub(super) fn show_sources(&self) {
        // All of them: what is written next of a cluster depends on how it is.
        let parts = self.pushed.iter();
        let parts: BTreeMap<_, _> = parts.map(|(place, part)| (push_name(place), shown(part))).collect();
        self.status.update(|status| status.sources = parts);
        self.show_names();
        self.show_dynos();
    }

    /// The same of one that was pushed.
    pub(super) fn show_part(&self, place: &ClusterKey) {
        let (name, part) = (push_name(place), self.pushed.get(place).map(shown));
        self.status.update(|status| {
            let sources = &mut status.sources;
            let Some(part) = part else { return drop(sources.remove(&name)) };
            sources.insert(name, part);
        });
    }

    /// The same of names.
    pub(super) fn show_names(&self) {
        self.show_keys();
        let names = self.names.known().filter(|(name, _)| self.clusters_of.contains_key(*name));
        let names: Vec<_> =
            names.take(SOURCES_MAX).map(|(name, known)| (format!("{NAMES}{name}"), known.status())).collect();
        let before = self.status.read();
        let known = before.sources.range(NAMES.to_owned()..).take_while(|(name, _)| name.starts_with(NAMES));
        if known.eq(names.iter().map(|(name, status)| (name, status))) {
            return;
        }
        drop(before);
        self.status.update(|status| {
            status.sources.retain(|name, _| !name.starts_with(NAMES));
            status.sources.extend(names);
        });
    }

    /// The same of the Procfile's dynos.
    fn show_dynos(&self) {
        self.status.update(|status| {
            for (place, endpoints) in &self.placed {
                let shown = SourceStatus {
                    state: State::Live.word(),
                    endpoints: endpoints.len(),
                    ..SourceStatus::default()
                };
                status.sources.insert(placed_name(place), shown);
            }
        });
    }

    /// What sources have for a cluster, beside the records of its names.
    pub(super) fn placed_in(
        &self,
        place: &ClusterKey,
    ) -> impl Iterator<Item = Arc<ekiden_config::model::Endpoint>> {
        let dynos = self.placed.get(place).into_iter().flatten().cloned();
        let pushed = self.pushed.get(place).into_iter().flat_map(Part::in_force).cloned();
        dynos.chain(pushed).collect::<Vec<_>>().into_iter()
    }
}

/// A part as people see it.
fn shown(part: &Part) -> SourceStatus {
    let texts = |ids: &mut dyn Iterator<Item = &EndpointId>| ids.map(ToString::to_string).collect();
    SourceStatus {
        state: part.state(unix_ms()).word(),
        endpoints: part.in_force_count(),
        held: texts(&mut part.held().iter()),
        held_until_unix_ms: part.held_until_ms(),
        expired: texts(&mut part.expired().iter()),
        error: None,
        heard_unix_ms: Some(part.heard_ms()),
    }
}

/// Says what has become of a part, once.
fn report(place: &ClusterKey, part: &mut Part, now_ms: u64) {
    let Some((before, now)) = part.turned(now_ms) else { return };
    let source = push_name(place);
    match (before, now) {
        (_, State::Held) => {
            let count = part.held().len();
            tracing::error!(%source, count, "the source takes away too many endpoints at once: they are kept; `ekiden confirm` lets them go");
        }
        (_, State::Silent) => {
            tracing::error!(%source, "the source is not heard any more: its part stays as it is");
        }
        (State::Held, State::Live) => tracing::warn!(%source, "nothing of it is held any more"),
        (State::Live | State::Silent, State::Live) => tracing::info!(%source, "the source is heard again"),
    }
}
